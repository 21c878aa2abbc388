//! Data on the wire: section 1.5 and chapter 2.

use super::{
    client::{Connect, connect, packet, text},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
/// [MQTT-3.3.2-13] [MQTT-3.3.2-14] 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4]
/// [MQTT-3.1.3-10] [MQTT-3.1.3-11]
#[tokio::test]
async fn texts_in_connect_are_well_formed_and_without_nul() {
    let listener = Listener::open().await;
    let broken: [&[u8]; 5] =
        [&[0, 1, 0xff], &[0, 3, 0xed, 0xa0, 0x80], &[0, 2, 0xc0, 0x80], &[0, 1, 0], &[0, 3, b'a', 0, b'b']];
    for version in BOTH {
        let none: &[u8] = if version == 5 { &[0] } else { &[] };
        for bad in broken {
            let user_name = connect(version, 0x82, 60, &[], &[&text("c"), bad]);
            let client_id = connect(version, 0x02, 60, &[], &[bad]);
            let will_topic = connect(version, 0x06, 60, &[], &[&text("c"), none, bad, &text("w")]);
            for bytes in [user_name, client_id, will_topic] {
                let code = listener.refusal(version, &bytes).await;
                let is_refused = code.is_none_or(|code| code >= 0x80 || version == 4 && code == 2);
                assert!(is_refused, "{bytes:02x?}: {code:02x?}");
            }
        }
    }
    for bad in broken {
        let pair = [&[0x26][..], bad, &text("v")].concat();
        let value = [&[0x26][..], &text("k"), bad].concat();
        for properties in [&pair, &value] {
            assert!(listener.refusal(5, &Connect::new(5, "c").property(properties).bytes()).await.is_some());
            let of_will = connect(
                5,
                0x06,
                60,
                &[],
                &[&text("c"), &[properties.len() as u8], properties, &text("t"), &text("w")],
            );
            assert!(listener.refusal(5, &of_will).await.is_some());
        }
    }
    // The response topic of a will is a topic.
    let of_will = connect(5, 0x06, 60, &[], &[&text("c"), &[4, 8, 0, 1, b'#'], &text("t"), &text("w")]);
    assert!(listener.refusal(5, &of_will).await.is_some());
}

/// 5: [MQTT-1.5.4-3]
/// 3.1.1: [MQTT-1.5.3-3]
#[tokio::test]
async fn a_byte_order_mark_is_a_character_like_any_other() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.subscribe("\u{feff}t", 1).await;
        client.publish("t", 1, "without").await;
        client.publish("\u{feff}t", 1, "with").await;
        let got = client.take().await;
        assert_eq!((got.topic.as_str(), got.payload.as_str()), ("\u{feff}t", "with"));
    }
}

/// 5: [MQTT-1.5.5-1]
#[tokio::test]
async fn lengths_go_out_with_as_few_bytes_as_hold_them() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.subscribe("t", 0).await;
    for bytes in [100, 123, 124, 125, 16_000, 16_379, 16_380, 16_381] {
        // Topic, properties and payload; the client's own reading takes any length that has an end.
        client.publish("t", 1, &"x".repeat(bytes)).await;
        assert_eq!(client.take().await.payload.len(), bytes);
    }
    let mut publisher = listener.client(5, "p").await;
    for (bytes, header) in [(123, &[0x30, 0x7f][..]), (124, &[0x30, 0x80, 0x01])] {
        publisher.publish("t", 1, &"x".repeat(bytes)).await;
        client.packet().await;
        assert_eq!(client.last_header, header);
    }
}

/// 5: [MQTT-2.2.2-1] [MQTT-3.11.2-1] [MQTT-3.11.2-2]
#[tokio::test]
async fn a_packet_without_properties_says_so() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.subscribe("t", 0).await;
    client.publish("t", 0, "x").await;
    assert_eq!(client.packet().await.body, [&text("t")[..], &[0], b"x"].concat(), "a property length of 0");
    client.send(&packet(0xa2, &[&[0, 9, 0], &text("t")])).await;
    assert_eq!(client.packet().await.body, [0, 9, 0, 0]);
}

//! PINGREQ, DISCONNECT and AUTH: sections 3.12 to 3.15, and errors: section 4.13 (4.8 of MQTT
//! 3.1.1).

use super::{
    client::{Connect, QOS1, packet, publish},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-3.1.2-20] [MQTT-3.12.4-1]
/// 3.1.1: [MQTT-3.1.2-23] [MQTT-3.12.4-1]
#[tokio::test]
async fn a_ping_is_answered() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.send(&[0xc0, 0, 0xc0, 0]).await;
        for _ in 0..2 {
            let pong = client.packet().await;
            assert_eq!((pong.first, pong.body), (0xd0, vec![]));
        }
    }
}

/// 5: [MQTT-2.1.3-1] [MQTT-3.14.1-1] [MQTT-3.14.2-1] [MQTT-3.15.1-1] [MQTT-4.12.0-7]
/// [MQTT-4.13.1-1] [MQTT-4.13.2-1] 3.1.1: [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.14.1-1]
/// [MQTT-4.8.0-1]
#[tokio::test]
async fn packets_that_a_client_may_not_send_end_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        let table: [(&[u8], u8); 13] = [
            (&[0x00, 0], 0x82),                         // no such type
            (&[0x20, 2, 0, 0], 0x82),                   // CONNACK
            (&[0x90, 3, 0, 1, 0], 0x82),                // SUBACK
            (&[0xb0, 2, 0, 1], 0x82),                   // UNSUBACK
            (&[0xd0, 0], 0x82),                         // PINGRESP
            (&[0xf0, 0], 0x82),                         // AUTH, and no method was agreed on
            (&[0xf1, 0], 0x81),                         // AUTH with reserved flags
            (&[0xc1, 0], 0x81),                         // PINGREQ with reserved flags
            (&[0xe1, 0], 0x81),                         // DISCONNECT with reserved flags
            (&[0xe8, 0], 0x81),                         // DISCONNECT with reserved flags
            (&[0xc0, 1, 0], 0x82),                      // PINGREQ with a body
            (&[0x30, 0x80, 0x80, 0x80, 0x80, 1], 0x81), // a length without an end
            (&[0x62, 1, 0], 0x81),                      // PUBREL that is cut short
        ];
        for (bytes, code) in table {
            let mut client = listener.client(version, "c").await;
            client.send(bytes).await;
            client.ends_with(code).await;
        }
    }
}

/// 5: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
/// 3.1.1: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[tokio::test]
async fn after_disconnect_the_gateway_closes_and_looks_at_nothing_more() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        let late = publish(version, QOS1, "s/a", 1, &[], "too late");
        client.send(&[&[0xe0, 0][..], &late].concat()).await;
        assert_eq!(client.next().await, None);
        listener.client(version, "good").await.publish("s/a", 1, "good").await;
    }
    assert_eq!(listener.upstream(2).await, ["good", "good"]);
}

/// 5: [MQTT-3.14.2-2] [MQTT-3.14.2-4] [MQTT-3.14.4-1] [MQTT-3.14.4-2]
/// 3.1.1: [MQTT-3.14.4-1] [MQTT-3.14.4-2]
#[tokio::test]
async fn a_disconnect_from_the_gateway_has_a_reason_and_a_text_and_no_session_expiry() {
    let listener = Listener::open().await;
    let mut client = listener.connect(&Connect::new(5, "c").expiry(60)).await;
    client.send(&[0x20, 0]).await;
    let disconnect = client.packet().await;
    let text_bytes = usize::from(u16::from_be_bytes([disconnect.body[3], disconnect.body[4]]));
    assert_eq!((disconnect.body[0], disconnect.body[2]), (0x82, 0x1f));
    assert_eq!(disconnect.body.len(), 5 + text_bytes, "the reason string is the only property");
    assert_eq!(client.next().await, None, "nothing after it but the close");
}

/// 5: [MQTT-3.1.2-24] [MQTT-3.14.2-3]
#[tokio::test]
async fn a_disconnect_is_without_words_where_the_client_takes_no_more() {
    let listener = Listener::open().await;
    let mut client = listener.connect(&Connect::new(5, "c").property(&[0x27, 0, 0, 0, 30])).await;
    client.send(&[0x20, 0]).await;
    assert_eq!(client.packet().await.body, [0x82]);
    assert_eq!(client.next().await, None);
}

/// 5: [MQTT-4.1.0-2]
#[tokio::test]
async fn a_disconnect_may_change_the_session_expiry_but_not_from_none() {
    let listener = Listener::open().await;
    let with = |seconds: u8| packet(0xe0, &[&[0, 5, 0x11, 0, 0, 0, seconds]]);
    // It ends at once.
    let mut client = listener.resume(5, "c").await;
    client.subscribe("t/a", 1).await;
    client.send(&with(0)).await;
    assert_eq!(client.next().await, None);
    assert!(!listener.resume(5, "c").await.session_present);
    // It stays for longer than CONNECT said.
    let mut client = listener.connect(&Connect::new(5, "d").expiry(1)).await;
    client.subscribe("t/a", 1).await;
    client.send(&with(60)).await;
    assert_eq!(client.next().await, None);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(listener.resume(5, "d").await.session_present);
    // There was none.
    let mut client = listener.client(5, "e").await;
    client.send(&with(60)).await;
    client.ends_with(0x82).await;
}

/// 5: [MQTT-1.5.4-2] [MQTT-3.14.2-1]
/// 3.1.1: [MQTT-1.5.3-2]
#[tokio::test]
async fn a_disconnect_that_is_none_ends_the_connection_as_well() {
    let listener = Listener::open().await;
    let mut client = listener.client(4, "c").await;
    client.send(&[0xe0, 1, 0]).await;
    client.ends_with(0x81).await;
    for (body, code) in [
        (&[0x01][..], 0x81),               // no reason of DISCONNECT
        (&[0, 2, 0x24, 1], 0x82),          // maximum QoS
        (&[0, 4, 0x1f, 0, 1, 0xff], 0x81), // a reason that is no text
        (&[0, 4, 0x1f, 0, 1, 0], 0x81),    // a reason with NUL
        (&[0, 1], 0x81),                   // properties that are cut short
    ] {
        let mut client = listener.client(5, "c").await;
        client.send(&packet(0xe0, &[body])).await;
        client.ends_with(code).await;
    }
}

//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK: sections 3.8 to 3.11.

use super::{
    client::{PUBACK, PUBREC, ack, acked, packet, subscribe, text, unsubscribe},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-2.2.1-6] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7]
/// [MQTT-3.9.3-1] [MQTT-3.9.3-2] 3.1.1: [MQTT-2.3.1-7] [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4]
/// [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
#[tokio::test]
async fn a_suback_has_the_id_and_a_code_for_each_filter_in_their_order() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        let filters = [("a", 2), ("a/#/b", 0), ("b", 0), ("c+", 1), ("d", 1)];
        client.send(&subscribe(version, 0x1234, &[], &filters)).await;
        let wanted: &[u8] = if version == 5 {
            &[0x12, 0x34, 0, 2, 0x8f, 0, 0x8f, 1]
        } else {
            &[0x12, 0x34, 2, 0x80, 0, 0x80, 1]
        };
        let suback = client.packet().await;
        assert_eq!((suback.first, suback.body.as_slice()), (0x90, wanted));
        client.publish("b", 1, "each is a subscription of its own").await;
        client.publish("d", 1, "as well").await;
        assert_eq!(client.payloads(2).await.len(), 2);
    }
}

/// 5: [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-2.1.3-1] [MQTT-2.2.1-3] [MQTT-3.8.1-1] [MQTT-3.8.3-1]
/// [MQTT-3.8.3-2] [MQTT-3.8.3-5] [MQTT-3.10.1-1] [MQTT-3.10.3-1] [MQTT-3.10.3-2] [MQTT-4.7.3-2]
/// 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-2.3.1-1] [MQTT-2.3.1-2]
/// [MQTT-3.8.1-1] [MQTT-3.8.3-1] [MQTT-3.8.3-3] [MQTT-3.8.3-4] [MQTT-3.10.1-1] [MQTT-3.10.3-1]
/// [MQTT-3.10.3-2] [MQTT-4.7.3-2]
#[tokio::test]
async fn what_no_subscribe_or_unsubscribe_may_be_ends_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        let none: &[u8] = if version == 5 { &[0] } else { &[] };
        let with = |first: u8, id: u8, rest: &[u8]| packet(first, &[&[0, id], none, rest]);
        let (filter, subscribed) = (text("a"), [&text("a")[..], &[0]].concat());
        let nul = [&text("a\0")[..], &[0]].concat();
        let table: [Vec<u8>; 14] = [
            with(0x80, 1, &subscribed),                      // reserved flags
            with(0x83, 1, &subscribed),                      // reserved flags
            with(0xa0, 1, &filter),                          // reserved flags
            with(0xaf, 1, &filter),                          // reserved flags
            with(0x82, 0, &subscribed),                      // packet id 0
            with(0xa2, 0, &filter),                          // packet id 0
            with(0x82, 1, &[]),                              // no filter
            with(0xa2, 1, &[]),                              // no filter
            with(0x82, 1, &[0, 1, 0xff, 0]),                 // no text
            with(0xa2, 1, &[0, 1, 0xff]),                    // no text
            with(0x82, 1, &nul),                             // NUL
            with(0xa2, 1, &text("a\0")),                     // NUL
            with(0x82, 1, &text("a")),                       // no options
            with(0x82, 1, &[&text("a")[..], &[3]].concat()), // QoS 3
        ];
        for bytes in table {
            let mut client = listener.client(version, "c").await;
            client.send(&bytes).await;
            client.closes().await;
        }
        for options in [0x40, 0x80, 0x30] {
            let mut client = listener.client(version, "c").await;
            client.send(&subscribe(version, 1, &[], &[("a", options)])).await;
            client.closes().await;
        }
    }
}

/// 5: [MQTT-3.8.3-4] [MQTT-3.8.3-5] [MQTT-4.13.1-1]
/// 3.1.1: [MQTT-3.8.3-4] [MQTT-4.8.0-1]
#[tokio::test]
async fn options_and_properties_that_version_5_does_not_allow_end_the_connection() {
    let listener = Listener::open().await;
    let table: [(&[u8], &str, u8); 5] = [
        (&[0x0b, 0], "a", 0),             // a subscription identifier of 0
        (&[0x0b, 1, 0x0b, 2], "a", 0),    // two of them
        (&[0x23, 0, 1], "a", 0),          // a topic alias
        (&[0x26, 0, 1, 0, 0, 0], "a", 0), // a user property with NUL
        (&[], "$share/g/a", 4),           // no local on a shared subscription
    ];
    for (properties, filter, options) in table {
        let mut client = listener.client(5, "c").await;
        client.send(&subscribe(5, 1, properties, &[(filter, options)])).await;
        client.closes().await;
    }
    // MQTT 3.1.1 has no options but the QoS.
    for options in [4, 8, 0x10] {
        let mut client = listener.client(4, "c").await;
        client.send(&subscribe(4, 1, &[], &[("a", options)])).await;
        client.closes().await;
    }
}

/// 5: [MQTT-3.8.3-3]
#[tokio::test]
async fn what_a_client_published_itself_is_not_local_if_it_says_so() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.subscribe("t/a", 1 | 4).await;
    client.subscribe("t/b", 1).await;
    let mut other = listener.client(5, "other").await;
    for qos in 0..3 {
        client.publish("t/a", qos, "its own").await;
        other.publish("t/a", 1, "another's").await;
        client.publish("t/b", 1, "its own, and wanted").await;
        assert_eq!(client.payloads(2).await, ["another's", "its own, and wanted"]);
    }
}

/// 5: [MQTT-3.8.4-3] [MQTT-3.8.4-4]
/// 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn a_subscription_to_the_same_filter_takes_the_place_of_the_one_before() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut publisher = listener.client(version, "p").await;
        publisher.retain("t/a", 1, "kept").await;
        listener.settled().await;
        let mut client = listener.client(version, "c").await;
        let id = |n: u8| if version == 5 { vec![0x0b, n] } else { vec![] };
        client.subscribe_with(&id(1), "t/a", 1).await;
        assert_eq!(client.take().await.payload, "kept");
        client.subscribe_with(&id(2), "t/a", 0).await;
        let again = client.take().await;
        assert_eq!((again.payload.as_str(), again.retain, again.properties), ("kept", true, id(2)));
        publisher.publish("t/a", 1, "once").await;
        publisher.publish("t/a", 1, "fence").await;
        let got = client.take().await;
        assert_eq!((got.payload.as_str(), got.qos, got.properties), ("once", 0, id(2)));
        assert_eq!(client.take().await.payload, "fence");
        publisher.retain("t/a", 1, "").await;
        listener.settled().await;
    }
}

/// 5: [MQTT-3.8.4-1] [MQTT-3.8.4-2]
/// 3.1.1: [MQTT-3.8.4-1] [MQTT-3.8.4-2]
#[tokio::test]
async fn many_at_once_are_all_answered() {
    // As many as Home Assistant has.
    const SUBSCRIBES: u16 = 1104;
    let listener = Listener::open().await;
    for version in BOTH {
        // Each waits for the disk, as the session is kept.
        let mut client = listener.resume(version, &format!("c{version}")).await;
        let all = (1..=SUBSCRIBES).flat_map(|n| subscribe(version, n, &[], &[(&n.to_string(), 1)]));
        client.send(&all.collect::<Vec<u8>>()).await;
        for n in 1..=SUBSCRIBES {
            let suback = client.packet().await;
            assert_eq!((suback.first, &suback.body[..2]), (0x90, &n.to_be_bytes()[..]));
            assert_eq!(suback.body.last(), Some(&1));
        }
        client.publish("1104", 1, "x").await;
        assert_eq!(client.take().await.payload, "x");
    }
}

/// 5: [MQTT-3.8.4-3] [MQTT-3.8.4-4]
/// 3.1.1: [MQTT-3.8.4-3]
#[tokio::test]
async fn nothing_is_lost_while_a_subscription_is_replaced() {
    const MESSAGES: usize = 200;
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.subscribe("t/a", 1).await;
    let mut publisher = listener.client(5, "p").await;
    let publishing = tokio::spawn(async move {
        for n in 0..MESSAGES {
            publisher.publish("t/a", 1, &n.to_string()).await;
        }
    });
    for _ in 0..20 {
        client.subscribe("t/a", 1).await;
    }
    let wanted: Vec<_> = (0..MESSAGES).map(|n| n.to_string()).collect();
    assert_eq!(client.payloads(MESSAGES).await, wanted);
    publishing.await.unwrap();
}

/// 5: [MQTT-3.8.4-8]
/// 3.1.1: [MQTT-3.8.4-6]
#[tokio::test]
async fn a_message_comes_with_the_lesser_qos() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        for granted in 0..3 {
            assert_eq!(client.subscribe("t/a", granted).await, granted);
            for published in 0..3 {
                client.publish("t/a", published, "x").await;
                assert_eq!(client.take().await.qos, published.min(granted));
            }
        }
    }
}

/// 5: [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[tokio::test]
async fn a_subscription_identifier_comes_with_what_is_retained_and_live() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.retain("t/a", 1, "kept").await;
    listener.settled().await;
    // 300, in two bytes.
    client.subscribe_with(&[0x0b, 0xac, 2], "t/+", 1).await;
    client.publish("t/b", 1, "live").await;
    for payload in ["kept", "live"] {
        let got = client.take().await;
        assert_eq!((got.payload.as_str(), got.properties), (payload, vec![0x0b, 0xac, 2]));
    }
    client.subscribe("t/+", 0x21).await;
    client.publish("t/b", 1, "without").await;
    assert!(client.take().await.properties.is_empty());
}

/// 5: [MQTT-2.2.1-6] [MQTT-3.10.4-1] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
/// [MQTT-3.11.3-1] [MQTT-3.11.3-2] 3.1.1: [MQTT-2.3.1-7] [MQTT-3.10.4-1] [MQTT-3.10.4-4]
/// [MQTT-3.10.4-5] [MQTT-3.10.4-6]
#[tokio::test]
async fn an_unsuback_has_the_id_and_a_code_for_each_filter() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.subscribe("t/a", 1).await;
        client.subscribe("t/+", 1).await;
        client.send(&unsubscribe(version, 0x1234, &["t/a", "T/a", "t/a", "t/#"])).await;
        let wanted: &[u8] = if version == 5 { &[0x12, 0x34, 0, 0, 0x11, 0x11, 0x11] } else { &[0x12, 0x34] };
        let unsuback = client.packet().await;
        assert_eq!((unsuback.first, unsuback.body.as_slice()), (0xb0, wanted));
        client.publish("t/a", 1, "by the other filter").await;
        assert_eq!(client.take().await.payload, "by the other filter");
    }
}

/// 5: [MQTT-3.10.4-2] [MQTT-3.10.4-3]
/// 3.1.1: [MQTT-3.10.4-2] [MQTT-3.10.4-3]
#[tokio::test]
async fn after_an_unsubscribe_nothing_new_comes_and_what_was_begun_is_finished() {
    let listener = Listener::open().await;
    for version in BOTH {
        for qos in [1, 2] {
            let mut client = listener.client(version, "c").await;
            let mut publisher = listener.client(version, "p").await;
            client.subscribe("t/a", qos).await;
            client.subscribe("t/b", qos).await;
            publisher.publish("t/a", 2, "begun").await;
            let got = client.got().await;
            client.unsubscribe("t/a").await;
            publisher.publish("t/a", 2, "too late").await;
            if qos == 1 {
                client.send(&ack(PUBACK, got.id)).await;
            } else {
                client.send(&ack(PUBREC, got.id)).await;
                assert_eq!(client.packet().await, acked(0x62, got.id));
                client.send(&ack(0x70, got.id)).await;
            }
            publisher.publish("t/b", 1, "fence").await;
            assert_eq!(client.take().await.payload, "fence");
        }
    }
}

/// 5: [MQTT-3.10.4-1]
/// 3.1.1: [MQTT-3.10.4-1]
#[tokio::test]
async fn an_unsubscribe_holds_after_a_reconnect_and_a_restart() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.resume(version, &format!("c{version}")).await;
        client.subscribe("t/a", 1).await;
        client.subscribe("t/b", 1).await;
        client.unsubscribe("t/a").await;
        client.leave().await;
    }
    let listener = listener.restart().await;
    let mut publisher = listener.client(5, "p").await;
    publisher.publish("t/a", 1, "too late").await;
    publisher.publish("t/b", 1, "fence").await;
    for version in BOTH {
        let mut client = listener.resume(version, &format!("c{version}")).await;
        assert_eq!(client.take().await.payload, "fence");
    }
}

//! PUBLISH: section 3.3, but for its retain flag.

use super::{
    client::{DUP, PUBACK, PUBREC, QOS1, QOS2, ack, acked, packet, publish, text},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-2.2.1-2] [MQTT-2.2.1-5] [MQTT-3.3.4-1]
/// 3.1.1: [MQTT-2.3.1-5] [MQTT-2.3.1-6] [MQTT-3.3.4-1]
#[tokio::test]
async fn each_qos_has_its_answer() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.send(&publish(version, 0, "s/a", 0, &[], "none")).await;
        client.ping().await;
        client.send(&publish(version, QOS1, "s/a", 300, &[], "puback")).await;
        assert_eq!(client.packet().await, acked(PUBACK, 300));
        client.send(&publish(version, QOS2, "s/a", 301, &[], "pubrec")).await;
        assert_eq!(client.packet().await, acked(PUBREC, 301));
    }
}

/// 5: [MQTT-3.3.1-2] [MQTT-3.3.1-4]
/// 3.1.1: [MQTT-3.3.1-2] [MQTT-3.3.1-4]
#[tokio::test]
async fn flags_that_no_publish_has_end_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        for flags in [6, 6 | DUP, DUP] {
            let mut client = listener.client(version, "c").await;
            client.send(&publish(version, flags, "s/a", 1, &[], "")).await;
            client.ends_with(0x81).await;
        }
    }
}

/// 5: [MQTT-3.3.1-3]
/// 3.1.1: [MQTT-3.3.1-3]
#[tokio::test]
async fn a_dup_flag_is_not_passed_on() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.subscribe("t/a", 2).await;
        for (id, flags) in [(1, QOS1 | DUP), (2, QOS2 | DUP)] {
            client.send(&publish(version, flags, "t/a", id, &[], "x")).await;
            client.wait(if flags & QOS1 > 0 { 4 } else { 5 }).await;
            assert!(!client.take().await.dup);
        }
    }
}

/// 5: [MQTT-1.5.4-1] [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2]
/// [MQTT-4.7.3-3] 3.1.1: [MQTT-1.5.3-1] [MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1]
/// [MQTT-4.7.3-2] [MQTT-4.7.3-3]
#[tokio::test]
async fn a_topic_that_is_none_ends_the_connection() {
    let listener = Listener::open().await;
    let long = "x".repeat(1025);
    for version in BOTH {
        for topic in ["t/+", "#", "t/a\0", &long] {
            let mut client = listener.client(version, "c").await;
            client.send(&publish(version, QOS1, topic, 1, &[], "")).await;
            client.ends_with(0x90).await;
        }
        for bytes in [&[0xff][..], &[0xed, 0xa0, 0x80], &[0xc0, 0x80]] {
            let topic = [&[0, bytes.len() as u8][..], bytes].concat();
            let mut client = listener.client(version, "c").await;
            client.send(&packet(0x30, &[&topic, &[0]])).await;
            client.ends_with(0x90).await;
        }
        let mut client = listener.client(version, "c").await;
        client.send(&publish(version, QOS1, "", 1, &[], "")).await;
        client.ends_with(0x82).await;
    }
}

/// 5: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
/// [MQTT-3.3.2-20]
#[tokio::test]
async fn properties_reach_every_subscriber_unaltered_and_in_order() {
    let listener = Listener::open().await;
    let mut publisher = listener.client(5, "p").await;
    let mut subscribers = [listener.client(5, "a").await, listener.client(5, "b").await];
    for subscriber in &mut subscribers {
        subscriber.subscribe("t/+", 2).await;
        subscriber.subscribe("s/+", 2).await;
    }
    let mut old = listener.client(4, "old").await;
    old.subscribe("+/a", 2).await;
    let user = |name: &str, value: &str| [&[0x26][..], &text(name), &text(value)].concat();
    let properties = [
        vec![1, 1],
        user("k", "1"),
        [&[3][..], &text("text/plain")].concat(),
        user("a", "ü"),
        [&[8][..], &text("answer/to")].concat(),
        user("k", ""),
        vec![9, 0, 3, 0, 0xff, 0],
    ]
    .concat();
    for (topic, qos) in [("t/a", 0), ("t/a", 1), ("t/a", 2), ("s/a", 0), ("s/a", 1), ("s/a", 2)] {
        publisher.publish_with(topic, qos, false, &properties, "x").await;
        for subscriber in &mut subscribers {
            let got = subscriber.take().await;
            assert_eq!((got.topic.as_str(), got.qos, got.properties), (topic, qos, properties.clone()));
        }
        assert_eq!(old.take().await.payload, "x");
    }
}

/// 5: [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-13] [MQTT-3.3.2-14] [MQTT-3.3.2-19] [MQTT-3.3.4-6]
/// [MQTT-4.13.1-1] 3.1.1: [MQTT-1.5.3-2] [MQTT-4.8.0-1]
#[tokio::test]
async fn properties_that_publish_may_not_have_end_the_connection() {
    let listener = Listener::open().await;
    let table: [(&[u8], u8); 9] = [
        (&[0x0b, 1], 0x82),                      // a subscription identifier
        (&[1, 2], 0x82),                         // payload format 2
        (&[1, 1, 1, 1], 0x82),                   // twice
        (&[0x11, 0, 0, 0, 1], 0x82),             // a session expiry
        (&[8, 0, 1, b'+'], 0x90),                // a response topic with a wildcard
        (&[8, 0, 1, 0xff], 0x90),                // one that is no text
        (&[3, 0, 1, 0xff], 0x81),                // a content type that is no text
        (&[0x26, 0, 1, 0, 0, 0], 0x81),          // a user property with NUL
        (&[0x26, 0, 0, 0, 2, 0xed, 0xa0], 0x81), // one that is no text
    ];
    for (properties, code) in table {
        let mut client = listener.client(5, "c").await;
        client.send(&publish(5, QOS1, "t/a", 1, properties, "")).await;
        client.ends_with(code).await;
    }
}

/// 5: [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[tokio::test]
async fn a_message_is_told_what_is_left_of_its_time_and_is_not_sent_after_it() {
    let listener = Listener::open().await;
    let mut subscriber = listener.resume(5, "c").await;
    subscriber.subscribe("t/a", 1).await;
    subscriber.leave().await;
    let mut publisher = listener.client(5, "p").await;
    publisher.publish_with("t/a", 1, false, &[2, 0, 0, 0, 1], "short").await;
    publisher.publish_with("t/a", 1, false, &[2, 0, 0, 0, 100], "long").await;
    publisher.publish_with("t/a", 1, false, &[], "for ever").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut subscriber = listener.resume(5, "c").await;
    let got = subscriber.take().await;
    assert_eq!((got.payload.as_str(), &got.properties[..4]), ("long", &[2, 0, 0, 0][..]));
    assert!((80..100).contains(&got.properties[4]), "{}", got.properties[4]);
    let got = subscriber.take().await;
    assert_eq!((got.payload.as_str(), got.properties), ("for ever", vec![]));
}

/// 5: [MQTT-3.3.2-7] [MQTT-3.3.2-12]
#[tokio::test]
async fn a_topic_alias_stands_for_its_topic_on_its_connection_alone() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("t/+", 1).await;
    let mut client = listener.resume(5, "c").await;
    let alias = |n: u8| [0x23, 0, n];
    for n in 1..=16 {
        client.publish_with(&format!("t/{n}"), 1, false, &alias(n), "named").await;
        assert_eq!(watcher.take().await.topic, format!("t/{n}"));
    }
    for n in 1..=16 {
        client.publish_with("", 1, false, &alias(n), "by alias").await;
        let got = watcher.take().await;
        assert_eq!((got.topic, got.properties), (format!("t/{n}"), vec![]));
    }
    client.publish_with("t/other", 1, false, &alias(1), "named anew").await;
    client.publish_with("", 1, false, &alias(1), "by alias").await;
    assert_eq!(watcher.take().await.topic, "t/other");
    assert_eq!(watcher.take().await.topic, "t/other");
    client.leave().await;
    let mut client = listener.resume(5, "c").await;
    client.send(&publish(5, QOS1, "", 1, &alias(1), "")).await;
    client.ends_with(0x82).await;
}

/// 5: [MQTT-3.2.2-17] [MQTT-3.3.2-8] [MQTT-3.3.2-9]
#[tokio::test]
async fn a_topic_alias_of_0_or_above_the_maximum_ends_the_connection() {
    let listener = Listener::open().await;
    for alias in [[0x23, 0, 0], [0x23, 0, 17], [0x23, 1, 1]] {
        let mut client = listener.client(5, "c").await;
        client.send(&publish(5, QOS1, "t/a", 1, &alias, "")).await;
        client.ends_with(0x94).await;
    }
}

/// 5: [MQTT-3.1.2-26] [MQTT-3.1.2-27] [MQTT-3.3.2-11]
#[tokio::test]
async fn no_topic_alias_goes_out() {
    let listener = Listener::open().await;
    // With and without leave to.
    for properties in [&[][..], &[0x22, 0, 10]] {
        let connect = super::client::Connect::new(5, "c").property(properties);
        let mut client = listener.connect(&connect).await;
        client.subscribe("t/a", 0).await;
        for _ in 0..3 {
            client.publish_with("t/a", 1, false, &[0x23, 0, 1], "x").await;
            let got = client.take().await;
            assert_eq!((got.topic.as_str(), got.properties), ("t/a", vec![]));
        }
    }
}

/// 5: [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4] [MQTT-3.3.4-5]
/// 3.1.1: [MQTT-3.3.5-1]
#[tokio::test]
async fn subscriptions_that_overlap_give_a_copy_for_each_identifier_with_the_greatest_qos_that_it_has() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        let id = |n: u8| if version == 5 { vec![0x0b, n] } else { vec![] };
        for (id, filter, qos) in [(id(1), "t/#", 0), (id(2), "t/+", 2), (id(2), "+/a", 1)] {
            client.subscribe_with(&id, filter, qos).await;
        }
        client.subscribe_with(&[], "t/a", 1).await;
        client.subscribe_with(&[], "#", 0).await;
        let copies = if version == 5 { vec![(0, id(1)), (1, vec![]), (2, id(2))] } else { vec![(2, vec![])] };
        for payload in ["x", "fence"] {
            client.publish("t/a", 2, payload).await;
            let mut got = vec![];
            for _ in 0..copies.len() {
                let copy = client.take().await;
                assert_eq!(copy.payload, payload);
                got.push((copy.qos, copy.properties));
            }
            got.sort();
            assert_eq!(got, copies);
        }
    }
}

/// 5: [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-20]
#[tokio::test]
async fn an_answer_finds_its_way_by_response_topic_and_correlation_data() {
    let listener = Listener::open().await;
    let (mut asks, mut answers) = (listener.client(5, "asks").await, listener.client(5, "answers").await);
    asks.subscribe("answers/asks", 1).await;
    answers.subscribe("questions", 1).await;
    let question = [&[8][..], &text("answers/asks"), &[9, 0, 2, 0, 7]].concat();
    asks.publish_with("questions", 1, false, &question, "how much").await;
    let got = answers.take().await;
    assert_eq!(got.properties, question);
    answers.publish_with("answers/asks", 1, false, &[9, 0, 2, 0, 7], "two").await;
    let got = asks.take().await;
    assert_eq!((got.payload.as_str(), got.properties), ("two", vec![9, 0, 2, 0, 7]));
}

/// 5: [MQTT-2.2.1-3]
/// 3.1.1: [MQTT-2.3.1-1] [MQTT-2.3.1-2]
#[tokio::test]
async fn a_packet_id_of_0_or_none_ends_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.send(&publish(version, QOS1, "t/a", 0, &[], "")).await;
        client.ends_with(0x82).await;
        let mut client = listener.client(version, "c").await;
        client.send(&packet(0x32, &[&text("t/a")])).await;
        client.ends_with(0x81).await;
        // An acknowledgement without one as well.
        let mut client = listener.client(version, "c").await;
        client.send(&packet(PUBACK, &[&[]])).await;
        client.ends_with(0x81).await;
        let mut client = listener.client(version, "c").await;
        client.send(&ack(PUBREC, 0)).await;
        client.ends_with(0x82).await;
    }
}

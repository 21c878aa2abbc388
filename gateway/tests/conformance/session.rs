//! Session state and the order of messages: sections 4.1, 4.5 and 4.6.

use std::time::Duration;

use super::{
    client::{Connect, LIMIT, PUBACK, PUBREC, QOS1, QOS2, acked, publish},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-3.1.2-23] [MQTT-3.2.2-3] [MQTT-4.1.0-1] [MQTT-4.1.0-2]
/// 3.1.1: [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-4.1.0-1] [MQTT-4.1.0-2]
#[tokio::test]
async fn a_session_ends_when_its_time_is_over_and_not_before() {
    let listener = Listener::open().await;
    let short = Connect { clean: false, ..Connect::new(5, "c").expiry(1) };
    let mut client = listener.connect(&short).await;
    client.subscribe("t/a", 1).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    listener.client(5, "p").await.publish("t/a", 1, "while it is connected").await;
    assert_eq!(client.take().await.payload, "while it is connected");
    drop(client);
    let client = listener.connect(&short).await;
    assert!(client.session_present);
    drop(client);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!listener.connect(&short).await.session_present);
    // Without an expiry it ends with the connection.
    let mut client = listener.client(5, "d").await;
    client.subscribe("t/a", 1).await;
    client.leave().await;
    assert!(!listener.resume(5, "d").await.session_present);
}

/// 5: [MQTT-3.1.2-23] [MQTT-4.1.0-1]
/// 3.1.1: [MQTT-3.1.2-5] [MQTT-4.1.0-1] [MQTT-4.1.0-2]
#[tokio::test]
async fn a_session_without_end_is_kept_and_one_of_version_3_too() {
    let listener = Listener::open().await;
    let ever = Connect { clean: false, ..Connect::new(5, "c5").expiry(u32::MAX) };
    for connect in [ever, Connect { clean: false, ..Connect::new(4, "c4") }] {
        let mut client = listener.connect(&connect).await;
        client.subscribe("t/a", 1).await;
        client.leave().await;
        assert!(listener.connect(&connect).await.session_present);
    }
}

/// 5: [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-3]
/// 3.1.1: [MQTT-3.1.2-4] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
#[tokio::test]
async fn a_session_and_what_it_is_owed_survive_a_restart() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.resume(version, &format!("c{version}")).await;
        client.subscribe("t/+", 1).await;
        client.leave().await;
    }
    let mut publisher = listener.client(5, "p").await;
    for n in 0..5 {
        publisher.publish("t/a", 1, &n.to_string()).await;
    }
    let listener = listener.restart().await;
    for version in BOTH {
        let mut client = listener.resume(version, &format!("c{version}")).await;
        assert!(client.session_present);
        assert_eq!(client.payloads(5).await, ["0", "1", "2", "3", "4"]);
        let mut publisher = listener.client(5, "p").await;
        publisher.publish("t/b", 1, "after").await;
        assert_eq!(client.take().await.payload, "after");
        client.unsubscribe("t/+").await;
    }
}

/// 5: [MQTT-3.2.2-3]
/// 3.1.1: [MQTT-3.2.2-2] [MQTT-3.2.2-3]
#[tokio::test]
async fn a_session_ended_for_want_of_room_is_not_said_to_be_present() {
    let settings = tidegate::ingest::Settings { sessions_max: 1, ..Default::default() };
    let listener = Listener::with(settings).await;
    let mut first = listener.resume(5, "first").await;
    first.subscribe("t/a", 1).await;
    first.leave().await;
    let mut second = listener.resume(5, "second").await;
    assert_eq!(second.subscribe("t/a", 1).await, 1);
    assert!(!listener.resume(5, "first").await.session_present, "its subscriptions are gone");
}

/// 5: [MQTT-4.5.0-1]
/// 3.1.1: [MQTT-4.5.0-1]
#[tokio::test]
async fn every_matching_session_gets_the_message() {
    let listener = Listener::open().await;
    let mut here = vec![];
    for version in BOTH {
        let mut client = listener.client(version, &format!("here{version}")).await;
        client.subscribe("t/#", 1).await;
        here.push(client);
        let mut away = listener.resume(version, &format!("away{version}")).await;
        away.subscribe("+/a", 1).await;
        away.leave().await;
    }
    listener.client(5, "p").await.publish("t/a", 1, "x").await;
    for client in &mut here {
        assert_eq!(client.take().await.payload, "x");
    }
    for version in BOTH {
        let mut away = listener.resume(version, &format!("away{version}")).await;
        assert_eq!(away.take().await.payload, "x");
    }
}

/// 5: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
/// 3.1.1: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[tokio::test]
async fn messages_of_one_client_come_in_the_order_they_were_sent() {
    const EACH: u16 = 300;
    let listener = Listener::open().await;
    for version in BOTH {
        for (flags, qos) in [(0, 0), (QOS1, 1), (QOS2, 2)] {
            let mut subscriber = listener.client(version, "s").await;
            subscriber.subscribe("t/a", 2).await;
            let mut publisher = listener.client(version, "p").await;
            let all = (1..=EACH).flat_map(|n| publish(version, flags, "t/a", n, &[], &n.to_string()));
            publisher.send(&all.collect::<Vec<u8>>()).await;
            for n in 1..=EACH {
                match qos {
                    0 => {}
                    1 => assert_eq!(publisher.packet().await, acked(PUBACK, n)),
                    _ => assert_eq!(publisher.packet().await, acked(PUBREC, n)),
                }
                let got = subscriber.take().await;
                assert_eq!((got.payload, got.qos), (n.to_string(), qos));
            }
        }
    }
}

/// 5: [MQTT-3.1.3-2]
/// 3.1.1: [MQTT-3.1.3-2]
#[tokio::test]
async fn a_kept_session_is_not_moved_to_another_client_id() {
    let listener = Listener::open().await;
    let mut client = listener.resume(5, "c").await;
    client.subscribe("t/a", 1).await;
    client.leave().await;
    assert!(!listener.resume(5, "C").await.session_present);
    let limit = tokio::time::timeout(LIMIT, listener.resume(5, "c")).await.unwrap();
    assert!(limit.session_present);
}

/// 5: [MQTT-4.1.0-2]
#[tokio::test]
async fn a_sessions_time_goes_on_across_a_restart() {
    let listener = Listener::open().await;
    let mut client = listener.connect(&Connect::new(5, "short").expiry(2)).await;
    client.subscribe("t/a", 1).await;
    client.leave().await;
    let mut client = listener.connect(&Connect::new(5, "long").expiry(100)).await;
    client.subscribe("t/a", 1).await;
    client.leave().await;
    let listener = listener.restart().await;
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(!listener.resume(5, "short").await.session_present);
    assert!(listener.resume(5, "long").await.session_present);
}

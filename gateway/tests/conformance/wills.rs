//! Wills: sections 3.1.2.5 to 3.1.2.7, 3.1.3.2 and 3.14.4.

use super::{
    client::{Connect, Will},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
/// 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17]
#[tokio::test]
async fn a_will_is_published_as_it_was_left_when_the_connection_breaks() {
    let listener = Listener::open().await;
    for version in BOTH {
        for qos in 0..3 {
            let mut watcher = listener.client(version, "watcher").await;
            watcher.subscribe(&format!("w/{version}{qos}/+"), 2).await;
            for retain in [false, true] {
                let topic = format!("w/{version}{qos}/{retain}");
                let will = Will { qos, retain, ..Will::new(&topic, "gone") };
                drop(listener.connect(&Connect::new(version, "c").will(will)).await);
                let got = watcher.take().await;
                assert_eq!((got.topic, got.payload.as_str(), got.qos), (topic.clone(), "gone", qos));
                let mut late = listener.client(version, "late").await;
                late.subscribe(&topic, 2).await;
                late.subscribe("fence", 1).await;
                watcher.publish("fence", 1, "fence").await;
                let first = late.take().await;
                assert_eq!(
                    (first.payload.as_str(), first.retain),
                    if retain { ("gone", true) } else { ("fence", false) }
                );
            }
        }
    }
}

/// 5: [MQTT-3.1.3-10]
#[tokio::test]
async fn a_will_comes_with_its_properties_in_their_order() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    let pairs = [
        &[0x26, 0, 1, b'k', 0, 1, b'1'][..],
        &[0x26, 0, 1, b'a', 0, 1, b'2'],
        &[0x26, 0, 1, b'k', 0, 1, b'3'],
    ];
    let format = [&[1, 1, 3, 0, 1, b't', 8, 0, 1, b'r', 9, 0, 1, 0xff][..], &pairs.concat()].concat();
    let will = Will { properties: format.clone(), ..Will::new("w", "gone") };
    drop(listener.connect(&Connect::new(5, "c").will(will)).await);
    assert_eq!(watcher.take().await.properties, format);
}

/// 5: [MQTT-3.1.2-10] [MQTT-3.14.4-3]
/// 3.1.1: [MQTT-3.1.2-10] [MQTT-3.1.2-12] [MQTT-3.14.4-3]
#[tokio::test]
async fn a_client_that_takes_its_leave_takes_its_will_along() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut watcher = listener.client(version, "watcher").await;
        watcher.subscribe("w", 1).await;
        listener.connect(&Connect::new(version, "c").will(Will::new("w", "gone"))).await.leave().await;
        // Without a will there is none to be published.
        drop(listener.client(version, "without").await);
        drop(listener.connect(&Connect::new(version, "c").will(Will::new("w", "lost"))).await);
        assert_eq!(watcher.take().await.payload, "lost");
        // It was published once, and is no more.
        drop(listener.client(version, "c").await);
        watcher.publish("w", 1, "fence").await;
        assert_eq!(watcher.take().await.payload, "fence");
    }
}

/// 5: [MQTT-3.14.4-3]
/// 3.1.1: [MQTT-3.14.4-3]
#[tokio::test]
async fn a_disconnect_with_will_publishes_it() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    let mut client = listener.connect(&Connect::new(5, "c").will(Will::new("w", "gone"))).await;
    client.send(&[0xe0, 1, 4]).await;
    assert_eq!(watcher.take().await.payload, "gone");
}

/// 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-22]
/// 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-24]
#[tokio::test]
async fn a_client_that_breaks_the_rules_or_falls_silent_has_its_will_published() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut watcher = listener.client(version, "watcher").await;
        watcher.subscribe("w", 1).await;
        let will =
            |payload| Connect { keep_alive_s: 1, ..Connect::new(version, "c").will(Will::new("w", payload)) };
        let mut client = listener.connect(&will("broke the rules")).await;
        client.send(&[0x20, 0]).await;
        assert_eq!(watcher.take().await.payload, "broke the rules");
        let silent = listener.connect(&will("silent")).await;
        assert_eq!(watcher.take().await.payload, "silent");
        drop(silent);
    }
}

/// Waits so many seconds.
fn delayed(seconds: u8, payload: &str) -> Will {
    Will { properties: vec![0x18, 0, 0, 0, seconds], ..Will::new("w", payload) }
}

/// 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8]
/// 3.1.1: [MQTT-3.1.2-8]
#[tokio::test]
async fn a_will_waits_for_its_delay_and_not_longer_than_the_session() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    let begin = tokio::time::Instant::now();
    drop(listener.connect(&Connect::new(5, "a").expiry(60).will(delayed(1, "after a second"))).await);
    assert_eq!(watcher.take().await.payload, "after a second");
    assert!(begin.elapsed().as_millis() >= 1000);
    // The session ends first.
    drop(listener.connect(&Connect::new(5, "b").expiry(1).will(delayed(200, "with the session"))).await);
    assert_eq!(watcher.take().await.payload, "with the session");
    drop(listener.connect(&Connect::new(5, "c").expiry(60).will(delayed(200, "by a clean start"))).await);
    listener.client(5, "c").await;
    assert_eq!(watcher.take().await.payload, "by a clean start");
}

/// 5: [MQTT-3.1.3-9]
#[tokio::test]
async fn a_client_that_is_back_in_time_has_no_will_published() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    drop(listener.connect(&Connect::new(5, "c").expiry(60).will(delayed(1, "too soon"))).await);
    let back = listener.resume(5, "c").await;
    assert!(back.session_present);
    // Another one, left later, is due after it.
    drop(listener.connect(&Connect::new(5, "fence").expiry(60).will(delayed(2, "fence"))).await);
    assert_eq!(watcher.take().await.payload, "fence");
}

/// 5: [MQTT-3.3.2-6]
#[tokio::test]
async fn a_will_that_waited_still_ends_when_its_message_expiry_says() {
    let listener = Listener::open().await;
    let mut watcher = listener.client(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    let expiry = [2, 0, 0, 0, 100];
    let properties = [&[0x18, 0, 0, 0, 1][..], &expiry].concat();
    let will = Will { properties, ..Will::new("w", "gone") };
    drop(listener.connect(&Connect::new(5, "c").expiry(60).will(will)).await);
    assert_eq!(watcher.take().await.properties, expiry);
}

/// 5: [MQTT-3.1.2-7] [MQTT-3.1.2-8]
/// 3.1.1: [MQTT-3.1.2-8]
#[tokio::test]
async fn a_will_that_waits_survives_a_restart() {
    let listener = Listener::open().await;
    let mut watcher = listener.resume(5, "watcher").await;
    watcher.subscribe("w", 1).await;
    let mut client = listener.connect(&Connect::new(5, "c").expiry(60).will(delayed(2, "gone"))).await;
    client.send(&[0xe0, 1, 4]).await;
    assert_eq!(client.next().await, None);
    let listener = listener.restart().await;
    let mut watcher = listener.resume(5, "watcher").await;
    assert_eq!(watcher.take().await.payload, "gone");
}

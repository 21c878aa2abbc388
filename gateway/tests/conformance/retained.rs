//! Retained messages: section 3.3.1.3, and the subscription options that go with them.

use super::{
    client::{Client, Got, QOS1, RETAIN, publish},
    listener::{BOTH, Listener},
};

/// What a new subscriber to `t/#` gets before a message that is published after it subscribed.
async fn retained(listener: &Listener, version: u8) -> Vec<(String, String, u8)> {
    listener.settled().await;
    let mut client = listener.client(version, "late").await;
    client.subscribe("t/#", 2).await;
    let found = until_fence(listener, &mut client).await;
    assert!(found.iter().all(|got| got.retain));
    found.into_iter().map(|got| (got.topic, got.payload, got.qos)).collect()
}

async fn until_fence(listener: &Listener, client: &mut Client) -> Vec<Got> {
    client.subscribe("fence", 0).await;
    listener.client(5, "fence").await.publish("fence", 1, "").await;
    let mut found = vec![];
    loop {
        match client.take().await {
            got if got.topic == "fence" => return found,
            got => found.push(got),
        }
    }
}

fn one(topic: &str, payload: &str, qos: u8) -> Vec<(String, String, u8)> {
    vec![(topic.into(), payload.into(), qos)]
}

/// 5: [MQTT-3.3.1-5] [MQTT-3.3.1-8] [MQTT-3.3.1-9]
/// 3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-12]
#[tokio::test]
async fn the_last_retained_message_of_a_topic_is_kept_with_its_qos() {
    for version in BOTH {
        let listener = Listener::open().await;
        let mut client = listener.client(version, "c").await;
        client.retain("t/a", 1, "first").await;
        assert_eq!(retained(&listener, version).await, one("t/a", "first", 1));
        client.retain("t/a", 2, "second").await;
        assert_eq!(retained(&listener, version).await, one("t/a", "second", 2));
        client.publish("t/a", 1, "not retained").await;
        client.publish("t/a", 1, "").await;
        assert_eq!(
            retained(&listener, version).await,
            one("t/a", "second", 2),
            "neither replaced nor removed"
        );
        // One with QoS 0 does not overtake one that waits for the disk.
        let both = [
            publish(version, QOS1 | RETAIN, "t/a", 1000, &[], "older"),
            publish(version, RETAIN, "t/a", 0, &[], "last"),
        ];
        client.send(&both.concat()).await;
        client.wait(4).await;
        assert_eq!(retained(&listener, version).await, one("t/a", "last", 0));
    }
}

/// 5: [MQTT-3.3.1-6] [MQTT-3.3.1-7]
/// 3.1.1: [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[tokio::test]
async fn an_empty_retained_message_is_delivered_and_takes_the_kept_one_away() {
    for version in BOTH {
        let listener = Listener::open().await;
        let mut client = listener.client(version, "c").await;
        client.subscribe("t/#", 1).await;
        for qos in 0..3 {
            client.retain("t/a", 1, "kept").await;
            assert_eq!(client.take().await.payload, "kept");
            client.retain("t/a", qos, "").await;
            let got = client.take().await;
            assert_eq!((got.payload.as_str(), got.retain), ("", false));
            assert_eq!(retained(&listener, version).await, []);
        }
    }
}

/// 3.1.1: [MQTT-3.1.2-7]
#[tokio::test]
async fn retained_messages_outlive_the_session_and_the_process() {
    let listener = Listener::open().await;
    let mut client = listener.client(4, "c").await;
    client.retain("t/a", 1, "kept").await;
    client.leave().await;
    assert_eq!(retained(&listener, 4).await, one("t/a", "kept", 1));
    let listener = listener.restart().await;
    assert_eq!(retained(&listener, 5).await, one("t/a", "kept", 1));
}

/// 5: [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
/// 3.1.1: [MQTT-3.3.1-6]
#[tokio::test]
async fn retain_handling_says_when_retained_messages_are_sent() {
    let listener = Listener::open().await;
    listener.client(5, "p").await.retain("t/a", 1, "kept").await;
    listener.settled().await;
    let mut client = listener.client(5, "c").await;
    for (filter, handling, wanted) in [
        ("t/a", 0, 1),
        ("t/a", 0, 1),
        ("t/a", 1, 0),
        ("t/+", 1, 1),
        ("t/+", 1, 0),
        ("t/#", 2, 0),
        ("t/#", 0, 1),
        ("$share/g/t/a", 0, 0),
    ] {
        client.subscribe(filter, 1 | handling << 4).await;
        let found = until_fence(&listener, &mut client).await;
        assert_eq!(found.len(), wanted, "{filter} {handling}");
        assert!(found.iter().all(|got| got.retain && got.payload == "kept"));
    }
}

/// 5: [MQTT-3.3.1-12] [MQTT-3.3.1-13]
/// 3.1.1: [MQTT-3.3.1-9]
#[tokio::test]
async fn the_retain_flag_is_forwarded_only_to_who_asks_for_it() {
    let listener = Listener::open().await;
    let mut plain = listener.client(5, "plain").await;
    let mut as_published = listener.client(5, "as published").await;
    let mut old = listener.client(4, "old").await;
    plain.subscribe("t/a", 1).await;
    as_published.subscribe("t/a", 1 | 8).await;
    old.subscribe("t/a", 1).await;
    let mut publisher = listener.client(5, "p").await;
    for retain in [true, false] {
        publisher.publish_with("t/a", 1, retain, &[], "x").await;
        assert!(!plain.take().await.retain);
        assert_eq!(as_published.take().await.retain, retain);
        assert!(!old.take().await.retain);
    }
}

/// 5: [MQTT-3.3.1-5]
/// 3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-7]
#[tokio::test]
async fn a_message_that_finds_no_room_still_replaces_the_one_before() {
    let settings = tidegate::ingest::Settings { retained_bytes_max: 600, ..Default::default() };
    let listener = Listener::with(settings).await;
    let mut client = listener.client(5, "c").await;
    client.retain("t/a", 1, "small").await;
    client.retain("t/a", 1, &"large".repeat(200)).await;
    assert_eq!(retained(&listener, 5).await, [], "what is not the last any more is not sent");
}

/// 5: [MQTT-3.3.1-9]
/// 3.1.1: [MQTT-3.3.1-6]
#[tokio::test]
async fn all_that_is_retained_is_sent_however_short_the_queue() {
    let settings = tidegate::ingest::Settings { queued_messages_max: 4, ..Default::default() };
    let listener = Listener::with(settings).await;
    let mut publisher = listener.client(5, "p").await;
    let mut wanted = vec![];
    for n in 0..30 {
        let topic = format!("t/{n:02}");
        publisher.retain(&topic, 2, "kept").await;
        wanted.push(topic);
    }
    listener.settled().await;
    for version in BOTH {
        for qos in 0..3 {
            let mut client = listener.resume(version, &format!("c{version}{qos}")).await;
            client.subscribe("t/#", qos).await;
            let mut found = vec![];
            for _ in 0..30 {
                found.push(client.take().await.topic);
                if found.len() == 15 {
                    publisher.publish("t/live", 1, "live").await;
                }
            }
            found.retain(|topic| topic != "t/live");
            while found.len() < 30 {
                found.push(client.take().await.topic);
            }
            assert_eq!(found, wanted, "{version} {qos}");
        }
    }
}

/// 5: [MQTT-3.8.3-3]
#[tokio::test]
async fn what_a_client_retained_itself_is_not_local_either() {
    let listener = Listener::open().await;
    let mut client = listener.client(5, "c").await;
    client.retain("t/own", 1, "own").await;
    listener.client(5, "other").await.retain("t/other", 1, "other's").await;
    listener.settled().await;
    client.subscribe("t/#", 1 | 4).await;
    let found = until_fence(&listener, &mut client).await;
    assert_eq!(found.into_iter().map(|got| got.topic).collect::<Vec<_>>(), ["t/other"]);
}

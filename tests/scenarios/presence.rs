//! What the gateway says of itself, seen from a real mosquitto upstream: it is born, says how it
//! is, is missed when it is killed, says goodbye when it stops, and an outage keeps its words in
//! order.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::{
    brokers::Mosquitto,
    clock::wait_for,
    codec::Version,
    gateway::{Gateway, Setup, Uplink},
    subscriber::Subscriber,
};

const LIMIT: Duration = Duration::from_secs(30);
const FORMATS: [(Version, &str); 3] =
    [(Version::V5, "json"), (Version::V311, "raw"), (Version::V311, "cloudevents")];

fn setup(broker: &Mosquitto, version: Version, format: &str, interval: &str) -> Setup {
    let uplink = Uplink { format: format.into(), ..Uplink::new(&broker.url(), version) };
    Setup { gateway: format!("health_interval = {interval:?}\n"), ..Setup::new(uplink) }
}

/// What was heard so far: the last level of the topic, and what is said.
fn heard(subscriber: &Subscriber, format: &str) -> Vec<(String, Value)> {
    let book = subscriber.book();
    book.messages
        .iter()
        .map(|message| {
            let topic = String::from_utf8_lossy(&message.topic);
            let said: Value = serde_json::from_slice(&message.payload).expect("JSON");
            let data = if format == "raw" || said.get("data").is_none() { &said } else { &said["data"] };
            let topic = topic.strip_prefix("up/tidegate/").expect("one of its own topics");
            (topic.to_owned(), data.clone())
        })
        .collect()
}

fn states(heard: &[(String, Value)]) -> Vec<&Value> {
    heard.iter().filter(|(topic, _)| topic == "status").map(|(_, said)| &said["state"]).collect()
}

fn count(heard: &[(String, Value)], topic: &str) -> usize {
    heard.iter().filter(|(other, _)| other == topic).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_born_says_how_it_is_is_missed_when_killed_and_says_that_it_stops() {
    for (version, format) in FORMATS {
        let broker = Mosquitto::start();
        let subscriber = Subscriber::start(broker.address, Version::V5, "reader", &[("up/tidegate/#", 1)]);
        wait_for("the subscription", LIMIT, || subscriber.book().granted == 1).await;
        let mut gateway = Gateway::start(setup(&broker, version, format, "1s"));
        let heard = || heard(&subscriber, format);
        wait_for("two healths", LIMIT, || count(&heard(), "health") >= 2).await;
        let first = heard();
        assert_eq!(first[0].0, "birth", "{first:?}");
        assert_eq!((count(&first, "birth"), states(&first).len()), (1, 0), "{first:?}");
        wait_for("a health with a connection", LIMIT, || {
            let heard = heard();
            let health = heard.iter().rfind(|(topic, _)| topic == "health").expect("there were two");
            health.1["ready"] == true && health.1["uplinks"]["cloud"]["connected"] == true
        })
        .await;

        gateway.kill();
        wait_for("the last will", LIMIT, || states(&heard()) == [&json!("offline")]).await;
        gateway.restart();
        wait_for("the second birth, and a health", LIMIT, || {
            let heard = heard();
            let behind = heard.iter().rposition(|(topic, _)| topic == "birth").unwrap_or(0);
            count(&heard, "birth") == 2 && count(&heard[behind..], "health") > 0
        })
        .await;

        let (status, took) = gateway.terminate();
        assert!(status.success() && took < Duration::from_secs(10), "{status}, {took:?}");
        wait_for("its last words", LIMIT, || states(&heard()).len() >= 2).await;
        let all = heard();
        assert_eq!(states(&all), [&json!("offline"), &json!("stopping")], "{format}");
        assert_eq!(all.last().expect("there is one").0, "status", "nothing comes behind it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_in_an_outage_comes_afterwards_in_order() {
    let mut broker = Mosquitto::start();
    let mut gateway = Gateway::start(setup(&broker, Version::V5, "json", "1s"));
    wait_for("the birth", LIMIT, || gateway.metric("tidegate_delivered_events_total") >= 1.0).await;
    broker.stop();
    let stored = || gateway.metric("tidegate_backlog_events");
    wait_for("three healths in the store", LIMIT, || stored() >= 3.0).await;
    gateway.kill();
    gateway.restart();
    broker.restart();
    let subscriber = Subscriber::start(broker.address, Version::V5, "reader", &[("up/tidegate/#", 1)]);
    wait_for("the second birth", LIMIT, || count(&heard(&subscriber, "json"), "birth") == 1).await;
    let heard = heard(&subscriber, "json");
    let born = heard.iter().position(|(topic, _)| topic == "birth").expect("it was counted");
    let before: Vec<u64> = heard[..born]
        .iter()
        .map(|(topic, said)| {
            assert_eq!((&topic[..], &said["uplinks"]["cloud"]["connected"]), ("health", &json!(false)));
            said["uptime_s"].as_u64().expect("a number")
        })
        .collect();
    assert!(before.is_sorted() && !before.is_empty(), "{before:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_back_says_so_long_before_its_next_health() {
    let mut broker = Mosquitto::start();
    let gateway = Gateway::start(setup(&broker, Version::V5, "json", "1h"));
    // The first may have been said before there was a connection.
    wait_for("a connection", LIMIT, || gateway.metric("tidegate_uplink_connected") == 1.0).await;
    broker.stop();
    broker.restart();
    let subscriber = Subscriber::start(broker.address, Version::V5, "reader", &[("up/tidegate/health", 1)]);
    wait_for("a health", LIMIT, || {
        let heard = heard(&subscriber, "json");
        heard.iter().any(|(_, said)| said["uplinks"]["cloud"]["connected"] == true)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_not_told_to_says_nothing_of_itself() {
    let broker = Mosquitto::start();
    let uplink = Uplink { format: "json".into(), ..Uplink::new(&broker.url(), Version::V5) };
    let subscriber = Subscriber::start(broker.address, Version::V5, "reader", &[("up/#", 1)]);
    wait_for("the subscription", LIMIT, || subscriber.book().granted == 1).await;
    let mut gateway = Gateway::start(Setup::new(uplink));
    wait_for("a connection", LIMIT, || gateway.metric("tidegate_uplink_connected") == 1.0).await;
    gateway.kill();
    gateway.restart();
    wait_for("another", LIMIT, || gateway.metric("tidegate_uplink_connected") == 1.0).await;
    gateway.terminate();
    assert_eq!(subscriber.book().messages.len(), 0);
}

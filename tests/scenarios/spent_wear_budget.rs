//! Local traffic while the wear budget is spent: what nobody keeps waits for no commit, what a
//! session keeps waits for one but a moment, and whoever wonders why events are acknowledged late
//! is told.
//!
//! The budget is the smallest that there is, and the longest linger: what waits for it waits for 10
//! s.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::Value;
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    program,
    subscriber::{Subscriber, text},
};

/// What an event waits for its acknowledgement.
const LINGER: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(60);
/// What one message may take on a machine that is busy, nine times of ten.
const QUICK: Duration = Duration::from_millis(50);

async fn connect(gateway: SocketAddr, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(gateway, &connect).await.expect("the gateway accepts")
}

fn put(client: &mut Client, topic: &str, packet_id: u16, payload: &str) {
    let payload = payload.as_bytes();
    client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] });
}

/// Publishes with QoS 1 and waits for the acknowledgement.
async fn publish(client: &mut Client, topic: &str, payload: &str) {
    put(client, topic, 1, payload);
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
}

/// A gateway whose upstream is away, and whose budget is spent.
async fn spent() -> Gateway {
    let mut setup = Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V5));
    setup.store = format!("wear_budget = \"100 MB/day\"\nlinger_max = \"{}s\"\n", LINGER.as_secs());
    setup.routes = vec![("stored/#".into(), "opaque".into())];
    setup.urgent = vec!["alarm/#".into()];
    let gateway = Gateway::start(setup);
    let mut spender = connect(gateway.mqtt, "spender").await;
    let begun = now();
    while gateway.metric("tidegate_linger_seconds") < 0.99 * LINGER.as_secs_f64() {
        assert!(begun.elapsed() < LIMIT, "the budget is not spent");
        // They never linger, and spend the budget all the same.
        for _ in 0..50 {
            publish(&mut spender, "alarm/1", &"x".repeat(2000)).await;
        }
    }
    gateway
}

/// How long 300 publishes took from one client to another that keeps nothing, acknowledgement and
/// delivery, the quickest first.
async fn pass(gateway: &Gateway) -> Vec<Duration> {
    let mut subscriber = connect(gateway.mqtt, "now").await;
    subscriber.subscribe("lamp/#").await;
    let mut publisher = connect(gateway.mqtt, "switch").await;
    let mut took = vec![];
    for n in 0..300 {
        let begun = now();
        publish(&mut publisher, "lamp/1", &n.to_string()).await;
        assert_eq!(text(&subscriber.next_publish().await.payload), n.to_string());
        took.push(begun.elapsed());
    }
    took.sort();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_keeps_touches_no_disk_and_waits_for_no_budget_and_one_can_see_why_events_wait() {
    let mut gateway = spent().await;
    let commits = gateway.metric("tidegate_commits_total");
    let alone = pass(&gateway).await;
    assert_eq!(
        gateway.metric("tidegate_commits_total"),
        commits,
        "a message that nobody keeps was committed"
    );

    let mut device = connect(gateway.mqtt, "device").await;
    let begun = now();
    for id in 1..=100 {
        put(&mut device, "stored/1", id, "x");
        device.flush().await.expect("the connection is open");
    }
    let beside = pass(&gateway).await;
    eprintln!(
        "alone: {:?} p50, {:?} p90; beside events: {:?}, {:?}",
        alone[150], alone[270], beside[150], beside[270]
    );
    assert!(alone[270] < QUICK && beside[270] < QUICK);
    assert_eq!(device.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    assert!(begun.elapsed() > LINGER / 2, "the budget was not spent");

    let (_, status) = gateway.get("/api/status").expect("the HTTP server is there");
    let budget = serde_json::from_str::<Value>(&status).expect("JSON")["store"]["wear_budget"].clone();
    assert_eq!(budget["bytes_per_day"], 100_000_000, "{budget}");
    let number = |key: &str| budget[key].as_i64().unwrap_or_else(|| panic!("{key}: {budget}"));
    assert!(
        number("linger_ms") > 9_000 && number("left_bytes") < 200_000 && number("lingers_since_ms") > 0,
        "{budget}"
    );
    let shown = program::run(["status", "--http", &gateway.http.to_string()]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.lines().any(|line| line.starts_with("wear ") && line.contains("commits WAIT")), "{shown}");
    let (_, ready) = gateway.get("/readyz").expect("the HTTP server is there");
    assert!(ready.contains("wear_budget"), "{ready}");
    assert!(gateway.metric("tidegate_wear_budget_left_bytes") < 200_000.0);
    assert_eq!(gateway.log().matches("more was written than [store] wear_budget gives").count(), 1);
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_keeps_is_on_disk_when_it_is_acknowledged_and_waits_but_a_moment() {
    const COUNT: u16 = 500;
    const ONE_BY_ONE: u16 = 30;
    let mut gateway = spent().await;
    let kept = Subscriber::start(gateway.mqtt, Version::V5, "kept", &[("lamp/#", 1)]);
    wait_for("the grant", LIMIT, || kept.book().granted == 1).await;
    kept.set_online(false);
    let mut publisher = connect(gateway.mqtt, "switch").await;
    let begun = now();
    for n in 0..ONE_BY_ONE {
        publish(&mut publisher, "lamp/1", &n.to_string()).await;
    }
    let took = begun.elapsed();
    eprintln!("{ONE_BY_ONE} that a session keeps, one by one: {took:?}");
    assert!(took < LINGER / 2, "{took:?}");
    for n in ONE_BY_ONE..COUNT {
        put(&mut publisher, "lamp/1", n + 1, &n.to_string());
    }
    publisher.flush().await.expect("the connection is open");
    for n in ONE_BY_ONE..COUNT {
        assert_eq!(publisher.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: n + 1, reason: 0 });
    }
    gateway.kill();
    gateway.restart();
    kept.set_online(true);
    let book = Arc::new(Mutex::new(vec![]));
    wait_for("all that was acknowledged", LIMIT, || {
        let texts: Vec<_> = kept.book().messages.iter().map(|message| text(&message.payload)).collect();
        let is_all = texts.len() >= usize::from(COUNT);
        *book.lock() = texts;
        is_all
    })
    .await;
    let wanted: Vec<_> = (0..COUNT).map(|n| n.to_string()).collect();
    assert_eq!(*book.lock(), wanted);
    assert_eq!(kept.book().sessions_lost, 0);
    gateway.terminate();
}

//! SIGKILL while local subscribers get what others publish: what was acknowledged to its publisher
//! reaches every subscriber that has room for it, with QoS 2 exactly once, in each publisher's
//! order, and sessions, subscriptions, retained messages and wills that wait are there after the
//! restart.
//!
//! Publishers send at a steady rate, on topics that a route stores and on topics that none does.
//! How many random kills: `TEST_SUBSCRIBER_KILLS`, 10 if it is not set.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Ledger},
    rng::Rng,
    subscriber::{Subscriber, text},
    upstream::{Inbox, Upstream},
};

/// Events per second of each publisher.
const RATE: u32 = 100;
/// Longest time between a restart and the next kill.
const LIFE_MS_MAX: u64 = 3_000;
/// Longest time that the one who comes and goes is away, beside the restart: less than a queue
/// holds.
const AWAY_MS_MAX: u64 = 300;
/// When nothing has come for so long, nothing more comes.
const SILENCE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

async fn start() -> (Upstream, Gateway) {
    let upstream = Upstream::start(Arc::new(Mutex::new(Inbox::default()))).await;
    let mut setup = Setup::new(Uplink::new(&upstream.url(), Version::V5));
    setup.routes = ["stored-1", "stored-2"].map(|name| (oracle::topic_of(name), "opaque".to_owned())).into();
    (upstream, Gateway::start(setup))
}

/// At this rate each.
fn publishers(per_second: u32) -> [Device; 4] {
    [
        ("stored-1", Version::V5, 1),
        ("stored-2", Version::V311, 2),
        ("local-1", Version::V5, 1),
        ("local-2", Version::V311, 2),
    ]
    .map(|(name, version, qos)| Device {
        qos,
        per_second: Some(per_second),
        pause: Some(Duration::from_millis(5)),
        ..Device::new(name, version)
    })
}

async fn connect(gateway: &Gateway, version: Version, client_id: &str) -> Client {
    let connect = Connect { version, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts")
}

/// Publishes with QoS 1, to be retained, and waits for the acknowledgement.
async fn retain(gateway: &Gateway, topic: &str, text: &str) {
    let mut client = connect(gateway, Version::V5, "keeper").await;
    let publish =
        Publish { topic, payload: text.as_bytes(), qos: 1, packet_id: 1, dup: false, user_properties: &[] };
    codec::put_retained(&mut client.output, Version::V5, &publish);
    client.flush().await.expect("the connection is open");
    let answer = client.next().await;
    assert_eq!(answer, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
}

/// What somebody who comes now gets for `topic`, waiting for as long as it is not `wanted`.
async fn demand_retained(gateway: &Gateway, topic: &str, wanted: &str) {
    let mut client = connect(gateway, Version::V5, "reader").await;
    client.subscribe(topic).await;
    let begun = now();
    loop {
        let message = client.next_publish().await;
        let found = text(&message.payload);
        if found == wanted {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{topic}: {found:?} instead of {wanted:?}");
    }
}

/// Whether each acknowledged event is there.
fn is_complete(subscriber: &Subscriber, ledgers: &[Ledger]) -> bool {
    ledgers.iter().all(|ledger| {
        let counts = counts(subscriber, ledger);
        ledger.acked.iter().zip(&counts).all(|(acked, times)| !acked || *times > 0)
    })
}

/// Waits until all is there, or nothing more comes.
async fn drain(subscriber: &Subscriber, ledgers: &[Ledger]) {
    let (mut before, mut moved_at) = (0, now());
    while moved_at.elapsed() < SILENCE && !is_complete(subscriber, ledgers) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let got = subscriber.book().messages.len();
        if got != before {
            (before, moved_at) = (got, now());
        }
    }
}

/// How often each event of a publisher came.
fn counts(subscriber: &Subscriber, ledger: &Ledger) -> Vec<usize> {
    let mut counts = vec![0; ledger.sends.len()];
    for (name, count) in subscriber.book().messages.iter().filter_map(|m| oracle::parse(&m.payload)) {
        if name == ledger.name {
            counts[count as usize] += 1;
        }
    }
    counts
}

/// Demands what a subscriber may expect; gives how many copies of QoS 1 there were.
fn judge(who: &str, qos: u8, subscriber: &Subscriber, ledgers: &[Ledger]) -> usize {
    let mut copies = 0;
    for ledger in ledgers {
        let counts = counts(subscriber, ledger);
        let missing: Vec<_> = (0..counts.len()).filter(|n| ledger.acked[*n] && counts[*n] == 0).collect();
        let again: Vec<_> = (0..counts.len()).filter(|n| counts[*n] > 1).collect();
        eprintln!(
            "{who} of {}: {} acknowledged, {} missing, {} more than once",
            ledger.name,
            ledger.acknowledged(),
            missing.len(),
            again.len()
        );
        assert!(ledger.strange.is_empty(), "{:?}", ledger.strange);
        assert!(missing.is_empty(), "{who} misses of {}: {missing:?}", ledger.name);
        if ledger.qos.min(qos) == 2 {
            assert!(again.is_empty(), "{who} got more than once of {}: {again:?}", ledger.name);
        }
        copies += again.len();
        let mut last = None;
        let mut seen = vec![false; counts.len()];
        for message in &subscriber.book().messages {
            if let Some((name, count)) = oracle::parse(&message.payload)
                && name == ledger.name
                && !std::mem::replace(&mut seen[count as usize], true)
            {
                assert!(last < Some(count), "{who}: {count} of {name} came first after {last:?}");
                last = Some(count);
            }
        }
    }
    let book = subscriber.book();
    assert!(book.sessions_lost == 0 && book.strange.is_empty(), "{who}: {book:?}");
    copies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_kills_lose_no_subscriber_a_message_that_was_acknowledged_and_double_none_of_qos_2() {
    let kills: u32 = std::env::var("TEST_SUBSCRIBER_KILLS").map_or(10, |text| text.parse().unwrap());
    let mut rng = Rng::from_environment("subscriber kills");
    let (_upstream, mut gateway) = start().await;
    let subscribers = [
        ("always there", Version::V5, [("plant/+/value", 2)]),
        ("comes and goes", Version::V311, [("plant/+/value", 2)]),
        ("at least once", Version::V311, [("plant/#", 1)]),
    ]
    .map(|(name, version, filters)| {
        (name, filters[0].1, Subscriber::start(gateway.mqtt, version, name, &filters))
    });
    for (_, _, subscriber) in &subscribers {
        wait_for("the grants", LIMIT, || subscriber.book().granted == 1).await;
    }
    let visitor = &subscribers[1].2;
    let fleet = Fleet::start(gateway.mqtt, publishers(RATE));
    for kill in 0..kills {
        for (_, _, subscriber) in &subscribers {
            let before = subscriber.book().messages.len();
            wait_for("messages to each subscriber", LIMIT, || subscriber.book().messages.len() > before + 50)
                .await;
        }
        retain(&gateway, &format!("kept/{}", kill % 3), &kill.to_string()).await;
        // The moment is what is random: nothing is waited for.
        tokio::time::sleep(Duration::from_millis(rng.between(0, LIFE_MS_MAX))).await;
        visitor.set_online(rng.chance(30));
        tokio::time::sleep(Duration::from_millis(rng.between(0, AWAY_MS_MAX))).await;
        gateway.kill();
        gateway.restart();
        tokio::time::sleep(Duration::from_millis(rng.between(0, AWAY_MS_MAX))).await;
        visitor.set_online(true);
        for kept in 0..3.min(kill + 1) {
            // The last kill with this remainder.
            let wanted = kill - (kill - kept) % 3;
            demand_retained(&gateway, &format!("kept/{kept}"), &wanted.to_string()).await;
        }
    }
    let ledgers = fleet.finish(LIMIT).await;
    for (_, _, subscriber) in &subscribers {
        drain(subscriber, &ledgers).await;
    }
    eprintln!("lost for want of room: {}", gateway.metric("tidegate_local_dropped_total"));
    let copies: usize =
        subscribers.iter().map(|(who, qos, subscriber)| judge(who, *qos, subscriber, &ledgers)).sum();
    assert!(copies > 0, "no kill ever hit a message that was under way");
    assert!(subscribers.iter().all(|(_, _, subscriber)| subscriber.book().connections > kills));
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscriber_that_keeps_up_misses_nothing_although_its_queue_holds_less_than_comes_between_two_saves()
 {
    // Two thousand messages in three seconds, a save every five, a queue of one thousand.
    const HIGH_RATE: u32 = 200;
    let (_upstream, mut gateway) = start().await;
    let subscriber = Subscriber::start(gateway.mqtt, Version::V5, "keeps up", &[("plant/+/value", 1)]);
    wait_for("the grant", LIMIT, || subscriber.book().granted == 1).await;
    let fleet = Fleet::start(gateway.mqtt, publishers(HIGH_RATE));
    wait_for("two thousand messages", LIMIT, || subscriber.book().messages.len() > 2_000).await;
    gateway.kill();
    gateway.restart();
    let ledgers = fleet.finish(LIMIT).await;
    drain(&subscriber, &ledgers).await;
    judge("one that keeps up", 1, &subscriber, &ledgers);
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscriber_that_is_away_while_the_gateway_dies_gets_all_that_was_acknowledged() {
    let (_upstream, mut gateway) = start().await;
    let subscriber = Subscriber::start(gateway.mqtt, Version::V311, "away", &[("plant/+/value", 1)]);
    wait_for("the grant", LIMIT, || subscriber.book().granted == 1).await;
    subscriber.set_online(false);
    // Fewer than its queue holds, and sooner than a save comes by itself.
    let fleet =
        Fleet::start(gateway.mqtt, publishers(RATE).map(|device| Device { count_max: 200, ..device }));
    wait_for("most of the acknowledgements", LIMIT, || fleet.acknowledged() > 600).await;
    gateway.kill();
    gateway.restart();
    let ledgers = fleet.all(LIMIT).await;
    subscriber.set_online(true);
    drain(&subscriber, &ledgers).await;
    judge("one that was away", 1, &subscriber, &ledgers);
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_retained_survives_a_kill_right_after_its_acknowledgement_on_a_new_store() {
    let (_upstream, mut gateway) = start().await;
    for (text, topic) in [("first", "kept"), ("second", "kept"), ("third", &oracle::topic_of("stored-1"))] {
        retain(&gateway, topic, text).await;
        gateway.kill();
        gateway.restart();
        demand_retained(&gateway, topic, text).await;
    }
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscription_that_was_ended_does_not_come_back_with_the_restart() {
    let (_upstream, mut gateway) = start().await;
    let connect = Connect { version: Version::V5, client_id: "reader", clean: false, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
    client.subscribe("news/1").await;
    client.subscribe("news/2").await;
    codec::put_unsubscribe(&mut client.output, Version::V5, 1, "news/1");
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::UnsubAck { packet_id: 1 });
    gateway.kill();
    gateway.restart();
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
    assert!(client.session_present);
    retain(&gateway, "news/1", "nobody's").await;
    retain(&gateway, "news/2", "wanted").await;
    assert_eq!(text(&client.next_publish().await.payload), "wanted");
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_will_that_waits_is_published_although_the_gateway_dies_meanwhile() {
    const DELAY_S: u32 = 3;
    let (_upstream, mut gateway) = start().await;
    let watcher = Subscriber::start(gateway.mqtt, Version::V5, "watcher", &[("wills/#", 2)]);
    wait_for("the grant", LIMIT, || watcher.book().granted == 1).await;
    let mut mortal = Client::open(gateway.mqtt, Version::V5).await.expect("the gateway is there");
    codec::put_connect_with_will(&mut mortal.output, "mortal", "wills/mortal", "gone", DELAY_S);
    mortal.flush().await.expect("the connection is open");
    assert!(matches!(mortal.next().await, Packet::ConnAck { reason: 0, .. }));
    let begun = now();
    drop(mortal);
    wait_for("its end to be seen", LIMIT, || gateway.metric("tidegate_connections") == 1.0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    gateway.kill();
    gateway.restart();
    wait_for("the will", LIMIT, || !watcher.book().messages.is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_secs(DELAY_S.into()));
    assert_eq!(text(&watcher.book().messages[0].payload), "gone");
    gateway.terminate();
}

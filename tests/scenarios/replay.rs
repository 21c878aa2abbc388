//! Events that are sent again: exactly those that were asked for, marked, beside live traffic that
//! does not suffer.

use std::{
    collections::{HashMap, HashSet},
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_tests::{
    clock::{now, wait_for},
    codec::{Received, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle,
    program::{self, Build},
    upstream::{Cloud, Reply, Upstream},
};

const LIMIT: Duration = Duration::from_secs(120);
const EVENTS: u32 = 5_000;
/// Live events, each beside a replay that goes on for all of them.
const LIVE_EVENTS: u32 = 300;
/// The longest that a live event may take from device to cloud beside a replay. What it takes
/// without one is some milliseconds; machines that run tests stand still at times.
const LIVE_DELAY_MAX: Duration = Duration::from_secs(2);

/// Remembers what came, in order, and refuses what it is told to.
#[derive(Default)]
struct Witness {
    /// Topic, device and count, the event's id, the replay's id.
    came: Vec<(String, String, String, Option<String>)>,
    refused_topic: Option<String>,
}

impl Cloud for Witness {
    fn take(&mut self, publish: &Received) -> Reply {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let payload = String::from_utf8_lossy(&publish.payload).into_owned();
        let id = publish.user_property("tidegate-id").unwrap_or_default();
        let refused = self.refused_topic.as_ref() == Some(&topic);
        self.came.push((topic, payload, id, publish.user_property("tidegate-replayed")));
        if refused { Reply::Refuse(0x90) } else { Reply::Ack }
    }
}

impl Witness {
    fn replayed(&self, replay: &str) -> Vec<(String, String)> {
        let of = self.came.iter().filter(|(.., mark)| mark.as_deref() == Some(replay));
        of.map(|(_, payload, id, _)| (payload.clone(), id.clone())).collect()
    }

    fn live(&self) -> Vec<(String, String)> {
        let live = self.came.iter().filter(|(.., mark)| mark.is_none());
        live.map(|(_, payload, id, _)| (payload.clone(), id.clone())).collect()
    }
}

async fn started() -> (Arc<Mutex<Witness>>, Upstream, Gateway) {
    let witness = Arc::new(Mutex::new(Witness::default()));
    let upstream = Upstream::start(witness.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    (witness, upstream, gateway)
}

async fn send(gateway: &Gateway, names: &[&str], events: u32) {
    let devices = names.iter().map(|name| Device { count_max: events, ..Device::new(name, Version::V5) });
    Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
}

/// `tidegate WORDS… --http …`, off the runtime's threads.
async fn tidegate(gateway: &Gateway, words: &str) -> Output {
    let mut command = Command::new(program::gateway(Build::Shipped));
    command.args(words.split(' ')).args(["--http", &gateway.http.to_string()]);
    tokio::task::spawn_blocking(move || command.output().expect("the program runs")).await.expect("it ended")
}

/// The progress that `--json` shows.
fn progress(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?} {said}"))
}

fn wall_ms() -> u64 {
    let output = Command::new("date").arg("+%s%3N").output().expect("date is there");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("date prints a number")
}

fn rfc3339(ms: u64) -> String {
    let seconds = format!("@{}.{:03}", ms / 1000, ms % 1000);
    let output = Command::new("date").args(["-u", "-d", &seconds, "+%Y-%m-%dT%H:%M:%S.%3NZ"]).output();
    String::from_utf8_lossy(&output.expect("date is there").stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_events_of_a_device_in_a_range_come_a_second_time_with_the_same_ids_beside_live_traffic() {
    let (witness, _upstream, gateway) = started().await;
    send(&gateway, &["a", "b"], EVENTS).await;
    let from = rfc3339(wall_ms());
    send(&gateway, &["c", "d"], EVENTS).await;
    let to = rfc3339(wall_ms() + 1);
    send(&gateway, &["c2"], EVENTS).await;
    wait_for("the first deliveries", LIMIT, || witness.lock().came.len() as u32 == 5 * EVENTS).await;
    let ids: HashMap<String, String> = witness.lock().live().into_iter().collect();

    // The replay takes as long as the live events: 5,000 in 4 s.
    let words = format!("replay --uplink cloud --from {from} --to {to} --device c --rate 1250 --json");
    let ((), output) = tokio::join!(live_beside(&gateway, &witness), tidegate(&gateway, &words));
    assert!(output.status.success(), "{output:?}");
    let progress = progress(&output);
    for (field, value) in [
        ("state", json!("complete")),
        ("matched_events", EVENTS.into()),
        ("acknowledged_events", EVENTS.into()),
        ("set_aside_events", 0.into()),
        ("unreadable_segments", 0.into()),
    ] {
        assert_eq!(progress[field], value, "{field} of {progress}");
    }
    assert_eq!(progress["scanned_bytes"], progress["total_bytes"], "{progress}");

    let replayed = witness.lock().replayed(progress["id"].as_str().unwrap());
    let expected: Vec<_> = (0..EVENTS)
        .map(|count| oracle::payload("c", count))
        .map(|payload| (payload.clone(), ids[&payload].clone()))
        .collect();
    assert_eq!(replayed.len(), expected.len());
    assert!(replayed == expected, "what was sent again is not what was asked for");
    assert_eq!(gateway.metric("tidegate_replayed_events_total"), f64::from(EVENTS));
    assert_eq!(gateway.metric("tidegate_delivered_events_total"), f64::from(5 * EVENTS + LIVE_EVENTS));
}

/// One live event after the other, each waited for at the cloud.
async fn live_beside(gateway: &Gateway, witness: &Mutex<Witness>) {
    let before = witness.lock().live().len();
    let device = Device { count_max: LIVE_EVENTS, window: 1, ..Device::new("live", Version::V5) };
    let fleet = Fleet::start(gateway.mqtt, [device]);
    let (mut slowest, mut seen) = (Duration::ZERO, 0);
    while seen < LIVE_EVENTS as usize {
        let began = now();
        wait_for("the next live event", LIMIT, || witness.lock().live().len() > before + seen).await;
        slowest = slowest.max(began.elapsed());
        seen = witness.lock().live().len() - before;
    }
    fleet.all(LIMIT).await;
    let live = witness.lock().live().split_off(before);
    let expected: Vec<_> = (0..LIVE_EVENTS).map(|count| oracle::payload("live", count)).collect();
    assert!(live.iter().map(|(payload, _)| payload).eq(&expected), "live events are out of order");
    eprintln!("the slowest live event took {slowest:?}");
    assert!(slowest < LIVE_DELAY_MAX, "a live event took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dry_run_says_what_would_be_sent_and_sends_nothing_and_what_cannot_be_is_refused() {
    let (witness, _upstream, gateway) = started().await;
    send(&gateway, &["a", "b"], 100).await;
    wait_for("the first deliveries", LIMIT, || witness.lock().came.len() == 200).await;
    let output = tidegate(&gateway, "replay --uplink cloud --from 1h --dry-run").await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("200 events found"), "{output:?}");
    for device in ["a ", "b "] {
        let line = said.lines().find(|line| line.trim_start().starts_with(device));
        assert!(line.is_some_and(|line| line.ends_with(" 100")), "{said}");
    }
    let progress = progress(&tidegate(&gateway, "replay --uplink cloud --from 1h --dry-run --json").await);
    assert_eq!((&progress["matched_events"], &progress["sent_events"]), (&json!(200), &json!(0)));
    for (words, code, sentence) in [
        ("replay --uplink clout --from 1h", 64, "there is no uplink \"clout\"; this gateway has: cloud"),
        ("replay --uplink cloud --from 1h --to 2h", 64, "nothing lies between them"),
        ("replay --uplink cloud --from soon", 64, "\"soon\" is no time"),
    ] {
        let output = tidegate(&gateway, words).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(sentence), "{words}: {output:?}");
    }
    assert_eq!(witness.lock().came.len(), 200, "nothing was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_gateways_end_is_the_end_of_a_replay_and_the_command_says_so() {
    let (witness, _upstream, mut gateway) = started().await;
    send(&gateway, &["a"], 1_000).await;
    wait_for("the first deliveries", LIMIT, || witness.lock().came.len() == 1_000).await;
    let mut command = Command::new(program::gateway(Build::Shipped));
    command.args(["replay", "--uplink", "cloud", "--from", "1h", "--rate", "10"]);
    command.args(["--http", &gateway.http.to_string()]);
    let running = tokio::task::spawn_blocking(move || command.output().expect("the program runs"));
    wait_for("the replay to send", LIMIT, || witness.lock().came.len() > 1_005).await;
    let (status, took) = gateway.terminate();
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let output = running.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // It may have seen how the replay was cancelled, or nothing more of the gateway.
    assert!(matches!(output.status.code(), Some(1 | 69)), "{output:?}");
    assert!(said.contains("the replay ended with it") || said.contains("was cancelled"), "{said}");
    gateway.restart();
    assert_eq!(gateway.get("/api/replay").unwrap(), (200, "[]".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dead_letters_are_sent_again_and_gone_once_the_upstream_takes_them() {
    let (witness, _upstream, gateway) = started().await;
    witness.lock().refused_topic = Some(format!("up/{}", oracle::topic_of("bad")));
    send(&gateway, &["bad", "good"], 50).await;
    wait_for("the dead letters", LIMIT, || gateway.metric("tidegate_dead_letters") == 50.0).await;
    wait_for("the others", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    let first: HashMap<String, String> = witness.lock().live().into_iter().collect();

    // Refused again: they stay.
    let output = tidegate(&gateway, "dead-letters replay --device bad --json").await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(gateway.metric("tidegate_dead_letters"), 50.0);

    witness.lock().refused_topic = None;
    let output = tidegate(&gateway, "dead-letters replay --device bad --json").await;
    assert!(output.status.success(), "{output:?}");
    let progress = progress(&output);
    assert_eq!(progress["acknowledged_events"], 50, "{progress}");
    let replayed = witness.lock().replayed(progress["id"].as_str().unwrap());
    assert_eq!(replayed.iter().collect::<HashSet<_>>().len(), 50);
    assert!(replayed.iter().all(|(payload, id)| first[payload] == *id), "with their old ids");
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0);
}

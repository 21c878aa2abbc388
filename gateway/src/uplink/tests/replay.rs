//! Replays over the store itself, against the scripted broker. Its one connection at a time is the
//! replay's: no live uplink runs here, so that all that arrives was sent again.

use std::{num::NonZeroU32, path::Path};

use super::{
    super::{
        FormatName, KindName, Letters, Progress, REMEMBERED_MAX, REPLAYS_MAX, Refused, Replays, Request,
        State, Stored, What, engine::mqtt::Version,
    },
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Came, Reply},
    formats::user_properties,
    *,
};
use crate::{
    clock::{self, Journal, Reading},
    store::{self, Batch, DeadLetter, DeadLetterFilter, Store},
};

/// The first record's time; the others follow a second apart.
const T0_MS: u64 = 1_700_000_000_000;

fn open(folder: &Path) -> Store {
    let settings = store::Settings {
        segment_bytes: 1 << 20,
        retain: Duration::from_secs(3600),
        ..store::Settings::new(folder)
    };
    Store::open(settings, &["cloud".to_owned()]).unwrap()
}

/// A store of `count` records, a second apart: by turns of the devices a and b, each tenth a JSON
/// of the client c.
async fn filled(folder: &Path, count: u64) -> Store {
    let store = open(folder);
    for n in 0..count {
        let record = match n {
            n if n % 10 == 9 => Owned { kind: Kind::Json, client: "c".to_owned(), ..Owned::new("door", b"") },
            n if n % 2 == 0 => Owned::new("tg/a/e", b""),
            _ => Owned::new("tg/b/e", b""),
        };
        let record = Owned { payload: n.to_string().into_bytes(), ..record };
        let mut batch = Batch::default();
        batch.push(&Record { received_ms: T0_MS + n * 1000, ..record.borrow() });
        while store.intake().append(&mut batch).is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    eventually(|| store.view().end().offset == count, || format!("{:?}", store.status())).await;
    store
}

fn replays(store: &Store, port: u16) -> Replays {
    let mut settings = settings(port);
    settings.broker().version = Version::V5;
    Replays::new(store.view(), vec![settings], EventContext::default())
}

/// The records `numbers`, of all devices and kinds.
fn asked(numbers: std::ops::Range<u64>) -> Stored {
    Stored {
        from_ms: T0_MS + numbers.start * 1000,
        to_ms: T0_MS + numbers.end * 1000,
        device: None,
        kind: None,
    }
}

fn request(stored: Stored) -> Request {
    Request { uplink: "cloud".to_owned(), what: What::Stored(stored), dry_run: false, events_per_s: None }
}

/// Waits until the replay has ended.
async fn ended(replays: &Replays, id: &str) -> Progress {
    let progress = || replays.progress(id).unwrap();
    eventually(|| progress().state != State::Running, || format!("{:?}", progress())).await;
    let progress = progress();
    assert!(progress.ended_ms.is_some_and(|at| at >= progress.started_ms) && !progress.connected);
    progress
}

fn numbers(arrivals: &[(usize, Arrival)]) -> Vec<u64> {
    arrivals
        .iter()
        .map(|(_, arrival)| std::str::from_utf8(&arrival.payload).unwrap().parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_what_was_asked_for_is_sent_with_its_old_id_and_the_mark_of_the_replay() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 300).await;
    let kind = |kind| Stored { kind: Some(kind), ..asked(0..300) };
    let device = |device: &str| Stored { device: Some(device.to_owned()), ..asked(100..200) };
    type Case = (Stored, fn(u64) -> bool);
    let cases: [Case; 5] = [
        (asked(100..200), |n| (100..200).contains(&n)),
        (device("a"), |n| (100..200).contains(&n) && n % 2 == 0),
        (device("c"), |n| (100..200).contains(&n) && n % 10 == 9),
        (kind(KindName::Json), |n| n % 10 == 9),
        (Stored { device: Some("a".to_owned()), ..kind(KindName::Json) }, |_| false),
    ];
    for (stored, expected) in cases {
        let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
        let replays = replays(&store, broker.port);
        let id = replays.start(request(stored.clone())).unwrap().id;
        let progress = ended(&replays, &id).await;
        let expected: Vec<u64> = (0..300).filter(|n| expected(*n)).collect();
        assert_eq!(numbers(&broker.arrivals()), expected, "{stored:?}");
        let events = expected.len() as u64;
        let counted = &progress.counted;
        assert_eq!((counted.matched_events, counted.acknowledged_events), (events, events));
        assert_eq!((counted.sent_events, counted.set_aside_events), (events, 0));
        assert!(counted.total_bytes > 0 && counted.scanned_bytes == counted.total_bytes, "{progress:?}");
        assert!(progress.state == State::Complete && progress.is_whole());
        assert_eq!(broker.connections(), usize::from(events > 0), "nothing to send, no connection");
        for (_, arrival) in broker.arrivals() {
            let n: u64 = std::str::from_utf8(&arrival.payload).unwrap().parse().unwrap();
            let properties = user_properties(&arrival.properties, &[]);
            let value = |name| properties.iter().find(|(key, _)| *key == name).unwrap().1;
            assert_eq!(value("tidegate-id"), format!("barn-7/{:08x}-{n}", store.view().ids().at(n)));
            assert_eq!(value("tidegate-replayed"), id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_sent_again_is_to_be_retained() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for payload in [&b"on"[..], b"off", b""] {
        let mut batch = Batch::default();
        let record = Owned { retain: true, ..Owned::new("house/mode", payload) };
        batch.push(&Record { received_ms: T0_MS, ..record.borrow() });
        store.intake().append(&mut batch).unwrap();
    }
    eventually(|| store.view().end().offset == 3, || format!("{:?}", store.status())).await;
    let refusing = Broker::start(ACCEPTED_V5, |_, _| Reply::Refuse(0x90)).await;
    let refused = replays(&store, refusing.port);
    let id = refused.start(request(asked(0..1))).unwrap().id;
    ended(&refused, &id).await;
    assert_eq!(letters(&store).len(), 3);
    for format in [FormatName::Raw, FormatName::Json, FormatName::CloudEvents] {
        for (version, connack) in [(Version::V5, ACCEPTED_V5), (Version::V311, ACCEPTED_V311)] {
            let broker = Broker::start(connack, |_, _| Reply::Ack).await;
            let mut settings = settings(broker.port);
            (settings.broker().version, settings.format) = (version, format);
            let replays = Replays::new(store.view(), vec![settings], EventContext::default());
            let id = replays.start(request(asked(0..1))).unwrap().id;
            assert!(ended(&replays, &id).await.is_whole());
            let heads: Vec<_> = broker.arrivals().iter().map(|(_, arrival)| arrival.head).collect();
            assert_eq!(heads, [0x32; 3], "{format:?}, {version:?}");
        }
    }
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
    let replays = replays(&store, broker.port);
    let id = replays.start(of_letters(Letters::default())).unwrap().id;
    ended(&replays, &id).await;
    let heads: Vec<_> = broker.arrivals().iter().map(|(_, arrival)| arrival.head).collect();
    assert_eq!((heads, letters(&store).len()), (vec![0x32; 3], 0), "dead letters alike");
}

/// A minute after its boot, on a machine whose clock begins in 1970 or is right.
fn reading(is_set: bool) -> Reading {
    let wall_ms = if is_set { T0_MS as i64 + 60_000 } else { 60_000 };
    Reading { boot_id: [1; 16], boot_ms: 60_000, wall_ms }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_from_before_the_clock_was_set_are_found_by_when_they_were_received_in_truth() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let view = store.view();
    view.timeline().begin(Journal::default(), &reading(false), 0);
    for n in 0..100_u64 {
        let mut batch = Batch::default();
        let record = Owned::new("tg/a/e", n.to_string().as_bytes());
        batch.push(&Record { received_ms: n * 500, ..record.borrow() });
        store.intake().append(&mut batch).unwrap();
    }
    eventually(|| view.end().offset == 100, || format!("{:?}", store.status())).await;
    view.timeline().look(&reading(true), 100);
    let until = |to_ms| Stored { from_ms: T0_MS, to_ms, device: None, kind: None };
    for (stored, expected) in [
        (until(T0_MS + 3_600_000), 0..100),
        (until(T0_MS + 25_000), 0..50),
        (Stored { from_ms: T0_MS + 25_000, ..until(u64::MAX) }, 50..100),
        (Stored { from_ms: 0, ..until(T0_MS) }, 0..0),
        (Stored { from_ms: T0_MS + 60_000, ..until(u64::MAX) }, 0..0),
    ] {
        let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
        let replays = replays(&store, broker.port);
        let id = replays.start(request(stored.clone())).unwrap().id;
        ended(&replays, &id).await;
        assert_eq!(numbers(&broker.arrivals()), expected.collect::<Vec<u64>>(), "{stored:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_made_again_and_what_was_acknowledged_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 500).await;
    let mut publishes = 0;
    let broker = Broker::start(ACCEPTED_V5, move |_, came| {
        publishes += u32::from(matches!(came, Came::Publish(_)));
        if publishes % 97 == 0 { Reply::Close } else { Reply::Ack }
    })
    .await;
    let replays = replays(&store, broker.port);
    let stored = Stored { device: Some("a".to_owned()), ..asked(0..500) };
    let id = replays.start(request(stored)).unwrap().id;
    let progress = ended(&replays, &id).await;
    let expected: Vec<String> = (0..500).filter(|n| n % 2 == 0).map(|n| n.to_string()).collect();
    assert_eq!(broker.first_arrivals(), expected);
    assert!(broker.connections() > 1 && progress.is_whole(), "{progress:?}");
    let counted = &progress.counted;
    assert_eq!((counted.matched_events, counted.acknowledged_events), (250, 250));
    assert!(counted.sent_events >= 250 && progress.last_error.is_some());
    // Each connection began with what the one before it had left.
    let arrivals = broker.arrivals();
    let copies = arrivals.len() - 250;
    assert!(copies <= (broker.connections() - 1) * 97, "{copies} copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_refuses_is_set_aside_and_the_replay_goes_on_and_is_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 60).await;
    let broker = Broker::start(ACCEPTED_V5, |_, came| match came {
        Came::Publish(arrival) if arrival.topic == "door" => Reply::Refuse(0x90),
        _ => Reply::Ack,
    })
    .await;
    let replays = replays(&store, broker.port);
    let id = replays.start(request(asked(0..60))).unwrap().id;
    let progress = ended(&replays, &id).await;
    assert_eq!(broker.arrivals().len(), 60);
    let counted = &progress.counted;
    assert_eq!((counted.acknowledged_events, counted.set_aside_events), (54, 6));
    assert_eq!(store.status().dead_letters, 6);
    assert!(progress.state == State::Complete && !progress.is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_makes_the_upstream_hang_up_is_set_aside_and_the_replay_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 20).await;
    let broker = Broker::start(ACCEPTED_V5, |_, came| match came {
        Came::Publish(arrival) if arrival.payload == b"7" => Reply::Close,
        _ => Reply::Ack,
    })
    .await;
    let replays = replays(&store, broker.port);
    let id = replays.start(request(asked(5..20))).unwrap().id;
    let progress = ended(&replays, &id).await;
    let counted = &progress.counted;
    assert_eq!((counted.acknowledged_events, counted.set_aside_events), (14, 1), "{progress:?}");
    assert_eq!(store.status().dead_letters, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_over_which_the_upstream_still_fails_stay_and_the_replay_of_them_ends() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 100).await;
    refused(&store).await;
    // What else is stored was delivered.
    let taker = Broker::start(ACCEPTED_V311, |_, _| Reply::Ack).await;
    let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
    let reader = store.reader("cloud").unwrap();
    let live = super::super::run(
        settings(taker.port),
        reader,
        EventContext::default(),
        health.clone(),
        stop.clone(),
    );
    let live = tokio::spawn(live);
    eventually(|| health.view().delivered_events == 100, || format!("{health:?}")).await;
    for (reply, why) in [(Reply::Close, "closed"), (Reply::Refuse(0x83), "refused it: implementation")] {
        let fails = move |_: usize, came: &Came| match came {
            Came::Publish(arrival) if arrival.topic == "door" => reply.clone(),
            _ => Reply::Ack,
        };
        let broker = Broker::start(ACCEPTED_V5, fails).await;
        let replays = replays(&store, broker.port);
        let id = replays.start(of_letters(Letters::default())).unwrap().id;
        let progress = ended(&replays, &id).await;
        assert_eq!((progress.counted.set_aside_events, progress.counted.acknowledged_events), (10, 0));
        let after = letters(&store);
        assert!(after.len() == 10 && after.iter().all(|letter| letter.reason.contains(why)), "{after:?}");
    }
    stop.cancel();
    live.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_counts_by_device_and_kind_and_sends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 100).await;
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
    let replays = replays(&store, broker.port);
    let asked = Request { dry_run: true, ..request(asked(10..100)) };
    let id = replays.start(asked).unwrap().id;
    let progress = ended(&replays, &id).await;
    assert!(progress.is_whole() && broker.came().is_empty(), "{progress:?}");
    let found: Vec<_> = progress
        .counted
        .found
        .iter()
        .map(|found| (found.device.as_str(), found.kind, found.events))
        .collect();
    let expected = [("a", KindName::Opaque, 45), ("b", KindName::Opaque, 36), ("c", KindName::Json, 9)];
    assert_eq!(found, expected);
    assert_eq!((progress.counted.matched_events, progress.counted.sent_events), (90, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_replay_keeps_to_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 40).await;
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
    let replays = replays(&store, broker.port);
    let began = clock::monotonic();
    let limited = Request { events_per_s: NonZeroU32::new(100), ..request(asked(0..40)) };
    let id = replays.start(limited).unwrap().id;
    let progress = ended(&replays, &id).await;
    // Forty events stand for 400 ms, and the last block is not waited for.
    let took = clock::monotonic().duration_since(began);
    assert!(took >= Duration::from_millis(340), "{took:?}");
    assert_eq!(progress.counted.acknowledged_events, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_can_be_cancelled_and_says_so_and_a_stop_ends_all_and_lets_none_begin() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 40).await;
    // Nothing is ever acknowledged.
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Silence).await;
    let replays = replays(&store, broker.port);
    let ids = [(); 2].map(|()| replays.start(request(asked(0..40))).unwrap().id);
    assert_ne!(ids[0], ids[1]);
    eventually(|| broker.arrivals().len() >= 40, || format!("{:?}", replays.list())).await;
    // It ends soon, and may have by the time this is asked.
    let state = replays.cancel(&ids[0]).unwrap().state;
    assert!(matches!(state, State::Running | State::Cancelled), "{state:?}");
    assert_eq!(ended(&replays, &ids[0]).await.state, State::Cancelled);
    assert_eq!(replays.cancel("no such replay"), None);
    assert!(replays.stop(PATIENCE).await);
    let states: Vec<State> = replays.list().iter().map(|progress| progress.state).collect();
    assert_eq!(states, [State::Cancelled; 2]);
    assert_eq!(replays.start(request(asked(0..40))), Err(Refused::Stopping));
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn none_begins_while_its_uplink_is_paused_and_one_that_runs_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 40).await;
    let broker = Broker::start(ACCEPTED_V5, |_, came| match came {
        Came::Publish(arrival) if arrival.payload == b"39" => Reply::Silence,
        _ => Reply::Ack,
    })
    .await;
    let replays = replays(&store, broker.port);
    let id = replays.start(request(asked(0..40))).unwrap().id;
    eventually(|| broker.arrivals().len() == 40, || format!("{:?}", replays.list())).await;
    store.view().pause_uplink("cloud", 7).unwrap();
    // What is in flight is waited for, and then it says goodbye.
    let ended_in_order = || broker.came().iter().any(|(_, came)| *came == Came::Disconnect);
    eventually(ended_in_order, || format!("{:?}", broker.came())).await;
    let refused = Refused::Paused { name: "cloud".to_owned() };
    assert_eq!(replays.start(request(asked(0..40))), Err(refused));
    let dry = replays.start(Request { dry_run: true, ..request(asked(0..40)) }).unwrap();
    assert_eq!(ended(&replays, &dry.id).await.state, State::Complete, "nothing is sent for that");
    assert_eq!((broker.connections(), replays.progress(&id).unwrap().state), (1, State::Running));
    store.view().resume_uplink("cloud").unwrap();
    eventually(|| broker.connections() == 2, || format!("{:?}", replays.list())).await;
    assert!(replays.stop(PATIENCE).await);
    store.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_uplink_and_one_replay_too_many_are_refused_and_the_last_ones_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 10).await;
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Silence).await;
    let replays = replays(&store, broker.port);
    let unknown = Request { uplink: "clout".to_owned(), ..request(asked(0..10)) };
    let known = vec!["cloud".to_owned()];
    let refused = Refused::UnknownUplink { name: "clout".to_owned(), known };
    assert_eq!(replays.start(unknown), Err(refused));
    let dry_run = Request { dry_run: true, ..request(asked(0..10)) };
    let mut ids = vec![];
    for _ in 0..REMEMBERED_MAX + 3 {
        let id = replays.start(dry_run.clone()).unwrap().id;
        ended(&replays, &id).await;
        ids.push(id);
    }
    let listed: Vec<String> = replays.list().into_iter().map(|progress| progress.id).collect();
    assert_eq!(listed, ids[3..]);
    for _ in 0..REPLAYS_MAX {
        replays.start(request(asked(0..10))).unwrap();
    }
    assert_eq!(replays.start(dry_run), Err(Refused::TooMany { running: REPLAYS_MAX }));
    assert!(replays.stop(PATIENCE).await);
}

fn letters(store: &Store) -> Vec<DeadLetter> {
    store.view().dead_letters(&DeadLetterFilter::default(), 0, 1000).unwrap().letters
}

/// Makes dead letters of the JSON records of a store: as a replay that is refused does.
async fn refused(store: &Store) {
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Refuse(0x87)).await;
    let replays = replays(store, broker.port);
    let json = Stored { kind: Some(KindName::Json), ..asked(0..1000) };
    let id = replays.start(request(json)).unwrap().id;
    ended(&replays, &id).await;
}

fn of_letters(letters: Letters) -> Request {
    Request { what: What::DeadLetters(letters), ..request(asked(0..1)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_taken_away_as_they_are_acknowledged_and_stay_with_one_more_try_where_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 200).await;
    refused(&store).await;
    let before = letters(&store);
    assert!(before.len() == 20 && before.iter().all(|letter| letter.tries == 1), "{before:?}");

    // Every third is refused again, and now and then the connection breaks.
    let mut publishes = 0;
    let broker = Broker::start(ACCEPTED_V5, move |_, came| {
        publishes += u32::from(matches!(came, Came::Publish(_)));
        match came {
            Came::Publish(arrival) if arrival.payload.starts_with(b"1") => Reply::Refuse(0x90),
            _ if publishes % 13 == 0 => Reply::Close,
            _ => Reply::Ack,
        }
    })
    .await;
    let replays = replays(&store, broker.port);
    let id = replays.start(of_letters(Letters::default())).unwrap().id;
    let progress = ended(&replays, &id).await;
    // 9, and 29 to 99, were taken; 19, and 109 to 199, begin with a 1.
    assert_eq!((progress.counted.matched_events, progress.counted.acknowledged_events), (20, 9));
    assert!(progress.state == State::Complete && !progress.is_whole());
    let after = letters(&store);
    let numbers: Vec<u64> = after.iter().map(|letter| letter.offset).collect();
    assert_eq!(numbers, [19, 109, 119, 129, 139, 149, 159, 169, 179, 189, 199]);
    assert!(after.iter().all(|letter| letter.tries >= 2 && letter.reason.contains("topic name invalid")));
    for (_, arrival) in broker.arrivals() {
        let n: u64 = std::str::from_utf8(&arrival.payload).unwrap().parse().unwrap();
        let properties = user_properties(&arrival.properties, &[]);
        let name = format!("barn-7/{:08x}-{n}", store.view().ids().at(n));
        assert!(properties.contains(&("tidegate-id", &name)), "{properties:?}");
        assert!(properties.contains(&("tidegate-replayed", &id)), "{properties:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_chosen_by_number_and_filter_and_may_go_by_another_uplink() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 100).await;
    refused(&store).await;
    let all = letters(&store);
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
    let mut lake = settings(broker.port);
    lake.name = "lake".to_owned();
    let replays = Replays::new(store.view(), vec![lake], EventContext::default());
    let cloud = Letters { of: Some("cloud".to_owned()), ..Letters::default() };
    let cases = [
        (Letters::default(), 0, 10),
        (Letters { reason: Some("too large".to_owned()), ..cloud.clone() }, 0, 10),
        (Letters { ids: vec![all[3].id, all[0].id, 99_999], ..cloud.clone() }, 2, 8),
        (Letters { from_ms: Some(T0_MS + 60_000), device: Some("c".to_owned()), ..cloud }, 4, 4),
    ];
    for (asked, sent, left) in cases {
        let before = broker.arrivals().len();
        let request = Request { uplink: "lake".to_owned(), ..of_letters(asked.clone()) };
        let dry_run = replays.start(Request { dry_run: true, ..request.clone() }).unwrap().id;
        assert_eq!(ended(&replays, &dry_run).await.counted.matched_events, sent, "{asked:?}");
        let id = replays.start(request).unwrap().id;
        let progress = ended(&replays, &id).await;
        assert!(progress.is_whole(), "{progress:?}");
        assert_eq!(broker.arrivals().len() - before, sent as usize, "{asked:?}");
        assert_eq!(letters(&store).len(), left, "{asked:?}");
    }
}

//! One bad event never stops the ones behind it, and an upstream that fails over everything blames
//! nobody.

use std::time::Duration;

use super::{
    super::engine::mqtt::Version,
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Came, Reply},
    *,
};

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Acknowledges all but the payloads that `is_bad` names, which `reply` answers.
fn except(
    is_bad: impl Fn(&str) -> bool + Send,
    mut reply: impl FnMut(usize) -> Reply + Send,
) -> impl FnMut(usize, &Came) -> Reply + Send {
    move |connection, came| match came {
        Came::Publish(Arrival { payload, .. }) if is_bad(&String::from_utf8_lossy(payload)) => {
            reply(connection)
        }
        _ => Reply::Ack,
    }
}

/// What came on each connection.
fn by_connection(broker: &Broker) -> Vec<Vec<Came>> {
    let came = broker.came();
    let of =
        |n| came.iter().filter(|(connection, _)| *connection == n).map(|(_, came)| came.clone()).collect();
    (0..broker.connections()).map(of).collect()
}

fn is_payload(came: &Came, payload: &str) -> bool {
    matches!(came, Came::Publish(arrival) if arrival.payload == payload.as_bytes())
}

fn impatient(port: u16, version: Version) -> Settings {
    let mut settings = settings(port);
    settings.broker().version = version;
    settings.ack_timeout = Duration::from_millis(400);
    settings
}

#[tokio::test]
async fn an_event_over_which_the_upstream_fails_is_set_aside_and_those_behind_it_go_on() {
    let closed = "the upstream closed the connection over it";
    for (version, connack, reply, why) in [
        (Version::V311, ACCEPTED_V311, Reply::Close, closed),
        (Version::V5, ACCEPTED_V5, Reply::Bytes(vec![0xE0, 1, 0x99]), closed),
        (Version::V5, ACCEPTED_V5, Reply::Bytes(vec![0xE0, 1, 0x97]), closed),
        (Version::V311, ACCEPTED_V311, Reply::Bytes(vec![0x40, 1, 0]), closed),
        (Version::V311, ACCEPTED_V311, Reply::Silence, "the upstream never acknowledged it"),
        (Version::V5, ACCEPTED_V5, Reply::Silence, "the upstream never acknowledged it"),
        (Version::V5, ACCEPTED_V5, Reply::Refuse(0x80), "the upstream refused it: unspecified error (0x80)"),
        (Version::V5, ACCEPTED_V5, Reply::Refuse(0x97), "the upstream refused it: quota exceeded (0x97)"),
    ] {
        let tries = if matches!(reply, Reply::Silence) { 3 } else { 4 };
        let broker = Broker::start(connack, except(|payload| payload == "12", move |_| reply.clone())).await;
        let uplink = Running::start(impatient(broker.port, version), Log::numbered(30));
        uplink.released(30).await;
        assert_eq!((uplink.log.aside(), uplink.log.tries()), (vec![(12, why.to_owned())], vec![tries]));
        assert_eq!(broker.first_arrivals(), numbers(0..30));
        assert_eq!(uplink.health.view().delivered_events, 29);
        assert_eq!(uplink.health.view().set_aside_events, 1);
        let is_probe = |came: &Vec<Came>| {
            let is_bad = |at| came.get(at).is_some_and(|came| is_payload(came, "12"));
            let publishes = came.iter().filter(|came| matches!(came, Came::Publish(_))).count();
            !is_bad(1) && is_bad(2) && publishes == 2
        };
        let probes = by_connection(&broker).into_iter().filter(is_probe).count();
        assert_eq!(probes, 1, "a control, and only then the event, alone: {:?}", broker.came());
        uplink.stop().await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_behind_a_bad_event_is_not_sent_again() {
    let broker = Broker::start(ACCEPTED_V311, except(|payload| payload == "5", |_| Reply::Silence)).await;
    let uplink = Running::start(impatient(broker.port, Version::V311), Log::numbered(30));
    uplink.released(30).await;
    let arrivals = broker.arrivals();
    let of = |payload: &str| arrivals.iter().filter(|(_, came)| came.payload == payload.as_bytes()).count();
    let others: usize = numbers(6..30).iter().map(|payload| of(payload)).sum();
    assert_eq!((of("5"), others), (3, 24 + 1), "one is the control: {arrivals:?}");
    assert_eq!(uplink.health.view().delivered_events, 29);
    uplink.stop().await;
}

#[tokio::test]
async fn a_probe_that_goes_well_is_the_end_of_the_suspicion() {
    let hang_up = |connection| if connection < 2 { Reply::Close } else { Reply::Ack };
    let broker = Broker::start(ACCEPTED_V311, except(|payload| payload == "0", hang_up)).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(300));
    uplink.released(300).await;
    assert_eq!((uplink.log.aside(), broker.connections()), (vec![], 3));
    let last: Vec<_> = broker.arrivals().into_iter().filter(|(c, _)| *c == 2).collect();
    assert_eq!(last.len(), 300, "the probe's connection goes on as a stream, without a second copy");
    uplink.stop().await;
}

#[tokio::test]
async fn an_upstream_that_fails_over_everything_blames_nobody() {
    for (version, connack, reply) in [
        (Version::V311, ACCEPTED_V311, Reply::Close),
        (Version::V5, ACCEPTED_V5, Reply::Bytes(vec![0xE0, 1, 0x97])),
        (Version::V5, ACCEPTED_V5, Reply::Refuse(0x97)),
        (Version::V5, ACCEPTED_V5, Reply::Refuse(0x83)),
        (Version::V311, ACCEPTED_V311, Reply::Silence),
    ] {
        for taken_before in [0, 7] {
            let mut publishes = 0;
            let asked = reply.clone();
            let script = move |connection, came: &Came| {
                let Came::Publish(_) = came else { return Reply::Ack };
                publishes += 1;
                if publishes <= taken_before || connection > 12 { Reply::Ack } else { asked.clone() }
            };
            let broker = Broker::start(connack, script).await;
            let mut settings = impatient(broker.port, version);
            settings.ack_timeout = Duration::from_millis(100);
            let uplink = Running::start(settings, Log::numbered(30));
            uplink.released(30).await;
            assert_eq!(uplink.log.aside(), [], "{reply:?} after {taken_before}");
            assert_eq!(uplink.health.view().delivered_events, 30);
            assert!(broker.connections() > 12);
            uplink.stop().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_fails_over_everything_for_a_while_gets_the_events_of_each_device_in_their_order() {
    const EVENTS: usize = 40;
    const DEVICES: usize = 4;
    for reply in [Reply::Close, Reply::Refuse(0x97)] {
        for failing in [5, 14, 15, 16] {
            let (asked, taken) = (reply.clone(), Arc::new(Mutex::new(Vec::<usize>::new())));
            let takes = taken.clone();
            let script = move |connection: usize, came: &Came| {
                let Came::Publish(Arrival { payload, .. }) = came else { return Reply::Ack };
                let mut taken = takes.lock().unwrap();
                if taken.len() >= 12 && connection < failing {
                    return asked.clone();
                }
                taken.push(String::from_utf8_lossy(payload).parse().unwrap());
                Reply::Ack
            };
            let broker = Broker::start(ACCEPTED_V5, script).await;
            let log = Log::default();
            for n in 0..EVENTS {
                let device = format!("device-{}", n % DEVICES);
                log.push(Owned { client: device.clone(), ..Owned::new(&device, n.to_string().as_bytes()) });
            }
            let uplink = Running::start(impatient(broker.port, Version::V5), log);
            uplink.released(EVENTS as u64).await;
            assert_eq!(uplink.log.aside(), [], "{reply:?} for {failing} connections");
            let mut seen = std::collections::BTreeSet::new();
            let mut last = [None; DEVICES];
            for n in taken.lock().unwrap().iter().copied().filter(|n| seen.insert(*n)) {
                assert!(last[n % DEVICES] < Some(n), "{n} comes late: {reply:?} for {failing} connections");
                last[n % DEVICES] = Some(n);
            }
            uplink.stop().await;
        }
    }
}

#[tokio::test]
async fn an_upstream_that_closes_for_a_rate_that_is_too_high_blames_nobody() {
    // One event in half a second, and whoever sends more is closed.
    let mut taken_at = None;
    let script = move |_, came: &Came| {
        let Came::Publish(_) = came else { return Reply::Ack };
        let now = crate::clock::monotonic();
        if taken_at.is_some_and(|at| now - at < Duration::from_millis(500)) {
            return Reply::Close;
        }
        taken_at = Some(now);
        Reply::Ack
    };
    let broker = Broker::start(ACCEPTED_V311, script).await;
    let uplink = Running::start(settings(broker.port), Log::numbered(6));
    uplink.released(6).await;
    assert_eq!(uplink.log.aside(), []);
    uplink.stop().await;
}

#[tokio::test]
async fn many_bad_events_in_a_row_are_set_aside_and_one_connection_judges_each_that_is_like_one_before() {
    let bad = |payload: &str| payload.parse::<u32>().is_ok_and(|n| (10..30).contains(&n));
    let broker = Broker::start(ACCEPTED_V311, except(bad, |_| Reply::Close)).await;
    let log = Log::default();
    for n in 0..40 {
        let topic = if bad(&n.to_string()) { "bad" } else { "good" };
        log.push(Owned::new(topic, n.to_string().as_bytes()));
    }
    let uplink = Running::start(settings(broker.port), log);
    uplink.released(40).await;
    let aside: Vec<u64> = uplink.log.aside().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(aside, (10..30).collect::<Vec<_>>());
    assert_eq!(uplink.log.tries()[1..], [1; 19]);
    uplink.stop().await;
}

#[tokio::test]
async fn bad_events_before_anything_was_taken_stop_nothing() {
    for bad in [1, 2] {
        let is_bad = move |payload: &str| payload.parse::<u32>().is_ok_and(|n| n < bad);
        let broker = Broker::start(ACCEPTED_V311, except(is_bad, |_| Reply::Close)).await;
        let log = Log::default();
        for n in 0..10 {
            log.push(Owned {
                client: format!("device-{}", n % 4),
                ..Owned::new("t", n.to_string().as_bytes())
            });
        }
        let uplink = Running::start(settings(broker.port), log);
        uplink.released(10).await;
        let aside: Vec<u64> = uplink.log.aside().into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(aside, (0..u64::from(bad)).collect::<Vec<_>>());
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_sound_event_on_the_topic_of_a_bad_one_is_sent_and_ends_the_caution() {
    let broker = Broker::start(ACCEPTED_V311, except(|payload| payload == "5", |_| Reply::Close)).await;
    let log = Log::default();
    (0..200).for_each(|n: u32| log.push(Owned::new("t", n.to_string().as_bytes())));
    let uplink = Running::start(settings(broker.port), log);
    uplink.released(200).await;
    assert_eq!(uplink.log.aside().len(), 1);
    let last = by_connection(&broker).pop().unwrap();
    let alone = last.windows(2).filter(|came| came[1] == Came::Ping && matches!(came[0], Came::Publish(_)));
    assert_eq!(alone.count(), 1, "one was sent alone, and the others as ever: {last:?}");
    uplink.stop().await;
}

#[tokio::test]
async fn however_many_bad_events_are_first_in_line_of_a_new_uplink_those_behind_them_go_out() {
    // Each on a topic of its own, all on one, and all on the topic of the good ones: of one device.
    type TopicOf = fn(u32) -> String;
    let topics: [TopicOf; 3] = [|n| format!("bad/{n}"), |_| "bad".into(), |_| "good".into()];
    for topic_of in topics {
        let is_bad = |payload: &str| payload.parse::<u32>().is_ok_and(|n| n < 12);
        let broker = Broker::start(ACCEPTED_V311, except(is_bad, |_| Reply::Close)).await;
        let log = Log::default();
        for n in 0..30 {
            let topic = if n < 12 { topic_of(n) } else { "good".into() };
            log.push(Owned::new(&topic, n.to_string().as_bytes()));
        }
        let uplink = Running::start(settings(broker.port), log);
        uplink.released(30).await;
        let aside: Vec<u64> = uplink.log.aside().into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(aside, (0..12).collect::<Vec<_>>());
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_topic_that_is_refused_from_some_day_on_does_not_stop_the_others() {
    let is_bad = |payload: &str| payload == "20";
    let mut taken = 0;
    let script = move |_, came: &Came| {
        let Came::Publish(Arrival { payload, topic, .. }) = came else { return Reply::Ack };
        taken += 1;
        // What was taken before is refused as well: no copy of it can be a control.
        if topic == "a" && (taken > 20 || is_bad(&String::from_utf8_lossy(payload))) {
            Reply::Close
        } else {
            Reply::Ack
        }
    };
    let broker = Broker::start(ACCEPTED_V311, script).await;
    let log = Log::default();
    for n in 0..20 {
        log.push(Owned::new("a", n.to_string().as_bytes()));
    }
    let uplink = Running::start(settings(broker.port), log.clone());
    uplink.released(20).await;
    for n in 20..40 {
        log.push(Owned::new(if n == 20 { "a" } else { "b" }, n.to_string().as_bytes()));
    }
    uplink.released(40).await;
    let aside: Vec<u64> = uplink.log.aside().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(aside, [20]);
    uplink.stop().await;
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_written_is_tried_at_intervals_and_not_at_once_for_ever() {
    let broker = Broker::start(ACCEPTED_V311, except(|payload| payload == "5", |_| Reply::Close)).await;
    let mut settings = settings(broker.port);
    (settings.backoff_min, settings.backoff_max) = (Duration::from_millis(100), Duration::from_millis(100));
    let log = Log::numbered(10);
    log.set_full(true);
    let uplink = Running::start(settings, log.clone());
    eventually(|| log.set_full(true) > 0, || format!("{:?}", log.aside())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let tries = log.set_full(false);
    assert!((1..100).contains(&tries), "{tries} in half a second");
    uplink.released(10).await;
    assert_eq!(log.aside().len(), 1);
    uplink.stop().await;
}

/// A CONNACK of MQTT 5 with this Receive Maximum.
fn accepted_with(receive_max: u16) -> Vec<u8> {
    let [high, low] = receive_max.to_be_bytes();
    vec![0x20, 6, 0, 0, 3, 0x21, high, low]
}

/// Bad events that are never acknowledged, each on a topic of its own: `bursts` times `bad` in a
/// row, and a good one behind them, at the patience that an uplink has by default. Gives how long
/// each burst held up the good one.
async fn held_up_by(receive_max: u16, bad: usize, bursts: usize) -> Vec<Duration> {
    let is_bad = |payload: &str| payload.starts_with("bad");
    let broker = Broker::start(&accepted_with(receive_max), except(is_bad, |_| Reply::Silence)).await;
    let log = Log::default();
    (0..20).for_each(|n| log.push(Owned::new(&format!("good/{n}"), b"good")));
    let mut settings = Settings::mqtt("cloud", "127.0.0.1", "barn-7");
    (settings.broker().port, settings.broker().version) = (broker.port, Version::V5);
    let uplink = Running::start(settings, log.clone());
    uplink.released(20).await;
    let (mut count, mut held_up) = (20, Vec::new());
    for burst in 0..bursts {
        for n in 0..bad {
            log.push(Owned::new(&format!("t/{burst}/{n}"), format!("bad {burst} {n}").as_bytes()));
        }
        log.push(Owned::new("good/0", b"good"));
        count += bad as u64 + 1;
        let began = crate::clock::monotonic();
        while log.released() < count && began.elapsed() < Duration::from_secs(120) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        held_up.push(began.elapsed());
    }
    assert_eq!(uplink.log.aside().len(), bad * bursts, "{receive_max} {held_up:?}");
    assert_eq!(uplink.log.released(), count, "{receive_max} {held_up:?}");
    assert_eq!(uplink.health.view().delivered_events, count - (bad * bursts) as u64);
    assert!(broker.arrivals().iter().filter(|(_, came)| came.payload == b"good").count() >= 20 + bursts);
    uplink.stop().await;
    held_up
}

#[tokio::test]
async fn unanswered_events_that_fill_the_window_hold_up_the_first_time_for_half_a_minute_and_then_for_seconds()
 {
    let s = Duration::from_secs;
    let (one, ten, burst) = tokio::join!(held_up_by(1, 1, 3), held_up_by(10, 12, 1), held_up_by(1, 12, 1));
    assert!(one[0] < s(30) && one[1..].iter().all(|held_up| *held_up < s(8)), "{one:?}");
    for held_up in [ten, burst] {
        assert!(held_up[0] < s(30 + 11 * 5 / 2), "{held_up:?}");
    }
}

#[tokio::test]
async fn an_upstream_that_acknowledges_slowly_is_not_taken_for_one_that_ignores_an_event() {
    let script = |_, came: &Came| match came {
        Came::Publish(Arrival { payload, .. }) if payload == b"2" => Reply::Silence,
        Came::Publish(_) => Reply::AckMeanwhile(Duration::from_secs(2)),
        _ => Reply::Ack,
    };
    let broker = Broker::start(&accepted_with(1), script).await;
    let mut settings = settings(broker.port);
    settings.broker().version = Version::V5;
    let uplink = Running::start(settings, Log::numbered(5));
    tokio::time::timeout(Duration::from_secs(120), async {
        while uplink.log.released() < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the uplink goes on");
    let aside: Vec<u64> = uplink.log.aside().into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(aside, [2]);
    uplink.stop().await;
}

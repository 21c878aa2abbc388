//! How fast and how much at once: what is set is kept to, and what an upstream takes is found out.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    super::{
        delivery::hours::Hours,
        engine::mqtt::{Retain, Version},
        platform::Platform,
    },
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Came, Reply},
    *,
};

/// An upstream that takes so many in a second, and a second's worth at once.
struct Bucket {
    per_s: f64,
    left: f64,
    filled_at: Instant,
}

impl Bucket {
    fn new(per_s: f64) -> Self {
        Self { per_s, left: per_s, filled_at: crate::clock::monotonic() }
    }

    fn takes(&mut self) -> bool {
        let now = crate::clock::monotonic();
        let filled = self.per_s * (now - self.filled_at).as_secs_f64();
        (self.left, self.filled_at) = ((self.left + filled).min(self.per_s), now);
        let takes = self.left >= 1.0;
        self.left -= if takes { 1.0 } else { 0.0 };
        takes
    }
}

/// Answers what is over its rate so, and acknowledges the rest.
fn limited(per_s: f64, over: Reply) -> impl FnMut(usize, &Came) -> Reply + Send {
    let mut bucket = Bucket::new(per_s);
    move |_, came| match came {
        Came::Publish(_) if !bucket.takes() => over.clone(),
        _ => Reply::Ack,
    }
}

/// Waits for longer than [`PATIENCE`] allows.
async fn released_within(uplink: &Running, offset: u64, limit: Duration) -> Duration {
    let began = crate::clock::monotonic();
    while uplink.log.released() < offset {
        assert!(began.elapsed() < limit, "{} of {offset} in {limit:?}", uplink.log.released());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// An uplink as it is by default, to a broker on this port.
fn by_default(port: u16) -> Settings {
    let mut settings = Settings::mqtt("cloud", "127.0.0.1", "barn-7");
    (settings.broker().port, settings.broker().version) = (port, Version::V5);
    settings
}

#[tokio::test]
async fn the_rate_of_an_upstream_that_discards_or_refuses_what_is_over_it_is_found_and_few_events_go_twice() {
    const EVENTS: usize = 3000;
    for over in [Reply::Silence, Reply::Refuse(0x97), Reply::Bytes(vec![0xE0, 1, 0x96])] {
        let broker = Broker::start(ACCEPTED_V5, limited(200.0, over.clone())).await;
        let uplink = Running::start(by_default(broker.port), Log::numbered(EVENTS));
        let took = released_within(&uplink, EVENTS as u64, Duration::from_secs(45)).await;
        let sent = broker.arrivals().len();
        assert!(sent <= EVENTS + EVENTS / 10, "{over:?}: {sent} sent in {took:?}");
        assert_eq!(uplink.log.aside(), [], "{over:?}: nobody is blamed");
        uplink.stop().await;
    }
}

#[tokio::test]
async fn events_and_bytes_in_a_second_are_what_is_set_without_bursts() {
    for (events_per_s, bytes_per_s, per_s) in [(Some(200), None, 200.0), (None, Some(20_000), 200.0)] {
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let times = arrived.clone();
        let broker = Broker::start(ACCEPTED_V311, move |_, came| {
            if matches!(came, Came::Publish(_)) {
                times.lock().unwrap().push(crate::clock::monotonic());
            }
            Reply::Ack
        })
        .await;
        let mut settings = settings(broker.port);
        settings.pace.events_per_s = events_per_s.and_then(std::num::NonZeroU32::new);
        settings.pace.bytes_per_s = bytes_per_s.and_then(std::num::NonZeroU64::new);
        let log = Log::default();
        (0..600).for_each(|n| log.push(Owned::new("t", format!("{n:099}").as_bytes())));
        let uplink = Running::start(settings, log);
        uplink.released(600).await;
        let arrived = arrived.lock().unwrap().clone();
        let took = *arrived.last().unwrap() - arrived[0];
        assert!((2.9..6.0).contains(&took.as_secs_f64()), "600 in {took:?}");
        // Any 30 of them take at least the time of 30 but for a burst; a loaded machine delays
        // some.
        let quick = arrived.windows(30).filter(|times| times[29] - times[0] < Duration::from_millis(50));
        assert!(quick.count() < 60, "{per_s}/s");
        assert_eq!(broker.arrivals().len(), 600);
        uplink.stop().await;
    }
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_and_an_event_that_is_longer_goes_alone() {
    let script = |connection, _: &Came| if connection == 0 { Reply::Silence } else { Reply::Ack };
    let broker = Broker::start(ACCEPTED_V311, script).await;
    let mut settings = settings(broker.port);
    settings.pace.inflight_bytes = std::num::NonZeroU64::new(1000);
    settings.ack_timeout = Duration::from_millis(300);
    let log = Log::default();
    (0..30).for_each(|_| log.push(Owned::new("t", &[7; 119])));
    (0..3).for_each(|_| log.push(Owned::new("t", &[7; 5000])));
    let uplink = Running::start(settings, log);
    uplink.released(33).await;
    let first = broker.arrivals().into_iter().filter(|(connection, _)| *connection == 0).count();
    assert!((7..=8).contains(&first), "{first} of 120 bytes each are within 1000");
    uplink.stop().await;
}

#[tokio::test]
async fn an_upstream_that_takes_one_event_and_cuts_is_not_asked_without_a_pause() {
    let mut count = 0;
    let broker = Broker::start(ACCEPTED_V311, move |_, came| {
        count += usize::from(matches!(came, Came::Publish(_)));
        if count % 2 == 0 { Reply::Close } else { Reply::Ack }
    })
    .await;
    let mut settings = settings(broker.port);
    (settings.backoff_min, settings.backoff_max) = (Duration::from_millis(500), Duration::from_secs(60));
    let uplink = Running::start(settings, Log::numbered(1000));
    tokio::time::sleep(Duration::from_secs(12)).await;
    let early = broker.connections();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let late = broker.connections() - early;
    assert!(early <= 60 && late <= 3, "{early} connections in 12 s, and {late} in the 6 s after them");
    assert_eq!(uplink.log.aside(), []);
    uplink.stop().await;
}

#[tokio::test]
async fn an_upstream_that_acknowledges_more_slowly_than_the_time_out_is_waited_for_in_the_end() {
    let slow = |_, came: &Came| match came {
        Came::Publish(_) => Reply::AckMeanwhile(Duration::from_millis(700)),
        _ => Reply::Ack,
    };
    let broker = Broker::start(ACCEPTED_V311, slow).await;
    let mut settings = settings(broker.port);
    settings.ack_timeout = Duration::from_millis(500);
    let uplink = Running::start(settings, Log::numbered(200));
    uplink.released(200).await;
    assert_eq!(uplink.log.aside(), []);
    let sent = broker.arrivals().len();
    assert!(sent < 300, "{sent} sent, {} connections", broker.connections());
    uplink.stop().await;
}

/// The topics of what came, as an upstream reads them that granted aliases.
fn topics(broker: &Broker) -> Vec<String> {
    let mut known: HashMap<(usize, (u8, u8)), String> = HashMap::new();
    let read = |(connection, arrival): (usize, Arrival)| {
        let alias = arrival.properties.windows(3).find(|bytes| bytes[0] == 0x23).map(|b| (b[1], b[2]));
        match alias {
            Some(alias) if arrival.topic.is_empty() => known[&(connection, alias)].clone(),
            Some(alias) => {
                known.insert((connection, alias), arrival.topic.clone());
                arrival.topic
            }
            None => arrival.topic,
        }
    };
    broker.arrivals().into_iter().map(read).collect()
}

#[tokio::test]
async fn topics_that_repeat_go_out_as_the_aliases_that_the_upstream_grants() {
    // Topic Alias Maximum 4.
    let mut count = 0;
    let broker = Broker::start(&[0x20, 6, 0, 0, 3, 0x22, 0, 4], move |_, came| {
        count += usize::from(matches!(came, Came::Publish(_)));
        // The aliases end with their connection.
        if count == 150 { Reply::Close } else { Reply::Ack }
    })
    .await;
    let mut settings = settings(broker.port);
    settings.broker().version = Version::V5;
    settings.window = 1.try_into().unwrap();
    let log = Log::default();
    for n in 0..300 {
        log.push(Owned::new(&format!("site/{}", n % 3), n.to_string().as_bytes()));
    }
    let uplink = Running::start(settings, log);
    uplink.released(300).await;
    let meant: Vec<String> = broker
        .arrivals()
        .iter()
        .map(|(_, came)| String::from_utf8_lossy(&came.payload).parse::<usize>().unwrap())
        .map(|n| format!("site/{}", n % 3))
        .collect();
    assert_eq!(topics(&broker), meant);
    let short = broker.arrivals().iter().filter(|(_, came)| came.topic.is_empty()).count();
    assert!(short > 60, "{short} of 300 were named by their alias");
    uplink.stop().await;
}

#[tokio::test]
async fn nothing_is_retained_where_that_is_set() {
    for (retain, head) in [(Retain::AsPublished, 0x33), (Retain::Never, 0x32)] {
        let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::Ack).await;
        let mut settings = settings(broker.port);
        settings.broker().retain = retain;
        let log = Log::default();
        log.push(Owned { retain: true, ..Owned::new("state", b"on") });
        let uplink = Running::start(settings, log);
        uplink.released(1).await;
        assert_eq!(broker.arrivals()[0].1.head, head, "{retain:?}");
        uplink.stop().await;
    }
}

#[tokio::test]
async fn a_message_expiry_is_passed_on_less_the_time_in_the_store_and_never_drops_an_event() {
    let broker = Broker::start(ACCEPTED_V5, |_, _| Reply::Ack).await;
    let mut settings = settings(broker.port);
    settings.broker().version = Version::V5;
    let log = Log::default();
    // It was received in 2023, by a clock that was set wrongly or long ago: see `Owned::borrow`.
    let expiring = |s: u32| [&[0x02][..], &s.to_be_bytes(), &[0x01, 1]].concat();
    log.push(Owned { properties: expiring(60), ..Owned::new("a", b"1") });
    log.push(Owned::new("a", b"2"));
    let uplink = Running::start(settings, log);
    uplink.released(2).await;
    let arrivals = broker.arrivals();
    let expiry = |at: usize| {
        let properties: &Vec<u8> = &arrivals[at].1.properties;
        properties.starts_with(&[0x02, 0, 0, 0]).then(|| properties[4])
    };
    assert_eq!((expiry(0), expiry(1)), (Some(60), None), "{arrivals:?}");
    uplink.stop().await;
}

/// Hours that begin in five minutes and last for ten, or began five minutes ago.
fn hours(are_now: bool) -> Hours {
    let minute = crate::clock::wall_ms() / 60_000 + if are_now { 24 * 60 - 5 } else { 5 };
    let text = |minute: u64| format!("{:02}:{:02}", minute / 60 % 24, minute % 60);
    Hours::parse(&format!("{}-{}", text(minute), text(minute + 10)), None).unwrap()
}

#[tokio::test]
async fn outside_its_hours_an_uplink_sends_urgent_events_and_what_lies_before_them() {
    let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::Ack).await;
    let mut settings = settings(broker.port);
    settings.send = Some(hours(false));
    let log = Log::numbered(20);
    let uplink = Running::start(settings.clone(), log.clone());
    let says = || uplink.health.view().last_error.is_some_and(|why| why.starts_with("not within its hours"));
    eventually(says, || format!("{:?}", uplink.health)).await;
    assert_eq!((broker.connections(), log.released()), (0, 0));
    // In the last block of several, with others of its block behind it.
    log.push(Owned { urgent: true, ..Owned::new("site/alarm", b"20") });
    uplink.released(21).await;
    eventually(|| !uplink.health.view().connected, || format!("{:?}", uplink.health)).await;
    (21..40).for_each(|n: u32| log.push(Owned::new("site", n.to_string().as_bytes())));
    log.push(Owned { local: true, events: 0, urgent: true, ..Owned::new("site/local", b"40") });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let first: Vec<String> = (0..21).map(|n| n.to_string()).collect();
    assert_eq!((broker.first_arrivals(), log.released()), (first, 21), "in their order, and no others");
    assert_eq!(broker.connections(), 1);
    uplink.stop().await;

    settings.send = Some(hours(true));
    let uplink = Running::start(settings, log.clone());
    uplink.released(41).await;
    assert_eq!(broker.arrivals().len(), 40);
    uplink.stop().await;
}

#[tokio::test]
async fn hours_hold_within_a_block_and_what_is_in_flight_then_is_waited_for() {
    // For longer than a shutdown waits.
    let slow = |_, came: &Came| match came {
        Came::Publish(_) => Reply::AckMeanwhile(Duration::from_secs(4)),
        _ => Reply::Ack,
    };
    let broker = Broker::start(ACCEPTED_V311, slow).await;
    let mut settings = settings(broker.port);
    settings.send = Some(hours(false));
    settings.ack_timeout = Duration::from_secs(30);
    let log = Log { block_records: 100, ..Log::default() };
    for n in 0..40 {
        log.push(Owned { urgent: n == 20, ..Owned::new("site", n.to_string().as_bytes()) });
    }
    let uplink = Running::start(settings, log);
    uplink.released(21).await;
    eventually(|| !uplink.health.view().connected, || format!("{:?}", uplink.health)).await;
    assert_eq!((broker.arrivals().len(), broker.connections()), (21, 1), "nothing else, and nothing twice");
    uplink.stop().await;
}

#[tokio::test]
async fn what_was_acknowledged_out_of_order_is_not_sent_again_after_an_orderly_end() {
    let ignores_the_first = |connection, came: &Came| match came {
        Came::Publish(arrival) if connection == 0 && arrival.payload == b"0" => Reply::Silence,
        _ => Reply::Ack,
    };
    let broker = Broker::start(ACCEPTED_V311, ignores_the_first).await;
    let mut settings = settings(broker.port);
    settings.ack_timeout = Duration::from_secs(30);
    settings.broker().renew = Some(Duration::from_millis(500));
    let uplink = Running::start(settings, Log::numbered(10));
    uplink.released(10).await;
    assert_eq!(broker.arrivals().len(), 11, "the one that was not acknowledged goes twice");
    uplink.stop().await;
}

#[tokio::test]
async fn connects_are_as_far_apart_as_the_platform_asks() {
    let broker = Broker::start(ACCEPTED_V5, |_, came| match came {
        Came::Publish(_) => Reply::Close,
        _ => Reply::Ack,
    })
    .await;
    let mut settings = by_default(broker.port);
    settings.platform = Platform::named("aws-iot");
    (settings.backoff_min, settings.backoff_max) = (Duration::from_millis(1), Duration::from_millis(1));
    let began = crate::clock::monotonic();
    let uplink = Running::start(settings, Log::numbered(3));
    eventually(|| broker.connections() == 4, || format!("{} connections", broker.connections())).await;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    uplink.stop().await;
}

//! One bad event never stops the ones behind it, whatever the upstream does about it, and no other
//! event is blamed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{Ack, Connect, Packet, Publish, Received, Version},
    gateway::{Gateway, Setup, Uplink},
    upstream::{Cloud, Reply, Upstream},
};

/// Everything is over by then, on a machine with much else to do.
const LIMIT: Duration = Duration::from_secs(240);
/// Good events pass so soon after the first bad one of a cause.
const FIRST_MAX: Duration = Duration::from_secs(30);
/// And so soon after each later one.
const LATER_MAX: Duration = Duration::from_secs(5);
/// Of each uplink of the matrix: small against the events, so that copies show.
const WINDOW: u32 = 20;
/// Events of the matrix.
const EVENTS: u32 = 60;
/// Uplinks of one gateway at the most.
const UPLINKS_MAX: usize = 16;
/// The topic that is bad where one is.
const ODD: &str = "odd";

const CONNECT: Connect<'_> = Connect { version: Version::V311, client_id: "c", clean: true, keep_alive_s: 0 };

/// Which events are bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    One,
    EveryTenth,
    Topic,
}

impl Which {
    fn names(self, n: u32) -> bool {
        match self {
            Self::One => n == 17,
            Self::EveryTenth => n % 10 == 7,
            Self::Topic => topic(n) == ODD,
        }
    }
}

/// Topics are of four kinds; the odd one has two events in a row.
fn topic(n: u32) -> &'static str {
    match (n % 10, n % 3) {
        (3 | 4, _) => ODD,
        (_, 0) => "a",
        (_, 1) => "b",
        _ => "c",
    }
}

/// What came of one event.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first_at: Instant,
    arrivals: u32,
    taken_at: Option<Instant>,
}

/// An upstream that cannot stand some events.
struct Picky {
    is_bad: Box<dyn Fn(u32) -> bool + Send>,
    reply: Reply,
    seen: BTreeMap<u32, Seen>,
}

impl Picky {
    fn new(is_bad: impl Fn(u32) -> bool + Send + 'static, reply: Reply) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { is_bad: Box::new(is_bad), reply, seen: BTreeMap::new() }))
    }

    fn note(&mut self, publish: &Received) -> (u32, &mut Seen) {
        let n = number(&publish.payload);
        let seen = self.seen.entry(n).or_insert(Seen { first_at: now(), arrivals: 0, taken_at: None });
        seen.arrivals += 1;
        (n, seen)
    }

    fn taken(&self) -> usize {
        self.seen.values().filter(|seen| seen.taken_at.is_some()).count()
    }

    fn copies(&self) -> u32 {
        self.seen.values().map(|seen| seen.arrivals - 1).sum()
    }
}

impl Cloud for Picky {
    fn take(&mut self, publish: &Received) -> Reply {
        let is_bad = (self.is_bad)(number(&publish.payload));
        let (_, seen) = self.note(publish);
        if is_bad {
            return self.reply;
        }
        seen.taken_at.get_or_insert_with(now);
        Reply::Ack
    }

    fn pass_over(&mut self, publish: &Received) {
        self.note(publish);
    }
}

/// The event's number, in whatever format it came.
fn number(payload: &[u8]) -> u32 {
    let text = String::from_utf8_lossy(payload);
    let (_, rest) = text.split_once("\"n\":").expect("every payload has its number");
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|n| n.parse().ok()).expect("a number")
}

async fn connect(gateway: &Gateway) -> Client {
    Client::connect(gateway.mqtt, &CONNECT).await.expect("the gateway accepts")
}

/// Publishes the event, and waits for its PUBACK.
async fn publish(client: &mut Client, topic: &str, n: u32) {
    let (payload, packet_id) = (format!("{{\"n\":{n}}}"), (n % 60_000 + 1) as u16);
    let publish =
        Publish { topic, payload: payload.as_bytes(), qos: 1, packet_id, dup: false, user_properties: &[] };
    client.put_publish(&publish);
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
}

/// One cell of the matrix: an upstream, and the uplink to it.
struct Cell {
    name: String,
    which: Which,
    cloud: Arc<Mutex<Picky>>,
    upstream: Upstream,
    version: Version,
    format: &'static str,
}

impl Cell {
    async fn start(index: usize, reply: Reply, which: Which, version: Version, format: &'static str) -> Self {
        let cloud = Picky::new(move |n| which.names(n), reply);
        let upstream = Upstream::start(cloud.clone()).await;
        let name = format!("cell-{index}");
        Self { name, which, cloud, upstream, version, format }
    }

    fn uplink(&self) -> Uplink {
        let uplink = Uplink::new(&self.upstream.url(), self.version);
        Uplink { name: self.name.clone(), window: WINDOW, format: self.format.into(), ..uplink }
    }

    fn bad(&self) -> usize {
        (0..EVENTS).filter(|n| self.which.names(*n)).count()
    }

    /// What is wrong with it in the end; nothing if all is well.
    fn complaints(&self, gateway: &Gateway) -> Vec<String> {
        let cloud = self.cloud.lock();
        let mut wrong = vec![];
        let good: Vec<u32> = (0..EVENTS).filter(|n| !self.which.names(*n)).collect();
        let missing: Vec<_> =
            good.iter().filter(|n| cloud.seen.get(n).is_none_or(|seen| seen.taken_at.is_none())).collect();
        if !missing.is_empty() {
            wrong.push(format!("not taken: {missing:?}"));
            return wrong;
        }
        let aside = set_aside(gateway, &self.name);
        if aside != self.bad() as f64 {
            wrong.push(format!("{aside} set aside, {} bad", self.bad()));
        }
        if cloud.copies() > 3 * WINDOW {
            wrong.push(format!("{} copies", cloud.copies()));
        }
        wrong.extend(self.late(&cloud.seen));
        wrong
    }

    /// Good events that waited too long behind a bad one.
    fn late(&self, seen: &BTreeMap<u32, Seen>) -> Vec<String> {
        let (mut late, mut since, mut limit) = (vec![], None, FIRST_MAX);
        let mut newest_good = seen[&0].first_at;
        for (n, seen) in seen {
            if self.which.names(*n) {
                // Those behind wait for all that are bad in a row.
                limit += if since.is_some() { LATER_MAX } else { Duration::ZERO };
                since.get_or_insert(newest_good.max(seen.first_at));
                continue;
            }
            let taken_at = seen.taken_at.expect("all good ones were taken");
            let waited = since.map_or(Duration::ZERO, |since| taken_at.saturating_duration_since(since));
            if waited > limit {
                late.push(format!("event {n} waited {waited:.1?}"));
            }
            if taken_at < newest_good {
                late.push(format!("event {n} was taken out of order"));
            }
            newest_good = newest_good.max(taken_at);
            if since.take().is_some() {
                limit = LATER_MAX;
            }
        }
        late
    }
}

fn metric(text: &str, name: &str, uplink: &str) -> Option<f64> {
    let line = text.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(&format!("{{uplink=\"{uplink}\"")))
    });
    line?.rsplit(' ').next()?.parse().ok()
}

fn set_aside(gateway: &Gateway, uplink: &str) -> f64 {
    let (_, text) = gateway.get("/metrics").expect("the HTTP server is there");
    metric(&text, "tidegate_set_aside_events_total", uplink).unwrap_or(0.0)
}

fn backlog(gateway: &Gateway, uplink: &str) -> f64 {
    let (_, text) = gateway.get("/metrics").expect("the HTTP server is there");
    metric(&text, "tidegate_backlog_events", uplink).expect("every uplink has a backlog")
}

async fn matrix() -> Vec<Cell> {
    let everywhere = [Reply::Silence, Reply::Close, Reply::Reset, Reply::Mute];
    let refusals = [0x80, 0x83, 0x87, 0x90, 0x97, 0x99].map(Reply::Refuse);
    let in_5: Vec<Reply> = everywhere.into_iter().chain(refusals).chain([Reply::Disconnect(0x97)]).collect();
    let mut cells = vec![];
    for (version, replies) in [(Version::V311, &everywhere[..]), (Version::V5, &in_5)] {
        for reply in replies {
            for which in [Which::One, Which::EveryTenth, Which::Topic] {
                for format in ["raw", "json"] {
                    cells.push(Cell::start(cells.len(), *reply, which, version, format).await);
                }
            }
        }
    }
    cells
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn good_events_pass_the_bad_ones_whatever_the_upstream_does_about_them_and_none_is_blamed() {
    let cells = matrix().await;
    let mut gateways = vec![];
    for cells in cells.chunks(UPLINKS_MAX) {
        let mut setup = Setup::new(cells[0].uplink());
        setup.uplinks = cells.iter().map(Cell::uplink).collect();
        setup.routes = vec![("#".into(), "json".into())];
        gateways.push((Gateway::start(setup), cells));
    }
    for (gateway, _) in &gateways {
        let mut client = connect(gateway).await;
        for n in 0..EVENTS {
            publish(&mut client, topic(n), n).await;
        }
    }
    wait_for("every uplink to have passed everything", LIMIT, || {
        gateways.iter().all(|(gateway, _)| gateway.metric("tidegate_backlog_events") == 0.0)
    })
    .await;
    let mut wrong = vec![];
    for (gateway, cells) in &gateways {
        for cell in *cells {
            let reply = cell.cloud.lock().reply;
            let of_cell = cell.complaints(gateway);
            let row = (reply, cell.which, cell.version, cell.format);
            eprintln!("{row:?}: {} copies", cell.cloud.lock().copies());
            wrong.extend(of_cell.into_iter().map(|wrong| format!("{row:?}: {wrong}")));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cells:\n{}", wrong.len(), cells.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_event_in_three_thousand_that_is_never_acknowledged_in_mqtt_3_1_1_stops_nothing() {
    const COUNT: u32 = 12_000;
    let cloud = Picky::new(|n| n % 3000 == 1500, Reply::Silence);
    let upstream = Upstream::start(cloud.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let mut client = connect(&gateway).await;
    let begin = now();
    for burst in (0..COUNT).collect::<Vec<_>>().chunks(100) {
        publish_all(&mut client, burst).await;
    }
    wait_for("all good events", LIMIT, || cloud.lock().taken() == COUNT as usize - 4).await;
    wait_for("the bad ones to be set aside", LIMIT, || {
        gateway.metric("tidegate_set_aside_events_total") == 4.0
            && gateway.metric("tidegate_backlog_events") == 0.0
    })
    .await;
    let (elapsed, copies) = (begin.elapsed(), cloud.lock().copies());
    eprintln!("{COUNT} events, 4 of them bad: {elapsed:.1?}, {copies} copies");
    assert!(elapsed < FIRST_MAX + 3 * LATER_MAX && copies < 100, "{elapsed:?}, {copies} copies");
}

/// Publishes at once, and waits for all PUBACKs.
async fn publish_all(client: &mut Client, numbers: &[u32]) {
    for n in numbers {
        let payload = format!("{{\"n\":{n}}}");
        let packet_id = (n % 60_000 + 1) as u16;
        let user_properties = &[];
        let payload = payload.as_bytes();
        client.put_publish(&Publish { topic: "t", payload, qos: 1, packet_id, dup: false, user_properties });
    }
    client.flush().await.expect("the connection is open");
    for _ in numbers {
        assert!(matches!(client.next().await, Packet::Ack { ack: Ack::PubAck, reason: 0, .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_with_a_topic_upon_which_the_upstream_closes_keeps_its_backlog_flat() {
    // Ten times as fast as two good events a second and four bad ones a minute, for a quarter of a
    // minute.
    const EVERY: Duration = Duration::from_millis(50);
    const BAD_EVERY: u32 = 30;
    const COUNT: u32 = 300;
    let cloud = Picky::new(|n| n % BAD_EVERY == 10, Reply::Close);
    let upstream = Upstream::start(cloud.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let mut client = connect(&gateway).await;
    let (mut backlogs, begin) = (vec![], now());
    for n in 0..COUNT {
        tokio::time::sleep_until((begin + EVERY * n).into()).await;
        publish(&mut client, if n % BAD_EVERY == 10 { ODD } else { "t" }, n).await;
        if n % BAD_EVERY == 9 {
            backlogs.push(backlog(&gateway, "cloud"));
        }
    }
    eprintln!("backlogs: {backlogs:?}");
    let flat = f64::from(BAD_EVERY);
    // The first bad event takes some seconds; from then on the topic is known.
    assert!(backlogs[5..].iter().all(|backlog| *backlog < flat), "{backlogs:?}");
    wait_for("all of it", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    let bad = COUNT / BAD_EVERY;
    assert_eq!(set_aside(&gateway, "cloud"), f64::from(bad));
    assert_eq!(cloud.lock().taken(), (COUNT - bad) as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bad_events_that_are_first_in_line_after_a_restart_stop_nothing() {
    let cloud = Picky::new(|n| (5..8).contains(&n), Reply::Close);
    let upstream = Upstream::start(cloud.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let mut client = connect(&gateway).await;
    for n in 0..5 {
        publish(&mut client, "t", n).await;
    }
    wait_for("the first ones", LIMIT, || cloud.lock().taken() == 5).await;
    // Stopped in order, so that the cursor is saved: what was acknowledged is not sent again by
    // itself.
    gateway.terminate();
    let held = std::mem::replace(&mut cloud.lock().reply, Reply::Mute);
    gateway.restart();
    let mut client = connect(&gateway).await;
    for n in 5..12 {
        publish(&mut client, "t", n).await;
    }
    gateway.kill();
    cloud.lock().reply = held;
    let begin = now();
    gateway.restart();
    wait_for("the good ones behind", LIMIT, || cloud.lock().taken() == 9).await;
    eprintln!("three bad events after a restart: {:.1?}", begin.elapsed());
    assert!(begin.elapsed() < FIRST_MAX, "{:?}", begin.elapsed());
    wait_for("all of it", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    assert_eq!(set_aside(&gateway, "cloud"), 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upstream_that_closes_upon_everything_for_a_while_blames_nobody_across_a_restart() {
    let cloud = Picky::new(|_| true, Reply::Close);
    let upstream = Upstream::start(cloud.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let mut client = connect(&gateway).await;
    for n in 0..40 {
        publish(&mut client, topic(n), n).await;
    }
    for rounds in [8.0, 4.0] {
        wait_for("some rounds", LIMIT, || gateway.metric("tidegate_uplink_connects_total") >= rounds).await;
        assert_eq!(set_aside(&gateway, "cloud"), 0.0);
        gateway.kill();
        gateway.restart();
    }
    cloud.lock().is_bad = Box::new(|_| false);
    wait_for("all of it", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    let taken: BTreeSet<u32> = cloud.lock().seen.keys().copied().collect();
    assert_eq!((taken.len(), cloud.lock().taken(), set_aside(&gateway, "cloud")), (40, 40, 0.0));
}

//! The session by table and by mutation, without a store: a list takes the records.

mod endings;
mod hostile;

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    broker::Broker,
    clock,
    mqtt::connect::Refused,
    routing::{Payload, Route},
    store::{Fate, Kind, Record, Refusal},
};

/// What was pushed, as text: one entry per ticket.
#[derive(Debug, Default)]
struct List(Vec<String>);

impl Sink for List {
    fn push(&mut self, r: &Record<'_>) {
        let payload = String::from_utf8_lossy(r.payload);
        self.0.push(format!("{} {:?} {} {payload}", r.client, r.kind, r.topic));
    }
    fn push_exactly_once(&mut self, r: &Record<'_>, packet_id: u16) {
        self.push(r);
        let pushed = self.0.pop().unwrap();
        self.0.push(format!("{pushed} once {packet_id}"));
    }
    fn push_release(&mut self, client: &str, packet_id: u16) {
        self.0.push(format!("{client} release {packet_id}"));
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut left = body.len();
    loop {
        let more = left > 127;
        out.push(left as u8 & 0x7f | u8::from(more) << 7);
        left >>= 7;
        if !more {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn connect(version: Version, id: &str, flags: u8, keep_alive_s: u16) -> Vec<u8> {
    let (level, properties): (u8, &[u8]) = if version == Version::V5 { (5, &[0]) } else { (4, &[]) };
    packet(
        0x10,
        &[&text("MQTT")[..], &[level, flags], &keep_alive_s.to_be_bytes(), properties, &text(id)].concat(),
    )
}

fn publish(version: Version, first: u8, topic: &str, packet_id: u16, payload: &str) -> Vec<u8> {
    let id = if first & 6 == 0 { vec![] } else { packet_id.to_be_bytes().to_vec() };
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(0x30 | first, &[&text(topic)[..], &id, properties, payload.as_bytes()].concat())
}

const NONE: [u8; 0] = [];
const QOS1: u8 = 2;
const QOS2: u8 = 4;
const DUP: u8 = 8;

struct Rig {
    session: Session,
    list: List,
    now: Now,
    appended: usize,
}

impl Rig {
    fn new() -> Self {
        let now = Now { at: clock::monotonic(), wall_ms: 1, steady_ms: 1 };
        let routes = ["s/#", "json/+", "text/+"].map(|filter| Route {
            filter: filter.into(),
            payload: match filter {
                "s/#" => Payload::Opaque,
                "json/+" => Payload::Json,
                _ => Payload::Text,
            },
            urgent: false,
            device_level: None,
        });
        let settings = Settings { inflight_max: 3, routes: routes.into(), ..Settings::default() };
        let settings = Arc::new(settings);
        let mut session = Session::new(settings.clone(), Broker::new(settings.broker()), now);
        session.set_permissions(Permissions::all());
        Rig { session, list: List::default(), now, appended: 0 }
    }

    fn open(version: Version) -> Self {
        Self::open_with(version, &connect(version, "c", 2, 10))
    }

    fn open_with(version: Version, connect: &[u8]) -> Self {
        let mut rig = Rig::new();
        assert_eq!(rig.input(connect), connect.len());
        rig.accept(false);
        assert_eq!(rig.out()[0], 0x20, "{version:?}");
        rig
    }

    fn accept(&mut self, present: bool) {
        let connect = self.session.take_connect().unwrap();
        let client =
            if connect.client_id.is_empty() { "auto".into() } else { connect.client_id.as_str().into() };
        let opening = Opening { present, ..Opening::fresh(client) };
        self.session.accept(self.now, *connect, opening);
    }

    fn input(&mut self, bytes: &[u8]) -> usize {
        self.session.handle_input(self.now, bytes, &mut self.list)
    }

    /// Appends what was pushed, with the index in the list as its ticket.
    fn append(&mut self) {
        self.session.handle_appended(self.appended as u64);
        self.appended = self.list.0.len();
    }

    fn commit(&mut self, committed: u64) -> Vec<u8> {
        self.session.handle_watermark(self.now, Watermark { committed, closed: false });
        self.out()
    }

    fn out(&mut self) -> Vec<u8> {
        let out = self.session.output().to_vec();
        self.session.handle_written(self.now, out.len());
        out
    }

    fn fault(&self) -> Option<Fault> {
        if let Some(End::Fault(fault)) = self.session.end() { Some(fault) } else { None }
    }

    fn wait(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        self.session.handle_timeout(self.now);
    }
}

/// Remaining length of a DISCONNECT with its reason string.
fn rig_reason_bytes(fault: Fault) -> u8 {
    (2 + 3 + fault.to_string().len()) as u8
}

fn connect_with_will(version: Version, topic: &str) -> Vec<u8> {
    let (level, none): (u8, &[u8]) = if version == Version::V5 { (5, &[0]) } else { (4, &[]) };
    let body =
        [&text("MQTT")[..], &[level, 6, 0, 10], none, &text("c"), none, &text(topic), &text("dead")].concat();
    packet(0x10, &body)
}

const BOTH: [Version; 2] = [Version::V311, Version::V5];

#[test]
fn connack_says_what_is_offered() {
    let mut rig = Rig::new();
    rig.input(&connect(Version::V311, "c", 0, 10));
    rig.accept(true);
    assert_eq!(rig.out(), [0x20, 2, 1, 0]);

    let mut rig = Rig::new();
    rig.input(&connect(Version::V5, "", 2, 5000));
    rig.accept(false);
    let connack = rig.out();
    for announced in [
        &[33, 0, 3][..],                                           // receive maximum
        &[37, 1],                                                  // retain available
        &[39, 0, 160, 0, 0],                                       // maximum packet size
        &[34, 0, 16],                                              // topic alias maximum
        &[19, 3600u16.to_be_bytes()[0], 3600u16.to_be_bytes()[1]], // server keep-alive
        b"\x12\x00\x04auto",                                       // assigned client id
    ] {
        assert!(
            connack.windows(announced.len()).any(|window| window == announced),
            "{announced:?} {connack:?}"
        );
    }
}

#[test]
fn a_puback_waits_for_the_watermark_and_for_nothing_else() {
    for version in BOTH {
        let mut rig = Rig::open(version);
        rig.input(&publish(version, QOS1, "s/a", 7, "x"));
        assert_eq!(rig.list.0, ["c Opaque s/a x"]);
        assert_eq!(rig.commit(9), NONE, "not appended, whatever others have committed");
        rig.append();
        assert_eq!(rig.commit(0), NONE);
        rig.input(&packet(0xc0, &[]));
        assert_eq!(rig.out(), [0xd0, 0], "PINGRESP waits for nothing");
        assert_eq!(rig.commit(1), [0x40, 2, 0, 7]);
        assert!(!rig.session.awaits_commit());
    }
}

#[test]
fn acknowledgements_go_out_in_the_order_received_and_with_one_write() {
    let mut rig = Rig::open(Version::V5);
    let five = Version::V5;
    rig.input(
        &[
            publish(five, QOS1, "s/a", 1, ""),
            publish(five, QOS1, "none", 2, ""),
            publish(five, QOS2, "s/b", 3, ""),
        ]
        .concat(),
    );
    rig.append();
    assert_eq!(
        rig.session.take_counts(),
        // CONNECT and CONNACK came before them.
        Counts {
            events: 2,
            bytes: 6,
            publishes: 3,
            other_packets: 1,
            answers: 1,
            unrouted: 1,
            ..Counts::default()
        }
    );
    assert_eq!(rig.commit(0), NONE, "also the one that no route takes keeps its place");
    assert_eq!(rig.commit(2), [0x40, 2, 0, 1, 0x40, 3, 0, 2, 0x10, 0x50, 2, 0, 3]);
    assert_eq!(rig.session.take_events(), [SessionEvent::Unrouted("none".into())]);
}

#[test]
fn qos_2_is_stored_once_and_released_when_durable() {
    for version in BOTH {
        let mut rig = Rig::open(version);
        rig.input(&publish(version, QOS2, "json/a", 5, "{}"));
        rig.input(&publish(version, QOS2 | DUP, "json/a", 5, "{}"));
        rig.append();
        assert_eq!(rig.commit(1), [0x50, 2, 0, 5]);
        rig.input(&publish(version, QOS2 | DUP, "json/a", 5, "{}"));
        rig.append();
        assert_eq!(rig.commit(1), [0x50, 2, 0, 5], "told again, not stored again");
        rig.input(&packet(0x62, &[0, 5]));
        rig.append();
        assert_eq!(rig.list.0, ["c Json json/a {} once 5", "c release 5"]);
        assert_eq!(rig.commit(1), NONE);
        assert_eq!(rig.commit(2), [0x70, 2, 0, 5]);
    }
}

#[test]
fn a_resend_on_the_same_connection_is_stored_once_and_acknowledged_once() {
    let mut rig = Rig::open(Version::V311);
    rig.input(&publish(Version::V311, QOS1, "s/a", 1, "x"));
    rig.append();
    rig.input(&publish(Version::V311, QOS1 | DUP, "s/a", 1, "x"));
    rig.append();
    assert_eq!(rig.list.0.len(), 1);
    assert_eq!(rig.commit(1), [0x40, 2, 0, 1]);
    assert_eq!(rig.session.end(), None);
}

#[test]
fn an_id_used_again_without_dup_loses_no_event() {
    let mut rig = Rig::open(Version::V311);
    rig.input(&publish(Version::V311, QOS1, "s/a", 1, "x"));
    rig.input(&publish(Version::V311, QOS1, "s/a", 1, "y"));
    rig.append();
    assert_eq!(rig.list.0, ["c Opaque s/a x", "c Opaque s/a y"]);
    assert_eq!(rig.session.take_events(), [SessionEvent::PacketIdReused(1)]);
    assert_eq!(rig.commit(1), [0x40, 2, 0, 1]);
    assert_eq!(rig.commit(2), [0x40, 2, 0, 1]);
}

#[test]
fn too_many_in_flight_end_version_5_and_hold_version_3() {
    let many = |version| (1..=4).flat_map(|id| publish(version, QOS1, "s/a", id, "")).collect::<Vec<u8>>();
    let mut rig = Rig::open(Version::V5);
    rig.input(&many(Version::V5));
    assert_eq!(rig.fault(), Some(Fault::ReceiveMaximum));
    assert_eq!(rig.out()[..3], [0xe0, rig_reason_bytes(Fault::ReceiveMaximum), 0x93]);

    let mut rig = Rig::open(Version::V311);
    let bytes = many(Version::V311);
    let taken = rig.input(&bytes);
    assert_eq!(taken, bytes.len() / 4 * 3);
    rig.append();
    assert!(!rig.session.wants_input());
    rig.commit(1);
    assert!(rig.session.wants_input());
    assert_eq!(rig.input(&bytes[taken..]), bytes.len() - taken);
    assert_eq!(rig.list.0.len(), 4);
}

//! Local subscribers without sockets and without a log: sessions on one broker, messages routed by
//! hand.

mod clock_set_later;
mod figures;
mod limits;
mod readers;
mod sessions;
mod subscriptions;
mod ways;
mod wills;

use std::sync::Arc;

use super::{Broker, Message};
use crate::{
    access::Permissions,
    clock::{self, Now},
    ingest::{
        Settings,
        session::{Opening, Session, Sink},
    },
    store::Record,
};

/// Takes records, as the store would, and counts those that somebody waits for.
#[derive(Debug, Default)]
struct Rows(Vec<(String, bool)>, usize);

impl Sink for Rows {
    fn push(&mut self, record: &Record<'_>) {
        self.0.push((record.topic.to_owned(), record.local));
    }
    fn push_exactly_once(&mut self, record: &Record<'_>, _packet_id: u16) {
        self.push(record);
    }
    fn push_release(&mut self, _client: &str, _packet_id: u16) {
        self.0.push((String::new(), false));
    }
    fn hurry(&mut self) {
        self.1 += 1;
    }
}

/// Some clients on one broker.
struct House {
    broker: Broker,
    settings: Arc<Settings>,
    now: Now,
    rows: Rows,
    identity: Arc<str>,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    crate::mqtt::varint::put(body.len(), &mut out);
    out.extend_from_slice(body);
    out
}

fn message(topic: &str, payload: &str, qos: u8, retain: bool) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.into(),
        payload: payload.as_bytes().into(),
        properties: Box::default(),
        publisher: "publisher".into(),
        qos,
        retain,
        received_ms: 1_000_000,
        expiry_s: None,
        command: None,
    })
}

impl House {
    fn new(settings: Settings) -> Self {
        let settings = Arc::new(settings);
        let now = Now { at: clock::monotonic(), wall_ms: 1_000_000, steady_ms: 1_000_000 };
        let identity = "owner".into();
        House { broker: Broker::new(settings.broker()), settings, now, rows: Rows::default(), identity }
    }

    /// Connects with MQTT 5, these CONNECT properties, and gives whether a session was there.
    fn connect_with(&mut self, id: &str, clean: bool, properties: &[u8]) -> (Session, bool) {
        let mut session = Session::new(self.settings.clone(), self.broker.clone(), self.now);
        session.set_permissions(Permissions::all());
        let flags = u8::from(clean) << 1;
        let head = [&text("MQTT")[..], &[5, flags, 0, 0, properties.len() as u8], properties].concat();
        session.handle_input(self.now, &packet(0x10, &[head, text(id)].concat()), &mut self.rows);
        let connect = session.take_connect().unwrap();
        let opening = self.opening(id, clean, connect.session_expiry_s);
        let present = opening.present;
        session.accept(self.now, *connect, opening);
        let connack_bytes = session.output().len();
        session.handle_written(self.now, connack_bytes);
        (session, present)
    }

    fn opening(&self, id: &str, clean: bool, expiry_s: u32) -> Opening {
        let identity = self.identity.clone();
        let resumed = self.broker.resume(&id.into(), &identity, clean, expiry_s, self.now.steady_ms);
        Opening { client: id.into(), identity, present: resumed.present, mailbox: resumed.mailbox }
    }

    /// With a session that is kept for an hour.
    fn connect(&mut self, id: &str) -> Session {
        self.connect_with(id, false, &[0x11, 0, 0, 14, 16]).0
    }

    fn input(&mut self, session: &mut Session, bytes: &[u8]) {
        assert_eq!(session.handle_input(self.now, bytes, &mut self.rows), bytes.len());
        session.handle_appended(0);
    }

    fn subscribe(&mut self, session: &mut Session, filter: &str, options: u8) {
        self.input(session, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[options]].concat()));
        self.save(session);
        let suback = out(session, self.now);
        assert_eq!(suback[..5], [0x90, 4, 0, 9, 0], "{suback:02x?}");
    }

    /// Saves all there is, and tells `session`.
    fn save(&mut self, session: &mut Session) {
        let save = self.broker.gather(u64::MAX);
        self.broker.note_saved(save);
        session.handle_saved(self.now, *self.broker.saved().borrow());
    }

    fn end(&mut self, session: &mut Session) {
        session.handle_lost();
        session.handle_end(self.now, false, &mut self.rows);
    }
}

/// What the client gets now.
fn out(session: &mut Session, now: Now) -> Vec<u8> {
    session.deliver(now);
    let out = session.output().to_vec();
    session.handle_written(now, out.len());
    out
}

/// The PUBLISH packets in `bytes`: first byte, packet id, payload.
fn publishes(mut bytes: &[u8]) -> Vec<(u8, u16, String)> {
    let mut found = vec![];
    while let [first, length, rest @ ..] = bytes {
        let (body, after) = rest.split_at(usize::from(*length));
        if first >> 4 == 3 {
            let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let mut at = 2 + topic_bytes;
            let mut id = 0;
            if first & 6 != 0 {
                id = u16::from_be_bytes([body[at], body[at + 1]]);
                at += 2;
            }
            at += 1 + usize::from(body[at]);
            found.push((*first, id, String::from_utf8(body[at..].to_vec()).unwrap()));
        }
        bytes = after;
    }
    found
}

fn payloads(bytes: &[u8]) -> Vec<String> {
    publishes(bytes).into_iter().map(|(_, _, payload)| payload).collect()
}

#[test]
fn a_message_goes_to_whoever_takes_its_topic_with_the_lesser_qos() {
    let mut house = House::new(Settings::default());
    let (mut a, mut b) = (house.connect("a"), house.connect("b"));
    house.subscribe(&mut a, "x/+", 1);
    house.subscribe(&mut b, "x/#", 0);
    house.broker.route(&message("x/y", "1", 2, false));
    house.broker.route(&message("x", "2", 1, false));
    house.broker.route(&message("z", "3", 1, false));
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x32, 1, "1".to_owned())]);
    assert_eq!(payloads(&out(&mut b, house.now)), ["1", "2"]);
    house.input(&mut b, &packet(0xa2, &[&[0, 9, 0][..], &text("x/#")].concat()));
    house.broker.route(&message("x/y", "4", 1, false));
    assert!(payloads(&out(&mut b, house.now)).is_empty());
}

#[test]
fn overlapping_subscriptions_give_a_copy_for_each_identifier_with_that_one_alone() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    for (id, filter, options) in [(7, "x/#", 0), (9, "x/y", 1), (7, "+/y", 1)] {
        house.input(&mut a, &packet(0x82, &[&[0, 9, 2, 0x0b, id][..], &text(filter), &[options]].concat()));
    }
    house.save(&mut a);
    out(&mut a, house.now);
    house.broker.route(&message("x/y", "1", 1, false));
    let copy = |packet_id, id| [0x32, 11, 0, 3, b'x', b'/', b'y', 0, packet_id, 2, 0x0b, id, b'1'];
    assert_eq!(out(&mut a, house.now), [copy(1, 7), copy(2, 9)].concat());
    // Those without one share a copy, with the greatest QoS of them.
    for (filter, options) in [("#", 0), ("x/+", 1)] {
        house.subscribe(&mut a, filter, options);
    }
    house.broker.route(&message("x/y", "2", 2, false));
    let without = [0x32, 9, 0, 3, b'x', b'/', b'y', 0, 3, 0, b'2'];
    assert!(out(&mut a, house.now).starts_with(&without));
    house.broker.route(&message("x/z", "3", 0, false));
    assert_eq!(payloads(&out(&mut a, house.now)), ["3", "3"], "one for #, and one for x/#");
}

#[test]
fn a_client_without_identifiers_gets_one_copy_however_many_of_its_subscriptions_take_it() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    for (filter, options) in [("x/#", 0), ("x/y", 1), ("#", 0)] {
        house.subscribe(&mut a, filter, options);
    }
    house.broker.route(&message("x/y", "1", 2, false));
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x32, 1, "1".to_owned())]);
}

#[test]
fn no_local_and_retain_as_published_are_kept_to() {
    let mut house = House::new(Settings::default());
    let mut publisher = house.connect("publisher");
    let mut a = house.connect("a");
    house.subscribe(&mut publisher, "x", 4);
    house.subscribe(&mut a, "x", 8);
    house.broker.route(&message("x", "1", 0, true));
    assert!(payloads(&out(&mut publisher, house.now)).is_empty());
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x31, 0, "1".to_owned())]);
}

#[test]
fn retained_messages_come_with_the_subscription_as_its_options_say() {
    let mut house = House::new(Settings::default());
    house.broker.route(&message("x/1", "one", 1, true));
    house.broker.route(&message("x/2", "two", 0, true));
    house.broker.route(&message("x/2", "", 0, true));
    let mut a = house.connect("a");
    let subscribe = |house: &mut House, a: &mut Session, filter: &str, options: u8| {
        house.input(a, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[options]].concat()));
        house.save(a);
        publishes(&out(a, house.now)).len()
    };
    assert_eq!(subscribe(&mut house, &mut a, "x/#", 0x01), 1);
    assert_eq!(subscribe(&mut house, &mut a, "x/#", 0x01), 1, "again, as handling 0 says");
    assert_eq!(subscribe(&mut house, &mut a, "x/#", 0x11), 0, "it was there");
    assert_eq!(subscribe(&mut house, &mut a, "x/1", 0x11), 1, "it is new");
    assert_eq!(subscribe(&mut house, &mut a, "x/+", 0x21), 0);
    assert_eq!(subscribe(&mut house, &mut a, "$share/g/x/1", 1), 0, "shared ones get none");
}

#[test]
fn of_a_shared_subscription_each_message_goes_to_one_member_that_is_there() {
    let mut house = House::new(Settings::default());
    let (mut a, mut b) = (house.connect("a"), house.connect("b"));
    house.subscribe(&mut a, "$share/g/x", 1);
    house.subscribe(&mut b, "$share/g/x", 1);
    for n in 0..10 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
    }
    let (to_a, to_b) = (payloads(&out(&mut a, house.now)), payloads(&out(&mut b, house.now)));
    assert_eq!((to_a.len(), to_b.len()), (5, 5));
    house.end(&mut a);
    for n in 0..4 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
    }
    assert_eq!(payloads(&out(&mut b, house.now)).len(), 4);
}

#[test]
fn receive_maximum_holds_and_an_acknowledgement_makes_room() {
    let mut house = House::new(Settings::default());
    let (mut a, _) = house.connect_with("a", true, &[0x21, 0, 2]);
    house.subscribe(&mut a, "x", 1);
    for n in 0..5 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
    }
    house.broker.route(&message("x", "qos 0", 0, false));
    assert_eq!(payloads(&out(&mut a, house.now)), ["0", "1"]);
    house.input(&mut a, &packet(0x40, &[0, 2]));
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x32, 3, "2".to_owned())]);
    for id in [1, 3] {
        house.input(&mut a, &packet(0x40, &[0, id]));
    }
    assert_eq!(payloads(&out(&mut a, house.now)), ["3", "4"]);
}

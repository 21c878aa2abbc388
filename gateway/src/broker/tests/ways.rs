//! Which way a message goes that no route stores, and that the two ways have one order.

use super::*;
use crate::store::Watermark;

const QOS1: u8 = 2;
const QOS2: u8 = 4;
const RETAIN: u8 = 1;

fn publish(first: u8, topic: &str, id: u8, payload: &str) -> Vec<u8> {
    let id: &[u8] = if first & 6 == 0 { &[] } else { &[0, id] };
    packet(0x30 | first, &[&text(topic), id, &[0], payload.as_bytes()].concat())
}

impl House {
    /// With a session that ends with its connection.
    fn connect_for_now(&mut self, id: &str) -> Session {
        self.connect_with(id, true, &[]).0
    }

    /// Publishes, and gives how many records the store gets for it, how many of these are hurried,
    /// and the answer that comes without a commit.
    fn publish(&mut self, session: &mut Session, publish: &[u8]) -> (usize, usize, Vec<u8>) {
        let before = (self.rows.0.len(), self.rows.1);
        session.handle_input(self.now, publish, &mut self.rows);
        let pushed = self.rows.0.len() - before.0;
        session.handle_appended(before.0 as u64);
        session.handle_watermark(self.now, Watermark { committed: before.0 as u64, closed: false });
        (pushed, self.rows.1 - before.1, out(session, self.now))
    }

    /// What was appended so far is committed and routed.
    fn route_all(&mut self, session: &mut Session) {
        let committed = self.rows.0.len() as u64;
        session.handle_watermark(self.now, Watermark { committed, closed: false });
        self.broker.0.in_log.note_routed(committed);
        out(session, self.now);
    }
}

#[test]
fn what_nobody_keeps_is_passed_on_and_acknowledged_at_once_and_what_somebody_keeps_is_stored() {
    let mut house = House::new(Settings::default());
    let mut publisher = house.connect_for_now("publisher");
    let (mut now, mut kept) = (house.connect_for_now("now"), house.connect("kept"));
    for filter in ["a", "b", "c", "$share/group/d"] {
        house.input(&mut now, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[2]].concat()));
    }
    house.subscribe(&mut kept, "b", 0);
    house.subscribe(&mut kept, "c", 1);
    house.subscribe(&mut kept, "$share/group/d", 2);
    out(&mut now, house.now);
    // Topic and flags; records, those that are hurried, what is answered at once, what comes at
    // once.
    let (nothing, puback, pubrec) = (vec![], vec![0x40, 2, 0, 7], vec![0x50, 2, 0, 7]);
    for (topic, first, wanted, comes) in [
        ("a", 0, (0, 0, nothing.clone()), 1),
        ("a", QOS1, (0, 0, puback.clone()), 1),
        ("a", QOS2, (0, 0, pubrec), 1),
        // It takes it, and would not keep it.
        ("b", QOS1, (0, 0, puback), 1),
        ("c", 0, (0, 0, nothing.clone()), 1),
        ("c", QOS1, (1, 1, nothing.clone()), 0),
        ("c", QOS1 | RETAIN, (1, 1, nothing.clone()), 0),
        ("d", QOS2, (1, 1, nothing.clone()), 0),
        // To be retained: nobody who is there keeps it, so it waits for company.
        ("a", RETAIN, (1, 0, nothing.clone()), 0),
        ("nobody's", RETAIN, (1, 0, nothing), 0),
        ("nobody's", QOS1, (0, 0, vec![0x40, 3, 0, 7, 0x10]), 0),
    ] {
        assert_eq!(house.publish(&mut publisher, &publish(first, topic, 7, "x")), wanted, "{topic} {first}");
        assert_eq!(payloads(&out(&mut now, house.now)).len(), comes, "{topic} {first}");
        house.input(&mut publisher, &packet(0x62, &[0, 7]));
        for id in 1..9 {
            house.input(&mut now, &packet(0x40, &[0, id]));
        }
        house.route_all(&mut publisher);
    }
}

#[test]
fn a_packet_id_that_outlives_its_connection_is_stored_though_nobody_keeps_the_message() {
    let mut house = House::new(Settings::default());
    let (mut publisher, mut now) = (house.connect("publisher"), house.connect_for_now("now"));
    house.subscribe(&mut now, "a", 2);
    assert_eq!(house.publish(&mut publisher, &publish(QOS2, "a", 7, "x")), (1, 1, vec![]));
    assert_eq!(house.publish(&mut publisher, &publish(QOS1, "a", 8, "y")).0, 1, "behind the other");
}

#[test]
fn nothing_overtakes_an_earlier_message_of_its_client_and_topic_in_the_log() {
    let mut house = House::new(Settings::default());
    let (mut publisher, mut other) = (house.connect_for_now("publisher"), house.connect_for_now("other"));
    let mut now = house.connect_for_now("now");
    house.subscribe(&mut now, "+", 1);
    let both = [publish(RETAIN, "a", 0, "1"), publish(0, "a", 0, "2"), publish(0, "b", 0, "3")].concat();
    assert_eq!(house.publish(&mut publisher, &both).0, 2, "also within one batch");
    assert_eq!(payloads(&out(&mut now, house.now)), ["3"], "another topic waits for nothing");
    house.publish(&mut other, &publish(0, "a", 0, "4"));
    assert_eq!(payloads(&out(&mut now, house.now)), ["4"], "nor does another client");
    assert_eq!(house.publish(&mut publisher, &publish(QOS1, "a", 7, "5")), (1, 1, vec![]));
    // Committed is not routed yet.
    publisher.handle_watermark(house.now, Watermark { committed: 9, closed: false });
    assert_eq!(house.publish(&mut publisher, &publish(0, "a", 0, "6")).0, 1);
    house.route_all(&mut publisher);
    assert_eq!(house.publish(&mut publisher, &publish(0, "a", 0, "7")).0, 0);
    assert_eq!(payloads(&out(&mut now, house.now)), ["7"]);
}

#[test]
fn what_a_client_publishes_when_it_is_back_follows_its_will() {
    let mut house = House::new(Settings::default());
    let mut now = house.connect_for_now("now");
    house.subscribe(&mut now, "there", 1);
    let mut device = Session::new(house.settings.clone(), house.broker.clone(), house.now);
    device.set_permissions(Permissions::all());
    // Its will is to be retained.
    let head = [&text("MQTT")[..], &[5, 0x26, 0, 0, 0], &text("device"), &[0]].concat();
    let will = [text("there"), text("away")].concat();
    device.handle_input(house.now, &packet(0x10, &[head, will].concat()), &mut house.rows);
    let connect = device.take_connect().unwrap();
    device.accept(house.now, *connect, Opening::fresh("device".into()));
    house.end(&mut device);
    assert_eq!(house.rows.0, [("there".to_owned(), true)]);
    device.handle_in_log(1);
    let mut device = house.connect_for_now("device");
    assert_eq!(house.publish(&mut device, &publish(0, "there", 0, "there")).0, 1);
    house.route_all(&mut device);
    assert_eq!(house.publish(&mut device, &publish(0, "there", 0, "still there")).0, 0);
}

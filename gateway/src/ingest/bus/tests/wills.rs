//! Wills: when they are published, and what the file says of them until then.

use std::cell::RefCell;

use super::*;
use crate::store::{KeptSessions, SessionChange, StandingWillRow};

/// Connects with MQTT 5 and this will; gives whether the client is told after a save.
fn connect(house: &mut House, expiry_s: u8, delay_s: u8, payload: Option<&str>) -> (Session, bool) {
    let mut session = Session::new(house.settings.clone(), house.bus.clone(), house.now);
    session.set_permit(Permit::all());
    let flags = u8::from(payload.is_some()) << 2;
    let head = [&text("MQTT")[..], &[5, flags, 0, 0, 5, 0x11, 0, 0, 0, expiry_s], &text("w")].concat();
    let will = payload
        .map_or(vec![], |payload| [&[5, 0x18, 0, 0, 0, delay_s][..], &text("will"), &text(payload)].concat());
    session.handle_input(house.now, &packet(0x10, &[head, will].concat()), &mut house.rows);
    let connect = session.take_connect().unwrap();
    let opening = house.opening("w", false, expiry_s.into());
    let save = session.accept(house.now, *connect, opening);
    (session, save.is_some())
}

/// Publishes what is due after so many milliseconds, durable once the watermark has reached 7.
fn published(house: &House, after_ms: u64) -> Vec<String> {
    let payloads = RefCell::new(vec![]);
    house.bus.publish_wills(house.now.steady_ms + after_ms, |will| {
        payloads.borrow_mut().push(String::from_utf8(will.payload.to_vec()).unwrap());
        Some(7)
    });
    payloads.into_inner()
}

const NOTHING: [String; 0] = [];

/// What a save says of wills, with the log durable up to this ticket.
fn saved(house: &House, committed: u64) -> Vec<Option<StandingWillRow>> {
    let save = house.bus.gather(committed);
    let wills = save.changes.iter().filter_map(|change| match change {
        SessionChange::Will(client, row) => {
            assert_eq!(client, "w");
            Some(row.clone())
        }
        _ => None,
    });
    let wills = wills.collect();
    house.bus.note_saved(save);
    wills
}

/// The gateway is started again with what the file says.
fn restart(house: &mut House, row: &StandingWillRow) {
    *house = House::new(Settings::default());
    let wills = vec![("w".to_owned(), row.clone())];
    house.bus.restore(KeptSessions { wills, ..KeptSessions::default() }, house.now.steady_ms, 0);
}

#[test]
fn a_delayed_will_waits_for_its_time_and_not_longer_than_the_session() {
    let mut house = House::new(Settings::default());
    let (mut w, _) = connect(&mut house, 60, 10, Some("1"));
    saved(&house, 0);
    house.end(&mut w);
    assert!(house.bus.is_save_urgent(), "nothing but the file knows of it");
    assert_eq!(published(&house, 9_999), NOTHING);
    let (mut w, _) = connect(&mut house, 60, 10, Some("2"));
    assert_eq!(published(&house, 20_000), NOTHING, "the client came back");
    house.end(&mut w);
    assert_eq!(published(&house, 10_000), ["2"]);
    assert_eq!(published(&house, 20_000), NOTHING, "once");
    let (mut w, _) = connect(&mut house, 60, 200, Some("3"));
    house.end(&mut w);
    assert!(!house.opening("w", true, 60).present);
    assert_eq!(published(&house, 0), ["3"], "the session ends before the delay does");
    let (mut w, _) = connect(&mut house, 60, 200, Some("4"));
    house.end(&mut w);
    assert!(!house.opening("w", true, 60).present);
    let (_w, _) = connect(&mut house, 60, 200, Some("5"));
    assert_eq!(published(&house, 0), ["4"], "the next connection does not take it away");
}

#[test]
fn a_will_is_in_the_file_before_its_client_is_told_and_until_its_record_is_durable() {
    let mut house = House::new(Settings::default());
    let (mut w, waits) = connect(&mut house, 0, 0, Some("1"));
    assert!(waits && house.bus.is_save_urgent());
    assert_eq!(saved(&house, 0).len(), 1);
    w.handle_lost();
    let ending = w.handle_end(house.now, false, &mut house.rows);
    house.bus.will_published(w.client(), &ending.will.unwrap(), 7);
    assert_eq!(saved(&house, 6), [], "a crash now would lose the record");
    let (mut w, waits) = connect(&mut house, 0, 0, Some("1"));
    assert!(!waits, "the file says it still");
    w.handle_lost();
    let ending = w.handle_end(house.now, false, &mut house.rows);
    house.bus.will_published(w.client(), &ending.will.unwrap(), 7);
    assert_eq!(saved(&house, 7), [None]);
    let (mut w, _) = connect(&mut house, 0, 0, Some("2"));
    saved(&house, 0);
    house.input(&mut w, &[0xe0, 0]);
    let ending = w.handle_end(house.now, false, &mut house.rows);
    assert!(ending.will.is_none() && ending.save.is_some(), "a close is the word for it");
    assert_eq!(saved(&house, 0), [None]);
    let (_w, waits) = connect(&mut house, 0, 0, None);
    assert!(!waits);
}

#[test]
fn after_a_restart_a_client_has_its_delay_or_the_grace_to_come_back() {
    for (delay_s, expiry_s, wanted_ms) in
        [(0, 0, 30_000), (10, 60, 30_000), (100, 200, 100_000), (100, 50, 50_000)]
    {
        let mut house = House::new(Settings::default());
        let (mut w, _) = connect(&mut house, expiry_s, delay_s, Some("gone"));
        let row = saved(&house, 0)[0].clone().unwrap();
        w.handle_stop(house.now);
        w.handle_end(house.now, false, &mut house.rows);
        assert_eq!(published(&house, 1_000_000), NOTHING, "a stop publishes none");
        restart(&mut house, &row);
        assert_eq!(published(&house, wanted_ms - 1), NOTHING);
        restart(&mut house, &row);
        assert_eq!(published(&house, wanted_ms), ["gone"]);
        restart(&mut house, &row);
        let (w, waits) = connect(&mut house, 0, delay_s, Some("gone"));
        assert_eq!((waits, published(&house, 1_000_000)), (expiry_s != 0 && delay_s > 0, NOTHING.to_vec()));
        drop(w);
    }
}

#[test]
fn a_will_for_which_there_is_no_room_is_published_all_the_same() {
    let mut house = House::new(Settings::default());
    let large = "x".repeat(60_000);
    for n in 0..75 {
        let client: Arc<str> = n.to_string().into();
        let will = crate::ingest::codec::Will {
            topic: "will".into(),
            payload: large.clone().into_bytes(),
            retain: false,
            qos: crate::ingest::publish::Qos::AtLeastOnce,
            delay_s: 0,
            properties: vec![],
        };
        house.bus.stand_will(&client, Some(&Arc::new(will)), 0);
    }
    let (mut w, _) = connect(&mut house, 60, 10, Some(&large[..100]));
    let rows =
        house.bus.gather(0).changes.iter().filter(|c| matches!(c, SessionChange::Will(_, Some(_)))).count();
    assert!((60..75).contains(&rows), "{rows}");
    house.end(&mut w);
    let due = published(&house, 0).len() + published(&house, 10_000).len();
    assert_eq!(due, 1);
}

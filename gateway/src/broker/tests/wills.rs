//! Wills: when they are published, and what the file says of them until then.

use std::{
    cell::{Cell, RefCell},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use super::*;
use crate::{
    broker::standing_wills::DUE_BYTES_MAX,
    mqtt::{connect::Will, publish::Qos},
    store::{KeptSessions, SessionChange, StandingWillRow},
};

/// Connects with MQTT 5 and this will; gives whether the client is told after a save.
fn connect(house: &mut House, expiry_s: u8, delay_s: u8, payload: Option<&str>) -> (Session, bool) {
    let mut session = Session::new(house.settings.clone(), house.broker.clone(), house.now);
    session.set_permissions(Permissions::all());
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
    house.broker.publish_wills(house.now.steady_ms + after_ms, |will| {
        payloads.borrow_mut().push(String::from_utf8(will.payload.to_vec()).unwrap());
        Some(7)
    });
    payloads.into_inner()
}

const NOTHING: [String; 0] = [];

/// What a save says of wills, with the log durable up to this ticket.
fn saved(house: &House, committed: u64) -> Vec<Option<StandingWillRow>> {
    let save = house.broker.gather(committed);
    let wills = save.changes.iter().filter_map(|change| match change {
        SessionChange::Will(client, row) => {
            assert_eq!(client, "w");
            Some(row.clone())
        }
        _ => None,
    });
    let wills = wills.collect();
    house.broker.note_saved(save);
    wills
}

/// The gateway is started again with what the file says.
fn restart(house: &mut House, row: &StandingWillRow) {
    *house = House::new(Settings::default());
    let wills = vec![("w".to_owned(), row.clone())];
    house.broker.restore(KeptSessions { wills, ..KeptSessions::default() }, house.now.steady_ms, 0);
}

#[test]
fn a_delayed_will_waits_for_its_time_and_not_longer_than_the_session() {
    let mut house = House::new(Settings::default());
    let (mut w, _) = connect(&mut house, 60, 10, Some("1"));
    saved(&house, 0);
    house.end(&mut w);
    assert!(house.broker.is_save_urgent(), "nothing but the file knows of it");
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
    assert!(waits && house.broker.is_save_urgent());
    assert_eq!(saved(&house, 0).len(), 1);
    w.handle_lost();
    let ending = w.handle_end(house.now, false, &mut house.rows);
    house.broker.will_published(w.client(), &ending.will.unwrap(), 7);
    assert_eq!(saved(&house, 6), [], "a crash now would lose the record");
    let (mut w, waits) = connect(&mut house, 0, 0, Some("1"));
    assert!(!waits, "the file says it still");
    w.handle_lost();
    let ending = w.handle_end(house.now, false, &mut house.rows);
    house.broker.will_published(w.client(), &ending.will.unwrap(), 7);
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

fn will(payload: Vec<u8>) -> Arc<Will> {
    let (topic, qos) = ("will".into(), Qos::AtLeastOnce);
    Arc::new(Will { topic, payload, retain: false, qos, delay_s: 0, properties: vec![] })
}

#[test]
fn a_will_for_which_there_is_no_room_is_published_all_the_same() {
    let mut house = House::new(Settings::default());
    let large = "x".repeat(60_000);
    for n in 0..75 {
        house.broker.stand_will(&n.to_string().into(), Some(&will(large.clone().into_bytes())), 0);
    }
    let (mut w, _) = connect(&mut house, 60, 10, Some(&large[..100]));
    let rows = house
        .broker
        .gather(0)
        .changes
        .iter()
        .filter(|c| matches!(c, SessionChange::Will(_, Some(_))))
        .count();
    assert!((60..75).contains(&rows), "{rows}");
    house.end(&mut w);
    let due = published(&house, 0).len() + published(&house, 10_000).len();
    assert_eq!(due, 1);
}

#[test]
fn wills_that_are_due_while_the_store_is_full_wait_up_to_a_bound_and_are_published_then() {
    const BYTES: usize = 100_000;
    let house = House::new(Settings::default());
    let count = 2 * DUE_BYTES_MAX / BYTES;
    for n in 0..count {
        // No file has them: what is not kept.
        house.broker.leave_will(&n.to_string().into(), &will(vec![b'x'; BYTES]), 0);
        house.broker.publish_wills(house.now.steady_ms, |_| None);
    }
    let lost = house.broker.0.counts.wills_lost.load(Ordering::Relaxed) as usize;
    let waiting = published(&house, 0).len();
    assert_eq!(waiting + lost, count, "each is published or counted");
    assert!(waiting * BYTES <= DUE_BYTES_MAX && (waiting + 2) * BYTES > DUE_BYTES_MAX, "{waiting}");
    assert_eq!(published(&house, 0), NOTHING, "once");
    house.broker.leave_will(&"w".into(), &will(vec![b'y'; BYTES]), 0);
    assert_eq!(published(&house, 0).len(), 1, "there is room again");
}

#[test]
fn ten_thousand_wills_that_are_due_at_once_are_published_in_one_go_and_those_that_wait_are_woken_once() {
    let mut house = House::new(Settings::default());
    let (_w, _) = connect(&mut house, 60, 10, Some("1"));
    let row = StandingWillRow { due_ms: Some(0), ..saved(&house, 0)[0].clone().unwrap() };
    let wills = (0..10_000).map(|n| (n.to_string(), row.clone())).collect();
    house.broker.restore(KeptSessions { wills, ..KeptSessions::default() }, house.now.steady_ms, 0);
    let (woken, count) = (house.broker.saved(), Cell::new(0));
    house.broker.publish_wills(house.now.steady_ms, |_| {
        assert!(!woken.has_changed().unwrap(), "woken after {} of them", count.get());
        count.set(count.get() + 1);
        Some(7)
    });
    assert_eq!((count.get(), woken.has_changed().unwrap()), (10_000, true));
    assert_eq!(published(&house, 0), NOTHING, "once");
}

/// Longest wait for a lock that nobody may hold for long.
const LOCK_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn nobody_holds_the_wills_while_it_waits_to_look_at_the_saves() {
    let house = House::new(Settings::default());
    let client: Arc<str> = "c".into();
    let kept = will(vec![b'x'; 10]);
    house.broker.stand_will(&client, Some(&kept), 0);
    // A save is under way that has it: whoever connects with the same will waits for that one.
    let save = house.broker.gather(0);
    let saves = house.broker.saved();
    let looked_at = saves.borrow();
    let (writer, accepting) = (house.broker.clone(), house.broker.clone());
    let ends = [
        // It waits until the saves are not looked at any more, and those that want to look wait
        // behind it.
        thread::spawn(move || writer.note_not_saved()),
        thread::spawn(move || _ = accepting.stand_will(&client, Some(&kept), 0)),
    ];
    // Time for both to come as far as they can. One that is late makes the test pass, never fail.
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(10));
        assert!(house.broker.0.wills.try_lock_for(LOCK_LIMIT).is_some(), "the wills are held");
    }
    drop(looked_at);
    ends.into_iter().for_each(|end| end.join().unwrap());
    house.broker.note_saved(save);
}

#[test]
fn whoever_waits_for_a_save_asks_its_question_while_the_saves_can_go_on() {
    let house = House::new(Settings::default());
    let (broker, asked) = (house.broker.clone(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let waits = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Broker::saved_until(broker.saved(), |_| {
            // As a save that ends just now would: it must not be missed either.
            if count.fetch_add(1, Ordering::Relaxed) < 3 {
                broker.note_not_saved();
            }
            count.load(Ordering::Relaxed) > 3
        }));
    });
    for _ in 0..1000 {
        if waits.is_finished() {
            assert_eq!(asked.load(Ordering::Relaxed), 4);
            return waits.join().unwrap();
        }
        thread::sleep(LOCK_LIMIT / 1000);
    }
    panic!("it waits for itself, asked {} times", asked.load(Ordering::Relaxed));
}

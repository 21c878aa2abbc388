//! What sessions are owed is bounded, acknowledged or not, and what is bounded is theirs alone.

use std::sync::atomic::Ordering;

use super::*;
use crate::{broker::QUEUED_BYTES_MAX, ingest::session::End, mqtt::fault::Fault};

/// Bytes that all sessions are owed.
fn held(house: &House) -> usize {
    let all = house.broker.0.sessions.lock().values().map(|mailbox| mailbox.state().outbound.held().1).sum();
    assert_eq!(house.broker.held_bytes(), all);
    all
}

fn lost(house: &House) -> u64 {
    house.broker.0.counts.queue_full.load(Ordering::Relaxed)
}

/// Takes what the client gets, and acknowledges nothing of it. Gives the bytes.
fn read(session: &mut Session, now: Now) -> usize {
    let mut bytes = 0;
    loop {
        let more = out(session, now).len();
        if more == 0 {
            return bytes;
        }
        bytes += more;
    }
}

#[test]
fn what_is_in_flight_counts_like_what_is_queued() {
    let large = "x".repeat(10_000);
    for (qos, is_read) in [(1, true), (1, false), (2, true), (2, false), (0, false)] {
        let mut house = House::new(Settings { queued_bytes_max: 100_000, ..Settings::default() });
        let mut a = house.connect("a");
        house.subscribe(&mut a, "x", qos);
        for _ in 0..100 {
            house.broker.route(&message("x", &large, qos, false));
            if is_read {
                house.save(&mut a);
                read(&mut a, house.now);
            }
        }
        assert_eq!(lost(&house), 91, "QoS {qos}, read: {is_read}");
        assert!((90_000..=100_000).contains(&held(&house)), "{}", held(&house));
    }
}

#[test]
fn a_session_that_is_owed_nothing_takes_one_message_of_any_size_while_there_is_room_among_all() {
    let large = "x".repeat(5 << 20);
    for qos in [0, 1] {
        let mut house = House::new(Settings::default());
        let mut sessions: Vec<_> = ["a", "b", "c"].map(|id| house.connect(id)).into();
        sessions.iter_mut().for_each(|session| house.subscribe(session, "x", qos));
        house.broker.route(&message("x", &large, qos, false));
        // Two of them are 10 MiB of 12.
        assert_eq!(lost(&house), 1, "QoS {qos}");
        let got =
            sessions.iter_mut().map(|session| read(session, house.now) > large.len()).collect::<Vec<_>>();
        assert_eq!(got.iter().filter(|got| **got).count(), 2, "QoS {qos}: {got:?}");
        // What was not acknowledged keeps its room, and what is written is free.
        house.broker.route(&message("x", &large, qos, false));
        assert_eq!(lost(&house), if qos == 0 { 2 } else { 4 }, "QoS {qos}");
    }
}

#[test]
fn a_large_message_that_is_being_written_keeps_its_room() {
    let large = "x".repeat(5 << 20);
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 0);
    house.broker.route(&message("x", &large, 0, false));
    a.deliver(house.now);
    let head = a.output().len();
    a.handle_written(house.now, head);
    a.handle_written(house.now, 100);
    assert!(held(&house) > large.len());
    house.broker.route(&message("x", &large, 0, false));
    assert_eq!(lost(&house), 1, "not two at a time");
    read(&mut a, house.now);
    house.broker.route(&message("x", "small", 0, false));
    assert_eq!(payloads(&out(&mut a, house.now)), ["small"]);
    assert_eq!(held(&house), 0);
}

#[test]
fn as_many_messages_may_be_in_flight_and_queued_together_as_the_limit_says() {
    let mut house = House::new(Settings { queued_messages_max: 10, ..Settings::default() });
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    for n in 0..20 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
        out(&mut a, house.now);
    }
    assert_eq!(lost(&house), 10);
    (1..=4).for_each(|id| house.input(&mut a, &packet(0x40, &[0, id])));
    for n in 20..30 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
    }
    assert_eq!(payloads(&out(&mut a, house.now)), ["20", "21", "22", "23"], "an acknowledgement makes room");
}

#[test]
fn one_who_acknowledges_nothing_gets_no_more_than_half_its_limit_of_what_is_retained() {
    let mut house = House::new(Settings { queued_bytes_max: 100_000, ..Settings::default() });
    for n in 0..100 {
        house.broker.route(&message(&format!("r/{n:02}"), &"x".repeat(10_000), 1, true));
    }
    let mut a = house.connect("a");
    house.input(&mut a, &packet(0x82, &[&[0, 9, 0][..], &text("r/#"), &[1]].concat()));
    house.save(&mut a);
    for _ in 0..10 {
        read(&mut a, house.now);
        a.handle_saved(house.now, 0);
    }
    assert!((30_000..=50_000).contains(&held(&house)), "{}", held(&house));
    for id in 1..=100 {
        house.input(&mut a, &packet(0x40, &[0, id]));
        read(&mut a, house.now);
    }
    assert_eq!((held(&house), lost(&house)), (0, 0), "all of it came");
    assert_eq!(house.broker.0.counts.delivered.load(Ordering::Relaxed), 100);
}

#[test]
fn however_many_sessions_come_what_all_of_them_are_owed_stays_within_its_limit() {
    const FIRST: usize = 40;
    const MORE: usize = 400;
    let large = message("x", &"x".repeat(20_000), 1, false);
    let mut house = House::new(Settings::default());
    let mut sessions = vec![];
    let mut most = 0;
    for n in 0..FIRST + MORE {
        let mut session = house.connect(&format!("c{n}"));
        house.input(&mut session, &packet(0x82, &[&[0, 9, 0][..], &text("x"), &[1]].concat()));
        sessions.push(session);
        if n == FIRST - 1 {
            for _ in 0..60 {
                house.broker.route(&large);
                // The odd ones read and acknowledge nothing; the even ones do not even read.
                sessions.iter_mut().skip(1).step_by(2).for_each(|session| {
                    read(session, house.now);
                });
            }
            assert!(held(&house) > QUEUED_BYTES_MAX * 9 / 10, "the test does not fill it");
        } else if n % 4 == 0 {
            house.broker.route(&large);
        }
        most = most.max(held(&house));
    }
    assert!(most <= QUEUED_BYTES_MAX, "{most}");
    let mut ended = vec![];
    for (n, session) in sessions.iter_mut().enumerate() {
        read(session, house.now);
        match session.end() {
            None => {}
            Some(End::Fault(Fault::Unacknowledged)) => ended.push(n),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert!(!ended.is_empty() && ended.iter().all(|n| *n < FIRST && n % 2 == 1), "{ended:?}");
    for n in ended {
        house.end(&mut sessions[n]);
        assert!(
            !house.broker.0.sessions.lock().contains_key(format!("c{n}").as_str()),
            "its end does not bring it back"
        );
    }
    assert!(lost(&house) > 0);
}

#[test]
fn a_save_takes_no_memory_for_the_payloads_again() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    let large = message("x", &"x".repeat(100_000), 1, true);
    house.broker.route(&large);
    let holders = Arc::strong_count(&large.payload);
    let save = house.broker.gather(u64::MAX);
    assert_eq!(Arc::strong_count(&large.payload), holders + 2, "owed, and retained");
    drop(save);
}

#[test]
fn a_session_that_is_over_leaves_nothing_behind() {
    let mut house = House::new(Settings::default());
    for qos in [1, 2] {
        let mut a = house.connect("a");
        house.subscribe(&mut a, "x", qos);
        for n in 0..500 {
            house.broker.route(&message("x", &n.to_string(), qos, false));
        }
        house.save(&mut a);
        read(&mut a, house.now);
        assert!(held(&house) > 100_000);
        house.end(&mut a);
        house.now.steady_ms += 3_600_000;
        house.broker.expire_sessions(house.now.steady_ms);
        assert_eq!((held(&house), house.broker.0.subscriber_count.load(Ordering::Relaxed)), (0, 0));
    }
}

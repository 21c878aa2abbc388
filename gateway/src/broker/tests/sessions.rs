//! Sessions: what they are owed, what is saved of them, whose they are.

use super::*;
use crate::{access::name::ANONYMOUS, store::SessionChange};

#[test]
fn what_was_not_acknowledged_comes_again_with_its_packet_id_and_before_all_else() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.broker.route(&message("x", "1", 1, false));
    house.broker.route(&message("x", "2", 1, false));
    assert_eq!(payloads(&out(&mut a, house.now)).len(), 2);
    house.input(&mut a, &packet(0x40, &[0, 1]));
    house.end(&mut a);
    house.broker.route(&message("x", "3", 1, false));
    house.broker.route(&message("x", "lost: QoS 0 is for now", 0, false));
    let (mut a, present) = house.connect_with("a", false, &[]);
    assert!(present);
    let got = publishes(&out(&mut a, house.now));
    assert_eq!(got, [(0x3a, 2, "2".to_owned()), (0x32, 3, "3".to_owned())]);
    house.end(&mut a);
    assert!(!house.connect_with("a", false, &[]).1, "an expiry of 0 ends it with the connection");
}

#[test]
fn a_clean_start_and_the_expiry_end_a_session() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    assert!(!house.connect_with("a", true, &[]).1);
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    house.now.steady_ms += 3_600_000;
    house.broker.expire_sessions(house.now.steady_ms);
    assert!(house.broker.is_idle());
    assert!(!house.connect_with("a", false, &[]).1);
}

#[test]
fn a_step_of_qos_2_waits_until_the_file_has_it_and_no_message_is_delivered_twice() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 2);
    house.broker.route(&message("x", "1", 2, false));
    assert!(out(&mut a, house.now).is_empty(), "sent before it is durable");
    house.save(&mut a);
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x34, 1, "1".to_owned())]);
    house.input(&mut a, &packet(0x50, &[0, 1]));
    assert!(out(&mut a, house.now).is_empty());
    house.save(&mut a);
    assert_eq!(out(&mut a, house.now), [0x62, 2, 0, 1]);
    house.end(&mut a);
    let (mut a, _) = house.connect_with("a", false, &[0x11, 0, 0, 14, 16]);
    assert_eq!(out(&mut a, house.now), [0x62, 2, 0, 1], "PUBREL again");
    house.input(&mut a, &packet(0x70, &[0, 1]));
    house.input(&mut a, &packet(0x50, &[0, 1]));
    assert_eq!(out(&mut a, house.now), [0x62, 3, 0, 1, 0x92], "it knows no such packet id");
}

#[test]
fn what_waits_for_the_file_is_not_sent_for_the_first_time_when_its_time_is_over() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 2);
    for payload in ["sent", "not sent"] {
        let message = Message { expiry_s: Some(2), ..(*message("x", payload, 2, false)).clone() };
        house.broker.route(&Arc::new(message));
        assert!(out(&mut a, house.now).is_empty(), "it waits for the file");
        if payload == "sent" {
            house.save(&mut a);
            assert_eq!(payloads(&out(&mut a, house.now)), ["sent"]);
        }
    }
    house.end(&mut a);
    house.now.steady_ms += 3000;
    let (mut a, _) = house.connect_with("a", false, &[0x11, 0, 0, 14, 16]);
    house.save(&mut a);
    assert_eq!(publishes(&out(&mut a, house.now)), [(0x3c, 1, "sent".to_owned())]);
}

#[test]
fn a_slow_subscriber_loses_its_own_copies_and_nobody_elses() {
    let settings = Settings { queued_messages_max: 3, ..Settings::default() };
    let mut house = House::new(settings);
    let (mut slow, mut quick) = (house.connect("slow"), house.connect("quick"));
    house.subscribe(&mut slow, "x", 1);
    house.subscribe(&mut quick, "x", 1);
    for n in 0..10 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
        assert_eq!(payloads(&out(&mut quick, house.now)).len(), 1);
        house.input(&mut quick, &packet(0x40, &[0, n + 1]));
    }
    assert_eq!(payloads(&out(&mut slow, house.now)), ["0", "1", "2"]);
    assert_eq!(house.broker.0.counts.queue_full.load(std::sync::atomic::Ordering::Relaxed), 7);
}

#[test]
fn what_is_found_in_the_log_at_the_start_takes_no_room_from_what_comes_then() {
    let mut house = House::new(Settings { queued_messages_max: 3, ..Settings::default() });
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    let route = |house: &House, numbers: std::ops::Range<u32>, catches_up: bool| {
        house.broker.0.catches_up.store(catches_up, std::sync::atomic::Ordering::Relaxed);
        for n in numbers {
            house.broker.route(&message("x", &n.to_string(), 1, false));
        }
    };
    route(&house, 0..2, false);
    route(&house, 2..10, true);
    route(&house, 10..15, false);
    let mut a = house.connect("a");
    let got = payloads(&out(&mut a, house.now));
    assert_eq!(got, (0..11).map(|n| n.to_string()).collect::<Vec<_>>(), "of the last five one has room");
    (2..=11).for_each(|id| house.input(&mut a, &packet(0x40, &[0, id])));
    house.end(&mut a);
    route(&house, 20..30, false);
    let mut a = house.connect("a");
    assert_eq!(payloads(&out(&mut a, house.now)), ["0", "20", "21"], "what is in flight counts");
}

#[test]
fn what_is_not_routed_goes_through_the_log_only_if_somebody_keeps_it() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    let publish = |first: u8, topic: &str| {
        let id: &[u8] = if first & 6 == 0 { &[] } else { &[0, 5] };
        packet(first, &[&text(topic)[..], id, &[0], b"1"].concat())
    };
    let mut publisher = house.connect("publisher");
    house.input(&mut publisher, &publish(0x32, "x"));
    assert!(house.rows.0.is_empty());
    assert!(out(&mut publisher, house.now).is_empty());
    publisher.handle_watermark(house.now, Default::default());
    assert_eq!(out(&mut publisher, house.now), [0x40, 3, 0, 5, 0x10], "nobody subscribes");
    house.subscribe(&mut a, "x", 1);
    house.input(&mut publisher, &publish(0x32, "x"));
    assert_eq!(house.rows.0, [("x".to_owned(), true)]);
    house.input(&mut publisher, &publish(0x30, "x"));
    assert_eq!(house.rows.0.len(), 2, "behind the first one");
    house.broker.0.in_log.note_routed(2);
    house.input(&mut publisher, &publish(0x30, "x"));
    assert_eq!(house.rows.0.len(), 2);
    assert_eq!(payloads(&out(&mut a, house.now)), ["1"], "passed on");
    house.input(&mut publisher, &publish(0x33, "y"));
    assert_eq!(house.rows.0[2], ("y".to_owned(), true), "retained");
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "#", 1);
    let publish =
        |topic: &str, alias: u8| packet(0x30, &[&text(topic)[..], &[3, 0x23, 0, alias], b"1"].concat());
    house.input(&mut a, &publish("x", 1));
    house.input(&mut a, &publish("y", 2));
    house.input(&mut a, &publish("", 1));
    house.input(&mut a, &publish("z", 1));
    house.input(&mut a, &publish("", 1));
    let got = out(&mut a, house.now);
    let topics: Vec<_> = got.chunks(7).map(|publish| char::from(publish[4])).collect();
    assert_eq!(topics, ['x', 'y', 'x', 'z', 'z']);
    a.handle_input(house.now, &publish("", 3), &mut house.rows);
    assert!(a.has_ended(), "an alias that stands for nothing");
}

#[test]
fn what_is_kept_comes_back_as_it_was() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.broker.route(&message("x", "1", 1, false));
    out(&mut a, house.now);
    house.end(&mut a);
    house.broker.route(&message("x", "2", 1, false));
    house.broker.route(&message("r", "kept", 1, true));
    let folder = tempfile::tempdir().unwrap();
    let kept = {
        let store = open(folder.path());
        store.view().save_sessions(house.broker.gather(u64::MAX).changes, 77).unwrap();
        store.close();
        let store = open(folder.path());
        let kept = store.view().load_sessions(&crate::clock::reading()).unwrap().unwrap();
        store.close();
        kept
    };
    assert_eq!(kept.position, 77);
    let mut house = House::new(Settings::default());
    house.broker.restore(kept, house.now.steady_ms, 0);
    house.broker.route(&message("x", "3", 1, false));
    let (mut a, present) = house.connect_with("a", false, &[0x11, 0, 0, 14, 16]);
    assert!(present);
    let got = publishes(&out(&mut a, house.now));
    let wanted = [(0x3a, 1, "1"), (0x32, 2, "2"), (0x32, 3, "3")];
    assert_eq!(got, wanted.map(|(first, id, payload)| (first, id, payload.to_owned())));
    house.subscribe(&mut a, "+/q", 1);
    house.input(&mut a, &packet(0xa2, &[&[0, 8, 0][..], &text("+/q")].concat()));
    assert!(out(&mut a, house.now).is_empty(), "its end is not told before it is durable");
    house.save(&mut a);
    assert_eq!(out(&mut a, house.now), [0xb0, 4, 0, 8, 0, 0]);
    house.input(&mut a, &packet(0x82, &[&[0, 9, 0][..], &text("r"), &[1]].concat()));
    house.save(&mut a);
    assert_eq!(payloads(&out(&mut a, house.now)), ["kept"]);
}

fn open(folder: &std::path::Path) -> crate::store::Store {
    let settings = crate::store::Settings {
        segment_bytes: 1 << 20,
        max_bytes: 1 << 30,
        dead_letters_max_bytes: 1 << 20,
        ..crate::store::Settings::new(folder)
    };
    crate::store::Store::open(settings, &[]).unwrap()
}

#[test]
fn what_may_not_be_subscribed_to_is_refused_and_what_may_not_be_any_more_is_not_delivered() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    a.set_permissions(Permissions::of(vec![], vec!["x/#".into(), "y".into()]));
    house.subscribe(&mut a, "x/+", 1);
    house.subscribe(&mut a, "$share/g/y", 1);
    for (filter, options) in [("#", 1), ("+/z", 0), ("$share/g/#", 1), ("z", 2)] {
        house.input(&mut a, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[options]].concat()));
        assert_eq!(out(&mut a, house.now), [0x90, 4, 0, 9, 0, 0x87], "{filter}");
    }
    house.broker.route(&message("x/1", "1", 1, false));
    house.broker.route(&message("y", "2", 1, false));
    a.set_permissions(Permissions::of(vec![], vec!["x/2".into()]));
    assert!(out(&mut a, house.now).is_empty(), "queued before the rules changed");
    house.broker.route(&message("x/2", "3", 1, false));
    assert!(out(&mut a, house.now).is_empty(), "x/+ takes more than is allowed now");
    assert!(house.broker.is_idle());

    house.subscribe(&mut a, "x/2", 1);
    house.end(&mut a);
    house.broker.route(&message("x/2", "4", 1, false));
    let mut a = Session::new(house.settings.clone(), house.broker.clone(), house.now);
    let head = [&text("MQTT")[..], &[5, 0, 0, 0, 0], &text("a")].concat();
    a.handle_input(house.now, &packet(0x10, &head), &mut house.rows);
    let connect = a.take_connect().unwrap();
    a.set_permissions(Permissions::none());
    a.accept(house.now, *connect, house.opening("a", false, 0));
    assert!(publishes(&out(&mut a, house.now)).is_empty(), "a persistent session after revocation");
    assert!(house.broker.is_idle());
}

#[test]
fn a_session_is_its_owners_alone() {
    let mut house = House::new(Settings::default());
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    assert!(!house.broker.is_foreign("a", "owner", house.now.steady_ms));
    assert!(house.broker.is_foreign("a", "mallory", house.now.steady_ms));
    assert!(!house.broker.is_foreign("a", "mallory", house.now.steady_ms + 3_600_000), "it is over");
}

#[test]
fn what_nobody_in_particular_has_left_is_taken_over_by_the_first_who_is_somebody() {
    let mut house = House::new(Settings::default());
    house.identity = ANONYMOUS.into();
    let mut a = house.connect("a");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    assert!(!house.broker.is_foreign("a", "owner", house.now.steady_ms));
    house.identity = "owner".into();
    let (mut a, present) = house.connect_with("a", false, &[0x11, 0, 0, 14, 16]);
    assert!(present, "users are introduced, and nothing is lost");
    house.end(&mut a);
    assert!(house.broker.is_foreign("a", "mallory", house.now.steady_ms));
    assert!(house.broker.is_foreign("a", ANONYMOUS, house.now.steady_ms));
}

#[test]
fn a_save_that_fails_is_made_up_for_by_the_next_which_says_everything() {
    let mut house = House::new(Settings::default());
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (mut a, mut b) = (house.connect("a"), house.connect("b"));
    house.subscribe(&mut a, "x", 2);
    house.subscribe(&mut b, "y", 1);
    house.broker.route(&message("r", "old", 1, true));
    house.broker.route(&message("x", "1", 1, false));
    house.end(&mut b);
    // The file says what was before, and none of what follows.
    store.view().save_sessions(house.broker.gather(u64::MAX).changes, 1).unwrap();
    for n in 0..100 {
        house.broker.route(&message("x", &n.to_string(), 1, false));
        house.broker.route(&message("r", &n.to_string(), 1, true));
        out(&mut a, house.now);
        (1..=250).for_each(|id| house.input(&mut a, &packet(0x40, &[0, id])));
        house.broker.gather(u64::MAX);
        house.broker.note_not_saved();
    }
    assert!(house.opening("b", true, 0).mailbox.is_none());
    house.broker.route(&message("r", "", 1, true));
    house.broker.route(&message("s", "kept", 1, true));
    house.broker.route(&message("x", "last", 2, false));
    assert!(out(&mut a, house.now).is_empty(), "a step of QoS 2 before it is durable");
    let save = house.broker.gather(u64::MAX);
    assert!(save.changes.len() < 10, "it grows with every failure: {:?}", save.changes);
    store.view().save_sessions(save.changes.clone(), 2).unwrap();
    house.broker.note_saved(save);
    assert_eq!(payloads(&out(&mut a, house.now)), ["last"]);
    store.close();
    let store = open(folder.path());
    let kept = store.view().load_sessions(&crate::clock::reading()).unwrap().unwrap();
    let owed: Vec<_> = kept.sessions.iter().map(|(id, _, owed)| (id.as_str(), owed.len())).collect();
    let retained: Vec<_> = kept.retained.iter().map(|row| row.topic.as_str()).collect();
    assert_eq!((owed, retained), (vec![("a", 1)], vec!["s"]));
    store.close();
}

/// What the next save says.
fn changes(house: &House) -> Vec<SessionChange> {
    let save = house.broker.gather(u64::MAX);
    let changes = save.changes.clone();
    house.broker.note_saved(save);
    changes
}

#[test]
fn a_session_is_saved_before_its_client_is_told_and_one_that_comes_back_unchanged_costs_no_save() {
    let mut house = House::new(Settings::default());
    let accept = |house: &mut House, clean: bool, expiry_s: u8| {
        let mut session = Session::new(house.settings.clone(), house.broker.clone(), house.now);
        session.set_permissions(Permissions::all());
        let head = [&text("MQTT")[..], &[5, u8::from(clean) << 1, 0, 0, 5, 0x11, 0, 0, 0, expiry_s]].concat();
        session.handle_input(house.now, &packet(0x10, &[head, text("a")].concat()), &mut house.rows);
        let connect = session.take_connect().unwrap();
        let save = session.accept(house.now, *connect, house.opening("a", clean, expiry_s.into()));
        out(&mut session, house.now);
        (session, save)
    };
    let (mut a, save) = accept(&mut house, false, 200);
    assert!(save.is_some() && house.broker.is_save_urgent(), "it is new");
    assert_eq!(changes(&house).len(), 1);
    house.end(&mut a);
    let (mut a, save) = accept(&mut house, false, 200);
    assert_eq!((save, house.broker.is_save_urgent()), (None, false), "the file says it, connected or not");
    assert!(changes(&house).is_empty(), "and nothing has changed");
    house.end(&mut a);
    let (mut a, save) = accept(&mut house, true, 200);
    assert_eq!(save, None, "a clean start with nothing to be cleaned");
    house.subscribe(&mut a, "x", 1);
    house.end(&mut a);
    assert_eq!(accept(&mut house, false, 200).1, None);
    let (mut a, save) = accept(&mut house, true, 200);
    assert!(save.is_some(), "its subscription is gone, and must not come back");
    changes(&house);
    house.end(&mut a);
    changes(&house);
    house.now.steady_ms += 141_000;
    let (mut a, save) = accept(&mut house, false, 200);
    assert!(save.is_some(), "after a crash now it would be over before the client is back");
    changes(&house);
    house.end(&mut a);
    let (mut a, save) = accept(&mut house, false, 100);
    assert!(save.is_some(), "another expiry");
    changes(&house);
    house.end(&mut a);
    let (mut a, save) = accept(&mut house, false, 0);
    assert!(save.is_some(), "none: a crash must not bring it back");
    assert_eq!(changes(&house), [SessionChange::SessionGone("a".into())]);
    house.end(&mut a);
    assert_eq!(accept(&mut house, false, 0).1, None, "one that is not kept has nothing to be saved");
}

#[test]
fn whose_session_ends_has_its_packet_ids_forgotten_before_it_begins_another() {
    let mut house = House::new(Settings::default());
    let forgotten = |house: &House| -> Vec<String> {
        let mut clients: Vec<_> = house.broker.take_ended().iter().map(ToString::to_string).collect();
        clients.sort();
        clients
    };
    let mut kept = house.connect("kept");
    house.end(&mut kept);
    assert!(forgotten(&house).is_empty());
    house.connect_with("kept", true, &[0x11, 0, 0, 14, 16]);
    assert_eq!(forgotten(&house), ["kept"], "a clean start");
    let mut over = house.connect("over");
    house.end(&mut over);
    house.now.steady_ms += 3_600_000;
    house.broker.expire_sessions(house.now.steady_ms);
    assert_eq!(forgotten(&house), ["over"], "its time is over");
    let (mut short, _) = house.connect_with("short", true, &[]);
    let publish = packet(0x35, &[&text("x")[..], &[0, 5, 0], b"1"].concat());
    house.input(&mut short, &publish);
    house.end(&mut short);
    assert_eq!(forgotten(&house), ["short"], "it ends with its connection");
}

#[test]
fn clients_that_only_come_and_go_end_each_others_sessions_and_nobodys_who_is_owed_something() {
    let mut house = House::new(Settings { sessions_max: 3, ..Settings::default() });
    let mut subscriber = house.connect("subscriber");
    house.subscribe(&mut subscriber, "x", 1);
    house.end(&mut subscriber);
    for n in 0..10 {
        house.now.steady_ms += 1000;
        let mut stranger = house.connect(&format!("stranger {n}"));
        house.end(&mut stranger);
    }
    assert!(house.opening("subscriber", false, 3600).present, "away longest, and owed something");
    assert!(!house.opening("stranger 7", false, 3600).present);
    assert!(house.opening("stranger 9", false, 3600).present);
}

#[test]
fn a_session_that_finds_no_room_ends_with_its_connection_and_an_mqtt_5_client_is_told() {
    let mut house = House::new(Settings { sessions_max: 1, ..Settings::default() });
    let _first = house.connect("first");
    let mut session = Session::new(house.settings.clone(), house.broker.clone(), house.now);
    let head = [&text("MQTT")[..], &[5, 0, 0, 0, 5, 0x11, 0, 0, 0, 9], &text("second")].concat();
    session.handle_input(house.now, &packet(0x10, &head), &mut house.rows);
    let connect = session.take_connect().unwrap();
    assert_eq!(session.accept(house.now, *connect, house.opening("second", false, 9)), None);
    let connack = session.output();
    assert!(connack.windows(5).any(|window| window == [0x11, 0, 0, 0, 0]), "{connack:02x?}");
    house.end(&mut session);
    assert!(!house.opening("second", false, 9).present);
}

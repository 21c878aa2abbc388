//! Refusals, subscriptions, wills, limits, a full store, and how a session ends.

use super::*;
use crate::ingest::{limits::PACKET_BYTES_MAX, session::input::CONNECT_BYTES_MAX};

#[test]
fn what_may_not_come_ends_the_session_by_cause() {
    let alias = packet(0x30, &[&text("s/a")[..], &[3, 0x23, 0, 17]].concat());
    let expiry = packet(0xe0, &[0, 5, 0x11, 0, 0, 0, 9]);
    let second = connect(Version::V5, "c", 2, 0);
    let table: [(&[u8], Fault); 10] = [
        (&second, Fault::Protocol("a second CONNECT")),
        (&publish(Version::V5, 0, "s/#", 0, ""), Fault::Topic),
        (&publish(Version::V5, 0, "", 0, ""), Fault::Protocol("neither a topic nor an alias for one")),
        (&alias, Fault::TopicAlias),
        (&packet(0xf0, &[]), Fault::Protocol("AUTH without an authentication method")),
        (&packet(0x20, &[0, 0, 0]), Fault::Protocol("a packet that a client may not send here")),
        (&packet(0xc1, &[]), Fault::Malformed("reserved header flags")),
        (
            &[0x30, 0xff, 0xff, 0xff, 0x7f],
            Fault::PacketTooLarge { bytes: 5 + 0xfff_ffff, bytes_max: PACKET_BYTES_MAX },
        ),
        (&packet(0x82, &[0, 1, 0]), Fault::Protocol("a field or property that is not allowed there")),
        (&expiry, Fault::Protocol("a session expiry in DISCONNECT and none in CONNECT")),
    ];
    for (bytes, fault) in table {
        let mut rig = Rig::open(Version::V5);
        rig.input(bytes);
        assert_eq!(rig.fault(), Some(fault), "{bytes:02x?}");
        let out = rig.out();
        assert_eq!((out[0], out[2]), (0xe0, fault.disconnect_code().unwrap()));
        let mut rig = Rig::open(Version::V311);
        rig.input(&packet(0x30, b"\0\x01#"));
        assert_eq!(rig.out(), NONE, "3.1.1 is only closed");
        assert!(rig.session.has_ended());
    }
}

#[test]
fn a_client_that_is_not_known_yet_gets_no_room_for_a_large_packet() {
    let mut rig = Rig::new();
    // 256 KiB, with the header.
    rig.input(&[0x10, 0xfc, 0xff, 0x0f]);
    assert_eq!((rig.fault(), rig.session.incoming_bytes()), (None, CONNECT_BYTES_MAX));
    let mut rig = Rig::new();
    rig.input(&[0x10, 0xfd, 0xff, 0x0f]);
    let bytes = CONNECT_BYTES_MAX + 1;
    assert_eq!(rig.fault(), Some(Fault::PacketTooLarge { bytes, bytes_max: CONNECT_BYTES_MAX }));
    let mut rig = Rig::open(Version::V311);
    rig.input(&[0x30, 0xfd, 0xff, 0x0f]);
    assert_eq!((rig.fault(), rig.session.incoming_bytes()), (None, bytes));
}

#[test]
fn refused_connects_are_told_in_their_version() {
    let refuse = |bytes: &[u8]| {
        let mut rig = Rig::new();
        rig.input(bytes);
        (rig.fault(), rig.out())
    };
    let level =
        |name: &str, level: u8| packet(0x10, &[&text(name)[..], &[level, 2, 0, 0], &text("c")].concat());
    assert_eq!(refuse(&level("MQIsdp", 4)), (Some(Fault::Version(4)), vec![0x20, 2, 0, 1]));
    assert_eq!(refuse(&level("MQTT", 3)), (Some(Fault::Version(3)), vec![0x20, 2, 0, 1]));
    let (fault, out) = refuse(&level("MQTT", 6));
    assert_eq!((fault, out[0], out[3]), (Some(Fault::Version(6)), 0x20, 0x84));
    assert_eq!(refuse(&level("HTTP", 1)), (Some(Fault::NotConnect), vec![]));
    assert_eq!(refuse(b"GET / HTTP/1.1\r\n\r\n"), (Some(Fault::NotConnect), vec![]));
    assert_eq!(refuse(&packet(0xc0, &[])), (Some(Fault::NotConnect), vec![]));
    let long = "x".repeat(1025);
    assert_eq!(refuse(&connect(Version::V311, &long, 2, 0)), (Some(Fault::ClientId), vec![0x20, 2, 0, 2]));
    let (fault, out) = refuse(&connect(Version::V5, &long, 2, 0));
    assert_eq!((fault, out[3]), (Some(Fault::ClientId), 0x85));
    for (flags, what) in [
        (1, "reserved connect flags"),
        (0x18 | 4, "reserved connect flags"),
        (0x20, "will flags without a will"),
    ] {
        let (fault, out) = refuse(&connect(Version::V5, "c", flags, 0));
        assert_eq!((fault, out[3]), (Some(Fault::Malformed(what)), 0x81));
    }
    let auth = [&text("MQTT")[..], &[5, 2, 0, 0, 6, 0x15, 0, 3, b'a', b'b', b'c'], &text("c")].concat();
    let (fault, out) = refuse(&packet(0x10, &auth));
    assert_eq!((fault, out[3]), (Some(Fault::Authentication), 0x8c));

    let mut rig = Rig::new();
    rig.input(&connect(Version::V311, "c", 2, 0));
    rig.session.refuse(
        rig.now,
        Refused { version: Version::V311, fault: Fault::Busy, packet_bytes_max: usize::MAX },
    );
    assert_eq!(rig.out(), [0x20, 2, 0, 3]);
}

#[test]
fn user_name_and_password_are_taken_also_a_lone_password_on_version_5() {
    let body = |flags, tail: &[u8]| {
        packet(0x10, &[&text("MQTT")[..], &[5, flags, 0, 0, 0], &text("c"), tail].concat())
    };
    Rig::open_with(Version::V5, &body(0xc2, &[text("u"), text("p")].concat()));
    Rig::open_with(Version::V5, &body(0x42, &text("p")));
    let mut rig = Rig::new();
    rig.input(&body(0x42, &[0, 9, b'p']));
    assert_eq!(rig.fault(), Some(Fault::Malformed("the password is cut short")));
}

#[test]
fn each_filter_of_a_subscription_is_answered() {
    let mut rig = Rig::open(Version::V311);
    rig.input(&packet(0x82, &[&[0, 9][..], &text("a/#"), &[1], &text("b#"), &[0]].concat()));
    assert_eq!(rig.out(), [0x90, 4, 0, 9, 1, 0x80]);
    rig.input(&packet(0xa2, &[&[0, 9][..], &text("a/#")].concat()));
    assert_eq!(rig.out(), [0xb0, 2, 0, 9]);

    let mut rig = Rig::open(Version::V5);
    rig.input(&packet(0x82, &[&[0, 9, 0][..], &text("a/#"), &[1], &text("a/#/b"), &[0]].concat()));
    assert_eq!(rig.out(), [0x90, 5, 0, 9, 0, 1, 0x8f]);
    rig.input(&packet(0xa2, &[&[0, 9, 0][..], &text("a/#"), &text("a/#"), &text("a#")].concat()));
    assert_eq!(rig.out(), [0xb0, 6, 0, 9, 0, 0, 0x11, 0x8f]);
}

#[test]
fn a_will_is_stored_unless_the_client_takes_its_leave_or_the_gateway_stops() {
    let lost = |rig: &mut Rig| rig.session.handle_lost();
    let taken = |rig: &mut Rig| rig.session.fail(rig.now, Fault::TakenOver);
    let leave = |rig: &mut Rig| {
        rig.input(&packet(0xe0, &[]));
    };
    let leave_with_will = |rig: &mut Rig| {
        rig.input(&packet(0xe0, &[4]));
    };
    let stop = |rig: &mut Rig| rig.session.handle_stop(rig.now);
    type Ending = fn(&mut Rig);
    let table: [(Version, Ending, bool); 6] = [
        (Version::V311, lost, true),
        (Version::V5, taken, true),
        (Version::V311, leave, false),
        (Version::V5, leave, false),
        (Version::V5, leave_with_will, true),
        (Version::V5, stop, false),
    ];
    for (i, (version, ending, stored)) in table.into_iter().enumerate() {
        let mut rig = Rig::open_with(version, &connect_with_will(version, "s/will"));
        ending(&mut rig);
        rig.session.handle_end(rig.now, false, &mut rig.list);
        let wanted: &[&str] = if stored { &["c Opaque s/will dead"] } else { &[] };
        assert_eq!(rig.list.0, wanted, "{i}");
    }
    let mut rig = Rig::new();
    rig.input(&connect_with_will(Version::V5, "s/#"));
    assert_eq!((rig.fault(), rig.out()[3]), (Some(Fault::Topic), 0x90));
}

#[test]
fn time_limits_end_a_session_and_a_full_intake_is_not_the_clients_fault() {
    let mut rig = Rig::new();
    rig.input(&[0x10]);
    rig.wait(9);
    assert_eq!(rig.fault(), None);
    rig.wait(1);
    assert_eq!(rig.fault(), Some(Fault::ConnectTimeout));

    let mut rig = Rig::open(Version::V5);
    rig.wait(14);
    rig.input(&packet(0xc0, &[]));
    rig.out();
    rig.wait(14);
    assert_eq!(rig.fault(), None);
    rig.session.set_blocked(rig.now, true);
    rig.wait(100);
    assert_eq!(rig.fault(), None, "it is the gateway that does not read");
    rig.session.set_blocked(rig.now, false);
    rig.wait(15);
    assert_eq!((rig.fault(), rig.out()[2]), (Some(Fault::KeepAlive), 0x8d));

    let mut rig = Rig::open_with(Version::V311, &connect(Version::V311, "c", 2, 0));
    rig.wait(1_000_000);
    assert_eq!(rig.fault(), None, "a keep-alive of 0 is none");
    rig.input(&packet(0xc0, &[]));
    rig.wait(30);
    assert_eq!(rig.fault(), Some(Fault::WriteTimeout));
    assert_eq!(rig.session.output(), NONE);
}

#[test]
fn a_full_store_is_told_to_version_5_by_quality_of_service() {
    let (v5, gone, freed) = (Version::V5, Fate::Gone, Fate::Freed);
    let table: [(&[u8], &[Fate], &[u8]); 5] = [
        (&publish(v5, QOS1, "s/a", 1, ""), &[gone], &[0x40, 3, 0, 1, 0x97]),
        (&publish(v5, QOS2, "s/a", 1, ""), &[freed], &[0x50, 3, 0, 1, 0x97]),
        (&publish(v5, 0, "s/a", 0, ""), &[gone], &NONE),
        (&publish(v5, QOS1, "none", 1, ""), &[], &[0x40, 3, 0, 1, 0x10]),
        (
            &[publish(v5, QOS1, "s/a", 1, ""), publish(v5, QOS1 | DUP, "s/a", 1, "")].concat(),
            &[gone],
            &[0x40, 3, 0, 1, 0x97],
        ),
    ];
    for (bytes, fates, wanted) in table {
        let mut rig = Rig::open(v5);
        rig.input(bytes);
        let tickets: Vec<(u64, Fate)> = (0..).zip(fates.iter().copied()).collect();
        let events = tickets.len() as u64;
        rig.session.handle_refused(&Refusal { tickets, events });
        rig.append();
        assert_eq!(rig.commit(1), wanted, "{bytes:02x?}");
        assert_eq!(rig.session.take_counts().refused_events, events);
        // Free again: it is a new publish, no PUBREL in between.
        rig.input(&publish(v5, QOS2, "s/b", 1, ""));
        rig.append();
        assert_eq!(rig.commit(9), [0x50, 2, 0, 1]);
    }
}

#[test]
fn a_refused_batch_keeps_its_releases_and_the_order_of_its_replies() {
    let v5 = Version::V5;
    let mut rig = Rig::open(v5);
    rig.input(&publish(v5, QOS2, "s/a", 5, ""));
    rig.append();
    assert_eq!(rig.commit(1), [0x50, 2, 0, 5]);
    let batch = [
        publish(v5, QOS1, "s/a", 1, ""),
        packet(0x62, &[0, 5]),
        publish(v5, QOS1, "s/kept", 2, ""),
        publish(v5, 0, "s/a", 0, ""),
    ];
    rig.input(&batch.concat());
    let tickets = vec![(0, Fate::Gone), (3, Fate::Gone)];
    rig.session.handle_refused(&Refusal { tickets, events: 2 });
    rig.append();
    assert_eq!(rig.commit(1), [0x40, 3, 0, 1, 0x97], "the release is not durable");
    assert_eq!(rig.commit(2), [0x70, 2, 0, 5]);
    assert_eq!(rig.commit(3), [0x40, 2, 0, 2]);
    assert!(!rig.session.has_staged() && !rig.session.awaits_commit());
}

#[test]
fn a_batch_is_not_held_for_ever() {
    for version in BOTH {
        let mut rig = Rig::open_with(version, &connect(version, "c", 2, 0));
        let almost = BLOCKED_MAX.as_secs() - 1;
        for _ in 0..2 {
            rig.session.set_blocked(rig.now, true);
            rig.wait(almost);
            rig.session.set_blocked(rig.now, false);
            rig.wait(almost);
            assert_eq!(rig.fault(), None, "held anew");
        }
        rig.session.set_blocked(rig.now, true);
        rig.wait(almost);
        rig.session.set_blocked(rig.now, true);
        rig.wait(1);
        assert_eq!(rig.fault(), Some(Fault::NoRoom));
        let told: &[u8] = if version == Version::V5 { &[0xe0, 0x97] } else { &[] };
        let out = rig.out();
        assert_eq!(out.iter().step_by(2).take(2).copied().collect::<Vec<_>>(), told);
    }
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let mut rig = Rig::open(Version::V5);
    let pings = packet(0xc0, &[]).repeat(OUT_BYTES_MAX);
    let taken = rig.input(&pings);
    assert_eq!(taken, OUT_BYTES_MAX);
    assert!(!rig.session.wants_input());
    rig.out();
    assert!(rig.session.wants_input());
}

#[test]
fn a_closed_store_acknowledges_nothing_more() {
    let mut rig = Rig::open(Version::V5);
    rig.input(&[publish(Version::V5, QOS1, "s/a", 1, ""), publish(Version::V5, QOS1, "s/a", 2, "")].concat());
    rig.append();
    rig.session.handle_watermark(rig.now, Watermark { committed: 1, closed: true });
    let out = rig.out();
    assert_eq!(out[..4], [0x40, 2, 0, 1]);
    assert_eq!((out[4], out[6]), (0xe0, 0x97));
    assert_eq!(rig.commit(2), NONE, "not even if it is said to be durable later");
}

#[test]
fn a_stop_waits_for_what_is_owed() {
    let mut rig = Rig::open(Version::V5);
    rig.input(&publish(Version::V5, QOS1, "s/a", 1, ""));
    rig.append();
    rig.session.handle_stop(rig.now);
    assert_eq!((rig.session.end(), rig.session.wants_input()), (None, false));
    let out = rig.commit(1);
    assert_eq!(out[..4], [0x40, 2, 0, 1]);
    assert_eq!((out[4], out[6], rig.fault()), (0xe0, 0x8b, Some(Fault::Stopping)));
}

#[test]
fn a_frame_topic_stores_what_is_no_frame_and_counts_it() {
    let mut rig = Rig::open(Version::V5);
    rig.input(&publish(Version::V5, QOS1, "tg/a/e", 1, "no frame"));
    assert_eq!(rig.list.0, ["c Opaque tg/a/e no frame"]);
    assert_eq!(rig.session.take_counts().malformed_frames, 1);
    assert_eq!(Kind::Opaque as u8, 2);
}

#[test]
fn what_is_no_text_on_a_route_for_text_is_stored_counted_and_told_once() {
    let mut rig = Rig::open(Version::V5);
    let bytes = |packet_id| {
        let id = [&text("text/a")[..], &[0, packet_id, 0], b"21 \xb0C"].concat();
        packet(0x30 | QOS1, &id)
    };
    let good = publish(Version::V5, QOS1, "text/a", 3, "21 \u{b0}C");
    rig.input(&[bytes(1), bytes(2), good].concat());
    assert_eq!(rig.list.0.len(), 3);
    assert!(rig.list.0.iter().all(|line| line.starts_with("c Text text/a 21 ")), "{:?}", rig.list.0);
    assert_eq!(rig.session.take_counts().malformed_texts, 2);
    assert_eq!(rig.session.take_events(), [SessionEvent::NoText("text/a".into())]);
}

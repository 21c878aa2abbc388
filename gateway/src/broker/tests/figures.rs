//! What the gateway says of itself: made while somebody looks, and for nobody else.

use super::{House, message, out, packet, text};
use crate::ingest::{Settings, session::Session};

const SECOND_MS: u64 = 1_000;

/// Topics of the PUBLISH packets of QoS 0 in these bytes, with their retain flags.
fn topics(mut bytes: &[u8]) -> Vec<(String, bool)> {
    let mut found = vec![];
    while let [first, length, 0, topic_bytes, rest @ ..] = bytes {
        let topic = String::from_utf8(rest[..usize::from(*topic_bytes)].to_vec()).unwrap();
        found.push((topic, first & 1 != 0));
        bytes = &bytes[2 + usize::from(*length)..];
    }
    found
}

/// What comes behind the SUBACK.
fn subscribe(house: &mut House, session: &mut Session, filter: &str) -> Vec<(String, bool)> {
    house.input(session, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[0]].concat()));
    house.save(session);
    let (mut came, suback) = (out(session, house.now), [0x90, 4, 0, 9, 0, 0]);
    let at = came.windows(suback.len()).position(|bytes| bytes == suback).unwrap();
    came.drain(at..at + suback.len());
    topics(&came)
}

#[test]
fn the_figures_are_made_for_those_who_subscribe_to_them_and_never_while_nobody_does() {
    let mut house = House::new(Settings::default());
    let mut all = house.connect("all");
    house.subscribe(&mut all, "#", 0);
    for second in 0..60 {
        house.broker.say_figures(house.now.steady_ms + second * SECOND_MS);
    }
    let made = |house: &House| house.broker.0.tree.read().retained_for("$SYS/#", None).count();
    assert_eq!(made(&house), 0);

    let mut check = house.connect("check");
    let at_once = subscribe(&mut house, &mut check, "$SYS/broker/#");
    assert_eq!(made(&house), 12);
    assert!(at_once.len() == 12 && at_once.iter().all(|(_, is_retained)| *is_retained), "{at_once:?}");
    let mut said = vec![];
    for second in 60..90 {
        house.broker.say_figures(house.now.steady_ms + second * SECOND_MS);
        said.push(topics(&out(&mut check, house.now)).len());
    }
    assert_eq!(said.iter().sum::<usize>(), 3 * 12, "every ten seconds: {said:?}");
    assert_eq!(topics(&out(&mut all, house.now)), [], "a wildcard in the first level takes none");
    assert_eq!(house.broker.0.tree.read().retained.len(), 0, "nor are they saved");
}

#[test]
fn what_bridges_retain_beside_the_figures_comes_with_them_in_the_order_of_the_topics() {
    let mut house = House::new(Settings::default());
    let bridge = "$SYS/broker/connection/barn/state";
    house.broker.route(&message(bridge, "1", 0, true));
    let mut check = house.connect("check");
    let at_once = subscribe(&mut house, &mut check, "$SYS/#");
    let found: Vec<_> = at_once.into_iter().map(|(topic, _)| topic).collect();
    assert!(found.len() == 13 && found.is_sorted() && found.iter().any(|topic| topic == bridge), "{found:?}");
}

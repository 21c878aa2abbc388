//! What subscriptions may take in memory, all sessions together.

use super::{House, out, packet, text};
use crate::{
    broker::SUBSCRIPTIONS_BYTES_MAX,
    ingest::{Settings, session::Session},
};

/// 64 levels, as long as a filter may be, and nobody else's.
fn long_filter(number: usize) -> String {
    let levels: Vec<_> = (0..64).map(|level| format!("{number:06}-{level:02}-long")).collect();
    levels.join("/")
}

impl House {
    /// The SUBACK's code.
    fn try_to_subscribe(&mut self, session: &mut Session, filter: &str) -> u8 {
        self.input(session, &packet(0x82, &[&[0, 9, 0][..], &text(filter), &[1]].concat()));
        self.save(session);
        *out(session, self.now).last().unwrap()
    }
}

#[test]
fn subscriptions_take_so_many_bytes_at_most_all_sessions_together_and_give_them_back() {
    let mut house = House::new(Settings::default());
    let mut sessions = vec![];
    let mut stood = 0;
    let refused = loop {
        let mut session = house.connect(&format!("hoarder-{}", sessions.len()));
        let codes: Vec<_> =
            (0..100).map(|n| house.try_to_subscribe(&mut session, &long_filter(stood + n))).collect();
        stood += codes.iter().filter(|code| **code == 1).count();
        sessions.push(session);
        if let Some(refused) = codes.into_iter().find(|code| *code != 1) {
            break refused;
        }
    };
    assert_eq!(refused, 0x97, "quota exceeded");
    // Each takes more than its thousand bytes, so far fewer stand.
    assert!(stood < SUBSCRIPTIONS_BYTES_MAX / 20_000, "{stood} subscriptions stand");
    let used = house.broker.0.tree.read().bytes_with("#");
    assert!((SUBSCRIPTIONS_BYTES_MAX * 9 / 10..=SUBSCRIPTIONS_BYTES_MAX).contains(&used), "{used} bytes");
    // A subscription that is there may be changed all the same.
    assert_eq!(house.try_to_subscribe(&mut sessions[0], &long_filter(0)), 1);

    let all: Vec<_> = house.broker.0.sessions.lock().values().cloned().collect();
    for session in all {
        house.broker.end(&session);
    }
    assert!(house.broker.0.tree.read().bytes_with("#") < 1000, "all of it is free again");
    let mut late = house.connect("late");
    assert_eq!(house.try_to_subscribe(&mut late, &long_filter(1)), 1);
}

#[test]
fn a_session_has_so_many_subscriptions_at_most() {
    let mut house = House::new(Settings { subscriptions_max: 2, ..Settings::default() });
    let mut session = house.connect("s");
    for (filter, code) in [("a", 1), ("b", 1), ("c", 0x97), ("b", 1)] {
        assert_eq!(house.try_to_subscribe(&mut session, filter), code, "{filter}");
    }
}

//! What consumers of the log hold of it, by their names.
//!
//! ```text
//!   uplinks have it ─▶ may be deleted, unless a consumer has not saved what it made of it ─▶ its hold
//!                                            └ the room is needed ─▶ the hold is in the way: save, or let go
//! ```
//! A consumer follows the log and saves what it made of it, with its position. What lies behind
//! that position is not deleted because the uplinks have it, or a crash would lose what the
//! consumer made of it. A consumer that is not there holds nothing.
//!
//! Limits: one hold for each consumer, which are as many as the gateway starts.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// The consumer that knows the devices. What it saves is in `fleet.redb`.
pub const FLEET: &str = "fleet";
/// The consumer that serves local subscribers. What it saves is in `sessions.redb`.
pub const LOCAL_SUBSCRIBERS: &str = "local subscribers";

/// All holds.
#[derive(Debug, Default)]
pub struct Holds(Mutex<BTreeMap<&'static str, Hold>>);

/// Up to where the log may be deleted although every uplink has it.
#[derive(Debug, Clone, Copy)]
struct Hold {
    offset: u64,
    is_in_the_way: bool,
}

impl Holds {
    /// From now on nothing behind `offset` is deleted because it is delivered.
    pub fn set(&self, consumer: &'static str, offset: u64) {
        self.0.lock().insert(consumer, Hold { offset, is_in_the_way: false });
    }

    /// Up to where what is delivered may be deleted.
    pub fn offset(&self) -> u64 {
        self.0.lock().values().map(|hold| hold.offset).min().unwrap_or(u64::MAX)
    }

    /// Says that the room is needed which lies behind a hold and before `delivered`.
    pub fn ask(&self, delivered: u64) {
        for hold in self.0.lock().values_mut().filter(|hold| delivered > hold.offset) {
            hold.is_in_the_way = true;
        }
    }

    /// Whether the consumer was asked to move its hold since it was set.
    pub fn is_in_the_way(&self, consumer: &str) -> bool {
        self.0.lock().get(consumer).is_some_and(|hold| hold.is_in_the_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_farthest_behind_counts_and_each_consumer_is_asked_for_its_own() {
        let holds = Holds::default();
        assert_eq!((holds.offset(), holds.is_in_the_way("a")), (u64::MAX, false));
        holds.set("a", 5);
        holds.set("b", 9);
        holds.ask(7);
        assert_eq!((holds.offset(), holds.is_in_the_way("a"), holds.is_in_the_way("b")), (5, true, false));
        holds.set("a", 7);
        assert_eq!((holds.offset(), holds.is_in_the_way("a")), (7, false));
    }
}

//! Whether a device is there, by what was heard of it. Pure.
//!
//! ```text
//!  birth, online ──▶ online ──nothing for SILENT_AFTER_MS──▶ silent
//!  sleeping ───────▶ sleeping until its next contact ──overdue──▶ silent
//!  stopping, the last will ──▶ offline
//! ```
//! What is said is ordered by the boot it is of, and within a boot by the connection: a last will
//! that the gateway publishes for a connection which another has followed says nothing of now.
//! Boots are ordered by when they were first heard live, for a device without storage begins with a
//! random number. A boot that was never heard live is taken for newer only if its number is higher.

use serde::{Deserialize, Serialize};
use tidegate_protocol::State;

use crate::clock::Moment;

/// A device that is online and says nothing for so long is silent, in milliseconds.
pub const SILENT_AFTER_MS: i64 = 900_000;
/// A device that sleeps may be late by a part in this of its sleep, and by [`LATE_MS_MIN`].
const LATE_PART: i64 = 10;
/// See [`LATE_PART`]; in milliseconds.
const LATE_MS_MIN: i64 = 30_000;

/// Whether a device is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// It said nothing of itself yet.
    Unknown,
    /// It is connected.
    Online,
    /// It is away and will be back.
    Sleeping,
    /// Its connection ended, or it said that it stops.
    Offline,
    /// It should have been heard of.
    Silent,
}

/// What was said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Of which boot.
    pub boot: u32,
    /// Of which of its connections.
    pub connection: u32,
    /// [`State`], as on the wire.
    state: u8,
    next_contact_s: Option<u32>,
    at: Option<Moment>,
}

impl Said {
    /// Something that was said.
    #[must_use]
    pub fn new(
        (boot, connection): (u32, u32),
        state: State,
        next_contact_s: Option<u32>,
        at: Option<Moment>,
    ) -> Self {
        Self { boot, connection, state: state.number(), next_contact_s, at }
    }

    /// Whether `next` is of now, and not of a connection that another has followed.
    #[must_use]
    pub fn is_before(&self, next: &Self, is_birth: bool, was_heard_live: bool) -> bool {
        if next.boot == self.boot {
            return next.connection >= self.connection;
        }
        !was_heard_live && (is_birth || next.boot > self.boot)
    }

    /// What it means at `now`, if the device was heard last at `heard`.
    #[must_use]
    pub fn presence(&self, heard: Option<Moment>, now: Option<Moment>) -> Presence {
        // Of two boots of the gateway's machine nothing can be said.
        let since = |at: Option<Moment>| {
            let (at, now) = (at?, now?);
            (at.axis == now.axis).then(|| now.boot_ms - at.boot_ms)
        };
        match State::from_number(self.state) {
            Some(State::Online) if since(heard).is_some_and(|ms| ms > SILENT_AFTER_MS) => Presence::Silent,
            Some(State::Online) => Presence::Online,
            Some(State::Sleeping) => match (self.next_contact_s, since(self.at)) {
                (Some(seconds), Some(ms)) if ms > due_ms(seconds) => Presence::Silent,
                _ => Presence::Sleeping,
            },
            _ => Presence::Offline,
        }
    }

    /// When it will be heard of again, if it said so.
    #[must_use]
    pub fn next_contact(&self) -> Option<Moment> {
        let (at, seconds) = (self.at?, self.next_contact_s?);
        Some(Moment { boot_ms: at.boot_ms + i64::from(seconds) * 1000, ..at })
    }
}

fn due_ms(seconds: u32) -> i64 {
    let ms = i64::from(seconds) * 1000;
    ms + (ms / LATE_PART).max(LATE_MS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(boot: u32, connection: u32, state: State) -> Said {
        Said::new((boot, connection), state, Some(60), at(0))
    }

    fn at(boot_ms: i64) -> Option<Moment> {
        Some(Moment { axis: 1, boot_ms })
    }

    #[test]
    fn a_will_of_a_connection_that_another_followed_says_nothing() {
        let now = said(5, 3, State::Online);
        for (boot, connection, is_birth, was_live, is_news) in [
            (5, 3, false, true, true),
            (5, 2, false, true, false),
            (5, 4, false, true, true),
            (4, 9, false, true, false),
            (6, 1, false, false, true),
            (4, 9, false, false, false),
            (4, 1, true, false, true),
            (9, 1, false, true, false),
        ] {
            let next = said(boot, connection, State::Offline);
            assert_eq!(now.is_before(&next, is_birth, was_live), is_news, "{boot}/{connection}");
        }
    }

    #[test]
    fn who_is_overdue_is_silent_and_who_said_so_is_not() {
        for (state, ms, presence) in [
            (State::Online, SILENT_AFTER_MS, Presence::Online),
            (State::Online, SILENT_AFTER_MS + 1, Presence::Silent),
            (State::Sleeping, 90_000, Presence::Sleeping),
            (State::Sleeping, 90_001, Presence::Silent),
            (State::Stopping, 1, Presence::Offline),
            (State::Offline, i64::MAX / 2, Presence::Offline),
        ] {
            assert_eq!(said(1, 1, state).presence(at(0), at(ms)), presence, "{state:?} {ms}");
        }
        let elsewhere = Some(Moment { axis: 2, boot_ms: i64::MAX / 2 });
        assert_eq!(said(1, 1, State::Online).presence(at(0), elsewhere), Presence::Online);
        assert_eq!(said(1, 1, State::Sleeping).next_contact(), at(60_000));
    }
}

//! Why an uplink has no connection, since when, and when the next try is: one type, made once for
//! each failure, from which the log, `status`, `/api` and `/readyz?verbose` have the same words.
//!
//! ```text
//!  a connection failed ─▶ Outage ─┬─▶ log           as it happens
//!                                 └─▶ Health ─▶ /api ─▶ status, /readyz?verbose    as it is looked at
//! ```
//! Limits: [`WHY_BYTES_MAX`] of what the upstream and the system said. It reads no clock, and
//! escapes nothing: whoever shows it makes it printable, as any text from outside.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::pki::date;

/// Longest cause that is kept, in bytes: that of a name with many addresses, none of which answers.
pub const WHY_BYTES_MAX: usize = 1024;
/// 9999-12-31T23:59:59Z: no date is written behind it.
const LAST_DATE_S: u64 = 253_402_300_799;

/// Why there is no connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// Which step failed, what is wrong with it, and what to do.
    pub why: String,
    /// Since when there is no connection, wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// When the next try is, wall clock, milliseconds since 1970; past while one is under way.
    pub next_try_ms: u64,
}

impl Outage {
    /// An outage for this reason, as far as there is room for it.
    #[must_use]
    pub fn new(mut why: String, since_ms: u64, next_try_ms: u64) -> Self {
        if why.len() > WHY_BYTES_MAX {
            why.truncate(why.floor_char_boundary(WHY_BYTES_MAX));
            why += "...";
        }
        Self { why, since_ms, next_try_ms }
    }

    /// All of it in words, as it is at `now_ms` by the wall clock.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> String {
        let again = match self.next_try_ms.checked_sub(now_ms) {
            None | Some(0) => "trying again now".to_owned(),
            Some(ms) => format!("trying again in {}", Span(Duration::from_millis(ms))),
        };
        let Self { why, since_ms, .. } = self;
        match now_ms.saturating_sub(*since_ms) {
            0..1000 => format!("{why}; {again}"),
            _ => format!("{why}; no connection {}; {again}", lasting(*since_ms, now_ms)),
        }
    }
}

/// For how long something is so, and since when.
#[must_use]
pub fn lasting(since_ms: u64, now_ms: u64) -> String {
    let span = Span(Duration::from_millis(now_ms.saturating_sub(since_ms)));
    format!("for {span}, since {}", date((since_ms / 1000).min(LAST_DATE_S)))
}

/// A time in words: milliseconds below a second, else whole seconds, minutes, hours or days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0.as_millis(), self.0.as_secs());
        match (ms, s) {
            (0..1000, _) => write!(f, "{ms} ms"),
            (_, 0..120) => write!(f, "{s} s"),
            (_, 120..7200) => write!(f, "{} min", s / 60),
            (_, 7200..172_800) => write!(f, "{} h", s / 3600),
            _ => write!(f, "{} days", s / 86_400),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T20:31:02Z
    const SINCE_MS: u64 = 1_796_070_662_000;

    #[test]
    fn an_outage_says_why_since_when_and_when_the_next_try_is() {
        let outage = |next_ms| Outage::new("refused".into(), SINCE_MS, SINCE_MS + next_ms);
        for (next_ms, now_ms, words) in [
            (0, 0, "refused; trying again now"),
            (340, 0, "refused; trying again in 340 ms"),
            (1_999, 999, "refused; trying again in 1 s"),
            (
                59_900,
                1_000,
                "refused; no connection for 1 s, since 2026-11-30T20:31:02Z; trying again in 58 s",
            ),
            (
                200_000,
                190_000,
                "refused; no connection for 3 min, since 2026-11-30T20:31:02Z; trying again in 10 s",
            ),
            (5_000, 9_000, "refused; no connection for 9 s, since 2026-11-30T20:31:02Z; trying again now"),
            (8_000_000, 0, "refused; trying again in 2 h"),
        ] {
            assert_eq!(outage(next_ms).at(SINCE_MS + now_ms), words);
        }
        // A clock that was set back.
        assert_eq!(outage(1_000).at(SINCE_MS - 500), "refused; trying again in 1 s");
        assert!(
            Outage::new(String::new(), u64::MAX - 5000, 0)
                .at(u64::MAX)
                .contains("since 9999-12-31T23:59:59Z")
        );
    }

    #[test]
    fn a_long_cause_is_cut() {
        let why = Outage::new("ö".repeat(100_000), 0, 0).why;
        assert!(why.len() <= WHY_BYTES_MAX + 3 && why.ends_with("ö..."), "{} bytes", why.len());
    }
}

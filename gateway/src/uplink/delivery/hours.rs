//! The hours in which an uplink sends. Pure: the time is an argument.
//!
//! ```text
//!  send = "02:00-05:00"     ────┤02:00▒▒▒▒▒▒▒05:00├────────────────────▶ local time
//!  send = "22:00-06:00"     ▒▒▒▒▒▒06:00├──────────────────┤22:00▒▒▒▒▒▒▒▒
//! ```
//! While the wall clock was never set nobody knows the hour, and it sends: events must not wait for
//! a clock that may never be right.

use std::{fmt, time::Duration};

use crate::clock::{
    journal::WALL_SET_MS_MIN,
    zone::{self, Zone},
};

const DAY_MIN: u32 = 24 * 60;
/// The clock is looked at again after so long at the most: somebody may set it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// From an hour to another one, each day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    /// Minutes after midnight.
    from_min: u32,
    to_min: u32,
    /// By whose clocks; by UTC if that cannot be found out.
    zone: Option<Zone>,
}

/// Whether it sends now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does, and is to look again after this time.
    Open(Duration),
    /// It does not, and is to look again after this time.
    Closed(Duration),
}

impl Hours {
    /// Reads `02:00-05:00`, by the clocks of this zone, or of UTC.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn parse(text: &str, zone: Option<Zone>) -> Result<Self, String> {
        let how = || format!("\"{text}\" are no hours; write them like \"02:00-05:00\", in local time");
        let minutes = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let are_digits =
                [hour, minute].iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit()));
            let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
            let is_time = minute < 60 && (hour < 24 || (hour, minute) == (24, 0));
            (are_digits && is_time).then_some(hour * 60 + minute)
        };
        let (from, to) = text.split_once('-').ok_or_else(how)?;
        let (from_min, to_min) = (minutes(from).ok_or_else(how)?, minutes(to).ok_or_else(how)?);
        if from_min % DAY_MIN == to_min % DAY_MIN {
            return Err(format!(
                "\"{text}\" are no hours or all of them; take the key out to send at any time"
            ));
        }
        Ok(Self { from_min, to_min, zone })
    }

    /// Whether it sends at this time, in milliseconds since 1970.
    #[must_use]
    pub fn state(&self, wall_ms: u64) -> State {
        if wall_ms < WALL_SET_MS_MIN as u64 {
            return State::Open(LOOK_EVERY);
        }
        let (is_open, left) = self.left(wall_ms);
        let look = left.min(LOOK_EVERY);
        if is_open { State::Open(look) } else { State::Closed(look) }
    }

    /// When it sends next, if it does not at this time, in milliseconds since 1970.
    #[must_use]
    pub fn opens_ms(&self, wall_ms: u64) -> u64 {
        match self.left(wall_ms) {
            (true, _) => wall_ms,
            (false, left) => wall_ms - wall_ms % 1000 + left.as_millis() as u64,
        }
    }

    /// Whether it sends at this time, and how long that stays so.
    fn left(&self, wall_ms: u64) -> (bool, Duration) {
        let utc_s = (wall_ms / 1000) as i64;
        let local_s = utc_s + self.ahead_s(utc_s);
        let second = local_s.rem_euclid(i64::from(DAY_MIN) * 60) as u32;
        let (from, to) = (self.from_min * 60, self.to_min * 60);
        let is_open = match from < to {
            true => (from..to).contains(&second),
            false => second >= from || second < to,
        };
        let next = if is_open { to } else { from };
        let left = (next + DAY_MIN * 60 - second - 1) % (DAY_MIN * 60) + 1;
        (is_open, Duration::from_secs(left.into()))
    }

    /// By whose clocks they are, and what that is at this time.
    #[must_use]
    pub fn clocks(&self, wall_ms: u64) -> String {
        let ahead_min = self.ahead_s((wall_ms / 1000) as i64) / 60;
        let sign = if ahead_min < 0 { '-' } else { '+' };
        let (hour, minute) = (ahead_min.abs() / 60, ahead_min.abs() % 60);
        match self.zone {
            Some(_) => format!("local time by {}, which is UTC{sign}{hour:02}:{minute:02} now", zone::FILE),
            None => format!("UTC, for {} has no time zone", zone::FILE),
        }
    }

    fn ahead_s(&self, utc_s: i64) -> i64 {
        self.zone.unwrap_or_default().ahead_s(utc_s)
    }
}

impl fmt::Display for Hours {
    /// As they are typed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_min, self.to_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30, a Monday, in UTC.
    fn at(hour: u64, minute: u64, second: u64) -> u64 {
        (20_787 * 24 * 3600 + hour * 3600 + minute * 60 + second) * 1000
    }

    #[test]
    fn it_sends_within_its_hours_and_over_midnight() {
        let (open, closed) = (State::Open, State::Closed);
        let s = Duration::from_secs;
        for (hours, time, state) in [
            ("02:00-05:00", at(1, 59, 59), closed(s(1))),
            ("02:00-05:00", at(2, 0, 0), open(s(60))),
            ("02:00-05:00", at(4, 59, 30), open(s(30))),
            ("02:00-05:00", at(5, 0, 0), closed(s(60))),
            ("22:30-06:00", at(22, 29, 50), closed(s(10))),
            ("22:30-06:00", at(23, 59, 59), open(s(60))),
            ("22:30-06:00", at(5, 59, 59), open(s(1))),
            ("00:00-12:00", at(23, 59, 58), closed(s(2))),
            ("12:00-24:00", at(23, 59, 58), open(s(2))),
            ("02:00-05:00", 5, open(s(60))),
        ] {
            for zone in [None, Some(Zone::default())] {
                let read = Hours::parse(hours, zone).unwrap();
                assert_eq!((read.state(time), read.to_string()), (state, hours.to_owned()), "at {time}");
            }
        }
    }

    #[test]
    fn it_says_by_whose_clocks_it_sends() {
        let zone = |rule| Zone::parse(rule).unwrap();
        for (zone, clocks) in [
            (
                Some(zone("CET-1CEST,M3.5.0,M10.5.0/3")),
                "local time by /etc/localtime, which is UTC+01:00 now",
            ),
            (Some(zone("<-0330>3:30")), "local time by /etc/localtime, which is UTC-03:30 now"),
            (Some(zone("UTC0")), "local time by /etc/localtime, which is UTC+00:00 now"),
            (None, "UTC, for /etc/localtime has no time zone"),
        ] {
            let hours = Hours::parse("02:00-05:00", zone).unwrap();
            assert_eq!(hours.clocks(at(2, 0, 0)), clocks);
        }
    }

    #[test]
    fn what_is_no_hours_is_refused() {
        for text in
            ["", "2-5", "02:00", "2:00-05:00", "02:60-05:00", "25:00-05:00", "24:01-05:00", "+2:00-05:00"]
        {
            assert!(Hours::parse(text, None).unwrap_err().contains("are no hours"), "{text}");
        }
        assert!(Hours::parse("02:00-02:00", None).unwrap_err().contains("all of them"));
        assert!(Hours::parse("00:00-24:00", None).is_err());
    }
}

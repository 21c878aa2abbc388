//! The time zone of this machine: what its clocks on the wall are ahead of UTC, now and in years to
//! come. Pure, but for [`Zone::of_this_machine`].
//!
//! ```text
//!  /etc/localtime (TZif) ─ last line ─▶ CET-1CEST,M3.5.0,M10.5.0/3 ─▶ offset at a time
//! ```
//! The last line of a TZif file is the rule for all times behind the table in it, which is the rule
//! of now (RFC 8536 section 3.3). The table is of the past, and not read.
//!
//! It knows no names of zones and no leap seconds.

use std::path::Path;

/// Where Linux says which zone it is in.
pub const FILE: &str = "/etc/localtime";
/// A longer file is no time zone.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const DAY_S: i64 = 24 * 3600;

/// A rule for the offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone {
    /// Ahead of UTC in winter, in seconds.
    standard_s: i64,
    summer: Option<Summer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summer {
    /// Ahead of UTC, in seconds.
    ahead_s: i64,
    from: Change,
    to: Change,
}

/// When the offset changes: a day, and seconds into it by the clock until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    day: Day,
    at_s: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Day {
    /// The nth weekday of a month, 5 for the last; Sunday is 0.
    Weekday { month: i64, nth: i64, weekday: i64 },
    /// A day of the year from 1; a 29th of February is not counted.
    Julian(i64),
    /// A day of the year from 0.
    Ordinal(i64),
}

impl Zone {
    /// The zone that this machine is set to, if that can be read.
    #[must_use]
    pub fn of_this_machine() -> Option<Self> {
        let is_short = |path: &Path| path.metadata().is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let path = Path::new(FILE);
        let bytes = if is_short(path) { std::fs::read(path).unwrap_or_default() } else { Vec::new() };
        Self::of_file(&bytes)
    }

    fn of_file(bytes: &[u8]) -> Option<Self> {
        let text = bytes.strip_prefix(b"TZif").and(bytes.strip_suffix(b"\n"))?;
        let line = text.rsplit(|byte| *byte == b'\n').next()?;
        Self::parse(std::str::from_utf8(line).ok()?)
    }

    /// Reads a rule as POSIX writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text);
        rest.name()?;
        let standard_s = -rest.time()?;
        if rest.0.is_empty() {
            return Some(Self { standard_s, summer: None });
        }
        rest.name()?;
        let ahead_s = if rest.0.starts_with(',') { standard_s + 3600 } else { -rest.time()? };
        let (from, to) = (rest.change()?, rest.change()?);
        rest.0.is_empty().then_some(Self { standard_s, summer: Some(Summer { ahead_s, from, to }) })
    }

    /// How many seconds it is ahead of UTC at this time, in seconds since 1970.
    #[must_use]
    pub fn ahead_s(&self, utc_s: i64) -> i64 {
        let Some(summer) = self.summer else { return self.standard_s };
        let year = year_of((utc_s + self.standard_s).div_euclid(DAY_S));
        let from_s = summer.from.local_s(year) - self.standard_s;
        let to_s = summer.to.local_s(year) - summer.ahead_s;
        // South of the equator summer lies around the new year.
        let is_summer = match from_s <= to_s {
            true => from_s <= utc_s && utc_s < to_s,
            false => utc_s < to_s || from_s <= utc_s,
        };
        if is_summer { summer.ahead_s } else { self.standard_s }
    }
}

impl Change {
    /// When it is in this year, in seconds since 1970 by the clock until then.
    fn local_s(self, year: i64) -> i64 {
        let first = days_to(year, 1, 1);
        let day = match self.day {
            Day::Ordinal(day) => first + day,
            Day::Julian(day) => {
                let is_leap = days_to(year, 3, 1) - first == 60;
                first + day - 1 + i64::from(is_leap && day >= 60)
            }
            Day::Weekday { month, nth, weekday } => {
                let first = days_to(year, month, 1);
                // 1970 began on a Thursday.
                let found = first + (weekday - (first + 4)).rem_euclid(7) + (nth - 1) * 7;
                let end = if month == 12 { days_to(year + 1, 1, 1) } else { days_to(year, month + 1, 1) };
                if found >= end { found - 7 } else { found }
            }
        };
        day * DAY_S + self.at_s
    }
}

/// Days from 1970 to a day of the calendar.
fn days_to(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March end with the day that some have more.
    let year = if month <= 2 { year - 1 } else { year };
    let (century, in_century) = (year.div_euclid(400), year.rem_euclid(400));
    let in_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    century * 146_097 + in_century * 365 + in_century / 4 - in_century / 100 + in_year - 719_468
}

/// The year of a day since 1970.
fn year_of(day: i64) -> i64 {
    let guess = 1970 + day.div_euclid(366);
    (guess..).take_while(|year| days_to(*year, 1, 1) <= day).last().unwrap_or(guess)
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl Rest<'_> {
    fn skip(&mut self, what: char) -> Option<()> {
        self.0 = self.0.strip_prefix(what)?;
        Some(())
    }

    /// `CET` or `<+03>`.
    fn name(&mut self) -> Option<()> {
        if self.skip('<').is_some() {
            self.0 = self.0.split_once('>')?.1;
            return Some(());
        }
        let end = self.0.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.0.len());
        self.0 = &self.0[end..];
        (end >= 3).then_some(())
    }

    fn number(&mut self) -> Option<i64> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        digits.parse().ok().filter(|number| *number < 1000)
    }

    /// `[+-]hh[:mm[:ss]]`, in seconds.
    fn time(&mut self) -> Option<i64> {
        let sign = if self.skip('-').is_some() { -1 } else { 1 };
        let _ = self.skip('+');
        let mut seconds = self.number()? * 3600;
        for unit in [60, 1] {
            if self.skip(':').is_none() {
                break;
            }
            seconds += self.number()? * unit;
        }
        Some(sign * seconds)
    }

    /// `,M3.5.0/2`, `,J60` or `,59`.
    fn change(&mut self) -> Option<Change> {
        self.skip(',')?;
        let day = if self.skip('M').is_some() {
            let month = self.number()?;
            self.skip('.')?;
            let nth = self.number()?;
            self.skip('.')?;
            let weekday = self.number()?;
            let is_valid = (1..=12).contains(&month) && (1..=5).contains(&nth) && weekday <= 6;
            is_valid.then_some(Day::Weekday { month, nth, weekday })?
        } else if self.skip('J').is_some() {
            Day::Julian(self.number()?)
        } else {
            Day::Ordinal(self.number()?)
        };
        let at_s = if self.skip('/').is_some() { self.time()? } else { 2 * 3600 };
        Some(Change { day, at_s })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

    /// As `date -u -d … +%s` says.
    #[test]
    fn offsets_are_those_of_the_zones() {
        let h = 3600;
        for (rule, utc_s, ahead_s, why) in [
            ("UTC0", 1_796_000_000, 0, "no rule"),
            ("<+0545>-5:45", 1_796_000_000, 5 * h + 45 * 60, "a name in brackets"),
            (BERLIN, 1_774_745_999, h, "2026-03-29 00:59:59"),
            (BERLIN, 1_774_746_000, 2 * h, "2026-03-29 01:00:00"),
            (BERLIN, 1_792_889_999, 2 * h, "2026-10-25 00:59:59"),
            (BERLIN, 1_792_890_000, h, "2026-10-25 01:00:00"),
            (BERLIN, 1_798_761_600, h, "2027-01-01 00:00:00"),
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_199, -5 * h, "2026-03-08 06:59:59"),
            ("EST5EDT,M3.2.0,M11.1.0", 1_772_953_200, -4 * h, "2026-03-08 07:00:00"),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_767_225_600, 11 * h, "summer at the new year"),
            ("AEST-10AEDT,M10.1.0,M4.1.0/3", 1_782_864_000, 10 * h, "winter in July"),
            ("IST-1GMT0,M10.5.0,M3.5.0/1", 1_782_864_000, h, "summer time is the standard"),
        ] {
            let zone = Zone::parse(rule).unwrap();
            assert_eq!(zone.ahead_s(utc_s), ahead_s, "{rule} at {why}");
        }
    }

    #[test]
    fn the_calendar_is_the_calendar() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (1969, 12, 31, -1),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (2026, 11, 30, 20_787),
            (2100, 3, 1, 47_541),
        ] {
            assert_eq!(days_to(year, month, day), days, "{year}-{month}-{day}");
        }
        for (day, year) in [(0, 1970), (-1, 1969), (364, 1970), (365, 1971), (20_787, 2026), (47_541, 2100)] {
            assert_eq!(year_of(day), year, "{day}");
        }
    }

    #[test]
    fn the_last_line_of_a_file_is_the_rule_and_what_cannot_be_read_is_no_zone() {
        let file = [&b"TZif2\0\0\n\0\0table\n"[..], BERLIN.as_bytes(), b"\n"].concat();
        assert_eq!(Zone::of_file(&file), Zone::parse(BERLIN));
        for bytes in
            [&b""[..], b"TZif", b"TZif2\n\n", b"CET-1\n", b"TZif2\nCE-1\n", b"TZif2\nCET-1CEST,M13.1.0,1\n"]
        {
            assert_eq!(Zone::of_file(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_rule_makes_a_reader_panic(text in "[A-Z<>0-9:,./MJ+-]{0,40}", utc_s in -1i64 << 40..1 << 40) {
            if let Some(zone) = Zone::parse(&text) {
                prop_assert!(zone.ahead_s(utc_s).abs() < 1000 * 3600 * 2);
            }
        }
    }
}

//! Points of time as people write them: RFC 3339, a day, or an age such as `2h`.
//!
//! A time without a zone is UTC. It reads no clock: an age counts back from the `now` that it is
//! given.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of `2026-11-24`.
const DAY_BYTES: usize = 10;
/// Bytes of `+01:00`.
const ZONE_BYTES: usize = 6;

/// How a time is written, for help and for errors.
pub(super) const HOW: &str =
    "write it like \"2026-11-24T08:00:00Z\" (RFC 3339), \"2026-11-24\", or as an age like \"2h\"";

/// The time in milliseconds since 1970.
///
/// # Errors
/// A sentence that says what was read and how it is written.
pub(super) fn parse(text: &str, now_ms: u64) -> Result<u64, String> {
    let how = || format!("\"{text}\" is no time; {HOW}");
    if let Ok(age) = humantime::parse_duration(text) {
        let age_ms = u64::try_from(age.as_millis()).map_err(|_| how())?;
        return Ok(now_ms.saturating_sub(age_ms));
    }
    let (local, ahead_s) = zone(text).ok_or_else(how)?;
    let whole = if local.len() == DAY_BYTES { format!("{local}T00:00:00") } else { local.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).map_err(|_| how())?;
    let ms = time.duration_since(UNIX_EPOCH).map_err(|_| how())?.as_millis() as i64 - ahead_s * 1000;
    u64::try_from(ms).map_err(|_| how())
}

/// `2026-11-24T08:00:00Z`, from milliseconds since 1970.
pub(super) fn show(ms: u64) -> String {
    match UNIX_EPOCH.checked_add(Duration::from_millis(ms)).filter(|time| *time < end_of_years()) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{ms} ms"),
    }
}

/// The text without its zone, and how many seconds the zone is ahead of UTC.
fn zone(text: &str) -> Option<(&str, i64)> {
    if !text.is_ascii() {
        return None;
    }
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Some((local, 0));
    }
    let Some(at) = text.len().checked_sub(ZONE_BYTES).filter(|at| *at > DAY_BYTES) else {
        return Some((text, 0));
    };
    let (local, zone) = text.split_at(at);
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return Some((text, 0)),
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    ((0..24).contains(&hours) && (0..60).contains(&minutes))
        .then_some((local, sign * (hours * 60 + minutes) * 60))
}

/// The last second that RFC 3339 can write is in the year 9999.
fn end_of_years() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(253_402_300_800)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now_ms = 1_800_000_000_000;
        for (text, ms) in [
            ("1970-01-01T00:00:01Z", 1_000),
            ("1970-01-01T00:00:01.250Z", 1_250),
            ("1970-01-01 00:00:01", 1_000),
            ("1970-01-02", 86_400_000),
            ("1970-01-01T02:00:01+02:00", 1_000),
            ("1970-01-01T00:30:00-00:30", 3_600_000),
            ("2026-11-24T08:00:00Z", 1_795_507_200_000),
            ("2h", now_ms - 7_200_000),
            ("1day 30min", now_ms - 88_200_000),
            ("0s", now_ms),
            ("9999days", now_ms - 9_999 * 86_400_000),
            ("99999days", 0),
        ] {
            assert_eq!(parse(text, now_ms), Ok(ms), "{text}");
        }
        for text in [
            "",
            "soon",
            "2",
            "2026-13-01",
            "1969-12-31T23:00:00Z",
            "2026-11-24T08",
            "24.11.2026",
            "é2h",
            "1970-01-01T00:00:00+25:00",
        ] {
            let error = parse(text, now_ms).unwrap_err();
            assert!(error.contains(text) && error.contains(HOW), "{error}");
        }
    }

    #[test]
    fn times_are_shown_to_the_second() {
        assert_eq!(show(1_795_507_200_999), "2026-11-24T08:00:00Z");
        assert_eq!(parse(&show(1_000), 0), Ok(1_000));
        assert_eq!(show(u64::MAX), format!("{} ms", u64::MAX));
    }
}

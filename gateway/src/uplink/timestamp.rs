//! A wall-clock time as text: RFC 3339 in UTC with milliseconds, in a fixed buffer, without
//! allocation.
//!
//! `2026-11-23T16:05:07.123Z`. Limits: from 1970 to the end of 9999; later times are written as the
//! last one. Leap seconds are not known to the clock and so not to this. It parses nothing.

/// Bytes of the text.
pub const TEXT_BYTES: usize = 24;

const MS_PER_DAY: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z.
const LAST_MS: u64 = 253_402_300_799_999;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;
const DAYS_PER_400_YEARS: u64 = 146_097;
const DAYS_PER_100_YEARS: u64 = 36_524;
const DAYS_PER_4_YEARS: u64 = 1_461;

/// `ms` since 1970 as RFC 3339 text. (RFC 3339 section 5.6)
#[must_use]
pub fn rfc3339(ms: u64) -> [u8; TEXT_BYTES] {
    let ms = ms.min(LAST_MS);
    let (year, month, day) = civil(ms / MS_PER_DAY);
    let of_day = ms % MS_PER_DAY;
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3_600_000);
    digits(&mut text[14..16], of_day / 60_000 % 60);
    digits(&mut text[17..19], of_day / 1000 % 60);
    digits(&mut text[20..23], of_day % 1000);
    text
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last of its year and month lengths
/// repeat every five months (153 days).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let cycle = days / DAYS_PER_400_YEARS;
    let of_cycle = days % DAYS_PER_400_YEARS;
    // The last day of a cycle, and of four years, belongs to the year before: never a fifth one.
    let century = (of_cycle / DAYS_PER_100_YEARS).min(3);
    let of_century = of_cycle - century * DAYS_PER_100_YEARS;
    let quad = of_century / DAYS_PER_4_YEARS;
    let of_quad = of_century % DAYS_PER_4_YEARS;
    let year_of_quad = (of_quad / 365).min(3);
    let of_year = of_quad - year_of_quad * 365;
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let year = cycle * 400 + century * 100 + quad * 4 + year_of_quad;
    match month_from_march {
        0..=9 => (year, month_from_march + 3, day),
        _ => (year + 1, month_from_march - 9, day),
    }
}

fn digits(text: &mut [u8], mut value: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_as_everybody_writes_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (LAST_MS, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(std::str::from_utf8(&rfc3339(ms)).unwrap(), text);
        }
    }

    #[test]
    fn every_day_from_1970_to_9999_follows_the_day_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=LAST_MS / MS_PER_DAY {
            assert_eq!(civil(days), (year, month, day));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }
}

//! Quantities as a person writes them: sizes, rates of writing, times. Pure.
//!
//! An error is a sentence that says what was read and how it is written.

use std::time::Duration;

/// `64 MiB`, `1 GB`, `512`: bytes.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("\"{text}\" is no size; write a number and a unit, like \"64 MiB\""))
}

/// `24h`, `500ms`, `1day`: a time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("\"{text}\" is no time; write a number and a unit, like \"24h\" or \"500ms\""))
}

/// A time of at most `most`, which `most_text` says in words.
pub(crate) fn at_most(text: &str, most: Duration, most_text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    (time <= most).then_some(time).ok_or_else(|| format!("\"{text}\" is too long; {most_text} at most"))
}

/// `20 GB/day` or `unlimited`: bytes per day, `None` without a limit.
pub(crate) fn bytes_per_day(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let how =
        || format!("\"{text}\" is no budget; write a size per day, like \"20 GB/day\", or \"unlimited\"");
    let size = text.strip_suffix("/day").ok_or_else(how)?;
    bytes(size.trim_end()).map(Some).map_err(|_| how())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        for (text, value) in [("64 MiB", 64 << 20), ("1GB", 1_000_000_000), ("512", 512), ("0.5 KiB", 512)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for (text, value) in
            [("20 GB/day", Some(20_000_000_000)), ("1MB /day", Some(1_000_000)), ("unlimited", None)]
        {
            assert_eq!(bytes_per_day(text), Ok(value), "{text}");
        }
        for (text, ms) in [("24h", 86_400_000), ("500ms", 500), ("1day 2h", 93_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "MiB", "-1 MB", "1 parsec", "20 GB/week", "20 GB"] {
            assert!(bytes_per_day(text).is_err(), "{text}");
            assert!(duration(text).is_err(), "{text}");
        }
    }
}

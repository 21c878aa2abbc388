//! Figures as people read them: grouped digits, sizes, ages. For tables and stories; scripts take
//! the JSON.

/// `1,234,567`.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MiB`.
pub(super) fn bytes(n: u64) -> String {
    bytesize::ByteSize::b(n).display().iec().to_string()
}

/// `1.2 GiB of 8.0 GiB (15 %)`.
pub(super) fn part(n: u64, most: u64) -> String {
    if most == 0 {
        return bytes(n);
    }
    format!("{} of {} ({:.0} %)", bytes(n), bytes(most), n as f64 / most as f64 * 100.0)
}

/// `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`: an age, to about two digits.
pub(super) fn age(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "-".into(),
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 48.0 * 3600.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_people_read_them() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(n), text);
        }
        for (n, text) in [(0, "0 B"), (1536, "1.5 KiB"), (64 << 20, "64.0 MiB")] {
            assert_eq!(bytes(n), text);
        }
        assert_eq!(part(2 << 20, 8 << 20), "2.0 MiB of 8.0 MiB (25 %)");
        assert_eq!(part(1536, 0), "1.5 KiB");
        for (s, text) in [
            (0.0, "-"),
            (0.44, "0.4 s"),
            (9.94, "9.9 s"),
            (59.6, "60 s"),
            (600.0, "10 min"),
            (9000.0, "2 h"),
            (1e6, "12 d"),
        ] {
            assert_eq!(age(s), text);
        }
    }
}

//! Values as JSON text, appended to a vector: integers with their decimal point, floats, texts,
//! bytes.
//!
//! An integer with a scale never becomes a float: its digits are written, and the point is set
//! between them. Zeros at the end of a fraction are left out, and a point with nothing behind it:
//! 4520 hundredths are `45.2`, 200 hundredths are `2`.
//!
//! Limits: a number takes [`NUMBER_BYTES_MAX`] at most.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Longest number, in bytes: a sign, 20 digits and 127 zeros, or `-0.` and 128 digits.
pub(super) const NUMBER_BYTES_MAX: usize = 1 + 20 + i8::MAX as usize;

const _: () = assert!(NUMBER_BYTES_MAX >= "-0.".len() + i8::MIN.unsigned_abs() as usize);

/// Two digits for each number below a hundred.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends `magnitude * 10^scale_exp10`, or less than nothing if `negative`.
#[inline]
pub(super) fn integer(negative: bool, magnitude: u64, scale_exp10: i8, out: &mut Vec<u8>) {
    let mut buffer = [0; 20];
    let digits = decimal(magnitude, &mut buffer);
    if negative && magnitude > 0 {
        out.push(b'-');
    }
    if scale_exp10 < 0 && magnitude > 0 {
        return fraction(digits, scale_exp10.unsigned_abs().into(), out);
    }
    out.extend_from_slice(digits);
    if magnitude > 0 {
        out.resize(out.len() + usize::from(scale_exp10.unsigned_abs()), b'0');
    }
}

/// The digits of a number.
fn decimal(mut magnitude: u64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut from = buffer.len();
    while magnitude >= 100 {
        from -= 2;
        buffer[from..from + 2].copy_from_slice(&PAIRS[(magnitude % 100) as usize]);
        magnitude /= 100;
    }
    if magnitude >= 10 {
        from -= 2;
        buffer[from..from + 2].copy_from_slice(&PAIRS[magnitude as usize]);
    } else {
        from -= 1;
        buffer[from] = b'0' + magnitude as u8;
    }
    &buffer[from..]
}

/// Digits that are not all zero, the last `places` of them behind the point.
fn fraction(digits: &[u8], mut places: usize, out: &mut Vec<u8>) {
    let mut digits = digits;
    while let [rest @ .., b'0'] = digits
        && places > 0
    {
        digits = rest;
        places -= 1;
    }
    let whole = digits.len().saturating_sub(places);
    match whole {
        0 => out.push(b'0'),
        _ => out.extend_from_slice(&digits[..whole]),
    }
    if places > 0 {
        out.push(b'.');
        out.resize(out.len() + places - (digits.len() - whole), b'0');
        out.extend_from_slice(&digits[whole..]);
    }
}

/// Appends a float (`f32` or `f64`) as the shortest number that reads back as the same; `null` if
/// it is none.
pub(super) fn float<F: serde::Serialize>(value: F, out: &mut Vec<u8>) {
    serde_json::to_writer(out, &value)
        .expect("invariant: a float is JSON, and a vector takes all that is written");
}

/// How long a text is within its quotes.
pub(super) fn text_bytes(text: &str) -> usize {
    text.bytes().map(|byte| escape(byte).map_or(1, |short| if short == b'u' { 6 } else { 2 })).sum()
}

/// Appends a text with its quotes.
pub(super) fn text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let (bytes, mut from) = (text.as_bytes(), 0);
    for (at, &byte) in bytes.iter().enumerate() {
        let Some(short) = escape(byte) else { continue };
        out.extend_from_slice(&bytes[from..at]);
        from = at + 1;
        out.extend_from_slice(&[b'\\', short]);
        if short == b'u' {
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[from..]);
    out.push(b'"');
}

/// What follows the backslash, for a byte that may not stand in a text as it is; `u` means that its
/// number follows.
fn escape(byte: u8) -> Option<u8> {
    Some(match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0..0x20 => b'u',
        _ => return None,
    })
}

/// How long bytes are as base64.
pub(super) fn base64_bytes(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

/// Appends bytes as a text of base64.
pub(super) fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let from = out.len();
    out.resize(from + base64_bytes(bytes.len()), 0);
    STANDARD.encode_slice(bytes, &mut out[from..]).expect("invariant: the room for it was just made");
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: i128, scale_exp10: i8) -> String {
        let mut out = vec![];
        integer(value < 0, value.unsigned_abs() as u64, scale_exp10, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_scale_sets_the_point_and_zeros_at_the_end_are_left_out() {
        for (value, scale_exp10, expected) in [
            (2345, -2, "23.45"),
            (4520, -2, "45.2"),
            (200, -2, "2"),
            (1000, -2, "10"),
            (5, -2, "0.05"),
            (-5, -2, "-0.05"),
            (-2345, -3, "-2.345"),
            (10, -1, "1"),
            (0, -2, "0"),
            (0, 5, "0"),
            (12, 3, "12000"),
            (-12, 0, "-12"),
            (i128::from(u64::MAX), 0, "18446744073709551615"),
            (i128::from(i64::MIN), 0, "-9223372036854775808"),
            (i128::from(u64::MAX), -19, "1.8446744073709551615"),
            (i128::from(u64::MAX), -21, "0.018446744073709551615"),
        ] {
            assert_eq!(written(value, scale_exp10), expected, "{value} {scale_exp10}");
        }
        assert_eq!(written(-1, i8::MIN), format!("-0.{}1", "0".repeat(127)));
        assert_eq!(written(u64::MAX.into(), i8::MAX).len(), 20 + 127);
    }

    proptest! {
        #[test]
        fn the_text_times_the_scale_is_the_integer(value: i64, scale_exp10: i8) {
            let text = written(value.into(), scale_exp10);
            prop_assert!(text.len() <= NUMBER_BYTES_MAX);
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            prop_assert!(!fraction.ends_with('0') && text.contains('.') != fraction.is_empty());
            // Digits behind the point, less those the scale asks for, are zeros that were left out.
            let digits = format!("{whole}{fraction}");
            let zeros = -isize::from(scale_exp10) - fraction.len() as isize;
            let back = match (digits.trim_start_matches(['-', '0']), usize::try_from(zeros)) {
                ("", _) => 0,
                (digits, Ok(zeros)) => format!("{digits}{}", "0".repeat(zeros)).parse().unwrap(),
                (digits, Err(_)) => digits[..digits.len() - zeros.unsigned_abs()].parse::<i128>().unwrap(),
            };
            prop_assert_eq!(if whole.starts_with('-') { -back } else { back }, i128::from(value));
        }

        #[test]
        fn texts_and_bytes_are_as_others_write_them(string in "\\PC*|[\\x00-\\x7f]*", bytes: Vec<u8>) {
            let mut out = vec![];
            text(&string, &mut out);
            prop_assert_eq!(&out, &serde_json::to_vec(&string).unwrap());
            prop_assert_eq!(out.len(), 2 + text_bytes(&string));
            let mut out = vec![];
            base64(&bytes, &mut out);
            prop_assert_eq!(out, serde_json::to_vec(&STANDARD.encode(&bytes)).unwrap());
        }
    }
}

//! LEB128 numbers as postcard writes them: seven bits a byte, low ones first, the top bit on all
//! but the last. Only the shortest spelling of a number that fits in 64 bits is read, so that a
//! number and its bytes stand for each other.

/// Why no number could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The bytes ended within it.
    Truncated,
    /// Longer than needed, or more than 64 bits.
    Malformed,
}

/// Writes `value` to `out` from `at` on. Returns the place after it, or nothing if there is no room
/// (what is behind `at` may then have changed).
#[inline]
pub(crate) fn write(mut value: u64, out: &mut [u8], mut at: usize) -> Option<usize> {
    while value >= 0x80 {
        *out.get_mut(at)? = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    *out.get_mut(at)? = value as u8;
    Some(at + 1)
}

/// Reads a number from `at` on. Returns it and the place after it.
#[inline]
pub(crate) fn read(bytes: &[u8], at: usize) -> Result<(u64, usize), Bad> {
    match bytes.get(at) {
        Some(&byte) if byte < 0x80 => Ok((u64::from(byte), at + 1)),
        Some(_) => read_long(bytes, at),
        None => Err(Bad::Truncated),
    }
}

fn read_long(bytes: &[u8], mut at: usize) -> Result<(u64, usize), Bad> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at).ok_or(Bad::Truncated)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let spelled_longer_than_needed = byte == 0 && shift > 0;
            let beyond_64_bits = shift == 63 && byte > 1;
            return if spelled_longer_than_needed || beyond_64_bits {
                Err(Bad::Malformed)
            } else {
                Ok((value, at))
            };
        }
    }
    Err(Bad::Malformed)
}

//! Reads from bytes that anybody may have sent: never beyond their end, always knowing where it is.
//!
//! ```text
//! bytes ──▶ Reader { at } ──▶ byte, varint, a piece        or where and why not
//! ```
//!
//! Limits: it holds nothing and copies nothing. A number is LEB128 in its shortest spelling, up to
//! 64 bits.

/// Why no more can be read; the reader stays before what it could not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Short {
    /// The bytes end within it.
    Truncated,
    /// The number is spelled longer than needed, or is too large for where it stands.
    Varint,
}

/// Bytes, and how far they are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes are read.
    #[inline]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    #[inline]
    pub(super) fn byte(&mut self) -> Result<u8, Short> {
        let byte = *self.bytes.get(self.at).ok_or(Short::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// The next `count` bytes.
    #[inline]
    pub(super) fn piece(&mut self, count: usize) -> Result<&'a [u8], Short> {
        let end = self.at.checked_add(count).ok_or(Short::Truncated)?;
        let piece = self.bytes.get(self.at..end).ok_or(Short::Truncated)?;
        self.at = end;
        Ok(piece)
    }

    /// The next `N` bytes.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let array = *self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Short::Truncated)?;
        self.at += N;
        Ok(array)
    }

    /// A number that is at most `max`.
    #[inline]
    pub(super) fn varint(&mut self, max: u64) -> Result<u64, Short> {
        let (mut value, mut at) = (0, self.at);
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(at).ok_or(Short::Truncated)?;
            at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                let longer_than_needed = byte == 0 && shift > 0;
                let beyond_64_bits = shift == 63 && byte > 1;
                if longer_than_needed || beyond_64_bits || value > max {
                    return Err(Short::Varint);
                }
                self.at = at;
                return Ok(value);
            }
        }
        Err(Short::Varint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_shortest_spelling_of_a_number_that_fits_is_read() {
        for (bytes, max, expected) in [
            (&[][..], u64::MAX, Err(Short::Truncated)),
            (&[0x80], u64::MAX, Err(Short::Truncated)),
            (&[0], u64::MAX, Ok(0)),
            (&[0x80, 0], u64::MAX, Err(Short::Varint)),
            (&[0x80, 1], u64::MAX, Ok(128)),
            (&[0xff, 0xff, 3], 0xffff, Ok(0xffff)),
            (&[0x80, 0x80, 4], 0xffff, Err(Short::Varint)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], u64::MAX, Ok(u64::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], u64::MAX, Err(Short::Varint)),
            (&[0x80; 20], u64::MAX, Err(Short::Varint)),
        ] {
            let mut reader = Reader::new(bytes);
            assert_eq!(reader.varint(max), expected, "{bytes:02x?}");
            assert_eq!(reader.at() == 0, expected.is_err());
        }
    }

    proptest! {
        #[test]
        fn numbers_are_read_as_postcard_writes_them(value: u64) {
            let bytes = postcard::to_allocvec(&value).unwrap();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(u64::MAX), Ok(value));
            prop_assert_eq!(reader.left(), 0);
        }
    }
}

//! Writes bytes one after another, at compile time as well as on a device.
//!
//! Purpose: births, statuses and definitions are written by this one hand. A pen that runs out of
//! room goes on counting, so the same code that writes also measures: give it no room, and ask how
//! much it wanted.
//!
//! What it does not do: it checks no limit of the format; that is its callers'.

/// A place to write to.
pub(crate) struct Pen<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl<'o> Pen<'o> {
    pub(crate) const fn new(out: &'o mut [u8]) -> Self {
        Pen { out, at: 0 }
    }

    /// Bytes written, or wanted where there was no room.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn byte(&mut self, byte: u8) {
        if self.at < self.out.len() {
            self.out[self.at] = byte;
        }
        self.at += 1;
    }

    pub(crate) const fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// The length as a varint, then the bytes.
    pub(crate) const fn counted(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        let mut at = 0;
        while at < bytes.len() {
            self.byte(bytes[at]);
            at += 1;
        }
    }

    /// 0, or 1 and the number.
    pub(crate) const fn option(&mut self, value: Option<u64>) {
        match value {
            None => self.byte(0),
            Some(value) => {
                self.byte(1);
                self.varint(value);
            }
        }
    }

    /// What was written; nothing if there was no room for all of it.
    pub(crate) fn finish(self) -> Option<&'o [u8]> {
        let out: &'o [u8] = self.out;
        out.get(..self.at)
    }
}

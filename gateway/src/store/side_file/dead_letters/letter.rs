//! A dead letter, and how it lies in its table: postcard of uplink, offset, reason, two times,
//! tries and the record's bytes, and behind it the number of the reason's code. A letter of before
//! there were codes ends without it: its code is that of its text.
//!
//! Limits: a reason to [`REASON_BYTES_MAX`]; the record's are its own.

use serde::{Deserialize, Serialize};

use super::reason::{Reason, ReasonCode};
use crate::store::record::Record;

/// Longest reason that is kept, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// A dead letter, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The uplink whose upstream cannot take it.
    pub uplink: &'a str,
    /// Its offset in the log.
    pub offset: u64,
    /// What kind of reason it has.
    pub code: ReasonCode,
    /// Why it cannot be taken.
    pub reason: &'a str,
    /// When it was set aside, wall clock, milliseconds since 1970.
    pub set_aside_ms: u64,
    /// How often it was sent; 0 where it cannot be sent at all.
    pub tries: u32,
    /// The event, whole.
    pub record: Record<'a>,
}

/// An event that is to be a dead letter: a copy of it, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLetter {
    /// As in [`Letter`].
    pub offset: u64,
    /// As in [`Letter`].
    pub code: ReasonCode,
    /// As in [`Letter`].
    pub reason: String,
    /// As in [`Letter`].
    pub tries: u32,
    received_ms: u64,
    record: Box<[u8]>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number: ascending, and given once.
    pub id: u64,
    /// As in [`Letter`].
    pub uplink: String,
    /// As in [`Letter`].
    pub offset: u64,
    /// As in [`Letter`].
    pub code: ReasonCode,
    /// As in [`Letter`].
    pub reason: String,
    /// As in [`Letter`].
    pub set_aside_ms: u64,
    /// When the gateway took the event in, wall clock, milliseconds since 1970.
    pub received_ms: u64,
    /// As in [`Letter`].
    pub tries: u32,
    record: Box<[u8]>,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    uplink: &'a str,
    offset: u64,
    reason: &'a str,
    set_aside_ms: u64,
    received_ms: u64,
    tries: u32,
    record: &'a [u8],
}

impl NewLetter {
    /// Of the record at `offset`, which was sent `tries` times.
    #[must_use]
    pub fn new(offset: u64, record: &Record<'_>, reason: Reason, tries: u32) -> Self {
        let Reason { code, text } = reason;
        let (received_ms, record) = (record.received_ms, bytes_of(record).into());
        Self { offset, code, reason: text, tries, received_ms, record }
    }

    /// The event, whole.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let read = Record::read(&self.record, 0, self.received_ms);
        read.expect("invariant: `new` wrote it from a record").0
    }

    /// Bytes of the copy and of the reason.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.record.len() + self.reason.len()
    }

    /// The letter of `uplink` that it becomes at this time, wall clock, milliseconds since 1970.
    #[must_use]
    pub fn letter<'a>(&'a self, uplink: &'a str, set_aside_ms: u64) -> Letter<'a> {
        let (record, reason) = (self.record(), self.reason.as_str());
        let (offset, code, tries) = (self.offset, self.code, self.tries);
        Letter { uplink, offset, code, reason, set_aside_ms, tries, record }
    }
}

impl DeadLetter {
    /// The event, whole.
    #[must_use]
    pub fn record(&self) -> Record<'_> {
        let read = Record::read(&self.record, 0, self.received_ms);
        read.expect("invariant: `own` wrote it from a record").0
    }

    /// Copies `letter`, which has the number `id`.
    pub(super) fn own(id: u64, letter: &Letter<'_>) -> Self {
        Self {
            id,
            uplink: letter.uplink.to_owned(),
            offset: letter.offset,
            code: letter.code,
            reason: letter.reason.to_owned(),
            set_aside_ms: letter.set_aside_ms,
            received_ms: letter.record.received_ms,
            tries: letter.tries,
            record: bytes_of(&letter.record).into(),
        }
    }
}

impl<'a> Letter<'a> {
    /// As it lies in the table.
    pub(super) fn encode(&self) -> Result<Vec<u8>, redb::Error> {
        let record = bytes_of(&self.record);
        let stored = Stored {
            uplink: self.uplink,
            offset: self.offset,
            reason: shortened(self.reason),
            set_aside_ms: self.set_aside_ms,
            received_ms: self.record.received_ms,
            tries: self.tries,
            record: &record,
        };
        let bytes = postcard::to_allocvec(&stored);
        let mut bytes = bytes.map_err(|error| redb::Error::Io(std::io::Error::other(error)))?;
        bytes.push(self.code.number());
        Ok(bytes)
    }

    /// Reads what [`Letter::encode`] wrote.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, redb::Error> {
        let damaged = || redb::Error::Corrupted("a dead letter cannot be read".into());
        let (stored, rest): (Stored<'a>, _) = postcard::take_from_bytes(bytes).map_err(|_| damaged())?;
        let (record, _) = Record::read(stored.record, 0, stored.received_ms).map_err(|_| damaged())?;
        Ok(Self {
            uplink: stored.uplink,
            offset: stored.offset,
            code: match rest.first() {
                Some(number) => ReasonCode::of_number(*number),
                None => ReasonCode::of_old_text(stored.reason),
            },
            reason: stored.reason,
            set_aside_ms: stored.set_aside_ms,
            tries: stored.tries,
            record,
        })
    }
}

fn bytes_of(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(record.size());
    record.write(&mut bytes);
    bytes
}

/// Cut at a character's beginning.
fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    fn letter<'a>(reason: &'a str) -> Letter<'a> {
        let record = Record {
            kind: Kind::Json,
            events: 1,
            retain: true,
            qos: 0,
            local: false,
            device_level: None,
            urgent: true,
            received_ms: 1_700_000_000_123,
            client: "barn",
            topic: "zigbee2mqtt/door",
            properties: &[1, 1],
            payload: b"{}",
        };
        let code = ReasonCode::Refused;
        Letter { uplink: "cloud", offset: 7, code, reason, set_aside_ms: 9, tries: 3, record }
    }

    #[test]
    fn a_letter_reads_back_whole_borrowed_and_owned() {
        let bytes = letter("too large").encode().unwrap();
        let read = Letter::decode(&bytes).unwrap();
        assert_eq!(read, letter("too large"));
        let owned = DeadLetter::own(5, &read);
        assert_eq!((owned.id, owned.record()), (5, letter("").record));
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let long = "é".repeat(REASON_BYTES_MAX);
        let bytes = letter(&long[..long.len() - 2]).encode().unwrap();
        assert_eq!(Letter::decode(&bytes).unwrap().reason, "é".repeat(REASON_BYTES_MAX / 2));
    }

    #[test]
    fn no_truncation_panics_or_passes() {
        let bytes = letter("too large").encode().unwrap();
        // Without its code it is a letter of before there were any.
        for n in 0..bytes.len() - 1 {
            assert!(Letter::decode(&bytes[..n]).is_err());
        }
    }

    #[test]
    fn a_letter_of_before_there_were_codes_has_that_of_its_text() {
        let text = "no birth of its device says what its events are (schema set 00c0ffee)";
        let bytes = letter(text).encode().unwrap();
        let (_, old) = bytes.split_last().unwrap();
        let read = Letter::decode(old).unwrap();
        assert_eq!(read, Letter { code: ReasonCode::NoBirth, ..letter(text) });
    }
}

//! The tables of `dead_letters.redb`, and what one transaction does to them.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: `format`, `store`, `next_id`, `bytes`, `damaged` |
//! | `dead_letters` | id | a dead letter, see `letter.rs` |
//! | `places` | uplink, offset | id |
//! | `dropped` | uplink, device | letters, events, first offset, offset after the last |

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

use super::{
    dropped::{self, Dropped},
    letter::Letter,
};
use crate::store::side_file::file::copy_table;

/// What a letter counts beside its own bytes: its keys and its share of the pages.
const LETTER_OVERHEAD_BYTES: u64 = 64;
/// redb's page: what is longer than half of it has one or more of its own, in a power of two.
const PAGE_BYTES: u64 = 4096;
/// The first letter's number: whoever lists starts after 0.
const ID_FIRST: u64 = 1;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const LETTERS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("dead_letters");
const PLACES: TableDefinition<'_, (&str, u64), u64> = TableDefinition::new("places");

const NEXT_ID: &str = "next_id";
const BYTES: &str = "bytes";
pub(super) const DAMAGED: &str = "damaged";
/// Where the newest segment began that was ever made.
pub(super) const NEWEST_SEGMENT: &str = "newest_segment";

/// All tables in a transaction that writes.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    letters: Table<'t, u64, &'static [u8]>,
    places: Table<'t, (&'static str, u64), u64>,
    dropped: dropped::Counts<'t>,
    dropped_now: u64,
}

/// What the file holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub letters: u64,
    pub bytes: u64,
    pub has_dropped: bool,
    pub is_damaged: bool,
}

/// Copies all tables but `meta` into a new file.
pub(super) fn copy(old: &ReadTransaction, new: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(old, new, LETTERS)?;
    copy_table(old, new, PLACES)?;
    copy_table(old, new, dropped::DROPPED)
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            letters: transaction.open_table(LETTERS)?,
            places: transaction.open_table(PLACES)?,
            dropped: transaction.open_table(dropped::DROPPED)?,
            dropped_now: 0,
        })
    }

    pub(super) fn found(&self) -> Result<Found, redb::Error> {
        Ok(Found {
            letters: self.letters.len()?,
            bytes: self.number(BYTES)?,
            has_dropped: !self.dropped.is_empty()?,
            is_damaged: self.number(DAMAGED)? != 0,
        })
    }

    /// Letters dropped in this transaction.
    pub(super) fn dropped_now(&self) -> u64 {
        self.dropped_now
    }

    /// Reads every letter.
    pub(super) fn check(&self) -> Result<(), redb::Error> {
        for entry in self.letters.iter()? {
            Letter::decode(entry?.1.value())?;
        }
        Ok(())
    }

    /// Keeps `letter`, and drops the oldest as far as there is no room for it within `max_bytes`.
    pub(super) fn put(&mut self, letter: &Letter<'_>, max_bytes: u64) -> Result<(), redb::Error> {
        let place = (letter.uplink, letter.offset);
        let known = self.places.get(place)?.map(|id| id.value());
        let tries_before = match known {
            Some(id) => self.tries(id)?,
            None => 0,
        };
        let tries = tries_before.saturating_add(letter.tries);
        let value = Letter { tries, ..*letter }.encode()?;
        let bytes = room_of(&value);
        if let Some(id) = known {
            self.remove(id)?;
        }
        if bytes > max_bytes {
            return self.drop_letter(letter);
        }
        // A limit that came down is reached by and by: the disk may be full for a moment only.
        let by_and_by = self.number(BYTES)?.saturating_sub(bytes + bytes / 2);
        self.make_room((max_bytes - bytes).max(by_and_by))?;
        let id = match known {
            Some(id) => id,
            None => self.next_id()?,
        };
        self.letters.insert(id, value.as_slice())?;
        self.places.insert(place, id)?;
        self.add_bytes(bytes)
    }

    /// Drops the oldest until there are at most `max_bytes`.
    pub(super) fn make_room(&mut self, max_bytes: u64) -> Result<(), redb::Error> {
        while self.number(BYTES)? > max_bytes {
            let Some(value) = self.letters.pop_first()?.map(|(_, value)| value.value().to_vec()) else {
                break;
            };
            self.forget(&value)?;
            self.drop_letter(&Letter::decode(&value)?)?;
        }
        Ok(())
    }

    /// Takes a letter away. False if there is none with this number.
    pub(super) fn remove(&mut self, id: u64) -> Result<bool, redb::Error> {
        let Some(value) = self.letters.remove(id)?.map(|value| value.value().to_vec()) else {
            return Ok(false);
        };
        self.forget(&value)?;
        Ok(true)
    }

    pub(super) fn note_newest_segment(&mut self, first: u64) -> Result<(), redb::Error> {
        if first > self.number(NEWEST_SEGMENT)? {
            self.meta.insert(NEWEST_SEGMENT, first)?;
        }
        Ok(())
    }

    pub(super) fn confirm_damaged(&mut self) -> Result<(), redb::Error> {
        self.meta.remove(DAMAGED)?;
        Ok(())
    }

    pub(super) fn confirm_dropped(&mut self, dropped: &Dropped) -> Result<(), redb::Error> {
        dropped::subtract(&mut self.dropped, dropped)
    }

    /// Counts what another file counted as well.
    pub(super) fn add_dropped(&mut self, dropped: &Dropped) -> Result<(), redb::Error> {
        dropped::merge(&mut self.dropped, dropped)
    }

    pub(super) fn set(&mut self, name: &'static str, number: u64) -> Result<(), redb::Error> {
        self.meta.insert(name, number)?;
        Ok(())
    }

    fn number(&self, name: &'static str) -> Result<u64, redb::Error> {
        Ok(self.meta.get(name)?.map(|number| number.value()).unwrap_or_default())
    }

    fn tries(&self, id: u64) -> Result<u32, redb::Error> {
        let Some(value) = self.letters.get(id)? else { return Ok(0) };
        Ok(Letter::decode(value.value())?.tries)
    }

    /// Keeps the other tables right for a letter that is not in its table any more.
    fn forget(&mut self, value: &[u8]) -> Result<(), redb::Error> {
        let letter = Letter::decode(value)?;
        self.places.remove((letter.uplink, letter.offset))?;
        let bytes = self.number(BYTES)?;
        self.set(BYTES, bytes.saturating_sub(room_of(value)))
    }

    fn drop_letter(&mut self, letter: &Letter<'_>) -> Result<(), redb::Error> {
        self.dropped_now += 1;
        dropped::add(&mut self.dropped, letter)
    }

    fn next_id(&mut self) -> Result<u64, redb::Error> {
        let id = self.number(NEXT_ID)?.max(ID_FIRST);
        self.set(NEXT_ID, id + 1)?;
        Ok(id)
    }

    fn add_bytes(&mut self, bytes: u64) -> Result<(), redb::Error> {
        let before = self.number(BYTES)?;
        self.set(BYTES, before + bytes)
    }
}

/// What a letter counts: about the room that it takes in the file.
fn room_of(value: &[u8]) -> u64 {
    let bytes = value.len() as u64 + LETTER_OVERHEAD_BYTES;
    if bytes > PAGE_BYTES / 2 { bytes.next_power_of_two() } else { bytes }
}

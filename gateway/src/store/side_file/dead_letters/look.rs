//! Looking at dead letters and taking them away, from elsewhere: in pages, each of short
//! transactions.
//!
//! Limits: a page of [`PAGE_LETTERS_MAX`] letters or about `PAGE_BYTES_MAX`; a transaction reads
//! about `SCAN_BYTES_MAX`, so that an uplink that sets something aside waits for one of them at the
//! most.

use redb::{Database, ReadableDatabase};

use super::{
    DeadLetters,
    filter::DeadLetterFilter,
    letter::{DeadLetter, Letter},
    tables::LETTERS,
};
use crate::store::error::StoreError;

/// Most letters of a page.
pub const PAGE_LETTERS_MAX: usize = 1000;
/// Bytes of letters at which a page ends.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes of letters that one transaction looks through at about the most.
const SCAN_BYTES_MAX: u64 = 1024 * 1024;
/// Letters that one transaction takes away at the most.
const REMOVE_LETTERS_MAX: usize = 256;

/// Some dead letters, in the order of their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// The number after which to go on; `None` at the end.
    pub next: Option<u64>,
}

impl DeadLetters {
    /// The letters that `filter` takes, of those behind the number `after`: `limit` of them or
    /// fewer.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn list(
        &self,
        filter: &DeadLetterFilter,
        after: u64,
        limit: usize,
    ) -> Result<DeadLetterPage, StoreError> {
        let mut scan = Scan { after, limit: limit.clamp(1, PAGE_LETTERS_MAX), bytes: 0, letters: Vec::new() };
        while !self.with(|db| scan.step(db, filter))? {
            if scan.is_full() {
                return Ok(DeadLetterPage { letters: scan.letters, next: Some(scan.after) });
            }
        }
        Ok(DeadLetterPage { letters: scan.letters, next: None })
    }

    /// The letter with this number.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn get(&self, id: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.with(|db| {
            let value = db.begin_read()?.open_table(LETTERS)?.get(id)?;
            value.map(|value| Ok(DeadLetter::own(id, &Letter::decode(value.value())?))).transpose()
        })
    }

    /// Takes letters away for good, and says how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is taken away.
    pub fn remove(&self, ids: &[u64]) -> Result<u64, StoreError> {
        let removed = self.remove_some(ids)?;
        self.file.tidy(self.bytes());
        Ok(removed)
    }

    fn remove_some(&self, ids: &[u64]) -> Result<u64, StoreError> {
        self.change(|tables| {
            let mut removed = 0;
            for id in ids {
                removed += u64::from(tables.remove(*id)?);
            }
            Ok(removed)
        })
    }

    /// Takes all letters away that `filter` takes, and says how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: some may be taken away.
    pub fn remove_all(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        let (mut after, mut removed) = (0, 0);
        loop {
            let page = self.list(filter, after, REMOVE_LETTERS_MAX)?;
            if !page.letters.is_empty() {
                let ids: Vec<u64> = page.letters.iter().map(|letter| letter.id).collect();
                removed += self.remove_some(&ids)?;
            }
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        self.file.tidy(self.bytes());
        Ok(removed)
    }
}

/// A page in the making.
struct Scan {
    after: u64,
    limit: usize,
    bytes: u64,
    letters: Vec<DeadLetter>,
}

impl Scan {
    fn is_full(&self) -> bool {
        self.letters.len() >= self.limit || self.bytes >= PAGE_BYTES_MAX
    }

    /// Goes on for one transaction. True at the end of all letters.
    fn step(&mut self, db: &Database, filter: &DeadLetterFilter) -> Result<bool, redb::Error> {
        let table = db.begin_read()?.open_table(LETTERS)?;
        let mut scanned = 0;
        for entry in table.range(self.after.saturating_add(1)..)? {
            if self.is_full() || scanned >= SCAN_BYTES_MAX {
                return Ok(false);
            }
            let (id, value) = entry?;
            let bytes = value.value().len() as u64;
            let letter = Letter::decode(value.value())?;
            if filter.admits(&letter) {
                self.letters.push(DeadLetter::own(id.value(), &letter));
                self.bytes += bytes;
            }
            scanned += bytes;
            self.after = id.value();
        }
        Ok(true)
    }
}

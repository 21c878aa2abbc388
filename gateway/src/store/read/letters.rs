//! The dead letters, as whoever looks in sees them: made, listed, and taken away.
//!
//! Limits: a page of [`DEAD_LETTER_PAGE_MAX`](crate::store::DEAD_LETTER_PAGE_MAX) letters.

use super::view::View;
use crate::store::{
    error::StoreError,
    side_file::dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterPage, Letter},
};

impl View {
    /// Makes dead letters, in one transaction: durable when this returns. One of the same place in
    /// the log is replaced, and its tries are added.
    ///
    /// # Errors
    /// [`StoreError`]: none of them is kept.
    pub fn add_dead_letters(&self, letters: &[Letter<'_>]) -> Result<(), StoreError> {
        self.log.dead_letters.put(letters)
    }

    /// Takes the dead letters with these numbers away for good, in one transaction, and says how
    /// many there were.
    ///
    /// # Errors
    /// [`StoreError`]: all of them stay.
    pub fn remove_dead_letters_numbered(&self, ids: &[u64]) -> Result<u64, StoreError> {
        self.log.dead_letters.remove(ids)
    }

    /// Dead letters that `filter` takes, of those behind the number `after` (0 at the beginning):
    /// `limit` of them ([`DEAD_LETTER_PAGE_MAX`](crate::store::DEAD_LETTER_PAGE_MAX) at the most)
    /// or fewer, also none, with the number after which to go on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        after: u64,
        limit: usize,
    ) -> Result<DeadLetterPage, StoreError> {
        self.log.dead_letters.list(filter, after, limit)
    }

    /// The dead letter with this number.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn dead_letter(&self, id: u64) -> Result<Option<DeadLetter>, StoreError> {
        self.log.dead_letters.get(id)
    }

    /// Takes a dead letter away for good. False if there is none with this number.
    ///
    /// # Errors
    /// [`StoreError`]: it stays.
    pub fn remove_dead_letter(&self, id: u64) -> Result<bool, StoreError> {
        Ok(self.log.dead_letters.remove(&[id])? == 1)
    }

    /// Takes all dead letters away that `filter` takes, and says how many there were.
    ///
    /// # Errors
    /// [`StoreError`]: some may be taken away.
    pub fn remove_dead_letters(&self, filter: &DeadLetterFilter) -> Result<u64, StoreError> {
        self.log.dead_letters.remove_all(filter)
    }
}

//! What can be had of a damaged segment: its file is searched for rows, and what is found is proven
//! whole by its own checksum.
//!
//! ```text
//!  file ─ searched byte by byte ─▶ rows whose CRC holds ─ by the bytes before each ─▶ runs that follow on each other ─▶ their offsets
//! ```
//! redb gives nothing of a file whose length, head or tree it cannot believe, and a row needs none
//! of them. It says how many bytes of records were ever stored before it, so the rows have an
//! order, and what is missing between two of them shows. It does not say its offset. That of a run
//! is known if the run begins where the segment does, or ends where it does; else from the keys of
//! the database's pages that hold its rows, as most of them have it. A run of which none is known
//! is left out, and counted.
//!
//! Whose rows they are, the segment's `meta` says, in the database or in a page of it that is found
//! by itself. Where neither does, they are this store's if a run follows on the records before the
//! segment, or on those behind it. Otherwise nothing is kept.
//!
//! Limits: [`ROWS_MAX`](file::ROWS_MAX) rows are found, at 32 bytes each while it is done, and what
//! looks like rows and is none is looked at for [`WASTE_FACTOR`](file::WASTE_FACTOR) times the
//! file's length. What lies within a row that is whole is a part of it: nobody gets a row of his
//! own making believed by publishing it. Rows of a commit that was never finished are as whole as
//! others: behind the last one of the last segment there may be some that were not acknowledged.
//!
//! It changes nothing.

mod assign;
mod file;
#[cfg(test)]
mod tests;

use self::file::{File, Found};
use crate::store::{
    disk::Files,
    error::StoreError,
    record::{position::LogPosition, row::Block},
    segment::{self, Head, Segment},
};

/// A damaged segment, as far as others say what it was.
#[derive(Debug, Clone, Default)]
pub struct Damaged {
    /// Where it begins.
    pub first: u64,
    /// Where the next one begins, or the log ends; `None` where nobody knows.
    pub end: Option<u64>,
    /// Whose it should be, where that is known.
    pub store: Option<u32>,
    /// The point of the log at its beginning, where the records before it say so.
    pub before: Option<LogPosition>,
    /// The point of the log at its end, where the records behind it say so.
    pub behind: Option<LogPosition>,
}

/// What was found of it.
#[derive(Debug)]
pub struct Salvage {
    /// What it says of itself, where that can be read.
    pub head: Option<Head>,
    /// Records that are whole, and nothing says which they are.
    pub unassigned_records: u64,
    /// The search ended at a limit: there may be more.
    pub is_cut: bool,
    file: Option<File>,
    /// In their order, each with its offset.
    rows: Vec<(u64, Found)>,
}

impl Salvage {
    /// Searches the file of a segment.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer. A file that is not there, or none, holds nothing.
    pub fn look(files: &Files, damaged: &Damaged) -> Result<Self, StoreError> {
        let nothing =
            |head| Self { head, unassigned_records: 0, is_cut: false, file: None, rows: Vec::new() };
        let mut file = match File::open(files, &segment::name_of(damaged.first)) {
            Ok(file) => file,
            Err(error) if error.is_damage() => return Ok(nothing(None)),
            Err(error) => return Err(error),
        };
        let opened = Segment::open_unchecked(files, damaged.first);
        let is_own = |head: &Head| {
            head.first == damaged.first && damaged.store.is_none_or(|store| store == head.store)
        };
        let head = match opened.and_then(|segment| segment.head()) {
            Ok(head) => Some(head),
            Err(_) => file.head(is_own)?,
        };
        if head.as_ref().is_some_and(|head| !is_own(head)) {
            return Ok(nothing(None));
        }
        let (found, is_cut) = file.rows()?;
        let own = head.map(|head| LogPosition {
            offset: damaged.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        });
        let segment = assign::Segment {
            offsets: damaged.first..damaged.end.unwrap_or(u64::MAX),
            begins_at: own.or(damaged.before),
            ends_at: damaged.behind,
        };
        let assigned = assign::assign(found, &segment);
        if head.is_none() && !assigned.is_anchored {
            return Ok(Self { is_cut, ..nothing(None) });
        }
        let (rows, unassigned_records) = (assigned.rows, assigned.unassigned_records);
        Ok(Self { head, unassigned_records, is_cut, file: Some(file), rows })
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads the rows again, in their order.
    ///
    /// # Errors
    /// [`StoreError`], from the file or from the visitor.
    pub fn for_each(
        &mut self,
        mut visit: impl FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        for (offset, found) in &self.rows {
            visit(file.block(*offset, found)?)?;
        }
        Ok(())
    }

    /// What the search cannot say, in words; `None` where there is nothing.
    #[must_use]
    pub fn doubts(&self) -> Option<String> {
        match (self.unassigned_records, self.is_cut) {
            (0, false) => None,
            (0, true) => Some("the search ended at its limit, there may be more".to_owned()),
            (n, _) => {
                Some(format!("{n} records are whole, but nothing says which they are: they are left out"))
            }
        }
    }
}

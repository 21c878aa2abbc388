//! Where an inspector looks: a running store, or the files of a stopped one. Both give segments,
//! cursors and gaps.
//!
//! The file that a running gateway writes is read through its own database, a few rows in a
//! transaction; everything else through a handle of its own, from which the running gateway notices
//! nothing.

use std::sync::Arc;

use super::{READ_BYTES_MAX, state};
use crate::{
    clock::Journal,
    store::{
        disk::{Files, lock::Lock},
        error::StoreError,
        journal::{self, Replay},
        log::{Log, journaled::JournaledRows},
        record::{gaps::Gaps, ids::StoreIds, row::Block},
        segment::{self, Found, Head, Part, Segment},
        side_file::{dead_letters, fleet},
    },
};

/// A store to look into.
#[derive(Debug)]
pub enum InspectedStore {
    /// Open in this process.
    Running(Arc<Log>),
    /// Files that nobody writes.
    Stopped(Box<Stopped>),
}

/// The files of a store that no gateway has open.
#[derive(Debug)]
pub struct Stopped {
    files: Files,
    /// Where the segments begin, ascending.
    firsts: Vec<u64>,
    /// What the last segment says that can say how things stood.
    found: Option<Found>,
    /// What is in the journal alone.
    journal: Result<Replay, StoreError>,
    _lock: Option<Lock>,
}

/// Where a segment lies in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentRange {
    /// Where it begins.
    pub first: u64,
    /// Where the next one begins, or the committed log ends; `None` where only its rows say so.
    pub end: Option<u64>,
    /// There is none behind it.
    pub is_last: bool,
}

impl InspectedStore {
    /// The files of a store that nobody has open.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], or the folder cannot be read.
    pub fn stopped(files: Files, lock: Option<Lock>) -> Result<Self, StoreError> {
        let names = files.names()?;
        let is_ours = |name: &String| {
            segment::first_of(name).is_some()
                || segment::is_unfinished(name).is_some()
                || segment::is_damaged(name)
                || dead_letters::SIDE_FILE.is_named(name)
        };
        if !names.iter().any(is_ours) {
            return Err(StoreError::NoStore { path: files.path_of("") });
        }
        let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        firsts.sort_unstable();
        let last = firsts.iter().rev().find_map(|first| {
            let segment = Segment::open_sealed(&files, *first, None).ok()?;
            let found = segment.found().ok().filter(|found| found.head.part == Part::Whole)?;
            Some((found, segment.last().ok()?.map_or(*first, |block| block.end())))
        });
        let journal = last.as_ref().map(|(found, end)| {
            let head = &found.head;
            let is_known = firsts.last() == Some(&head.first);
            // What disk holds of it, where that can be told; else what memory does.
            let _ = files.forget_cached(journal::FILE);
            let end = if is_known { *end } else { u64::MAX };
            journal::replay(&files, head.store, head.epochs, end, is_known)
        });
        let (found, journal) =
            (last.map(|(found, _)| found), journal.unwrap_or_else(|| Ok(Replay::default())));
        Ok(Self::Stopped(Box::new(Stopped { files, firsts, found, journal, _lock: lock })))
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        match self {
            Self::Running(log) => &log.files,
            Self::Stopped(stopped) => &stopped.files,
        }
    }

    /// Its identity, as far as anything says it.
    pub fn store(&self) -> Option<u32> {
        match self {
            Self::Running(log) => Some(log.store),
            Self::Stopped(stopped) => match &stopped.found {
                Some(found) => Some(found.head.store),
                None => state::read(&stopped.files).ok().map(|says| says.store),
            },
        }
    }

    /// What its records are named after; where nothing says it, after 0.
    pub fn ids(&self) -> StoreIds {
        match self {
            Self::Running(log) => log.ids.clone(),
            Self::Stopped(stopped) => {
                let saved = stopped.found.as_ref().map(|found| found.ids.as_slice());
                StoreIds::restore(saved.unwrap_or_default(), self.store().unwrap_or_default())
            }
        }
    }

    /// The open store.
    pub fn running(&self) -> Option<&Log> {
        match self {
            Self::Running(log) => Some(log),
            Self::Stopped(_) => None,
        }
    }

    /// Its segments, oldest first.
    pub fn places(&self) -> Vec<SegmentRange> {
        let (firsts, end): (Vec<u64>, _) = match self {
            Self::Running(log) => {
                let end = log.totals().offset;
                (log.segments.ranges(end).into_iter().map(|range| range.start).collect(), Some(end))
            }
            Self::Stopped(stopped) => (stopped.firsts.clone(), None),
        };
        let ends = firsts.iter().skip(1).copied().map(Some).chain([end]).collect::<Vec<_>>();
        let places = firsts.iter().zip(&ends).enumerate();
        let is_last = |at| at + 1 == firsts.len();
        places
            .map(|(at, (first, end))| SegmentRange { first: *first, end: *end, is_last: is_last(at) })
            .collect()
    }

    /// Whether the segment that begins at `first` is still part of the store: a running gateway
    /// deletes what it is done with.
    pub fn has(&self, first: u64) -> bool {
        match self {
            Self::Running(log) => log.segments.ranges(0).iter().any(|range| range.start == first),
            Self::Stopped(stopped) => stopped.firsts.contains(&first),
        }
    }

    /// The gateway's clock, as far as it was kept.
    pub fn journal(&self) -> Arc<Journal> {
        match self {
            Self::Running(log) => log.timeline.journal(),
            Self::Stopped(stopped) => Arc::new(fleet::journal(&stopped.files, self.store())),
        }
    }

    /// Delivered up to, by uplink.
    pub fn cursors(&self) -> Vec<(String, u64)> {
        match self {
            Self::Running(log) => log.cursor_offsets(),
            Self::Stopped(stopped) => {
                let newest = stopped.journal.iter().flat_map(|journal| journal.states.iter().rev());
                let journaled = newest.filter_map(|state| state.cursors.as_ref()).next();
                let cursors = journaled.or(stopped.found.as_ref().map(|found| &found.cursors));
                cursors.cloned().unwrap_or_default()
            }
        }
    }

    /// What is known to be missing.
    pub fn gaps(&self) -> Gaps {
        match self {
            Self::Running(log) => log.gaps(),
            Self::Stopped(stopped) => {
                stopped.found.as_ref().map(|found| found.gaps.clone()).unwrap_or_default()
            }
        }
    }

    /// Opens a segment, checked as readers check it.
    ///
    /// # Errors
    /// [`StoreError`]: as it was.
    pub fn open(&self, first: u64) -> Result<Opened<'_>, StoreError> {
        match self.open_live(first)? {
            Some(live) => Ok(live),
            None => {
                let behind = self.rows_behind(first);
                let segment = Segment::open_sealed(self.files(), first, self.store())?;
                Ok(Opened::Own { segment: Box::new(segment), behind })
            }
        }
    }

    /// The same without the check of every page, for a quick look at its ends.
    ///
    /// # Errors
    /// [`StoreError`]: as it was.
    pub fn open_quickly(&self, first: u64) -> Result<Opened<'_>, StoreError> {
        match self.open_live(first)? {
            Some(live) => Ok(live),
            None => {
                let behind = self.rows_behind(first);
                let segment = Segment::open_unchecked(self.files(), first)?;
                Ok(Opened::Own { segment: Box::new(segment), behind })
            }
        }
    }

    /// The rows of the journal, if the segment that begins at `first` is the one before them.
    fn rows_behind(&self, first: u64) -> JournaledRows {
        match self {
            Self::Running(log) => rows_behind(log, first),
            Self::Stopped(stopped) => match &stopped.journal {
                Ok(journal) if stopped.firsts.last() == Some(&first) => JournaledRows(journal.blocks.clone()),
                _ => JournaledRows::default(),
            },
        }
    }

    /// What is in the journal of a stopped store alone, or why it cannot be read.
    pub fn replayed(&self) -> Option<&Result<Replay, StoreError>> {
        match self {
            Self::Running(_) => None,
            Self::Stopped(stopped) => Some(&stopped.journal),
        }
    }

    /// Whether a stopped store had a journal, with something in it, that is not among `names`.
    pub fn misses_journal(&self, names: &[String]) -> bool {
        let is_lost = |replayed: &Result<Replay, StoreError>| {
            replayed.as_ref().is_ok_and(|journal| journal.is_end_lost)
        };
        self.replayed().is_some_and(is_lost) && !names.iter().any(|name| name == journal::FILE)
    }

    /// Whether the running gateway has the segment's file open to write.
    pub fn is_written(&self, first: u64) -> bool {
        self.running().is_some_and(|log| log.segments.written(first).is_some())
    }

    fn open_live(&self, first: u64) -> Result<Option<Opened<'_>>, StoreError> {
        self.check_open()?;
        let Self::Running(log) = self else { return Ok(None) };
        Ok(log.segments.written(first).map(|_| Opened::Live { log, first }))
    }

    /// # Errors
    /// [`StoreError::Closed`]: the store was closed.
    pub fn check_open(&self) -> Result<(), StoreError> {
        match self {
            Self::Running(log) if log.is_closed() => Err(StoreError::Closed),
            _ => Ok(()),
        }
    }
}

/// A segment to read from.
pub enum Opened<'a> {
    /// By a handle of its own.
    Own {
        /// The file.
        segment: Box<Segment>,
        /// Rows of the journal behind it.
        behind: JournaledRows,
    },
    /// As it is written.
    Live {
        /// The open store.
        log: &'a Log,
        /// Where it begins.
        first: u64,
    },
}

impl Opened<'_> {
    /// What it says of itself.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn head(&self) -> Result<Head, StoreError> {
        self.with(Segment::head)
    }

    /// Its last row.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn last(&self) -> Result<Option<Block>, StoreError> {
        match self.rows_behind().0.last() {
            Some(last) => Ok(Some(Block::clone(last))),
            None => self.with(Segment::last),
        }
    }

    /// Some rows from the one that holds `offset` on.
    ///
    /// # Errors
    /// [`StoreError`]
    pub fn read(&self, offset: u64, bytes_max: usize) -> Result<Vec<Block>, StoreError> {
        // As of before the file is looked at: what leaves the journal is there by then.
        let behind = self.rows_behind();
        let mut blocks = match offset < behind.begin() {
            true => self.with(|segment| segment.read(offset, bytes_max))?,
            false => Vec::new(),
        };
        blocks.retain(|block| block.first() < behind.begin());
        Ok(if blocks.is_empty() { behind.read(offset, u64::MAX, bytes_max) } else { blocks })
    }

    /// Visits every row, in order; of the one that is written some at a time.
    ///
    /// # Errors
    /// [`StoreError`], from the segment or from the visitor.
    pub fn for_each_row(
        &self,
        mut visit: impl FnMut(Block) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if let Self::Own { segment, behind } = self {
            segment
                .for_each_row(|block| if block.first() < behind.begin() { visit(block) } else { Ok(()) })?;
            return behind.0.iter().try_for_each(|block| visit(Block::clone(block)));
        }
        let mut at = 0;
        loop {
            let blocks = self.read(at, READ_BYTES_MAX)?;
            let Some(last) = blocks.last() else { return Ok(()) };
            at = last.end().max(last.first() + 1);
            blocks.into_iter().try_for_each(&mut visit)?;
        }
    }

    fn rows_behind(&self) -> JournaledRows {
        match self {
            Self::Own { behind, .. } => behind.clone(),
            Self::Live { log, first } => rows_behind(log, *first),
        }
    }

    /// Holds the segment for one short transaction only: whoever seals it waits for nobody who
    /// looks in.
    fn with<T>(&self, act: impl FnOnce(&Segment) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Self::Own { segment, .. } => act(segment),
            Self::Live { log, first } => {
                if log.is_closed() {
                    return Err(StoreError::Closed);
                }
                match log.segments.written(*first) {
                    Some(segment) => act(&segment),
                    // It was sealed meanwhile.
                    None => act(&Segment::open_sealed(&log.files, *first, Some(log.store))?),
                }
            }
        }
    }
}

/// The rows of an open store's journal, if the segment that begins at `first` is its last one.
fn rows_behind(log: &Log, first: u64) -> JournaledRows {
    let rows = log.segments.journaled.rows();
    let last = log.segments.ranges(0).last().map(|range| range.start);
    if last == Some(first) { rows } else { JournaledRows::default() }
}

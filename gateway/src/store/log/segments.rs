//! The segments of a store, oldest first: opened when they are read, deleted whole when they are
//! done with.
//!
//! ```text
//!  seg-0…0.redb   seg-0…31870.redb   seg-0…64102.redb
//!  sealed          sealed             active: the only one that is written
//! ```
//! A segment ends where the next one begins, the last one where the journal's rows do, or the
//! committed log: rows behind that are of a commit that failed, and are not there. A file that was
//! written is closed under the lock, for closing writes; sealed ones are opened and read outside of
//! it.

use std::{ops::Range, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::journaled::Journaled;
use crate::{
    clock,
    store::{
        disk::Files,
        error::StoreError,
        record::row::Block,
        segment::{self, Part, Segment},
    },
};

/// Bytes that one read from the disk brings at about the most.
pub const READ_BYTES_MAX: usize = 512 * 1024;
/// A read from the disk ends within this, or its file stays open behind a closed store.
const READ_ENDS_WITHIN: Duration = Duration::from_secs(2);
const READ_LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// All segments of a store.
#[derive(Debug)]
pub struct Segments {
    files: Files,
    store: u32,
    entries: Mutex<Vec<Entry>>,
    /// Rows behind all that segments hold.
    pub journaled: Journaled,
}

#[derive(Debug, Default)]
struct Entry {
    first: u64,
    /// Open for as long as it is active or somebody reads it.
    open: Option<Arc<Segment>>,
    is_active: bool,
    /// Once known.
    part: Option<Part>,
    /// Bytes on the disk, once they do not change any more.
    used_bytes: Option<u64>,
}

/// A segment to read from.
#[derive(Debug)]
pub struct OpenSegment {
    /// Where it begins.
    pub first: u64,
    /// Open.
    pub segment: Arc<Segment>,
    /// Where the next one begins; `None` for the last one.
    pub end: Option<u64>,
}

/// A segment could not be read.
#[derive(Debug)]
pub struct SegmentError {
    /// Where it begins.
    pub first: u64,
    /// What was the matter.
    pub cause: StoreError,
}

impl Segments {
    /// The segments of `store` that begin at `firsts`, ascending, all of them sealed.
    pub fn new(files: Files, store: u32, firsts: &[u64]) -> Self {
        let entries = firsts.iter().map(|first| Entry { first: *first, ..Entry::default() }).collect();
        Self { files, store, entries: Mutex::new(entries), journaled: Journaled::default() }
    }

    /// Seals the active segment, and goes on with another, which may have replaced
    /// the last one.
    pub fn begin(&self, first: u64, active: Arc<Segment>) {
        let mut entries = self.entries.lock();
        if entries.last().is_some_and(|last| last.first == first) {
            entries.pop();
        }
        if let Some(last) = entries.last_mut().filter(|last| last.is_active) {
            last.is_active = false;
        }
        let part = Some(Part::Whole);
        entries.push(Entry { first, open: Some(active), is_active: true, part, ..Entry::default() });
        close_idle(&mut entries);
    }

    /// The active segment takes nothing more: from now on it is read like a sealed one.
    pub fn abandon(&self) {
        let mut entries = self.entries.lock();
        if let Some(last) = entries.last_mut().filter(|last| last.is_active) {
            (last.is_active, last.open) = (false, None);
        }
    }

    /// The segment that holds `offset`, or the first one after it if it is in none.
    ///
    /// # Errors
    /// [`SegmentError`]: it cannot be opened.
    pub fn holding(&self, offset: u64) -> Result<OpenSegment, SegmentError> {
        let (first, end, open) = {
            let entries = self.entries.lock();
            let at = entries.partition_point(|entry| entry.first <= offset).saturating_sub(1);
            let end = entries.get(at + 1).map(|next| next.first);
            let entry = entries.get(at).ok_or(SegmentError { first: offset, cause: StoreError::Closed })?;
            (entry.first, end, entry.open.clone())
        };
        if let Some(segment) = open {
            return Ok(OpenSegment { first, segment, end });
        }
        let opened = Segment::open_sealed(&self.files, first, Some(self.store));
        let segment = Arc::new(opened.map_err(|cause| SegmentError { first, cause })?);
        let part = segment.head().map_err(|cause| SegmentError { first, cause })?.part;
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.first == first && entry.open.is_none()) {
            (entry.open, entry.part) = (Some(segment.clone()), Some(part));
        }
        close_idle(&mut entries);
        Ok(OpenSegment { first, segment, end })
    }

    /// The segment that begins at `first` as it is or was written, if that file is still open.
    /// Reading it from elsewhere meanwhile shows half of a commit.
    pub fn written(&self, first: u64) -> Option<Arc<Segment>> {
        let entries = self.entries.lock();
        let open = entries.iter().find(|entry| entry.first == first)?.open.as_ref()?;
        (!open.is_sealed()).then(|| open.clone())
    }

    /// Rows from the one that holds the beginning of `offsets` on, or the next there are, at most
    /// about `bytes_max`, none that begins behind the end of `offsets`, which has to be committed;
    /// none if there are none.
    ///
    /// # Errors
    /// [`SegmentError`]
    pub fn read(&self, offsets: Range<u64>, bytes_max: usize) -> Result<Vec<Block>, SegmentError> {
        let journaled = self.journaled.rows();
        let (mut at, file_end) = (offsets.start, offsets.end.min(journaled.begin()));
        while at < file_end {
            let place = self.holding(at)?;
            let read = place.segment.read(at, bytes_max);
            let mut blocks = read.map_err(|cause| SegmentError { first: place.first, cause })?;
            let end = place.end.unwrap_or(file_end);
            blocks.retain(|block| block.first() < end.min(file_end));
            if !blocks.is_empty() {
                return Ok(blocks);
            }
            at = end.max(at + 1);
        }
        Ok(journaled.read(offsets.start, offsets.end, bytes_max))
    }

    /// Deletes the segments that lie before `delivered` as a whole and that `is_over` says to be
    /// kept no more, by where each begins; at most `count_max` of them, the oldest first.
    ///
    /// # Errors
    /// [`SegmentError`]: what was not deleted is tried again next time.
    pub fn delete_done(
        &self,
        delivered: u64,
        is_over: impl Fn(u64) -> bool,
        count_max: usize,
    ) -> Result<usize, SegmentError> {
        let mut deleted = 0;
        while deleted < count_max
            && let Some(first) = self.oldest_delivered(delivered).filter(|first| is_over(*first))
        {
            if !self.delete_oldest(first)? {
                break;
            }
            deleted += 1;
        }
        if deleted > 0 {
            self.files.sync().map_err(|cause| SegmentError { first: delivered, cause })?;
        }
        Ok(deleted)
    }

    /// Deletes the only segment that is left, if nothing is written to it any more: the log has to
    /// lie before a durable mark as a whole (`delivered.rs`), for from now on nothing else says
    /// where it ends. Whether it did.
    ///
    /// # Errors
    /// [`SegmentError`]: it may be there or not.
    pub fn delete_only(&self) -> Result<bool, SegmentError> {
        let first = match self.entries.lock().as_slice() {
            [only] if !only.is_active => only.first,
            _ => return Ok(false),
        };
        let is_deleted = self.delete_oldest(first)?;
        if is_deleted {
            self.files.sync().map_err(|cause| SegmentError { first, cause })?;
        }
        Ok(is_deleted)
    }

    /// Deletes the oldest segment, if it is the one that begins at `first` and nobody reads it.
    /// Whether it did.
    fn delete_oldest(&self, first: u64) -> Result<bool, SegmentError> {
        let mut entries = self.entries.lock();
        close_idle(&mut entries);
        if entries.first().is_none_or(|entry| entry.first != first || entry.open.is_some()) {
            return Ok(false);
        }
        let name = segment::name_of(first);
        self.files.remove(&name).map_err(|cause| SegmentError { first, cause })?;
        entries.remove(0);
        tracing::debug!(segment = %name, "deleted: delivered, and kept long enough");
        Ok(true)
    }

    /// Whether there is one that lies before `delivered` as a whole, with another behind it.
    pub fn has_done(&self, delivered: u64) -> bool {
        matches!(self.entries.lock().as_slice(), [_, next, ..] if next.first <= delivered)
    }

    /// Where the last one begins, if there is one to which nothing is written any more.
    pub fn sealed_last(&self) -> Option<u64> {
        self.entries.lock().last().filter(|last| !last.is_active).map(|last| last.first)
    }

    /// Forgets a segment whose file is gone.
    pub fn forget(&self, first: u64) {
        self.entries.lock().retain(|entry| entry.first != first);
    }

    /// Looks at a segment anew, for its file was replaced.
    pub fn renew(&self, first: u64) {
        if let Some(entry) = self.entries.lock().iter_mut().find(|entry| entry.first == first) {
            *entry = Entry { first, ..Entry::default() };
        }
    }

    /// Where each begins and the next one begins, oldest first; the last one ends at `end`.
    #[must_use]
    pub fn ranges(&self, end: u64) -> Vec<Range<u64>> {
        let entries = self.entries.lock();
        let ends = entries.iter().skip(1).map(|next| next.first).chain([end]);
        entries.iter().zip(ends).map(|(entry, end)| entry.first..end.max(entry.first)).collect()
    }

    /// The oldest one behind which another begins and that does not hold urgent records alone, and
    /// the one before it, if there is one.
    ///
    /// # Errors
    /// [`SegmentError`]: one of them cannot be opened.
    pub fn oldest_to_drop(&self) -> Result<Option<(Option<OpenSegment>, OpenSegment)>, SegmentError> {
        let mut before = None;
        loop {
            let next = {
                let entries = self.entries.lock();
                let after = before.as_ref().map_or(0, |place: &OpenSegment| place.first + 1);
                // Behind the last one a write may wait for its place.
                let others = entries.split_last().map_or(&[][..], |(_last, others)| others);
                others.iter().find(|entry| entry.first >= after).map(|entry| entry.first)
            };
            let Some(first) = next else { return Ok(None) };
            let place = self.holding(first)?;
            let head = place.segment.head().map_err(|cause| SegmentError { first, cause })?;
            if head.part != Part::Urgent {
                return Ok(Some((before, place)));
            }
            before = Some(place);
        }
    }

    /// How many there are, and the bytes that their files take on disk.
    #[must_use]
    pub fn usage(&self) -> (usize, u64) {
        let mut entries = self.entries.lock();
        let mut bytes = 0;
        for entry in entries.iter_mut() {
            let used =
                entry.used_bytes.unwrap_or_else(|| self.files.used_bytes(&segment::name_of(entry.first)));
            if !entry.is_active && entry.open.is_none() {
                entry.used_bytes = Some(used);
            }
            bytes += used;
        }
        (entries.len(), bytes)
    }

    /// Closes all files, the active one included. Blocking: a read that is under way is waited for.
    pub fn close(&self) {
        let entries = std::mem::take(&mut *self.entries.lock());
        let limit = clock::monotonic() + READ_ENDS_WITHIN;
        for segment in entries.into_iter().filter_map(|entry| entry.open) {
            while Arc::strong_count(&segment) > 1 && clock::monotonic() < limit {
                std::thread::sleep(READ_LOOKED_AT_EVERY);
            }
        }
    }

    /// Where the oldest segment begins, if it lies before `delivered` as a whole.
    fn oldest_delivered(&self, delivered: u64) -> Option<u64> {
        match self.entries.lock().as_slice() {
            [oldest, next, ..] if next.first <= delivered => Some(oldest.first),
            _ => None,
        }
    }
}

/// Closes the segments that are not active and that nobody but the list holds.
fn close_idle(entries: &mut [Entry]) {
    for entry in entries.iter_mut().filter(|entry| !entry.is_active) {
        if entry.open.as_ref().is_some_and(|segment| Arc::strong_count(segment) == 1) {
            entry.open = None;
        }
    }
}

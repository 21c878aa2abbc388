//! The segments of a store, oldest first: opened when they are read, deleted whole when they are done with.
//!
//! ```text
//!  seg-0…0.redb   seg-0…31870.redb   seg-0…64102.redb
//!  sealed          sealed             active: the only one that is written
//! ```
//! A segment ends where the next one begins. Opening and closing happen under one lock, for redb refuses a
//! file that is still being closed; reading happens outside of it.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    disk::Files,
    error::StoreError,
    segment::{self, Segment},
};
use crate::clock;

/// A read from the disk ends within this, or its file stays open behind a closed store.
const READ_ENDS_WITHIN: Duration = Duration::from_secs(2);
const READ_LOOKED_AT_EVERY: Duration = Duration::from_millis(1);

/// All segments of a store.
#[derive(Debug)]
pub struct Segments {
    files: Files,
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    first: u64,
    name: String,
    /// Open for as long as it is active or somebody reads it.
    open: Option<Arc<Segment>>,
    /// Received time of its last row, once known: milliseconds since 1970.
    newest_ms: Option<u64>,
}

/// A segment to read from.
#[derive(Debug)]
pub struct Place {
    /// Open.
    pub segment: Arc<Segment>,
    /// Where the next one begins; `None` for the active one.
    pub end: Option<u64>,
}

impl Segments {
    /// The segments that begin at `firsts`, ascending, the last of them active and open.
    pub fn new(files: Files, firsts: &[u64], active: Arc<Segment>) -> Self {
        let entry = |first: &u64| Entry {
            first: *first,
            name: segment::name_of(*first),
            open: None,
            newest_ms: None,
        };
        let mut entries: Vec<_> = firsts.iter().map(entry).collect();
        if let Some(last) = entries.last_mut() {
            last.open = Some(active);
        }
        Self { files, entries: Mutex::new(entries) }
    }

    /// Seals the active segment, whose last row was received at `newest_ms`, and goes on with another.
    pub fn seal(&self, newest_ms: u64, first: u64, active: Arc<Segment>) {
        let mut entries = self.entries.lock();
        if let Some(last) = entries.last_mut() {
            last.newest_ms = Some(newest_ms);
        }
        entries.push(Entry { first, name: segment::name_of(first), open: Some(active), newest_ms: None });
        close_idle(&mut entries);
    }

    /// The segment that holds `offset`, or the first one after it if it is in none.
    ///
    /// # Errors
    /// [`StoreError`]: it can not be opened.
    pub fn holding(&self, offset: u64) -> Result<Place, StoreError> {
        let mut entries = self.entries.lock();
        let at = entries.partition_point(|entry| entry.first <= offset).saturating_sub(1);
        let end = entries.get(at + 1).map(|next| next.first);
        let entry = entries.get_mut(at).ok_or(StoreError::Closed)?;
        if let Some(segment) = &entry.open {
            return Ok(Place { segment: segment.clone(), end });
        }
        let segment = Arc::new(Segment::open_sealed(&self.files, entry.name.clone())?);
        entry.open = Some(segment.clone());
        close_idle(&mut entries);
        Ok(Place { segment, end })
    }

    /// Deletes the segments that lie before `delivered` as a whole and whose newest event is older than `retain`.
    ///
    /// # Errors
    /// [`StoreError`]: what was not deleted is tried again next time.
    pub fn delete_done(&self, delivered: u64, retain: Duration, now_ms: u64) -> Result<usize, StoreError> {
        let mut deleted = 0;
        while let Some(first) = self.oldest_done(delivered, retain, now_ms)? {
            let mut entries = self.entries.lock();
            close_idle(&mut entries);
            if entries.first().is_none_or(|entry| entry.first != first || entry.open.is_some()) {
                break;
            }
            let name = entries.remove(0).name;
            self.files.remove(&name)?;
            tracing::debug!(segment = %name, "deleted: delivered, and kept long enough");
            deleted += 1;
        }
        if deleted > 0 {
            self.files.sync()?;
        }
        Ok(deleted)
    }

    /// How many there are, and the bytes that their files take on disk.
    #[must_use]
    pub fn usage(&self) -> (usize, u64) {
        let entries = self.entries.lock();
        let bytes = |entry: &Entry| self.files.used_bytes(&entry.name);
        (entries.len(), entries.iter().map(bytes).sum())
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

    /// Where the oldest segment begins, if it is done with.
    fn oldest_done(&self, delivered: u64, retain: Duration, now_ms: u64) -> Result<Option<u64>, StoreError> {
        let (first, newest_ms) = {
            let entries = self.entries.lock();
            match entries.as_slice() {
                [oldest, next, ..] if next.first <= delivered => (oldest.first, oldest.newest_ms),
                _ => return Ok(None),
            }
        };
        let newest_ms = match newest_ms {
            Some(newest_ms) => newest_ms,
            None => {
                let last = self.holding(first)?.segment.last()?;
                let newest_ms = last.map_or(0, |block| block.head().base_ms);
                if let Some(oldest) = self.entries.lock().first_mut() {
                    oldest.newest_ms = Some(newest_ms);
                }
                newest_ms
            }
        };
        let kept_ms = now_ms.saturating_sub(newest_ms);
        Ok((u128::from(kept_ms) >= retain.as_millis()).then_some(first))
    }
}

/// Closes the sealed segments that nobody but the list holds.
fn close_idle(entries: &mut [Entry]) {
    let Some((_active, sealed)) = entries.split_last_mut() else { return };
    for entry in sealed {
        if entry.open.as_ref().is_some_and(|segment| Arc::strong_count(segment) == 1) {
            entry.open = None;
        }
    }
}

//! A store of many events: how long it takes to open after a crash, and how fast they are read from
//! the files.

use std::{hint::black_box, path::Path, time::Duration};

use tidegate_tests::clock::now;

use tidegate::store::JOURNAL_BYTES_MAX;

use super::peers::{Peer as _, Tidegate, UPLINK, open_store};

/// Events of each commit while the store is filled.
const EVENTS_PER_COMMIT: u64 = 1_000;
/// Small commits before each crash: one less fills the journal.
const JOURNAL_COMMITS: u64 = 256;
/// Crashes, each followed by an opening.
const CRASHES: usize = 5;
/// Times that the whole store is read.
const DRAINS: usize = 3;

/// A store that was filled, and then crashed.
pub struct Filled {
    /// Events in it.
    pub events: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes that they take.
    pub file_bytes: u64,
}

/// Stores at least so many events, and goes on until the last segment is as good as full: that is
/// where opening takes longest. Then it crashes.
pub fn fill(folder: &Path, events_min: u64) -> Filled {
    let mut store = Tidegate::open(folder);
    let (mut events, mut begun_at, mut segments) = (0, 0, 1);
    let mut segment_events = u64::MAX;
    while events < events_min || events - begun_at + 2 * EVENTS_PER_COMMIT < segment_events {
        store.commit(EVENTS_PER_COMMIT);
        events += EVENTS_PER_COMMIT;
        let now_there = store.store().status().segments;
        if now_there > segments {
            segment_events = events - begun_at;
            (begun_at, segments) = (events, now_there);
        }
    }
    let file_bytes = store.store().status().file_bytes;
    (0..JOURNAL_COMMITS).for_each(|_| store.commit(1));
    store.crash();
    Filled { events, segments, file_bytes }
}

/// Opens the store after a crash, some times, each with a journal that is as good as full. Sorted.
pub fn open_after_crashes(folder: &Path) -> Vec<Duration> {
    let mut all: Vec<_> = (0..CRASHES)
        .map(|_| {
            let begun = now();
            let mut store = Tidegate::open(folder);
            let took = begun.elapsed();
            (0..JOURNAL_COMMITS).for_each(|_| store.commit(1));
            store.crash();
            took
        })
        .collect();
    all.sort_unstable();
    all
}

/// Reads and releases all there is, as an uplink does, from the files alone: the store was just
/// opened. The cursor is not saved, so that all of it is there again the next time. Gives how many
/// and how long, the median run.
pub fn drain(folder: &Path) -> (u64, Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let mut all: Vec<_> = (0..DRAINS)
        .map(|_| {
            let store = open_store(folder, JOURNAL_BYTES_MAX);
            let end = store.status().next_offset;
            let mut reader = store.reader(UPLINK).expect("nobody else has its reader");
            let begun = now();
            let mut events = 0;
            runtime.block_on(async {
                while reader.position() < end {
                    let from = reader.position();
                    let block = reader.next().await.expect("the files are as they were");
                    events += black_box(block.records_from(from)).count() as u64;
                    reader.release(block.end());
                }
            });
            let took = begun.elapsed();
            assert_eq!(events, end, "events are missing");
            store.crash();
            (events, took)
        })
        .collect();
    all.sort_unstable_by_key(|(_, took)| *took);
    all[DRAINS / 2]
}

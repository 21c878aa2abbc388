//! What commits write, to the byte: a frame of the journal is as many pages as a bare append would
//! be, and its rows are written once more when they go into a segment.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod simulated_disk;

use simulated_disk::{Random, SimulatedDisk};
use tidegate::{
    clock,
    store::{Batch, Record, Settings, Store},
};

const UPLINK: &str = "cloud";
const PAGE_BYTES: u64 = 4096;
/// Commits in some epochs of a journal that has 254 slots for frames.
const COMMITS: u64 = 1024;
const PAYLOAD: &[u8] = &[7; 40];

/// Bytes that a commit of so many events writes, in the mean of some epochs, and those that a bare
/// append of whole pages would.
fn written(events: u64) -> (u64, u64) {
    let disk = SimulatedDisk::new(Random::new(1).draw());
    let mut now = clock::now();
    let uplinks = [UPLINK.to_owned()];
    let (store, mut committer) =
        Store::open_stepwise(disk.folder(), Settings::new("/simulated"), &uplinks, now).unwrap();
    let mut commit = || {
        let mut batch = Batch::default();
        for _ in 0..events {
            batch.push(&Record {
                events: 1,
                received_ms: 1,
                client: "client-1",
                topic: "bench/t",
                payload: PAYLOAD,
                ..Record::default()
            });
        }
        store.intake().append(&mut batch).unwrap();
        now.at += std::time::Duration::from_millis(1);
        committer.step(now);
    };
    // The first ones make the segment and the journal.
    (0..4).for_each(|_| commit());
    let before = store.status().written_bytes;
    (0..COMMITS).for_each(|_| commit());
    let bytes = store.status().written_bytes - before;
    let mut bare = Vec::new();
    let record =
        Record { events: 1, client: "client-1", topic: "bench/t", payload: PAYLOAD, ..Record::default() };
    (0..events).for_each(|_| record.write(&mut bare));
    (bytes / COMMITS, (bare.len() as u64).next_multiple_of(PAGE_BYTES))
}

#[test]
fn a_commit_writes_little_more_than_a_bare_append_and_its_rows_once_more() {
    for (events, percent_max) in [(1, 108), (10, 130), (40, 205), (100, 205)] {
        let (written, bare) = written(events);
        println!("{events} events a commit: {written} B, a bare append {bare} B");
        assert!(written * 100 <= bare * percent_max, "{events} events: {written} B in place of {bare}");
    }
}

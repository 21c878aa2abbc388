//! The store without its gateway: what a commit costs, beside a bare file and SQLite, and what a
//! full store costs to open and to read. Prints tables of `docs/benchmarks.md`.
//!
//! `commits [SECONDS] [EVENTS]`: how long each size of commit is measured for each (6), and how
//! many events the store that is opened and read holds at least (10,000,000).
//!
//! All of it lies in one folder on disk. Bytes written are what the kernel counts for this process.
//! They take turns, so that what else the machine does hits them alike.

mod peers;
mod restart;

use std::{error::Error, fs::File, os::unix::fs::FileExt as _, path::Path, time::Duration};

use peers::{Peer, Preallocated, RawFile, Sqlite, Tidegate};
use tempfile::TempDir;
use tidegate_tests::{clock::now, meter, program};

const EVENTS_PER_COMMIT: [u64; 4] = [1, 100, 1_000, 10_000];
/// Turns that each of them gets for each size.
const TURNS: u32 = 3;
const SYNC_BYTES: usize = 4096;
const SYNCS: usize = 2_000;
/// What is asked for: from a crash to an open store, and how fast it is read.
const OPEN_MAX: Duration = Duration::from_millis(300);
const DRAINED_PER_SECOND_MIN: f64 = 1e6;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().map_or(Ok(6), |text| text.parse())?;
    let events = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    commits(Duration::from_secs(seconds) / TURNS)?;
    if restart(events) { Ok(()) } else { Err("a figure falls short of what is asked for: see above".into()) }
}

fn folder() -> TempDir {
    let made = tempfile::Builder::new().prefix("commits-").tempdir_in(program::scratch());
    made.expect("the scratch folder is writable")
}

/// What one of them did in its turns.
#[derive(Default, Clone, Copy)]
struct Sum {
    commits: u64,
    took: Duration,
    written_bytes: u64,
}

/// Rates and bytes by the size of a commit.
fn commits(turn: Duration) -> Result<(), Box<dyn Error>> {
    let place = folder();
    let (median, late) = sync_latency(place.path())?;
    println!("### Commits: Tidegate's store, bare files, SQLite\n");
    println!("| events per commit | | events/s | commits/s | written per event, B | written per commit, B |");
    println!("|---|---|---|---|---|---|");
    for events in EVENTS_PER_COMMIT {
        let place = folder();
        let mut all: [Box<dyn Peer>; 5] = [
            Box::new(Tidegate::open(place.path())),
            Box::new(Tidegate::open_without_journal(place.path())),
            Box::new(Preallocated::open(place.path())),
            Box::new(RawFile::open(place.path())),
            Box::new(Sqlite::open(place.path())),
        ];
        let mut sums = [Sum::default(); 5];
        all.iter_mut().for_each(|peer| peer.commit(events));
        for _ in 0..TURNS {
            for (peer, sum) in all.iter_mut().zip(&mut sums) {
                take_turn(peer.as_mut(), events, turn, sum);
            }
        }
        for (peer, sum) in all.iter().zip(sums) {
            let per_second = sum.commits as f64 / sum.took.as_secs_f64();
            println!(
                "| {events} | {} | {:.0} | {per_second:.0} | {} | {} |",
                peer.name(),
                per_second * events as f64,
                sum.written_bytes / (sum.commits * events),
                sum.written_bytes / sum.commits,
            );
        }
    }
    println!("\nOne write of 4 KiB in place and its fdatasync: p50 {median:.2} ms, p99 {late:.2} ms.\n");
    Ok(())
}

fn take_turn(peer: &mut dyn Peer, events: u64, turn: Duration, sum: &mut Sum) {
    let (begun, written) = (now(), written_bytes());
    while begun.elapsed() < turn {
        peer.commit(events);
        sum.commits += 1;
    }
    sum.took += begun.elapsed();
    sum.written_bytes += written_bytes() - written;
}

fn written_bytes() -> u64 {
    meter::usage(std::process::id()).written_bytes
}

/// What the disk takes for the least that can be synced: median and 99th percentile, in
/// milliseconds.
fn sync_latency(folder: &Path) -> std::io::Result<(f64, f64)> {
    let file = File::create(folder.join("sync"))?;
    file.write_all_at(&[0; SYNC_BYTES], 0)?;
    file.sync_all()?;
    let mut all = Vec::with_capacity(SYNCS);
    for n in 0..SYNCS {
        let begun = now();
        file.write_all_at(&[n as u8; SYNC_BYTES], 0)?;
        file.sync_data()?;
        all.push(begun.elapsed());
    }
    all.sort_unstable();
    let ms = |at: usize| all[at].as_secs_f64() * 1000.0;
    Ok((ms(SYNCS / 2), ms(SYNCS * 99 / 100)))
}

/// Opening after a crash, and reading all of it. False if one of them is slower than asked for.
fn restart(events_min: u64) -> bool {
    let place = folder();
    let filled = restart::fill(place.path(), events_min);
    let opened = restart::open_after_crashes(place.path());
    let (drained, took) = restart::drain(place.path());
    let worst = opened.last().copied().unwrap_or_default();
    let per_second = drained as f64 / took.as_secs_f64();
    println!("### A full store: opened after a crash, and read\n");
    println!(
        "| events | segments | files, MiB | open after a crash, ms: median / worst | read from the files, events/s |"
    );
    println!("|---|---|---|---|---|");
    println!(
        "| {} | {} | {} | {} / {} | {per_second:.0} |\n",
        filled.events,
        filled.segments,
        filled.file_bytes >> 20,
        opened[opened.len() / 2].as_millis(),
        worst.as_millis(),
    );
    worst <= OPEN_MAX && per_second >= DRAINED_PER_SECOND_MIN
}

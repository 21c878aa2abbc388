//! A store on a simulated disk, whoever fills and empties it, and a book of what was promised to
//! them.
//!
//! ```text
//!  World ─ append, send again ─▶ Store, Committer ─▶ SimulatedDisk
//!    │ ◀─ acknowledged ─ read, release ─┘                 │ cut, faults, damage
//!    └── Book: every record ever sent, what was acknowledged, given, delivered
//! ```
//! Everything follows from a seed: the store has no thread here, time is a number, and each step is
//! made from outside. [`World::check`] reads all that the uplink has not delivered and holds it
//! against the book:
//!
//! - every acknowledged record is there, was delivered, or was dropped with a gap record that
//!   counts it;
//! - none is invented or altered, none of a device's is out of order, none that has a name is there
//!   twice;
//! - an offset means the same record for ever, once a reader was given it;
//! - there is no gap record without a reason.

#![allow(dead_code, reason = "each file of tests uses its part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod book;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tidegate::{
    clock::{self, Now},
    store::{
        AppendError, Batch, Block, Committer, Reader, Record, Settings, Step, Store, StoreError, WhenFull,
        gap,
    },
};
use tokio::runtime::Runtime;

pub use self::book::Book;
use crate::simulated_disk::{Random, SimulatedDisk};

pub const UPLINK: &str = "cloud";
/// 2026-11-24, milliseconds since 1970.
const BEGINNING_MS: u64 = 1_795_500_000_000;
/// Reads that fail before the uplink gives up for now; more than the store itself takes for damage.
const READ_FAILURES_MAX: u32 = 20;
/// Longest wait for a block that has to come.
const READ_MAX: Duration = Duration::from_secs(20);
/// How often the store is made to step while a reader waits for it to mend something.
const STEP_EVERY: Duration = Duration::from_millis(2);
/// Steps in which a store that works again has to get over what failed.
const STEPS_MAX: u32 = 200;

/// A store between its opening and its end.
pub struct Life {
    // In the order in which they have to go.
    pub reader: Reader,
    pub committer: Committer,
    pub store: Store,
    batch: Batch,
}

pub struct World {
    pub disk: SimulatedDisk,
    pub random: Random,
    pub settings: Settings,
    pub book: Book,
    pub life: Option<Life>,
    pub gaps: Vec<gap::Gap>,
    runtime: Runtime,
    started: Instant,
    elapsed_ms: u64,
}

/// A store that never fills, with segments so small that they change often.
pub fn settings() -> Settings {
    Settings {
        segment_bytes: 24 * 1024,
        journal_bytes: 160 * 1024,
        dead_letters_max_bytes: 1 << 20,
        ..Settings::new("/simulated")
    }
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            random: Random::new(!seed),
            settings,
            book: Book::default(),
            life: None,
            gaps: Vec::new(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
            started: clock::monotonic(),
            elapsed_ms: 0,
        }
    }

    pub fn now(&self) -> Now {
        let elapsed = Duration::from_millis(self.elapsed_ms);
        Now {
            at: self.started + elapsed,
            wall_ms: BEGINNING_MS + self.elapsed_ms,
            steady_ms: self.elapsed_ms,
        }
    }

    pub fn wait(&mut self, ms: u64) {
        self.elapsed_ms += ms;
    }

    pub fn open(&mut self) -> Result<(), StoreError> {
        assert!(self.life.is_none(), "it is open");
        let uplinks = [UPLINK.to_owned()];
        let (store, committer) =
            Store::open_stepwise(self.disk.folder(), self.settings.clone(), &uplinks, self.now())?;
        let reader = store.reader(UPLINK).unwrap();
        self.book.reopened(reader.released(), self.settings.when_full == WhenFull::DropOldest);
        self.life = Some(Life { reader, committer, store, batch: Batch::default() });
        Ok(())
    }

    pub fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("the store is open")
    }

    /// Ends as SIGKILL does: what was written is seen, and what was not synced may be lost at a
    /// power cut.
    pub fn kill(&mut self) {
        if let Some(Life { reader, committer, store, .. }) = self.life.take() {
            store.cut_power();
            drop((reader, committer));
            store.crash();
        }
    }

    /// Ends as SIGTERM does.
    pub fn close(&mut self) {
        let now = self.now();
        if let Some(Life { reader, mut committer, store, .. }) = self.life.take() {
            drop(reader);
            while committer.step(now) == Step::Committed {}
            self.book.committed(store.intake().watermark().borrow().committed);
            committer.finish(now);
            store.close();
        }
    }

    pub fn step(&mut self) -> Step {
        let now = self.now();
        let step = self.life().committer.step(now);
        let committed = self.life().store.intake().watermark().borrow().committed;
        self.book.committed(committed);
        step
    }

    /// Steps until there is nothing to do any more: a store that works again gets over everything.
    pub fn settle(&mut self) {
        for _ in 0..STEPS_MAX {
            match self.step() {
                Step::Idle => return,
                Step::Committed => {}
                Step::Stuck(until) => {
                    let ms = until.saturating_duration_since(self.now().at).as_millis() as u64;
                    self.wait(ms);
                }
            }
        }
        panic!("the store did not come to rest: {:?}", self.life().store.status().failure);
    }

    /// Appends new records, some of every kind. False where the store takes none.
    pub fn append(&mut self, count: u64) -> bool {
        let Self { book, random, life, .. } = self;
        let life = life.as_mut().expect("the store is open");
        let wall_ms = BEGINNING_MS + self.elapsed_ms;
        let news: Vec<u64> = (0..count).map(|_| book.compose(random)).collect();
        news.iter().for_each(|id| book.push(*id, wall_ms, &mut life.batch));
        self.append_batch(&news)
    }

    /// Sends again what a device has no acknowledgement for.
    pub fn send_again(&mut self) {
        let wall_ms = BEGINNING_MS + self.elapsed_ms;
        let waiting = self.book.unacknowledged();
        for ids in waiting.chunks(16) {
            let life = self.life.as_mut().expect("the store is open");
            ids.iter().for_each(|id| self.book.push(*id, wall_ms, &mut life.batch));
            self.append_batch(ids);
        }
    }

    fn append_batch(&mut self, ids: &[u64]) -> bool {
        let life = self.life.as_mut().expect("the store is open");
        let tickets = life.batch.tickets();
        match life.store.intake().append(&mut life.batch) {
            Ok(first) => {
                self.book.appended(first + tickets, ids);
                true
            }
            Err(AppendError::Closed) => panic!("the store is closed"),
            Err(AppendError::Full | AppendError::StoreFull) => {
                life.batch = Batch::default();
                self.book.refused(ids);
                false
            }
        }
    }

    /// Begins to read the next block, and goes away for now, as an uplink does that has something
    /// else to do.
    pub fn begin_to_read(&mut self) {
        let reader = &mut self.life.as_mut().expect("the store is open").reader;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = reader.next() => {}
                () = std::future::ready(()) => {}
            }
        });
    }

    /// The next block for the uplink; `None` at the end of the log, and where the disk does not
    /// give it.
    pub fn read(&mut self) -> Option<Arc<Block>> {
        let now = self.now();
        let disk = self.disk.clone();
        let Life { reader, committer, store, .. } = self.life.as_mut().expect("the store is open");
        self.runtime.block_on(async {
            let (limit, mut failures) = (clock::monotonic() + READ_MAX, 0);
            loop {
                if !disk.has_power() || reader.position() >= store.status().next_offset {
                    return None;
                }
                tokio::select! {
                    biased;
                    block = reader.next() => match block {
                        Ok(block) => return Some(block),
                        // As an uplink does: a new connection, from where it stands; a disk that
                        // stays broken ends it.
                        Err(_) if failures < READ_FAILURES_MAX => {
                            failures += 1;
                            reader.seek(reader.position());
                        }
                        Err(_) => return None,
                    },
                    () = tokio::time::sleep(STEP_EVERY) => {
                        committer.step(now);
                        assert!(clock::monotonic() < limit, "no block came from {}", reader.position());
                    }
                }
            }
        })
    }

    /// Delivers up to `count` records of what is next.
    pub fn deliver(&mut self, count: u64) {
        let from = self.life().reader.released();
        self.life().reader.seek(from);
        let (mut at, mut left) = (from, count);
        while left > 0 {
            let Some(block) = self.read() else { break };
            for (offset, record) in block.records_from(at).take(left as usize) {
                self.note_gap(&record);
                self.book.given(offset, &record);
                (at, left) = (offset + 1, left - 1);
            }
        }
        if at > from {
            self.book.delivered(at);
            self.life().reader.release(at);
        }
    }

    fn note_gap(&mut self, record: &Record<'_>) {
        if record.topic == gap::TOPIC {
            let gap: gap::Gap = serde_json::from_slice(record.payload).unwrap();
            if !self.gaps.contains(&gap) {
                self.gaps.push(gap);
            }
        }
    }

    /// The records that are not delivered, as far as they are there.
    pub fn read_all(&mut self) -> Vec<u64> {
        self.read_undelivered().into_iter().map(|(_, id)| id).collect()
    }

    /// Reads all that is not delivered, and holds it against the book.
    pub fn check(&mut self) {
        let found = self.read_undelivered();
        let told = |gap: &gap::Gap| (gap.reason == gap::Reason::StoreFull).then(|| gap.range());
        for (n, gap) in self.gaps.iter().enumerate() {
            let again = self.gaps[..n].iter().find(|before| told(gap).is_some() && told(before) == told(gap));
            assert_eq!(again, None, "told again: {gap:?}");
        }
        self.book.check(&found, &self.gaps);
    }

    /// The records that are not delivered, with their offsets.
    fn read_undelivered(&mut self) -> Vec<(u64, u64)> {
        let from = self.life().reader.released();
        self.life().reader.seek(from);
        let (mut at, mut found) = (from, Vec::new());
        while let Some(block) = self.read() {
            for (offset, record) in block.records_from(at) {
                at = offset + 1;
                self.note_gap(&record);
                found.extend(self.book.given(offset, &record));
            }
        }
        let end = self.life().store.status().next_offset;
        assert_eq!(self.life().reader.position().max(from), end, "not all could be read");
        let released = self.life().reader.released();
        self.life().reader.seek(released);
        found
    }
}

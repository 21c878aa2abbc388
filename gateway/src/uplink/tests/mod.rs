//! The uplink against brokers: a scripted one for what a real one seldom does, and mosquitto.
//!
//! The store here is a log in memory with the same contract as the real one: blocks that may begin
//! before the position sought, a cursor that only `release` moves, and records set aside.

mod broker;
mod commands;
mod decoded;
mod faults;
mod formats;
mod mosquitto;
mod pace;
mod poison;
mod presence;
mod real_store;
mod replay;
mod shapes;

use std::{
    num::NonZeroU8,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    EventContext, Health, Settings,
    delivery::{carried::Control, forward},
    format::Format,
    health::Tally,
    pause::Pause,
    source::Source,
};
use crate::store::{Kind, NewLetter, ReadError, Record, StoreIds};

/// Nothing here takes longer, unless it never happens.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Records in a block, unless said otherwise: odd, so that windows and blocks do not end together.
const BLOCK_RECORDS: u64 = 7;

/// A record that owns its bytes.
#[derive(Debug, Clone)]
pub struct Owned {
    pub kind: Kind,
    pub events: u8,
    pub retain: bool,
    pub client: String,
    pub topic: String,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
    pub local: bool,
    pub urgent: bool,
    pub device_level: Option<NonZeroU8>,
}

impl Owned {
    pub fn new(topic: &str, payload: &[u8]) -> Self {
        Self {
            kind: Kind::Opaque,
            events: 1,
            retain: false,
            local: false,
            urgent: false,
            device_level: None,
            client: "client".to_owned(),
            topic: topic.to_owned(),
            properties: vec![],
            payload: payload.to_vec(),
        }
    }

    pub fn borrow(&self) -> Record<'_> {
        Record {
            kind: self.kind,
            events: self.events,
            retain: self.retain,
            qos: 1,
            local: self.local,
            device_level: self.device_level,
            urgent: self.urgent,
            received_ms: 1_700_000_000_123,
            client: &self.client,
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    records: Vec<Owned>,
    released: u64,
    aside: Vec<(u64, String)>,
    tries: Vec<u32>,
    closed: bool,
    /// Nothing can be set aside.
    is_full: bool,
    /// How often that was tried in vain.
    refusals: usize,
    /// Transactions that made dead letters.
    commits: usize,
}

/// A log in memory.
#[derive(Debug, Clone)]
pub struct Log {
    state: Arc<Mutex<State>>,
    grown: Arc<Notify>,
    pub block_records: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { state: Arc::default(), grown: Arc::default(), block_records: BLOCK_RECORDS }
    }
}

impl Log {
    /// A log of `count` numbered records: payload `n`, on `site/n`.
    pub fn numbered(count: usize) -> Self {
        let log = Self::default();
        (0..count).for_each(|n| log.push(Owned::new(&format!("site/{n}"), n.to_string().as_bytes())));
        log
    }

    pub fn push(&self, record: Owned) {
        self.state.lock().unwrap().records.push(record);
        self.grown.notify_waiters();
    }

    pub fn close(&self) {
        self.state.lock().unwrap().closed = true;
        self.grown.notify_waiters();
    }

    pub fn released(&self) -> u64 {
        self.state.lock().unwrap().released
    }

    /// Transactions that made dead letters.
    pub fn commits(&self) -> usize {
        self.state.lock().unwrap().commits
    }

    /// From now on nothing can be set aside, or it can again. Gives how often it was tried in vain.
    pub fn set_full(&self, is_full: bool) -> usize {
        let mut state = self.state.lock().unwrap();
        state.is_full = is_full;
        state.refusals
    }

    pub fn aside(&self) -> Vec<(u64, String)> {
        self.state.lock().unwrap().aside.clone()
    }

    /// How often each that was set aside had been sent.
    pub fn tries(&self) -> Vec<u32> {
        self.state.lock().unwrap().tries.clone()
    }
}

/// The one reader of a [`Log`].
pub struct Cursor {
    log: Log,
    position: u64,
}

impl Source for Cursor {
    type Block = (u64, Vec<Owned>);

    fn released(&self) -> u64 {
        self.log.released()
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn seek(&mut self, offset: u64) {
        self.position = offset;
    }

    async fn next(&mut self) -> Result<Arc<Self::Block>, ReadError> {
        loop {
            let grown = self.log.grown.notified();
            {
                let state = self.log.state.lock().unwrap();
                if state.closed {
                    return Err(ReadError::Closed);
                }
                let records = self.log.block_records;
                let first = self.position / records * records;
                let end = (first + records).min(state.records.len() as u64);
                if self.position < end {
                    self.position = end;
                    return Ok(Arc::new((first, state.records[first as usize..end as usize].to_vec())));
                }
            }
            grown.await;
        }
    }

    fn records_from(block: &Self::Block, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send {
        let records = block.1.iter().map(Owned::borrow);
        (block.0..).zip(records).filter(move |(found, _)| *found >= offset)
    }

    fn end(block: &Self::Block) -> u64 {
        block.0 + block.1.len() as u64
    }

    async fn controls(&self, offset: u64) -> Vec<Control> {
        let state = self.log.state.lock().unwrap();
        Control::newest((0..offset).zip(state.records.iter().map(Owned::borrow)))
    }

    fn release(&mut self, offset: u64) {
        let mut state = self.log.state.lock().unwrap();
        assert!(offset > state.released, "the cursor only ever moves on");
        state.released = offset;
    }

    async fn put_dead_letters(&self, letters: Arc<Vec<NewLetter>>) -> Result<(), ReadError> {
        // A commit takes its time.
        tokio::task::yield_now().await;
        let mut state = self.log.state.lock().unwrap();
        if state.is_full {
            state.refusals += 1;
            return Err(ReadError::Store(Arc::new(crate::store::StoreError::Closed)));
        }
        for letter in &*letters {
            assert_eq!(state.records[letter.offset as usize].borrow(), letter.record());
            state.aside.push((letter.offset, letter.reason.clone()));
            state.tries.push(letter.tries);
        }
        state.commits += 1;
        Ok(())
    }

    fn ids(&self) -> &StoreIds {
        static IDS: LazyLock<StoreIds> = LazyLock::new(|| StoreIds::one(0x0bad_cafe));
        &IDS
    }
}

/// An uplink at work.
pub struct Running {
    pub log: Log,
    pub health: Arc<Health>,
    pub shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub fn start(settings: Settings, log: Log) -> Self {
        Self::start_knowing(settings, log, &EventContext::default())
    }

    pub fn start_knowing(settings: Settings, log: Log, context: &EventContext) -> Self {
        settings.check().unwrap();
        let (health, shutdown) = (Arc::new(Health::default()), CancellationToken::new());
        let source = Cursor { log: log.clone(), position: 0 };
        let (shared, token) = (health.clone(), shutdown.clone());
        let format = Format::new(&settings, source.ids(), context);
        let task = tokio::spawn(async move {
            let tally = Tally::new(&settings.name, &shared);
            forward(settings, source, format, tally, Pause::default(), &token).await;
        });
        Self { log, health, shutdown, task }
    }

    /// Waits until everything before `offset` is released.
    pub async fn released(&self, offset: u64) {
        eventually(
            || self.log.released() >= offset,
            || format!("{:?} {:?}", self.log.released(), self.health),
        )
        .await;
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await;
    }

    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the uplink ends").unwrap();
    }
}

/// Settings for a broker on loopback, impatient enough for a test.
pub fn settings(port: u16) -> Settings {
    let mut settings = Settings::mqtt("cloud", "127.0.0.1", "barn-7");
    settings.broker().port = port;
    settings.backoff_min = Duration::from_millis(2);
    settings.backoff_max = Duration::from_millis(20);
    settings
}

/// Waits for `done`, and says what it saw instead if that takes too long.
pub async fn eventually(done: impl Fn() -> bool, saw: impl Fn() -> String) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
        panic!("it did not happen: {}", saw());
    }
}

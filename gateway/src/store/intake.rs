//! The way into the store: a bounded buffer that is already made of rows, and tickets for what is in it.
//!
//! A connection gathers what one socket read held in a [`Batch`] and appends it with one lock. Each record
//! gets a ticket; the commit thread takes all there is, makes it durable and moves the [`Watermark`]. A
//! receipt is a ticket below the watermark: acknowledgements are made from that and from nothing else.
//!
//! Limits: [`INTAKE_BYTES_MAX`]; above it an append is refused and the connection stops reading.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

use super::{
    pending::Pending,
    record::{Kind, Record},
    row,
};
use crate::clock;

/// Bytes that wait for a commit at most; a single larger batch passes into an empty intake.
pub const INTAKE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A record's time is kept as its low 32 bits, in milliseconds: it has to be nearer to its row's base than half of that.
const BASE_REACH_MS: u64 = 1 << 30;
/// What one QoS 2 step weighs in the intake, in bytes.
const OP_BYTES: usize = 64;

/// Records of one socket read on their way into the intake, in order. One per connection, reused.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    base_ms: u64,
    records: u32,
    events: u32,
    frames: u32,
    urgent: bool,
    tickets: u64,
    /// By ticket within the batch.
    ops: Vec<(u64, Op)>,
}

/// A step of QoS 2, made durable in the commit of its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Op {
    /// The record with this ticket is stored only if the id is not pending.
    Receive { client: Box<str>, packet_id: u16 },
    /// PUBREL: a ticket without a record.
    Release { client: Box<str>, packet_id: u16 },
    /// The session is over: a ticket without a record.
    Forget { client: Box<str> },
}

impl Batch {
    /// Adds a record that is acknowledged by its ticket alone (QoS 0 and 1).
    pub fn push(&mut self, record: &Record<'_>) {
        if self.records == 0 {
            self.base_ms = record.received_ms;
        }
        record.write(&mut self.bytes);
        self.records += 1;
        self.events += u32::from(record.events);
        self.frames += u32::from(record.kind == Kind::Frame);
        self.urgent |= record.urgent;
        self.tickets += 1;
    }

    /// Adds a QoS 2 record: stored unless `(client, packet_id)` is pending already, and then pending. Durable
    /// with the record.
    pub fn push_exactly_once(&mut self, record: &Record<'_>, packet_id: u16) {
        self.ops.push((self.tickets, Op::Receive { client: record.client.into(), packet_id }));
        self.push(record);
    }

    /// Adds the release of a QoS 2 packet id (PUBREL): it takes a ticket of its own, for the PUBCOMP.
    pub fn push_release(&mut self, client: &str, packet_id: u16) {
        self.push_op(Op::Release { client: client.into(), packet_id });
    }

    /// Adds the end of a session: all its QoS 2 packet ids are forgotten. Takes a ticket of its own.
    pub fn push_forget(&mut self, client: &str) {
        self.push_op(Op::Forget { client: client.into() });
    }

    /// Tickets that appending this batch takes.
    #[must_use]
    pub fn tickets(&self) -> u64 {
        self.tickets
    }

    /// Bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.ops.len() * OP_BYTES
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets == 0
    }

    fn push_op(&mut self, op: Op) {
        self.ops.push((self.tickets, op));
        self.tickets += 1;
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ops.clear();
        (self.records, self.events, self.frames, self.urgent, self.tickets) = (0, 0, 0, false, 0);
    }
}

/// Appending was not possible; the batch is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room now: stop reading the socket, wait for [`Intake::room`], try again.
    #[error("the intake is full")]
    Full,
    /// The store holds as much as it may: what is in the batch can not be stored now. Stop reading the socket and wait
    /// for [`Intake::room`].
    #[error("the store is full")]
    StoreFull,
    /// The store is closed: nothing more will be acknowledged. Close the connection.
    #[error("the store takes nothing more")]
    Closed,
}

/// How far the log is durable: tickets below `committed` are on disk. The first ticket of a process is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    /// All tickets below this one are durable.
    pub committed: u64,
    /// The store is closed: no ticket at or above `committed` ever becomes durable.
    pub closed: bool,
}

/// The store's intake. Cheap to clone; one clone per connection.
#[derive(Debug, Clone)]
pub struct Intake {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
    room: Notify,
    watermark: watch::Sender<Watermark>,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Queue {
    taken: Taken,
    next_ticket: u64,
    closed: bool,
    /// The commit thread waits for the condition variable.
    idle: bool,
    quota: Quota,
}

/// What the store may still take, in bytes of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    /// For everything.
    pub bytes: u64,
    /// For batches with something urgent in them: a part of the store is kept for these.
    pub urgent_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { bytes: u64::MAX, urgent_bytes: u64::MAX }
    }
}

impl Queue {
    /// Whether a batch of so many bytes is taken in. A closed queue refuses at once, so it lets nobody wait.
    fn has_room(&self, bytes: usize) -> bool {
        self.closed || self.taken.is_empty() || self.taken.bytes + bytes <= INTAKE_BYTES_MAX
    }

    /// Whether the store may hold a batch with so many bytes of records.
    fn is_within_quota(&self, record_bytes: usize, urgent: bool) -> bool {
        let quota = if urgent { self.quota.urgent_bytes } else { self.quota.bytes };
        record_bytes == 0 || self.closed || (self.taken.bytes + record_bytes) as u64 <= quota
    }
}

/// What the commit thread takes out at once.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Rows to be, their heads not sealed, in order.
    pub chunks: VecDeque<Chunk>,
    /// QoS 2 steps by ticket, in order.
    pub ops: VecDeque<(u64, Op)>,
    /// The first ticket that none of this has.
    pub end_ticket: u64,
    /// What it weighs.
    pub bytes: usize,
    urgent: bool,
}

/// A row to be.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// Room for the head, then records.
    pub row: Vec<u8>,
    /// Received time of the first record, wall clock, milliseconds since 1970.
    pub base_ms: u64,
    pub records: u32,
    pub events: u32,
    /// Records that are frames, whose identity has to be looked at.
    pub frames: u32,
    /// Ticket of the first record.
    pub first_ticket: u64,
}

impl Chunk {
    /// Whether a record received at `ms` can be told from the row's base. Not across a clock that was just set.
    fn is_of_the_time(&self, ms: u64) -> bool {
        self.base_ms.abs_diff(ms) < BASE_REACH_MS
    }
}

impl Taken {
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ops.is_empty()
    }
}

impl Intake {
    /// An empty intake that knows what was pending before.
    pub(super) fn new(pending: Pending) -> Self {
        Self {
            shared: Arc::new(Shared {
                queue: Mutex::default(),
                arrived: Condvar::new(),
                room: Notify::new(),
                watermark: watch::Sender::default(),
                pending: Mutex::new(pending),
            }),
        }
    }

    /// Moves the batch into the intake with one lock, and gives the first of its [`Batch::tickets`], which
    /// are consecutive and in push order. The batch is empty afterwards, its memory kept.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was taken.
    pub fn append(&self, batch: &mut Batch) -> Result<u64, AppendError> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        let bytes = batch.bytes();
        if !queue.is_within_quota(batch.bytes.len(), batch.urgent) {
            return Err(AppendError::StoreFull);
        }
        if !queue.has_room(bytes) {
            return Err(AppendError::Full);
        }
        let first = queue.next_ticket;
        queue.next_ticket += batch.tickets;
        let end_ticket = queue.next_ticket;
        queue.taken.take_in(batch, first, bytes);
        queue.taken.end_ticket = end_ticket;
        let wake = std::mem::take(&mut queue.idle) || queue.taken.urgent || queue.taken.is_full_row();
        drop(queue);
        if wake {
            self.shared.arrived.notify_one();
        }
        batch.clear();
        Ok(first)
    }

    /// Waits until there may be room for `batch`. Cancel-safe.
    pub async fn room(&self, batch: &Batch) {
        let room = self.shared.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        {
            let queue = self.shared.queue.lock();
            if queue.has_room(batch.bytes()) && queue.is_within_quota(batch.bytes.len(), batch.urgent) {
                return;
            }
        }
        room.await;
    }

    /// Says what the store may still take.
    pub(super) fn set_quota(&self, quota: Quota) {
        let mut queue = self.shared.queue.lock();
        if queue.quota != quota {
            queue.quota = quota;
            drop(queue);
            self.shared.room.notify_waiters();
        }
    }

    /// The durable watermark: an acknowledgement is made from this and from nothing else.
    #[must_use]
    pub fn watermark(&self) -> watch::Receiver<Watermark> {
        self.shared.watermark.subscribe()
    }

    /// Whether `client` has QoS 2 packet ids pending (from this process or one before).
    #[must_use]
    pub fn has_pending(&self, client: &str) -> bool {
        self.shared.pending.lock().has(client)
    }

    /// The pending QoS 2 ids, for the commit thread.
    pub(super) fn pending(&self) -> parking_lot::MutexGuard<'_, Pending> {
        self.shared.pending.lock()
    }

    /// Waits for something to commit, at most until `until`, and lets it linger for company. False once the intake is
    /// closed.
    pub(super) fn wait(&self, until: Instant, linger: impl FnOnce(Instant) -> Duration) -> bool {
        let mut queue = self.shared.queue.lock();
        while queue.taken.is_empty() && !queue.closed {
            queue.idle = true;
            if self.shared.arrived.wait_until(&mut queue, until).timed_out() {
                queue.idle = false;
                return true;
            }
        }
        let now = clock::monotonic();
        let linger_until = now + linger(now);
        while linger_until > now && !queue.taken.urgent && !queue.taken.is_full_row() && !queue.closed {
            if self.shared.arrived.wait_until(&mut queue, linger_until).timed_out() {
                break;
            }
        }
        queue.idle = false;
        !queue.closed
    }

    /// Waits until `until`, whatever arrives. False once the intake is closed.
    pub(super) fn pause(&self, until: Instant) -> bool {
        let mut queue = self.shared.queue.lock();
        while !queue.closed && !self.shared.arrived.wait_until(&mut queue, until).timed_out() {}
        !queue.closed
    }

    /// Takes out all that is there.
    pub(super) fn take(&self) -> Taken {
        let taken = std::mem::take(&mut self.shared.queue.lock().taken);
        self.shared.room.notify_waiters();
        taken
    }

    /// Moves the watermark: everything below `committed` is durable.
    pub(super) fn committed(&self, committed: u64) {
        self.shared.watermark.send_modify(|watermark| watermark.committed = committed);
    }

    /// Takes nothing more. What is in it can still be taken out.
    pub(super) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.arrived.notify_one();
        self.shared.room.notify_waiters();
    }

    /// Nothing will become durable any more.
    pub(super) fn end(&self) {
        self.close();
        self.shared.watermark.send_modify(|watermark| watermark.closed = true);
    }
}

impl Taken {
    fn is_full_row(&self) -> bool {
        self.bytes >= row::ROW_BYTES_MAX
    }

    fn take_in(&mut self, batch: &mut Batch, first_ticket: u64, bytes: usize) {
        self.bytes += bytes;
        self.urgent |= batch.urgent;
        if batch.records > 0 {
            self.take_records(batch, first_ticket);
        }
        self.ops.extend(batch.ops.drain(..).map(|(ticket, op)| (first_ticket + ticket, op)));
    }

    fn take_records(&mut self, batch: &Batch, first_ticket: u64) {
        // A ticket without a record would shift the tickets of the records behind it.
        let plain = u64::from(batch.records) == batch.tickets;
        if let Some(chunk) = self.chunks.back_mut()
            && plain
            && chunk.first_ticket + u64::from(chunk.records) == first_ticket
            && chunk.row.len() + batch.bytes.len() <= row::ROW_BYTES_MAX
            && chunk.is_of_the_time(batch.base_ms)
        {
            chunk.row.extend_from_slice(&batch.bytes);
            chunk.records += batch.records;
            chunk.events += batch.events;
            chunk.frames += batch.frames;
            return;
        }
        let mut own = batch.ops.iter().filter(|(_, op)| !matches!(op, Op::Receive { .. })).map(|(at, _)| *at);
        let mut without_record = own.next();
        let (mut at, mut ticket) = (0, 0);
        while let Some((events, size)) = Record::peek(&batch.bytes, at) {
            while without_record == Some(ticket) {
                ticket += 1;
                without_record = own.next();
            }
            let record = &batch.bytes[at..at + size];
            self.take_record(record, events, batch.base_ms, first_ticket + ticket);
            at += size;
            ticket += 1;
        }
    }

    fn take_record(&mut self, record: &[u8], events: u8, base_ms: u64, ticket: u64) {
        let fits = self.chunks.back().is_some_and(|chunk| {
            chunk.first_ticket + u64::from(chunk.records) == ticket
                && chunk.row.len() + record.len() <= row::ROW_BYTES_MAX
                && chunk.is_of_the_time(base_ms)
        });
        if !fits {
            let mut row = Vec::with_capacity(row::ROW_BYTES_MAX.max(row::HEAD_BYTES + record.len()));
            row.resize(row::HEAD_BYTES, 0);
            self.chunks.push_back(Chunk { row, base_ms, first_ticket: ticket, ..Chunk::default() });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.row.extend_from_slice(record);
            chunk.records += 1;
            chunk.events += u32::from(events);
            chunk.frames += u32::from(Record::is_frame(record));
        }
    }
}

//! The way into the store: a bounded buffer that is already made of rows, and tickets for what is
//! in it.
//!
//! A connection gathers what one socket read held in a [`Batch`] and appends it with one lock. Each
//! record gets a ticket; the commit thread takes all there is, makes it durable and moves the
//! [`Watermark`]. A receipt is a ticket below the watermark: acknowledgements are made from that
//! and from nothing else.
//!
//! Limits: [`INTAKE_BYTES_MAX`]; above it an append is refused and the connection stops reading.
//! Who gets how much of it, `share` says. A store that is full has a quota: what is above it is
//! refused, except steps of QoS 2, which take no room.

pub mod attached;
pub mod batch;
pub mod pace;
pub mod quota;
pub mod share;
pub mod taken;

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::{Notify, watch};

use self::{
    batch::{Batch, Refusal, Size},
    quota::Quota,
    taken::Taken,
};
use super::record::pending::Pending;
use crate::clock;

/// Bytes that wait for a commit at most; a single larger batch passes into an empty intake.
pub const INTAKE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest linger of a commit that a local subscriber waits for: too short to be noticed, and long
/// enough for company.
pub const HURRIED_LINGER_MAX: Duration = Duration::from_millis(20);

/// Appending was not possible; the batch is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// No room now: stop reading the socket, wait for [`Intake::room`], try again.
    #[error("the intake is full")]
    Full,
    /// The store holds as much as it may: what is in the batch cannot be stored now. Tell the
    /// client if it can be told, with [`Intake::refuse`]; else stop reading the socket and wait for
    /// [`Intake::room`].
    #[error("the store is full")]
    StoreFull,
    /// The store is closed, as by a stop: nothing more will be acknowledged. Close the connection.
    /// A write that fails does not close it: the intake fills up then, until writing works again.
    #[error("the store is closed")]
    Closed,
}

/// How far the log is durable: tickets below `committed` are on disk. The first ticket of a process
/// is 0.
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
    /// How often all was taken out.
    filling: u64,
    next_ticket: u64,
    closed: bool,
    /// The commit thread waits for the condition variable.
    idle: bool,
    quota: Quota,
}

impl Queue {
    /// Whether a batch of this size is taken in. A closed queue refuses at once, so it lets nobody
    /// wait.
    fn has_room(&self, size: Size) -> bool {
        self.closed || self.taken.is_empty() || size.fits(self.filling, self.taken.bytes)
    }

    /// Whether the store may hold a batch of this size.
    fn is_within_quota(&self, size: Size) -> bool {
        self.closed || self.quota.takes(self.taken.bytes, size)
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

    /// Moves the batch into the intake with one lock, and gives the first of its
    /// [`Batch::tickets`], which are consecutive and in push order. The batch is empty afterwards,
    /// its memory kept.
    ///
    /// # Errors
    /// [`AppendError`]: nothing was taken.
    pub fn append(&self, batch: &mut Batch) -> Result<u64, AppendError> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(AppendError::Closed);
        }
        let size = batch.size();
        if !queue.is_within_quota(size) {
            return Err(AppendError::StoreFull);
        }
        if !queue.has_room(size) {
            return Err(AppendError::Full);
        }
        let first = queue.next_ticket;
        queue.next_ticket += batch.tickets;
        let end_ticket = queue.next_ticket;
        let is_first_hurried = batch.is_hurried() && !queue.taken.hurried;
        queue.taken.take_in(batch, first, size.bytes);
        queue.taken.end_ticket = end_ticket;
        batch.share.add(queue.filling, size.bytes);
        let is_due = queue.taken.urgent || is_first_hurried || queue.taken.is_full_row();
        let wake = std::mem::take(&mut queue.idle) || is_due;
        drop(queue);
        if wake {
            self.shared.arrived.notify_one();
        }
        batch.clear();
        Ok(first)
    }

    /// Takes out of `batch` what a full store refuses: the records that are not urgent; if all are
    /// urgent, all of them. What is left can be appended: the urgent records, the QoS 2 steps
    /// without a record, and the QoS 2 records whose ids are pending, for those are stored already.
    ///
    /// The id of a QoS 2 record that is refused is released, so that the client may use it for
    /// another message. If its first copy came over a connection just lost and is still in the
    /// intake, that one is stored although the client is told that it is refused: sent again, it is
    /// a copy.
    pub fn refuse(&self, batch: &mut Batch) -> Refusal {
        let pending = self.shared.pending.lock();
        batch.refuse(|client, packet_id| pending.contains(client, packet_id))
    }

    /// Waits until there is room for `batch`, which may be taken by another meanwhile. Cancel-safe.
    pub async fn room(&self, batch: &Batch) {
        self.room_for(batch.size()).await;
    }

    /// Waits until there is room for a batch of this size. Cancel-safe.
    pub async fn room_for(&self, size: Size) {
        loop {
            let mut room = pin!(self.shared.room.notified());
            room.as_mut().enable();
            {
                let queue = self.shared.queue.lock();
                if queue.has_room(size) && queue.is_within_quota(size) {
                    return;
                }
            }
            room.await;
        }
    }

    /// Whether the store refuses everything that is not urgent.
    pub(super) fn is_store_full(&self) -> bool {
        self.shared.queue.lock().quota.is_full()
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

    /// The pending QoS 2 ids, for the commit thread.
    pub(super) fn pending(&self) -> parking_lot::MutexGuard<'_, Pending> {
        self.shared.pending.lock()
    }

    /// Waits for something to commit, at most until `until`, and lets it linger for company. False
    /// once the intake is closed.
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
        let (mut linger_until, mut is_hurried) = (now + linger(now), false);
        while linger_until > now && !queue.taken.urgent && !queue.taken.is_full_row() && !queue.closed {
            if queue.taken.hurried && !std::mem::replace(&mut is_hurried, true) {
                linger_until = linger_until.min(clock::monotonic() + HURRIED_LINGER_MAX);
            }
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

    /// What waits for a commit weighs so many bytes.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.shared.queue.lock().taken.bytes
    }

    /// Takes out all that is there.
    pub(super) fn take(&self) -> Taken {
        let mut queue = self.shared.queue.lock();
        queue.filling += 1;
        let taken = std::mem::take(&mut queue.taken);
        drop(queue);
        self.shared.room.notify_waiters();
        taken
    }

    /// Moves the watermark: everything below `committed` is durable.
    pub(super) fn committed(&self, committed: u64) {
        self.shared.watermark.send_modify(|watermark| watermark.committed = committed);
    }

    /// Somebody at hand waits for what is in it: it lingers for [`HURRIED_LINGER_MAX`] at most from
    /// now on.
    pub fn hurry(&self) {
        let mut queue = self.shared.queue.lock();
        if !queue.taken.is_empty() && !std::mem::replace(&mut queue.taken.hurried, true) {
            drop(queue);
            self.shared.arrived.notify_one();
        }
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

#[cfg(test)]
mod tests {
    use super::share::{BESIDE_LARGE_BYTES, SHARE_BYTES_MAX, SMALL_BATCH_BYTES};
    use super::*;
    use crate::store::record::Record;

    fn batch(payload_bytes: usize) -> Batch {
        let mut batch = Batch::default();
        push(&mut batch, payload_bytes);
        batch
    }

    fn push(batch: &mut Batch, payload_bytes: usize) {
        batch.push(&Record {
            events: 1,
            qos: 0,
            received_ms: 1,
            client: "c",
            topic: "t",
            payload: &vec![0; payload_bytes],
            ..Record::default()
        });
    }

    fn fill(intake: &Intake, payload_bytes: usize) -> usize {
        let mut appended = 0;
        while intake.append(&mut batch(payload_bytes)).is_ok() {
            appended += 1;
        }
        appended
    }

    #[test]
    fn those_that_send_much_leave_room_for_those_that_send_a_little() {
        let intake = Intake::new(Pending::default());
        // Each batch is that of another connection.
        let large = fill(&intake, SMALL_BATCH_BYTES);
        assert!(large > 800, "{large}");
        let small = fill(&intake, 100);
        assert!(small > 1000, "{small} small batches beside those that fill the rest");
        assert!(intake.waiting_bytes() <= INTAKE_BYTES_MAX);
        intake.take();
        assert!(intake.append(&mut batch(2 * INTAKE_BYTES_MAX)).is_ok(), "an empty intake takes any");
        assert_eq!(intake.append(&mut batch(1)), Err(AppendError::Full));
    }

    #[test]
    fn one_that_is_larger_than_the_rest_is_taken_in_beside_a_little_and_not_beside_much() {
        let intake = Intake::new(Pending::default());
        fill_up_to(&intake, BESIDE_LARGE_BYTES / 2);
        assert!(intake.append(&mut batch(INTAKE_BYTES_MAX)).is_ok(), "beside a little");
        assert_eq!(intake.append(&mut batch(INTAKE_BYTES_MAX)), Err(AppendError::Full), "one at a time");
        intake.take();
        fill_up_to(&intake, 2 * BESIDE_LARGE_BYTES);
        assert_eq!(intake.append(&mut batch(INTAKE_BYTES_MAX)), Err(AppendError::Full), "beside much");
    }

    fn fill_up_to(intake: &Intake, bytes: usize) {
        while intake.waiting_bytes() < bytes {
            assert!(intake.append(&mut batch(100)).is_ok());
        }
    }

    #[test]
    fn one_connection_gets_its_share_and_after_a_commit_another() {
        let intake = Intake::new(Pending::default());
        for _ in 0..3 {
            let mut flood = batch(60_000);
            while intake.append(&mut flood).is_ok() {
                push(&mut flood, 60_000);
            }
            let waiting = intake.waiting_bytes();
            assert!(waiting <= SHARE_BYTES_MAX && waiting > SHARE_BYTES_MAX - 70_000, "{waiting}");
            assert!(intake.append(&mut batch(60_000)).is_ok(), "another has its own");
            assert_eq!(intake.append(&mut flood), Err(AppendError::Full));
            intake.take();
            assert!(intake.append(&mut flood).is_ok());
            intake.take();
        }
    }
}

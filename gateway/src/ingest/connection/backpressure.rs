//! A connection's way into the intake: its batch, and what it does while there is no room for it.
//!
//! ```text
//!   append ─▶ taken in ─────────────────────────────────────▶ reads on
//!      │ intake full, or the store is and the client cannot be told ─▶ Blocked ─ room ─▶ append again
//!      └ store full: refused, the rest is appended ─▶ Refusing ─ nothing more to read ─▶ Pausing ─ room, time ─▶ reads on
//! ```
//! A client that is refused is read from until its socket holds nothing more, or for
//! [`STORE_FULL_READ_MAX`]; then reading pauses. So one that publishes on is slowed down, and what
//! is behind its publishes, such as a PINGREQ, waits for [`STORE_FULL_PAUSE`] and not for each of
//! them.
//!
//! A client above its limits per second (see `rate_limit`) is not read from until its debt is paid.
//! That holds beside all of the above: while there is any reason not to read, nothing is read, and
//! a keep-alive does not run out.
//!
//! Crash story: what is in the batch was not acknowledged. Limits: one batch. It does not wait for
//! anything by itself.

use std::{mem::take, sync::Arc, time::Instant};

use super::{
    large::{Entered, Large, LargeRoom},
    rate_limit::Quota,
};
use crate::{
    ingest::limits::{RateLimit, STORE_FULL_PAUSE, STORE_FULL_READ_MAX},
    mqtt::fault::Fault,
    store::{AppendError, Attached, Batch, Intake, Refusal, Size},
};

/// The way in.
pub(super) struct Backpressure {
    pub batch: Batch,
    intake: Intake,
    state: State,
    /// From accepting on, its client is connected for the store as well.
    attached: Option<Attached>,
    quota: Option<Quota>,
    /// The client is above its limits.
    throttled_until: Option<Instant>,
    large: Large,
    /// Whether it is to be read from may have changed since [`Backpressure::take_blocked`] was
    /// asked.
    is_changed: bool,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) enum Appended {
    /// It is in the intake, from this ticket on.
    Taken { first: u64 },
    /// The store is full, and this was taken out of it: the rest is to be appended.
    Refused(Refusal),
    /// It waits for room.
    Blocked { is_store_full: bool },
}

/// What became of the last records of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// They are in the intake, and durable once the watermark has reached this.
    Appended { committed_at: u64 },
    /// The store is full: those that are not urgent are gone.
    Refused,
    /// They have to wait.
    NoRoom,
}

/// Which room there may be.
#[derive(Debug)]
pub(super) enum Room {
    /// In the intake.
    Intake,
    /// For a large packet.
    Large(Entered),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The batch is empty, or was just filled.
    Open,
    /// The batch waits for room.
    Blocked,
    /// A batch of this size was refused, and so much was read since.
    Refusing { size: Size, read_bytes: usize },
    /// A batch of this size was refused; nothing is read until there is room for another, or until
    /// then.
    Pausing { size: Size, until: Instant },
}

impl Backpressure {
    pub fn new(intake: Intake, quota: Option<Quota>, room: LargeRoom) -> Self {
        Self {
            batch: Batch::default(),
            intake,
            state: State::Open,
            attached: None,
            quota,
            throttled_until: None,
            large: Large::new(room),
            is_changed: false,
        }
    }

    /// The client is accepted: its QoS 2 packet ids are kept for as long as the connection lasts.
    pub fn attach(&mut self, client: Arc<str>) {
        self.attached = Some(self.intake.attach(client));
    }

    /// Takes all out of the batch if its client would not keep to `unreleased_max` QoS 2 publishes
    /// that it did not release: nothing of it was acknowledged. Whether it does keep to it.
    pub fn keeps_within(&mut self, unreleased_max: usize) -> bool {
        let keeps = self.intake.keeps_within(&self.batch, unreleased_max);
        if !keeps {
            self.batch = Batch::default();
        }
        keeps
    }

    /// Whether there is a reason not to read, if that may have changed since this was asked last:
    /// the session has to know.
    #[inline]
    pub fn take_blocked(&mut self) -> Option<bool> {
        take(&mut self.is_changed).then(|| self.throttled_until.is_some() || self.waits_for_room())
    }

    /// So much came from the client: gives the limit that it is above, if nothing is read for a
    /// while.
    #[inline]
    pub fn charge(&mut self, now: Instant, publishes: u64, bytes: usize) -> Option<RateLimit> {
        let (until, limit) = self.quota.as_mut()?.take(now, publishes, bytes as u64)?;
        self.throttled_until = Some(until);
        self.is_changed = true;
        Some(limit)
    }

    /// What was read is with the session, and the packet behind it has so many bytes in all, as far
    /// as is known, `read_bytes` of which are here: a large one has room of its own, which is given
    /// back once all is in the intake.
    #[inline]
    pub fn note_incoming(&mut self, now: Instant, bytes: usize, read_bytes: usize) {
        if !self.batch.is_empty() {
            return self.large.note_whole();
        }
        self.large.note(now, bytes, read_bytes);
        self.is_changed |= self.large.is_waiting();
    }

    /// Appends the batch, or what of it is not refused: to be called again after a refusal. Only a
    /// client that can be told is refused.
    ///
    /// # Errors
    /// The store is closed: the batch is gone.
    pub fn append(&mut self, can_refuse: bool) -> Result<Appended, AppendError> {
        let appended = if self.batch.is_empty() { Ok(0) } else { self.intake.append(&mut self.batch) };
        match appended {
            Ok(first) => {
                self.let_go();
                Ok(Appended::Taken { first })
            }
            Err(AppendError::StoreFull) if can_refuse => {
                self.let_go();
                Ok(Appended::Refused(self.refuse()))
            }
            Err(error @ (AppendError::Full | AppendError::StoreFull)) => {
                if self.state != State::Blocked {
                    self.state = State::Blocked;
                    self.is_changed = true;
                }
                Ok(Appended::Blocked { is_store_full: error == AppendError::StoreFull })
            }
            Err(AppendError::Closed) => {
                self.state = State::Open;
                self.batch = Batch::default();
                Err(AppendError::Closed)
            }
        }
    }

    /// Appends the last records of an ended session, and gives what became of them. A full store
    /// gets the steps of QoS 2 alone, and `on_refused` the rest.
    ///
    /// # Errors
    /// The store is closed.
    pub fn append_last(&mut self, mut on_refused: impl FnMut(&Refusal)) -> Result<Last, AppendError> {
        let mut last = Last::Appended { committed_at: 0 };
        while !self.batch.is_empty() {
            let tickets = self.batch.tickets();
            match self.intake.append(&mut self.batch) {
                Ok(first) if last != Last::Refused => {
                    last = Last::Appended { committed_at: first + tickets };
                }
                Ok(_) => {}
                Err(AppendError::Full) => {
                    self.state = State::Blocked;
                    return Ok(Last::NoRoom);
                }
                Err(AppendError::StoreFull) => {
                    on_refused(&self.refuse());
                    last = Last::Refused;
                }
                Err(AppendError::Closed) => return Err(AppendError::Closed),
            }
        }
        Ok(last)
    }

    fn refuse(&mut self) -> Refusal {
        let size = self.batch.size();
        let refused = self.intake.refuse(&mut self.batch);
        let read_bytes = if let State::Refusing { read_bytes, .. } = self.state { read_bytes } else { 0 };
        self.state = State::Refusing { size, read_bytes };
        refused
    }

    /// The batch is no longer blocked.
    fn let_go(&mut self) {
        if self.state == State::Blocked {
            self.state = State::Open;
            self.is_changed = true;
        }
    }

    /// So much was read.
    pub fn note_read(&mut self, now: Instant, bytes: usize) {
        if let State::Refusing { read_bytes, .. } = &mut self.state {
            *read_bytes += bytes;
            if *read_bytes >= STORE_FULL_READ_MAX {
                self.pause(now);
            }
        }
    }

    /// Whether reading is to pause as soon as nothing more is there to be read.
    pub fn is_refusing(&self) -> bool {
        matches!(self.state, State::Refusing { .. })
    }

    /// Nothing more is there to be read.
    pub fn pause(&mut self, now: Instant) {
        if let State::Refusing { size, .. } = self.state {
            self.state = State::Pausing { size, until: now + STORE_FULL_PAUSE };
            self.is_changed = true;
        }
    }

    /// When [`Backpressure::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.pauses_until().into_iter().chain(self.throttled_until).chain(self.large.due()).min()
    }

    fn pauses_until(&self) -> Option<Instant> {
        if let State::Pausing { until, .. } = self.state { Some(until) } else { None }
    }

    /// Reads on if a pause is over, or a debt is paid.
    ///
    /// # Errors
    /// [`Fault::PacketTimeout`]: the rest of a large packet did not come in time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Fault> {
        if self.throttled_until.is_some_and(|until| until <= now) {
            self.throttled_until = None;
            self.is_changed = true;
        }
        if self.pauses_until().is_some_and(|until| until <= now) {
            self.read_on();
        }
        if self.large.due().is_some_and(|until| until <= now) { Err(Fault::PacketTimeout) } else { Ok(()) }
    }

    fn read_on(&mut self) {
        self.state = State::Open;
        self.is_changed = true;
    }

    /// Whether room is waited for, in the intake or for a large packet.
    pub fn waits_for_room(&self) -> bool {
        self.waits_for_intake() || self.large.is_waiting()
    }

    fn waits_for_intake(&self) -> bool {
        matches!(self.state, State::Blocked | State::Pausing { .. })
    }

    /// Waits for room in the intake; else for that of a large packet. Cancel-safe.
    pub async fn room(&mut self) -> Room {
        if self.large.is_waiting() && !self.waits_for_intake() {
            return Room::Large(self.large.entered().await);
        }
        self.intake_room().await;
        Room::Intake
    }

    /// Waits for room for what is in the batch, or for as much as was refused. Cancel-safe.
    pub async fn intake_room(&self) {
        let size = if let State::Pausing { size, .. } = self.state { size } else { self.batch.size() };
        self.intake.room_for(size).await;
    }

    /// There may be room: ends a pause. Gives whether a batch is blocked, and so to be appended.
    pub fn handle_room(&mut self, now: Instant, room: Room) -> bool {
        match room {
            Room::Large(entered) => {
                self.large.handle_entered(now, entered);
                self.is_changed = true;
            }
            Room::Intake if self.pauses_until().is_some() => self.read_on(),
            Room::Intake => {}
        }
        self.state == State::Blocked
    }

    /// The intake itself.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Whether the store knows QoS 2 packet ids of `client`.
    pub fn has_pending(&self, client: &str) -> bool {
        self.intake.has_pending(client)
    }

    /// Gives back memory that is not needed now.
    pub fn shrink(&mut self) {
        if self.batch.is_empty() {
            self.batch = Batch::default();
        }
    }
}

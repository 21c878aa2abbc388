//! One connection's life: send what the window takes, read the acknowledgements, release what is
//! settled.
//!
//! ```text
//!  source.next ─▶ block ─▶ message ─▶ connection ─▶ upstream
//!                   │ push                            │ answer
//!                   ▼                                 ▼
//!                 window ─ contiguous prefix ─▶ source.release
//! ```
//! One task and no hand-over: it waits for the connection, a block, the next time limit or the
//! shutdown, and then does what can be done without waiting. An event that cannot be sent, or that
//! the upstream refuses for good, becomes a dead letter, durably, and counts as settled: what is
//! behind it goes on. An event that is suspected is sent alone (`probe.rs`). Any error ends the
//! lane; nothing is mended here.
//!
//! A crash, or an error, between the acknowledgement and the release sends the events after the
//! released offset again.
//!
//! Limits: the window, the connection's buffers and the time limits of the settings; a drain of
//! [`DRAIN`]. It does not connect, wait between attempts or judge how it ended.

mod alarm;
mod controls;
mod pacing;
mod parts;
mod probe;
mod settle;
mod trace;

use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

pub(super) use settle::put_dead_letters;
pub use trace::Trace;

use self::{probe::Trial, settle::PendingLetters};
use super::{
    broken::Broken,
    carried::Carried,
    deadlines::Deadlines,
    pace::Pace,
    patience::{Experience, Patience},
    poison::{Fault, Plan, PoisonCase},
    window::Window,
};
use crate::{
    clock,
    store::Record,
    uplink::{
        engine::{Capabilities, Connection, Progress},
        format::Format,
        health::Tally,
        message::Unsendable,
        settings::Settings,
        source::Source,
    },
};

/// How long a shutdown waits for the acknowledgements in flight.
pub const DRAIN: Duration = Duration::from_secs(3);
/// How long the last packet may take to leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// A full window is filled again when this part of it is free: many small writes become one.
const REFILL_DIVISOR: usize = 4;
/// Why a window takes what is pushed.
const ROOM: &str = "invariant: `may_fill` saw room in the window just before";
/// The longest sleep: a far end for lanes without anything due.
const IDLE: Duration = Duration::from_secs(3600);

/// What an uplink keeps between its connections, and what is the same for all of them.
pub struct Shared<'a, S> {
    /// What it was told.
    pub settings: &'a Settings,
    /// Where the events come from.
    pub source: &'a mut S,
    /// How they are written.
    pub format: &'a mut Format,
    pub(super) tally: &'a Tally<'a>,
    pub(super) poison: &'a mut PoisonCase,
    pub(super) carried: &'a mut Carried,
    pub(super) pace: &'a mut Pace,
    /// What lies before this offset is sent at any hour.
    pub(super) urgent_to: u64,
    /// Asks the lane to end.
    pub shutdown: &'a CancellationToken,
}

/// One connection at work.
pub struct Lane<'a, S: Source, C> {
    shared: Shared<'a, S>,
    connection: C,
    can: Capabilities,
    window: Window,
    /// The blocks of what is in flight, oldest first: for what the upstream refuses.
    blocks: VecDeque<Arc<S::Block>>,
    /// The newest block all of which was released: for a control.
    settled_block: Option<Arc<S::Block>>,
    /// The offset that was released when it began.
    began_at: u64,
    deadlines: Deadlines,
    /// Records that are in flight, of which there is a dead letter.
    dead_letters_now: BTreeSet<u64>,
    pending_letters: PendingLetters,
    trial: Trial,
    /// Something is known of events that are to come: see `probe.rs`.
    is_careful: bool,
    /// False from a full window until enough of it is free.
    filling: bool,
    /// Something limits how fast messages go.
    is_paced: bool,
    began: Instant,
    /// When the window last had no room, or opened.
    full_at: Instant,
    /// When to look again whether the uplink's hours are over, and whether they were.
    look_at: Option<Instant>,
    is_closed: bool,
    trace: Trace,
    now: Instant,
    drain_until: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    alarm_at: Instant,
    warned_of_stray: bool,
}

enum Event<B> {
    Moved(Progress),
    Block(Arc<B>),
    Alarm,
    DeadLetters,
    Shutdown,
}

impl<'a, S: Source, C: Connection> Lane<'a, S, C> {
    /// A lane over a fresh connection; the source stands at its released offset. `experience` is
    /// that of the connections before.
    pub fn new(shared: Shared<'a, S>, connection: C, can: Capabilities, experience: Experience) -> Self {
        let now = clock::monotonic();
        let causes = shared.poison.causes();
        let patience = Patience {
            ack_timeout: shared.settings.ack_timeout,
            slowest_ack: experience.slowest_ack,
            fruitless: experience.fruitless,
            has_seen: experience.has_seen,
            doublings: shared.poison.doublings(),
            knows_ignored: causes.knows(Fault::Ignored, now),
            knows_silent: causes.knows(Fault::Silent, now),
        };
        shared.pace.connected();
        // Where an event was the matter not long ago, the next one may come soon.
        let opening = shared.pace.opening;
        let opening = if shared.poison.is_wary(now) { opening.wary() } else { opening };
        let mut lane = Self {
            connection,
            can,
            window: Window::new(shared.settings.window.min(can.in_flight_max), opening),
            blocks: VecDeque::new(),
            settled_block: None,
            began_at: shared.source.released(),
            deadlines: Deadlines::new(patience, can.keep_alive, now),
            dead_letters_now: BTreeSet::new(),
            pending_letters: PendingLetters::default(),
            trial: Trial::default(),
            is_careful: false,
            filling: true,
            is_paced: false,
            began: now,
            full_at: now,
            look_at: None,
            is_closed: false,
            trace: Trace { experience, ..Trace::default() },
            now,
            drain_until: None,
            alarm: Box::pin(tokio::time::sleep_until((now + IDLE).into())),
            alarm_at: now + IDLE,
            warned_of_stray: false,
            shared,
        };
        lane.set_paced();
        lane
    }

    /// Forwards until the shutdown (`Ok`) or the end of the connection.
    pub async fn run(mut self, plan: Plan) -> (Result<(), Broken>, Trace) {
        let ended = self.forward(plan).await;
        self.trace.lasted = Some(clock::monotonic() - self.began);
        if let Err(broken) = &ended {
            self.conclude_pace(broken);
        }
        self.carry_on();
        if let Err(broken) = &ended {
            self.testify(broken);
        }
        (ended, self.trace)
    }

    async fn forward(&mut self, plan: Plan) -> Result<(), Broken> {
        self.plan(plan).await?;
        loop {
            let from = self.shared.source.position();
            let Some(block) = self.next_block(from).await? else { return self.drain().await };
            let mut records = S::records_from(&block, from);
            if !self.send(&mut records).await? {
                return self.drain().await;
            }
        }
    }

    /// The next block, which holds what is at `from`, once there is one and room to send it; `None`
    /// on shutdown, or if that is held.
    async fn next_block(&mut self, from: u64) -> Result<Option<Arc<S::Block>>, Broken> {
        loop {
            if self.is_held(from) {
                self.settle_held().await?;
                return Ok(None);
            }
            let want_block = self.may_fill(0);
            match self.wait(want_block).await? {
                Event::Block(block) => {
                    self.blocks.push_back(block.clone());
                    return Ok(Some(block));
                }
                event => {
                    if want_block {
                        self.note_starved();
                    }
                    if !self.handle(event).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Puts all `records` into the connection, as there is room. False on shutdown.
    async fn send<'r>(
        &mut self,
        records: &mut impl Iterator<Item = (u64, Record<'r>)>,
    ) -> Result<bool, Broken> {
        while let Some((offset, record)) = self.fill(records) {
            while !self.may_fill(record.size()) {
                let event = self.wait(false).await?;
                if !self.handle(event).await? {
                    return Ok(false);
                }
            }
            if self.is_held(offset) {
                self.settle_held().await?;
                return Ok(false);
            }
            if !self.put(offset, &record).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts `records` into the connection while there is room and nothing else is to be done for
    /// them, and gives the first for which that is not so. Nearly every event goes this way.
    fn fill<'r>(
        &mut self,
        records: &mut impl Iterator<Item = (u64, Record<'r>)>,
    ) -> Option<(u64, Record<'r>)> {
        loop {
            let (offset, record) = records.next()?;
            let is_sent = !record.local
                && !self.is_careful
                && self.may_fill(record.size())
                && !self.is_held(offset)
                && matches!(self.put_raw(offset, &record), Some(Ok(())));
            if !is_sent {
                return Some((offset, record));
            }
        }
    }

    /// Whether a message of about so many bytes may be sent now.
    #[inline]
    fn may_fill(&mut self, bytes: usize) -> bool {
        if self.filling && self.window.room() == 0 {
            self.filling = false;
            self.window.filled();
            self.full_at = self.now;
        }
        self.filling
            && self.connection.has_room()
            && !self.trial.is_refused()
            && (!self.is_paced || self.pace_allows(bytes))
    }

    /// Puts the record into the connection, unless it is for local subscribers alone; what cannot
    /// be sent becomes a dead letter. False on shutdown.
    async fn put(&mut self, offset: u64, record: &Record<'_>) -> Result<bool, Broken> {
        if record.local {
            self.skip(offset, record, false);
            return Ok(true);
        }
        if self.is_careful
            && let Some(goes_on) = self.put_carefully(offset, record).await?
        {
            return Ok(goes_on);
        }
        self.put_now(offset, record).await
    }

    async fn put_now(&mut self, offset: u64, record: &Record<'_>) -> Result<bool, Broken> {
        match self.put_raw(offset, record) {
            None => return self.put_parts(offset, record).await,
            Some(Ok(())) => {}
            Some(Err(why)) => {
                let token = self.window.push(offset, record.events, self.now).expect(ROOM);
                self.dead_letter(Some(token), offset, record, why.into(), 0).await?;
            }
        }
        Ok(true)
    }

    /// Puts the record into the connection as it came; `None` where the format takes it apart.
    #[inline]
    fn put_raw(&mut self, offset: u64, record: &Record<'_>) -> Option<Result<(), Unsendable>> {
        let Format::Raw(raw) = &mut *self.shared.format else { return None };
        let sent = raw.message(offset, record, &self.can).and_then(|message| {
            let message = message.aged(record.received_ms, clock::wall_ms);
            self.connection.send(self.window.next_token(), &message)?;
            Ok(if self.is_paced { message.bytes() } else { 0 })
        });
        Some(sent.map(|bytes| {
            self.window.push(offset, record.events, self.now).expect(ROOM);
            if self.is_paced {
                self.note_sent(bytes);
            }
        }))
    }

    /// Waits for the next thing to do: the connection, the clock, the shutdown, and a block if one
    /// is wanted. Before that, what is to become a dead letter does.
    async fn wait(&mut self, want_block: bool) -> Result<Event<S::Block>, Broken> {
        if self.flush_letters().await? {
            self.now = clock::monotonic();
            return Ok(Event::DeadLetters);
        }
        self.arm();
        let stopping = self.drain_until.is_some();
        let (connection, Shared { source, shutdown, .. }) = (&mut self.connection, &mut self.shared);
        let event = tokio::select! {
            biased;
            () = shutdown.cancelled(), if !stopping => Event::Shutdown,
            // A block that is there goes into the same write.
            block = source.next(), if want_block => Event::Block(block?),
            moved = poll_fn(|context| connection.poll(context)) => Event::Moved(moved?),
            () = &mut self.alarm => Event::Alarm,
        };
        self.now = clock::monotonic();
        Ok(event)
    }

    /// Does what an event asks for. False on shutdown.
    async fn handle(&mut self, event: Event<S::Block>) -> Result<bool, Broken> {
        self.open_with_time();
        match event {
            Event::Moved(moved) => self.after_move(moved).await?,
            Event::Alarm => self.after_alarm()?,
            Event::Block(_) => {}
            // Each time costs a commit: a shutdown does not wait for many.
            Event::DeadLetters => return Ok(!self.shared.shutdown.is_cancelled()),
            Event::Shutdown => return Ok(false),
        }
        Ok(true)
    }

    async fn after_move(&mut self, moved: Progress) -> Result<(), Broken> {
        if moved.written {
            self.trace.sent |= !self.window.is_empty();
            self.deadlines.wrote(self.connection.has_unwritten(), self.now);
        }
        if moved.read { self.take_answers().await } else { Ok(()) }
    }

    /// Sends nothing more, waits a bounded time for what is in flight, and says goodbye.
    async fn drain(&mut self) -> Result<(), Broken> {
        self.drain_until = Some(self.now + DRAIN);
        while (!self.window.is_empty() || self.connection.has_unwritten())
            && self.drain_until.is_some_and(|until| self.now < until)
        {
            let event = self.wait(false).await?;
            self.handle(event).await?;
        }
        // If the goodbye does not get through, the upstream sees a closed connection, which is as
        // good.
        let _ = tokio::time::timeout(GOODBYE, self.connection.close()).await;
        Ok(())
    }
}

//! One client's session, without I/O: bytes in, records and bytes out, `now` given.
//!
//! ```text
//!   handle_input ──▶ Fresh ──CONNECT──▶ Deciding ──accept──▶ Open ──DISCONNECT, fault, end──▶ Ended
//!                                          └────refuse─────────────────────────────────────▶   │
//!   records ──▶ Sink (the store's batch)      handle_appended, handle_watermark ──▶ output     ▼
//!                                                                        handle_end: will, detach
//! ```
//! Guarantees: PUBACK, PUBREC and PUBCOMP of what is stored come from [`Session::handle_watermark`]
//! and from nothing else, in the order received; what is passed on and not stored (see `broker`)
//! has its own in their places. PINGRESP and SUBACK wait for nothing. A publish sent again while
//! its packet id is in flight (DUP, or QoS 2) is stored once. If the id is used again without DUP
//! under QoS 1, what that is cannot be told, so it is stored as well: a copy at worst, where
//! leaving it out might lose an event.
//!
//! Limits: acknowledgements and output that are pending are bounded by [`Session::wants_input`]
//! turning false; the Receive Maximum holds on MQTT 5. A keep-alive does not run out while it is
//! the gateway that does not read: see `full.rs`.
//!
//! What local subscribers get is in `local.rs`. It does not: look for other connections of the
//! client (`registry`), read a clock, or wait for anything.

mod acks;
mod ending;
mod full;
mod input;
mod interface;
mod local;
mod opening;
mod publish;
mod slow_reader;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::settings::Settings;
use crate::{
    access::{Permissions, audit::Action},
    broker::{Broker, COPIES_IN_A_TURN, Mailbox, Patience, Staged},
    mqtt::{
        connect::{Connect, Will},
        fault::Fault,
        limits::SMALL_PACKET_BYTES,
        output::Output,
        version::{Dialect, Version},
    },
    store::Watermark,
};
use acks::Acks;

pub use full::BLOCKED_MAX;
pub use interface::{Counts, End, Ending, SessionEvent, Sink};
pub use opening::Opening;

pub use crate::clock::Now;

/// Output pending, in bytes, at which no more input is taken: a client has to read its answers.
pub const OUT_BYTES_MAX: usize = 64 * 1024;
/// Records in one batch, in bytes, at which no more input is taken before it is appended: small
/// packets of a client with a long id make large records.
pub const BATCH_BYTES_MAX: usize = 512 * 1024;
/// Output memory that is kept while nothing is to be written, in bytes.
const OUT_BYTES_IDLE: usize = 512;
/// Pending acknowledgements of an MQTT 5 client, in Receive Maximums, at which no more input is
/// taken: within the Receive Maximum there are at most two for each packet id, so only a client
/// that breaks the rules gets there.
const PENDING_PER_INFLIGHT: usize = 2;

#[derive(Debug)]
enum Phase {
    /// Waiting for CONNECT.
    Fresh,
    /// CONNECT was read: to be accepted or refused.
    Deciding(Option<Box<Connect>>),
    /// CONNACK was given.
    Open,
    /// Nothing more is read; what is pending is waited for.
    Draining,
    /// Only output may be left.
    Ended(End),
}

/// One client's session on one connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    broker: Broker,
    phase: Phase,
    version: Version,
    dialect: Dialect,
    /// Empty until accepted.
    client: Arc<str>,
    /// Whose it is; empty until accepted.
    identity: Arc<str>,
    acks: Acks,
    out: Output,
    /// When output became pending, or some of it was written last.
    writing_since: Option<Instant>,
    /// When a packet came last; until CONNECT, when the connection was made.
    heard: Instant,
    keep_alive: Option<Duration>,
    session_expiry_s: u32,
    /// Longest packet that the client takes.
    packet_bytes_max: usize,
    /// Publishes that it takes at a time.
    receive_max: u16,
    /// By alias, counted from 1; empty until the client uses one.
    aliases: Vec<Box<str>>,
    /// What it subscribes to and is owed; `None` without either.
    mailbox: Option<Arc<Mailbox>>,
    /// SUBACKs, each with the save it waits for.
    subacks: VecDeque<(u64, Vec<u8>)>,
    /// The length of the packet whose end is not there, as far as is known.
    incoming_bytes: usize,
    /// Bytes of the records in the batch.
    batched_bytes: usize,
    /// Copies that it has passed on in this turn.
    transient_copies: usize,
    /// What the batch has for local subscribers alone.
    staged: Staged,
    /// Nothing is read until somebody else has read.
    slow_reader: Option<slow_reader::SlowReader>,
    patience: Patience,
    /// Since when nothing is read for want of room.
    blocked_since: Option<Instant>,
    will: Option<Arc<Will>>,
    /// Nothing, until the client is let in.
    permissions: Permissions,
    scratch: Vec<u8>,
    counts: Counts,
    events: Vec<SessionEvent>,
    reported: Reported,
}

/// What a session has reported already, so that its events are bounded.
#[derive(Debug, Default)]
struct Reported {
    /// Hashes of topics without a route.
    unrouted: HashSet<u64>,
    packet_id_reused: bool,
    no_text: bool,
    /// By [`Action`].
    denied: [bool; Action::ALL.len()],
    store_full: bool,
}

impl Session {
    /// A session that waits for its CONNECT.
    #[must_use]
    pub fn new(settings: Arc<Settings>, broker: Broker, now: Now) -> Self {
        Session {
            settings,
            broker,
            phase: Phase::Fresh,
            version: Version::V311,
            dialect: Dialect::default(),
            client: Arc::from(""),
            identity: Arc::from(""),
            acks: Acks::default(),
            out: Output::default(),
            writing_since: None,
            heard: now.at,
            keep_alive: None,
            session_expiry_s: 0,
            packet_bytes_max: usize::MAX,
            receive_max: u16::MAX,
            aliases: Vec::new(),
            mailbox: None,
            subacks: VecDeque::new(),
            batched_bytes: 0,
            transient_copies: 0,
            incoming_bytes: 0,
            staged: Staged::default(),
            slow_reader: None,
            patience: Patience::default(),
            blocked_since: None,
            will: None,
            permissions: Permissions::none(),
            scratch: Vec::new(),
            counts: Counts::default(),
            events: Vec::new(),
            reported: Reported::default(),
        }
    }

    /// Takes whole packets from the start of `input`, and gives the bytes taken. What is left is a
    /// packet's beginning, or is not wanted now: see [`Session::wants_input`].
    pub fn handle_input<S: Sink>(&mut self, now: Now, input: &[u8], sink: &mut S) -> usize {
        let mut taken = 0;
        while self.wants_input() {
            match self.take_packet(now, &input[taken..], sink) {
                Ok(0) => break,
                Ok(bytes) => taken += bytes,
                Err(fault) => self.fail(now, fault),
            }
        }
        // Whole packets keep a connection alive, bytes do not [MQTT-3.1.2-22]; but within a large
        // one, which has a time limit of its own, no PINGREQ can come.
        if (taken > 0 || self.incoming_bytes > SMALL_PACKET_BYTES) && matches!(self.phase, Phase::Open) {
            self.heard = now.at;
        }
        self.note_output(now);
        taken
    }

    /// The length of the packet whose end is not there yet; 0 if that is not known, or between
    /// packets.
    #[must_use]
    #[inline]
    pub fn incoming_bytes(&self) -> usize {
        self.incoming_bytes
    }

    /// The batch was appended with `first` as its first ticket; any number, if it was empty.
    pub fn handle_appended(&mut self, first: u64) {
        self.batched_bytes = 0;
        self.acks.appended(first);
        self.handle_in_log(self.acks.last_due_at());
    }

    /// What was staged for local subscribers is in the intake, durable once the watermark has
    /// reached `durable_at`.
    pub fn handle_in_log(&mut self, durable_at: u64) {
        if !self.staged.is_empty() {
            self.broker.note_in_log(self.staged.drain(), durable_at);
        }
    }

    /// Lets others have their turn if so much was passed on that no more input is taken before.
    pub async fn give_way(&mut self) {
        if std::mem::take(&mut self.transient_copies) >= COPIES_IN_A_TURN {
            tokio::task::yield_now().await;
        }
    }

    /// Whether records or replies wait for the batch to be appended.
    #[must_use]
    pub fn has_staged(&self) -> bool {
        self.acks.has_staged()
    }

    /// Writes what the watermark makes due. A closed store ends the session if something is
    /// pending.
    pub fn handle_watermark(&mut self, now: Now, watermark: Watermark) {
        let wanted = self.wants_input();
        if matches!(self.phase, Phase::Open | Phase::Draining) {
            let pending = self.acks.pending();
            self.acks.write_due(watermark.committed, self.version, self.out.buffer());
            self.counts.answers += (pending - self.acks.pending()) as u64;
        }
        if !wanted && self.wants_input() {
            self.heard = now.at;
        }
        match self.phase {
            Phase::Open | Phase::Draining if watermark.closed && self.acks.awaits_commit() => {
                self.fail(now, Fault::StoreClosed);
            }
            Phase::Draining if !self.acks.awaits_commit() => self.fail(now, Fault::Stopping),
            _ => {}
        }
        self.note_output(now);
    }

    /// Whether an acknowledgement waits for the watermark.
    #[must_use]
    pub fn awaits_commit(&self) -> bool {
        self.acks.awaits_commit()
    }

    /// Whether input is to be read. False in the end, while there is no room, the batch is large,
    /// and while the client is owed more or has more to read than the limits say.
    #[must_use]
    #[inline]
    pub fn wants_input(&self) -> bool {
        let pending_max = match self.version {
            Version::V311 => usize::from(self.settings.inflight_max),
            Version::V5 => usize::from(self.settings.inflight_max) * PENDING_PER_INFLIGHT,
        };
        matches!(self.phase, Phase::Fresh | Phase::Open)
            && self.blocked_since.is_none()
            && self.slow_reader.is_none()
            && self.batched_bytes < BATCH_BYTES_MAX
            && self.transient_copies < COPIES_IN_A_TURN
            && self.acks.pending() < pending_max
            && self.subacks.len() < local::SUBACKS_MAX
            && self.out.unwritten_bytes() < OUT_BYTES_MAX
    }

    /// From now on the client may do what `permissions` says. To be called before
    /// [`Session::accept`] the first time.
    pub fn set_permissions(&mut self, permissions: Permissions) {
        self.permissions = permissions;
        self.review_subscriptions();
    }

    /// What the client may do.
    #[must_use]
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// When [`Session::handle_timeout`] is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let write = self.writing_since.map(|since| since + self.settings.write_timeout);
        let read = match self.phase {
            Phase::Fresh => Some(self.heard + self.settings.connect_timeout),
            Phase::Open => self.keep_alive.map(|keep_alive| self.heard + keep_alive),
            _ => None,
        };
        write.into_iter().chain(read).chain(self.blocked_until()).chain(self.reader_wait_until()).min()
    }

    /// Ends the session if a time limit is over.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.writing_since.is_some_and(|since| since + self.settings.write_timeout <= now.at) {
            self.fail(now, Fault::WriteTimeout);
            self.discard_output();
            return;
        }
        self.go_on(now);
        if self.poll_timeout().is_none_or(|limit| limit > now.at) {
            return;
        }
        match self.phase {
            Phase::Fresh => self.fail(now, Fault::ConnectTimeout),
            Phase::Open if self.blocked_until().is_some_and(|limit| limit <= now.at) => {
                self.fail(now, Fault::NoRoom);
            }
            Phase::Open if self.wants_input() => self.fail(now, Fault::KeepAlive),
            _ => self.heard = now.at,
        }
    }

    /// The client id; empty until accepted.
    #[must_use]
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// How long the session outlives the connection, in seconds; `u32::MAX` for ever.
    #[must_use]
    pub fn session_expiry_s(&self) -> u32 {
        self.session_expiry_s
    }

    /// Output to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.out.next()
    }

    /// `bytes` of [`Session::output`] were written.
    pub fn handle_written(&mut self, now: Now, bytes: usize) {
        self.out.wrote(bytes, OUT_BYTES_MAX);
        self.writing_since = (!self.out.is_empty()).then_some(now.at);
    }

    /// What happened since this was last called.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// What there is for the log since this was last called.
    pub fn take_events(&mut self) -> Vec<SessionEvent> {
        std::mem::take(&mut self.events)
    }

    /// Gives back memory that an idle session does not need.
    pub fn shrink(&mut self) {
        self.acks.shrink();
        self.scratch.shrink_to(0);
        self.staged.shrink_to(0);
        self.events.shrink_to(0);
        self.out.shrink(OUT_BYTES_IDLE);
    }

    fn emit(&mut self, packet: &[u8]) {
        // A packet that the client does not take is left out, as if it had been sent
        // [MQTT-3.1.2-25].
        if packet.len() <= self.packet_bytes_max {
            self.counts.answers += 1;
            self.out.buffer().extend_from_slice(packet);
        }
    }

    fn note_output(&mut self, now: Now) {
        if self.writing_since.is_none() && !self.out.is_empty() {
            self.writing_since = Some(now.at);
        }
    }
}

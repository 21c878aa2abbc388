//! One connection: a task that carries out what its session decides.
//!
//! ```text
//!            ┌────────── select ──────────┐
//!   socket ──▶ read ─▶ session ─▶ batch ──┼─ one append ─▶ intake
//!   socket ◀─ write ◀─ output ◀─ session ◀┼─ watermark (only while something is owed)
//!            └ disconnect, room (when full), pause, timer
//! ```
//! Whatever one read held goes into the intake with one append, and whatever the watermark makes
//! due goes out with one write. A full intake stops the reading and nothing else; for a full store
//! see `backpressure`. A connection that owes nothing does not look at the watermark, so a commit
//! wakes only those that wait for it. Memory while idle: the read buffer's 2 KB, the session and
//! the task itself, about 5 KB.
//!
//! In the end the will and the session's end are appended, the slot is given up, and the rest of
//! the output is written under a time limit. It does not encrypt: it works over anything that reads
//! and writes.

mod accept;
mod backpressure;
pub mod buffer;
mod ending;
mod events;
pub mod large;
pub mod rate_limit;
pub(super) mod report;
pub(super) mod socket;

use std::{
    future::ready,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::sleep_until};

use super::{
    limiter::Permit,
    limits::{DRAIN_TIMEOUT, UNRELEASED_PER_INFLIGHT},
    metrics::Metrics,
    registry::{DisconnectHandle, Registry, SessionSlot},
    session::{Now, Session},
    settings::Settings,
};
use crate::{
    access::{Admitted, Policy, origin::Origin},
    broker::{Broker, WillPermit},
    clock::{self, now},
    mqtt::fault::Fault,
    store::{Intake, Refusal, Watermark},
    telemetry::repeats::LogOnce,
};
use accept::next_policy;
use backpressure::{Appended, Backpressure, Room};
use buffer::InputBuffer;
pub(super) use ending::CLOSE_TIMEOUT;
use large::LargeRoom;
use rate_limit::Quota;
use socket::{Exchange, Socket, Timer, Wire};

/// Time without input after which memory is given back.
const IDLE_AFTER: Duration = Duration::from_secs(5);
/// Longest wait for the connection that had the client id before.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for a save that a client has to be told after: sessions that cannot be saved keep
/// nobody out.
const SAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all connections share.
pub(crate) struct Shared {
    pub settings: Arc<Settings>,
    pub registry: Arc<Registry>,
    pub broker: Broker,
    pub metrics: Metrics,
    pub log_once: LogOnce,
    pub large: LargeRoom,
}

/// Serves one client until its connection ends, and gives `permit` back. It was there since
/// `since`.
pub(crate) async fn serve<Io: Wire>(
    io: Io,
    origin: Origin,
    intake: Intake,
    shared: Arc<Shared>,
    disconnect: DisconnectHandle,
    permit: Permit,
    since: Now,
) -> Permit {
    let mut connection = Connection {
        socket: Socket { io, unflushed: false },
        input: InputBuffer::new(rate_limit::read_bytes_max(&shared.settings)),
        session: Session::new(shared.settings.clone(), shared.broker.clone(), since),
        watermark: intake.watermark(),
        saved: shared.broker.saved(),
        backpressure: Backpressure::new(intake, Quota::new(&shared.settings), shared.large.clone()),
        has_leftover: false,
        active_at: clock::monotonic(),
        is_small: true,
        slot: None,
        permit,
        admitted: None,
        disconnect,
        origin,
        shared,
    };
    connection.run().await;
    connection.finish().await;
    connection.permit
}

struct Connection<Io> {
    socket: Socket<Io>,
    input: InputBuffer,
    session: Session,
    backpressure: Backpressure,
    watermark: watch::Receiver<Watermark>,
    saved: watch::Receiver<u64>,
    /// The session left input that it may want later.
    has_leftover: bool,
    /// When something was read last.
    active_at: Instant,
    /// Memory was given back since then.
    is_small: bool,
    /// From accepting to the end, with room for the client's will.
    slot: Option<(SessionSlot, Option<WillPermit>)>,
    permit: Permit,
    /// Who the client is, from accepting on.
    admitted: Option<Admitted>,
    disconnect: DisconnectHandle,
    origin: Origin,
    shared: Arc<Shared>,
}

enum Step {
    Disconnect,
    Exchanged(Exchange),
    Committed {
        store_gone: bool,
    },
    /// There may be something to deliver.
    Woken,
    /// Subscriptions are durable.
    Saved,
    CaughtUp,
    Policy(watch::Receiver<Arc<Policy>>),
    Room(Room),
    Pause,
    Timer,
}

impl<Io: Wire> Connection<Io> {
    async fn run(&mut self) {
        let token = self.disconnect.token().clone();
        let mut disconnected = pin!(token.cancelled());
        let mut policy = pin!(next_policy(self.shared.settings.access.changes()));
        let mut drain_until = None;
        let mut timer = Timer { sleep: pin!(sleep_until(clock::monotonic().into())), is_set: false };
        while !self.session.has_ended() {
            if self.session.may_deliver() {
                self.session.deliver(now());
            }
            let reads = self.session.wants_input();
            let limits = [
                self.session.poll_timeout(),
                self.shrink_at(),
                drain_until,
                self.backpressure.poll_timeout(),
            ];
            let is_timed = timer.set(limits.into_iter().flatten().min());
            let step = tokio::select! {
                biased;
                () = &mut disconnected, if drain_until.is_none() => Step::Disconnect,
                exchange = self.socket.exchange(&mut self.input, self.session.output(), reads) =>
                    Step::Exchanged(exchange),
                () = self.session.woken() => Step::Woken,
                // The sender is in the broker, which the connection holds: this ends with a save.
                _ = self.saved.changed(), if self.session.awaits_save() => Step::Saved,
                () = self.session.caught_up(), if self.session.waits_for_reader() => Step::CaughtUp,
                changed = self.watermark.changed(), if self.session.awaits_commit() =>
                    Step::Committed { store_gone: changed.is_err() },
                changes = &mut policy => Step::Policy(changes),
                room = self.backpressure.room(), if self.backpressure.waits_for_room() => Step::Room(room),
                () = timer.sleep.as_mut(), if is_timed => Step::Timer,
                // The branches are asked in this order, so the socket has nothing to read and takes
                // no more output.
                () = ready(()), if self.backpressure.is_refusing() => Step::Pause,
            };
            match step {
                Step::Disconnect => {
                    drain_until = Some(clock::monotonic() + DRAIN_TIMEOUT);
                    self.leave();
                }
                Step::Exchanged(exchange) => self.exchanged(exchange).await,
                Step::Committed { store_gone } => self.committed(store_gone),
                Step::Woken => {}
                Step::Saved => {
                    let number = *self.saved.borrow_and_update();
                    self.session.handle_saved(now(), number);
                }
                Step::CaughtUp => self.session.handle_caught_up(now()),
                Step::Policy(changes) => {
                    policy.set(next_policy(changes));
                    self.review();
                }
                Step::Room(room) => self.has_room(now(), room),
                Step::Pause => {
                    let now = now();
                    self.backpressure.pause(now.at);
                    self.block(now);
                }
                Step::Timer => {
                    timer.is_set = false;
                    self.timed(drain_until);
                }
            }
            if self.has_leftover && self.session.wants_input() {
                self.feed(0).await;
            }
        }
    }

    fn leave(&mut self) {
        match self.disconnect.cause() {
            None | Some(Fault::Stopping) => self.session.handle_stop(now()),
            Some(fault) => self.session.fail(now(), fault),
        }
    }

    async fn exchanged(&mut self, exchange: Exchange) {
        match exchange {
            Exchange::Read(bytes) => {
                self.input.filled(bytes);
                self.active_at = clock::monotonic();
                self.is_small = false;
                self.feed(bytes).await;
                if self.session.output().is_empty() && !self.session.awaits_commit() {
                    self.socket.io.acknowledge();
                }
                if self.backpressure.is_refusing() {
                    let now = now();
                    self.backpressure.note_read(now.at, bytes);
                    self.block(now);
                }
            }
            Exchange::Wrote(bytes) => self.session.handle_written(now(), bytes),
            Exchange::Broken => self.session.handle_lost(),
        }
    }

    /// Gives the session what was read, `bytes` of it just now, and the store what the session
    /// makes of it.
    async fn feed(&mut self, bytes: usize) {
        let mut now = now();
        loop {
            let taken = self.session.handle_input(now, self.input.bytes(), &mut self.backpressure.batch);
            self.input.consume(taken);
            let stopped = !self.session.wants_input();
            self.append(now);
            self.session.give_way().await;
            if let Some(connect) = self.session.take_connect() {
                self.decide(*connect).await;
                now = clock::now();
            } else if !stopped || !self.session.wants_input() {
                break;
            }
        }
        self.note_incoming(now);
        self.has_leftover = !self.session.wants_input();
        let publishes = self.report();
        if let Some(limit) = self.backpressure.charge(now.at, publishes, bytes) {
            self.block(now);
            report::throttled(&self.shared.metrics, &self.shared.log_once, self.session.client(), limit);
        }
    }

    /// Counts and tells what happened; gives how many publishes there were.
    fn report(&mut self) -> u64 {
        let counts = self.session.take_counts();
        self.shared.metrics.count(counts);
        self.report_events();
        counts.publishes
    }

    fn has_room(&mut self, now: Now, room: Room) {
        let is_blocked = self.backpressure.handle_room(now.at, room);
        self.block(now);
        if is_blocked {
            self.append(now);
            self.note_incoming(now);
            self.report();
        }
    }

    fn note_incoming(&mut self, now: Now) {
        self.input.expect(self.session.incoming_bytes());
        let (bytes, read_bytes) = (self.session.incoming_bytes(), self.input.bytes().len());
        self.backpressure.note_incoming(now.at, bytes, read_bytes);
        self.block(now);
    }

    /// Tells the session whether there is a reason not to read, if that has changed.
    #[inline]
    fn block(&mut self, now: Now) {
        if let Some(is_blocked) = self.backpressure.take_blocked() {
            self.session.set_blocked(now, is_blocked);
        }
    }

    fn append(&mut self, now: Now) {
        if !self.session.has_staged() {
            return;
        }
        let unreleased_max = usize::from(self.shared.settings.inflight_max) * UNRELEASED_PER_INFLIGHT;
        if !self.backpressure.keeps_within(unreleased_max) {
            report::unreleased(&self.shared.log_once, self.session.client(), unreleased_max);
            self.session.fail(now, Fault::Unreleased);
            return;
        }
        loop {
            let appended = self.backpressure.append(self.session.can_refuse());
            self.block(now);
            match appended {
                Ok(Appended::Taken { first }) => {
                    self.session.handle_appended(first);
                    return self.session.handle_watermark(now, *self.watermark.borrow_and_update());
                }
                Ok(Appended::Refused(refused)) => self.refused(&refused),
                Ok(Appended::Blocked { is_store_full }) => {
                    if is_store_full {
                        self.session.note_store_full();
                    }
                    return;
                }
                Err(_) => {
                    return self.session.fail(now, self.disconnect.cause().unwrap_or(Fault::StoreClosed));
                }
            }
        }
    }

    fn refused(&mut self, refused: &Refusal) {
        self.session.handle_refused(refused);
        self.session.note_store_full();
    }

    fn committed(&mut self, store_gone: bool) {
        fail::fail_point!("ingest-before-puback", |_| std::process::abort());
        let mut watermark = *self.watermark.borrow_and_update();
        watermark.closed |= store_gone;
        self.session.handle_watermark(now(), watermark);
    }

    fn shrink_at(&self) -> Option<Instant> {
        (!self.is_small).then(|| self.active_at + IDLE_AFTER)
    }

    fn timed(&mut self, drain_until: Option<Instant>) {
        let now = now();
        self.session.handle_timeout(now);
        let in_time = self.backpressure.handle_timeout(now.at);
        self.block(now);
        if let Err(fault) = in_time {
            self.session.fail(now, fault);
        }
        if drain_until.is_some_and(|until| until <= now.at) {
            self.session.fail(now, Fault::Stopping);
        }
        if self.shrink_at().is_some_and(|at| at <= now.at) {
            self.is_small = true;
            self.session.shrink();
            self.input.shrink();
            self.backpressure.shrink();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::name::ANONYMOUS,
        ingest::{limiter::ConnectionLimiter, registry::Entering},
        store::{Settings as StoreSettings, Store},
    };
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };
    use tokio_util::sync::CancellationToken;

    impl Wire for DuplexStream {
        fn acknowledge(&self) {}
    }

    fn origin() -> Origin {
        let listener = ([127, 0, 0, 1], 1883).into();
        Origin { peer: ([127, 0, 0, 1], 1).into(), listener, certified: None, anonymous: true }
    }

    #[tokio::test]
    async fn a_client_is_accepted_only_when_its_last_connection_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let store_settings = StoreSettings { segment_bytes: 1 << 20, ..StoreSettings::new(folder.path()) };
        let store = Store::open(store_settings, &[]).unwrap();
        let settings = Arc::new(Settings::default());
        let registry = Arc::new(Registry::new(settings.connections_max));
        let shutdown = CancellationToken::new();
        let entering = Entering {
            owner: ANONYMOUS.into(),
            is_own: false,
            peer: origin().peer,
            now: crate::clock::monotonic(),
        };
        let slot = registry.enter("c".into(), entering, DisconnectHandle::new(&shutdown)).unwrap();
        let shared = Arc::new(Shared {
            broker: Broker::new(settings.broker()),
            settings,
            registry,
            metrics: Metrics::default(),
            log_once: LogOnce::default(),
            large: LargeRoom::default(),
        });

        let (mut client, server) = duplex(1024);
        let (disconnect, limiter) =
            (DisconnectHandle::new(&shutdown), ConnectionLimiter::new(&shared.settings));
        let permit = limiter.enter(origin().peer.ip(), &disconnect, limiter.room().await.unwrap()).unwrap();
        let task = tokio::spawn(serve(server, origin(), store.intake(), shared, disconnect, permit, now()));
        client.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'c']).await.unwrap();
        let mut connack = [0; 4];
        let early = timeout(Duration::from_millis(100), client.read_exact(&mut connack)).await;
        assert!(early.is_err(), "accepted beside the connection that it takes over");
        drop(slot);
        timeout(TAKEOVER_TIMEOUT, client.read_exact(&mut connack)).await.unwrap().unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0]);
        drop(client);
        timeout(TAKEOVER_TIMEOUT, task).await.unwrap().unwrap();
    }

    #[test]
    fn an_idle_connection_fits_in_its_memory() {
        fn size_of_task<F: Future>(
            _: impl Fn(tokio::net::TcpStream, Origin, Intake, Arc<Shared>, DisconnectHandle, Permit, Now) -> F,
        ) -> usize {
            size_of::<F>()
        }
        let task = size_of_task(serve);
        assert!(task + super::buffer::IDLE_BYTES < 8 * 1024, "the task alone has {task} bytes");
    }
}

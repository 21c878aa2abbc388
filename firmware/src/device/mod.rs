//! The device's loop: sample, gather, keep, send.
//!
//! Purpose: one future, [`run`], that a board's executor drives. There is no other task: whenever
//! the link waits, the intake's timers run beside it, so an unreachable gateway never delays a
//! measurement.
//!
//! ```text
//!  run ─┬─ dial, CONNECT ───────┐  each of them beside the intake:
//!       ├─ exchange ────────────┤  sampling, sealing, the end
//!       └─ back-off ────────────┘
//! ```
//!
//! The first word of every connection is the device's birth, the last one of an orderly end a
//! status; the gateway says the will in its place when the connection breaks (about.rs).
//!
//! Limits: dialling may take [`DIAL_MS_MAX`], a write or an answer [`ANSWER_MS_MAX`]; then the
//! connection is given up. A read of a sensor is the one thing that the link waits for.
//!
//! Crash story: events are in RAM. A reset loses what was not acknowledged and begins a new boot
//! number, from which the gateway sees that the numbers of the old boot end.
//!
//! What it does not do: it never resets the board, however long the gateway is away.

mod about;
mod exchange;
mod intake;

use core::num::NonZeroU16;

use tidegate_protocol::limits::{STATUS_BYTES_MAX, TOPIC_BYTES_MAX};
use tidegate_protocol::{DeviceName, Kind, Leaf, ResetReason, State, Topic, are_kinds, birth_bytes_max};

use crate::backoff::Backoff;
use crate::batcher::BatchLimits;
use crate::board::{Clock, Connection, Dialer, Ending, Entropy, Progress, Watcher};
use crate::link::{Granted, Hello, Link, LinkError, MEMORY_BYTES, PacketBuffer, Password, Session};
use crate::queue::Queue;
use crate::sensor::Sensors;
use about::About;
use exchange::{exchange, say_status};
use intake::Intake;

pub use about::Firmware;

/// Longest time to open a connection, in milliseconds.
pub const DIAL_MS_MAX: u64 = 10_000;
/// Longest time for the gateway to take a write or to send the rest of a packet, in milliseconds.
pub const ANSWER_MS_MAX: u64 = 10_000;
/// The shortest buffer that takes any reading as the first event of a frame, in bytes.
pub const FRAME_BYTES_MIN: usize = 128;

/// How often a device says that it is there, in milliseconds, where nothing asks for another
/// interval.
pub const STATUS_EVERY_MS: u32 = 5 * 60 * 1000;

/// What a board is made of.
pub trait Board {
    /// Its clock.
    type Clock: Clock;
    /// Its random bits.
    type Entropy: Entropy;
    /// Its way to the gateway.
    type Dialer: Dialer;
    /// Its sensors.
    type Sensors: Sensors;
    /// When it stops.
    type Ending: Ending;
    /// Who hears of its progress.
    type Watcher: Watcher;
    /// The kinds of its events, in the order of their indexes: first
    /// [`Loss`](tidegate_protocol::events::Loss), and somewhere
    /// [`SensorFault`](crate::sensor::SensorFault), or else the gateway does not hear of faults.
    const KINDS: &'static [Kind];
}

/// A board's parts.
#[derive(Debug)]
pub struct Parts<B: Board> {
    /// Its clock.
    pub clock: B::Clock,
    /// Its random bits.
    pub entropy: B::Entropy,
    /// Its way to the gateway.
    pub dialer: B::Dialer,
    /// Its sensors.
    pub sensors: B::Sensors,
    /// When it stops.
    pub ending: B::Ending,
    /// Who hears of its progress.
    pub watcher: B::Watcher,
}

/// Who the device is, and how often it does what.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'s> {
    /// Its name: the MQTT client identifier and a level of its topic.
    pub device: DeviceName<'s>,
    /// The password of its user, which is called like the device; `None` connects without a user.
    pub password: Option<Password<'s>>,
    /// The number of this boot. The board keeps it and adds one at every boot; without storage it
    /// is random.
    pub boot: u32,
    /// Why this boot began.
    pub reset: ResetReason,
    /// What runs on it.
    pub firmware: Firmware<'s>,
    /// Every sensor is read this often, in milliseconds; 0 counts as 1.
    pub sample_every_ms: u32,
    /// When a frame is sealed.
    pub batch: BatchLimits,
    /// Frames unacknowledged at most, 1 to [`WINDOW_MAX`](crate::link::WINDOW_MAX); the gateway may
    /// grant fewer. With more than one, a frame that the gateway refuses may arrive after its
    /// followers.
    pub window: u8,
    /// The longest time without a word either way, in seconds.
    pub keep_alive_s: NonZeroU16,
    /// A status every so many milliseconds, while connected; 0 counts as 1. [`STATUS_EVERY_MS`] is
    /// good for most.
    pub status_every_ms: u32,
}

/// A device's memory: a queue of `SLOTS` frames of up to `BYTES` bytes, one more for what is
/// gathered, and `OUT` bytes for what is being written: a frame or a birth. [`outgoing_bytes`] is
/// the `OUT` of a board; [`run`] does not compile with less.
#[derive(Debug)]
pub struct Storage<const SLOTS: usize, const BYTES: usize, const OUT: usize> {
    queue: Queue<SLOTS, BYTES>,
    gathered: [u8; BYTES],
    outgoing: [u8; OUT],
}

/// What a board with these kinds needs for writing, where a frame has up to `frame_bytes` bytes.
#[must_use]
pub const fn outgoing_bytes(frame_bytes: usize, kinds: &[Kind]) -> usize {
    let birth_bytes = birth_bytes_max(kinds);
    if birth_bytes > frame_bytes { birth_bytes } else { frame_bytes }
}

impl<const SLOTS: usize, const BYTES: usize, const OUT: usize> Default for Storage<SLOTS, BYTES, OUT> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize, const BYTES: usize, const OUT: usize> Storage<SLOTS, BYTES, OUT> {
    /// Empty memory.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(BYTES >= FRAME_BYTES_MIN) }
        Storage { queue: Queue::new(), gathered: [0; BYTES], outgoing: [0; OUT] }
    }
}

/// How a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The end was asked for, and every event is acknowledged or named as lost.
    Ended,
    /// This boot has used all of its event numbers, and every event is acknowledged: restart with
    /// the next boot number.
    NumbersUsedUp,
}

/// Runs the device until its [`Ending`].
pub async fn run<B: Board, const SLOTS: usize, const BYTES: usize, const OUT: usize>(
    parts: Parts<B>,
    settings: &Settings<'_>,
    storage: &mut Storage<SLOTS, BYTES, OUT>,
) -> Outcome {
    const {
        assert!(are_kinds(B::KINDS), "a device has 1 to 32 kinds of events, and the first is Loss");
        assert!(
            OUT >= outgoing_bytes(BYTES, B::KINDS),
            "the birth does not fit: make the storage's OUT outgoing_bytes(BYTES, KINDS)"
        );
    }
    let Parts { clock, mut entropy, mut dialer, sensors, ending, watcher } = parts;
    let Storage { queue, gathered, outgoing } = storage;
    let mut intake: Intake<'_, B, SLOTS, BYTES> =
        Intake::new(clock, sensors, ending, watcher, settings, queue, gathered);
    let about = About { settings, kinds: B::KINDS, connection: 0 };
    let mut line = Line { backoff: Backoff::default(), clean_start: true, outgoing, about };
    let mut session = Session::default();
    intake.turn().await;
    while !intake.is_drained() {
        let mut memory = [0; MEMORY_BYTES];
        let mut buffer = PacketBuffer::new(&mut memory);
        let mut link = Link::new(session, &mut buffer);
        let over = connection(&mut intake, &mut line, &mut dialer, &mut entropy, &mut link, settings).await;
        session = link.into_session();
        if let Err(error) = over {
            intake.note(Progress::Disconnected(error));
            let wait_ms = line.backoff.next_ms(entropy.random_u32());
            let until_ms = intake.now_ms() + u64::from(wait_ms);
            let _ = intake.alongside(until_ms, core::future::pending::<()>()).await;
        }
    }
    intake.outcome()
}

/// What outlives a connection, beside the queue and the session.
struct Line<'o, 's> {
    backoff: Backoff,
    /// No connection of this boot stood yet, or the gateway is to forget the last one.
    clean_start: bool,
    /// The frame or the birth that is being written: the queue may change meanwhile.
    outgoing: &'o mut [u8],
    about: About<'s>,
}

/// One connection from dialling to its end: `Ok` when the run is over.
async fn connection<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    dialer: &'d mut B::Dialer,
    entropy: &mut B::Entropy,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    settings: &Settings<'_>,
) -> Result<(), LinkError> {
    let granted = connect(intake, line, dialer, link, settings).await?;
    line.clean_start = false;
    intake.reconnected(granted.resumed);
    let over = exchange(intake, line, entropy, link, settings, granted).await;
    match over {
        Ok(()) => say_last(intake, line, link).await?,
        Err(LinkError::MemoryUsedUp) => {}
        Err(error) => return Err(error),
    }
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    if let Some(Ok(mut stream)) = intake.alongside(until_ms, link.disconnect()).await {
        let _ = intake.alongside(until_ms, stream.close()).await;
    }
    over
}

/// The last status of an orderly end: sleeping, with the time of the next contact, or stopping.
async fn say_last<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &Line<'_, '_>,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
) -> Result<(), LinkError>
where
    B::Dialer: 'd,
{
    if !link.has_room() {
        return Ok(());
    }
    let next_contact_s = intake.next_contact_s();
    let state = if next_contact_s.is_some() { State::Sleeping } else { State::Stopping };
    say_status(intake, &line.about, link, state, next_contact_s).await
}

async fn connect<'b, 'd, B: Board, const SLOTS: usize, const BYTES: usize>(
    intake: &mut Intake<'_, B, SLOTS, BYTES>,
    line: &mut Line<'_, '_>,
    dialer: &'d mut B::Dialer,
    link: &mut Link<'b, <B::Dialer as Dialer>::Connection<'d>>,
    settings: &Settings<'_>,
) -> Result<Granted, LinkError> {
    let until_ms = intake.now_ms() + DIAL_MS_MAX;
    let stream = intake.alongside(until_ms, dialer.dial()).await.flatten().ok_or(LinkError::Unreachable)?;
    // A CONNECT may arrive without its CONNACK coming back: the next one is another connection in
    // any case.
    line.about.connection = line.about.connection.saturating_add(1);
    let mut topic = [0; TOPIC_BYTES_MAX];
    let mut will = [0; STATUS_BYTES_MAX];
    let hello = Hello {
        client_id: settings.device.as_str(),
        password: settings.password,
        clean_start: line.clean_start,
        keep_alive_s: settings.keep_alive_s,
        will: (
            topic_of(settings.device, Leaf::Status, &mut topic),
            line.about.status(State::Offline, intake.now_ms(), None, None, &mut will),
        ),
    };
    let until_ms = intake.now_ms() + ANSWER_MS_MAX;
    intake.alongside(until_ms, link.connect(stream, &hello)).await.ok_or(LinkError::Silent)?
}

fn topic_of<'t>(device: DeviceName<'_>, leaf: Leaf, out: &'t mut [u8; TOPIC_BYTES_MAX]) -> &'t str {
    let topic = Topic { device, leaf };
    topic.write(out).expect("invariant: a device's topic fits in TOPIC_BYTES_MAX")
}

//! What a board gives to the core: a clock, entropy, a way to dial the gateway, an ending, and an
//! ear for progress.
//!
//! Purpose: the whole edge between the portable core and a piece of hardware. A board is set-up,
//! these five small implementations, its sensors, and one call of [`run`](crate::device::run).
//!
//! The traits ask for no executor and no TCP/IP stack: [`Connection`] is `embedded-io-async`, the
//! clock is a number. Futures that carry the name *cancel-safe* are dropped and made again all the
//! time.
//!
//! What it does not do: no storage. The boot number is kept by the board and passed in
//! [`Settings`](crate::device::Settings).

use core::future::Future;

use embedded_io_async::{Read, Write};

use crate::link::LinkError;

/// The time since boot. It never goes back and does not wrap.
pub trait Clock {
    /// Milliseconds since boot.
    fn uptime_ms(&self) -> u64;

    /// Returns when [`uptime_ms`](Clock::uptime_ms) has reached `uptime_ms`, at once when that is
    /// past. Cancel-safe.
    fn sleep_until(&self, uptime_ms: u64) -> impl Future<Output = ()>;

    /// UTC, in milliseconds since 1970, of a board that has a clock and has set it.
    fn wall_ms(&self) -> Option<u64> {
        None
    }
}

/// Random bits for the jitter of back-off. Not for cryptography; but two devices of one kind must
/// not draw alike.
pub trait Entropy {
    /// 32 bits, evenly distributed.
    fn random_u32(&mut self) -> u32;
}

/// A byte stream to the gateway: ordered, lossless, both ways.
///
/// `read` must be cancel-safe (nothing is taken from the stream when it is dropped). Writes come in
/// small pieces and end with a `flush`: the board buffers where small writes are dear. `flush`
/// starts the sending, it need not wait for the peer.
pub trait Connection: Read + Write {
    /// Ends the stream in order, within a time limit of the board's: what was written still goes
    /// out.
    fn close(&mut self) -> impl Future<Output = ()>;
}

/// Opens connections to the gateway, one at a time.
pub trait Dialer {
    /// What a dial gives.
    type Connection<'d>: Connection
    where
        Self: 'd;

    /// Opens a connection, `None` when there is none to be had now: the core backs off and dials
    /// again. Dropped when it takes longer than the core waits.
    fn dial(&mut self) -> impl Future<Output = Option<Self::Connection<'_>>>;
}

/// When the run ends: sampling stops, what is open is sealed, and the run returns once all of it is
/// acknowledged.
pub trait Ending {
    /// Whether the end was asked for. Once true, always true.
    fn requested(&self) -> bool;

    /// Returns when the end is asked for. Cancel-safe.
    fn wait(&self) -> impl Future<Output = ()>;

    /// When the device will be heard of again, in seconds from the end: it goes to sleep, and says
    /// so in its last status. `None`: it stops.
    fn next_contact_s(&self) -> Option<u32> {
        None
    }
}

/// A device in the field: it never ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Never;

impl Ending for Never {
    fn requested(&self) -> bool {
        false
    }

    fn wait(&self) -> impl Future<Output = ()> {
        core::future::pending()
    }
}

/// Hears what happens: for a console, counters, a lamp.
pub trait Watcher {
    /// One thing that happened. Called from the loop: it must return at once.
    fn note(&mut self, progress: Progress);

    /// A command from the gateway that the core does not know, already acknowledged. It may come
    /// twice.
    fn command(&mut self, _payload: &[u8]) {}
}

/// A device without a console.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watcher for Silent {
    fn note(&mut self, _: Progress) {}
}

/// What a [`Watcher`] hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An event got its number; every number from 0 is given once.
    Sampled {
        /// The event's number in this boot.
        seq: u32,
    },
    /// The gateway took the connection.
    Connected {
        /// It still had the session of the connection before.
        resumed: bool,
    },
    /// The gateway has the birth of this connection.
    Born,
    /// The birth is longer than the gateway takes: events go on, and it cannot say what they mean.
    BirthTooLarge,
    /// The connection is gone. Whatever was not acknowledged is still in the queue.
    Disconnected(LinkError),
    /// Events were acknowledged, and left the queue.
    Acked {
        /// How many.
        events: u32,
    },
    /// Events were dropped; a loss event names them later.
    Lost {
        /// The number of the first.
        first_seq: u32,
        /// How many.
        events: u32,
    },
    /// The gateway refused a publish with this reason code; the frame stays in the queue and goes
    /// again after a while.
    Refused {
        /// The reason code of the PUBACK, 0x80 or more ([MQTT-3.4.2.1]).
        reason: u8,
    },
    /// No frame takes an event of this kind: its index is not below 32. The board's code is at
    /// fault.
    Unusable {
        /// The kind index given.
        kind: u8,
    },
    /// A sensor could not be read.
    Faulted {
        /// Its place in the set of sensors.
        sensor: u8,
    },
}

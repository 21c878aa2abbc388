//! The status of a device: that it is there, that it goes to sleep, that it stops, or that it is
//! gone.
//!
//! ```text
//!  byte 0        version << 4 | kind of message (3: status)
//!  byte 1        flags: 0
//!  varint        boot           (u32)
//!  varint        connection     (u32)
//!  byte          state: 0 offline (the last will), 1 online, 2 sleeping, 3 stopping
//!  varint        uptime_ms      (u64) of this moment; in a will, of the CONNECT
//!  0 | 1 varint  wall_ms        (u64) the device's own clock, UTC
//!  0 | 1 varint  next_contact_s (u32)
//!  0 | 1 byte    battery_percent
//!  0 | 1 byte    signal_dbm     (i8)
//! ```
//!
//! Limits: [`STATUS_BYTES_MAX`]. What it does not do: a status is of the moment and is never
//! queued, so it carries no event.

use crate::frame::VERSION;
use crate::limits::STATUS_BYTES_MAX;
use crate::message::{Cursor, MessageCause, MessageError, at};
use crate::pen::Pen;

/// The kind of message in a status' first byte.
const STATUS: u8 = 3;
/// A battery that is full, in percent.
const PERCENT_MAX: u8 = 100;

/// What a device says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Gone without a word: the last will.
    Offline,
    /// There, and working.
    Online,
    /// Away on purpose, back in `next_contact_s`.
    Sleeping,
    /// Going away in order.
    Stopping,
}

impl State {
    const ALL: [State; 4] = [State::Offline, State::Online, State::Sleeping, State::Stopping];

    /// In words, as it is shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Offline => "offline",
            State::Online => "online",
            State::Sleeping => "sleeping",
            State::Stopping => "stopping",
        }
    }

    /// The state that `number` stands for on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// A status message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// The device's boot number.
    pub boot: u32,
    /// Which connection of this boot, from 1. A status of an older `(boot, connection)` says
    /// nothing of the present.
    pub connection: u32,
    /// What the device says of itself.
    pub state: State,
    /// The uptime of this moment, in milliseconds; in a will, of the CONNECT.
    pub uptime_ms: u64,
    /// The device's own clock, UTC, in milliseconds, if it is set.
    pub wall_ms: Option<u64>,
    /// When the device will be heard of again, in seconds from this moment.
    pub next_contact_s: Option<u32>,
    /// What the battery has left, 0 to 100 %.
    pub battery_percent: Option<u8>,
    /// The strength of the radio signal, in dBm.
    pub signal_dbm: Option<i8>,
}

impl Status {
    /// Reads a status.
    ///
    /// # Errors
    /// [`MessageError`]: the bytes are no status of this version.
    pub fn parse(bytes: &[u8]) -> Result<Self, MessageError> {
        let mut cursor = Cursor::open(bytes, STATUS, STATUS_BYTES_MAX)?;
        let status = Status {
            boot: cursor.u32()?,
            connection: cursor.u32()?,
            state: cursor.meaning(State::from_number)?,
            uptime_ms: cursor.varint()?,
            wall_ms: cursor.option(Cursor::varint)?,
            next_contact_s: cursor.option(Cursor::u32)?,
            battery_percent: cursor
                .option(|cursor| cursor.meaning(|percent| (percent <= PERCENT_MAX).then_some(percent)))?,
            signal_dbm: cursor.option(|cursor| Ok(cursor.byte()? as i8))?,
        };
        cursor.end()?;
        Ok(status)
    }

    /// Writes the status to the start of `out`. [`STATUS_BYTES_MAX`] bytes are always enough. A
    /// battery of more than 100 % is written as 100 %.
    ///
    /// # Errors
    /// [`MessageCause::BufferTooSmall`].
    pub fn write<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], MessageError> {
        let mut pen = Pen::new(out);
        pen.byte(VERSION << 4 | STATUS);
        pen.byte(0);
        pen.varint(self.boot as u64);
        pen.varint(self.connection as u64);
        pen.byte(self.state.number());
        pen.varint(self.uptime_ms);
        pen.option(self.wall_ms);
        pen.option(self.next_contact_s.map(u64::from));
        // Both are one byte as a varint too or not at all: written as bytes.
        for value in [
            self.battery_percent.map(|percent| percent.min(PERCENT_MAX)),
            self.signal_dbm.map(|dbm| dbm as u8),
        ] {
            pen.byte(u8::from(value.is_some()));
            if let Some(value) = value {
                pen.byte(value);
            }
        }
        let needed = pen.at();
        pen.finish().ok_or(at(0, MessageCause::BufferTooSmall { needed }))
    }
}

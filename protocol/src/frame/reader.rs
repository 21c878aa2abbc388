//! Reads a frame event by event, from borrowed bytes.
//!
//! Limits: about 400 bytes of state, no allocation, at most one step per byte of the frame whatever
//! the bytes are. The end is strict: a byte too few or too many is an error.
//!
//! What it does not do: it gives bodies as bytes; [`Event::decode`] is for a type known at compile
//! time.

use serde::Deserialize;

use super::head::{FrameError, FrameHead, read_u32};
use super::history::History;
use super::{DIFFERENCE, FULL, KIND_MASK, ON_TIME, difference, unzigzag_u32};
use crate::identity::EventId;
use crate::limits::{BODY_BYTES_MAX, DELTA_BODY_BYTES_MAX};

/// One event of a frame. The body may lie in the reader, so it lasts until the next one is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its number within the device.
    pub id: EventId,
    /// The device's uptime at the event, in milliseconds.
    pub uptime_ms: u64,
    /// Its kind: an index into the list that the device's birth announces.
    pub kind: u8,
    /// Its fields in postcard.
    pub body: &'a [u8],
}

impl<'a> Event<'a> {
    /// The body as a `T`, all of it.
    ///
    /// # Errors
    /// [`BodyError`]: the body is not a `T`.
    pub fn decode<T: Deserialize<'a>>(&self) -> Result<T, BodyError> {
        match postcard::take_from_bytes(self.body) {
            Ok((value, [])) => Ok(value),
            _ => Err(BodyError),
        }
    }
}

/// A body is not what it was taken for: its kind's type is another one. The event itself is
/// unharmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event's body does not have the fields expected of its kind")]
pub struct BodyError;

/// A frame being read.
#[derive(Debug)]
pub struct FrameReader<'a> {
    frame: &'a [u8],
    at: usize,
    head: FrameHead,
    read: u8,
    /// After the last event or an error.
    over: bool,
    history: History,
}

impl<'a> FrameReader<'a> {
    /// Begins to read a frame.
    ///
    /// # Errors
    /// [`FrameError`] if its head is not one: [`FrameHead::parse`].
    pub fn new(frame: &'a [u8]) -> Result<Self, FrameError> {
        let (head, at) = FrameHead::parse(frame)?;
        Ok(Self { frame, at, head, read: 0, over: false, history: History::new() })
    }

    /// What the frame says of its events.
    #[must_use]
    pub fn head(&self) -> FrameHead {
        self.head
    }

    /// The next event; nothing after the last one.
    ///
    /// # Errors
    /// [`FrameError`]: an event cannot be read, or bytes are left after the last one. It ends the
    /// reading.
    pub fn next_event(&mut self) -> Option<Result<Event<'_>, FrameError>> {
        if self.over {
            return None;
        }
        if self.read == self.head.count {
            self.over = true;
            let bytes = self.frame.len() - self.at;
            return (bytes > 0).then_some(Err(FrameError::Trailing { bytes }));
        }
        match self.step() {
            Ok(read) => Some(Ok(self.event(read))),
            Err(error) => {
                self.over = true;
                Some(Err(error))
            }
        }
    }

    /// Reads one event and notes it.
    fn step(&mut self) -> Result<Read<'a>, FrameError> {
        let control = *self.frame.get(self.at).ok_or(FrameError::Truncated)?;
        let full = control & FULL != 0;
        let (kind, time, at) = if !full {
            let kind = self.history.expected_kind().ok_or(FrameError::NoReference)?;
            (kind, u32::from(control), self.at + 1)
        } else if control & ON_TIME != 0 {
            (control & KIND_MASK, 0, self.at + 1)
        } else {
            let (time, at) = read_u32(self.frame, self.at + 1)?;
            (control & KIND_MASK, time, at)
        };
        let offset_ms = self.history.expected_offset_ms(kind).wrapping_add(unzigzag_u32(time));
        let uptime_ms = self.head.base_ms.checked_add(u64::from(offset_ms)).ok_or(FrameError::TimeOver)?;
        let literal = if full && control & DIFFERENCE == 0 {
            let body = self.literal(at)?;
            self.history.note(kind, offset_ms, Some(body));
            Some(body)
        } else {
            let before = self.history.body(kind).ok_or(FrameError::NoReference)?;
            let mut body = [0; DELTA_BODY_BYTES_MAX];
            let (bytes, end) = difference::read(before, self.frame, at, &mut body)?;
            self.history.note(kind, offset_ms, Some(&body[..bytes]));
            self.at = end;
            None
        };
        Ok(Read { kind, uptime_ms, literal })
    }

    /// Reads a body carried as it is.
    fn literal(&mut self, at: usize) -> Result<&'a [u8], FrameError> {
        let (bytes, at) = read_u32(self.frame, at)?;
        let bytes = bytes as usize;
        if bytes > BODY_BYTES_MAX {
            return Err(FrameError::BodyTooLong);
        }
        let body = self.frame.get(at..at + bytes).ok_or(FrameError::Truncated)?;
        self.at = at + bytes;
        Ok(body)
    }

    fn event(&mut self, read: Read<'a>) -> Event<'_> {
        let seq = self.head.first_seq + u32::from(self.read);
        self.read += 1;
        let body = match read.literal {
            Some(body) => body,
            None => self.history.body(read.kind).expect("invariant: `step` noted a body of at most 32 bytes"),
        };
        Event { id: EventId { boot: self.head.boot, seq }, uptime_ms: read.uptime_ms, kind: read.kind, body }
    }
}

/// An event as read: its body from the frame, or the one just noted.
struct Read<'a> {
    kind: u8,
    uptime_ms: u64,
    literal: Option<&'a [u8]>,
}

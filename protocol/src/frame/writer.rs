//! Writes a frame into the caller's buffer, event by event. The frame in the buffer is whole after
//! every push, so sealing it costs nothing.
//!
//! Limits: the first [`FRAME_BYTES_MAX`] bytes of the buffer are used; about 390 bytes of state
//! beside it. A push that fails leaves the frame as it was (bytes behind its end may have changed).
//!
//! What it does not do: no clock, and no decision when a frame is full enough.

use postcard::ser_flavors::Size;
use serde::Serialize;

use super::head::{COUNT_AT, FrameHead, set_urgent};
use super::history::History;
use super::{DIFFERENCE, FULL, ON_TIME, difference, zigzag_u32};
use crate::identity::EventId;
use crate::limits::{BODY_BYTES_MAX, DELTA_BODY_BYTES_MAX, EVENTS_MAX, FRAME_BYTES_MAX, KINDS_MAX};
use crate::varint;

/// A frame being written.
#[derive(Debug)]
pub struct FrameWriter<'b> {
    buffer: &'b mut [u8],
    /// Length of the frame so far; 0 before the first event.
    len: usize,
    head: FrameHead,
    history: History,
}

impl<'b> FrameWriter<'b> {
    /// Begins a frame in `buffer`, whose events will be numbered from `first_seq` on. `schema_set`
    /// is the fingerprint of the device's kinds: [`crate::schema_set`]. A buffer of
    /// [`FRAME_BYTES_MAX`] bytes takes any event; a smaller one may find even its first event too
    /// large.
    #[must_use]
    pub fn new(buffer: &'b mut [u8], boot: u32, first_seq: u32, schema_set: u32, urgent: bool) -> Self {
        let bytes = buffer.len().min(FRAME_BYTES_MAX);
        let head = FrameHead { boot, first_seq, base_ms: 0, schema_set, count: 0, urgent };
        Self { buffer: &mut buffer[..bytes], len: 0, head, history: History::new() }
    }

    /// Adds an event: the device's uptime at it in milliseconds, its kind index, its postcard body.
    /// Returns its number.
    ///
    /// # Errors
    /// [`PushError`]; the frame is then as it was.
    pub fn push(&mut self, uptime_ms: u64, kind: u8, body: &[u8]) -> Result<EventId, PushError> {
        if body.len() > BODY_BYTES_MAX {
            return Err(PushError::BodyTooLong { bytes: body.len() });
        }
        let next = self.place(uptime_ms, kind)?;
        let end = self.put_event(&next, kind, body).ok_or(PushError::Full)?;
        Ok(self.commit(next, kind, end, Some(body)))
    }

    /// Adds an event whose body is `event` in postcard.
    ///
    /// # Errors
    /// [`PushError`]; the frame is then as it was.
    pub fn push_event<T>(&mut self, uptime_ms: u64, kind: u8, event: &T) -> Result<EventId, PushError>
    where
        T: Serialize + ?Sized,
    {
        let bytes =
            postcard::serialize_with_flavor(event, Size::default()).map_err(|_| PushError::Unserializable)?;
        if bytes > BODY_BYTES_MAX {
            return Err(PushError::BodyTooLong { bytes });
        }
        let mut small = [0; DELTA_BODY_BYTES_MAX];
        if bytes <= small.len() {
            let body = postcard::to_slice(event, &mut small).map_err(|_| PushError::Unserializable)?;
            return self.push(uptime_ms, kind, body);
        }
        // Too long for a difference, so its length and place are known: it is written there at
        // once.
        let next = self.place(uptime_ms, kind)?;
        let at = self.put_prefix(&next, kind, bytes).ok_or(PushError::Full)?;
        let place = self.buffer.get_mut(at..at + bytes).ok_or(PushError::Full)?;
        match postcard::to_slice(event, place) {
            Ok(written) if written.len() == bytes => {}
            _ => return Err(PushError::Unserializable),
        }
        Ok(self.commit(next, kind, at + bytes, None))
    }

    /// Marks the frame as urgent or not: an urgent event may join a frame that was not.
    pub fn set_urgent(&mut self, urgent: bool) {
        self.head.urgent = urgent;
        set_urgent(&mut self.buffer[..self.len], urgent);
    }

    /// What the frame says of its events so far. `base_ms` means nothing before the first.
    #[must_use]
    pub fn head(&self) -> FrameHead {
        self.head
    }

    /// How many events are in the frame.
    #[must_use]
    pub fn count(&self) -> u8 {
        self.head.count
    }

    /// Length of the frame so far, in bytes; 0 without events.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.count == 0
    }

    /// Seals the frame. Without events there is no frame, and the result is empty.
    #[must_use]
    pub fn finish(self) -> &'b [u8] {
        &self.buffer[..self.len]
    }

    /// Seals the frame and gives the buffer back with the frame's length in bytes: for a buffer
    /// that holds one frame after the other.
    #[must_use]
    pub fn into_buffer(self) -> (&'b mut [u8], usize) {
        (self.buffer, self.len)
    }

    /// Where and when the next event would be, if the frame takes it.
    fn place(&self, uptime_ms: u64, kind: u8) -> Result<Next, PushError> {
        if usize::from(kind) >= KINDS_MAX {
            return Err(PushError::Kind { kind });
        }
        if usize::from(self.head.count) >= EVENTS_MAX {
            return Err(PushError::Full);
        }
        let seq = self.head.first_seq.checked_add(u32::from(self.head.count));
        let seq = seq.filter(|&seq| seq < u32::MAX).ok_or(PushError::SequenceOver)?;
        let base_ms = if self.is_empty() { uptime_ms } else { self.head.base_ms };
        let offset_ms = uptime_ms.checked_sub(base_ms).and_then(|ms| u32::try_from(ms).ok());
        Ok(Next { seq, base_ms, offset_ms: offset_ms.ok_or(PushError::Full)? })
    }

    /// Writes an event behind the frame's end, in the shortest form. Returns where it ends.
    fn put_event(&mut self, next: &Next, kind: u8, body: &[u8]) -> Option<usize> {
        // One byte longer than the body: as long as the body with its length.
        let mut scratch = [0; DELTA_BODY_BYTES_MAX + 1];
        let change = match (self.history.body(kind), scratch.get_mut(..=body.len())) {
            (Some(before), Some(out)) => difference::write(before, body, out),
            _ => None,
        };
        let Some(change) = change.and_then(|bytes| scratch.get(..bytes)) else {
            let at = self.put_prefix(next, kind, body.len())?;
            return self.put_bytes(at, body);
        };
        let time = zigzag_u32(next.offset_ms.wrapping_sub(self.history.expected_offset_ms(kind)));
        let at = if self.history.expected_kind() == Some(kind) && time < u32::from(FULL) {
            self.put_bytes(self.len, &[time as u8])?
        } else {
            self.put_control(self.len, kind | DIFFERENCE, time)?
        };
        self.put_bytes(at, change)
    }

    /// Writes what stands before a body carried as it is, and the frame's head before a first
    /// event.
    fn put_prefix(&mut self, next: &Next, kind: u8, body_bytes: usize) -> Option<usize> {
        let at = match self.len {
            0 => FrameHead { base_ms: next.base_ms, ..self.head }.write(self.buffer)?,
            len => len,
        };
        let time = zigzag_u32(next.offset_ms.wrapping_sub(self.history.expected_offset_ms(kind)));
        let at = self.put_control(at, kind, time)?;
        varint::write(body_bytes as u64, self.buffer, at)
    }

    fn put_control(&mut self, at: usize, control: u8, time: u32) -> Option<usize> {
        if time == 0 {
            return self.put_bytes(at, &[FULL | ON_TIME | control]);
        }
        let at = self.put_bytes(at, &[FULL | control])?;
        varint::write(u64::from(time), self.buffer, at)
    }

    fn put_bytes(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let end = at + bytes.len();
        self.buffer.get_mut(at..end)?.copy_from_slice(bytes);
        Some(end)
    }

    /// Makes what was written up to `end` part of the frame.
    fn commit(&mut self, next: Next, kind: u8, end: usize, body: Option<&[u8]>) -> EventId {
        self.len = end;
        self.head.base_ms = next.base_ms;
        self.head.count += 1;
        self.buffer[COUNT_AT] = self.head.count;
        self.history.note(kind, next.offset_ms, body);
        EventId { boot: self.head.boot, seq: next.seq }
    }
}

/// The place of the next event in its frame.
struct Next {
    seq: u32,
    base_ms: u64,
    offset_ms: u32,
}

/// An event was not added. The frame is as it was before the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The frame takes no such event any more: too few bytes left, 255 events, an uptime before the
    /// first event's or more than 49 days after it. Seal it and push to a new one.
    #[error("the frame is full: seal it and push to a new one")]
    Full,
    /// The kind index is [`KINDS_MAX`] or more. No frame takes it.
    #[error("kind index {kind} is not below {KINDS_MAX}")]
    Kind {
        /// The index given.
        kind: u8,
    },
    /// The body is longer than [`BODY_BYTES_MAX`]. No frame takes it: drop the event and count the
    /// loss.
    #[error("the body has {bytes} bytes, more than {BODY_BYTES_MAX}")]
    BodyTooLong {
        /// The body's length in bytes.
        bytes: usize,
    },
    /// The boot has no numbers left. No frame of this boot takes an event: begin a new boot number.
    #[error("this boot has used all its event numbers")]
    SequenceOver,
    /// The event has no postcard encoding (a sequence of unknown length, or a `Serialize` that
    /// fails or changes its mind). No frame takes it.
    #[error("the event cannot be serialized")]
    Unserializable,
}

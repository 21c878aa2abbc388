//! What both sides remember of the events already in the frame, and what they expect from it.
//! Writer and reader note every event in the same way, so they always agree, and each frame begins
//! with nothing.
//!
//! ```text
//!  expected kind   the one that came after this event's kind the last time; else this kind again
//!  expected time   a kind's last time and the step before it once more; else the last event's time
//!  expected body   the kind's last body
//! ```
//!
//! Limits: [`DELTA_KINDS`] kinds with bodies to [`DELTA_BODY_BYTES_MAX`] bytes, 44 bytes each. A
//! kind index beyond is never expected, has no body to differ from, and its time is expected at the
//! last event's.

use crate::limits::{DELTA_BODY_BYTES_MAX, DELTA_KINDS};

/// What a frame's events so far lead one to expect.
#[derive(Debug, Clone)]
pub(super) struct History {
    last_offset_ms: u32,
    last_kind: Option<u8>,
    kinds: [Kind; DELTA_KINDS],
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    offset_ms: u32,
    step_ms: u32,
    /// The kind that came after this one the last time; at first, this one.
    follower: u8,
    seen: bool,
    /// The body's length, or [`FORGOTTEN`].
    body_bytes: u8,
    body: [u8; DELTA_BODY_BYTES_MAX],
}

/// There is no body to differ from.
const FORGOTTEN: u8 = u8::MAX;

impl History {
    /// Nothing seen yet.
    pub(super) const fn new() -> Self {
        let unseen = Kind {
            offset_ms: 0,
            step_ms: 0,
            follower: 0,
            seen: false,
            body_bytes: FORGOTTEN,
            body: [0; DELTA_BODY_BYTES_MAX],
        };
        let mut kinds = [unseen; DELTA_KINDS];
        let mut kind = 0;
        while kind < DELTA_KINDS {
            kinds[kind].follower = kind as u8;
            kind += 1;
        }
        Self { last_offset_ms: 0, last_kind: None, kinds }
    }

    /// The kind of the next event, if the last one was of a kind that is remembered.
    #[inline]
    pub(super) fn expected_kind(&self) -> Option<u8> {
        Some(self.kinds.get(usize::from(self.last_kind?))?.follower)
    }

    /// When the next event of `kind` comes, in milliseconds after the frame's first event.
    #[inline]
    pub(super) fn expected_offset_ms(&self, kind: u8) -> u32 {
        match self.kinds.get(usize::from(kind)) {
            Some(past) if past.seen => past.offset_ms.wrapping_add(past.step_ms),
            _ => self.last_offset_ms,
        }
    }

    /// The last body of `kind`, if it is remembered.
    #[inline]
    pub(super) fn body(&self, kind: u8) -> Option<&[u8]> {
        let past = self.kinds.get(usize::from(kind))?;
        past.body.get(..usize::from(past.body_bytes))
    }

    /// Remembers an event, and its body unless that is longer than [`DELTA_BODY_BYTES_MAX`] or not
    /// given.
    #[inline]
    pub(super) fn note(&mut self, kind: u8, offset_ms: u32, body: Option<&[u8]>) {
        if let Some(last) = self.last_kind.and_then(|last| self.kinds.get_mut(usize::from(last))) {
            last.follower = kind;
        }
        self.last_kind = Some(kind);
        self.last_offset_ms = offset_ms;
        let Some(past) = self.kinds.get_mut(usize::from(kind)) else { return };
        past.step_ms = if past.seen { offset_ms.wrapping_sub(past.offset_ms) } else { 0 };
        past.offset_ms = offset_ms;
        past.seen = true;
        past.body_bytes = FORGOTTEN;
        let Some(body) = body else { return };
        if let Some(place) = past.body.get_mut(..body.len()) {
            place.copy_from_slice(body);
            past.body_bytes = body.len() as u8;
        }
    }
}

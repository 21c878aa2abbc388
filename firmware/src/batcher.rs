//! Gathers events into a frame, and says when to seal it: on count, bytes, age or urgency.
//!
//! Purpose: a reading alone costs about 120 bytes on the network, in a batch of 60 about 6. It is
//! also the one place that gives event numbers: from 0, one after the other.
//!
//! A frame whose count or age is reached is [`Due::IfWanted`]: as long as earlier frames wait to be
//! sent, sealing it would bring nothing forward, and it goes on filling. So a slow or absent
//! gateway makes frames larger, and a queue of full frames lasts through a longer outage.
//!
//! Limits: a frame is at most as long as the buffer. An urgent event joins the open frame and seals
//! it.
//!
//! What it does not do: it reads no clock and keeps no sealed frame: [`Batcher::seal`] gives it
//! out, and the next push writes over it.

use tidegate_protocol::{FrameWriter, PushError};

use crate::queue::Sealed;

/// When a frame is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// At this many events; 0 counts as 1.
    pub events_max: u8,
    /// When its first event is this old, in milliseconds.
    pub age_ms_max: u32,
}

/// Whether to seal the open frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not yet.
    No,
    /// If no earlier frame waits to be sent.
    IfWanted,
    /// In any case: it has an urgent event.
    Now,
}

/// An open frame and the next event's number.
#[derive(Debug)]
pub struct Batcher<'b> {
    limits: BatchLimits,
    boot: u32,
    schema_set: u32,
    next_seq: u32,
    frame: Frame<'b>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, and no heap to put it on")]
enum Frame<'b> {
    /// No events. The buffer may still hold the frame that was sealed last.
    Empty(&'b mut [u8]),
    Open {
        writer: FrameWriter<'b>,
        due_ms: u64,
        urgent: bool,
    },
}

impl<'b> Batcher<'b> {
    /// Gathers frames of up to `buffer.len()` bytes. `schema_set` is the fingerprint of the
    /// device's kinds ([`tidegate_protocol::schema_set`]).
    pub fn new(buffer: &'b mut [u8], limits: BatchLimits, boot: u32, schema_set: u32) -> Self {
        Batcher { limits, boot, schema_set, next_seq: 0, frame: Frame::Empty(buffer) }
    }

    /// Adds an event with its postcard body and returns its number.
    ///
    /// # Errors
    /// [`PushError::Full`]: [`seal`](Batcher::seal) and push again; an empty frame that is full
    /// takes no such event. After any other, no frame takes this event. The open frame is as it
    /// was.
    pub fn push(&mut self, now_ms: u64, kind: u8, body: &[u8], urgent: bool) -> Result<u32, PushError> {
        if let Frame::Empty(buffer) = &mut self.frame {
            let buffer = core::mem::take(buffer);
            let writer = FrameWriter::new(buffer, self.boot, self.next_seq, self.schema_set, false);
            let due_ms = now_ms + u64::from(self.limits.age_ms_max);
            self.frame = Frame::Open { writer, due_ms, urgent: false };
        }
        let Frame::Open { writer, due_ms, urgent: is_urgent } = &mut self.frame else {
            unreachable!("invariant: opened above")
        };
        if writer.is_empty() {
            *due_ms = now_ms + u64::from(self.limits.age_ms_max);
        }
        let id = writer.push(now_ms, kind, body)?;
        if urgent {
            *is_urgent = true;
            writer.set_urgent(true);
        }
        self.next_seq = id.seq + 1;
        Ok(id.seq)
    }

    /// Whether to seal the open frame at `now_ms`.
    #[must_use]
    pub fn judge(&self, now_ms: u64) -> Due {
        match &self.frame {
            Frame::Open { urgent: true, .. } => Due::Now,
            Frame::Open { .. } if self.due_ms().is_some_and(|due_ms| now_ms >= due_ms) => Due::IfWanted,
            Frame::Open { .. } | Frame::Empty(_) => Due::No,
        }
    }

    /// The uptime from which the open frame is due, if there is one; 0 when it is due by its count.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        match &self.frame {
            Frame::Open { writer, .. } if writer.count() >= self.limits.events_max.max(1) => Some(0),
            Frame::Open { writer, due_ms, .. } if !writer.is_empty() => Some(*due_ms),
            Frame::Open { .. } | Frame::Empty(_) => None,
        }
    }

    /// Whether no event waits to be sealed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due_ms().is_none()
    }

    /// Seals the open frame; `None` when it has no events. Its bytes never change after.
    pub fn seal(&mut self) -> Option<Sealed<'_>> {
        if self.is_empty() {
            return None;
        }
        let Frame::Open { writer, urgent, .. } = core::mem::replace(&mut self.frame, Frame::Empty(&mut []))
        else {
            unreachable!("invariant: a frame with events is open")
        };
        let head = writer.head();
        let (buffer, len) = writer.into_buffer();
        self.frame = Frame::Empty(buffer);
        let Frame::Empty(buffer) = &self.frame else { unreachable!("invariant: set above") };
        Some(Sealed { bytes: &buffer[..len], first_seq: head.first_seq, events: head.count, urgent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::FrameReader;

    const LIMITS: BatchLimits = BatchLimits { events_max: 3, age_ms_max: 1000 };

    #[test]
    fn a_frame_is_due_at_its_count() {
        let mut buffer = [0; 256];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        for (now_ms, due) in [(0, Due::No), (1, Due::No), (2, Due::IfWanted), (3, Due::IfWanted)] {
            batcher.push(now_ms, 1, b"body", false).unwrap();
            assert_eq!(batcher.judge(now_ms), due);
        }
    }

    #[test]
    fn a_frame_is_due_at_the_age_of_its_first_event() {
        let mut buffer = [0; 256];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        assert_eq!(batcher.due_ms(), None);
        batcher.push(400, 1, b"body", false).unwrap();
        batcher.push(900, 1, b"body", false).unwrap();
        assert_eq!(batcher.due_ms(), Some(1400));
        assert_eq!(batcher.judge(1399), Due::No);
        assert_eq!(batcher.judge(1400), Due::IfWanted);
        assert!(batcher.seal().is_some());
        assert_eq!(batcher.judge(u64::MAX), Due::No, "nothing is open");
    }

    #[test]
    fn an_urgent_event_joins_the_open_frame_and_makes_it_due() {
        let mut buffer = [0; 256];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        batcher.push(0, 1, b"body", false).unwrap();
        batcher.push(1, 1, b"alarm", true).unwrap();
        assert_eq!(batcher.judge(1), Due::Now);
        let sealed = batcher.seal().unwrap();
        assert!(sealed.urgent && sealed.events == 2);
        assert!(FrameReader::new(sealed.bytes).unwrap().head().urgent);
        batcher.push(2, 1, b"body", false).unwrap();
        assert!(!batcher.seal().unwrap().urgent, "the next frame is not urgent");
    }

    #[test]
    fn a_full_frame_refuses_the_event_and_takes_it_after_sealing() {
        let mut buffer = [0; 64];
        let mut batcher = Batcher::new(&mut buffer, BatchLimits { events_max: 255, ..LIMITS }, 5, 9);
        let mut pushed = 0;
        let error = loop {
            // A byte of more than seven bits at the end is no number: such a body is carried as it
            // is.
            match batcher.push(0, 1, &[0xff; 10], false) {
                Ok(_) => pushed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, PushError::Full);
        assert_eq!(batcher.seal().map(|sealed| sealed.events), Some(pushed));
        assert_eq!(batcher.push(0, 1, &[0xff; 10], false), Ok(u32::from(pushed)));
    }

    #[test]
    fn numbers_run_on_from_frame_to_frame() {
        let mut buffer = [0; 256];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        let mut firsts = [0; 3];
        for (round, first) in firsts.iter_mut().enumerate() {
            for event in 0..=round as u64 {
                batcher.push(event, 1, b"body", false).unwrap();
            }
            let head = FrameReader::new(batcher.seal().unwrap().bytes).unwrap().head();
            assert_eq!((head.boot, head.schema_set), (5, 9));
            *first = head.first_seq;
        }
        assert_eq!(firsts, [0, 1, 3]);
    }

    #[test]
    fn nothing_is_sealed_when_no_event_was_taken() {
        let mut buffer = [0; 16];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        assert_eq!(batcher.push(0, 1, &[0xff; 40], false), Err(PushError::Full));
        assert!(batcher.is_empty());
        assert_eq!(batcher.seal(), None);
    }

    #[test]
    fn sealing_when_nothing_is_open_costs_nothing() {
        let mut buffer = [0; 256];
        let mut batcher = Batcher::new(&mut buffer, LIMITS, 5, 9);
        assert_eq!(batcher.seal(), None);
        assert_eq!(batcher.push(0, 1, b"body", false), Ok(0));
        assert!(batcher.seal().is_some());
        assert_eq!(batcher.seal(), None);
        assert_eq!(batcher.push(0, 1, b"body", false), Ok(1));
        assert!(batcher.seal().is_some());
    }
}

//! What is to be written to a client: answers and messages as bytes, and one large payload as it
//! is, which all who get the message share.
//!
//! ```text
//!   | written | bytes, a message's head | payload, not copied | bytes that came since |
//! ```
//! While a large payload is being written nothing more is delivered, and answers wait behind it.
//! Limits: its owner's, who asks [`Output::has_room`]; the payload is the session's, whose account
//! has it until it is written.

use std::sync::Arc;

/// A payload up to this size, in bytes, is copied: one write for many messages costs less than one
/// for each.
pub const COPIED_BYTES_MAX: usize = 64 * 1024;

/// The output of a connection.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// How much of `bytes` is written.
    written: usize,
    payload: Option<Payload>,
}

#[derive(Debug)]
struct Payload {
    bytes: Arc<[u8]>,
    /// How much of it is written.
    written: usize,
    /// Where among the bytes of the output it belongs.
    at: usize,
}

impl Output {
    /// What is to be written next; empty if nothing is.
    #[must_use]
    #[inline]
    pub fn next(&self) -> &[u8] {
        match &self.payload {
            None => &self.bytes[self.written..],
            Some(payload) if self.written < payload.at => &self.bytes[self.written..payload.at],
            Some(payload) => &payload.bytes[payload.written..],
        }
    }

    /// The first `bytes` of [`Output::next`] are written; what was written is given up once it is
    /// `kept_bytes_max`.
    pub fn wrote(&mut self, bytes: usize, kept_bytes_max: usize) {
        match &mut self.payload {
            Some(payload) if self.written == payload.at => {
                payload.written += bytes;
                if payload.written >= payload.bytes.len() {
                    self.payload = None;
                }
            }
            _ => self.written += bytes,
        }
        if self.is_empty() {
            self.clear();
        } else if self.written >= kept_bytes_max {
            // What is delivered without end would let it grow without end.
            self.bytes.drain(..self.written);
            if let Some(payload) = &mut self.payload {
                payload.at -= self.written;
            }
            self.written = 0;
        }
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.next().is_empty()
    }

    /// Bytes that are to be written, without a large payload.
    #[must_use]
    #[inline]
    pub fn unwritten_bytes(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether a large payload is being written.
    #[must_use]
    #[inline]
    pub fn has_payload(&self) -> bool {
        self.payload.is_some()
    }

    /// Whether more messages may come in, up to so many bytes.
    #[must_use]
    #[inline]
    pub fn has_room(&self, bytes_max: usize) -> bool {
        !self.has_payload() && self.unwritten_bytes() < bytes_max
    }

    /// For packets that are written whole.
    #[inline]
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a payload behind its head. A large one is not copied; only one at a time is, see
    /// [`Output::has_room`].
    pub fn put_payload(&mut self, payload: &Arc<[u8]>) {
        if payload.len() <= COPIED_BYTES_MAX || self.has_payload() {
            self.bytes.extend_from_slice(payload);
        } else {
            self.payload = Some(Payload { bytes: payload.clone(), written: 0, at: self.bytes.len() });
        }
    }

    /// Nothing of it is to be written any more.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.payload = None;
    }

    /// Gives back memory while nothing is to be written, but for so many bytes.
    pub fn shrink(&mut self, bytes: usize) {
        if self.is_empty() {
            self.bytes.shrink_to(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Answer(Vec<u8>),
        Message(usize),
        Write(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..100).prop_map(Step::Answer),
            prop_oneof![1..100usize, COPIED_BYTES_MAX + 1..3 * COPIED_BYTES_MAX].prop_map(Step::Message),
            (1..COPIED_BYTES_MAX).prop_map(Step::Write),
        ]
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_its_order_however_it_is_written(
            steps in prop::collection::vec(step(), 1..60),
            kept_bytes_max in 1..200usize,
        ) {
            let (mut output, mut wanted, mut written) = (Output::default(), vec![], vec![]);
            let write = |output: &mut Output, written: &mut Vec<u8>, bytes: usize| {
                let bytes = bytes.min(output.next().len());
                written.extend_from_slice(&output.next()[..bytes]);
                output.wrote(bytes, kept_bytes_max);
            };
            for step in steps {
                match step {
                    Step::Answer(bytes) => {
                        output.buffer().extend_from_slice(&bytes);
                        wanted.extend_from_slice(&bytes);
                    }
                    Step::Message(bytes) if output.has_room(usize::MAX) => {
                        let payload: Arc<[u8]> = (0..bytes).map(|n| n as u8).collect();
                        output.put_payload(&payload);
                        wanted.extend_from_slice(&payload);
                    }
                    Step::Message(_) => {}
                    Step::Write(bytes) => write(&mut output, &mut written, bytes),
                }
                prop_assert_eq!(output.is_empty(), written.len() == wanted.len());
            }
            while !output.is_empty() {
                write(&mut output, &mut written, usize::MAX);
            }
            prop_assert_eq!(written, wanted);
        }
    }

    #[test]
    fn a_large_payload_is_not_copied_and_given_up_when_it_is_written() {
        let payload: Arc<[u8]> = vec![7; COPIED_BYTES_MAX + 1].into();
        let mut output = Output::default();
        output.put_payload(&payload);
        assert_eq!((output.unwritten_bytes(), Arc::strong_count(&payload)), (0, 2));
        assert!(!output.has_room(usize::MAX));
        output.wrote(payload.len(), 1);
        assert!(output.is_empty() && output.has_room(1));
        assert_eq!(Arc::strong_count(&payload), 1);
    }
}

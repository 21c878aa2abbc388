//! A message for an upstream: what a format makes of an event, and what an engine sends. It belongs
//! to neither.
//!
//! A message borrows everything: a payload is copied once, from the block that the store read into
//! the engine's buffer.
//!
//! ```text
//!  headers   0x26 │ length u16 │ name │ length u16 │ value   …   big endian, one behind the other
//! ```
//! MQTT 5 lays out user properties in this way (section 2.2.2.2). So its engine, by which most
//! messages go, copies the headers as they are; others read them by [`Headers::iter`].
//!
//! Limits: the name and the value of a header have 65,535 bytes at most. The engine limits the
//! length of a message.

use super::{decimal::put_decimal, template::BadTopic};
use crate::{
    clock::journal::WALL_SET_MS_MIN,
    store::{LetterReason, ReasonCode},
};

const HEADER: u8 = 0x26;
const LENGTH_BYTES: usize = 2;

/// One message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Message<'a> {
    /// Where it goes: what the uplink's template gives, levels between slashes, no wildcard.
    pub topic: &'a str,
    /// What tells copies from other messages, for an upstream that drops copies.
    pub copy_id: CopyId<'a>,
    /// What is said of the event beside its payload, its identity included.
    pub headers: Headers<'a>,
    /// What an MQTT 5 publisher said of it, as it came: for an engine that can pass it on.
    pub mqtt_properties: &'a [u8],
    /// It need not be kept for longer, in seconds: for an engine that can say so.
    pub expiry_s: Option<u32>,
    /// The media type of the payload, where the format knows it.
    pub content_type: Option<&'a str>,
    /// The format says that the payload is UTF-8 text.
    pub is_text: bool,
    /// The payload.
    pub payload: &'a [u8],
    /// The upstream is to keep it as the state of its topic. Set only where the engine can do that.
    pub retain: bool,
}

/// What all copies of one message that this gateway sends have in common, and no other message has:
/// where its record lies in the store, and which of the record's events it is.
///
/// It is not the event's identity: a device that uses a number twice makes two events of one
/// identity, both of which were acknowledged and are to arrive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyId<'a> {
    /// Gateway and store.
    pub store: &'a str,
    /// The record's offset.
    pub offset: u64,
    /// The event's number, where the record holds several.
    pub seq: Option<u32>,
}

/// Headers, in the layout above.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

/// What an upstream publishes for the gateway once it has lost it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where: as of [`Message::topic`].
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
}

/// An event cannot be sent to this upstream, ever. Nothing of it was written: it becomes a dead
/// letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsendable {
    /// Its packet is longer than the upstream takes.
    #[error("its packet of {bytes} bytes is longer than the {bytes_max} bytes that the upstream takes")]
    TooLong {
        /// How long the packet would be.
        bytes: u64,
        /// How long it may be.
        bytes_max: u32,
    },
    /// There is no topic for it.
    #[error(transparent)]
    Topic(#[from] BadTopic),
    /// The engine has no way to say something of it.
    #[error("{0}")]
    Unfit(&'static str),
}

impl Message<'_> {
    /// The same, of a record that was received at `received_ms`, at `now_ms`: of the time that its
    /// publisher gave it, what is left.
    ///
    /// It never expires on its way here, for it was acknowledged: an upstream that is told of a
    /// second hands it to whoever listens, and keeps it for nobody else. Where a clock was not set,
    /// nobody knows how old it is, and it has its whole time.
    #[must_use]
    #[inline]
    pub fn aged(self, received_ms: u64, now_ms: impl FnOnce() -> u64) -> Self {
        let Some(expiry_s) = self.expiry_s else { return self };
        let now_ms = now_ms();
        let are_set = received_ms.min(now_ms) >= WALL_SET_MS_MIN as u64;
        let age_s = if are_set { now_ms.saturating_sub(received_ms) / 1000 } else { 0 };
        let left_s = expiry_s.saturating_sub(u32::try_from(age_s).unwrap_or(u32::MAX)).max(1);
        Self { expiry_s: Some(left_s), ..self }
    }

    /// Its length as limits in bytes count it: all that is said, without what a protocol says
    /// around it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let content_type = self.content_type.map_or(0, str::len);
        let around = self.headers.bytes().len() + self.mqtt_properties.len() + content_type;
        self.topic.len() + around + self.payload.len()
    }
}

impl CopyId<'_> {
    /// Appends it as text.
    pub fn put(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.store.as_bytes());
        put_decimal(out, self.offset);
        if let Some(seq) = self.seq {
            out.push(b'/');
            put_decimal(out, seq.into());
        }
    }
}

impl Unsendable {
    /// What it is as the reason of a dead letter.
    #[must_use]
    pub fn code(&self) -> ReasonCode {
        match self {
            Self::TooLong { .. } => ReasonCode::TooLong,
            Self::Topic(_) | Self::Unfit(_) => ReasonCode::NoTopic,
        }
    }
}

impl From<Unsendable> for LetterReason {
    fn from(unsendable: Unsendable) -> Self {
        Self::new(unsendable.code(), unsendable.to_string())
    }
}

impl<'a> Headers<'a> {
    /// What [`put_header`] wrote.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes, which are user properties of MQTT 5.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Name and value of each, in their order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            rest = rest.split_first()?.1;
            let name = take_text(&mut rest)?;
            Some((std::str::from_utf8(name).ok()?, take_text(&mut rest)?))
        })
    }
}

/// Appends a header of this name, behind `prefix`; `write` writes its value. Gives where that is.
pub fn put_header(out: &mut Vec<u8>, prefix: &str, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(HEADER);
    put_text(out, |out| {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(name.as_bytes());
    });
    put_text(out, write);
}

/// Appends a text behind its length.
pub fn put_text(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    // Names, ids and topics have 1 KB at the most (`ID_BYTES_MAX`, `NAME_BYTES_MAX`), escaped 3, so
    // 16 bits hold the length.
    let bytes = (out.len() - at - LENGTH_BYTES) as u16;
    out[at..at + LENGTH_BYTES].copy_from_slice(&bytes.to_be_bytes());
}

/// Takes a text behind its length.
fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, behind) = rest.split_first_chunk()?;
    let (text, behind) = behind.split_at_checked(u16::from_be_bytes(*length).into())?;
    *rest = behind;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_as_they_were_written() {
        let mut bytes = vec![];
        put_header(&mut bytes, "", "tidegate-id", |out| out.extend_from_slice(b"s3/1/2"));
        put_header(&mut bytes, "ce_", "empty", |_| ());
        let read: Vec<_> = Headers::new(&bytes).iter().collect();
        assert_eq!(read, [("tidegate-id", &b"s3/1/2"[..]), ("ce_empty", b"")]);
        assert_eq!(Headers::default().iter().count(), 0);
    }

    #[test]
    fn of_the_time_that_a_publisher_gave_what_is_left_is_passed_on() {
        let left = |expiry_s, received_ms, now_ms| {
            let message = Message { expiry_s, ..Message::default() };
            message.aged(received_ms, || now_ms).expiry_s
        };
        let set_ms = WALL_SET_MS_MIN as u64;
        for (expiry_s, received_ms, now_ms, expected) in [
            (None, set_ms, set_ms, None),
            (Some(60), set_ms, set_ms + 9_999, Some(51)),
            (Some(60), set_ms, set_ms + 60_000, Some(1)),
            (Some(60), set_ms, u64::MAX, Some(1)),
            (Some(u32::MAX), set_ms, set_ms + 5_000, Some(u32::MAX - 5)),
            (Some(60), set_ms + 9_000, set_ms, Some(60)),
            (Some(60), 5, set_ms + 9_000, Some(60)),
            (Some(60), set_ms, 5, Some(60)),
        ] {
            assert_eq!(left(expiry_s, received_ms, now_ms), expected, "{expiry_s:?} {received_ms} {now_ms}");
        }
    }

    #[test]
    fn copies_of_a_message_have_one_id_and_other_messages_another() {
        let text = |store, offset, seq| {
            let mut out = vec![];
            CopyId { store, offset, seq }.put(&mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text("gate/0badcafe-", 4711, None), "gate/0badcafe-4711");
        assert_eq!(text("gate/0badcafe-", 4711, Some(300)), "gate/0badcafe-4711/300");
    }
}

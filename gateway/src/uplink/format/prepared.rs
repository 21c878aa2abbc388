//! The messages of one record while they are sent: written once, in one buffer, in the style of the
//! uplink's format.
//!
//! Limits: the buffer shrinks back to [`KEPT_BYTES`].

use std::ops::Range;

use super::{
    cloudevents,
    facts::{Data, Facts},
    json,
    name::FormatName,
    payload, thingsboard,
};
use crate::{
    store::LetterReason,
    uplink::{
        engine::Capabilities,
        message::{CopyId, Headers, Message, Unsendable, put_header},
    },
};

/// Bytes of messages that are kept allocated from record to record.
const KEPT_BYTES: usize = 64 * 1024;

/// What the messages look like.
#[derive(Debug)]
pub struct Style {
    /// Which format.
    pub format: FormatName,
    /// This gateway's id.
    pub gateway: String,
    /// The replay that sends the events again.
    pub replay: Option<String>,
}

/// The messages of one record.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Where the record lies: what comes before its offset, and that.
    store: String,
    offset: u64,
    /// How long the publisher wishes that it be kept.
    expiry_s: Option<u32>,
    topics: String,
    bytes: Vec<u8>,
    /// The media type of the payload, where one is a message's own.
    content_types: String,
    messages: Vec<Parts>,
    problem: Option<LetterReason>,
}

/// Where the parts of a message lie.
#[derive(Debug)]
struct Parts {
    topic: Range<usize>,
    seq: Option<u32>,
    headers: Range<usize>,
    payload: Range<usize>,
    content_type: Option<Range<usize>>,
    is_text: bool,
    retain: bool,
}

impl Prepared {
    /// Makes room for the messages of the record at `offset` in the store of this name, which need
    /// not be kept for longer than `expiry_s`.
    pub fn begin(&mut self, store: &str, offset: u64, expiry_s: Option<u32>) {
        self.expiry_s = expiry_s;
        self.store.clear();
        self.store.push_str(store);
        self.offset = offset;
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.topics.clear();
        self.topics.shrink_to(KEPT_BYTES);
        self.content_types.clear();
        self.messages.clear();
        self.problem = None;
    }

    /// Nothing of the record can be sent.
    pub fn give_up(&mut self, why: LetterReason) {
        self.messages.clear();
        self.problem = Some(why);
    }

    /// Something of the record cannot be sent: the first of it is told.
    pub fn leave_out(&mut self, why: LetterReason) {
        self.problem.get_or_insert(why);
    }

    /// Adds the message of one event.
    ///
    /// # Errors
    /// [`Unsendable`]: what `check` says. Nothing was added.
    pub fn add(
        &mut self,
        style: &Style,
        topic: &str,
        facts: &Facts<'_>,
        retain: bool,
        can: &Capabilities,
        check: impl FnOnce(&Message<'_>) -> Result<(), Unsendable>,
    ) -> Result<(), Unsendable> {
        let (start, topic_start) = (self.bytes.len(), self.topics.len());
        self.topics.push_str(topic);
        style.put_headers(&mut self.bytes, facts, can);
        let headers_end = self.bytes.len();
        style.put_payload(&mut self.bytes, facts, can);
        let (is_text, content_type) = style.content(facts, can);
        let content_type = content_type.map(|name| {
            let start = self.content_types.len();
            self.content_types.push_str(name);
            start..self.content_types.len()
        });
        let parts = Parts {
            topic: topic_start..self.topics.len(),
            seq: facts.number().map(|id| id.seq),
            headers: start..headers_end,
            payload: headers_end..self.bytes.len(),
            content_type,
            is_text,
            retain,
        };
        check(&self.message(&parts)).inspect_err(|_| {
            self.bytes.truncate(start);
            self.topics.truncate(topic_start);
        })?;
        self.messages.push(parts);
        Ok(())
    }

    /// How many messages there are, and why not all of the record is in them, if that is so.
    pub fn finish(&mut self) -> (usize, Option<LetterReason>) {
        (self.messages.len(), self.problem.take())
    }

    /// The message of this index.
    pub fn get(&self, index: usize) -> Message<'_> {
        self.message(&self.messages[index])
    }

    fn message<'m>(&'m self, parts: &Parts) -> Message<'m> {
        Message {
            topic: &self.topics[parts.topic.clone()],
            copy_id: CopyId { store: &self.store, offset: self.offset, seq: parts.seq },
            headers: Headers::new(&self.bytes[parts.headers.clone()]),
            mqtt_properties: &[],
            expiry_s: self.expiry_s,
            content_type: parts.content_type.clone().map(|range| &self.content_types[range]),
            is_text: parts.is_text,
            payload: &self.bytes[parts.payload.clone()],
            retain: parts.retain,
        }
    }
}

impl Style {
    /// Appends the headers.
    fn put_headers(&self, out: &mut Vec<u8>, facts: &Facts<'_>, can: &Capabilities) {
        match (can.has_headers, self.format) {
            (false, _) => {}
            (true, FormatName::CloudEvents) => {
                cloudevents::put_headers(out, facts, &self.gateway, can.attribute_prefix)
            }
            (true, _) => put_header(out, "", "tidegate-id", |out| facts.put_id(out)),
        }
    }

    /// Whether the payload is said to be text, and its media type.
    fn content<'a>(&self, facts: &Facts<'a>, can: &Capabilities) -> (bool, Option<&'a str>) {
        match (can.has_headers, self.format) {
            (false, _) => (false, None),
            (true, FormatName::CloudEvents) => cloudevents::content(facts),
            (true, _) if facts.data == Data::Deletion => (false, None),
            (true, _) => (true, Some(payload::JSON)),
        }
    }

    fn put_payload(&self, out: &mut Vec<u8>, facts: &Facts<'_>, can: &Capabilities) {
        match (self.format, can.has_headers, facts.data) {
            (FormatName::ThingsBoard, ..) => thingsboard::write(out, facts),
            (_, _, Data::Deletion) => {}
            (FormatName::CloudEvents, true, Data::Json(bytes) | Data::Bytes(bytes)) => {
                out.extend_from_slice(bytes);
            }
            (FormatName::CloudEvents, true, Data::Text(text)) => {
                out.extend_from_slice(text.as_bytes());
            }
            (FormatName::CloudEvents, false, _) => {
                cloudevents::write_structured(out, facts, &self.gateway);
            }
            (FormatName::Json | FormatName::Raw, ..) => json::write(out, facts),
        }
    }
}

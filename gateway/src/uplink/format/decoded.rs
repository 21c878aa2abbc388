//! Takes a record apart: one message for each event, with what is known of it.
//!
//! ```text
//!  prepare(record) ─▶ messages 0 … n, and why some of it cannot be sent
//! ```
//! A frame whose birth nobody has seen, or that is damaged, gives no message and a reason: it is
//! set aside whole. An event whose body is not what its kind says is left out, the others go, and
//! the frame is set aside whole for its sake: sent again, they are copies with the same ids. An
//! empty retained message stays one, whatever the format: nothing else takes away what the upstream
//! retains on that topic.
//!
//! Limits: the messages of one record, [`EVENTS_MAX`](tidegate_protocol::limits::EVENTS_MAX) at the
//! most, are held in one buffer, which shrinks back to [`KEPT_BYTES`]. Of a foreign publisher's
//! properties the content type and the payload format are passed on, as [`payload`] says.

use std::ops::Range;

use tidegate_protocol::{Birth, FrameReader, Leaf, Status, Topic};

use super::{
    cloudevents,
    context::EventContext,
    facts::{Data, Facts, Identity},
    json,
    messages::{write_birth, write_status},
    name::FormatName,
    payload::{self, shape, stated},
};
use crate::{
    catalog::Values,
    fleet::{Quality, Stamp},
    store::{Kind, Prefixes, Record, StoreIds, gap, is_command_id},
    uplink::{
        engine::Capabilities,
        message::{Headers, Message, Unsendable, put_header},
        settings::Settings,
        template::{Names, Template},
        timestamp::rfc3339,
    },
};

/// What the reason of a dead letter begins with whose frame no birth explains.
pub const UNKNOWN_SCHEMA: &str = "no birth of its device says what its events are";
/// Bytes of messages that are kept allocated from record to record.
const KEPT_BYTES: usize = 64 * 1024;

/// Writes events in a format that describes them, for one uplink.
#[derive(Debug)]
pub struct Decoded {
    style: Style,
    context: EventContext,
    values: Values,
    template: Template,
    /// What the ids of foreign events begin with: gateway and store.
    foreign_ids: Prefixes,
    prepared: Prepared,
    data: Vec<u8>,
    topic: String,
}

/// What the messages look like.
#[derive(Debug)]
struct Style {
    format: FormatName,
    gateway: String,
    replay: Option<String>,
}

/// The messages of one record.
#[derive(Debug, Default)]
struct Prepared {
    topics: String,
    bytes: Vec<u8>,
    /// The media type of the payload, where one is a message's own.
    content_types: String,
    messages: Vec<Parts>,
    problem: Option<String>,
}

/// Where the parts of a message lie.
#[derive(Debug)]
struct Parts {
    topic: Range<usize>,
    id: Range<usize>,
    headers: Range<usize>,
    payload: Range<usize>,
    content_type: Option<Range<usize>>,
    is_text: bool,
    retain: bool,
}

impl Decoded {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds, context: EventContext) -> Self {
        Self {
            style: Style { format: settings.format, gateway: settings.gateway_id.clone(), replay: None },
            context,
            values: settings.values,
            template: settings.topic.clone().bound_to(&settings.gateway_id),
            foreign_ids: ids.prefixes(&format!("{}/", settings.gateway_id)),
            prepared: Prepared::default(),
            data: Vec::new(),
            topic: String::new(),
        }
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be
    /// retained, for it is not the latest.
    #[must_use]
    pub fn marked(mut self, replay: &str) -> Self {
        self.style.replay = Some(replay.to_owned());
        self
    }

    /// Makes the messages of the record at `offset`, in place of those of the last one. `check`
    /// says whether one can be sent. Says how many they are, and why not all of the record is in
    /// them, if that is so.
    pub fn prepare(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        can: &Capabilities,
        check: impl Fn(&Message<'_>) -> Result<(), Unsendable>,
    ) -> (usize, Option<String>) {
        self.prepared.clear();
        let retain = record.retain && can.retains && self.style.replay.is_none();
        match record.kind {
            Kind::Frame => self.prepare_frame(offset, record, can, check),
            Kind::Json | Kind::Text | Kind::Opaque => self.prepare_whole(offset, record, retain, can, check),
        }
        (self.prepared.messages.len(), self.prepared.problem.take())
    }

    /// Message `index` of those that were prepared of `record`.
    #[must_use]
    pub fn message<'m>(&'m self, index: usize, record: &Record<'m>) -> Message<'m> {
        self.prepared.message(&self.prepared.messages[index], record.device())
    }

    fn prepare_frame(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        can: &Capabilities,
        check: impl Fn(&Message<'_>) -> Result<(), Unsendable>,
    ) {
        let (device, fleet) = (record.device(), &self.context.fleet);
        let mut reader = match FrameReader::new(record.payload) {
            Ok(reader) => reader,
            Err(error) => return self.prepared.give_up(format!("the frame cannot be read: {error}")),
        };
        let head = reader.head();
        let Some(kinds) = self.context.catalog.kinds(device, head.schema_set) else {
            let set = head.schema_set;
            let announced = fleet.announced(device);
            let announced =
                announced.map_or_else(String::new, |set| format!("; its last birth announced {set:08x}"));
            return self.prepared.give_up(format!("{UNKNOWN_SCHEMA} (schema set {set:08x}{announced})"));
        };
        let received = rfc3339(fleet.received(offset, record.received_ms));
        let reused_below = fleet.reused_below(device, head.boot, offset);
        while let Some(event) = reader.next_event() {
            let event = match event {
                Ok(event) => event,
                Err(error) => return self.prepared.give_up(format!("the frame cannot be read: {error}")),
            };
            let Some(kind) = kinds.kind(event.kind) else {
                let why = format!("event {}: its device's birth knows no kind {}", event.id, event.kind);
                self.prepared.leave_out(why);
                continue;
            };
            self.data.clear();
            if let Err(error) = kind.decoder.to_json(event.body, self.values, &mut self.data) {
                let why = format!("event {} is no {} {}: {error}", event.id, kind.name, kind.version);
                self.prepared.leave_out(why);
                continue;
            }
            let facts = Facts {
                identity: Identity::Numbered(event.id),
                device,
                topic: record.topic,
                kind: &kind.name,
                version: Some(kind.version),
                definition: Some(&kind.hash),
                is_number_reused: event.id.seq < reused_below,
                stamp: fleet.stamp(device, head.boot, event.uptime_ms, offset, record.received_ms),
                uptime_ms: Some(event.uptime_ms),
                received: &received,
                command: None,
                content_type: None,
                is_said_to_be_text: false,
                replay: self.style.replay.as_deref(),
                data: Data::Json(&self.data),
            };
            let topic = render(&self.template, &facts, &mut self.topic);
            let added =
                topic.and_then(|topic| self.prepared.add(&self.style, topic, &facts, false, can, &check));
            if let Err(why) = added {
                self.prepared.leave_out(format!("event {}: {why}", event.id));
            }
        }
    }

    /// Anything but a frame: one message.
    fn prepare_whole(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        retain: bool,
        can: &Capabilities,
        check: impl Fn(&Message<'_>) -> Result<(), Unsendable>,
    ) {
        self.data.clear();
        let leaf = Topic::parse(record.topic).ok().map(|topic| topic.leaf);
        // What a device replies is JSON, or other text, or neither.
        let routed = if leaf == Some(Leaf::Reply) { Kind::Json } else { record.kind };
        let (bytes, shaped) = (Data::Bytes(record.payload), shape(routed, record.payload));
        let (kind, data) = match (leaf, record.kind) {
            (Some(Leaf::Birth), _) => match Birth::parse(record.payload) {
                Ok(birth) => {
                    write_birth(&mut self.data, &birth);
                    ("birth", Data::Json(&self.data))
                }
                Err(_) => ("birth", bytes),
            },
            (Some(Leaf::Status), _) => match Status::parse(record.payload) {
                Ok(status) => {
                    write_status(&mut self.data, &status);
                    ("status", Data::Json(&self.data))
                }
                Err(_) => ("status", bytes),
            },
            (Some(Leaf::Reply), _) => ("reply", shaped),
            (_, Kind::Json) if record.topic == gap::TOPIC => ("gap", shaped),
            (_, kind) => (kind.name(), shaped),
        };
        let data = if retain && record.payload.is_empty() { Data::Deletion } else { data };
        let content_type = match leaf {
            Some(Leaf::Birth | Leaf::Status) => None,
            _ => stated(routed, data, record.content_type()),
        };
        let received_ms = self.context.fleet.received(offset, record.received_ms);
        let facts = Facts {
            identity: Identity::Stored { prefix: self.foreign_ids.at(offset), offset },
            device: record.device(),
            topic: record.topic,
            kind,
            version: None,
            definition: None,
            is_number_reused: false,
            stamp: Stamp { time_ms: received_ms, uncertainty_ms: None, quality: Quality::Received },
            uptime_ms: None,
            received: &rfc3339(received_ms),
            command: record.correlation().filter(|_| leaf == Some(Leaf::Reply)).and_then(command_id),
            content_type,
            is_said_to_be_text: record.is_said_to_be_text() && std::str::from_utf8(record.payload).is_ok(),
            replay: self.style.replay.as_deref(),
            data,
        };
        let topic = render(&self.template, &facts, &mut self.topic);
        let added =
            topic.and_then(|topic| self.prepared.add(&self.style, topic, &facts, retain, can, &check));
        if let Err(why) = added {
            self.prepared.leave_out(why.to_string());
        }
    }
}

/// The topic of an event.
fn render<'a>(
    template: &Template,
    facts: &Facts<'a>,
    scratch: &'a mut String,
) -> Result<&'a str, Unsendable> {
    let names = Names { topic: facts.topic, device: facts.device, kind: facts.kind };
    Ok(template.render(&names, scratch)?)
}

/// The id of a command that a device's correlation data is.
fn command_id(correlation: &[u8]) -> Option<&str> {
    std::str::from_utf8(correlation).ok().filter(|id| is_command_id(id))
}

impl Prepared {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.topics.clear();
        self.topics.shrink_to(KEPT_BYTES);
        self.content_types.clear();
        self.messages.clear();
        self.problem = None;
    }

    /// Nothing of the record can be sent.
    fn give_up(&mut self, why: String) {
        self.messages.clear();
        self.problem = Some(why);
    }

    /// Something of the record cannot be sent: the first of it is told.
    fn leave_out(&mut self, why: String) {
        self.problem.get_or_insert(why);
    }

    fn add(
        &mut self,
        style: &Style,
        topic: &str,
        facts: &Facts<'_>,
        retain: bool,
        can: &Capabilities,
        check: impl Fn(&Message<'_>) -> Result<(), Unsendable>,
    ) -> Result<(), Unsendable> {
        let (start, topic_start) = (self.bytes.len(), self.topics.len());
        self.topics.push_str(topic);
        let id = style.put_headers(&mut self.bytes, facts, can);
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
            id,
            headers: start..headers_end,
            payload: headers_end..self.bytes.len(),
            content_type,
            is_text,
            retain,
        };
        check(&self.message(&parts, facts.device)).inspect_err(|_| {
            self.bytes.truncate(start);
            self.topics.truncate(topic_start);
        })?;
        self.messages.push(parts);
        Ok(())
    }

    fn message<'m>(&'m self, parts: &Parts, device: &'m str) -> Message<'m> {
        Message {
            topic: &self.topics[parts.topic.clone()],
            key: device,
            id: &self.bytes[parts.id.clone()],
            headers: Headers::new(&self.bytes[parts.headers.clone()]),
            mqtt_properties: &[],
            content_type: parts.content_type.clone().map(|range| &self.content_types[range]),
            is_text: parts.is_text,
            payload: &self.bytes[parts.payload.clone()],
            retain: parts.retain,
        }
    }
}

impl Style {
    /// Appends the headers, and gives where the id lies.
    fn put_headers(&self, out: &mut Vec<u8>, facts: &Facts<'_>, can: &Capabilities) -> Range<usize> {
        match (can.has_headers, self.format) {
            (false, _) => out.len()..out.len(),
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

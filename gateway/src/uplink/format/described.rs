//! Takes a record apart: one message for each event, with what is known of it.
//!
//! ```text
//!  prepare(record) ─▶ messages 0 … n, and why some of it cannot be sent ─▶ write(message, packet id) ─▶ outbox
//! ```
//! A frame whose birth nobody has seen, or that is damaged, gives no message and a reason: it is set aside whole. An event
//! whose body is not what its kind says is left out, the others go, and the frame is set aside whole for its sake:
//! sent again, they are copies with the same ids. An empty retained message stays one, whatever the format: nothing else takes
//! away what the upstream retains on that topic.
//!
//! Limits: the messages of one record, [`EVENTS_MAX`](tidegate_protocol::limits::EVENTS_MAX) at the most, are held in one buffer, which
//! shrinks back to [`KEPT_BYTES`]. Of a foreign publisher's properties the content type and the
//! payload format are passed on, as [`payload`] says.

use std::ops::Range;

use tidegate_protocol::{Birth, FrameReader, Leaf, Status, Topic};

use super::{
    FormatName, Knowledge, Unsendable, check_size, cloudevents,
    facts::{Data, Facts, Identity},
    json,
    messages::{write_birth, write_status},
    payload::{self, shape, stated},
    property,
};
use crate::{
    catalog::Values,
    fleet::{Quality, Stamp},
    store::{Kind, Prefixes, Record, StoreIds, gap, is_command_id},
    uplink::{
        settings::{Settings, Version},
        template::{Names, Template},
        timestamp::rfc3339,
        wire::{Limits, Publish},
    },
};

/// What the reason of a dead letter begins with whose frame no birth explains.
pub const UNKNOWN_SCHEMA: &str = "no birth of its device says what its events are";
/// Bytes of messages that are kept allocated from record to record.
const KEPT_BYTES: usize = 64 * 1024;

/// Writes events in a format that describes them, for one uplink.
#[derive(Debug)]
pub struct Described {
    style: Style,
    knowledge: Knowledge,
    values: Values,
    template: Template,
    /// What the ids of foreign events begin with: gateway and store.
    foreign_ids: Prefixes,
    packet_bytes_max: u32,
    prepared: Prepared,
    data: Vec<u8>,
    topic: Vec<u8>,
}

/// What the messages look like.
#[derive(Debug)]
struct Style {
    format: FormatName,
    version: Version,
    gateway: String,
    replay: Option<String>,
}

/// The messages of one record.
#[derive(Debug, Default)]
struct Prepared {
    bytes: Vec<u8>,
    messages: Vec<Message>,
    problem: Option<String>,
}

#[derive(Debug)]
struct Message {
    topic: Range<usize>,
    properties: Range<usize>,
    payload: Range<usize>,
    retain: bool,
}

impl Described {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds, knowledge: Knowledge) -> Self {
        Self {
            style: Style {
                format: settings.format,
                version: settings.version,
                gateway: settings.gateway_id.clone(),
                replay: None,
            },
            knowledge,
            values: settings.values,
            template: settings.topic.clone().bound_to(&settings.gateway_id),
            foreign_ids: ids.prefixes(&format!("{}/", settings.gateway_id)),
            packet_bytes_max: settings.packet_bytes_max.unwrap_or(u32::MAX),
            prepared: Prepared::default(),
            data: Vec::new(),
            topic: Vec::new(),
        }
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be retained, for it is not the latest.
    #[must_use]
    pub fn marked(mut self, replay: &str) -> Self {
        self.style.replay = Some(replay.to_owned());
        self
    }

    /// Makes the messages of the record at `offset`, in place of those of the last one. Says how many they are, and why not
    /// all of the record is in them, if that is so.
    pub fn prepare(&mut self, offset: u64, record: &Record<'_>, limits: &Limits) -> (usize, Option<String>) {
        self.prepared.clear();
        let bytes_max = limits.packet_bytes_max.min(self.packet_bytes_max);
        let retain = record.retain && limits.retain_available && self.style.replay.is_none();
        match record.kind {
            Kind::Frame => self.prepare_frame(offset, record, bytes_max),
            Kind::Json | Kind::Text | Kind::Opaque => self.prepare_whole(offset, record, retain, bytes_max),
        }
        (self.prepared.messages.len(), self.prepared.problem.take())
    }

    /// Appends the PUBLISH of message `index` to `out`.
    pub fn write(&self, index: usize, id: u16, out: &mut Vec<u8>) {
        let message = &self.prepared.messages[index];
        self.prepared.publish(message, id, self.style.version).write(out);
    }

    fn prepare_frame(&mut self, offset: u64, record: &Record<'_>, bytes_max: u32) {
        let (device, fleet) = (record.device(), &self.knowledge.fleet);
        let mut reader = match FrameReader::new(record.payload) {
            Ok(reader) => reader,
            Err(error) => return self.prepared.give_up(format!("the frame cannot be read: {error}")),
        };
        let head = reader.head();
        let Some(kinds) = self.knowledge.catalog.kinds(device, head.schema_set) else {
            let set = head.schema_set;
            let announced = fleet.announced(device);
            let announced =
                announced.map_or_else(String::new, |set| format!("; its last birth announced {set:08x}"));
            return self.prepared.give_up(format!("{UNKNOWN_SCHEMA} (schema set {set:08x}{announced})"));
        };
        let mut times = fleet.frame(device, head.boot, offset, record.received_ms);
        let received = rfc3339(times.received_ms());
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
                is_number_reused: times.is_number_reused(event.id.seq),
                stamp: times.stamp(event.uptime_ms),
                uptime_ms: Some(event.uptime_ms),
                received: &received,
                command: None,
                content_type: None,
                is_said_to_be_text: false,
                replay: self.style.replay.as_deref(),
                data: Data::Json(&self.data),
            };
            let added =
                self.prepared.add(&self.style, &self.template, &facts, false, bytes_max, &mut self.topic);
            if let Err(why) = added {
                self.prepared.leave_out(format!("event {}: {why}", event.id));
            }
        }
        fleet.note_given(device, &times);
    }

    /// Anything but a frame: one message.
    fn prepare_whole(&mut self, offset: u64, record: &Record<'_>, retain: bool, bytes_max: u32) {
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
        let received_ms = self.knowledge.fleet.received(offset, record.received_ms);
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
        let added =
            self.prepared.add(&self.style, &self.template, &facts, retain, bytes_max, &mut self.topic);
        if let Err(why) = added {
            self.prepared.leave_out(why.to_string());
        }
    }
}

/// The id of a command that a device's correlation data is.
fn command_id(correlation: &[u8]) -> Option<&str> {
    std::str::from_utf8(correlation).ok().filter(|id| is_command_id(id))
}

impl Prepared {
    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
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
        template: &Template,
        facts: &Facts<'_>,
        retain: bool,
        bytes_max: u32,
        scratch: &mut Vec<u8>,
    ) -> Result<(), Unsendable> {
        let names = Names { topic: facts.topic, device: facts.device, kind: facts.kind };
        let topic = template.render(&names, scratch)?;
        let out = &mut self.bytes;
        let start = out.len();
        out.extend_from_slice(topic);
        let topic_end = out.len();
        style.put_properties(out, facts);
        let properties_end = out.len();
        style.put_payload(out, facts);
        let message = Message {
            topic: start..topic_end,
            properties: topic_end..properties_end,
            payload: properties_end..out.len(),
            retain,
        };
        check_size(&self.publish(&message, 1, style.version), bytes_max)
            .inspect_err(|_| self.bytes.truncate(start))?;
        self.messages.push(message);
        Ok(())
    }

    fn publish(&self, message: &Message, id: u16, version: Version) -> Publish<'_> {
        let properties = match version {
            Version::V311 => None,
            Version::V5 => Some([&self.bytes[message.properties.clone()], &[][..]]),
        };
        Publish {
            topic: &self.bytes[message.topic.clone()],
            id,
            retain: message.retain,
            properties,
            payload: &self.bytes[message.payload.clone()],
        }
    }
}

impl Style {
    fn put_properties(&self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        match (self.version, self.format) {
            (Version::V311, _) => {}
            (Version::V5, FormatName::CloudEvents) => cloudevents::put_properties(out, facts, &self.gateway),
            (Version::V5, _) => {
                if facts.data != Data::Deletion {
                    out.extend_from_slice(&property::TEXT_PAYLOAD);
                    property::put_content_type(out, payload::JSON);
                }
                property::put(out, "tidegate-id", |out| facts.put_id(out));
            }
        }
    }

    fn put_payload(&self, out: &mut Vec<u8>, facts: &Facts<'_>) {
        match (self.format, self.version, facts.data) {
            (_, _, Data::Deletion) => {}
            (FormatName::CloudEvents, Version::V5, Data::Json(bytes) | Data::Bytes(bytes)) => {
                out.extend_from_slice(bytes);
            }
            (FormatName::CloudEvents, Version::V5, Data::Text(text)) => {
                out.extend_from_slice(text.as_bytes())
            }
            (FormatName::CloudEvents, Version::V311, _) => {
                cloudevents::write_structured(out, facts, &self.gateway);
            }
            (FormatName::Json | FormatName::Raw, ..) => json::write(out, facts),
        }
    }
}

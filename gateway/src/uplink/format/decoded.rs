//! Takes a record apart: one message for each event, with what is known of it.
//!
//! ```text
//!  prepare(record) ─▶ messages 0 … n, and why some of it cannot be sent
//! ```
//! A frame whose birth nobody has seen, or that is damaged, gives no message and a reason: it
//! becomes a dead letter as a whole. An event whose body is not what its kind says is left out, the
//! others go, and the frame becomes a dead letter as a whole for its sake: sent again, they are
//! copies with the same ids. An empty retained message stays one, whatever the format: nothing else
//! takes away what the upstream retains on that topic.
//!
//! Limits: the messages of one record, [`EVENTS_MAX`](tidegate_protocol::limits::EVENTS_MAX) at the
//! most, are held in one buffer (`prepared.rs`). Of a foreign publisher's properties the content
//! type and the payload format are passed on, as `payload.rs` says.

use std::fmt::Display;

use tidegate_protocol::{Birth, FrameReader, Leaf, Status, Topic};

use super::{
    context::EventContext,
    facts::{Data, Facts, Identity},
    messages::{write_birth, write_status},
    payload::{shape, stated},
    prepared::{Prepared, Style},
};
use crate::{
    catalog::Values,
    fleet::{Quality, Stamp},
    presence,
    store::{Kind, LetterReason, Prefixes, ReasonCode, Record, StoreIds, gap, is_command_id},
    uplink::{
        engine::Capabilities,
        message::{Message, Unsendable},
        settings::Settings,
        template::{Names, Template},
        timestamp::rfc3339,
    },
};

/// Why a frame that no birth explains becomes a dead letter.
const UNKNOWN_SCHEMA: &str = "no birth of its device says what its events are";

/// Writes events in a format that decodes them, for one uplink.
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
        mut check: impl FnMut(&Message<'_>) -> Result<(), Unsendable>,
    ) -> (usize, Option<LetterReason>) {
        // A replay is asked for, whatever the publisher wished then.
        let expiry_s = record.split_expiry().0.filter(|_| self.style.replay.is_none());
        self.prepared.begin(self.foreign_ids.at(offset), offset, expiry_s);
        let retain = record.retain && can.retains && self.style.replay.is_none();
        match record.kind {
            Kind::Frame => self.prepare_frame(offset, record, can, &mut check),
            Kind::Json | Kind::Text | Kind::Opaque => {
                self.prepare_whole(offset, record, retain, can, &mut check)
            }
        }
        self.prepared.finish()
    }

    /// Message `index` of those that were prepared.
    #[must_use]
    pub fn message(&self, index: usize) -> Message<'_> {
        self.prepared.get(index)
    }

    fn prepare_frame(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        can: &Capabilities,
        mut check: impl FnMut(&Message<'_>) -> Result<(), Unsendable>,
    ) {
        let (device, fleet) = (record.device(), &self.context.fleet);
        let mut reader = match FrameReader::new(record.payload) {
            Ok(reader) => reader,
            Err(error) => return self.prepared.give_up(unreadable(error)),
        };
        let head = reader.head();
        let Some(kinds) = self.context.catalog.kinds(device, head.schema_set) else {
            let set = head.schema_set;
            let announced = fleet.announced(device);
            let announced =
                announced.map_or_else(String::new, |set| format!("; its last birth announced {set:08x}"));
            let why = format!("{UNKNOWN_SCHEMA} (schema set {set:08x}{announced})");
            return self.prepared.give_up(LetterReason::new(ReasonCode::NoBirth, why));
        };
        let mut times = fleet.frame(device, head.boot, offset, record.received_ms);
        let received = rfc3339(times.received_ms());
        while let Some(event) = reader.next_event() {
            let event = match event {
                Ok(event) => event,
                Err(error) => return self.prepared.give_up(unreadable(error)),
            };
            let Some(kind) = kinds.kind(event.kind) else {
                let why = format!("event {}: its device's birth knows no kind {}", event.id, event.kind);
                self.prepared.leave_out(LetterReason::new(ReasonCode::Undecodable, why));
                continue;
            };
            self.data.clear();
            if let Err(error) = kind.decoder.to_json(event.body, self.values, &mut self.data) {
                let why = format!("event {} is no {} {}: {error}", event.id, kind.name, kind.version);
                self.prepared.leave_out(LetterReason::new(ReasonCode::Undecodable, why));
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
            let topic = render(&self.template, &facts, &mut self.topic);
            let added =
                topic.and_then(|topic| self.prepared.add(&self.style, topic, &facts, false, can, &mut check));
            if let Err(why) = added {
                let text = format!("event {}: {why}", event.id);
                self.prepared.leave_out(LetterReason::new(why.code(), text));
            }
        }
        fleet.note_given(device, &times);
    }

    /// Anything but a frame: one message.
    fn prepare_whole(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        retain: bool,
        can: &Capabilities,
        check: impl FnOnce(&Message<'_>) -> Result<(), Unsendable>,
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
            (_, kind) => (own_kind(record).unwrap_or(kind.name()), shaped),
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
        let added = topic.and_then(|topic| self.prepared.add(&self.style, topic, &facts, retain, can, check));
        if let Err(why) = added {
            self.prepared.leave_out(why.into());
        }
    }
}

/// What an event of the gateway itself is called.
fn own_kind(record: &Record<'_>) -> Option<&'static str> {
    const KINDS: [(&str, &str); 4] = [
        (gap::TOPIC, "gap"),
        (presence::BIRTH_TOPIC, "birth"),
        (presence::HEALTH_TOPIC, "health"),
        (presence::STATUS_TOPIC, "status"),
    ];
    let own = KINDS.into_iter().find(|(topic, _)| record.kind == Kind::Json && record.topic == *topic);
    own.map(|(_, kind)| kind)
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

/// Why a frame that is damaged becomes a dead letter.
fn unreadable(error: impl Display) -> LetterReason {
    LetterReason::new(ReasonCode::Undecodable, format!("the frame cannot be read: {error}"))
}

/// The id of a command that a device's correlation data is.
fn command_id(correlation: &[u8]) -> Option<&str> {
    std::str::from_utf8(correlation).ok().filter(|id| is_command_id(id))
}

//! The format `raw`: an event goes out as it came in, on the topic that the template gives.
//!
//! Where the engine carries headers, they say what the event is:
//!
//! ```text
//!  tidegate-id        <device>/<boot>/<first_seq> of a frame, <gateway>/<store id>-<offset> of anything else
//!  tidegate-count     how many events the frame carries; frames only
//!  tidegate-device    the device of a tg/… topic, the level that the route names, or the client id
//!  tidegate-received  when the gateway took it in, RFC 3339, UTC, milliseconds
//!  tidegate-replayed  which replay sends it again; replays only
//! ```
//! Every copy of an event has the same id. Where there are no headers there is no room for any of
//! this: there a frame's own head names it.
//!
//! Limits: what the upstream allows. It decodes no payload beyond a frame's head, copies none, and
//! allocates nothing per event once its two scratch buffers have grown.

use tidegate_protocol::FrameHead;

use super::super::{
    engine::Capabilities,
    message::{CopyId, Headers, Message, Unsendable, put_header},
    settings::Settings,
    template::{Names, Template},
    timestamp,
};
use crate::store::{Kind, Prefixes, Record, StoreIds};
use crate::uplink::decimal::put_decimal;

const ID: &str = "tidegate-id";
const COUNT: &str = "tidegate-count";
const DEVICE: &str = "tidegate-device";
const RECEIVED: &str = "tidegate-received";
const REPLAYED: &str = "tidegate-replayed";

/// Writes events in this format, for one uplink.
#[derive(Debug)]
pub struct Raw {
    template: Template,
    /// The topic asks which device an event is of.
    names_device: bool,
    /// What the ids of foreign events begin with: gateway and store.
    foreign_ids: Prefixes,
    /// The header that marks every event, if there is one.
    mark: Vec<u8>,
    topic: String,
    headers: Vec<u8>,
}

impl Raw {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds) -> Self {
        Self {
            names_device: settings.topic.names_device(),
            template: settings.topic.clone().bound_to(&settings.gateway_id),
            foreign_ids: ids.prefixes(&format!("{}/", settings.gateway_id)),
            mark: Vec::new(),
            topic: String::new(),
            headers: Vec::new(),
        }
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be
    /// retained, for it is not the latest.
    #[must_use]
    pub fn marked(mut self, replay: &str) -> Self {
        put_header(&mut self.mark, "", REPLAYED, |out| out.extend_from_slice(replay.as_bytes()));
        self
    }

    /// The message of the record at `offset`.
    ///
    /// # Errors
    /// [`Unsendable`]: there is no topic for it.
    #[inline]
    pub fn message<'m>(
        &'m mut self,
        offset: u64,
        record: &Record<'m>,
        can: &Capabilities,
    ) -> Result<Message<'m>, Unsendable> {
        let device = if can.has_headers || self.names_device { record.device() } else { "" };
        if can.has_headers {
            self.put_headers(offset, record, device);
        }
        let (headers, (expiry_s, mqtt_properties)) = match can.has_headers {
            true => (&self.headers[..], record.split_expiry()),
            false => (&[][..], (None, &[][..])),
        };
        Ok(Message {
            topic: self.template.render(&Names { topic: record.topic, device, kind: "" }, &mut self.topic)?,
            copy_id: CopyId { store: self.foreign_ids.at(offset), offset, seq: None },
            headers: Headers::new(headers),
            mqtt_properties,
            // A replay is asked for, whatever the publisher wished then.
            expiry_s: expiry_s.filter(|_| self.mark.is_empty()),
            content_type: None,
            is_text: false,
            payload: record.payload,
            retain: record.retain && can.retains && self.mark.is_empty(),
        })
    }

    /// Writes the headers of a record over the scratch buffer.
    fn put_headers(&mut self, offset: u64, record: &Record<'_>, device: &str) {
        let out = &mut self.headers;
        out.clear();
        let head = match record.kind {
            Kind::Frame => FrameHead::parse(record.payload).ok(),
            Kind::Json | Kind::Text | Kind::Opaque => None,
        };
        match head {
            Some((head, _)) => {
                put_header(out, "", ID, |out| {
                    out.extend_from_slice(device.as_bytes());
                    out.push(b'/');
                    put_decimal(out, head.boot.into());
                    out.push(b'/');
                    put_decimal(out, head.first_seq.into());
                });
                put_header(out, "", COUNT, |out| put_decimal(out, head.count.into()));
            }
            None => put_header(out, "", ID, |out| {
                out.extend_from_slice(self.foreign_ids.at(offset).as_bytes());
                put_decimal(out, offset);
            }),
        }
        put_header(out, "", DEVICE, |out| out.extend_from_slice(device.as_bytes()));
        put_header(out, "", RECEIVED, |out| out.extend_from_slice(&timestamp::rfc3339(record.received_ms)));
        out.extend_from_slice(&self.mark);
    }
}

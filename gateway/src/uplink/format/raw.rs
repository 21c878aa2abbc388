//! The format `raw`: an event goes out as it came in, QoS 1, on the topic that the template gives.
//!
//! On MQTT 5 each PUBLISH also says what it is, in user properties, before the properties it came with:
//!
//! ```text
//!  tidegate-id        <device>/<boot>/<first_seq> of a frame, <gateway>/<store id>-<offset> of anything else
//!  tidegate-count     how many events the frame carries; frames only
//!  tidegate-device    the device of a tg/… topic, the level that the route names, or the client id
//!  tidegate-received  when the gateway took it in, RFC 3339, UTC, milliseconds
//!  tidegate-replayed  which replay sends it again; replays only
//! ```
//! Every copy of an event has the same id. MQTT 3.1.1 has no room for any of this: there a frame's own head names
//! it. What cannot be sent is said before a byte of it is written.
//!
//! Limits: what the upstream allows, see [`Limits`]. It decodes no payload beyond a frame's head, and
//! allocates nothing per event once its two scratch buffers have grown.

use tidegate_protocol::FrameHead;

use super::{
    super::{
        engine::mqtt::packets::{Limits, Publish},
        settings::{Settings, Version},
        template::{Names, Template},
        timestamp,
    },
    Unsendable, check_size,
    property::{put, put_decimal},
};
use crate::store::{Kind, Prefixes, Record, StoreIds};

const ID: &str = "tidegate-id";
const COUNT: &str = "tidegate-count";
const DEVICE: &str = "tidegate-device";
const RECEIVED: &str = "tidegate-received";
const REPLAYED: &str = "tidegate-replayed";

/// Writes events in this format, for one uplink.
#[derive(Debug)]
pub struct Raw {
    version: Version,
    template: Template,
    /// Whether anything asks which device an event is of.
    needs_device: bool,
    /// What the ids of foreign events begin with: gateway and store.
    foreign_ids: Prefixes,
    packet_bytes_max: u32,
    /// The property that marks every event, if there is one.
    mark: Vec<u8>,
    topic: Vec<u8>,
    properties: Vec<u8>,
}

impl Raw {
    /// For the uplink of `settings`, over a store with these ids.
    #[must_use]
    pub fn new(settings: &Settings, ids: &StoreIds) -> Self {
        Self {
            version: settings.version,
            needs_device: settings.version == Version::V5 || settings.topic.names_device(),
            template: settings.topic.clone().bound_to(&settings.gateway_id),
            foreign_ids: ids.prefixes(&format!("{}/", settings.gateway_id)),
            packet_bytes_max: settings.packet_bytes_max.unwrap_or(u32::MAX),
            mark: Vec::new(),
            topic: Vec::new(),
            properties: Vec::new(),
        }
    }

    /// The same for a replay: every event says that this one sends it again, and none is to be retained, for it is not the latest.
    #[must_use]
    pub fn marked(mut self, replay: &str) -> Self {
        put(&mut self.mark, REPLAYED, |out| out.extend_from_slice(replay.as_bytes()));
        self
    }

    /// Appends the PUBLISH for the record at `offset` to `out`.
    ///
    /// # Errors
    /// [`Unsendable`]: `out` is as it was.
    pub fn publish(
        &mut self,
        out: &mut Vec<u8>,
        offset: u64,
        record: &Record<'_>,
        id: u16,
        limits: &Limits,
    ) -> Result<(), Unsendable> {
        let device = if self.needs_device { record.device() } else { "" };
        if self.version == Version::V5 {
            self.describe(offset, record, device);
        }
        let topic =
            self.template.render(&Names { topic: record.topic, device, kind: "" }, &mut self.topic)?;
        let properties = match self.version {
            Version::V311 => None,
            Version::V5 => Some([&self.properties[..], record.split_expiry().1]),
        };
        let retain = record.retain && limits.retain_available && self.mark.is_empty();
        let publish = Publish { topic, id, retain, properties, payload: record.payload };
        check_size(&publish, limits.packet_bytes_max.min(self.packet_bytes_max))?;
        publish.write(out);
        Ok(())
    }

    /// Writes the user properties of a record over the scratch buffer.
    fn describe(&mut self, offset: u64, record: &Record<'_>, device: &str) {
        let out = &mut self.properties;
        out.clear();
        let head = match record.kind {
            Kind::Frame => FrameHead::parse(record.payload).ok(),
            Kind::Json | Kind::Text | Kind::Opaque => None,
        };
        match head {
            Some((head, _)) => {
                put(out, ID, |out| {
                    out.extend_from_slice(device.as_bytes());
                    out.push(b'/');
                    put_decimal(out, head.boot.into());
                    out.push(b'/');
                    put_decimal(out, head.first_seq.into());
                });
                put(out, COUNT, |out| put_decimal(out, head.count.into()));
            }
            None => put(out, ID, |out| {
                out.extend_from_slice(self.foreign_ids.at(offset).as_bytes());
                put_decimal(out, offset);
            }),
        }
        put(out, DEVICE, |out| out.extend_from_slice(device.as_bytes()));
        put(out, RECEIVED, |out| out.extend_from_slice(&timestamp::rfc3339(record.received_ms)));
        out.extend_from_slice(&self.mark);
    }
}

//! What is known of one event, whatever it is written as.
//!
//! ```text
//!  of our devices   s3/17/300   climate 1   the time as the fleet knows it
//!  anything else    barn-7/0badcafe-4711    birth · status · reply · gap · json · text · opaque   the time of its arrival
//! ```

use tidegate_protocol::EventId;

use crate::uplink::decimal::put_decimal;
use crate::{
    catalog::{self, Hash},
    fleet::Stamp,
    uplink::timestamp::{TEXT_BYTES, rfc3339},
};

/// One event.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Which one.
    pub identity: Identity<'a>,
    /// Whose, see [`Record::device`](crate::store::Record::device).
    pub device: &'a str,
    /// The topic as it came.
    pub topic: &'a str,
    /// The name of its type.
    pub kind: &'a str,
    /// The version of its type; only events of our devices have one.
    pub version: Option<u8>,
    /// The hash of its type's definition, beside the version.
    pub definition: Option<&'a Hash>,
    /// Another event of the device has the same number.
    pub is_number_reused: bool,
    /// When it was.
    pub stamp: Stamp,
    /// The device's uptime then, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// When the gateway took it in, corrected, as RFC 3339: written once for all events of a frame.
    pub received: &'a [u8; TEXT_BYTES],
    /// The command that it is the reply to.
    pub command: Option<&'a str>,
    /// The replay that sends it again.
    pub replay: Option<&'a str>,
    /// What its payload is said to be, see [`stated`](super::payload::stated).
    pub content_type: Option<&'a str>,
    /// Its bytes are text, as its publisher says.
    pub is_said_to_be_text: bool,
    /// What it says.
    pub data: Data<'a>,
}

/// What names an event for ever.
#[derive(Debug, Clone, Copy)]
pub enum Identity<'a> {
    /// Its device's own number.
    Numbered(EventId),
    /// Its place in this store.
    Stored {
        /// Gateway and store.
        prefix: &'a str,
        /// The offset.
        offset: u64,
    },
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data<'a> {
    /// A JSON text.
    Json(&'a [u8]),
    /// Another text.
    Text(&'a str),
    /// Bytes of which nothing is known.
    Bytes(&'a [u8]),
    /// Nothing: an empty retained message, which takes the retained message of its topic away.
    Deletion,
}

impl Facts<'_> {
    /// Appends the event's id.
    pub fn put_id(&self, out: &mut Vec<u8>) {
        match self.identity {
            Identity::Numbered(id) => {
                out.extend_from_slice(self.device.as_bytes());
                out.push(b'/');
                put_decimal(out, id.boot.into());
                out.push(b'/');
                put_decimal(out, id.seq.into());
            }
            Identity::Stored { prefix, offset } => {
                out.extend_from_slice(prefix.as_bytes());
                put_decimal(out, offset);
            }
        }
    }

    /// Appends when it was, as RFC 3339.
    pub fn put_time(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&rfc3339(self.stamp.time_ms));
    }

    /// The beginning of its definition's hash, in hexadecimal digits.
    pub fn definition(&self) -> Option<impl Iterator<Item = u8>> {
        self.definition.map(catalog::short)
    }

    /// The device's own number, if it has one.
    pub fn number(&self) -> Option<EventId> {
        match self.identity {
            Identity::Numbered(id) => Some(id),
            Identity::Stored { .. } => None,
        }
    }
}

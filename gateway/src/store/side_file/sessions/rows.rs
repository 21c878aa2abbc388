//! What `sessions.redb` holds of each session, message and retained message: postcard of these
//! types, with their times as in `times.rs`.
//!
//! A field is never changed or moved: what is added goes behind the others, in a format of its own
//! number. Format 1 had no wills of clients that are connected.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A session with subscriptions that outlives its connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionRow {
    /// Whose it is.
    pub identity: String,
    /// How long it outlives the connection, in seconds; `u32::MAX` for ever.
    pub expiry_s: u32,
    /// Since when its client is away, by the steady clock, in milliseconds; `None` while connected.
    pub away_since_ms: Option<u64>,
    /// What it subscribes to.
    pub subscriptions: Vec<SubscriptionRow>,
    /// The will that waits for its delay to end, as format 1 has it.
    pub will: Option<WillRow>,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionRow {
    /// The topic filter as asked for, `$share/…` included.
    pub filter: String,
    /// The options byte of MQTT 5 section 3.8.3.1.
    pub options: u8,
    /// The subscription identifier.
    pub id: Option<u32>,
}

/// A will, as long as it is not published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingWillRow {
    /// How long it waits for its client to come back, in seconds, no longer than the session.
    pub delay_s: u32,
    /// When to publish it, by the steady clock, in milliseconds; `None` while its client is
    /// connected.
    pub due_ms: Option<u64>,
    /// What to publish.
    pub message: MessageRow,
}

/// A will that waits, in format 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WillRow {
    /// When to publish it, by the steady clock, in milliseconds.
    pub due_ms: u64,
    /// What to publish.
    pub message: MessageRow,
}

/// A message as published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageRow {
    /// Its topic.
    pub topic: String,
    /// Its payload. It is shared: a save of all that is owed must not take as much memory again.
    #[serde(with = "shared")]
    pub payload: Arc<[u8]>,
    /// Its MQTT 5 properties to forward, as on the wire, without a message expiry.
    pub properties: Vec<u8>,
    /// The client id of its publisher.
    pub publisher: String,
    /// The publisher's QoS.
    pub qos: u8,
    /// The publisher's retain flag.
    pub retain: bool,
    /// When the gateway took it in, by the steady clock, in milliseconds.
    pub received_ms: u64,
    /// How long it is worth delivering, in seconds from then.
    pub expiry_s: Option<u32>,
    /// The id of the command that it is; `None` for what was published.
    pub command: Option<String>,
}

/// Shared bytes, written as bytes of one's own are.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Arc<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[u8]>, D::Error> {
        Vec::deserialize(deserializer).map(Arc::from)
    }
}

/// A message that a session is owed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct UnackedRow {
    /// The message.
    pub message: MessageRow,
    /// The QoS of this delivery.
    pub qos: u8,
    /// The retain flag of this delivery.
    pub retain: bool,
    /// The identifiers of the subscriptions that it came by.
    pub subscription_ids: Vec<u32>,
    /// The packet id under which it was sent; 0 if it was not.
    pub packet_id: u16,
    /// PUBREC came for it: what is owed is a PUBREL.
    pub released: bool,
}

/// A change to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// All that was kept is gone: what follows says everything.
    Clear,
    /// A session as it is now.
    Session(String, SessionRow),
    /// A session and all that it is owed are gone.
    SessionGone(String),
    /// A message that a session is owed, under the session's own number for it.
    Unacked(String, u64, UnackedRow),
    /// It is owed no more.
    Settled(String, u64),
    /// The will of a client; `None` if there is none any more.
    Will(String, Option<StandingWillRow>),
    /// A retained message; `None` if there is none on this topic any more.
    Retained(String, Option<MessageRow>),
}

/// What a session is owed, by its number.
pub type UnackedRows = Vec<(u64, UnackedRow)>;

/// All that the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptSessions {
    /// The log up to this offset was distributed.
    pub position: u64,
    /// It is in an older format: the first save has to say everything.
    pub is_old: bool,
    /// Sessions by client id, each with what it is owed, oldest first.
    pub sessions: Vec<(String, SessionRow, UnackedRows)>,
    /// Wills, by client id.
    pub wills: Vec<(String, StandingWillRow)>,
    /// Retained messages.
    pub retained: Vec<MessageRow>,
    /// Messages that sessions are owed and that were not read, for there were more than there may
    /// be: the file holds them still.
    pub left_out: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_that_is_shared_is_written_as_before() {
        let row = MessageRow { topic: "t".into(), payload: [1, 2].into(), ..MessageRow::default() };
        let bytes = postcard::to_allocvec(&row).unwrap();
        assert_eq!(bytes, [1, b't', 2, 1, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(postcard::from_bytes::<MessageRow>(&bytes).unwrap(), row);
    }
}

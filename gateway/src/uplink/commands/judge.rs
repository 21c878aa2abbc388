//! What a message from the upstream is as a command, and what its acknowledgement says. Pure.
//!
//! | what it is | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | taken, or known already | 0x00 | PUBACK |
//! | no device's topic, or no device name | 0x90 | PUBACK, counted, logged |
//! | id, content type or expiry that cannot be, retained | 0x99 | the same |
//! | too long; too many wait for this device | 0x97 | the same |
//! | another command has its id | 0x83 | the same |
//! | no room in the outbox, or the store fails | none: it is sent again | none |
//!
//! A retained message is no command: it would be sent anew at every connection, long after it was
//! meant.

use super::{super::engine::mqtt::connect::Incoming, topic::CommandTopic};
use crate::{
    mqtt::reason::QUOTA_EXCEEDED,
    store::{EXPIRY_MAX_MS, Full, NewCommand, NewId, PutError},
};

const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
const TOPIC_NAME_INVALID: u8 = 0x90;
const PAYLOAD_FORMAT_INVALID: u8 = 0x99;

/// A message that is acknowledged although it is no command, for it will never be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeverTaken {
    /// The reason code of its PUBACK.
    pub reason: u8,
    /// What is the matter.
    pub why: String,
}

/// What of a command has to be kept while it is put.
#[derive(Debug)]
pub struct Judged {
    device: String,
    id: Id,
    expires_ms: Option<u64>,
    message: Incoming,
}

#[derive(Debug)]
enum Id {
    Given(String),
    Made,
    Derived(String),
}

impl Judged {
    /// Reads a message.
    ///
    /// # Errors
    /// [`NeverTaken`]: it cannot be a command.
    pub fn new(message: Incoming, topic: &CommandTopic, now_ms: u64) -> Result<Self, NeverTaken> {
        let never = |reason, why: &str| Err(NeverTaken { reason, why: why.to_owned() });
        let Some(device) = topic.device(&message.topic) else {
            return never(TOPIC_NAME_INVALID, "its topic names no device");
        };
        if message.retain {
            return never(PAYLOAD_FORMAT_INVALID, "it is retained: a command must not be");
        }
        let given = match &message.correlation {
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(id) => Some(id),
                Err(_) => return never(PAYLOAD_FORMAT_INVALID, "its correlation data is no id"),
            },
            None => message.named.as_deref(),
        };
        let id = match (given, message.id) {
            (Some(id), _) => Id::Given(id.to_owned()),
            (None, 0) => Id::Made,
            (None, id) => {
                let mut hash = crc32fast::Hasher::new();
                hash.update(message.topic.as_bytes());
                hash.update(&message.payload);
                Id::Derived(format!("m{:08x}-{id}", hash.finalize()))
            }
        };
        let expires_ms =
            message.expiry_s.map(|s| now_ms.saturating_add((u64::from(s) * 1000).min(EXPIRY_MAX_MS)));
        Ok(Self { device: device.to_owned(), id, expires_ms, message })
    }

    /// The command, as the outbox takes it.
    pub fn command<'a>(&'a self, origin: &'a str) -> NewCommand<'a> {
        NewCommand {
            device: &self.device,
            id: match &self.id {
                Id::Given(id) => NewId::Given(id),
                Id::Made => NewId::Made,
                Id::Derived(looks) => NewId::Derived { looks, is_resent: self.message.dup },
            },
            payload: &self.message.payload,
            content_type: self.message.content_type.as_deref(),
            expires_ms: self.expires_ms,
            origin,
        }
    }
}

/// What is to be said of a command that the outbox does not take.
///
/// # Errors
/// It may be taken later: nothing is to be said of it.
pub fn refusal(error: PutError) -> Result<NeverTaken, PutError> {
    let reason = match &error {
        PutError::Device(_) => TOPIC_NAME_INVALID,
        PutError::Id { .. } | PutError::ContentType { .. } | PutError::Expiry => PAYLOAD_FORMAT_INVALID,
        PutError::TooLong { .. } | PutError::Full(Full::Device { .. }) => QUOTA_EXCEEDED,
        PutError::Conflict { .. } => IMPLEMENTATION_SPECIFIC,
        PutError::Full(Full::Commands { .. } | Full::Bytes { .. }) | PutError::Store(_) => return Err(error),
    };
    Ok(NeverTaken { reason, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::StoreError;

    const NOW_MS: u64 = 1_795_500_000_000;

    fn topic() -> CommandTopic {
        CommandTopic::parse("c/{device}", "barn-7").unwrap()
    }

    fn message() -> Incoming {
        Incoming {
            id: 7,
            topic: "c/stall-3".into(),
            payload: Bytes::from_static(b"on"),
            ..Incoming::default()
        }
    }

    #[test]
    fn a_message_becomes_a_command_with_the_id_that_it_has_or_one_made_of_what_it_looks_like() {
        let id = |message: Incoming| {
            let judged = Judged::new(message, &topic(), NOW_MS).unwrap();
            let command = judged.command("cloud");
            assert_eq!((command.device, command.payload, command.origin), ("stall-3", &b"on"[..], "cloud"));
            match command.id {
                NewId::Given(id) => format!("given {id}"),
                NewId::Made => "made".to_owned(),
                NewId::Derived { looks, is_resent } => format!("{looks} {is_resent}"),
            }
        };
        let (x, y) = (Some(Bytes::from_static(b"x")), Some("y".to_owned()));
        assert_eq!(id(Incoming { correlation: x, named: y.clone(), ..message() }), "given x");
        assert_eq!(id(Incoming { named: y, ..message() }), "given y");
        assert_eq!(id(Incoming { id: 0, ..message() }), "made");
        let derived = id(message());
        assert!(derived.starts_with('m') && derived.ends_with("-7 false"), "{derived}");
        assert_eq!(id(Incoming { dup: true, ..message() }), derived.replace("false", "true"));
        assert_ne!(id(Incoming { id: 8, ..message() }), derived);
    }

    #[test]
    fn the_expiry_counts_from_now_and_has_an_end() {
        for (expiry_s, expires_ms) in
            [(None, None), (Some(60), Some(NOW_MS + 60_000)), (Some(u32::MAX), Some(NOW_MS + EXPIRY_MAX_MS))]
        {
            let judged = Judged::new(Incoming { expiry_s, ..message() }, &topic(), NOW_MS).unwrap();
            assert_eq!(judged.command("cloud").expires_ms, expires_ms);
        }
    }

    #[test]
    fn what_is_never_a_command_is_said_and_what_may_be_later_is_not() {
        for (wrong, reason) in [
            (Incoming { topic: "d/stall-3".into(), ..message() }, 0x90),
            (Incoming { retain: true, ..message() }, 0x99),
            (Incoming { correlation: Some(Bytes::from_static(b"\xff")), ..message() }, 0x99),
        ] {
            assert_eq!(Judged::new(wrong, &topic(), NOW_MS).unwrap_err().reason, reason);
        }
        for (error, reason) in [
            (PutError::Id { id: String::new() }, Some(0x99)),
            (PutError::Expiry, Some(0x99)),
            (PutError::TooLong { bytes: 1 }, Some(0x97)),
            (Full::Device { max: 1 }.into(), Some(0x97)),
            (PutError::Conflict { device: String::new(), id: String::new() }, Some(0x83)),
            (Full::Commands { max: 1 }.into(), None),
            (Full::Bytes { max_bytes: 1 }.into(), None),
            (StoreError::Closed.into(), None),
        ] {
            let text = error.to_string();
            assert_eq!(refusal(error).ok().map(|never| never.reason), reason, "{text}");
        }
    }
}

//! A command to a device as JSON: plain data, both ways, for whoever asks and for `tidegate
//! commands`.
//!
//! Bytes travel as base64. What is UTF-8 is there as text as well.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::store::{Command, CommandState};

/// What is to be sent: a device, one payload, and what else is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandRequest {
    /// The device's name.
    pub device: String,
    /// The payload as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The payload as base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The payload as JSON: sent without blanks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<serde_json::Value>,
    /// What the payload is, such as `text/plain`; that of `json` is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Its id, 1 to 64 of `A-Z a-z 0-9 . _ : -`; without it the gateway makes one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How long it waits for its device, such as `2h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// Commands, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandList {
    /// The commands, without what they carry.
    pub items: Vec<CommandItem>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandItem {
    /// Its id.
    pub id: String,
    /// The device's name.
    pub device: String,
    /// `pending`, `delivered`, `replied`, `expired`, `cancelled` or `failed`.
    pub state: CommandState,
    /// Since when, milliseconds since 1970.
    pub changed_ms: u64,
    /// When it was taken in, milliseconds since 1970.
    pub created_ms: u64,
    /// When it expires, milliseconds since 1970.
    pub expires_ms: u64,
    /// `http`, or the uplink's name.
    pub origin: String,
    /// What the payload is, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Bytes of the payload.
    pub payload_bytes: u64,
    /// The reason code with which the device refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<u8>,
    /// When the device answered it, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replied_ms: Option<u64>,
    /// Bytes of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_bytes: Option<u64>,
    /// The payload, base64; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
    /// The payload where it is text; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The answer, base64, its first bytes where there was no room for all; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_base64: Option<String>,
    /// The answer where it is text; in a whole one only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
}

impl CommandItem {
    /// All but what it carries.
    pub(super) fn head(command: &Command) -> Self {
        Self {
            id: command.id.clone(),
            device: command.device.clone(),
            state: command.state,
            changed_ms: command.changed_ms,
            created_ms: command.created_ms,
            expires_ms: command.expires_ms,
            origin: command.origin.clone(),
            content_type: command.content_type.clone(),
            payload_bytes: command.payload.len() as u64,
            reason: command.reason,
            replied_ms: command.reply.as_ref().map(|reply| reply.at_ms),
            reply_bytes: command.reply.as_ref().map(|reply| reply.bytes),
            payload_base64: None,
            payload: None,
            reply_base64: None,
            reply: None,
        }
    }

    /// All of it.
    pub(super) fn whole(command: &Command) -> Self {
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let reply = command.reply.as_ref().map(|reply| reply.payload.as_slice());
        Self {
            payload_base64: Some(STANDARD.encode(&command.payload)),
            payload: text(&command.payload),
            reply_base64: reply.map(|reply| STANDARD.encode(reply)),
            reply: reply.and_then(text),
            ..Self::head(command)
        }
    }
}

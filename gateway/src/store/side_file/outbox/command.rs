//! A command to a device: what is asked for, what it becomes, and how it lies in its table
//! (postcard of [`Command`]).
//!
//! ```text
//!  pending ─▶ delivered ─▶ replied
//!     ├─────▶ failed                 the device refused it, with a reason code
//!     ├─────▶ expired ┐ one that was on its way may still be acknowledged: then it is delivered
//!     └─────▶ cancelled ┘
//! ```
//! Limits: the constants below. It reads no clock and checks no other command: `book.rs` does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_protocol::{DeviceName, NameError};

use crate::{clock::Moment, store::error::StoreError};

/// Longest payload of a command, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a reply that are kept with its command; the event that it is as well is kept whole.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Longest id, in bytes.
pub const ID_BYTES_MAX: usize = 64;
/// Longest content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// How long a command waits for its device, unless told otherwise, in milliseconds.
pub const EXPIRY_DEFAULT_MS: u64 = 24 * 3600 * 1000;
/// The longest that it may wait, in milliseconds.
pub const EXPIRY_MAX_MS: u64 = 30 * 24 * 3600 * 1000;
/// What a command counts beside its own bytes: its keys and its share of the file's pages.
const OVERHEAD_BYTES: u64 = 256;

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommandState {
    /// It waits for its device.
    Pending,
    /// The device acknowledged it.
    Delivered,
    /// The device answered it.
    Replied,
    /// Its time ran out before the device took it.
    Expired,
    /// Whoever sent it took it back.
    Cancelled,
    /// The device refused it.
    Failed,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// The device's name.
    pub device: String,
    /// Its id: one for each command of a device.
    pub id: String,
    /// What the device gets.
    pub payload: Vec<u8>,
    /// What the payload is, where that was said.
    pub content_type: Option<String>,
    /// When it was taken in, wall clock, milliseconds since 1970.
    pub created_ms: u64,
    /// When it expires, wall clock, milliseconds since 1970.
    pub expires_ms: u64,
    /// Where it came from: `http`, or the uplink's name.
    pub origin: String,
    /// How far it is.
    pub state: CommandState,
    /// Since when, wall clock, milliseconds since 1970.
    pub changed_ms: u64,
    /// The reason code with which the device refused it.
    pub reason: Option<u8>,
    /// The device's answer.
    pub reply: Option<Reply>,
    /// When it was taken in, by the gateway's timeline: its expiry counts from here. It lies behind
    /// the rest in the table.
    #[serde(skip)]
    pub taken_in: Option<Moment>,
}

/// A device's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What it said: its first bytes, where there was no room for all.
    pub payload: Vec<u8>,
    /// How many bytes it said.
    pub bytes: u64,
    /// When, wall clock, milliseconds since 1970.
    pub at_ms: u64,
}

/// A command that is to be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewCommand<'a> {
    /// The device's name.
    pub device: &'a str,
    /// What it is to be called.
    pub id: NewId<'a>,
    /// What the device gets.
    pub payload: &'a [u8],
    /// What the payload is, where that is known.
    pub content_type: Option<&'a str>,
    /// When it expires, milliseconds since 1970; `None` is [`EXPIRY_DEFAULT_MS`] from now.
    pub expires_ms: Option<u64>,
    /// Where it comes from.
    pub origin: &'a str,
}

/// How a command gets its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewId<'a> {
    /// Whoever sends it says so: the same id again is the same command.
    Given(&'a str),
    /// The gateway makes one.
    Made,
    /// Made from what the message looks like, so that one that is sent again is known. Whether it
    /// is one that is sent again only its sender knows: the same message may be meant twice.
    Derived {
        /// What the message looks like.
        looks: &'a str,
        /// It may have been sent before.
        is_resent: bool,
    },
}

/// What became of a command that was to be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Taken(Arc<Command>),
    /// It was there already, and this is how far it is.
    Known(Arc<Command>),
}

/// What happened to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The device acknowledged it.
    Delivered {
        /// The device.
        device: &'a str,
        /// The command's id.
        id: &'a str,
    },
    /// The device acknowledged it with a reason code that is a failure.
    Refused {
        /// The device.
        device: &'a str,
        /// The command's id.
        id: &'a str,
        /// The reason code of its PUBACK.
        reason: u8,
    },
    /// The device said something on its reply topic.
    Replied {
        /// The device.
        device: &'a str,
        /// The correlation data, which is the command's id; without it the oldest that was
        /// delivered and not answered is meant, or else the oldest that waits: some clients answer
        /// before they acknowledge.
        correlation: Option<&'a [u8]>,
        /// What it said.
        payload: &'a [u8],
    },
    /// Whoever sent it takes it back.
    Cancelled {
        /// The device.
        device: &'a str,
        /// The command's id.
        id: &'a str,
    },
}

/// A command is not taken in. What was there is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// No device can have this name.
    #[error("the device: {0}")]
    Device(#[from] NameError),
    /// It cannot be an id.
    #[error(
        "an id is 1 to {ID_BYTES_MAX} of A-Z, a-z, 0-9 and . _ : -, not {id:?}; without one the gateway makes it"
    )]
    Id {
        /// What was given, cut.
        id: String,
    },
    /// Its payload is too long.
    #[error(
        "the payload has {bytes} bytes, a command at most {PAYLOAD_BYTES_MAX}: send less, or where to fetch it"
    )]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Its content type is too long.
    #[error("the content type has {bytes} bytes, at most {CONTENT_TYPE_BYTES_MAX}: shorten it")]
    ContentType {
        /// How long it is.
        bytes: usize,
    },
    /// It expires now, or too late.
    #[error("a command expires after now and within {} days", EXPIRY_MAX_MS / 24 / 3600 / 1000)]
    Expiry,
    /// The device has another command of this id.
    #[error("the device {device} has another command {id:?}, with another payload: choose another id")]
    Conflict {
        /// The device.
        device: String,
        /// The id.
        id: String,
    },
    /// There is no room for more.
    #[error(transparent)]
    Full(#[from] Full),
    /// The store does not keep it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// There is no room for one more command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// So many wait for this device.
    #[error(
        "{max} commands wait for this device, and no more may: wait until it fetches some, or cancel some"
    )]
    Device {
        /// The limit.
        max: usize,
    },
    /// So many wait.
    #[error("{max} commands wait, and no more may: wait until devices fetch some, or cancel some")]
    Commands {
        /// The limit.
        max: usize,
    },
    /// So many bytes wait.
    #[error(
        "{max_bytes} bytes of commands may wait, and this is more: wait until devices fetch some, or cancel some"
    )]
    Bytes {
        /// The limit.
        max_bytes: u64,
    },
}

impl CommandState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Delivered, Self::Replied, Self::Expired, Self::Cancelled, Self::Failed];

    /// Its name, as in JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Replied => "replied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl Command {
    /// What it counts against the room that there is.
    pub(super) fn size(&self) -> u64 {
        let texts = self.device.len() + self.id.len() + self.origin.len();
        let kind = self.content_type.as_ref().map_or(0, String::len);
        let reply = self.reply.as_ref().map_or(0, |reply| reply.payload.len());
        (texts + kind + self.payload.len() + reply) as u64 + OVERHEAD_BYTES
    }
}

impl NewCommand<'_> {
    /// Checks what can be checked by itself, and gives when it expires.
    ///
    /// # Errors
    /// [`PutError`]: it cannot be meant.
    pub(super) fn check(&self, now_ms: u64) -> Result<u64, PutError> {
        DeviceName::new(self.device)?;
        if let NewId::Given(id) | NewId::Derived { looks: id, .. } = self.id
            && !is_id(id)
        {
            let cut = &id[..id.floor_char_boundary(ID_BYTES_MAX)];
            return Err(PutError::Id { id: cut.to_owned() });
        }
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(PutError::TooLong { bytes: self.payload.len() });
        }
        if let Some(kind) = self.content_type.filter(|kind| kind.len() > CONTENT_TYPE_BYTES_MAX) {
            return Err(PutError::ContentType { bytes: kind.len() });
        }
        let expires_ms = self.expires_ms.unwrap_or(now_ms.saturating_add(EXPIRY_DEFAULT_MS));
        let fits = expires_ms > now_ms && expires_ms - now_ms <= EXPIRY_MAX_MS;
        fits.then_some(expires_ms).ok_or(PutError::Expiry)
    }
}

/// Whether `text` can be a command's id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_795_500_000_000;

    fn command<'a>() -> NewCommand<'a> {
        NewCommand {
            device: "stall-3",
            id: NewId::Given("a.b_c:D-9"),
            payload: b"on",
            content_type: None,
            expires_ms: None,
            origin: "http",
        }
    }

    #[test]
    fn what_cannot_be_meant_says_what_may_be() {
        assert_eq!(command().check(NOW_MS).unwrap(), NOW_MS + EXPIRY_DEFAULT_MS);
        let long = "x".repeat(ID_BYTES_MAX + 1);
        let (large, kind) = (vec![0; PAYLOAD_BYTES_MAX + 1], "x".repeat(CONTENT_TYPE_BYTES_MAX + 1));
        for (wrong, why) in [
            (NewCommand { device: "", ..command() }, "must not be empty"),
            (NewCommand { device: "Stall", ..command() }, "made of a-z, 0-9 and -"),
            (NewCommand { id: NewId::Given(""), ..command() }, "an id is 1 to 64"),
            (NewCommand { id: NewId::Given("a b"), ..command() }, "not \"a b\""),
            (NewCommand { id: NewId::Given("é"), ..command() }, "an id is 1 to 64"),
            (NewCommand { id: NewId::Given(&long), ..command() }, "an id is 1 to 64"),
            (NewCommand { payload: &large, ..command() }, "has 65537 bytes, a command at most 65536"),
            (NewCommand { content_type: Some(&kind), ..command() }, "the content type has 129 bytes"),
            (NewCommand { expires_ms: Some(NOW_MS), ..command() }, "expires after now"),
            (NewCommand { expires_ms: Some(NOW_MS + EXPIRY_MAX_MS + 1), ..command() }, "within 30 days"),
        ] {
            let error = wrong.check(NOW_MS).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let last = NewCommand { expires_ms: Some(NOW_MS + EXPIRY_MAX_MS), ..command() };
        assert_eq!(last.check(NOW_MS).unwrap(), NOW_MS + EXPIRY_MAX_MS);
    }

    #[test]
    fn every_state_has_a_name_that_json_gives_too() {
        for state in CommandState::ALL {
            assert_eq!(CommandState::from_name(state.name()), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
        }
        assert_eq!(CommandState::from_name("gone"), None);
    }
}

//! Replies of devices to commands, found in the log: each is noted with its command.
//!
//! A reply is stored as an event like any other; this is beside it. Crash story: it is noted before
//! the position behind it is saved, and what was noted before is not taken for the reply to another
//! command when the log is followed again. Where nothing says how far the log was followed, replies
//! from before the start are left alone: they belong to commands of that time.
//!
//! Limits: [`LOOKED_AT_MAX`] commands of a device are looked at for each reply.

use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::store::{Change, Command, CommandFilter, CommandState, Outbox, Record, StoreError};

/// Commands of a device that are looked at for a reply that was noted already.
const LOOKED_AT_MAX: usize = 100;

/// A reply as a device published it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    device: String,
    correlation: Option<Vec<u8>>,
    payload: Vec<u8>,
    received_ms: u64,
}

impl Reply {
    /// The reply of `device` that `record` holds.
    pub fn of(device: &str, record: &Record<'_>) -> Self {
        Self {
            device: device.to_owned(),
            correlation: record.correlation().map(<[u8]>::to_vec),
            payload: record.payload.to_vec(),
            received_ms: record.received_ms,
        }
    }
}

/// Whether there is a command at all whose reply is not noted. Reads memory only.
pub fn is_expected(outbox: &Outbox) -> bool {
    let others = CommandState::ALL.into_iter().filter(|state| *state != CommandState::Replied);
    others.map(Some).any(|state| !outbox.list(&CommandFilter { device: None, state }, 1).is_empty())
}

/// Notes replies with their commands, on a thread of its own: it writes to the disk. A defect there
/// is told by its panic, and the event is stored.
pub fn note(outbox: &Outbox, replies: Vec<Reply>) -> JoinHandle<()> {
    let outbox = outbox.clone();
    let note = move || {
        for reply in &replies {
            match note_one(&outbox, reply) {
                Ok(()) | Err(StoreError::Closed) => {}
                Err(error) => tracing::error!(
                    "a reply to a command cannot be noted: {error}; it is stored as an event all the same"
                ),
            }
        }
    };
    tokio::task::spawn_blocking(note)
}

fn note_one(outbox: &Outbox, reply: &Reply) -> Result<(), StoreError> {
    let Reply { device, correlation, payload, received_ms } = reply;
    // After a crash the log is followed again: what was noted is not another command's reply.
    let filter = CommandFilter { device: Some(device.clone()), state: Some(CommandState::Replied) };
    let is_noted = |command: &Arc<Command>| {
        let noted = command.reply.as_ref();
        noted.is_some_and(|noted| noted.at_ms == *received_ms && payload.starts_with(&noted.payload))
    };
    if outbox.list(&filter, LOOKED_AT_MAX).iter().any(is_noted) {
        return Ok(());
    }
    let change = Change::Replied { device, correlation: correlation.as_deref(), payload };
    outbox.apply(&[change], *received_ms).map(drop)
}

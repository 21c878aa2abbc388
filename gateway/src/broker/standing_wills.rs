//! The wills that stand, wait or are due, and what the file says of each. Pure.
//!
//! Limits: the wills that stand are bounded by whoever sets them; those that are due and are not
//! kept take [`DUE_BYTES_MAX`].

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::message::Message;
use crate::{
    mqtt::{connect::Will, publish::Qos},
    store::{Kind, Record, SessionChange, StandingWillRow},
};

/// How long after a start a client may take to come back before its will is published, in seconds,
/// if its will does not wait longer anyway: at the default rate ten thousand are let in within 20
/// s.
pub const RETURN_GRACE_S: u32 = 30;
/// Bytes of the wills that are to be published and are not kept: of those whose session is over, or
/// for which there was no room. They are taken out every second unless the store is full.
pub const DUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What one weighs beside its own bytes.
const ENTRY_BYTES: usize = 160;

/// All wills.
#[derive(Debug, Default)]
pub struct Wills {
    pub standing: HashMap<Arc<str>, Standing>,
    pub bytes: usize,
    /// Those whose session is over, or for which there was no room.
    pub due: VecDeque<Left>,
    pub due_bytes: usize,
    /// Clients of whose will the file may not say what it should.
    pub dirty: HashSet<Arc<str>>,
}

/// A will, and whose it is.
pub type Left = (Arc<str>, Arc<Will>);

#[derive(Debug)]
pub struct Standing {
    /// `None` once it is gone, until the file says so.
    pub will: Option<Arc<Will>>,
    pub step: Step,
    /// A hash of what the file says, or will say with the save that is under way.
    pub in_file: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its client is connected.
    There,
    /// Its client was connected when the gateway ended; until then, by the steady clock, it may
    /// come back.
    Returning { due_ms: u64 },
    /// Its delay runs until then.
    Waiting { due_ms: u64 },
    /// Its record is durable once the watermark has reached this.
    Published { committed_at: u64 },
}

impl Standing {
    pub fn is_due(&self, now_ms: u64) -> bool {
        matches!(self.step, Step::Returning { due_ms } | Step::Waiting { due_ms } if due_ms <= now_ms)
    }

    /// As the file should say it.
    pub fn row(&self, client: &str) -> Option<StandingWillRow> {
        let will = self.will.as_ref()?;
        let due_ms = if let Step::Waiting { due_ms } = self.step { Some(due_ms) } else { None };
        Some(StandingWillRow { delay_s: will.delay_s, due_ms, message: message(client, will, 0).row() })
    }
}

fn hash(row: &StandingWillRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    let message = &row.message;
    (row.delay_s, row.due_ms, &message.topic, &message.payload, &message.properties).hash(&mut hasher);
    (message.qos, message.retain, message.expiry_s).hash(&mut hasher);
    hasher.finish()
}

/// The will as it is published.
pub fn message(client: &str, will: &Will, now_ms: u64) -> Message {
    let record = Record {
        kind: Kind::Opaque,
        events: 1,
        retain: will.retain,
        qos: will.qos as u8,
        local: false,
        device_level: None,
        urgent: false,
        received_ms: 0,
        client,
        topic: &will.topic,
        properties: &will.properties,
        payload: &will.payload,
    };
    Message::of(&record, now_ms)
}

pub fn size(client: &str, will: &Will) -> usize {
    ENTRY_BYTES + client.len() + will.topic.len() + will.payload.len() + will.properties.len()
}

impl Wills {
    pub fn set(&mut self, client: &Arc<str>, will: Option<Arc<Will>>, step: Step) {
        let before = self.standing.remove(client);
        let in_file = before.as_ref().and_then(|before| before.in_file);
        let weight = |will: &Option<Arc<Will>>| will.as_ref().map_or(0, |will| size(client, will));
        self.bytes -= before.map_or(0, |before| weight(&before.will));
        if will.is_some() || in_file.is_some() {
            self.bytes += weight(&will);
            self.standing.insert(client.clone(), Standing { will, step, in_file });
        }
    }

    pub fn holds(&self, client: &str, will: &Arc<Will>) -> bool {
        let standing = self.standing.get(client).and_then(|standing| standing.will.as_ref());
        standing.is_some_and(|standing| Arc::ptr_eq(standing, will))
    }

    /// Whether the file says what it should of the client's will.
    pub fn is_in_file(&self, client: &str) -> bool {
        let Some(standing) = self.standing.get(client) else { return true };
        standing.in_file == standing.row(client).as_ref().map(hash)
    }

    /// What the file is to be told. A will that is published stays in it until its record is
    /// durable.
    pub fn changes(&mut self, committed: u64, changes: &mut Vec<SessionChange>) {
        for client in std::mem::take(&mut self.dirty) {
            let step = self.standing.get(&client).map(|standing| standing.step);
            if let Some(Step::Published { committed_at }) = step {
                if committed_at > committed {
                    self.dirty.insert(client);
                    continue;
                }
                self.set(&client, None, Step::There);
            }
            let Some(standing) = self.standing.get_mut(&client) else { continue };
            let row = standing.row(&client);
            let told = row.as_ref().map(hash);
            if std::mem::replace(&mut standing.in_file, told) != told {
                changes.push(SessionChange::Will(client.to_string(), row));
            }
            if told.is_none() {
                self.standing.remove(&client);
            }
        }
    }

    /// The watermark at which all that are published are durable, of which the file does not know
    /// yet.
    pub fn durable_at(&self) -> u64 {
        let steps = self.dirty.iter().filter_map(|client| self.standing.get(client)).map(|will| will.step);
        let tickets =
            steps.map(|step| if let Step::Published { committed_at } = step { committed_at } else { 0 });
        tickets.max().unwrap_or(0)
    }

    pub fn is_saved(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Nobody knows what the file says: it is to be told all.
    pub fn forget_file(&mut self) {
        self.standing.retain(|_, standing| {
            standing.in_file = None;
            standing.will.is_some()
        });
        self.dirty = self.standing.keys().cloned().collect();
    }

    /// As the file says. Whoever was connected may come back for a while.
    pub fn restore(&mut self, client: Arc<str>, row: StandingWillRow, now_ms: u64) {
        let grace_ms = u64::from(row.delay_s.max(RETURN_GRACE_S)) * 1000;
        let step = match row.due_ms {
            Some(due_ms) => Step::Waiting { due_ms },
            None => Step::Returning { due_ms: now_ms + grace_ms },
        };
        let in_file = Some(hash(&row));
        let properties = Message::from(row.message.clone()).all_properties();
        let will = Arc::new(Will {
            topic: row.message.topic,
            payload: row.message.payload.to_vec(),
            retain: row.message.retain,
            qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(row.message.qos.min(2))],
            delay_s: row.delay_s,
            properties,
        });
        self.bytes += size(&client, &will);
        self.standing.insert(client, Standing { will: Some(will), step, in_file });
    }

    /// Those that are to be published now. They stay due until they are put elsewhere.
    pub fn all_due(&self, now_ms: u64) -> Vec<Left> {
        let standing = self.standing.iter().filter(|(_, standing)| standing.is_due(now_ms));
        let standing = standing.filter_map(|(client, will)| Some((client.clone(), will.will.clone()?)));
        self.due.iter().cloned().chain(standing).collect()
    }

    /// One more that is due and is not kept. False if there is no room for it: it is lost.
    pub fn push_due(&mut self, client: &Arc<str>, will: &Arc<Will>) -> bool {
        let has_room = self.due_bytes + size(client, will) <= DUE_BYTES_MAX;
        if has_room {
            self.due_bytes += size(client, will);
            self.due.push_back((client.clone(), will.clone()));
        }
        has_room
    }

    /// These are published, and due no more.
    pub fn remove_due(&mut self, published: &[(Left, u64)]) {
        let published: HashSet<_> = published.iter().map(|((_, will), _)| Arc::as_ptr(will)).collect();
        let due_bytes = &mut self.due_bytes;
        self.due.retain(|(client, will)| {
            let is_due = !published.contains(&Arc::as_ptr(will));
            *due_bytes -= if is_due { 0 } else { size(client, will) };
            is_due
        });
    }
}

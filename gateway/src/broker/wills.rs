//! Wills, from the CONNECT to their publication. `sessions.redb` has them as well, so that a restart forgets none.
//!
//! ```text
//!   CONNECT ─▶ there ─┬─ DISCONNECT, the client comes back ─▶ gone
//!                     ├─ the connection ends ─▶ published: its record is in the intake ─ committed ─▶ gone
//!                     ├─ its delay ─▶ waits ─ due, or the session ends ─▶ published
//!                     └─ a restart ─▶ returning ─ the client does not come back in time ─▶ published
//! ```
//! A stop publishes no will: the clients come back to the gateway that is started next, and MQTT 5 (section 3.1.2.5) lets a server put
//! the publication off until then. Crash story: the file has a will before CONNACK, and loses it once its record is durable; so a crash
//! between the two publishes it twice at worst, and never not at all. A client that comes back waits for that record, as its next will, or
//! none, takes the place of that one in the file.
//!
//! Limits: one will for each client, [`CONNECTED_BYTES_MAX`] of those that are connected: one more is not let in. [`KEPT_BYTES_MAX`] in all, less where `sessions.redb` has little room. One that finds no room is
//! published when its connection ends, without a delay, and a restart forgets it. While the store takes nothing, [`DUE_BYTES_MAX`] of
//! such wills wait; what finds no room there is lost, and counted.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{Broker, Message};
use crate::{
    mqtt::{connect::Will, publish::Qos},
    store::{Kind, Record, SessionChange, StandingWillRow},
};

/// How long after a start a client may take to come back before its will is published, in seconds, if its will does not wait longer
/// anyway: at the default rate ten thousand are let in within 20 s.
pub const RETURN_GRACE_S: u32 = 30;
/// Bytes of all wills that are kept, of which there are no more than clients.
pub const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the wills that are to be published and are not kept: of those whose session is over, or for which there was no room. They are
/// taken out every second unless the store is full.
pub const DUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the wills of clients that are connected, kept or not.
pub const CONNECTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What one weighs beside its own bytes.
const ENTRY_BYTES: usize = 160;

/// All wills.
#[derive(Debug, Default)]
pub(super) struct Wills {
    standing: HashMap<Arc<str>, Standing>,
    bytes: usize,
    /// Those whose session is over, or for which there was no room.
    due: VecDeque<Left>,
    due_bytes: usize,
    /// Clients of whose will the file may not say what it should.
    dirty: HashSet<Arc<str>>,
}

/// The room that the will of a client takes while it is connected.
pub type WillPlace = OwnedSemaphorePermit;

/// A will, and whose it is.
type Left = (Arc<str>, Arc<Will>);

#[derive(Debug)]
struct Standing {
    /// `None` once it is gone, until the file says so.
    will: Option<Arc<Will>>,
    step: Step,
    /// A hash of what the file says, or will say with the save that is under way.
    in_file: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its client is connected.
    There,
    /// Its client was connected when the gateway ended; until then, by the steady clock, it may come back.
    Returning { due_ms: u64 },
    /// Its delay runs until then.
    Waiting { due_ms: u64 },
    /// Its record is durable once the watermark has reached this.
    Published { committed_at: u64 },
}

impl Standing {
    fn is_due(&self, now_ms: u64) -> bool {
        matches!(self.step, Step::Returning { due_ms } | Step::Waiting { due_ms } if due_ms <= now_ms)
    }

    /// As the file should say it.
    fn row(&self, client: &str) -> Option<StandingWillRow> {
        let will = self.will.as_ref()?;
        let due_ms = if let Step::Waiting { due_ms } = self.step { Some(due_ms) } else { None };
        Some(StandingWillRow { delay_s: will.delay_s, due_ms, message: message(client, will, 0).row() })
    }
}

/// How far a will is whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Publication {
    /// The broker publishes it with its next tick.
    Due,
    /// Its record is in the intake.
    Made {
        /// It is durable once the watermark has reached this.
        committed_at: u64,
    },
}

fn hash(row: &StandingWillRow) -> u64 {
    let mut hasher = DefaultHasher::new();
    let message = &row.message;
    (row.delay_s, row.due_ms, &message.topic, &message.payload, &message.properties).hash(&mut hasher);
    (message.qos, message.retain, message.expiry_s).hash(&mut hasher);
    hasher.finish()
}

/// The will as it is published.
pub(super) fn message(client: &str, will: &Will, now_ms: u64) -> Message {
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

fn size(client: &str, will: &Will) -> usize {
    ENTRY_BYTES + client.len() + will.topic.len() + will.payload.len() + will.properties.len()
}

impl Wills {
    fn set(&mut self, client: &Arc<str>, will: Option<Arc<Will>>, step: Step) {
        let before = self.standing.remove(client);
        let in_file = before.as_ref().and_then(|before| before.in_file);
        let weight = |will: &Option<Arc<Will>>| will.as_ref().map_or(0, |will| size(client, will));
        self.bytes -= before.map_or(0, |before| weight(&before.will));
        if will.is_some() || in_file.is_some() {
            self.bytes += weight(&will);
            self.standing.insert(client.clone(), Standing { will, step, in_file });
        }
    }

    fn holds(&self, client: &str, will: &Arc<Will>) -> bool {
        let standing = self.standing.get(client).and_then(|standing| standing.will.as_ref());
        standing.is_some_and(|standing| Arc::ptr_eq(standing, will))
    }

    /// Whether the file says what it should of the client's will.
    fn is_in_file(&self, client: &str) -> bool {
        let Some(standing) = self.standing.get(client) else { return true };
        standing.in_file == standing.row(client).as_ref().map(hash)
    }

    /// What the file is to be told. A will that is published stays in it until its record is durable.
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

    /// The watermark at which all that are published are durable, of which the file does not know yet.
    fn durable_at(&self) -> u64 {
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
    fn all_due(&self, now_ms: u64) -> Vec<Left> {
        let standing = self.standing.iter().filter(|(_, standing)| standing.is_due(now_ms));
        let standing = standing.filter_map(|(client, will)| Some((client.clone(), will.will.clone()?)));
        self.due.iter().cloned().chain(standing).collect()
    }

    /// One more that is due and is not kept. False if there is no room for it: it is lost.
    fn push_due(&mut self, client: &Arc<str>, will: &Arc<Will>) -> bool {
        let has_room = self.due_bytes + size(client, will) <= DUE_BYTES_MAX;
        if has_room {
            self.due_bytes += size(client, will);
            self.due.push_back((client.clone(), will.clone()));
        }
        has_room
    }

    /// These are published, and due no more.
    fn remove_due(&mut self, published: &[(Left, u64)]) {
        let published: HashSet<_> = published.iter().map(|((_, will), _)| Arc::as_ptr(will)).collect();
        let due_bytes = &mut self.due_bytes;
        self.due.retain(|(client, will)| {
            let is_due = !published.contains(&Arc::as_ptr(will));
            *due_bytes -= if is_due { 0 } else { size(client, will) };
            is_due
        });
    }
}

impl Broker {
    /// Room for a client's will, for as long as it is connected. `None` if there is none: the client cannot be let in.
    pub fn place_will(&self, client: &str, will: &Will) -> Option<WillPlace> {
        let bytes = u32::try_from(size(client, will)).ok()?;
        let place = self.0.will_room.clone().try_acquire_many_owned(bytes).ok();
        if place.is_none()
            && let Some(wills) = self.0.warned.wills_refused.more(1)
        {
            tracing::warn!(
                wills,
                client,
                bytes,
                "the wills of connected clients take {CONNECTED_BYTES_MAX} bytes at the most: some clients are not let in with theirs"
            );
        }
        place
    }

    /// The publication of the will that the client left. It has to be durable before the file may have another in its place.
    pub fn will_publication(&self, client: &str, now_ms: u64) -> Option<Publication> {
        let wills = self.0.wills.lock();
        let standing = wills.standing.get(client).filter(|standing| standing.will.is_some())?;
        match standing.step {
            Step::Published { committed_at } => Some(Publication::Made { committed_at }),
            _ => standing.is_due(now_ms).then_some(Publication::Due),
        }
    }

    /// The client is connected with this will, or with none: one that it left is gone, unless it was due. Gives whether the file has to
    /// be told of it before the client is let in.
    pub fn stand_will(&self, client: &Arc<str>, will: Option<&Arc<Will>>, now_ms: u64) -> Option<u64> {
        // As much of the file's room as what is retained may take, at the most.
        let bytes_max = KEPT_BYTES_MAX.min(self.retained_bytes_max());
        let (mut is_lost, is_kept, save);
        {
            let mut wills = self.0.wills.lock();
            is_lost = false;
            if let Some(due) = wills.standing.get(client).filter(|standing| standing.is_due(now_ms))
                && let Some(due) = due.will.clone()
            {
                is_lost = !wills.push_due(client, &due);
            }
            let has_room = |will: &&Arc<Will>| wills.bytes + size(client, will) <= bytes_max;
            let kept = will.filter(has_room).cloned();
            is_kept = kept.is_some() || will.is_none();
            wills.set(client, kept, Step::There);
            save = (!wills.is_in_file(client)).then(|| self.mark_will_dirty(&mut wills, client, true));
        }
        if is_lost {
            self.lose_will(client);
        }
        if !is_kept && let Some(wills) = self.0.warned.wills_not_kept.more(1) {
            tracing::warn!(
                wills, %client,
                "there are too many bytes of wills: some are not kept over a restart, and not delayed"
            );
        }
        save.or_else(|| self.save_under_way())
    }

    /// The client is gone, and its will waits until `due_ms`, unless the client comes back or its session ends before.
    pub fn leave_will(&self, client: &Arc<str>, will: &Arc<Will>, due_ms: u64) {
        let mut wills = self.0.wills.lock();
        if wills.holds(client, will) {
            wills.set(client, Some(will.clone()), Step::Waiting { due_ms });
            // It is in no log.
            self.mark_will_dirty(&mut wills, client, true);
        } else if !wills.push_due(client, will) {
            drop(wills);
            self.lose_will(client);
        }
    }

    /// Nothing takes a will that is due. To be called with nothing locked.
    fn lose_will(&self, client: &Arc<str>) {
        self.0.counts.wills_lost.fetch_add(1, Ordering::Relaxed);
        if let Some(wills) = self.0.warned.wills_lost.more(1) {
            tracing::warn!(
                wills, %client,
                "the store takes nothing, and there are too many bytes of wills that wait for it: some are lost"
            );
        }
    }

    /// The will is on its way into the log, durable once the watermark has reached `committed_at`.
    pub fn will_published(&self, client: &Arc<str>, will: &Arc<Will>, committed_at: u64) {
        let mut wills = self.0.wills.lock();
        if wills.holds(client, will) {
            wills.set(client, Some(will.clone()), Step::Published { committed_at });
            self.mark_will_dirty(&mut wills, client, false);
        }
    }

    /// The will is gone without being published. Gives the save after which it is gone for good.
    pub fn drop_will(&self, client: &Arc<str>, will: &Arc<Will>) -> Option<u64> {
        let mut wills = self.0.wills.lock();
        if !wills.holds(client, will) {
            return None;
        }
        wills.set(client, None, Step::There);
        (!wills.is_in_file(client)).then(|| self.mark_will_dirty(&mut wills, client, true))
    }

    /// The session of the client is over, and with it ends the delay of a will that waits: section 3.1.3.2.2.
    pub(super) fn end_will_delay(&self, client: &str) {
        let mut wills = self.0.wills.lock();
        if let Some(Standing { step: Step::Waiting { due_ms }, .. }) = wills.standing.get_mut(client) {
            *due_ms = 0;
        }
    }

    /// The watermark at which the next save can take all wills out of the file that are published.
    pub(super) fn wills_durable_at(&self) -> u64 {
        self.0.wills.lock().durable_at()
    }

    fn mark_will_dirty(&self, wills: &mut Wills, client: &Arc<str>, is_urgent: bool) -> u64 {
        wills.dirty.insert(client.clone());
        let mut unsaved = self.0.unsaved.lock();
        if is_urgent && !std::mem::replace(&mut unsaved.is_urgent, true) {
            self.0.notify.notify_one();
        }
        unsaved.number
    }

    /// Publishes the wills whose time has come, with what gives the watermark at which each is durable; until there is no room.
    pub(super) fn publish_wills(&self, now_ms: u64, publish: impl Fn(&Message) -> Option<u64>) {
        let due = self.0.wills.lock().all_due(now_ms);
        let published = due.into_iter().map_while(|(client, will)| {
            let committed_at = publish(&message(&client, &will, now_ms))?;
            Some(((client, will), committed_at))
        });
        let published: Vec<_> = published.collect();
        if published.is_empty() {
            return;
        }
        self.0.wills.lock().remove_due(&published);
        for ((client, will), committed_at) in &published {
            self.will_published(client, will, *committed_at);
        }
        // Their clients may wait for it.
        self.0.saved.send_modify(|_| {});
    }
}

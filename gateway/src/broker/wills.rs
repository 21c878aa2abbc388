//! Wills, from the CONNECT to their publication. `sessions.redb` has them as well, so that a
//! restart forgets none.
//!
//! ```text
//!   CONNECT ─▶ there ─┬─ DISCONNECT, the client comes back ─▶ gone
//!                     ├─ the connection ends ─▶ published: its record is in the intake ─ committed ─▶ gone
//!                     ├─ its delay ─▶ waits ─ due, or the session ends ─▶ published
//!                     └─ a restart ─▶ returning ─ the client does not come back in time ─▶ published
//! ```
//! A stop publishes no will: the clients come back to the gateway that is started next, and MQTT 5
//! (section 3.1.2.5) lets a server put the publication off until then. Crash story: the file has a
//! will before CONNACK, and loses it once its record is durable; so a crash between the two
//! publishes it twice at worst, and never not at all. A client that comes back waits for that
//! record, as its next will, or none, takes the place of that one in the file.
//!
//! Limits: one will for each client, [`CONNECTED_BYTES_MAX`] of those that are connected: one more
//! is not let in. [`KEPT_BYTES_MAX`] in all, less where `sessions.redb` has little room. One that
//! finds no room is published when its connection ends, without a delay, and a restart forgets it.
//! While the store takes nothing, [`DUE_BYTES_MAX`](super::standing_wills::DUE_BYTES_MAX) of such
//! wills wait; what finds no room there is lost, and counted.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Broker,
    message::Message,
    standing_wills::{Standing, Step, Wills, message, size},
};
use crate::mqtt::connect::Will;

/// Bytes of all wills that are kept, of which there are no more than clients.
pub const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of the wills of clients that are connected, kept or not.
pub const CONNECTED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The room that the will of a client takes while it is connected.
pub type WillPermit = OwnedSemaphorePermit;

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

impl Broker {
    /// Room for a client's will, for as long as it is connected. `None` if there is none: the
    /// client cannot be let in.
    pub fn admit_will(&self, client: &str, will: &Will) -> Option<WillPermit> {
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

    /// The publication of the will that the client left. It has to be durable before the file may
    /// have another in its place.
    pub fn will_publication(&self, client: &str, now_ms: u64) -> Option<Publication> {
        let wills = self.0.wills.lock();
        let standing = wills.standing.get(client).filter(|standing| standing.will.is_some())?;
        match standing.step {
            Step::Published { committed_at } => Some(Publication::Made { committed_at }),
            _ => standing.is_due(now_ms).then_some(Publication::Due),
        }
    }

    /// The client is connected with this will, or with none: one that it left is gone, unless it
    /// was due. Gives whether the file has to be told of it before the client is let in.
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

    /// The client is gone, and its will waits until `due_ms`, unless the client comes back or its
    /// session ends before.
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

    /// The session of the client is over, and with it ends the delay of a will that waits: section
    /// 3.1.3.2.2.
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

    /// Publishes the wills whose time has come, with what gives the watermark at which each is
    /// durable; until there is no room.
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

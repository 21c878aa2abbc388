//! What outlives the process: gathered for a save, and restored at the start.
//!
//! A save has what the sessions were when it was gathered, and the position of the log up to which
//! messages were routed then. Behind one that fails comes one that says everything: nothing is
//! forgotten, nothing piles up however long saving fails, and the steps of QoS 2 wait for it.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Broker,
    mailbox::{InFile, Mailbox, State},
    message::Message,
    outbound::Outbound,
    retained::Outcome,
    subscription::{Options, Subscription},
};
use crate::{
    clock::timeline::STEADY_ORIGIN_MS,
    store::{KeptSessions, SessionChange},
};

/// A save on its way.
#[derive(Debug)]
pub(super) struct Save {
    /// What the file is to say.
    pub changes: Vec<SessionChange>,
    mailboxes: Vec<Arc<Mailbox>>,
    number: u64,
}

impl Broker {
    /// Takes up what was kept, with times that count the machine as off for `off_ms` before its
    /// boot.
    pub(super) fn restore(&self, kept: KeptSessions, now_ms: u64, off_ms: u64) {
        self.0.off_ms.store(off_ms, Ordering::Relaxed);
        self.0.unsaved.lock().is_unknown |= kept.is_old;
        let (messages_max, bytes_max) = (self.0.settings.retained_messages_max, self.retained_bytes_max());
        let mut sessions = self.0.sessions.lock();
        let mut tree = self.0.tree.write();
        let mut left_out = kept.left_out;
        for row in kept.retained {
            let message = Arc::new(Message::from(row));
            let put = tree.retained.put(&message, messages_max, bytes_max);
            left_out += u64::from(matches!(put, Outcome::NoRoom { .. }));
        }
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "more was kept for local subscribers than there is room for: that is lost"
            );
            self.0.counts.queue_full.fetch_add(left_out, Ordering::Relaxed);
            // The next save says all there is, and the file holds the rest no more.
            self.note_not_saved();
        }
        let mut wills = self.0.wills.lock();
        kept.wills.into_iter().for_each(|(client, row)| wills.restore(client.into(), row, now_ms));
        drop(wills);
        for (client, row, owed) in kept.sessions {
            // Or the next start would take it for connected until then; a will is kept apart from
            // it now.
            let was_connected = row.away_since_ms.is_none() || row.will.is_some();
            let state = State {
                outbound: Outbound::restored(owed, &self.0.all_pending),
                identity: row.identity.as_str().into(),
                expiry_s: row.expiry_s,
                // Whoever was connected when the process ended is away since then.
                away_since_ms: Some(row.away_since_ms.unwrap_or(now_ms)),
                is_changed: was_connected,
                in_file: Some(InFile::of(&row)),
                ..State::default()
            };
            let client: Arc<str> = client.into();
            let mailbox = Arc::new(Mailbox::new(client.clone(), state));
            for subscribed in row.subscriptions {
                let subscription = Subscription { options: Options(subscribed.options), id: subscribed.id };
                tree.insert(&subscribed.filter, &mailbox, subscription);
                mailbox.state().subscriptions.insert(subscribed.filter.into(), subscription);
            }
            if !mailbox.state().is_bare() {
                self.count_subscriber(&mailbox);
            }
            if was_connected {
                self.mark_dirty(&mailbox, false);
            }
            sessions.insert(client, mailbox);
        }
    }

    /// The wall clock may tell by now that the machine was off for longer before its boot: what is
    /// from before is as much older.
    pub(super) fn note_off(&self, off_ms: u64) {
        let older_ms = off_ms.saturating_sub(self.0.off_ms.fetch_max(off_ms, Ordering::Relaxed));
        if older_ms == 0 {
            return;
        }
        let age = |ms: &mut u64| {
            if *ms <= STEADY_ORIGIN_MS as u64 {
                *ms = ms.saturating_sub(older_ms);
            }
        };
        let age_message = |message: &mut Arc<Message>| {
            if message.expiry_s.is_some() {
                age(&mut Arc::make_mut(message).received_ms);
            }
        };
        self.0.tree.write().retained.messages_mut().for_each(age_message);
        for mailbox in self.0.sessions.lock().values() {
            let mut state = mailbox.state();
            state.away_since_ms.iter_mut().for_each(age);
            state.outbound.messages_mut().for_each(age_message);
        }
    }

    /// Whether a save cannot wait.
    pub(super) fn is_save_urgent(&self) -> bool {
        self.0.unsaved.lock().is_urgent
    }

    /// Whether the file does not say what it should.
    pub(super) fn has_unsaved(&self) -> bool {
        // In this order, as everywhere.
        let is_saved = self.0.wills.lock().is_saved();
        let unsaved = self.0.unsaved.lock();
        unsaved.is_unknown
            || !(unsaved.dirty.is_empty() && unsaved.changes.is_empty() && unsaved.retained.is_empty())
            || !is_saved
    }

    /// Gathers what the file is to be told; the log is durable up to the ticket `committed`.
    pub(super) fn gather(&self, committed: u64) -> Save {
        let (mut changes, mut dirty, mut retained, number, is_unknown) = {
            let mut unsaved = self.0.unsaved.lock();
            unsaved.is_urgent = false;
            self.0.unsaved_bytes.store(0, Ordering::Relaxed);
            let number = unsaved.number;
            unsaved.number += 1;
            (
                std::mem::take(&mut unsaved.changes),
                std::mem::take(&mut unsaved.dirty),
                std::mem::take(&mut unsaved.retained),
                number,
                std::mem::take(&mut unsaved.is_unknown),
            )
        };
        if is_unknown {
            changes = vec![SessionChange::Clear];
            dirty = self.0.sessions.lock().values().cloned().collect();
            dirty.iter().for_each(|mailbox| mailbox.state().forget_file());
            retained = self.0.tree.read().retained.topics().cloned().collect();
            self.0.wills.lock().forget_file();
        }
        self.0.wills.lock().changes(committed, &mut changes);
        {
            let tree = self.0.tree.read();
            for topic in retained {
                let row = tree.retained.get(&topic).map(|message| message.row());
                changes.push(SessionChange::Retained(topic.into(), row));
            }
        }
        for mailbox in &dirty {
            mailbox.clean();
            gather_session(mailbox, &mut changes);
        }
        Save { changes, mailboxes: dirty, number }
    }

    /// The save is durable.
    pub(super) fn note_saved(&self, save: Save) {
        for mailbox in save.mailboxes {
            let waited = {
                let mut state = mailbox.state();
                let waited = state.outbound.waits_for_file();
                state.outbound.saved();
                waited
            };
            if waited {
                mailbox.notify();
            }
        }
        self.0.saved.send_replace(save.number);
    }

    /// The save failed.
    pub(super) fn note_not_saved(&self) {
        self.0.unsaved.lock().is_unknown = true;
        // Those that wait for it wait no longer.
        self.0.saved.send_modify(|_| {});
    }
}

fn gather_session(mailbox: &Arc<Mailbox>, changes: &mut Vec<SessionChange>) {
    let mut state = mailbox.state();
    if !state.outbound.keeps() {
        if state.in_file.take().is_some() {
            // It ends with its connection, and so with a crash.
            changes.push(SessionChange::SessionGone(mailbox.client().to_string()));
        }
        return;
    }
    if std::mem::take(&mut state.is_changed) || state.in_file.is_none() {
        let row = state.row();
        let told = Some(InFile::of(&row));
        if std::mem::replace(&mut state.in_file, told) != told {
            changes.push(SessionChange::Session(mailbox.client().to_string(), row));
        }
    }
    state.outbound.changes(mailbox.client(), changes);
}

//! Sessions of local subscribers: begun with the first SUBSCRIBE, left when the connection ends, taken up by the next one, ended.
//!
//! Limits: `sessions_max`; one more ends the one whose client is away longest. A will that waits belongs to its session: it is published
//! when its delay is over or the session ends, whichever is first, and not at all if the client comes back before.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Bus, Message,
    mailbox::{self, Mailbox},
    outbound::Outbound,
    replay::Replays,
};
use crate::store::{SessionChange, WillRow};

impl Bus {
    /// The session that `client` comes back to; with `is_clean`, and where its time is over, there is none any more.
    #[must_use]
    pub fn resume(&self, client: &str, is_clean: bool, now_ms: u64) -> Option<Arc<Mailbox>> {
        let mailbox = self.0.sessions.lock().get(client).cloned()?;
        let is_over = mailbox.state().is_over(now_ms);
        if is_clean || is_over {
            self.end(&mailbox);
            return None;
        }
        Some(mailbox)
    }

    /// Whether `client` has a session here.
    #[must_use]
    pub fn knows(&self, client: &str) -> bool {
        self.0.sessions.lock().contains_key(client)
    }

    /// Whether the session of `client` is another identity's.
    #[must_use]
    pub fn is_foreign(&self, client: &str, identity: &str, now_ms: u64) -> bool {
        let session = self.0.sessions.lock().get(client).cloned();
        session.is_some_and(|mailbox| **mailbox.identity() != *identity && !mailbox.state().is_over(now_ms))
    }

    /// Makes a session for a client that has none; `None` if there are as many as there may be.
    pub fn begin(&self, client: &Arc<str>, identity: &Arc<str>) -> Option<Arc<Mailbox>> {
        let mut sessions = self.0.sessions.lock();
        if sessions.len() >= self.0.settings.sessions_max && !self.drop_longest_away(&mut sessions) {
            return None;
        }
        let mailbox = Arc::new(Mailbox::new(client.clone(), identity.clone(), mailbox::State::default()));
        sessions.insert(client.clone(), mailbox.clone());
        self.0.session_count.store(sessions.len(), Ordering::Relaxed);
        Some(mailbox)
    }

    /// A connection goes on with the session.
    pub fn attach(&self, mailbox: &Arc<Mailbox>, receive_max: u16, expiry_s: u32) {
        {
            let mut state = mailbox.state();
            state.outbound.attach(receive_max, expiry_s > 0);
            (state.expiry_s, state.away_since_ms, state.will, state.is_changed) =
                (expiry_s, None, None, true);
        }
        if expiry_s > 0 {
            self.soil(mailbox, false);
        }
        mailbox.ring();
        self.arrived();
    }

    /// The connection is over. The session stays for `expiry_s` seconds, if there is something to keep.
    pub fn detach(&self, mailbox: &Arc<Mailbox>, expiry_s: u32, now_ms: u64) {
        if expiry_s == 0 {
            return self.end(mailbox);
        }
        {
            let mut state = mailbox.state();
            state.outbound.detach(true);
            (state.expiry_s, state.away_since_ms, state.is_changed) = (expiry_s, Some(now_ms), true);
        }
        self.soil(mailbox, false);
    }

    /// The client is gone, and its will waits until `due_ms`, unless it comes back before.
    pub fn leave_will(&self, mailbox: &Arc<Mailbox>, message: Message, due_ms: u64) {
        {
            let mut state = mailbox.state();
            state.will = Some(WillRow { due_ms, message: message.row() });
            state.is_changed = true;
        }
        // It is in no log.
        self.soil(mailbox, true);
    }

    /// The session is over: nobody is owed anything any more.
    pub fn end(&self, mailbox: &Arc<Mailbox>) {
        {
            let mut sessions = self.0.sessions.lock();
            let is_this = |known: &Arc<Mailbox>| Arc::ptr_eq(known, mailbox);
            if sessions.get(mailbox.client()).is_some_and(is_this) {
                sessions.remove(mailbox.client());
            }
            self.0.session_count.store(sessions.len(), Ordering::Relaxed);
        }
        self.forget(mailbox);
    }

    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) {
        let (filters, in_file) = {
            let mut state = mailbox.state();
            state.outbound = Outbound::new(false);
            state.replays = Replays::default();
            if let Some(will) = state.will.take() {
                // With the session ends the will's delay (section 3.1.3.2.2).
                self.0.wills.lock().push_back(will.message.into());
            }
            (std::mem::take(&mut state.subscriptions), std::mem::take(&mut state.in_file))
        };
        let mut takers = self.0.takers.write();
        for filter in filters.keys() {
            takers.remove(filter, mailbox);
        }
        drop(takers);
        if in_file {
            let mut unsaved = self.0.unsaved.lock();
            unsaved.dirty.retain(|dirty| !Arc::ptr_eq(dirty, mailbox));
            unsaved.changes.push(SessionChange::SessionGone(mailbox.client().to_string()));
        }
    }

    /// Room for one more, at the cost of the session whose client is away longest.
    fn drop_longest_away(&self, sessions: &mut HashMap<Arc<str>, Arc<Mailbox>>) -> bool {
        let away = sessions.values().filter_map(|mailbox| Some((mailbox.state().away_since_ms?, mailbox)));
        let Some(longest) = away.min_by_key(|(since, _)| *since).map(|(_, mailbox)| mailbox.clone()) else {
            return false;
        };
        tracing::warn!(client = %longest.client(), "there are too many sessions: the one away longest is ended");
        sessions.remove(longest.client());
        self.forget(&longest);
        true
    }

    /// Moves the wills whose delay is over to those to be published.
    pub(super) fn wake_wills(&self, now_ms: u64) {
        let sessions = self.0.sessions.lock();
        for mailbox in sessions.values() {
            let mut state = mailbox.state();
            if let Some(will) = state.will.take_if(|will| will.due_ms <= now_ms) {
                state.is_changed = true;
                self.0.wills.lock().push_back(will.message.into());
                drop(state);
                self.soil(mailbox, false);
            }
        }
    }

    /// Ends the sessions whose time is over.
    pub(super) fn expire_sessions(&self, now_ms: u64) {
        let over: Vec<_> = {
            let mut sessions = self.0.sessions.lock();
            let over: Vec<_> =
                sessions.values().filter(|mailbox| mailbox.state().is_over(now_ms)).cloned().collect();
            over.iter().for_each(|mailbox| drop(sessions.remove(mailbox.client())));
            self.0.session_count.store(sessions.len(), Ordering::Relaxed);
            over
        };
        for mailbox in over {
            tracing::debug!(client = %mailbox.client(), "a session's time is over");
            self.forget(&mailbox);
        }
    }
}

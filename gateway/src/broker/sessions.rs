//! Sessions: every one that outlives its connection, whether its client subscribes or only
//! publishes, and those of all who subscribe. Begun with the CONNECT, or with the first SUBSCRIBE
//! if it ends with its connection; left when that ends, taken up by the next one, ended.
//!
//! ```text
//!   CONNECT ─▶ resume ─┬─ there ──────────────────────▶ attach ─ save, if the file says otherwise ─▶ CONNACK
//!                      └─ none, over, clean ─▶ begin ─▶   ▲
//!   the end of the connection ─▶ detach ─▶ away ──────────┘   expiry, room, clean start ─▶ end: nothing is owed, ids are forgotten
//! ```
//! "Session present" is answered from these alone, and whose a client id is as well. Crash story: a
//! client is told of a session once `sessions.redb` has it, and that a new one begins once that has
//! lost the one before; so a crash brings back what the client was told. One that comes back
//! unchanged costs no save.
//!
//! Limits: `sessions_max`; one more ends the one whose client is away longest.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use super::{
    Broker,
    mailbox::{Mailbox, State},
    outbound::Outbound,
    replay::Replays,
};
use crate::store::SessionChange;

/// What a client comes back to.
#[derive(Debug, Default)]
pub struct Resumed {
    /// The session that is there for it.
    pub mailbox: Option<Arc<Mailbox>>,
    /// It is the one that the client left.
    pub present: bool,
    /// The save after which the one that the client left is gone for good.
    pub save: Option<u64>,
}

impl Broker {
    /// The session that `client`, which is `identity`, comes back to, or that it ends by coming:
    /// with `is_clean`, and where its time is over. It is not away from now on. `expiry_s` is how
    /// long the client wants the next one to outlive its connection.
    #[must_use]
    pub fn resume(
        &self,
        client: &Arc<str>,
        identity: &Arc<str>,
        is_clean: bool,
        expiry_s: u32,
        now_ms: u64,
    ) -> Resumed {
        // Locked throughout: nobody ends it while its client takes it up.
        let sessions = self.0.sessions.lock();
        let Some(mailbox) = sessions.get(client).cloned() else { return Resumed::default() };
        let mut state = mailbox.state();
        // Whose id it is by name comes to a session that somebody else began with it: that one is
        // over.
        let present = !is_clean && !state.is_over(now_ms) && !state.is_of_another(identity);
        // What has nothing to be forgotten but packet ids is a new session as it is, and the file
        // need not be told.
        let is_new = !present && expiry_s > 0 && state.is_bare();
        if !present && !is_new {
            drop(state);
            drop(sessions);
            return Resumed { save: self.end(&mailbox), ..Resumed::default() };
        }
        (state.away_since_ms, state.is_changed) = (None, true);
        state.identity = identity.clone();
        drop(state);
        if is_new {
            self.end_packet_ids(client);
            self.end_will_delay(client);
        }
        Resumed { mailbox: Some(mailbox), present, save: None }
    }

    /// Whether the session of `client` is another identity's. What nobody in particular has may be
    /// taken over by somebody: else no device would get in again once users are introduced.
    #[must_use]
    pub fn is_foreign(&self, client: &str, identity: &str, now_ms: u64) -> bool {
        let Some(mailbox) = self.0.sessions.lock().get(client).cloned() else { return false };
        let state = mailbox.state();
        state.is_of_another(identity) && !state.is_over(now_ms)
    }

    /// Makes a session for a client that has none; `None` if there are as many as there may be.
    pub fn begin(&self, client: &Arc<str>, identity: &Arc<str>) -> Option<Arc<Mailbox>> {
        let mut sessions = self.0.sessions.lock();
        let mut ended = None;
        if sessions.len() >= self.0.settings.sessions_max {
            ended = Some(self.drop_longest_away(&mut sessions)?);
        }
        let state = State {
            outbound: Outbound::new(false, &self.0.all_pending),
            identity: identity.clone(),
            ..State::default()
        };
        let mailbox = Arc::new(Mailbox::new(client.clone(), state));
        sessions.insert(client.clone(), mailbox.clone());
        drop(sessions);
        if let Some(ended) = ended
            && let Some(sessions) = self.0.warned.sessions_ended.more(1)
        {
            tracing::warn!(
                sessions, client = %ended.client(),
                "there are too many sessions: those away longest are ended"
            );
        }
        Some(mailbox)
    }

    pub(super) fn count_subscriber(&self, mailbox: &Mailbox) {
        if mailbox.set_subscriber(true) {
            self.0.subscriber_count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection goes on with the session, or begins it. Gives the save that its client has to
    /// be told after, if there is one: none if the file says all that matters, as of a client that
    /// comes back unchanged.
    pub fn attach(
        &self,
        mailbox: &Arc<Mailbox>,
        receive_max: u16,
        expiry_s: u32,
        now_ms: u64,
    ) -> Option<u64> {
        let is_in_file = {
            let mut state = mailbox.state();
            state.outbound.attach(receive_max, expiry_s > 0);
            (state.expiry_s, state.away_since_ms, state.is_changed) = (expiry_s, None, true);
            state.is_in_file(now_ms)
        };
        let save = (expiry_s > 0 || !is_in_file).then(|| self.mark_dirty(mailbox, !is_in_file));
        mailbox.notify();
        if mailbox.is_subscriber() {
            self.note_arrival();
        }
        if is_in_file { self.save_under_way() } else { save }
    }

    /// The connection is over. The session stays for `expiry_s` seconds. Gives the save after which
    /// a session that is over stays over, if the file has it.
    pub fn detach(&self, mailbox: &Arc<Mailbox>, expiry_s: u32, now_ms: u64) -> Option<u64> {
        if expiry_s == 0 || mailbox.is_revoked() {
            return self.end(mailbox);
        }
        {
            let mut state = mailbox.state();
            state.outbound.detach(true);
            (state.expiry_s, state.away_since_ms, state.is_changed) = (expiry_s, Some(now_ms), true);
        }
        self.note_progress(mailbox);
        self.mark_dirty(mailbox, false);
        None
    }

    /// The session is over: nobody is owed anything any more. Gives the save that has it, which its
    /// client waits for, if the file knows of the session.
    pub fn end(&self, mailbox: &Arc<Mailbox>) -> Option<u64> {
        {
            let mut sessions = self.0.sessions.lock();
            let is_this = |known: &Arc<Mailbox>| Arc::ptr_eq(known, mailbox);
            if sessions.get(mailbox.client()).is_some_and(is_this) {
                sessions.remove(mailbox.client());
            }
        }
        let save = self.forget(mailbox)?;
        self.urge();
        Some(save)
    }

    pub(super) fn forget(&self, mailbox: &Arc<Mailbox>) -> Option<u64> {
        if mailbox.set_subscriber(false) {
            self.0.subscriber_count.fetch_sub(1, Ordering::Relaxed);
        }
        self.end_packet_ids(mailbox.client());
        self.end_will_delay(mailbox.client());
        let (filters, in_file) = {
            let mut state = mailbox.state();
            state.outbound = Outbound::new(false, &self.0.all_pending);
            state.replays = Replays::default();
            (std::mem::take(&mut state.subscriptions), std::mem::take(&mut state.in_file))
        };
        self.note_progress(mailbox);
        if !filters.is_empty() {
            let mut tree = self.0.tree.write();
            for filter in filters.keys() {
                tree.remove(filter, mailbox);
            }
        }
        in_file?;
        let mut unsaved = self.0.unsaved.lock();
        unsaved.changes.push(SessionChange::SessionGone(mailbox.client().to_string()));
        Some(unsaved.number)
    }

    /// Room for one more, at the cost of the session whose client is away longest; of one that is
    /// nothing but its being there, if there is any: clients that only come and go push each other
    /// out, and nobody who is owed something. `None` if nobody is away.
    fn drop_longest_away(&self, sessions: &mut HashMap<Arc<str>, Arc<Mailbox>>) -> Option<Arc<Mailbox>> {
        let away = sessions.values().filter_map(|mailbox| {
            let state = mailbox.state();
            Some(((!state.is_bare(), state.away_since_ms?), mailbox))
        });
        let longest = away.min_by_key(|(rank, _)| *rank).map(|(_, mailbox)| mailbox.clone())?;
        sessions.remove(longest.client());
        self.forget(&longest);
        Some(longest)
    }

    /// Ends the sessions whose time is over.
    pub(super) fn expire_sessions(&self, now_ms: u64) {
        let over: Vec<_> = {
            let mut sessions = self.0.sessions.lock();
            let over: Vec<_> =
                sessions.values().filter(|mailbox| mailbox.state().is_over(now_ms)).cloned().collect();
            over.iter().for_each(|mailbox| drop(sessions.remove(mailbox.client())));
            over
        };
        for mailbox in over {
            tracing::debug!(client = %mailbox.client(), "a session's time is over");
            self.forget(&mailbox);
        }
    }
}

//! What clients were promised, by a book that knows nothing of the gateway: their sessions, what
//! these are owed, and wills.
//!
//! Time is in milliseconds from the beginning. All steps are so long, and all ends so far from
//! them, that what the test itself takes does not matter.

use std::collections::{BTreeMap, BTreeSet};

/// How long after a start a client may take to come back.
pub const GRACE_MS: u64 = 30_000;

/// A session that outlives its connection.
#[derive(Debug, Clone)]
pub struct Session {
    pub owner: &'static str,
    pub expiry_s: u32,
    /// Since when its client is away, at the earliest and at the latest: a kill may have lost it.
    pub away: Option<(u64, u64)>,
    /// The QoS of its subscription.
    pub subscribed: Option<u8>,
    /// Messages that are to come, with the QoS of their delivery.
    pub owed: BTreeMap<String, u8>,
    /// Those that may come again.
    pub may_come: BTreeSet<String>,
    /// Packet ids that the client has in use, with their messages.
    pub in_use: BTreeMap<u16, String>,
}

/// Whether a session is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    Yes,
    No,
    Perhaps,
}

/// How often something is stored.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub min: usize,
    pub max: usize,
}

/// A will that is not published.
#[derive(Debug, Clone)]
pub struct Will {
    pub payload: String,
    pub delay_ms: u64,
    /// When it is to be published, at the earliest and at the latest: a kill may have lost that its
    /// client had gone before. `None` while its client is connected.
    pub due_ms: Option<(u64, u64)>,
    /// The session's end is its delay's end.
    pub ends_with_session: bool,
    /// A kill may have lost that its client had gone before: then it is known as one whose client
    /// was connected.
    pub is_unsure: bool,
}

#[derive(Debug, Default)]
pub struct Reference {
    pub now_ms: u64,
    pub sessions: BTreeMap<&'static str, Session>,
    pub wills: BTreeMap<&'static str, Will>,
    /// What a route stores.
    pub stored: BTreeMap<String, Times>,
    pub kills: usize,
    pub retained: Option<String>,
    last: u32,
}

impl Session {
    pub fn new(owner: &'static str, expiry_s: u32) -> Self {
        Session {
            owner,
            expiry_s,
            away: None,
            subscribed: None,
            owed: BTreeMap::new(),
            may_come: BTreeSet::new(),
            in_use: BTreeMap::new(),
        }
    }

    /// The connection is over, and with it the messages of QoS 0 that are under way.
    fn forgo(&mut self) {
        let unsure: Vec<_> = self.owed.extract_if(.., |_, qos| *qos == 0).collect();
        self.may_come.extend(unsure.into_iter().map(|(payload, _)| payload));
    }

    fn is_there(&self, now_ms: u64) -> There {
        let Some((earliest, latest)) = self.away else { return There::Yes };
        let is_over =
            |since: u64| self.expiry_s != u32::MAX && now_ms >= since + u64::from(self.expiry_s) * 1000;
        match (is_over(earliest), is_over(latest)) {
            (false, _) => There::Yes,
            (true, true) => There::No,
            (true, false) => There::Perhaps,
        }
    }
}

impl Reference {
    /// A payload that there was not before.
    pub fn payload(&mut self, kind: &str) -> String {
        self.last += 1;
        format!("{kind}{}", self.last)
    }

    pub fn session(&self, id: &str) -> There {
        self.sessions.get(id).map_or(There::No, |session| session.is_there(self.now_ms))
    }

    pub fn wants(&mut self, payload: &str, min: usize, max: usize) {
        self.stored.insert(payload.to_owned(), Times { min, max });
    }

    /// It was acknowledged: stored, and owed to whoever subscribes.
    pub fn acknowledged(&mut self, payload: &str, qos: u8) {
        let now_ms = self.now_ms;
        for session in self.sessions.values_mut() {
            match (session.subscribed, session.is_there(now_ms)) {
                // Without an acknowledgement only who is connected is sure to get it.
                (Some(subscribed), There::Yes) if qos.min(subscribed) == 0 && session.away.is_some() => {
                    session.may_come.insert(payload.to_owned());
                }
                (Some(subscribed), There::Yes) => {
                    session.owed.insert(payload.to_owned(), qos.min(subscribed));
                }
                // It depends on a session of which nobody knows.
                (Some(_), There::Perhaps) => {
                    session.may_come.insert(payload.to_owned());
                }
                _ => {}
            }
        }
    }

    fn publish_will(&mut self, id: &str) -> Option<String> {
        let will = self.wills.remove(id)?;
        let max = 1 + self.kills;
        self.wants(&will.payload, 1, max);
        Some(will.payload)
    }

    /// The connection of `id` ended without a word. Gives the will that is published at once.
    pub fn lost(&mut self, id: &'static str) -> Option<String> {
        let now_ms = self.now_ms;
        let expiry_ms = self.sessions.get(id).map_or(0, |session| u64::from(session.expiry_s) * 1000);
        let mut published = None;
        if let Some(will) = self.wills.get_mut(id) {
            let delay_ms = will.delay_ms.min(expiry_ms);
            if delay_ms == 0 {
                published = self.publish_will(id);
            } else {
                let due_ms = now_ms + delay_ms;
                (will.due_ms, will.ends_with_session) = (Some((due_ms, due_ms)), true);
            }
        }
        self.away(id);
        published
    }

    pub fn away(&mut self, id: &'static str) {
        match self.sessions.get_mut(id) {
            Some(session) if session.expiry_s == 0 => drop(self.sessions.remove(id)),
            Some(session) => {
                session.away = Some((self.now_ms, self.now_ms));
                session.forgo();
            }
            None => {}
        }
    }

    /// DISCONNECT.
    pub fn left(&mut self, id: &'static str) {
        if let Some(will) = self.wills.remove(id) {
            self.wants(&will.payload, 0, 0);
        }
        self.away(id);
    }

    /// The client is let in, with or without the session that it left.
    pub fn back(&mut self, id: &'static str, present: bool) {
        if let Some(Will { payload, due_ms, ends_with_session, is_unsure, .. }) = self.wills.get(id).cloned()
        {
            let (earliest, _) = due_ms.unwrap_or((u64::MAX, u64::MAX));
            let is_published = ends_with_session && !present;
            if is_published && !is_unsure {
                self.publish_will(id);
            } else if is_published || earliest <= self.now_ms {
                self.wants(&payload, 0, 1 + self.kills);
            } else {
                self.wants(&payload, 0, 0);
            }
            self.wills.remove(id);
        }
        if !present {
            self.sessions.remove(id);
        }
    }

    /// Gives the wills that are published by now.
    pub fn publish_due(&mut self) -> Vec<String> {
        let is_due = |will: &Will| will.due_ms.is_some_and(|(_, latest)| latest <= self.now_ms);
        let due: Vec<_> = self.wills.iter().filter(|(_, will)| is_due(will)).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|id| self.publish_will(id)).collect()
    }

    /// The gateway has ended, and is started again `down_ms` later.
    pub fn restarted(&mut self, is_kill: bool, down_ms: u64) {
        let stopped_ms = self.now_ms;
        self.now_ms += down_ms;
        self.kills += usize::from(is_kill);
        for session in self.sessions.values_mut() {
            session.forgo();
            session.away = match (session.away, is_kill) {
                (None, false) => Some((stopped_ms, stopped_ms)),
                (None, true) => Some((self.now_ms, self.now_ms)),
                // It may not have been saved when the client went.
                (Some((earliest, _)), true) => Some((earliest, self.now_ms)),
                (away, false) => away,
            };
        }
        self.sessions.retain(|_, session| session.expiry_s > 0);
        for will in self.wills.values_mut() {
            let returns_ms = self.now_ms + will.delay_ms.max(GRACE_MS);
            match &mut will.due_ms {
                Some((_, latest)) if will.ends_with_session => {
                    will.is_unsure |= is_kill;
                    if will.is_unsure {
                        *latest = returns_ms.max(*latest);
                    }
                }
                // Its client has as much time to come back after each start.
                due_ms => *due_ms = Some((returns_ms, returns_ms)),
            }
        }
    }
}

//! Who is connected, and whose session is kept while its client is away.
//!
//! ```text
//!   enter(id) ──▶ Seat ──drop──▶ gone
//!      └ the same id again: the first is told to leave, and the second waits for its `gone`
//! ```
//! So a client's will is always stored before what it publishes on its next connection. Limits: `connections_max` seats,
//! [`SESSIONS_MAX`] kept sessions, the oldest of which is forgotten; only "session present" depends on them, for the QoS 2
//! packet ids are the store's. One lock, taken when a client comes and goes.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{error::Fault, settings::SESSIONS_MAX};

/// Tells a connection to leave.
#[derive(Debug, Clone)]
pub struct Kick {
    token: CancellationToken,
    /// Set before the token is cancelled; not by the gateway's stop.
    why: Arc<OnceLock<Fault>>,
}

impl Kick {
    /// One that the gateway's stop triggers.
    #[must_use]
    pub fn new(shutdown: &CancellationToken) -> Self {
        Kick { token: shutdown.child_token(), why: Arc::default() }
    }

    /// Triggered by the stop, by another connection of the same client, and by those that came later while it waited.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Why to leave, if it was triggered.
    #[must_use]
    pub fn cause(&self) -> Option<Fault> {
        let is_told = self.token.is_cancelled();
        is_told.then(|| self.why.get().copied().unwrap_or(Fault::Stopping))
    }

    /// Tells the connection to leave because of `fault`; the first one stays.
    pub fn leave(&self, fault: Fault) {
        let _ = self.why.set(fault);
        self.token.cancel();
    }
}

/// What is known of a client's session while it is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remembered {
    /// It is kept.
    Kept,
    /// It was kept, and its time is over.
    Expired,
    /// Nothing, perhaps because the gateway was started since.
    Unknown,
}

/// All clients of all listeners.
#[derive(Debug)]
pub struct Registry {
    connections_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    serial: u64,
    seats: HashMap<Arc<str>, Seated>,
    kept: HashMap<Arc<str>, Kept>,
    /// By age, with the serial that says whether the entry is still meant.
    kept_order: VecDeque<(Arc<str>, u64)>,
}

#[derive(Debug)]
struct Seated {
    serial: u64,
    kick: Kick,
    gone: CancellationToken,
    owner: Arc<str>,
}

#[derive(Debug)]
struct Kept {
    serial: u64,
    owner: Arc<str>,
    /// `None` is for ever.
    until: Option<Instant>,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Registry {
    /// One without clients.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Registry { connections_max, state: Mutex::default() }
    }

    /// Gives `client`, whose identity is `owner`, a seat, and tells the connection that had it to leave: wait for
    /// [`Seat::predecessor`].
    ///
    /// # Errors
    /// [`Fault::Busy`]: all seats are taken. [`Fault::ForeignClientId`]: the client id's session, connected or kept, is
    /// another identity's.
    pub fn enter(
        self: &Arc<Self>,
        client: Arc<str>,
        owner: &Arc<str>,
        kick: Kick,
        now: Instant,
    ) -> Result<Seat, Fault> {
        let mut state = self.state.lock();
        let seated = state.seats.get(&client).is_some_and(|seated| seated.owner != *owner);
        let kept = state.kept.get(&client).is_some_and(|kept| kept.owner != *owner && !kept.is_over(now));
        if seated || kept {
            return Err(Fault::ForeignClientId);
        }
        if state.seats.len() >= self.connections_max && !state.seats.contains_key(&client) {
            return Err(Fault::Busy);
        }
        state.serial += 1;
        let serial = state.serial;
        let gone = CancellationToken::new();
        let before = state
            .seats
            .insert(client.clone(), Seated { serial, kick, gone: gone.clone(), owner: owner.clone() });
        drop(state);
        let predecessor = before.map(|before| {
            before.kick.leave(Fault::TakenOver);
            before.gone
        });
        Ok(Seat { registry: self.clone(), client, serial, gone, predecessor })
    }

    /// What is known of the session of `client`, which is connected from now on: it is kept no more.
    pub fn resume(&self, client: &str, now: Instant) -> Remembered {
        match self.state.lock().kept.remove(client) {
            None => Remembered::Unknown,
            Some(kept) if kept.is_over(now) => Remembered::Expired,
            Some(_) => Remembered::Kept,
        }
    }

    /// Keeps the session of `client`, which is `owner`'s, for `expiry_s` seconds; `u32::MAX` is for ever.
    pub fn keep(&self, client: &Arc<str>, owner: &Arc<str>, expiry_s: u32, now: Instant) {
        let until = (expiry_s != u32::MAX).then(|| now + Duration::from_secs(expiry_s.into()));
        let mut state = self.state.lock();
        state.serial += 1;
        let serial = state.serial;
        state.kept.insert(client.clone(), Kept { serial, owner: owner.clone(), until });
        state.kept_order.push_back((client.clone(), serial));
        while state.kept.len() > SESSIONS_MAX {
            let Some((oldest, serial)) = state.kept_order.pop_front() else { return };
            if state.kept.get(&oldest).is_some_and(|kept| kept.serial == serial) {
                state.kept.remove(&oldest);
            }
        }
        // A client that comes and goes leaves entries that are meant no more.
        let State { kept, kept_order, .. } = &mut *state;
        if kept_order.len() > 2 * SESSIONS_MAX {
            kept_order.retain(|(client, serial)| kept.get(client).is_some_and(|kept| kept.serial == *serial));
        }
    }

    /// Clients connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.state.lock().seats.len()
    }

    /// A client id for a client that came without one. `wall_ms` sets this process apart from those before.
    #[must_use]
    pub fn assign_id(&self, wall_ms: u64) -> Arc<str> {
        let mut state = self.state.lock();
        state.serial += 1;
        format!("auto-{wall_ms:x}-{:x}", state.serial).into()
    }
}

/// A client's place while it is connected. Dropped: the client is gone, and the next connection of its id goes on.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    client: Arc<str>,
    serial: u64,
    gone: CancellationToken,
    predecessor: Option<CancellationToken>,
}

impl Seat {
    /// Cancelled once the connection that had this client id before is gone.
    pub fn predecessor(&mut self) -> Option<CancellationToken> {
        self.predecessor.take()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        if state.seats.get(&self.client).is_some_and(|seated| seated.serial == self.serial) {
            state.seats.remove(&self.client);
        }
        drop(state);
        self.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kick() -> Kick {
        Kick::new(&CancellationToken::new())
    }

    #[test]
    fn a_second_connection_of_a_client_tells_the_first_to_leave_and_knows_when_it_is_gone() {
        let registry = Arc::new(Registry::new(1));
        let now = crate::clock::monotonic();
        let (first_kick, second_kick) = (kick(), kick());
        let first = registry.enter("a".into(), &"o".into(), first_kick.clone(), now).unwrap();
        assert_eq!(registry.enter("b".into(), &"o".into(), kick(), now).err(), Some(Fault::Busy));
        let mut second = registry.enter("a".into(), &"o".into(), second_kick.clone(), now).unwrap();
        assert_eq!(first_kick.cause(), Some(Fault::TakenOver));
        assert_eq!(second_kick.cause(), None);
        let predecessor = second.predecessor().unwrap();
        assert!(!predecessor.is_cancelled());
        drop(first);
        assert!(predecessor.is_cancelled());
        assert_eq!(registry.connected(), 1, "the first one's going leaves the second its seat");
        drop(second);
        assert_eq!(registry.connected(), 0);
    }

    #[test]
    fn a_client_id_belongs_to_the_identity_that_has_its_session() {
        let registry = Arc::new(Registry::new(9));
        let now = crate::clock::monotonic();
        let (mine, other): (Arc<str>, Arc<str>) = ("mine".into(), "other".into());
        let first_kick = kick();
        let seat = registry.enter("a".into(), &mine, first_kick.clone(), now).unwrap();
        let stolen = registry.enter("a".into(), &other, kick(), now);
        assert_eq!(stolen.err(), Some(Fault::ForeignClientId));
        assert_eq!(first_kick.cause(), None, "the owner's connection stays");
        registry.keep(&"a".into(), &mine, 10, now);
        drop(seat);
        let stolen = registry.enter("a".into(), &other, kick(), now + Duration::from_secs(9));
        assert_eq!(stolen.err(), Some(Fault::ForeignClientId), "kept while the owner is away");
        assert!(registry.enter("a".into(), &mine, kick(), now).is_ok());
        assert!(
            registry.enter("a".into(), &other, kick(), now + Duration::from_secs(10)).is_ok(),
            "it is over"
        );
    }

    #[test]
    fn a_stop_is_told_apart_from_a_takeover() {
        let shutdown = CancellationToken::new();
        let kick = Kick::new(&shutdown);
        assert_eq!(kick.cause(), None);
        shutdown.cancel();
        assert_eq!(kick.cause(), Some(Fault::Stopping));
    }

    #[test]
    fn sessions_are_kept_for_their_time_and_the_oldest_makes_room() {
        let registry = Registry::new(1);
        let now = crate::clock::monotonic();
        let later = |s| now + Duration::from_secs(s);
        registry.keep(&"short".into(), &"o".into(), 10, now);
        assert_eq!(registry.resume("short", later(9)), Remembered::Kept);
        assert_eq!(registry.resume("short", now), Remembered::Unknown, "connected: kept no more");
        registry.keep(&"short".into(), &"o".into(), 10, now);
        assert_eq!(registry.resume("short", later(10)), Remembered::Expired);
        registry.keep(&"first".into(), &"o".into(), u32::MAX, now);
        registry.keep(&"again".into(), &"o".into(), u32::MAX, now);
        for i in 0..SESSIONS_MAX - 1 {
            registry.keep(&format!("{i}").into(), &"o".into(), u32::MAX, now);
        }
        for _ in 0..3 * SESSIONS_MAX {
            registry.keep(&"0".into(), &"o".into(), u32::MAX, now);
        }
        assert!(registry.state.lock().kept_order.len() <= 2 * SESSIONS_MAX);
        assert_eq!(registry.resume("first", later(1_000_000)), Remembered::Unknown);
        assert_eq!(registry.resume("again", later(1_000_000)), Remembered::Kept);
    }

    #[test]
    fn assigned_ids_differ() {
        let registry = Registry::new(1);
        assert_ne!(registry.assign_id(5), registry.assign_id(5));
    }
}

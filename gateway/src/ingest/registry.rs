//! Who is connected: one connection for each client id, its owner's.
//!
//! ```text
//!   enter(id) ──▶ Seat ──drop──▶ gone
//!      └ the same id again: the first is told to leave, and the second waits for its `gone`
//! ```
//! So a client's will is always stored before what it publishes on its next connection. Whose session is kept while its client
//! is away is not known here but to the broker. Limits: `connections_max` seats. One lock, taken when a client comes and goes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::mqtt::fault::Fault;

/// Connections of a client id that follow each other within this take turns.
pub const TURN_MAX: Duration = Duration::from_secs(60);
/// So many turns are no coincidence: told then, and whenever there were twice as many.
const TURNS_TOLD: u32 = 4;

/// Who wants a seat, and when.
#[derive(Debug, Clone)]
pub struct Entering {
    /// The client's identity.
    pub owner: Arc<str>,
    /// The client id is the identity's by name, and whoever else sits there leaves.
    pub is_own: bool,
    /// The other end.
    pub peer: SocketAddr,
    /// The time of the monotonic clock.
    pub now: Instant,
}

/// Connections of one client id have taken it from each other in quick turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turns {
    /// The other end of the connection that had it before.
    pub before: SocketAddr,
    /// How often in a row.
    pub count: u32,
}

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
}

#[derive(Debug)]
struct Seated {
    serial: u64,
    kick: Kick,
    gone: CancellationToken,
    entered: Entering,
    /// How many connections in a row have taken the client id from the one before within [`TURN_MAX`].
    turns: u32,
}

impl Registry {
    /// One without clients.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Registry { connections_max, state: Mutex::default() }
    }

    /// Gives `client` a seat, and tells the connection that had it to leave: wait for [`Seat::predecessor`].
    ///
    /// # Errors
    /// [`Fault::Busy`]: all seats are taken. [`Fault::ForeignClientId`]: another identity is connected with the client id.
    pub fn enter(self: &Arc<Self>, client: Arc<str>, entering: Entering, kick: Kick) -> Result<Seat, Fault> {
        let mut state = self.state.lock();
        let is_foreign =
            state.seats.get(&client).is_some_and(|seated| seated.entered.owner != entering.owner);
        if is_foreign && !entering.is_own {
            return Err(Fault::ForeignClientId);
        }
        if state.seats.len() >= self.connections_max && !state.seats.contains_key(&client) {
            return Err(Fault::Busy);
        }
        state.serial += 1;
        let serial = state.serial;
        let gone = CancellationToken::new();
        let before = state.seats.get(&client);
        let quick = before.filter(|before| entering.now.duration_since(before.entered.now) <= TURN_MAX);
        let turns =
            quick.map(|before| Turns { before: before.entered.peer, count: before.turns.saturating_add(1) });
        let count = turns.map_or(0, |turns| turns.count);
        let seated = Seated { serial, kick, gone: gone.clone(), entered: entering, turns: count };
        let before = state.seats.insert(client.clone(), seated);
        drop(state);
        let predecessor = before.map(|before| {
            before.kick.leave(if is_foreign { Fault::ForeignClientId } else { Fault::TakenOver });
            before.gone
        });
        let turns = turns.filter(|turns| turns.count >= TURNS_TOLD && turns.count.is_power_of_two());
        Ok(Seat { registry: self.clone(), client, serial, gone, predecessor, turns })
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
    turns: Option<Turns>,
}

impl Seat {
    /// Cancelled once the connection that had this client id before is gone.
    pub fn predecessor(&mut self) -> Option<CancellationToken> {
        self.predecessor.take()
    }

    /// That this client id goes from one connection to the next and back, where that is to be told.
    #[must_use]
    pub fn turns(&self) -> Option<Turns> {
        self.turns
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

    fn by(owner: &str) -> Entering {
        from(owner, 1, crate::clock::monotonic())
    }

    fn from(owner: &str, port: u16, now: Instant) -> Entering {
        Entering { owner: owner.into(), is_own: false, peer: ([10, 0, 0, 1], port).into(), now }
    }

    fn kick() -> Kick {
        Kick::new(&CancellationToken::new())
    }

    #[test]
    fn a_second_connection_of_a_client_tells_the_first_to_leave_and_knows_when_it_is_gone() {
        let registry = Arc::new(Registry::new(1));
        let (first_kick, second_kick) = (kick(), kick());
        let first = registry.enter("a".into(), by("o"), first_kick.clone()).unwrap();
        assert_eq!(registry.enter("b".into(), by("o"), kick()).err(), Some(Fault::Busy));
        let mut second = registry.enter("a".into(), by("o"), second_kick.clone()).unwrap();
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
    fn a_client_id_belongs_to_the_identity_that_is_connected_with_it() {
        let registry = Arc::new(Registry::new(9));
        let first_kick = kick();
        let seat = registry.enter("a".into(), by("mine"), first_kick.clone()).unwrap();
        let stolen = registry.enter("a".into(), by("other"), kick());
        assert_eq!(stolen.err(), Some(Fault::ForeignClientId));
        assert_eq!(first_kick.cause(), None, "the owner's connection stays");
        let own = registry.enter("a".into(), Entering { is_own: true, ..by("other") }, kick()).unwrap();
        assert_eq!(first_kick.cause(), Some(Fault::ForeignClientId), "unless the id is the other's by name");
        drop((seat, own));
        assert!(registry.enter("a".into(), by("other"), kick()).is_ok(), "nobody is connected with it");
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
    fn assigned_ids_differ() {
        let registry = Registry::new(1);
        assert_ne!(registry.assign_id(5), registry.assign_id(5));
    }

    #[test]
    fn two_clients_with_one_id_are_told_with_both_addresses_after_some_quick_turns_and_at_doublings() {
        let (registry, start) = (Arc::new(Registry::new(9)), crate::clock::monotonic());
        let mut at = start;
        let mut seats = vec![];
        let mut told = vec![];
        for turn in 0..40 {
            at += Duration::from_secs(5);
            let seat = registry.enter("a".into(), from("o", turn % 2, at), kick()).unwrap();
            told.extend(seat.turns());
            seats.push(seat);
        }
        let (even, odd) = (([10, 0, 0, 1], 0).into(), ([10, 0, 0, 1], 1).into());
        let turns = |count| Turns { before: if count % 2 == 0 { odd } else { even }, count };
        assert_eq!(told, [turns(4), turns(8), turns(16), turns(32)]);
        // One that comes back after a while is none of them.
        for turn in 0..20 {
            at += TURN_MAX + Duration::from_secs(1);
            seats.push(registry.enter("a".into(), from("o", turn, at), kick()).unwrap());
            assert_eq!(seats.last().unwrap().turns(), None);
        }
    }
}

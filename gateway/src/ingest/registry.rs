//! Who is connected: one connection for each client id, its owner's.
//!
//! ```text
//!   enter(id) ──▶ SessionSlot ──drop──▶ gone
//!      └ the same id again: the first is told to leave, and the second waits for its `gone`
//! ```
//! So a client's will is always stored before what it publishes on its next connection. Whose
//! session is kept while its client is away is not known here but to the broker. Limits:
//! `connections_max` slots. One lock, taken when a client comes and goes.

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

/// Who wants a slot, and when.
#[derive(Debug, Clone)]
pub struct Entering {
    /// The client's identity.
    pub owner: Arc<str>,
    /// The client id is the identity's by name, and whoever else has it leaves.
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
pub struct DisconnectHandle {
    token: CancellationToken,
    /// Set before the token is cancelled; not by the gateway's stop.
    why: Arc<OnceLock<Fault>>,
}

impl DisconnectHandle {
    /// One that the gateway's stop triggers.
    #[must_use]
    pub fn new(shutdown: &CancellationToken) -> Self {
        DisconnectHandle { token: shutdown.child_token(), why: Arc::default() }
    }

    /// Triggered by the stop, by another connection of the same client, and by those that came
    /// later while it waited.
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
    slots: HashMap<Arc<str>, Occupant>,
}

#[derive(Debug)]
struct Occupant {
    serial: u64,
    disconnect: DisconnectHandle,
    gone: CancellationToken,
    entered: Entering,
    /// How many connections in a row have taken the client id from the one before within
    /// [`TURN_MAX`].
    turns: u32,
}

impl Registry {
    /// One without clients.
    #[must_use]
    pub fn new(connections_max: usize) -> Self {
        Registry { connections_max, state: Mutex::default() }
    }

    /// Gives `client` a slot, and tells the connection that had it to leave: wait for
    /// [`SessionSlot::predecessor`].
    ///
    /// # Errors
    /// [`Fault::Busy`]: all slots are taken. [`Fault::ForeignClientId`]: another identity is
    /// connected with the client id.
    pub fn enter(
        self: &Arc<Self>,
        client: Arc<str>,
        entering: Entering,
        disconnect: DisconnectHandle,
    ) -> Result<SessionSlot, Fault> {
        let mut state = self.state.lock();
        let is_foreign =
            state.slots.get(&client).is_some_and(|occupant| occupant.entered.owner != entering.owner);
        if is_foreign && !entering.is_own {
            return Err(Fault::ForeignClientId);
        }
        if state.slots.len() >= self.connections_max && !state.slots.contains_key(&client) {
            return Err(Fault::Busy);
        }
        state.serial += 1;
        let serial = state.serial;
        let gone = CancellationToken::new();
        let before = state.slots.get(&client);
        let quick = before.filter(|before| entering.now.duration_since(before.entered.now) <= TURN_MAX);
        let turns =
            quick.map(|before| Turns { before: before.entered.peer, count: before.turns.saturating_add(1) });
        let count = turns.map_or(0, |turns| turns.count);
        let occupant = Occupant { serial, disconnect, gone: gone.clone(), entered: entering, turns: count };
        let before = state.slots.insert(client.clone(), occupant);
        drop(state);
        let predecessor = before.map(|before| {
            before.disconnect.leave(if is_foreign { Fault::ForeignClientId } else { Fault::TakenOver });
            before.gone
        });
        let turns = turns.filter(|turns| turns.count >= TURNS_TOLD && turns.count.is_power_of_two());
        Ok(SessionSlot { registry: self.clone(), client, serial, gone, predecessor, turns })
    }

    /// Clients connected now.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// A client id for a client that came without one. `wall_ms` sets this process apart from those
    /// before.
    #[must_use]
    pub fn assign_id(&self, wall_ms: u64) -> Arc<str> {
        let mut state = self.state.lock();
        state.serial += 1;
        format!("auto-{wall_ms:x}-{:x}", state.serial).into()
    }
}

/// A client's slot while it is connected. Dropped: the client is gone, and the next connection of
/// its id goes on.
#[derive(Debug)]
pub struct SessionSlot {
    registry: Arc<Registry>,
    client: Arc<str>,
    serial: u64,
    gone: CancellationToken,
    predecessor: Option<CancellationToken>,
    turns: Option<Turns>,
}

impl SessionSlot {
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

impl Drop for SessionSlot {
    fn drop(&mut self) {
        let mut state = self.registry.state.lock();
        if state.slots.get(&self.client).is_some_and(|occupant| occupant.serial == self.serial) {
            state.slots.remove(&self.client);
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

    fn disconnect() -> DisconnectHandle {
        DisconnectHandle::new(&CancellationToken::new())
    }

    #[test]
    fn a_second_connection_of_a_client_tells_the_first_to_leave_and_knows_when_it_is_gone() {
        let registry = Arc::new(Registry::new(1));
        let (first_handle, second_handle) = (disconnect(), disconnect());
        let first = registry.enter("a".into(), by("o"), first_handle.clone()).unwrap();
        assert_eq!(registry.enter("b".into(), by("o"), disconnect()).err(), Some(Fault::Busy));
        let mut second = registry.enter("a".into(), by("o"), second_handle.clone()).unwrap();
        assert_eq!(first_handle.cause(), Some(Fault::TakenOver));
        assert_eq!(second_handle.cause(), None);
        let predecessor = second.predecessor().unwrap();
        assert!(!predecessor.is_cancelled());
        drop(first);
        assert!(predecessor.is_cancelled());
        assert_eq!(registry.connected(), 1, "the first one's going leaves the second its slot");
        drop(second);
        assert_eq!(registry.connected(), 0);
    }

    #[test]
    fn a_client_id_belongs_to_the_identity_that_is_connected_with_it() {
        let registry = Arc::new(Registry::new(9));
        let first_handle = disconnect();
        let slot = registry.enter("a".into(), by("mine"), first_handle.clone()).unwrap();
        let stolen = registry.enter("a".into(), by("other"), disconnect());
        assert_eq!(stolen.err(), Some(Fault::ForeignClientId));
        assert_eq!(first_handle.cause(), None, "the owner's connection stays");
        let own = registry.enter("a".into(), Entering { is_own: true, ..by("other") }, disconnect()).unwrap();
        assert_eq!(
            first_handle.cause(),
            Some(Fault::ForeignClientId),
            "unless the id is the other's by name"
        );
        drop((slot, own));
        assert!(registry.enter("a".into(), by("other"), disconnect()).is_ok(), "nobody is connected with it");
    }

    #[test]
    fn a_stop_is_told_apart_from_a_takeover() {
        let shutdown = CancellationToken::new();
        let disconnect = DisconnectHandle::new(&shutdown);
        assert_eq!(disconnect.cause(), None);
        shutdown.cancel();
        assert_eq!(disconnect.cause(), Some(Fault::Stopping));
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
        let mut slots = vec![];
        let mut told = vec![];
        for turn in 0..40 {
            at += Duration::from_secs(5);
            let slot = registry.enter("a".into(), from("o", turn % 2, at), disconnect()).unwrap();
            told.extend(slot.turns());
            slots.push(slot);
        }
        let (even, odd) = (([10, 0, 0, 1], 0).into(), ([10, 0, 0, 1], 1).into());
        let turns = |count| Turns { before: if count % 2 == 0 { odd } else { even }, count };
        assert_eq!(told, [turns(4), turns(8), turns(16), turns(32)]);
        // One that comes back after a while is none of them.
        for turn in 0..20 {
            at += TURN_MAX + Duration::from_secs(1);
            slots.push(registry.enter("a".into(), from("o", turn, at), disconnect()).unwrap());
            assert_eq!(slots.last().unwrap().turns(), None);
        }
    }
}

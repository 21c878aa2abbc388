//! QoS 2 packet ids that are received and not yet released, by client: what makes exactly-once intake
//! hold across a reconnect and a restart [MQTT-4.3.3-10]. Pure; the commit thread stores every change in
//! the commit that it belongs to.
//!
//! Limits: of one client, what the door allows (`ingest`); in all, the bytes given to [`Pending::evict`]: beyond them the clients that
//! are away longest are forgotten, and none that is connected. What a client that was forgotten sends again is stored again.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// What a client counts besides its name and its ids, in bytes: what it takes in memory and in a segment.
const CLIENT_BYTES: usize = 64;
const ID_BYTES: usize = 2;

/// The pending packet ids of all clients.
#[derive(Debug, Default)]
pub struct Pending {
    clients: HashMap<Box<str>, Client>,
    /// Who is connected, and over how many connections: two while one takes over from the other.
    connected: HashMap<Arc<str>, u32>,
    /// As [`Pending::evict`] counts them.
    bytes: usize,
    /// Counts what happens, so that the client that was there last can be told.
    steps: u64,
}

#[derive(Debug, Default)]
struct Client {
    /// Ascending.
    ids: Vec<u16>,
    last_step: u64,
}

/// Clients that were forgotten for want of room, each with how many ids it had.
pub type Evicted = Vec<(Box<str>, usize)>;

impl Pending {
    /// Adds an id; false when it was pending already, so its message is stored already.
    pub fn add(&mut self, client: &str, packet_id: u16) -> bool {
        self.steps += 1;
        if !self.clients.contains_key(client) {
            self.clients.insert(client.into(), Client::default());
            self.bytes += CLIENT_BYTES + client.len();
        }
        let Some(known) = self.clients.get_mut(client) else { return false };
        known.last_step = self.steps;
        // Mostly they count upwards.
        let at = match known.ids.last() {
            Some(last) if *last < packet_id => known.ids.len(),
            _ => match known.ids.binary_search(&packet_id) {
                Ok(_) => return false,
                Err(at) => at,
            },
        };
        known.ids.insert(at, packet_id);
        self.bytes += ID_BYTES;
        true
    }

    /// Removes an id; false when it was not pending.
    pub fn release(&mut self, client: &str, packet_id: u16) -> bool {
        let Some(known) = self.clients.get_mut(client) else { return false };
        let Ok(at) = known.ids.binary_search(&packet_id) else { return false };
        known.ids.remove(at);
        self.bytes -= ID_BYTES;
        if known.ids.is_empty() {
            self.forget(client);
        }
        true
    }

    /// Removes all ids of a client; false when it had none.
    pub fn forget(&mut self, client: &str) -> bool {
        let Some(known) = self.clients.remove(client) else { return false };
        self.bytes -= CLIENT_BYTES + client.len() + known.ids.len() * ID_BYTES;
        true
    }

    /// The client is connected.
    pub fn attach(&mut self, client: Arc<str>) {
        *self.connected.entry(client).or_default() += 1;
    }

    /// A connection of the client is gone.
    pub fn detach(&mut self, client: Arc<str>) {
        self.steps += 1;
        if let Some(known) = self.clients.get_mut(&*client) {
            known.last_step = self.steps;
        }
        if let Entry::Occupied(mut connections) = self.connected.entry(client) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
    }

    /// Forgets the clients that are away longest, until the rest counts no more than `bytes_max`.
    pub fn evict(&mut self, bytes_max: usize) -> Evicted {
        let mut evicted = Evicted::new();
        if self.bytes <= bytes_max {
            return evicted;
        }
        let away = self.clients.iter().filter(|(name, _)| !self.connected.contains_key(&***name));
        let mut away: Vec<_> = away.map(|(name, client)| (client.last_step, name.clone())).collect();
        away.sort_unstable();
        for (_, name) in away {
            if self.bytes <= bytes_max {
                break;
            }
            let count = self.ids(&name).len();
            self.forget(&name);
            evicted.push((name, count));
        }
        evicted
    }

    /// What all of them count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the client has any.
    #[must_use]
    pub fn has(&self, client: &str) -> bool {
        self.clients.contains_key(client)
    }

    /// The clients that have any.
    pub fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.keys().map(|client| &**client)
    }

    /// Whether this id is pending.
    #[must_use]
    pub fn contains(&self, client: &str, packet_id: u16) -> bool {
        self.ids(client).binary_search(&packet_id).is_ok()
    }

    /// Those of a client, ascending.
    #[must_use]
    pub fn ids(&self, client: &str) -> &[u16] {
        self.clients.get(client).map_or(&[], |known| &known.ids)
    }

    /// All of them, by client.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u16])> {
        self.clients.iter().map(|(client, known)| (&**client, &*known.ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_pending_from_its_first_message_to_its_release() {
        let mut pending = Pending::default();
        assert!(pending.add("a", 1));
        assert!(!pending.add("a", 1), "sent again");
        assert!(pending.add("b", 1), "another client's");
        assert!(pending.contains("a", 1) && !pending.contains("a", 2) && !pending.contains("c", 1));
        assert!(pending.release("a", 1));
        assert!(!pending.release("a", 1) && !pending.has("a"));
        assert!(pending.add("a", 1), "the id is free again");
        for id in [7, 65_535, 3, 5] {
            assert!(pending.add("a", id));
        }
        assert_eq!(pending.ids("a"), [1, 3, 5, 7, 65_535]);
        assert_eq!(pending.iter().count(), 2);
        assert!(pending.forget("b") && !pending.forget("b"));
        assert!(!pending.has("b") && pending.has("a"));
        assert!(pending.forget("a"));
        assert_eq!(pending.bytes(), 0);
    }

    #[test]
    fn in_all_they_are_bounded_and_the_clients_away_longest_go_and_never_one_that_is_connected() {
        let mut pending = Pending::default();
        let one = CLIENT_BYTES + 2 + 3 * ID_BYTES;
        for name in ["c1", "c2", "c3", "c4", "c5"] {
            pending.attach(name.into());
            (1..=3).for_each(|id| assert!(pending.add(name, id)));
        }
        assert_eq!(pending.bytes(), 5 * one);
        assert_eq!(pending.evict(0), [], "all are connected");
        for name in ["c4", "c1", "c3"] {
            pending.detach(name.into());
        }
        // One connection takes over from another.
        pending.attach("c2".into());
        pending.detach("c2".into());
        assert_eq!(pending.evict(5 * one), []);
        assert_eq!(pending.evict(4 * one), [("c4".into(), 3)], "it is away longest");
        assert_eq!(pending.evict(2 * one - 1), [("c1".into(), 3), ("c3".into(), 3)]);
        assert!(pending.has("c2") && pending.has("c5"));
        assert_eq!(pending.bytes(), 2 * one);
    }
}

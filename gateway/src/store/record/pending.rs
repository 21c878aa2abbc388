//! QoS 2 packet ids that are received and not yet released, by client: what makes exactly-once
//! intake hold across a reconnect and a restart [MQTT-4.3.3-10]. Pure; the commit thread stores
//! every change in the commit that it belongs to.
//!
//! Limits: of one client, what `ingest` allows; in all, the bytes given to [`Pending::evict`].
//! Beyond them the clients that are away longest are forgotten, and none that is connected, until
//! one part in [`FREED_PART`] of these bytes is free. The bytes follow from the configured room;
//! while a write waits for space, from the room that there is. What a client that was forgotten
//! sends again is stored again.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// What a client counts besides its name and its ids, in bytes: what it takes in memory and in a
/// segment.
const CLIENT_BYTES: usize = 64;
const ID_BYTES: usize = 2;
/// Once there are too many, one part in this of the bound is freed: the search for whom to forget
/// looks at all clients, and not every commit should make one.
const FREED_PART: usize = 8;

/// The pending packet ids of all clients.
#[derive(Debug, Clone, Default)]
pub struct Pending {
    clients: HashMap<Box<str>, Client>,
    /// Who is connected, and over how many connections: two while one takes over from the other.
    connected: HashMap<Arc<str>, u32>,
    /// As [`Pending::evict`] counts them.
    bytes: usize,
    /// How many of them are those of connected clients.
    connected_bytes: usize,
    /// Counts what happens, so that the client that was there last can be told.
    steps: u64,
}

#[derive(Debug, Clone, Default)]
struct Client {
    /// Ascending.
    ids: Vec<u16>,
    last_step: u64,
    is_connected: bool,
}

/// Clients that were forgotten for want of room, each with how many ids it had.
pub type Evicted = Vec<(Box<str>, usize)>;

impl Pending {
    /// Adds an id; false when it was pending already, so its message is stored already.
    pub fn add(&mut self, client: &str, packet_id: u16) -> bool {
        self.steps += 1;
        if !self.clients.contains_key(client) {
            let is_connected = self.connected.contains_key(client);
            self.clients.insert(client.into(), Client { is_connected, ..Client::default() });
            let bytes = CLIENT_BYTES + client.len();
            self.bytes += bytes;
            self.connected_bytes += if is_connected { bytes } else { 0 };
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
        self.connected_bytes += if known.is_connected { ID_BYTES } else { 0 };
        true
    }

    /// Removes an id; false when it was not pending.
    pub fn release(&mut self, client: &str, packet_id: u16) -> bool {
        let Some(known) = self.clients.get_mut(client) else { return false };
        let Ok(at) = known.ids.binary_search(&packet_id) else { return false };
        known.ids.remove(at);
        self.bytes -= ID_BYTES;
        self.connected_bytes -= if known.is_connected { ID_BYTES } else { 0 };
        if known.ids.is_empty() {
            self.forget(client);
        }
        true
    }

    /// Removes all ids of a client; false when it had none.
    pub fn forget(&mut self, client: &str) -> bool {
        let Some(known) = self.clients.remove(client) else { return false };
        let bytes = known.bytes(client);
        self.bytes -= bytes;
        self.connected_bytes -= if known.is_connected { bytes } else { 0 };
        true
    }

    /// The client is connected.
    pub fn attach(&mut self, client: Arc<str>) {
        if let Some(known) = self.clients.get_mut(&*client).filter(|known| !known.is_connected) {
            known.is_connected = true;
            self.connected_bytes += known.bytes(&client);
        }
        *self.connected.entry(client).or_default() += 1;
    }

    /// A connection of the client is gone.
    pub fn detach(&mut self, client: Arc<str>) {
        self.steps += 1;
        if let Entry::Occupied(mut connections) = self.connected.entry(client.clone()) {
            *connections.get_mut() -= 1;
            if *connections.get() == 0 {
                connections.remove();
            }
        }
        if let Some(known) = self.clients.get_mut(&*client) {
            known.last_step = self.steps;
            if known.is_connected && !self.connected.contains_key(&client) {
                known.is_connected = false;
                self.connected_bytes -= known.bytes(&client);
            }
        }
    }

    /// If all count more than `bytes_max`, forgets the clients that are away longest, until one
    /// part in [`FREED_PART`] of it is free.
    pub fn evict(&mut self, bytes_max: usize) -> Evicted {
        let mut evicted = Evicted::new();
        if self.bytes <= bytes_max || self.bytes == self.connected_bytes {
            return evicted;
        }
        let rest_bytes = bytes_max - bytes_max / FREED_PART;
        let away = self.clients.iter().filter(|(_, client)| !client.is_connected);
        let mut away: Vec<_> = away.map(|(name, client)| (client.last_step, name.clone())).collect();
        away.sort_unstable();
        for (_, name) in away {
            if self.bytes <= rest_bytes {
                break;
            }
            let count = self.ids(&name).len();
            self.forget(&name);
            evicted.push((name, count));
        }
        evicted
    }

    /// What those of connected clients count, which [`Pending::evict`] leaves.
    #[must_use]
    pub fn connected_bytes(&self) -> usize {
        self.connected_bytes
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

impl Client {
    fn bytes(&self, name: &str) -> usize {
        CLIENT_BYTES + name.len() + self.ids.len() * ID_BYTES
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
        assert_eq!(pending.bytes, 0);
    }

    #[test]
    fn in_all_they_are_bounded_and_the_clients_away_longest_go_and_never_one_that_is_connected() {
        let mut pending = Pending::default();
        let one = CLIENT_BYTES + 2 + 3 * ID_BYTES;
        for name in ["c1", "c2", "c3", "c4", "c5"] {
            pending.attach(name.into());
            (1..=3).for_each(|id| assert!(pending.add(name, id)));
        }
        assert_eq!((pending.bytes, pending.connected_bytes()), (5 * one, 5 * one));
        assert_eq!(pending.evict(0), [], "all are connected");
        for name in ["c4", "c1", "c3"] {
            pending.detach(name.into());
        }
        // One connection takes over from another.
        pending.attach("c2".into());
        pending.detach("c2".into());
        assert_eq!(pending.evict(5 * one), []);
        assert_eq!(pending.evict(5 * one - 1), [("c4".into(), 3)], "it is away longest");
        assert_eq!(pending.evict(4 * one), [], "an 8th is free");
        assert_eq!(pending.evict(2 * one - 1), [("c1".into(), 3), ("c3".into(), 3)]);
        assert!(pending.has("c2") && pending.has("c5"));
        assert_eq!((pending.bytes, pending.connected_bytes()), (2 * one, 2 * one));
        assert_eq!(pending.evict(0), [], "the rest is connected");
        pending.detach("c5".into());
        assert!(pending.add("c6", 1), "what it sent before it was gone");
        assert_eq!(pending.connected_bytes(), one);
        assert_eq!(pending.evict(0), [("c5".into(), 3), ("c6".into(), 1)]);
        assert!(pending.add("c7", 1), "before it is connected");
        pending.attach("c7".into());
        assert!(pending.release("c2", 2) && pending.forget("c7"));
        assert_eq!((pending.bytes, pending.connected_bytes()), (one - ID_BYTES, one - ID_BYTES));
        assert!(pending.forget("c2"));
        assert_eq!((pending.bytes, pending.connected_bytes()), (0, 0));
    }
}

//! QoS 2 packet ids that are received and not yet released, by client: what makes exactly-once intake
//! hold across a reconnect and a restart [MQTT-4.3.3-10]. Pure; the commit thread stores every change in
//! the commit that it belongs to.

use std::collections::{BTreeSet, HashMap};

/// The pending packet ids of all clients.
#[derive(Debug, Default)]
pub struct Pending {
    clients: HashMap<Box<str>, BTreeSet<u16>>,
}

impl Pending {
    /// Adds an id; false when it was pending already, so its message is stored already.
    pub fn add(&mut self, client: &str, packet_id: u16) -> bool {
        match self.clients.get_mut(client) {
            Some(ids) => ids.insert(packet_id),
            None => {
                self.clients.insert(client.into(), BTreeSet::from([packet_id]));
                true
            }
        }
    }

    /// Removes an id; false when it was not pending.
    pub fn release(&mut self, client: &str, packet_id: u16) -> bool {
        let Some(ids) = self.clients.get_mut(client) else { return false };
        let was_pending = ids.remove(&packet_id);
        if ids.is_empty() {
            self.clients.remove(client);
        }
        was_pending
    }

    /// Removes all ids of a client and gives them.
    pub fn forget(&mut self, client: &str) -> impl Iterator<Item = u16> + use<> {
        self.clients.remove(client).unwrap_or_default().into_iter()
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
        self.clients.get(client).is_some_and(|ids| ids.contains(&packet_id))
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = (&str, u16)> {
        self.clients.iter().flat_map(|(client, ids)| ids.iter().map(move |id| (&**client, *id)))
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
        assert_eq!(pending.all().count(), 2);
        assert_eq!(pending.forget("b").collect::<Vec<_>>(), [1]);
        assert!(!pending.has("b") && pending.has("a"));
    }
}

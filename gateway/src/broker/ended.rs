//! Sessions that have ended: the store forgets the QoS 2 packet ids of their clients.
//!
//! ```text
//!   a session ends ─▶ waiting ─append─▶ intake ─commit─▶ durable: only now the client is told of a new session
//! ```
//! A client that begins a new session uses its packet ids anew. Were one of them pending from the
//! session before, its message would be taken for a copy, acknowledged and not stored. The ids go
//! through the intake like everything else, so they are forgotten before what the client publishes
//! in its new session; and CONNACK waits for the commit, so a crash cannot bring them back beside a
//! new session that is saved.
//!
//! Limits: one entry for each client id whose session ended while the intake was full.

use std::{collections::HashSet, sync::Arc};

use super::Broker;
use crate::store::{AppendError, Batch, Intake};

/// Clients whose ids are forgotten with one append, at most.
const BATCH_CLIENTS_MAX: usize = 1000;

/// Clients whose sessions have ended.
#[derive(Debug, Default)]
pub(super) struct Ended {
    waiting: HashSet<Arc<str>>,
    /// The first ticket behind the last of those that are in the intake.
    end_ticket: u64,
}

impl Broker {
    /// The session of `client` is over: its packet ids are to be forgotten.
    pub fn end_packet_ids(&self, client: &Arc<str>) {
        let is_first = {
            let mut ended = self.0.ended.lock();
            ended.waiting.insert(client.clone()) && ended.waiting.len() == 1
        };
        if is_first {
            self.0.notify.notify_one();
        }
    }

    /// Takes out those that wait.
    #[cfg(test)]
    pub(super) fn take_ended(&self) -> HashSet<Arc<str>> {
        std::mem::take(&mut self.0.ended.lock().waiting)
    }

    /// Has the store forget the packet ids of all sessions that are over. Gives the watermark at
    /// which that is durable.
    ///
    /// # Errors
    /// [`AppendError`]: some of them still wait.
    pub fn forget_packet_ids(&self, intake: &Intake) -> Result<u64, AppendError> {
        // Locked throughout: a client whose new session has begun must not be among those that are
        // taken out.
        let mut ended = self.0.ended.lock();
        while !ended.waiting.is_empty() {
            let clients: Vec<_> = ended.waiting.iter().take(BATCH_CLIENTS_MAX).cloned().collect();
            let mut batch = Batch::default();
            clients.iter().for_each(|client| batch.push_forget(client));
            let tickets = batch.tickets();
            ended.end_ticket = intake.append(&mut batch)? + tickets;
            for client in &clients {
                ended.waiting.remove(client);
            }
        }
        Ok(ended.end_ticket)
    }
}

//! Messages for one session that another room hands over, and what became of them.
//!
//! ```text
//!   commands ──hand_over──▶ session ──PUBACK──▶ acknowledged ──take_acknowledged──▶ commands
//! ```
//! The broker only carries them: who waits for what is the other room's. A message that is handed
//! over goes back to its owner when the session ends: see `outbound`.
//!
//! Limits: those of a session's queue, and one entry for each message of that kind that was
//! acknowledged and not taken yet.

use std::sync::{Arc, atomic::Ordering};

use super::{Broker, mailbox::Mailbox, message::Message};

/// A message that was handed over and that its client acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its topic.
    pub topic: Box<str>,
    /// The id of the command that it is.
    pub command: Box<str>,
    /// The reason code of its PUBACK.
    pub reason: u8,
}

/// What handing over a message came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandedOver {
    /// The session has it now.
    Yes,
    /// The session has it already.
    Before,
    /// There is no room for it.
    NoRoom,
}

impl Broker {
    /// The connected session that subscribes to this very topic with QoS 1 or 2; the one of
    /// `client` before others.
    #[must_use]
    pub fn connected_session(&self, topic: &str, client: &str) -> Option<Arc<Mailbox>> {
        let tree = self.0.tree.read();
        let mut found: Option<&Arc<Mailbox>> = None;
        for mailbox in tree.exact(topic) {
            let state = mailbox.state();
            let wants = state.subscriptions.get(topic).is_some_and(|own| own.options.qos() > 0);
            if wants && state.outbound.is_attached() && (found.is_none() || **mailbox.client() == *client) {
                found = Some(mailbox);
            }
        }
        found.cloned()
    }

    /// Puts the command `id` into the session's queue with QoS 1, unless it is there; `message`
    /// makes it. The client gets it after [`Mailbox::notify`].
    pub fn hand_over(
        &self,
        mailbox: &Mailbox,
        topic: &str,
        id: &str,
        message: impl FnOnce() -> Message,
    ) -> HandedOver {
        let mut state = mailbox.state();
        if state.outbound.has_command(topic, id) {
            return HandedOver::Before;
        }
        match state.outbound.push(&Arc::new(message()), 1, false, &[], self.limits()) {
            true => HandedOver::Yes,
            false => HandedOver::NoRoom,
        }
    }

    /// What was handed over and acknowledged since this was last called.
    #[must_use]
    pub fn take_acknowledged(&self) -> Vec<Acknowledged> {
        std::mem::take(&mut *self.0.acknowledged.lock())
    }

    /// Whether a session came since this was last called for which messages may wait.
    #[must_use]
    pub fn take_arrivals(&self) -> bool {
        self.0.has_arrivals.swap(false, Ordering::AcqRel)
    }

    /// Resolves when something was acknowledged or a session came. Cancel-safe; for one task.
    pub async fn direct_changed(&self) {
        self.0.direct.notified().await;
    }

    /// A client acknowledged a message that was handed over.
    pub(super) fn note_acknowledged(&self, message: &Message, reason: u8) {
        let Some(command) = message.command.clone() else { return };
        let acknowledged = Acknowledged { topic: message.topic.clone(), command, reason };
        self.0.acknowledged.lock().push(acknowledged);
        self.0.direct.notify_one();
    }

    /// A session is there that may be a device's.
    pub(super) fn note_arrival(&self) {
        self.0.has_arrivals.store(true, Ordering::Release);
        self.0.direct.notify_one();
    }
}

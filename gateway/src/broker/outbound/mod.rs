//! What one session is owed: its queue, and its packet ids in flight. Pure; it outlives the
//! connection.
//!
//! ```text
//!   push ─▶ queue ─▶ flight: Publish ──PUBACK──────────────────────▶ gone
//!                        └──PUBREC──▶ Release (PUBREL) ──PUBCOMP──▶ gone
//! ```
//! At most as many messages are in flight as the client's Receive Maximum says. A session that
//! outlives its connection is kept in the store's `sessions.redb`: what it is owed is written there
//! some time later, but a step of QoS 2 is only taken once it is there, so that no message is
//! delivered twice after a crash. What is sent again after a reconnect keeps its packet id and its
//! order `[MQTT-4.4.0-1]`, `[MQTT-4.6.0-1]`.
//!
//! Limits: messages of QoS 1 and 2, and bytes of all, of the queue and in flight together; what
//! finds no room is the session's own loss, and counted. Before that, whoever is a reader that
//! reads is waited for: see `patience`.

mod pending;
mod write;

use std::{collections::VecDeque, sync::Arc};

pub use self::pending::AllPending;
use self::pending::{Account, Load, Pending};
pub use self::write::{Peer, Written};
use super::message::Message;
use crate::store::{SessionChange, UnackedRow};

/// What one session is owed.
#[derive(Debug, Default)]
pub struct Outbound {
    account: Account,
    queue: VecDeque<Pending>,
    flight: VecDeque<InFlight>,
    /// A large message of QoS 0 that the connection is writing.
    writing: Option<Pending>,
    /// How many in flight are not sent on this connection.
    unsent: usize,
    last_number: u64,
    last_packet_id: u16,
    /// 0 while the client is away.
    receive_max: u16,
    /// It outlives its connection.
    keeps: bool,
}

/// A queue that held more entries than this gives memory back when it holds less.
const ENTRIES_IDLE: usize = 32;

#[derive(Debug)]
struct InFlight {
    pending: Pending,
    packet_id: u16,
    step: Step,
    /// On this connection.
    sent: bool,
    /// On any connection.
    dup: bool,
    kept: Keep,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// PUBLISH.
    Publish,
    /// PUBREL.
    Release,
}

/// Whether the file says this step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    No,
    Saving,
    Yes,
}

/// How much a session may be owed, in the queue and in flight together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Messages of QoS 1 and 2.
    pub messages_max: usize,
    /// Bytes of all, but of those from before the start; a session that is owed nothing takes one
    /// larger message, if there is room for it among all sessions.
    pub bytes_max: usize,
    /// Bytes that all sessions together may be owed.
    pub all_bytes_max: usize,
    /// They are from before the start, and may have been sent then.
    pub is_again: bool,
}

/// What a PUBREC is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// A message in flight.
    Known,
    /// Nothing that is in flight.
    Unknown,
}

impl Outbound {
    /// Owes nothing. What it comes to owe is added to `all`, and what it does not owe any more
    /// taken away.
    #[must_use]
    pub fn new(keeps: bool, all: &Arc<AllPending>) -> Self {
        Self { keeps, account: Account::new(all.clone()), ..Self::default() }
    }

    /// As the file says.
    #[must_use]
    pub fn restored(rows: Vec<(u64, UnackedRow)>, all: &Arc<AllPending>) -> Self {
        let mut outbound = Self::new(true, all);
        for (number, row) in rows {
            let pending = Pending {
                number,
                message: Arc::new(row.message.into()),
                qos: row.qos,
                retain: row.retain,
                subscription_ids: row.subscription_ids.into(),
                in_file: true,
                is_again: false,
            };
            outbound.account.add(&pending);
            outbound.last_number = outbound.last_number.max(number);
            if row.packet_id == 0 {
                outbound.queue.push_back(pending);
            } else {
                let step = if row.released { Step::Release } else { Step::Publish };
                outbound.last_packet_id = row.packet_id;
                outbound.flight.push_back(InFlight {
                    pending,
                    packet_id: row.packet_id,
                    step,
                    sent: false,
                    dup: true,
                    kept: Keep::Yes,
                });
            }
        }
        outbound
    }

    /// Owes `message`. False if there is no room for it: the copy is lost.
    pub fn push(
        &mut self,
        message: &Arc<Message>,
        qos: u8,
        retain: bool,
        ids: &[u32],
        limits: QueueLimits,
    ) -> bool {
        if self.receive_max == 0 && qos == 0 {
            // Nobody is there to take it now, and QoS 0 is for now (section 4.3.1).
            return true;
        }
        self.last_number += 1;
        let pending = Pending {
            number: self.last_number,
            message: message.clone(),
            qos,
            retain,
            subscription_ids: ids.into(),
            in_file: false,
            is_again: limits.is_again,
        };
        let Account { held, again, .. } = self.account;
        let (messages, bytes) = (held.messages - again.messages, held.bytes - again.bytes);
        let has_room = || self.account.has_room(&pending, limits.all_bytes_max);
        let fits = match limits.is_again {
            true => has_room(),
            false => bytes + pending.size() <= limits.bytes_max || (held.bytes == 0 && has_room()),
        };
        if !fits || (qos > 0 && messages >= limits.messages_max) {
            return false;
        }
        self.account.add(&pending);
        self.queue.push_back(pending);
        true
    }

    /// A connection begins: what is in flight is sent again.
    pub fn attach(&mut self, receive_max: u16, keeps: bool) {
        self.receive_max = receive_max.max(1);
        self.keeps = keeps;
        self.flight.iter_mut().for_each(|entry| entry.sent = false);
        self.unsent = self.flight.len();
    }

    /// The connection is over; `keeps` says whether the session outlives it.
    pub fn detach(&mut self, keeps: bool) {
        self.receive_max = 0;
        self.keeps = keeps;
        self.has_written();
        let (queue, account) = (&mut self.queue, &mut self.account);
        // A command goes back to the outbox, whose it is.
        let stays = |pending: &Pending| pending.qos > 0 && pending.message.command.is_none();
        queue.retain(|pending| stays(pending) || account.settle(pending));
        shrink(queue);
    }

    /// The connection writes no large message any more.
    fn has_written(&mut self) {
        if let Some(pending) = self.writing.take() {
            self.account.settle(&pending);
        }
    }

    /// Gives up what came last to the queue until at most `bytes_max` are owed, in flight included,
    /// without what is from before the start. Gives how many copies are lost.
    pub fn shed(&mut self, bytes_max: usize) -> usize {
        let before = self.queue.len();
        while self.own_bytes() > bytes_max
            && let Some(pending) = self.queue.pop_back()
        {
            self.account.settle(&pending);
        }
        shrink(&mut self.queue);
        before - self.queue.len()
    }

    /// PUBACK came. Gives the message, if it was waiting for that.
    pub fn acknowledge(&mut self, packet_id: u16) -> Option<Arc<Message>> {
        self.settle(packet_id, |entry| entry.pending.qos == 1)
    }

    /// PUBREC came; `is_refused` says with a reason that ends it.
    pub fn receive(&mut self, packet_id: u16, is_refused: bool) -> Received {
        if is_refused {
            let settled =
                self.settle(packet_id, |entry| entry.pending.qos == 2 && entry.step == Step::Publish);
            return if settled.is_some() { Received::Known } else { Received::Unknown };
        }
        let entry =
            self.flight.iter_mut().find(|entry| entry.packet_id == packet_id && entry.pending.qos == 2);
        let Some(entry) = entry else { return Received::Unknown };
        if entry.step == Step::Publish {
            (entry.step, entry.kept) = (Step::Release, Keep::No);
        }
        if entry.sent {
            entry.sent = false;
            self.unsent += 1;
        }
        Received::Known
    }

    /// PUBCOMP came. Whether it was waited for.
    pub fn complete(&mut self, packet_id: u16) -> bool {
        self.settle(packet_id, |entry| entry.step == Step::Release).is_some()
    }

    fn settle(&mut self, packet_id: u16, is_meant: impl Fn(&InFlight) -> bool) -> Option<Arc<Message>> {
        // Acknowledgements mostly come in order: the first is looked at first.
        let at = self.flight.iter().position(|entry| entry.packet_id == packet_id && is_meant(entry))?;
        let entry = self.flight.remove(at)?;
        self.unsent -= usize::from(!entry.sent);
        self.account.settle(&entry.pending);
        shrink(&mut self.flight);
        Some(entry.pending.message)
    }

    /// Adds what the file has to be told to `changes`. What is told counts as kept once
    /// [`Outbound::saved`] is called. Commands are kept by the outbox, which hands them out again
    /// unless it knows what became of them.
    pub fn changes(&mut self, client: &str, changes: &mut Vec<SessionChange>) {
        for number in self.account.settled.drain(..) {
            changes.push(SessionChange::Settled(client.to_owned(), number));
        }
        if !self.keeps {
            return;
        }
        let is_kept_here = |pending: &Pending| pending.qos > 0 && pending.message.command.is_none();
        let unsaved = |entry: &&mut InFlight| entry.kept == Keep::No && is_kept_here(&entry.pending);
        for entry in self.flight.iter_mut().filter(unsaved) {
            entry.kept = Keep::Saving;
            entry.pending.in_file = true;
            let row = entry.pending.row(entry.packet_id, entry.step == Step::Release);
            changes.push(SessionChange::Unacked(client.to_owned(), entry.pending.number, row));
        }
        for pending in self.queue.iter_mut().filter(|pending| !pending.in_file && is_kept_here(pending)) {
            pending.in_file = true;
            changes.push(SessionChange::Unacked(client.to_owned(), pending.number, pending.row(0, false)));
        }
    }

    /// Nobody knows what the file says: it is to be told all.
    pub fn forget_file(&mut self) {
        self.account.settled.clear();
        self.queue.iter_mut().for_each(|pending| pending.in_file = false);
        self.flight.iter_mut().for_each(|entry| entry.kept = Keep::No);
    }

    /// What [`Outbound::changes`] gave is durable.
    pub fn saved(&mut self) {
        for entry in self.flight.iter_mut().filter(|entry| entry.kept == Keep::Saving) {
            entry.kept = Keep::Yes;
        }
    }

    /// Whether a step of QoS 2 waits for the file.
    #[must_use]
    pub fn waits_for_file(&self) -> bool {
        let waits = |entry: &InFlight| !entry.sent && entry.pending.qos == 2 && entry.kept != Keep::Yes;
        self.keeps && self.unsent > 0 && self.flight.iter().any(waits)
    }

    /// Whether it owes the command with this id.
    #[must_use]
    pub fn has_command(&self, topic: &str, id: &str) -> bool {
        let is_this = |pending: &Pending| {
            pending.message.command.as_deref() == Some(id) && *pending.message.topic == *topic
        };
        self.queue.iter().any(is_this) || self.flight.iter().any(|entry| is_this(&entry.pending))
    }

    /// The messages that it owes: their sizes have to stay.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = &mut Arc<Message>> {
        let flight = self.flight.iter_mut().map(|entry| &mut entry.pending.message);
        self.queue.iter_mut().map(|pending| &mut pending.message).chain(flight)
    }

    /// Whether it outlives its connection.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.keeps
    }

    /// Whether a client is there.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.receive_max > 0
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.flight.is_empty()
    }

    /// Messages in the queue.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Messages of QoS 1 and 2, and bytes of all that is owed, in the queue and in flight.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.account.held.messages, self.account.held.bytes)
    }

    /// Bytes of all that is owed, without what is from before the start and may have been delivered
    /// then.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.account.held.bytes - self.account.again.bytes
    }

    /// Messages that are owed, whatever their QoS.
    #[must_use]
    pub fn copies(&self) -> usize {
        self.queue.len() + self.flight.len()
    }

    /// Whether a client that is there is owed more than one part in so many of what it may be owed.
    #[must_use]
    pub fn is_above(&self, part: usize, limits: QueueLimits) -> bool {
        let Load { messages, bytes } = self.account.held;
        self.is_attached() && (bytes > limits.bytes_max / part || messages > limits.messages_max / part)
    }

    fn take_first(&mut self) -> Option<Pending> {
        let pending = self.queue.pop_front()?;
        shrink(&mut self.queue);
        Some(pending)
    }

    fn next_packet_id(&mut self) -> u16 {
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1).max(1);
            // In flight there are fewer than there are ids.
            if self.flight.iter().all(|entry| entry.packet_id != self.last_packet_id) {
                return self.last_packet_id;
            }
        }
    }
}

/// Gives back the memory of what a queue once held.
fn shrink<T>(entries: &mut VecDeque<T>) {
    if entries.capacity() > ENTRIES_IDLE && entries.len() < entries.capacity() / 4 {
        entries.shrink_to(entries.len() * 2);
    }
}

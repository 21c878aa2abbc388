//! A message that a session is owed, with what its subscriptions make of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::super::{message::Message, outgoing::Delivery};
use crate::store::UnackedRow;

/// What an entry of the queue or in flight weighs beside its message, in bytes: twice itself, as
/// the memory of a queue grows.
const ENTRY_BYTES: usize = 128;

/// A message that is owed.
#[derive(Debug)]
pub(super) struct Pending {
    pub number: u64,
    pub message: Arc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub subscription_ids: Box<[u32]>,
    /// The file has it, or will have it with the save that is under way.
    pub in_file: bool,
    /// It is from before the start, and may have been sent then.
    pub is_again: bool,
}

/// How much is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Messages of QoS 1 and 2: those of QoS 0 are gone with the next write.
    pub messages: usize,
    /// Bytes of all messages.
    pub bytes: usize,
}

/// What all sessions are owed, in bytes.
#[derive(Debug, Default)]
pub struct AllPending {
    /// In all.
    bytes: AtomicUsize,
    /// How much of it is from before the start, and may have been delivered then.
    again_bytes: AtomicUsize,
}

impl AllPending {
    /// In all.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How much of it is from before the start, and may have been delivered then.
    #[must_use]
    pub fn again_bytes(&self) -> usize {
        self.again_bytes.load(Ordering::Relaxed)
    }
}

/// What is owed in all, in the queue and in flight, and what the file is to be told of it.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub held: Load,
    /// How much of it is from before the start.
    pub again: Load,
    /// In the file, and owed no more.
    pub settled: Vec<u64>,
    /// What all sessions are owed, this one included.
    all: Arc<AllPending>,
}

impl Account {
    pub fn new(all: Arc<AllPending>) -> Self {
        Self { held: Load::default(), again: Load::default(), settled: Vec::new(), all }
    }

    /// Whether all sessions together would be owed no more than so many bytes with it.
    pub fn has_room(&self, pending: &Pending, all_bytes_max: usize) -> bool {
        self.all.bytes() + pending.size() <= all_bytes_max
    }

    pub fn add(&mut self, pending: &Pending) {
        self.held.add(pending);
        self.all.bytes.fetch_add(pending.size(), Ordering::Relaxed);
        if pending.is_again {
            self.all.again_bytes.fetch_add(pending.size(), Ordering::Relaxed);
            self.again.add(pending);
        }
    }

    /// Owed no more: the file has to be told if it says otherwise. Gives false, for what filters.
    pub fn settle(&mut self, pending: &Pending) -> bool {
        self.held.remove(pending);
        self.all.bytes.fetch_sub(pending.size(), Ordering::Relaxed);
        if pending.is_again {
            self.all.again_bytes.fetch_sub(pending.size(), Ordering::Relaxed);
            self.again.remove(pending);
        }
        if pending.in_file {
            self.settled.push(pending.number);
        }
        false
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.all.bytes.fetch_sub(self.held.bytes, Ordering::Relaxed);
        self.all.again_bytes.fetch_sub(self.again.bytes, Ordering::Relaxed);
    }
}

impl Load {
    fn add(&mut self, pending: &Pending) {
        self.messages += usize::from(pending.qos > 0);
        self.bytes += pending.size();
    }

    fn remove(&mut self, pending: &Pending) {
        self.messages -= usize::from(pending.qos > 0);
        self.bytes -= pending.size();
    }
}

impl Pending {
    pub fn size(&self) -> usize {
        self.message.size() + ENTRY_BYTES
    }

    pub fn delivery(&self, packet_id: u16, dup: bool, expires_in_s: Option<u32>) -> Delivery<'_> {
        Delivery {
            message: &self.message,
            qos: self.qos,
            retain: self.retain,
            dup,
            packet_id,
            subscription_ids: &self.subscription_ids,
            expires_in_s,
        }
    }

    pub fn row(&self, packet_id: u16, released: bool) -> UnackedRow {
        UnackedRow {
            message: self.message.row(),
            qos: self.qos,
            retain: self.retain,
            subscription_ids: self.subscription_ids.to_vec(),
            packet_id,
            released,
        }
    }
}

//! A message that a session is owed, with what its subscriptions make of it.

use std::sync::Arc;

use super::super::{message::Message, outgoing::Delivery};
use crate::store::OwedRow;

/// What a message in the queue weighs beside its own bytes.
const ENTRY_BYTES: usize = 96;

/// A message that is owed.
#[derive(Debug)]
pub(super) struct Owed {
    pub number: u64,
    pub message: Arc<Message>,
    pub qos: u8,
    pub retain: bool,
    pub subscription_ids: Box<[u32]>,
    /// The file has it, or will have it with the save that is under way.
    pub in_file: bool,
}

impl Owed {
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

    /// Owed no more: the file has to be told if it says otherwise. Gives false, for what filters.
    pub fn settle(&self, settled: &mut Vec<u64>) -> bool {
        if self.in_file {
            settled.push(self.number);
        }
        false
    }

    pub fn row(&self, packet_id: u16, released: bool) -> OwedRow {
        OwedRow {
            message: self.message.row(),
            qos: self.qos,
            retain: self.retain,
            subscription_ids: self.subscription_ids.to_vec(),
            packet_id,
            released,
        }
    }
}

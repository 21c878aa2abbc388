//! What one socket read held, on its way into the intake: records as they lie in a row, and steps
//! of QoS 2. Pure.
//!
//! ```text
//!   tickets   0        1        2        3          4
//!             record   record   record   release    record        a full store: [`Batch::refuse`]
//!             plain    urgent   QoS 2    PUBREL     plain
//!             gone     stays    freed    stays      gone
//! ```
//! Limits: none of its own; who fills it stops at a size, see `ingest`.

use super::share::Share;
use crate::store::record::{Kind, Record};

/// What one QoS 2 step weighs in the intake, in bytes.
const OP_BYTES: usize = 64;
/// Memory that an empty batch keeps, in bytes.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Records of one socket read on their way into the intake, in order. One per connection, reused.
#[derive(Debug, Default)]
pub struct Batch {
    pub(in crate::store) bytes: Vec<u8>,
    pub(in crate::store) base_ms: u64,
    pub(in crate::store) records: u32,
    pub(in crate::store) events: u32,
    pub(in crate::store) frames: u32,
    pub(in crate::store) tickets: u64,
    /// By ticket within the batch.
    pub(in crate::store) ops: Vec<(u64, Op)>,
    plain_bytes: usize,
    urgent_bytes: usize,
    /// QoS 2 records that may be new.
    ids: usize,
    /// Somebody at hand waits for a record of it.
    is_hurried: bool,
    /// What those before it took of the intake.
    pub(in crate::store) share: Share,
}

/// A step of QoS 2, made durable in the commit of its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Op {
    /// The record with this ticket is stored only if the id is not pending.
    Receive { client: Box<str>, packet_id: u16 },
    /// PUBREL: a ticket without a record.
    Release { client: Box<str>, packet_id: u16 },
    /// The session is over: a ticket without a record.
    Forget { client: Box<str> },
}

/// What a batch weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// In the intake: all its bytes.
    pub bytes: usize,
    /// In the store: bytes of records that are not urgent.
    pub plain_bytes: usize,
    /// In the store: bytes of urgent records.
    pub urgent_bytes: usize,
    /// In the store: QoS 2 packet ids.
    pub ids: usize,
    /// What the batch's connection has in the intake already.
    pub(in crate::store) share: Share,
}

impl Size {
    /// Whether its connection gets so much of the intake, which holds `waiting_bytes` in its
    /// `filling`th filling.
    #[inline]
    pub(in crate::store) fn fits(self, filling: u64, waiting_bytes: usize) -> bool {
        self.share.has_room(filling, waiting_bytes, self.bytes)
    }
}

/// What was taken out of a batch because the store is full.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Refusal {
    /// The tickets, as they were before, in order, and what became of each.
    pub tickets: Vec<(u64, Fate)>,
    /// Events in the records taken out.
    pub events: u64,
}

/// What became of the ticket of a refused record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is gone: the tickets behind it move up.
    Gone,
    /// QoS 2: it stands for the release of the packet id.
    Freed,
}

impl Batch {
    /// Adds a record that is acknowledged by its ticket alone (QoS 0 and 1).
    pub fn push(&mut self, record: &Record<'_>) {
        if self.records == 0 {
            self.base_ms = record.received_ms;
        }
        let before = self.bytes.len();
        record.write(&mut self.bytes);
        let bytes = self.bytes.len() - before;
        *if record.urgent { &mut self.urgent_bytes } else { &mut self.plain_bytes } += bytes;
        self.count(record.events, record.kind == Kind::Frame);
    }

    /// Adds a QoS 2 record: stored unless `(client, packet_id)` is pending already, and then
    /// pending. Durable with the record.
    pub fn push_exactly_once(&mut self, record: &Record<'_>, packet_id: u16) {
        self.ops.push((self.tickets, Op::Receive { client: record.client.into(), packet_id }));
        self.ids += 1;
        self.push(record);
    }

    /// Whether a client that has these ids `pending`, ascending, would have no more than `ids_max`
    /// after this batch.
    pub(in crate::store) fn keeps_within(&self, pending: &[u16], ids_max: usize) -> bool {
        if pending.len() + self.ids <= ids_max {
            return true;
        }
        let count = |counts: &dyn Fn(&Op) -> bool| self.ops.iter().filter(|(_, op)| counts(op)).count();
        let is_pending = |id: &u16| pending.binary_search(id).is_ok();
        let news = count(&|op| matches!(op, Op::Receive { packet_id, .. } if !is_pending(packet_id)));
        let releases = count(&|op| matches!(op, Op::Release { packet_id, .. } if is_pending(packet_id)));
        pending.len() + news <= ids_max + releases
    }

    /// The client whose QoS 2 ids it brings, if it brings any.
    pub(in crate::store) fn receiver(&self) -> Option<&str> {
        self.ops.iter().find_map(|(_, op)| match op {
            Op::Receive { client, .. } => Some(&**client),
            _ => None,
        })
    }

    /// Adds the release of a QoS 2 packet id (PUBREL): it takes a ticket of its own, for the
    /// PUBCOMP.
    pub fn push_release(&mut self, client: &str, packet_id: u16) {
        self.push_op(Op::Release { client: client.into(), packet_id });
    }

    /// Adds the end of a session: all its QoS 2 packet ids are forgotten. Takes a ticket of its
    /// own.
    pub fn push_forget(&mut self, client: &str) {
        self.push_op(Op::Forget { client: client.into() });
    }

    /// Tickets that appending this batch takes.
    #[must_use]
    pub fn tickets(&self) -> u64 {
        self.tickets
    }

    /// Bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.ops.len() * OP_BYTES
    }

    /// What it weighs.
    #[must_use]
    pub fn size(&self) -> Size {
        Size {
            bytes: self.bytes(),
            plain_bytes: self.plain_bytes,
            urgent_bytes: self.urgent_bytes,
            ids: self.ids,
            share: self.share,
        }
    }

    /// Nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets == 0
    }

    /// Whether it holds something that never lingers.
    pub(in crate::store) fn is_urgent(&self) -> bool {
        self.urgent_bytes > 0
    }

    /// Its commit lingers for [`HURRIED_LINGER_MAX`](super::HURRIED_LINGER_MAX) at most, whatever
    /// the wear budget says: a local subscriber waits for a record of it.
    pub fn hurry(&mut self) {
        self.is_hurried = true;
    }

    /// Whether it was hurried.
    pub(in crate::store) fn is_hurried(&self) -> bool {
        self.is_hurried
    }

    /// See [`Intake::refuse`](super::Intake::refuse).
    pub(in crate::store) fn refuse(&mut self, is_pending: impl Fn(&str, u16) -> bool) -> Refusal {
        let keeps_urgent = self.plain_bytes > 0;
        let (bytes, ops, tickets) =
            (std::mem::take(&mut self.bytes), std::mem::take(&mut self.ops), self.tickets);
        self.clear();
        let mut refused = Refusal::default();
        let mut ops = ops.into_iter().peekable();
        let mut at = 0;
        for ticket in 0..tickets {
            let op = ops.next_if(|(of, _)| *of == ticket).map(|(_, op)| op);
            let receive = match op {
                Some(Op::Receive { client, packet_id }) => Some((client, packet_id)),
                Some(step) => {
                    self.push_op(step);
                    continue;
                }
                None => None,
            };
            let Some((events, size)) = Record::peek(&bytes, at) else { break };
            let record = &bytes[at..at + size];
            at += size;
            let is_stored = receive.as_ref().is_some_and(|(client, id)| is_pending(client, *id));
            if is_stored || (keeps_urgent && Record::is_urgent(record)) {
                self.keep(record, events, receive, is_stored);
                continue;
            }
            refused.events += u64::from(events);
            refused.tickets.push((ticket, if receive.is_some() { Fate::Freed } else { Fate::Gone }));
            if let Some((client, packet_id)) = receive {
                self.push_op(Op::Release { client, packet_id });
            }
        }
        refused
    }

    /// Puts a record back. One that is stored already weighs nothing: the commit thread leaves it
    /// out.
    fn keep(&mut self, record: &[u8], events: u8, receive: Option<(Box<str>, u16)>, is_stored: bool) {
        if let Some((client, packet_id)) = receive {
            self.ops.push((self.tickets, Op::Receive { client, packet_id }));
            self.ids += usize::from(!is_stored);
        }
        self.bytes.extend_from_slice(record);
        if !is_stored {
            self.urgent_bytes += record.len();
        }
        self.count(events, Record::is_frame(record));
    }

    fn count(&mut self, events: u8, is_frame: bool) {
        self.records += 1;
        self.events += u32::from(events);
        self.frames += u32::from(is_frame);
        self.tickets += 1;
    }

    fn push_op(&mut self, op: Op) {
        self.ops.push((self.tickets, op));
        self.tickets += 1;
    }

    /// Empties it; its memory is kept.
    pub(in crate::store) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.ops.clear();
        (self.records, self.events, self.frames, self.tickets) = (0, 0, 0, 0);
        (self.plain_bytes, self.urgent_bytes, self.ids, self.is_hurried) = (0, 0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(topic: &str, urgent: bool) -> Record<'_> {
        Record {
            events: 1,
            qos: 0,
            urgent,
            received_ms: 5,
            client: "c",
            topic,
            payload: b"x",
            ..Record::default()
        }
    }

    fn topics(batch: &Batch) -> Vec<String> {
        let mut row = vec![0; crate::store::record::row::HEAD_BYTES];
        row.extend_from_slice(&batch.bytes);
        let mut records = crate::store::record::row::Records::of(&row, 0, batch.base_ms);
        let mut topics = vec![];
        while let Some(Ok((_, record, _))) = records.read_next() {
            topics.push(record.topic.to_owned());
        }
        topics
    }

    fn release(packet_id: u16) -> Op {
        Op::Release { client: "c".into(), packet_id }
    }

    #[test]
    fn a_full_store_refuses_what_is_not_urgent_and_keeps_every_step_of_qos_2() {
        let mut batch = Batch::default();
        batch.push(&record("plain", false));
        batch.push_release("c", 1);
        batch.push(&record("urgent", true));
        batch.push_exactly_once(&record("once", false), 2);
        batch.push_exactly_once(&record("stored", false), 3);
        batch.push_exactly_once(&record("urgent once", true), 4);
        batch.push(&record("plain", false));
        batch.push_forget("c");
        let refused = batch.refuse(|client, id| (client, id) == ("c", 3));
        let wanted = [(0, Fate::Gone), (3, Fate::Freed), (6, Fate::Gone)];
        assert_eq!((refused.tickets.as_slice(), refused.events), (&wanted[..], 3));
        assert_eq!(topics(&batch), ["urgent", "stored", "urgent once"]);
        let receive = |packet_id| Op::Receive { client: "c".into(), packet_id };
        let steps = [(0, release(1)), (2, release(2)), (3, receive(3)), (4, receive(4))];
        assert_eq!(batch.ops[..4], steps);
        assert_eq!(batch.ops[4], (5, Op::Forget { client: "c".into() }));
        assert_eq!((batch.tickets(), batch.records, batch.events), (6, 3, 3));
        assert_eq!(batch.size().plain_bytes, 0, "what is stored already takes no room");

        let refused = batch.refuse(|_, id| id == 3);
        assert_eq!(refused.tickets, [(1, Fate::Gone), (4, Fate::Freed)], "not even the urgent ones fit");
        assert_eq!(topics(&batch), ["stored"]);
        assert_eq!((batch.tickets(), batch.size().urgent_bytes), (5, 0));
    }

    #[test]
    fn what_is_pending_already_is_not_counted_again_and_what_is_released_makes_room() {
        let mut batch = Batch::default();
        for id in 1..=4 {
            batch.push_exactly_once(&record("once", false), id);
        }
        assert!(batch.keeps_within(&[], 4) && !batch.keeps_within(&[], 3));
        assert!(batch.keeps_within(&[9], 5) && !batch.keeps_within(&[9], 4));
        assert!(batch.keeps_within(&[1, 2, 9], 5), "two are sent again");
        batch.push_release("c", 9);
        assert!(batch.keeps_within(&[9], 4));
        assert!(!batch.keeps_within(&[8], 4), "it was not pending");
    }

    #[test]
    fn a_batch_is_refused_down_to_nothing() {
        let mut batch = Batch::default();
        batch.push(&record("plain", false));
        batch.refuse(|_, _| false);
        assert!(batch.is_empty());
        assert_eq!(batch.size(), Size::default());
    }
}

//! The acknowledgements that a connection owes, in the order received, and its packet ids in
//! flight. Pure.
//!
//! ```text
//!   queue   | due at 17 | due at 19 | due at 19 | +1 | +2 | +2 |      committed = 18: the first one goes out
//!             └──── appended: absolute ────┘      └─ staged: counted from the batch's first ticket
//! ```
//! An acknowledgement is due once the watermark's `committed` reaches its `due_at`, one above its
//! ticket. One that has no ticket of its own (a publish that no route takes, a PUBREC said again)
//! takes the place of what precedes it, so that the order holds. What a full store refuses is told
//! in its place as well. Limits: 65,535 packet ids; the queue is bounded by who stops reading at
//! its length.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    mqtt::{packet::Reply, publish::Qos, version::Version},
    store::Fate,
};

/// What a publish with a packet id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Not in flight: store it and acknowledge it.
    New,
    /// In flight, and its acknowledgement will come: nothing to do.
    Resend,
    /// QoS 2, received and told so: PUBREC again.
    Received,
    /// The id is in flight for another publish. What that is cannot be told, so it is stored as
    /// well.
    Reused,
}

/// The pending acknowledgements.
#[derive(Debug, Default)]
pub struct Acks {
    queue: VecDeque<Ack>,
    /// How many at the queue's end are counted from a batch that is not appended.
    staged: usize,
    /// Tickets that the batch takes so far.
    pushed: u64,
    /// The greatest `due_at` ever appended: 0 is due always.
    last_due_at: u64,
    in_flight: HashMap<u16, InFlight, BuildHasherDefault<PacketIdHasher>>,
}

#[derive(Debug, Clone, Copy)]
struct Ack {
    due_at: u64,
    packet_id: u16,
    reply: Reply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    /// QoS 1, PUBACK pending.
    Qos1,
    /// QoS 2, PUBREC pending.
    Storing,
    /// QoS 2, PUBREC sent, PUBREL awaited.
    Received,
    /// QoS 2, passed on and not stored, PUBREL awaited: the store does not know the id.
    Transient,
    /// QoS 2, PUBREL received, PUBCOMP pending.
    Releasing,
}

impl Acks {
    /// Notes the arrival of a publish with QoS 1 or 2.
    #[inline]
    pub fn arrive(&mut self, packet_id: u16, qos: Qos, dup: bool) -> Arrival {
        let state = if qos == Qos::ExactlyOnce { InFlight::Storing } else { InFlight::Qos1 };
        let mut known = match self.in_flight.entry(packet_id) {
            Entry::Vacant(vacant) => {
                vacant.insert(state);
                return Arrival::New;
            }
            Entry::Occupied(known) => known,
        };
        match (state, *known.get()) {
            (InFlight::Qos1, InFlight::Qos1) if dup => Arrival::Resend,
            (InFlight::Storing, InFlight::Storing) => Arrival::Resend,
            (InFlight::Storing, InFlight::Received | InFlight::Transient) => Arrival::Received,
            (InFlight::Storing, InFlight::Releasing) => {
                known.insert(state);
                Arrival::New
            }
            (InFlight::Storing, InFlight::Qos1) => {
                known.insert(state);
                Arrival::Reused
            }
            _ => Arrival::Reused,
        }
    }

    /// The QoS 2 publish that just arrived with this id is not stored, and its id ends with the
    /// connection.
    pub fn mark_transient(&mut self, packet_id: u16) {
        if let Some(state @ InFlight::Storing) = self.in_flight.get_mut(&packet_id) {
            *state = InFlight::Transient;
        }
    }

    /// Notes a PUBREL. Whether the store may know the id.
    pub fn release(&mut self, packet_id: u16) -> bool {
        let Some(state) = self.in_flight.get_mut(&packet_id) else { return true };
        let was_transient = *state == InFlight::Transient;
        if matches!(state, InFlight::Storing | InFlight::Received | InFlight::Transient) {
            *state = InFlight::Releasing;
        }
        !was_transient
    }

    /// Notes that something was pushed into the batch, which takes one ticket.
    #[inline]
    pub fn pushed(&mut self) {
        self.pushed += 1;
    }

    /// Owes `reply`, due with what was pushed last.
    #[inline]
    pub fn stage(&mut self, packet_id: u16, reply: Reply) {
        self.queue.push_back(Ack { due_at: self.pushed, packet_id, reply });
        self.staged += 1;
    }

    /// The batch was appended and its first ticket is `first`. Also to be called for an empty
    /// batch, with any number.
    pub fn appended(&mut self, first: u64) {
        let before = self.last_due_at;
        if self.pushed > 0 {
            self.last_due_at = first + self.pushed;
        }
        let from = self.queue.len() - self.staged;
        for ack in self.queue.range_mut(from..) {
            ack.due_at = if ack.due_at == 0 { before } else { first + ack.due_at };
        }
        self.staged = 0;
        self.pushed = 0;
    }

    /// These tickets of the batch were refused, and it has fewer now: the replies they were for
    /// become refusals, in their places.
    pub fn refuse(&mut self, refused: &[(u64, Fate)]) {
        let from = self.queue.len() - self.staged;
        let mut gone = 0;
        let mut refused = refused.iter().peekable();
        for ack in self.queue.range_mut(from..) {
            while let Some((ticket, fate)) = refused.next_if(|(ticket, _)| *ticket < ack.due_at) {
                gone += u64::from(*fate == Fate::Gone);
                if ticket + 1 == ack.due_at {
                    ack.reply = ack.reply.refused();
                }
            }
            ack.due_at -= gone;
        }
        gone += refused.filter(|(_, fate)| *fate == Fate::Gone).count() as u64;
        self.pushed -= gone;
    }

    /// The watermark at which everything appended is durable.
    #[must_use]
    pub fn last_due_at(&self) -> u64 {
        self.last_due_at
    }

    /// Writes all that is due to `out`.
    pub fn write_due(&mut self, committed: u64, version: Version, out: &mut Vec<u8>) {
        while self.queue.len() > self.staged {
            let Some(&ack) = self.queue.front() else { return };
            if ack.due_at > committed {
                return;
            }
            self.queue.pop_front();
            ack.reply.write(version, ack.packet_id, out);
            self.settle(ack);
        }
    }

    /// What the reply just sent means for its packet id.
    #[inline]
    fn settle(&mut self, ack: Ack) {
        let Entry::Occupied(mut known) = self.in_flight.entry(ack.packet_id) else { return };
        match (ack.reply, *known.get()) {
            (
                Reply::Puback | Reply::PubackUnrouted | Reply::PubackRefused | Reply::PubackDenied,
                InFlight::Qos1,
            )
            | (Reply::PubrecRefused | Reply::PubrecDenied, InFlight::Storing)
            | (Reply::Pubcomp, InFlight::Releasing) => {
                known.remove();
            }
            (Reply::Pubrec | Reply::PubrecUnrouted, InFlight::Storing) => {
                known.insert(InFlight::Received);
            }
            _ => {}
        }
    }

    /// Whether the batch holds something, or replies wait for it to be appended.
    #[must_use]
    pub fn has_staged(&self) -> bool {
        self.pushed > 0 || self.staged > 0
    }

    /// Whether something appended waits for the watermark.
    #[must_use]
    pub fn awaits_commit(&self) -> bool {
        self.queue.len() > self.staged
    }

    /// Pending acknowledgements.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Publishes with QoS 1 and 2 in flight, as MQTT 5 counts them (section 4.9).
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether a QoS 2 packet id is in flight that was not released.
    #[must_use]
    pub fn has_exactly_once(&self) -> bool {
        self.in_flight.values().any(|state| matches!(state, InFlight::Storing | InFlight::Received))
    }

    /// Gives back the memory that is not needed now.
    pub fn shrink(&mut self) {
        self.queue.shrink_to_fit();
        self.in_flight.shrink_to_fit();
    }
}

/// Spreads packet ids, which mostly count upwards. Sixteen bits need no defence against chosen
/// keys: the worst table has 65,535 entries.
#[derive(Debug, Default)]
struct PacketIdHasher(u64);

impl Hasher for PacketIdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 << 8) | u64::from(byte);
        }
        self.write_u16(self.0 as u16);
    }

    fn write_u16(&mut self, id: u16) {
        // 2^64 divided by the golden ratio: neighbours land far apart in both the high and the low
        // bits.
        self.0 = u64::from(id).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packet ids of all PUBACKs due.
    fn due(acks: &mut Acks, committed: u64) -> Vec<u16> {
        let mut out = vec![];
        acks.write_due(committed, Version::V311, &mut out);
        out.chunks(4).map(|packet| u16::from_be_bytes([packet[2], packet[3]])).collect()
    }

    fn stored(acks: &mut Acks, packet_id: u16) {
        assert_eq!(acks.arrive(packet_id, Qos::AtLeastOnce, false), Arrival::New);
        acks.pushed();
        acks.stage(packet_id, Reply::Puback);
    }

    #[test]
    fn nothing_is_due_before_its_ticket_is_below_the_watermark() {
        let mut acks = Acks::default();
        stored(&mut acks, 1);
        stored(&mut acks, 2);
        assert_eq!(due(&mut acks, u64::MAX), Vec::<u16>::new(), "not appended");
        acks.appended(10);
        assert_eq!(due(&mut acks, 10), Vec::<u16>::new());
        assert_eq!(due(&mut acks, 11), [1]);
        assert_eq!(due(&mut acks, 12), [2]);
        assert_eq!(acks.in_flight(), 0);
    }

    #[test]
    fn a_reply_without_a_ticket_keeps_its_place() {
        let mut acks = Acks::default();
        acks.stage(1, Reply::PubackUnrouted);
        acks.appended(999);
        assert_eq!(due(&mut acks, 0), [1], "nothing precedes it");
        stored(&mut acks, 2);
        acks.stage(3, Reply::PubackUnrouted);
        acks.appended(5);
        acks.stage(4, Reply::PubackUnrouted);
        acks.appended(999);
        assert_eq!(due(&mut acks, 5), Vec::<u16>::new());
        assert_eq!(due(&mut acks, 6), [2, 3, 4]);
    }

    #[test]
    fn packet_ids_in_flight_are_told_apart() {
        use Arrival::{New, Received, Resend, Reused};
        let (one, two) = (Qos::AtLeastOnce, Qos::ExactlyOnce);
        let mut acks = Acks::default();
        let table =
            [(7, one, false, New), (7, one, true, Resend), (7, one, false, Reused), (8, two, false, New)];
        for (id, qos, dup, wanted) in table {
            assert_eq!(acks.arrive(id, qos, dup), wanted, "{id} {qos:?} {dup}");
        }
        assert_eq!(acks.arrive(8, two, true), Resend);
        assert_eq!(acks.arrive(8, two, false), Resend, "QoS 2 goes by the id alone");
        acks.stage(8, Reply::Pubrec);
        acks.appended(0);
        due(&mut acks, 0);
        assert_eq!(acks.arrive(8, two, true), Received);
        assert!(acks.has_exactly_once());
        acks.release(8);
        assert_eq!(acks.arrive(8, two, false), New, "after PUBREL the id names a new publish");
        assert_eq!(acks.in_flight(), 2);
    }

    #[test]
    fn an_id_that_the_store_does_not_know_is_known_here_until_its_release() {
        let mut acks = Acks::default();
        acks.arrive(8, Qos::ExactlyOnce, false);
        acks.mark_transient(8);
        acks.stage(8, Reply::Pubrec);
        acks.appended(0);
        due(&mut acks, 0);
        assert_eq!(acks.arrive(8, Qos::ExactlyOnce, true), Arrival::Received);
        assert!(!acks.has_exactly_once());
        assert!(!acks.release(8) && acks.release(9), "nothing is known of the other");
        acks.stage(8, Reply::Pubcomp);
        acks.appended(0);
        due(&mut acks, 0);
        assert_eq!(acks.in_flight(), 0);
    }

    #[test]
    fn a_pubcomp_frees_the_id_unless_it_is_in_use_again() {
        let mut acks = Acks::default();
        acks.arrive(8, Qos::ExactlyOnce, false);
        acks.release(8);
        acks.stage(8, Reply::Pubcomp);
        acks.appended(0);
        due(&mut acks, 0);
        assert_eq!(acks.in_flight(), 0);
        acks.arrive(8, Qos::ExactlyOnce, false);
        acks.release(8);
        acks.stage(8, Reply::Pubcomp);
        acks.arrive(8, Qos::ExactlyOnce, false);
        acks.appended(0);
        due(&mut acks, 0);
        assert_eq!(acks.in_flight(), 1);
    }

    #[test]
    fn a_refused_publish_is_told_in_its_place_and_its_id_is_free_again() {
        let mut acks = Acks::default();
        stored(&mut acks, 1); // ticket 0: gone
        acks.pushed(); // QoS 0, ticket 1: gone
        acks.stage(9, Reply::PubrecAgain);
        acks.arrive(2, Qos::ExactlyOnce, false);
        acks.pushed(); // ticket 2: freed
        acks.stage(2, Reply::Pubrec);
        acks.pushed(); // PUBREL, ticket 3: stays
        acks.stage(3, Reply::Pubcomp);
        stored(&mut acks, 4); // ticket 4: stays
        acks.pushed(); // QoS 0, ticket 5: gone
        acks.refuse(&[(0, Fate::Gone), (1, Fate::Gone), (2, Fate::Freed), (5, Fate::Gone)]);
        acks.appended(100);
        let told = |acks: &mut Acks, committed| {
            let mut out = vec![];
            acks.write_due(committed, Version::V5, &mut out);
            out
        };
        assert_eq!(told(&mut acks, 0), [0x40, 3, 0, 1, 0x97, 0x50, 2, 0, 9]);
        assert_eq!(told(&mut acks, 100), Vec::<u8>::new());
        assert_eq!(told(&mut acks, 101), [0x50, 3, 0, 2, 0x97], "when its id is free in the store too");
        assert_eq!(told(&mut acks, 103), [0x70, 2, 0, 3, 0x40, 2, 0, 4]);
        assert_eq!(acks.in_flight(), 0);
        assert_eq!(acks.arrive(2, Qos::ExactlyOnce, true), Arrival::New);
    }
}

//! The queue of sealed frames: it owns every event from its sealing to its acknowledgement.
//!
//! Purpose: an event leaves the device only by a PUBACK, or it is named as lost. In order, bounded,
//! no allocation.
//!
//! ```text
//!         push          begin             sent                  acked
//!  sealed ─────▶ Ready ───────▶ Writing ───────▶ InFlight(id) ──────▶ Acked: the slot is free
//!                ▲  ▲  ◀─unsent─┘                 │  │   ▲
//!                │  └────────── refused ──────────┘  │   │ sent
//!                │        reconnected(false)         │   │
//!                └───────────────────────────────────┤   │
//!                         reconnected(true)          └▶ Resend(id)
//! ```
//!
//! A full queue drops its oldest telemetry, and never a frame that is in flight: a gateway may have
//! it already. Some slots are kept for urgent frames. An urgent frame is never dropped for another
//! one; when nothing else is left to drop, the new frame is what is lost.
//!
//! Limits: `SLOTS` frames of `BYTES` bytes, 2 to [`SLOTS_MAX`] slots.
//!
//! Crash story: it is in RAM; a reset loses what was not acknowledged, and the next boot counts
//! from 0 under a new boot number. A queue in flash would offer these same calls; nothing outside
//! this file sees a slot's inside.
//!
//! What it does not do: it sends nothing and reads no clock.

use core::num::NonZeroU16;

use heapless::Vec;

/// Most slots of a queue.
pub const SLOTS_MAX: usize = 32;
/// Slots that only urgent frames may use: a quarter of them.
const RESERVE_DIVISOR: usize = 4;

/// An MQTT packet identifier: never 0 ([MQTT-2.2.1-3]).
pub type PacketId = NonZeroU16;

/// A sealed frame, on its way into the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'f> {
    /// The frame.
    pub bytes: &'f [u8],
    /// The number of its first event.
    pub first_seq: u32,
    /// How many events it has.
    pub events: u8,
    /// It may use the reserve, and is not dropped to make room.
    pub urgent: bool,
}

/// The events of a frame that left the queue: acknowledged, or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Gone {
    /// The number of the first event.
    pub first_seq: u32,
    /// How many events.
    pub events: u8,
}

/// What to publish next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next<'q> {
    /// Names the frame in [`Queue::begin`], [`Queue::sent`], [`Queue::unsent`] and
    /// [`Queue::discard`].
    pub slot: SlotId,
    /// Set: publish it again under this identifier, with DUP ([MQTT-4.4.0-1]). Not set: under a new
    /// one.
    pub resend: Option<PacketId>,
    /// The frame.
    pub bytes: &'q [u8],
}

/// A slot of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotId(u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Writing,
    InFlight(PacketId),
    Resend(PacketId),
}

#[derive(Debug)]
struct Slot<const BYTES: usize> {
    bytes: [u8; BYTES],
    len: u16,
    first_seq: u32,
    /// The count of publishes at this one's: the order in which they must be sent again
    /// ([MQTT-4.6.0-1]).
    sent_as: u32,
    events: u8,
    urgent: bool,
    state: State,
}

impl<const BYTES: usize> Slot<BYTES> {
    const EMPTY: Self = Slot {
        bytes: [0; BYTES],
        len: 0,
        first_seq: 0,
        sent_as: 0,
        events: 0,
        urgent: false,
        state: State::Ready,
    };

    fn gone(&self) -> Gone {
        Gone { first_seq: self.first_seq, events: self.events }
    }
}

/// The queue.
#[derive(Debug)]
pub struct Queue<const SLOTS: usize, const BYTES: usize> {
    slots: [Slot<BYTES>; SLOTS],
    /// The slots in use, oldest frame first.
    order: Vec<u8, SLOTS>,
    sent: u32,
}

impl<const SLOTS: usize, const BYTES: usize> Default for Queue<SLOTS, BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize, const BYTES: usize> Queue<SLOTS, BYTES> {
    /// How many slots only urgent frames may use.
    pub const RESERVE: usize = SLOTS / RESERVE_DIVISOR;

    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(SLOTS >= 2 && SLOTS <= SLOTS_MAX && BYTES <= u16::MAX as usize) }
        Queue { slots: [const { Slot::EMPTY }; SLOTS], order: Vec::new(), sent: 0 }
    }

    /// Takes a frame of at most `BYTES` bytes. Returns what was lost for it: the oldest telemetry
    /// that is not in flight, or the frame itself when there is none (or when it is longer than a
    /// slot).
    pub fn push(&mut self, frame: Sealed<'_>) -> Option<Gone> {
        let refused = Gone { first_seq: frame.first_seq, events: frame.events };
        if frame.bytes.len() > BYTES {
            return Some(refused);
        }
        let fits = if frame.urgent { self.order.len() < SLOTS } else { self.has_room() };
        let lost = if fits {
            None
        } else {
            let Some(at) = self.oldest_to_drop() else { return Some(refused) };
            Some(self.remove(at))
        };
        self.insert(frame);
        lost
    }

    /// Whether a frame that is not urgent finds a slot without a loss.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.order.len() < SLOTS - Self::RESERVE
    }

    /// Whether every frame that was taken is acknowledged or lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Whether a frame waits to be sent: a further one would be sent after it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.count(|state| matches!(state, State::Ready | State::Resend(_))) > 0
    }

    /// How many events it holds.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.order.iter().map(|&slot| u32::from(self.slots[usize::from(slot)].events)).sum()
    }

    /// What to publish next, as long as fewer than `window` frames are unacknowledged: first what
    /// must be sent again, in the order of the first time, then the oldest frame that is ready.
    #[must_use]
    pub fn next(&self, window: usize) -> Option<Next<'_>> {
        let unanswered = self.count(|state| matches!(state, State::InFlight(_) | State::Writing));
        if unanswered >= window {
            return None;
        }
        let again = self.used().filter_map(|(slot, frame)| match frame.state {
            State::Resend(id) => Some((slot, frame, id)),
            State::Ready | State::Writing | State::InFlight(_) => None,
        });
        if let Some((slot, frame, id)) = again.min_by_key(|(_, frame, _)| frame.sent_as) {
            return Some(Next { slot, resend: Some(id), bytes: &frame.bytes[..usize::from(frame.len)] });
        }
        let (slot, frame) = self.used().find(|(_, frame)| frame.state == State::Ready)?;
        Some(Next { slot, resend: None, bytes: &frame.bytes[..usize::from(frame.len)] })
    }

    /// The frame in `slot` is about to be written: from here on it is not dropped.
    pub fn begin(&mut self, slot: SlotId) {
        let frame = &mut self.slots[usize::from(slot.0)];
        if frame.state == State::Ready {
            self.sent = self.sent.wrapping_add(1);
            frame.sent_as = self.sent;
            frame.state = State::Writing;
        }
    }

    /// The frame in `slot` was written to the connection, in whole or in part, under `id`.
    pub fn sent(&mut self, slot: SlotId, id: PacketId) {
        self.slots[usize::from(slot.0)].state = State::InFlight(id);
    }

    /// Nothing of the frame in `slot` was written.
    pub fn unsent(&mut self, slot: SlotId) {
        self.slots[usize::from(slot.0)].state = State::Ready;
    }

    /// The frame under `id` is acknowledged: it leaves the queue. `None` when no such frame is in
    /// flight.
    pub fn acked(&mut self, id: PacketId) -> Option<Gone> {
        let at = self.position(id)?;
        Some(self.remove(at))
    }

    /// The frame under `id` was refused: it is ready again, at its old place. False when no such
    /// frame is in flight.
    pub fn refused(&mut self, id: PacketId) -> bool {
        let Some(at) = self.position(id) else { return false };
        self.slots[usize::from(self.order[at])].state = State::Ready;
        true
    }

    /// Gives up a frame that the gateway can never take.
    pub fn discard(&mut self, slot: SlotId) -> Option<Gone> {
        let at = self.order.iter().position(|&used| used == slot.0)?;
        Some(self.remove(at))
    }

    /// A new connection stands. `resumed`: the gateway has the session of the last one, and what
    /// was in flight must be sent again under its old identifier. Otherwise it is sent under new
    /// ones, from the oldest on.
    pub fn reconnected(&mut self, resumed: bool) {
        for &slot in &self.order {
            let frame = &mut self.slots[usize::from(slot)];
            frame.state = match frame.state {
                State::InFlight(id) | State::Resend(id) if resumed => State::Resend(id),
                State::Ready | State::Writing | State::InFlight(_) | State::Resend(_) => State::Ready,
            };
        }
    }

    fn used(&self) -> impl Iterator<Item = (SlotId, &Slot<BYTES>)> {
        self.order.iter().map(|&slot| (SlotId(slot), &self.slots[usize::from(slot)]))
    }

    fn count(&self, wanted: impl Fn(State) -> bool) -> usize {
        self.used().filter(|(_, frame)| wanted(frame.state)).count()
    }

    /// The place in `order` of the frame in flight under `id`.
    fn position(&self, id: PacketId) -> Option<usize> {
        self.used().position(|(_, frame)| frame.state == State::InFlight(id))
    }

    /// The place in `order` of the oldest frame that may be dropped.
    fn oldest_to_drop(&self) -> Option<usize> {
        self.used().position(|(_, frame)| frame.state == State::Ready && !frame.urgent)
    }

    fn remove(&mut self, at: usize) -> Gone {
        let slot = self.order.remove(at);
        self.slots[usize::from(slot)].gone()
    }

    fn insert(&mut self, frame: Sealed<'_>) {
        let free = (0..SLOTS as u8).find(|slot| !self.order.contains(slot));
        let Some(slot) = free else { return debug_assert!(false, "push made room before") };
        let place = &mut self.slots[usize::from(slot)];
        place.bytes[..frame.bytes.len()].copy_from_slice(frame.bytes);
        place.len = frame.bytes.len() as u16;
        place.first_seq = frame.first_seq;
        place.events = frame.events;
        place.urgent = frame.urgent;
        place.state = State::Ready;
        let pushed = self.order.push(slot);
        debug_assert!(pushed.is_ok(), "as many places as slots");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const SLOTS: usize = 8;
    type Small = Queue<SLOTS, 16>;

    fn id(id: u16) -> PacketId {
        PacketId::new(id).unwrap()
    }

    fn frame(first_seq: u32, urgent: bool) -> Sealed<'static> {
        Sealed { bytes: b"frame", first_seq, events: 1, urgent }
    }

    /// Sends what is next under `id`; the number of its first event.
    fn send(queue: &mut Small, under: u16) -> Option<u32> {
        let next = queue.next(SLOTS)?;
        let slot = next.slot;
        queue.begin(slot);
        queue.sent(slot, id(under));
        Some(queue.slots[usize::from(slot.0)].first_seq)
    }

    #[test]
    fn frames_leave_in_the_order_they_came_and_acks_come_in_any_order() {
        let mut queue = Small::new();
        for seq in 0..3 {
            assert_eq!(queue.push(frame(seq, false)), None);
        }
        assert_eq!([1, 2, 3].map(|under| send(&mut queue, under)), [Some(0), Some(1), Some(2)]);
        assert_eq!(queue.acked(id(2)), Some(Gone { first_seq: 1, events: 1 }));
        assert_eq!(queue.acked(id(2)), None, "an identifier answers once");
        assert_eq!(queue.acked(id(3)), Some(Gone { first_seq: 2, events: 1 }));
        assert_eq!(queue.acked(id(1)), Some(Gone { first_seq: 0, events: 1 }));
        assert!(queue.is_empty());
    }

    #[test]
    fn the_window_bounds_what_is_unacknowledged() {
        let mut queue = Small::new();
        for seq in 0..3 {
            let _ = queue.push(frame(seq, false));
        }
        for under in [1, 2] {
            let slot = queue.next(2).unwrap().slot;
            queue.begin(slot);
            queue.sent(slot, id(under));
        }
        assert_eq!(queue.next(2), None);
        let _ = queue.acked(id(1));
        assert!(queue.next(2).is_some());
    }

    #[test]
    fn a_frame_waits_until_it_is_written_and_again_when_it_must_be_sent_again() {
        let mut queue = Small::new();
        assert!(!queue.is_waiting());
        let _ = queue.push(frame(0, false));
        assert!(queue.is_waiting());
        send(&mut queue, 1);
        assert!(!queue.is_waiting());
        queue.reconnected(true);
        assert!(queue.is_waiting());
    }

    #[test]
    fn a_full_queue_drops_its_oldest_telemetry_but_nothing_in_flight_and_nothing_urgent() {
        let mut queue = Small::new();
        assert_eq!(queue.push(frame(0, false)), None);
        assert_eq!(queue.push(frame(1, true)), None);
        for seq in 2..6 {
            assert_eq!(queue.push(frame(seq, false)), None);
        }
        assert_eq!(send(&mut queue, 1), Some(0));
        assert_eq!(queue.push(frame(6, false)), Some(Gone { first_seq: 2, events: 1 }));
        assert_eq!(queue.acked(id(1)), Some(Gone { first_seq: 0, events: 1 }), "it was in flight and stayed");
    }

    #[test]
    fn a_frame_that_is_being_written_is_not_dropped() {
        let mut queue = Queue::<2, 16>::new();
        assert_eq!(queue.push(frame(0, false)), None);
        assert_eq!(queue.push(frame(1, false)), None);
        let slot = queue.next(1).unwrap().slot;
        queue.begin(slot);
        assert_eq!(queue.push(frame(2, false)), Some(Gone { first_seq: 1, events: 1 }));
        queue.unsent(slot);
        assert_eq!(queue.push(frame(3, false)), Some(Gone { first_seq: 0, events: 1 }));
    }

    #[test]
    fn the_reserve_takes_urgent_frames_when_telemetry_has_filled_the_rest() {
        let mut queue = Small::new();
        let room = SLOTS as u32 - Small::RESERVE as u32;
        for seq in 0..room {
            assert_eq!(queue.push(frame(seq, false)), None);
        }
        assert!(!queue.has_room());
        for seq in room..SLOTS as u32 {
            assert_eq!(queue.push(frame(seq, true)), None);
        }
        assert_eq!(queue.push(frame(100, true)), Some(Gone { first_seq: 0, events: 1 }));
    }

    #[test]
    fn urgent_frames_are_not_dropped_for_one_another() {
        let mut queue = Small::new();
        for seq in 0..SLOTS as u32 {
            assert_eq!(queue.push(frame(seq, true)), None);
        }
        assert_eq!(queue.push(frame(50, true)), Some(Gone { first_seq: 50, events: 1 }));
        assert_eq!(queue.push(frame(51, false)), Some(Gone { first_seq: 51, events: 1 }));
    }

    #[test]
    fn a_frame_longer_than_a_slot_is_lost_at_once() {
        let mut queue = Small::new();
        let long = Sealed { bytes: &[0; 17], first_seq: 4, events: 9, urgent: true };
        assert_eq!(queue.push(long), Some(Gone { first_seq: 4, events: 9 }));
    }

    #[test]
    fn a_resumed_session_sends_again_under_the_old_identifiers_and_before_anything_new() {
        let mut queue = Small::new();
        for seq in 0..4 {
            let _ = queue.push(frame(seq, false));
        }
        // 0 is refused and sent again after 1 and 2: so it is also the last to be resent.
        for under in [1, 2, 3] {
            send(&mut queue, under);
        }
        assert!(queue.refused(id(1)));
        assert_eq!(send(&mut queue, 4), Some(0));
        queue.reconnected(true);
        let mut resent = vec![];
        while let Some(next) = queue.next(SLOTS)
            && let Some(id) = next.resend
        {
            let slot = next.slot;
            queue.begin(slot);
            queue.sent(slot, id);
            resent.push(id.get());
        }
        assert_eq!(resent, [2, 3, 4]);
        assert_eq!(send(&mut queue, 9), Some(3));
    }

    #[test]
    fn a_new_session_sends_everything_under_new_identifiers_from_the_oldest_on() {
        let mut queue = Small::new();
        for seq in 0..3 {
            let _ = queue.push(frame(seq, false));
        }
        send(&mut queue, 1);
        send(&mut queue, 2);
        queue.reconnected(false);
        assert_eq!(queue.acked(id(1)), None, "the old identifier means nothing now");
        assert_eq!(queue.next(SLOTS).map(|next| next.resend), Some(None));
        assert_eq!([1, 2, 3].map(|under| send(&mut queue, under)), [Some(0), Some(1), Some(2)]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { urgent: bool },
        Send { window: usize, written: bool },
        Ack { nth: usize },
        Refuse { nth: usize },
        Reconnect { resumed: bool },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => any::<bool>().prop_map(|urgent| Step::Push { urgent }),
            4 => (1..6usize, prop::bool::weighted(0.9)).prop_map(|(window, written)| Step::Send { window, written }),
            3 => (0..8usize).prop_map(|nth| Step::Ack { nth }),
            1 => (0..8usize).prop_map(|nth| Step::Refuse { nth }),
            1 => any::<bool>().prop_map(|resumed| Step::Reconnect { resumed }),
        ];
        prop::collection::vec(step, 0..200)
    }

    /// What a queue must do, in the simplest words: a list of frames.
    #[derive(Debug, Default)]
    struct Model {
        held: Vec<ModelFrame>,
        pushed: u32,
        sends: u32,
        next_id: u16,
    }

    #[derive(Debug, Clone, Copy)]
    struct ModelFrame {
        seq: u32,
        urgent: bool,
        /// The identifier, and whether the connection it was sent on is gone.
        id: Option<(u16, bool)>,
        sent_as: u32,
    }

    impl Model {
        fn push(&mut self, urgent: bool) -> Option<u32> {
            let seq = self.pushed;
            self.pushed += 1;
            let room = if urgent { SLOTS } else { SLOTS - SLOTS / RESERVE_DIVISOR };
            let lost = if self.held.len() < room {
                None
            } else {
                let Some(at) = self.held.iter().position(|h| h.id.is_none() && !h.urgent) else {
                    return Some(seq);
                };
                Some(self.held.remove(at).seq)
            };
            self.held.push(ModelFrame { seq, urgent, id: None, sent_as: 0 });
            lost
        }

        /// The place and, for a resend, the identifier of what is next.
        fn next(&self, window: usize) -> Option<(usize, Option<u16>)> {
            if self.held.iter().filter(|h| matches!(h.id, Some((_, false)))).count() >= window {
                return None;
            }
            let again = self.held.iter().enumerate().filter(|(_, h)| matches!(h.id, Some((_, true))));
            let again = again.min_by_key(|(_, h)| h.sent_as).map(|(at, h)| (at, h.id.map(|(id, _)| id)));
            again.or_else(|| self.held.iter().position(|h| h.id.is_none()).map(|at| (at, None)))
        }

        fn in_flight(&self) -> Vec<u16> {
            self.held.iter().filter_map(|h| h.id).filter(|(_, gone)| !gone).map(|(id, _)| id).collect()
        }
    }

    proptest! {
        #[test]
        fn the_queue_does_what_the_model_does(steps in steps()) {
            let mut queue = Small::new();
            let mut model = Model { next_id: 1, ..Model::default() };
            for step in steps {
                match step {
                    Step::Push { urgent } => {
                        let lost = queue.push(frame(model.pushed, urgent)).map(|gone| gone.first_seq);
                        prop_assert_eq!(lost, model.push(urgent));
                    }
                    Step::Send { window, written } => {
                        let next = queue.next(window).map(|next| (next.slot, next.resend));
                        let expected = model.next(window);
                        prop_assert_eq!(next.is_some(), expected.is_some());
                        if let (Some((slot, resend)), Some((at, again))) = (next, expected) {
                            prop_assert_eq!(resend.map(PacketId::get), again);
                            let held = queue.slots[usize::from(slot.0)].first_seq;
                            prop_assert_eq!(held, model.held[at].seq);
                            queue.begin(slot);
                            if !written && again.is_none() {
                                queue.unsent(slot);
                                continue;
                            }
                            let under = again.unwrap_or(model.next_id);
                            if again.is_none() {
                                model.next_id += 1;
                                model.sends += 1;
                                model.held[at].sent_as = model.sends;
                            }
                            queue.sent(slot, id(under));
                            model.held[at].id = Some((under, false));
                        }
                    }
                    Step::Ack { nth } => {
                        let Some(&under) = model.in_flight().get(nth) else { continue };
                        let at = model.held.iter().position(|h| h.id == Some((under, false))).unwrap();
                        let seq = model.held.remove(at).seq;
                        prop_assert_eq!(queue.acked(id(under)).map(|gone| gone.first_seq), Some(seq));
                    }
                    Step::Refuse { nth } => {
                        let Some(&under) = model.in_flight().get(nth) else { continue };
                        prop_assert!(queue.refused(id(under)));
                        model.held.iter_mut().filter(|h| h.id == Some((under, false))).for_each(|h| h.id = None);
                    }
                    Step::Reconnect { resumed } => {
                        queue.reconnected(resumed);
                        for held in &mut model.held {
                            held.id = held.id.filter(|_| resumed).map(|(id, _)| (id, true));
                        }
                    }
                }
                let order: Vec<u32> = queue.used().map(|(_, slot)| slot.first_seq).collect();
                prop_assert_eq!(order, model.held.iter().map(|h| h.seq).collect::<Vec<_>>());
                prop_assert_eq!(queue.events() as usize, model.held.len());
            }
        }
    }
}

//! The window: what was sent and is not yet acknowledged, in the order of the log.
//!
//! ```text
//!   released │ front                         next │
//!   ─────────┼──────┬───────┬──────┬───────┬──────┤ at most `limit` entries
//!            │ sent │ acked │ sent │ undel │ sent │ tokens n, n+1, n+2, …
//! ```
//! A record that goes out as several messages has an entry for each, and is released behind the
//! last of them. Acknowledgements come in any order; only the contiguous prefix is released. Tokens
//! count up from 0 and never begin again: the window is measured from the token of its front.
//!
//! Limits: [`LIMIT_MAX`] entries of 32 bytes. It knows no socket, no clock and no store. It dies
//! with its connection: whatever it held is sent again from the released offset.

use std::{collections::VecDeque, num::NonZeroU16, ops::Range, time::Instant};

use super::pace::Opening;
use crate::uplink::engine::TokenRange;

/// The longest window, in messages.
pub const LIMIT_MAX: u16 = u16::MAX;

/// What is in flight on one connection.
#[derive(Debug)]
pub struct Window {
    entries: VecDeque<Entry>,
    /// Token of the front entry, or of the next one if there is none.
    front: u64,
    limit: NonZeroU16,
    /// How many entries it may hold for now.
    opening: Opening,
    /// It was full: there is use for a wider one.
    was_full: bool,
    /// Entries that wait no more.
    settled: usize,
    /// Entries that the upstream answered.
    answered: usize,
    /// Bytes of those that wait, as far as they were told.
    bytes: u64,
}

/// A contiguous prefix that left the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// All records before this offset are settled.
    pub next_offset: u64,
    /// Events in it that the upstream acknowledged.
    pub delivered_events: u64,
    /// When the oldest of it was sent.
    pub oldest_sent_at: Instant,
}

#[derive(Debug)]
struct Entry {
    offset: u64,
    sent_at: Instant,
    /// How long its message is, if that counts.
    bytes: u32,
    events: u8,
    /// Nothing more of its record follows.
    is_last: bool,
    /// The upstream answered it on this connection.
    is_answered: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sent,
    Acked,
    Undelivered,
}

impl Window {
    /// An empty window for a new connection.
    #[must_use]
    pub fn new(limit: NonZeroU16, opening: Opening) -> Self {
        Self {
            entries: VecDeque::new(),
            front: 0,
            limit,
            opening,
            was_full: false,
            settled: 0,
            answered: 0,
            bytes: 0,
        }
    }

    /// Entries that may still be pushed.
    #[must_use]
    pub fn room(&self) -> usize {
        self.open().saturating_sub(self.entries.len())
    }

    /// Entries it may hold for now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.opening.messages().min(self.limit.get()).into()
    }

    /// How wide it is open, for the next connection.
    #[must_use]
    pub fn opening(&self) -> Opening {
        self.opening.carried()
    }

    /// There is no room, and there is more to send: it opens as entries are released.
    pub fn filled(&mut self) {
        self.was_full = true;
    }

    /// Nothing was released for a while, and nothing is missing: whether it opens a little.
    pub fn open_with_time(&mut self) -> bool {
        self.opening.waited(self.limit.get())
    }

    /// It may open with time, before anything is released.
    #[must_use]
    pub fn opens_with_time(&self) -> bool {
        self.opening.opens_with_time(self.limit.get())
    }

    /// The event that was suspected is sound.
    pub fn trust(&mut self) {
        self.opening = self.opening.trusted();
    }

    /// It was too much: it holds half of it, and opens again slowly. What is in flight stays.
    pub fn halve(&mut self) {
        self.opening = self.opening.at_most(self.limit.get()).halved();
    }

    /// What was taken for too much was not: it is as wide as it was before.
    pub fn reopen(&mut self, opening: Opening) {
        self.opening = opening;
    }

    /// The offset of the front. Only after [`Window::advance`], which leaves one there that waits.
    #[must_use]
    pub fn front_offset(&self) -> Option<u64> {
        Some(self.entries.front()?.offset)
    }

    /// The offset of the last that was sent.
    #[must_use]
    pub fn back_offset(&self) -> Option<u64> {
        Some(self.entries.back()?.offset)
    }

    /// Entries in flight that wait for their acknowledgement.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.settled
    }

    /// The front waits, and the upstream answered something behind it. Only after
    /// [`Window::advance`].
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        self.answered > 0
    }

    /// The offsets of records all of whose entries are acknowledged. Only after
    /// [`Window::advance`].
    pub fn acknowledged_records(&self) -> impl Iterator<Item = u64> {
        let mut is_whole = true;
        self.entries.iter().filter_map(move |entry| {
            is_whole &= entry.state == State::Acked;
            let acknowledged = entry.is_last && is_whole;
            is_whole |= entry.is_last;
            acknowledged.then_some(entry.offset)
        })
    }

    /// Nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The token of what is taken in next.
    #[must_use]
    pub fn next_token(&self) -> u64 {
        self.front + self.entries.len() as u64
    }

    /// Takes in the record at `offset`, above all before it, and gives its token; `None` without
    /// room.
    pub fn push(&mut self, offset: u64, events: u8, now: Instant) -> Option<u64> {
        self.push_part(offset, events, true, now)
    }

    /// Takes in a part of the record at `offset`, behind its other parts; `is_last` completes the
    /// record.
    pub fn push_part(&mut self, offset: u64, events: u8, is_last: bool, now: Instant) -> Option<u64> {
        if self.room() == 0 {
            return None;
        }
        let token = self.next_token();
        let state = State::Sent;
        let entry = Entry { offset, sent_at: now, bytes: 0, events, is_last, is_answered: false, state };
        self.entries.push_back(entry);
        Some(token)
    }

    /// Takes in the record at `offset`, above all before it, of which nothing is sent:
    /// `was_acknowledged` on an earlier connection, or not for the upstream. Says whether there was
    /// room.
    pub fn skip(&mut self, offset: u64, events: u8, was_acknowledged: bool, now: Instant) -> bool {
        let state = if was_acknowledged { State::Acked } else { State::Undelivered };
        self.push(offset, events, now).is_some_and(|token| self.settle(token, state))
    }

    /// The message that was pushed last has so many bytes.
    pub fn sized(&mut self, bytes: usize) {
        if let Some(entry) = self.entries.back_mut() {
            entry.bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.bytes += u64::from(entry.bytes);
        }
    }

    /// Bytes of the messages that wait, of those whose size was told.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The upstream acknowledged these tokens. Gives how many of them were waiting for it.
    #[inline]
    pub fn acknowledge(&mut self, tokens: TokenRange) -> u32 {
        let held = self.held(tokens);
        let (Some(first), Some(end)) = (self.index(held.start), self.index(held.end)) else { return 0 };
        let (mut acked, mut bytes, mut answered) = (0, 0, 0);
        for entry in self.entries.range_mut(first..end) {
            if entry.state == State::Sent {
                entry.state = State::Acked;
                acked += 1;
                bytes += u64::from(entry.bytes);
                answered += usize::from(!entry.is_answered);
                entry.is_answered = true;
            }
        }
        self.settled += acked as usize;
        self.answered += answered;
        self.bytes -= bytes;
        acked
    }

    /// The upstream answered `token`, whatever becomes of it.
    pub fn note_answered(&mut self, token: u64) {
        let entry = self.index(token).and_then(|index| self.entries.get_mut(index));
        if let Some(entry) = entry.filter(|entry| !entry.is_answered) {
            entry.is_answered = true;
            self.answered += 1;
        }
    }

    /// The record of `token` is not to be delivered: it is a dead letter, durably, or nothing of
    /// it can be sent. Says whether that was waiting.
    pub fn give_up(&mut self, token: u64) -> bool {
        self.settle(token, State::Undelivered)
    }

    /// The tokens of `range` that the window holds.
    #[must_use]
    pub fn held(&self, range: TokenRange) -> Range<u64> {
        let end = range.end.min(self.next_token());
        range.first.max(self.front).min(end)..end
    }

    /// The offset of the record that waits under `token`.
    #[must_use]
    pub fn waiting_offset(&self, token: u64) -> Option<u64> {
        let entry = self.entries.get(self.index(token)?)?;
        (entry.state == State::Sent).then_some(entry.offset)
    }

    /// Lets the contiguous settled prefix go; `None` if the front still waits.
    pub fn advance(&mut self) -> Option<Released> {
        let oldest_sent_at = self.entries.front()?.sent_at;
        let (mut taken, mut delivered_events, mut next_offset) = (0, 0, None);
        while let Some(entry) = self.entries.front().filter(|entry| entry.state != State::Sent) {
            taken += 1;
            self.answered -= usize::from(entry.is_answered);
            next_offset = Some(entry.offset + u64::from(entry.is_last));
            if entry.state == State::Acked {
                delivered_events += u64::from(entry.events);
            }
            self.entries.pop_front();
        }
        self.front += taken as u64;
        self.settled -= taken;
        if self.was_full && self.opening.messages() < self.limit.get() {
            self.opening.acked(taken, self.limit.get());
            self.was_full = !self.entries.is_empty();
        }
        Some(Released { next_offset: next_offset?, delivered_events, oldest_sent_at })
    }

    /// When the front, which still waits, was sent.
    #[must_use]
    pub fn front_sent_at(&self) -> Option<Instant> {
        Some(self.entries.front()?.sent_at)
    }

    fn settle(&mut self, token: u64, state: State) -> bool {
        let entry = self.index(token).and_then(|index| self.entries.get_mut(index));
        match entry {
            Some(entry) if entry.state == State::Sent => {
                entry.state = state;
                self.bytes -= u64::from(entry.bytes);
                self.settled += 1;
                true
            }
            _ => false,
        }
    }

    fn index(&self, token: u64) -> Option<usize> {
        usize::try_from(token.checked_sub(self.front)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn start() -> Instant {
        crate::clock::monotonic()
    }

    fn acknowledge(window: &mut Window, token: u64) -> bool {
        window.acknowledge(TokenRange::one(token)) == 1
    }

    fn window(limit: u16) -> Window {
        Window::new(NonZeroU16::new(limit).unwrap(), Opening::WIDE)
    }

    #[test]
    fn only_the_contiguous_prefix_is_released() {
        let (now, mut window) = (start(), window(10));
        let tokens: Vec<u64> = (100..104).map(|offset| window.push(offset, 2, now).unwrap()).collect();
        assert!(acknowledge(&mut window, tokens[1]) && acknowledge(&mut window, tokens[2]));
        assert_eq!(window.advance(), None);
        assert!(acknowledge(&mut window, tokens[0]));
        let released = Released { next_offset: 103, delivered_events: 6, oldest_sent_at: now };
        assert_eq!(window.advance(), Some(released));
        assert_eq!(window.waiting_offset(tokens[3]), Some(103));
    }

    #[test]
    fn a_run_of_acknowledgements_counts_what_waited_for_it() {
        let (now, mut window) = (start(), window(10));
        let tokens: Vec<u64> = (0..6).map(|offset| window.push(offset, 1, now).unwrap()).collect();
        assert!(acknowledge(&mut window, tokens[0]) && window.give_up(tokens[3]));
        assert_eq!(window.advance().unwrap().next_offset, 1);
        // The first is released, one is given up, and there are no more than six.
        assert_eq!(window.acknowledge(TokenRange { first: 0, end: 20 }), 4);
        assert_eq!(window.acknowledge(TokenRange { first: 0, end: 20 }), 0);
        let released = window.advance().unwrap();
        assert_eq!((released.next_offset, released.delivered_events, window.waiting()), (6, 4, 0));
        assert_eq!(window.acknowledge(TokenRange { first: 0, end: 20 }), 0, "nothing is in flight");
    }

    #[test]
    fn a_window_opens_while_there_is_use_for_it_and_halves_when_it_was_too_much() {
        let (now, limit) = (start(), NonZeroU16::new(40).unwrap());
        let mut window = Window::new(limit, Opening::START);
        let mut offsets = 0..;
        let mut round = |window: &mut Window, count: usize| {
            let tokens: Vec<u64> =
                (0..count).map(|_| window.push(offsets.next().unwrap(), 1, now).unwrap()).collect();
            if window.room() == 0 {
                window.filled();
            }
            assert!(tokens.into_iter().all(|token| acknowledge(window, token)));
            assert!(window.advance().is_some());
            window.open()
        };
        assert_eq!(round(&mut window, 15), 16, "it was not full");
        assert_eq!(round(&mut window, 16), 32);
        assert_eq!(round(&mut window, 32), 40);
        window.halve();
        assert_eq!((window.open(), round(&mut window, 20), round(&mut window, 21)), (20, 21, 22));
    }

    #[test]
    fn a_window_never_opens_beyond_its_limit_and_a_limit_does_not_narrow_the_next_one() {
        let now = start();
        let mut window = window(2);
        window.halve();
        assert_eq!(window.open(), 2, "trouble leaves four, of which there are two");
        window.trust();
        assert_eq!(window.open(), 2, "trust opens to sixteen");
        assert!((0..2).all(|offset| window.push(offset, 1, now).is_some()));
        assert_eq!(window.push(2, 1, now), None);
        let wide = Window::new(NonZeroU16::new(2).unwrap(), Opening::WIDE).opening();
        assert_eq!(Window::new(NonZeroU16::new(500).unwrap(), wide).open(), 500);
    }

    #[test]
    fn what_was_not_sent_overtakes_nothing() {
        let (now, mut window) = (start(), window(10));
        let head = window.push(0, 1, now).unwrap();
        assert!(window.skip(1, 1, false, now) && window.skip(2, 1, true, now));
        let unsendable = window.push(3, 1, now).unwrap();
        assert!(window.give_up(unsendable));
        assert_eq!(window.advance(), None);
        assert!(!window.is_overtaken());
        assert_eq!(window.acknowledged_records().collect::<Vec<_>>(), [2]);
        let refused = window.push(4, 1, now).unwrap();
        window.note_answered(refused);
        assert!(window.give_up(refused) && window.is_overtaken());
        assert!(acknowledge(&mut window, head));
        assert_eq!((window.advance().unwrap().delivered_events, window.is_overtaken()), (2, false));
    }

    #[test]
    fn bytes_in_flight_are_those_of_messages_that_wait() {
        let (now, mut window) = (start(), window(10));
        let tokens: Vec<u64> = (0..3)
            .map(|n| {
                let token = window.push(n, 1, now).unwrap();
                window.sized(100 << n);
                token
            })
            .collect();
        assert_eq!(window.bytes(), 700);
        assert!(acknowledge(&mut window, tokens[1]) && window.give_up(tokens[0]));
        assert_eq!(window.bytes(), 400);
    }

    #[test]
    fn records_behind_the_head_are_acknowledged_when_all_their_parts_are() {
        let (now, mut window) = (start(), window(10));
        let head = window.push(7, 1, now).unwrap();
        let tokens: Vec<u64> = [(8, false), (8, true), (9, false), (9, true), (10, true), (11, false)]
            .map(|(offset, is_last)| window.push_part(offset, 1, is_last, now).unwrap())
            .into();
        assert!(!window.is_overtaken() && window.acknowledged_records().next().is_none());
        for index in [0, 1, 3, 5] {
            assert!(acknowledge(&mut window, tokens[index]));
        }
        assert!(window.give_up(tokens[4]));
        assert_eq!(window.advance(), None);
        assert!(window.is_overtaken());
        assert_eq!(window.waiting(), 2);
        assert_eq!(
            window.acknowledged_records().collect::<Vec<_>>(),
            [8],
            "9 is not whole, 10 set aside, 11 not sent"
        );
        assert!(acknowledge(&mut window, head) && acknowledge(&mut window, tokens[2]));
        assert_eq!(window.advance().unwrap().next_offset, 11);
        assert!(!window.is_overtaken());
    }

    #[test]
    fn what_was_set_aside_moves_the_prefix_and_is_not_counted_as_delivered() {
        let (now, mut window) = (start(), window(10));
        let tokens: Vec<u64> = (0..3).map(|offset| window.push(offset, 1, now).unwrap()).collect();
        assert!(
            acknowledge(&mut window, tokens[0])
                && window.give_up(tokens[1])
                && acknowledge(&mut window, tokens[2])
        );
        let released = window.advance().unwrap();
        assert_eq!((released.next_offset, released.delivered_events), (3, 2));
    }

    #[test]
    fn a_record_of_several_packets_is_released_behind_the_last_of_them() {
        let (now, mut window) = (start(), window(10));
        let part = |window: &mut Window, is_last| window.push_part(7, 1, is_last, now).unwrap();
        let tokens = [part(&mut window, false), part(&mut window, false), part(&mut window, true)];
        let next = window.push(8, 1, now).unwrap();
        assert!(
            acknowledge(&mut window, tokens[0])
                && acknowledge(&mut window, tokens[2])
                && acknowledge(&mut window, next)
        );
        let released = window.advance().unwrap();
        assert_eq!((released.next_offset, released.delivered_events), (7, 1), "a part of it still waits");
        assert!(window.give_up(tokens[1]));
        let released = window.advance().unwrap();
        assert_eq!((released.next_offset, released.delivered_events), (9, 2));
    }

    #[test]
    fn a_full_window_takes_nothing_and_an_unknown_token_settles_nothing() {
        let (now, mut window) = (start(), window(1));
        assert_eq!(window.push(0, 1, now), Some(0));
        assert_eq!(window.push(1, 1, now), None);
        assert!(!acknowledge(&mut window, 1) && !acknowledge(&mut window, u64::MAX - 1));
        assert!(acknowledge(&mut window, 0) && !acknowledge(&mut window, 0));
        assert!(window.advance().is_some() && !acknowledge(&mut window, 0), "it was released");
    }

    #[test]
    fn of_a_range_the_window_holds_what_is_in_flight() {
        let (now, mut window) = (start(), window(10));
        for offset in 0..5 {
            assert!(window.push(offset, 1, now).is_some());
        }
        assert!(acknowledge(&mut window, 0) && acknowledge(&mut window, 1) && window.advance().is_some());
        for (first, end, held) in
            [(0, 9, 2..5), (0, 2, 2..2), (3, 4, 3..4), (5, 9, 5..5), (7, 9, 5..5), (0, 0, 0..0)]
        {
            let found = window.held(TokenRange { first, end });
            assert_eq!(
                (found.clone().count(), found.start.max(2)),
                (held.clone().count(), held.start.max(2)),
                "{first}..{end}"
            );
        }
    }

    #[test]
    fn the_widest_window_uses_every_token_once() {
        let (now, mut window) = (start(), window(LIMIT_MAX));
        for round in 0..3_u64 {
            for token in round * 65_535..(round + 1) * 65_535 {
                assert_eq!(window.push(token, 1, now), Some(token));
            }
            assert_eq!(window.push(u64::MAX, 1, now), None);
            assert!((round * 65_535..(round + 1) * 65_535).all(|token| acknowledge(&mut window, token)));
            assert_eq!(window.advance().unwrap().next_offset, (round + 1) * 65_535);
        }
    }

    #[derive(Debug, Clone)]
    enum Action {
        Push(u8),
        Settle(prop::sample::Index, bool),
        Stray(u64),
        Advance,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            4 => any::<u8>().prop_map(Action::Push),
            4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(i, acked)| Action::Settle(i, acked)),
            1 => (0_u64..600).prop_map(Action::Stray),
            2 => Just(Action::Advance),
        ]
    }

    /// What the window is meant to be: every record with its token, and whether it is settled and
    /// delivered.
    #[derive(Default)]
    struct Model {
        entries: BTreeMap<u64, (u64, u8, Option<bool>)>,
        next_offset: u64,
    }

    proptest! {
        #[test]
        fn the_window_does_as_the_model(
            limit in 1_u16..40,
            first in 0_u64..300,
            actions in prop::collection::vec(action(), 1..300),
        ) {
            let mut window = window(limit);
            window.front = first;
            let (mut model, mut now) = (Model::default(), start());
            for action in actions {
                now += Duration::from_millis(1);
                match action {
                    Action::Push(events) => {
                        let token = window.push(model.next_offset, events, now);
                        prop_assert_eq!(token.is_some(), model.entries.len() < usize::from(limit));
                        let Some(token) = token else { continue };
                        prop_assert!(model.entries.values().all(|entry| entry.0 < token));
                        model.entries.insert(model.next_offset, (token, events, None));
                        model.next_offset += 1;
                    }
                    Action::Settle(index, acked) => {
                        if model.entries.is_empty() { continue }
                        let at = index.index(model.entries.len());
                        let entry = model.entries.values_mut().nth(at).unwrap();
                        let done = if acked { acknowledge(&mut window, entry.0) } else { window.give_up(entry.0) };
                        prop_assert_eq!(done, entry.2.is_none());
                        entry.2 = entry.2.or(Some(acked));
                    }
                    Action::Stray(token) => {
                        if model.entries.values().all(|entry| entry.0 != token) {
                            prop_assert!(!acknowledge(&mut window, token));
                        }
                    }
                    Action::Advance => {
                        let (mut last, mut delivered) = (None, 0);
                        while let Some(first) = model.entries.first_entry() {
                            let Some(acked) = first.get().2 else { break };
                            delivered += if acked { u64::from(first.get().1) } else { 0 };
                            last = Some(first.remove_entry().0);
                        }
                        let released = window.advance();
                        prop_assert_eq!(released.map(|r| (r.next_offset, r.delivered_events)),
                            last.map(|offset| (offset + 1, delivered)));
                    }
                }
                prop_assert_eq!(window.room(), usize::from(limit) - model.entries.len());
            }
        }
    }
}

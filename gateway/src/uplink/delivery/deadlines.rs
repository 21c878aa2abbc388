//! The time limits of one connection: when an acknowledgement, an answer to a ping, or a ping is
//! due. Pure.
//!
//! An acknowledgement is waited for from the sending of the head, from its last move, or from the
//! last write that the link held up, whichever is latest: what is on its way through a slow link is
//! late for no fault of the upstream.
//!
//! Three limits are shorter, and show a bad event before the whole time is over: a head that waits
//! while events behind it are acknowledged; a head that nothing can overtake, as nothing in flight
//! is acknowledged, while a ping behind it was answered; and a head that waits while the upstream
//! says nothing at all and answers no ping. All keep well above the slowest acknowledgement that
//! was seen, so that a slow upstream is not taken for one that a single event has stopped; and
//! where that cannot be known, as none was seen, they grow while nothing shows whose fault it is:
//! see [`patience`](super::patience).
//!
//! It reads no clock: `now` is an argument.

use std::time::{Duration, Instant};

use super::patience::{Experience, Patience};

/// The slowest acknowledgement is taken for half as slow after so long without one like it.
const FORGOTTEN_BY_HALF: Duration = Duration::from_secs(60);

/// A link slower than this is not told from an upstream that has stopped: 16 kbit/s, less what
/// others take of it.
const LINK_BYTES_PER_S_MIN: u64 = 1024;
/// What is sent alone has no more time than this for its way.
const TRAVEL_MAX: Duration = Duration::from_secs(600);

/// A ping goes out after this part of the keep-alive, so that it is there within it.
const PING_AFTER: (u32, u32) = (3, 4);

/// The limits of one connection, and what they are measured from.
#[derive(Debug)]
pub struct Deadlines {
    patience: Patience,
    keep_alive: Duration,
    written_at: Instant,
    moved_at: Instant,
    heard_at: Instant,
    /// Since when the head waits while something behind it is acknowledged.
    overtaken_at: Option<Instant>,
    /// It was said that something is missing among the acknowledgements.
    said_gap: bool,
    /// When the slowest acknowledgement was seen, or last forgotten by half.
    slowest_at: Instant,
    /// When the last of the pings was sent that are not all answered.
    pinged_at: Option<Instant>,
    /// Pings that are not answered.
    pings: u32,
    /// When the last of the pings was sent, the last time that all were answered.
    answered_ping_at: Option<Instant>,
    /// When the first answer came to a ping behind the head.
    ponged_at: Instant,
    /// The head moved on this connection.
    is_measured: bool,
    /// Bytes of what is sent alone.
    alone_bytes: Option<usize>,
}

/// What a connection has in flight, as far as time limits ask.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// When the head, which still waits, was sent.
    pub head_sent_at: Option<Instant>,
    /// Bytes wait for the link.
    pub pending: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A ping.
    Ping,
    /// The acknowledgement of the head: the connection is given up.
    Ack(Duration),
    /// Something is missing among the acknowledgements. Said once, until the head moves.
    Gap,
    /// The same, while events behind the head were acknowledged.
    Overtaken(Duration),
    /// The same, while nothing was acknowledged and a ping behind the head was answered.
    Unanswered(Duration),
    /// A word from the upstream, which answers no ping either: the connection is given up.
    Silence(Duration),
    /// The answer to a ping: the connection is given up.
    Pong(Duration),
}

impl Deadlines {
    /// For a connection made now. A keep-alive of zero never pings, unless the upstream is silent
    /// while the head waits.
    #[must_use]
    pub fn new(patience: Patience, keep_alive: Duration, now: Instant) -> Self {
        Self {
            patience,
            keep_alive,
            written_at: now,
            moved_at: now,
            heard_at: now,
            overtaken_at: None,
            said_gap: false,
            slowest_at: now,
            pinged_at: None,
            pings: 0,
            answered_ping_at: None,
            ponged_at: now,
            is_measured: false,
            alone_bytes: None,
        }
    }

    /// Bytes went out; with `held_up`, not all that were there.
    pub fn wrote(&mut self, held_up: bool, now: Instant) {
        self.written_at = now;
        if held_up {
            self.moved_at = now;
        }
    }

    /// When bytes last went out.
    #[must_use]
    pub fn written_at(&self) -> Instant {
        self.written_at
    }

    /// Bytes came in.
    pub fn heard(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The head waits and something behind it is acknowledged.
    pub fn overtaken(&mut self, now: Instant) {
        self.overtaken_at.get_or_insert(now);
    }

    /// The head moved; the oldest of what was released had waited for `ack`.
    pub fn released(&mut self, ack: Duration, now: Instant) {
        // What waits behind others in a full link is not slow by itself.
        let ack = ack.min(now.saturating_duration_since(self.moved_at));
        self.moved_at = now;
        self.overtaken_at = None;
        self.said_gap = false;
        self.is_measured = true;
        self.patience.doublings = 0;
        self.patience.fruitless = 0;
        self.patience.has_seen = true;
        let slowest = &mut self.patience.slowest_ack;
        if ack >= *slowest {
            (*slowest, self.slowest_at) = (ack, now);
        } else if now.saturating_duration_since(self.slowest_at) >= FORGOTTEN_BY_HALF {
            (*slowest, self.slowest_at) = (ack.max(*slowest / 2), now);
        }
    }

    /// The head, of so many bytes, is sent alone from now on; `None`: not any more.
    pub fn set_alone(&mut self, bytes: Option<usize>) {
        self.alone_bytes = bytes;
    }

    /// What the next connection is to know: what was slow once is forgotten as connections that
    /// show it go by.
    #[must_use]
    pub fn experience(&self) -> Experience {
        let slowest_ack = self.patience.slowest_ack / if self.is_measured { 2 } else { 1 };
        Experience { slowest_ack, fruitless: self.patience.fruitless, has_seen: self.patience.has_seen }
    }

    /// It was acted upon that something is missing among the acknowledgements.
    pub fn said_gap(&mut self) {
        self.said_gap = true;
    }

    /// That was so, and the head has not moved since.
    #[must_use]
    pub fn has_said_gap(&self) -> bool {
        self.said_gap
    }

    /// A ping was sent.
    pub fn pinged(&mut self, now: Instant) {
        self.pinged_at = Some(now);
        self.pings += 1;
    }

    /// A ping was answered.
    pub fn answered(&mut self, in_flight: InFlight, now: Instant) {
        self.pings = self.pings.saturating_sub(1);
        if self.pings == 0 {
            let is_behind = |at: Instant| self.unanswered_since(in_flight).is_some_and(|since| at >= since);
            if !self.answered_ping_at.is_some_and(is_behind) {
                self.ponged_at = now;
            }
            self.answered_ping_at = self.pinged_at.take().or(self.answered_ping_at);
        }
    }

    /// A ping was sent, and is not answered.
    #[must_use]
    pub fn awaits_pong(&self) -> bool {
        self.pinged_at.is_some()
    }

    /// When [`Deadlines::judge`] next has something to say; `None` if never, as things are.
    #[must_use]
    pub fn next(&self, in_flight: InFlight) -> Option<Instant> {
        let limits = [
            self.ack(in_flight),
            self.overtaken_limit(in_flight),
            self.gap(in_flight),
            self.unanswered(in_flight),
            self.silence(in_flight),
            self.pong(),
            self.ping(in_flight),
        ];
        limits.into_iter().flatten().min()
    }

    /// What is due now.
    #[must_use]
    pub fn judge(&self, in_flight: InFlight, now: Instant) -> Due {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match () {
            () if is_over(self.ack(in_flight)) => Due::Ack(self.ack_limit()),
            () if is_over(self.overtaken_limit(in_flight)) => Due::Overtaken(self.patience.overtaken()),
            () if is_over(self.gap(in_flight)) => Due::Gap,
            () if is_over(self.unanswered(in_flight)) => Due::Unanswered(self.patience.unanswered()),
            () if is_over(self.silence(in_flight)) => Due::Silence(self.silence_limit()),
            () if is_over(self.pong()) => Due::Pong(self.patience.whole()),
            () if is_over(self.ping(in_flight)) => Due::Ping,
            () => Due::Nothing,
        }
    }

    fn ack_limit(&self) -> Duration {
        match self.alone_bytes {
            Some(_) => self.patience.alone() + self.travel(),
            None => self.patience.whole(),
        }
    }

    fn silence_limit(&self) -> Duration {
        self.patience.silence() + self.travel()
    }

    /// What is sent alone may take so long on a slow link: what the system took of it is not there
    /// yet.
    fn travel(&self) -> Duration {
        let seconds = self.alone_bytes.unwrap_or(0) as u64 / LINK_BYTES_PER_S_MIN;
        Duration::from_secs(seconds).min(TRAVEL_MAX)
    }

    fn gap(&self, in_flight: InFlight) -> Option<Instant> {
        in_flight.head_sent_at?;
        let since = self.overtaken_at.filter(|_| !self.said_gap)?.max(self.moved_at);
        Some(since + self.patience.gap())
    }

    fn ack(&self, in_flight: InFlight) -> Option<Instant> {
        Some(in_flight.head_sent_at?.max(self.moved_at) + self.ack_limit())
    }

    fn overtaken_limit(&self, in_flight: InFlight) -> Option<Instant> {
        in_flight.head_sent_at?;
        Some(self.overtaken_at?.max(self.moved_at) + self.patience.overtaken())
    }

    /// Since when the head waits that nothing overtook.
    fn unanswered_since(&self, in_flight: InFlight) -> Option<Instant> {
        let since = in_flight.head_sent_at?.max(self.moved_at);
        self.overtaken_at.is_none().then_some(since)
    }

    fn unanswered(&self, in_flight: InFlight) -> Option<Instant> {
        let since = self.unanswered_since(in_flight)?;
        // Until the answer came the head may have been on its way, through a slow link.
        let limit = self.patience.unanswered();
        (self.answered_ping_at? >= since).then(|| (since + limit).max(self.ponged_at + limit / 2))
    }

    /// Since when the head waits and nothing came.
    fn silent_since(&self, in_flight: InFlight) -> Option<Instant> {
        Some(in_flight.head_sent_at?.max(self.moved_at).max(self.heard_at))
    }

    fn silence(&self, in_flight: InFlight) -> Option<Instant> {
        self.pinged_at?;
        Some(self.silent_since(in_flight)? + self.silence_limit())
    }

    fn pong(&self) -> Option<Instant> {
        Some(self.pinged_at?.max(self.moved_at) + self.patience.whole() + self.travel())
    }

    fn ping(&self, in_flight: InFlight) -> Option<Instant> {
        if self.pinged_at.is_some() {
            return None;
        }
        let silent = self.silent_since(in_flight).map(|since| since + self.patience.silence() / 2);
        let unanswered = self
            .unanswered_since(in_flight)
            .filter(|since| self.answered_ping_at.is_none_or(|at| at < *since))
            .map(|since| since + self.patience.unanswered() / 2);
        // Bytes that wait for the link show that we are alive as soon as they can.
        let idle = (!in_flight.pending && !self.keep_alive.is_zero())
            .then(|| self.written_at + self.keep_alive * PING_AFTER.0 / PING_AFTER.1);
        [silent, unanswered, idle].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::patience::{ACK_TIMEOUT_MAX, GAP_MAX, KNOWN_MAX},
        *,
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const IDLE: InFlight = InFlight { head_sent_at: None, pending: false };
    fn patience() -> Patience {
        Patience::new(s(30))
    }

    fn start() -> (Deadlines, Instant) {
        start_with(patience())
    }

    fn start_with(patience: Patience) -> (Deadlines, Instant) {
        let now = crate::clock::monotonic();
        (Deadlines::new(patience, s(60), now), now)
    }

    /// As slow that no limit is shorter than the whole time.
    fn start_slow() -> (Deadlines, Instant) {
        start_with(Patience { slowest_ack: s(15), ..patience() })
    }

    /// The upstream answers pings all the while.
    fn answer_pings(deadlines: &mut Deadlines, now: Instant) {
        deadlines.pinged(now);
        deadlines.heard(now);
        deadlines.answered(IDLE, now);
    }

    #[test]
    fn an_idle_connection_pings_in_time_and_waits_for_the_answer() {
        let (mut deadlines, t0) = start();
        assert_eq!(deadlines.next(IDLE), Some(t0 + s(45)));
        assert_eq!(deadlines.judge(IDLE, t0 + s(44)), Due::Nothing);
        assert_eq!(deadlines.judge(IDLE, t0 + s(45)), Due::Ping);
        deadlines.pinged(t0 + s(45));
        deadlines.wrote(false, t0 + s(45));
        assert_eq!(deadlines.next(IDLE), Some(t0 + s(75)));
        assert_eq!(deadlines.judge(IDLE, t0 + s(75)), Due::Pong(s(30)));
        deadlines.answered(IDLE, t0 + s(75));
        assert_eq!(deadlines.next(IDLE), Some(t0 + s(90)));
    }

    #[test]
    fn the_head_has_its_time_from_its_sending_or_from_the_last_move() {
        let (mut deadlines, t0) = start_slow();
        let sent = InFlight { head_sent_at: Some(t0 + s(10)), pending: false };
        answer_pings(&mut deadlines, t0 + s(39));
        assert_eq!(deadlines.next(sent), Some(t0 + s(40)));
        assert_eq!(deadlines.judge(sent, t0 + s(40)), Due::Ack(s(30)));
        deadlines.wrote(false, t0 + s(35));
        assert_eq!(deadlines.judge(sent, t0 + s(40)), Due::Ack(s(30)), "writing more is no acknowledgement");
        deadlines.released(s(0), t0 + s(20));
        answer_pings(&mut deadlines, t0 + s(46));
        assert_eq!(deadlines.judge(sent, t0 + s(49)), Due::Nothing);
        assert_eq!(deadlines.judge(sent, t0 + s(50)), Due::Ack(s(30)));
    }

    #[test]
    fn a_slow_link_is_not_taken_for_a_silent_upstream() {
        let (mut deadlines, t0) = start_slow();
        let held_up = InFlight { head_sent_at: Some(t0), pending: true };
        deadlines.wrote(true, t0 + s(25));
        assert_eq!(deadlines.judge(held_up, t0 + s(28)), Due::Nothing);
        answer_pings(&mut deadlines, t0 + s(52));
        assert_eq!(deadlines.judge(held_up, t0 + s(54)), Due::Nothing);
        assert_eq!(deadlines.judge(held_up, t0 + s(55)), Due::Ack(s(30)));
    }

    #[test]
    fn a_head_that_others_overtake_is_late_before_its_whole_time_is_over() {
        let (mut deadlines, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        for second in 1..5 {
            deadlines.heard(t0 + s(second));
            deadlines.overtaken(t0 + s(second));
        }
        assert_eq!(deadlines.judge(sent, t0 + s(1) + GAP_MAX / 2), Due::Nothing, "a little out of order");
        assert_eq!(deadlines.judge(sent, t0 + s(1) + GAP_MAX), Due::Gap);
        deadlines.said_gap();
        assert_eq!(deadlines.judge(sent, t0 + s(4)), Due::Nothing);
        assert_eq!(deadlines.next(sent), Some(t0 + s(5)), "it counts from the first that overtook it");
        assert_eq!(deadlines.judge(sent, t0 + s(5)), Due::Overtaken(s(4)));
        deadlines.released(s(0), t0 + s(5));
        assert_eq!(deadlines.judge(sent, t0 + s(6)), Due::Nothing, "the head moved");
    }

    #[test]
    fn a_head_that_nothing_overtakes_is_late_once_a_ping_behind_it_was_answered() {
        let (mut deadlines, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0 + s(2)), pending: false };
        answer_pings(&mut deadlines, t0 + s(1));
        assert_eq!(deadlines.next(sent), Some(t0 + s(6)), "that ping was before the head");
        answer_pings(&mut deadlines, t0 + s(6));
        assert_eq!(deadlines.judge(sent, t0 + s(11)), Due::Ping);
        assert_eq!(deadlines.judge(sent, t0 + s(12)), Due::Unanswered(s(10)));
        deadlines.overtaken(t0 + s(9));
        deadlines.said_gap();
        assert_eq!(deadlines.judge(sent, t0 + s(12)), Due::Ping, "something behind it is acknowledged");
        deadlines.released(s(0), t0 + s(12));
        assert_eq!(deadlines.judge(sent, t0 + s(22)), Due::Ping, "no ping was answered since it moved");

        let (mut deadlines, t0) = start_with(Patience { knows_ignored: true, ..patience() });
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        assert_eq!(deadlines.next(sent), Some(t0 + KNOWN_MAX / 2), "the ping");
        answer_pings(&mut deadlines, t0 + KNOWN_MAX / 2);
        assert_eq!(deadlines.next(sent), Some(t0 + KNOWN_MAX));
        assert_eq!(deadlines.judge(sent, t0 + KNOWN_MAX), Due::Unanswered(KNOWN_MAX));
    }

    #[test]
    fn where_nothing_shows_that_the_upstream_is_not_slow_the_limits_grow() {
        let (mut deadlines, t0) = start_with(Patience { doublings: 1, ..patience() });
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        deadlines.set_alone(Some(100));
        assert_eq!(deadlines.judge(sent, t0 + s(10)), Due::Ack(s(10)));
        deadlines.released(s(1), t0);
        assert_eq!(deadlines.judge(sent, t0 + s(5)), Due::Ack(s(5)), "an acknowledgement shows it");
        let patience = Patience { doublings: u32::MAX, ..patience() };
        assert_eq!(
            (patience.alone(), patience.unanswered()),
            (s(30), s(30)),
            "never more than the whole time"
        );
    }

    #[test]
    fn an_upstream_that_says_nothing_is_pinged_and_then_left() {
        let (mut deadlines, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        assert_eq!(deadlines.judge(sent, t0 + s(3)), Due::Nothing);
        assert_eq!(deadlines.judge(sent, t0 + s(4)), Due::Ping);
        deadlines.pinged(t0 + s(4));
        assert_eq!(deadlines.next(sent), Some(t0 + s(8)));
        assert_eq!(deadlines.judge(sent, t0 + s(8)), Due::Silence(s(8)));
        answer_pings(&mut deadlines, t0 + s(7));
        assert_eq!(deadlines.judge(sent, t0 + s(8)), Due::Nothing, "it answers pings: it is slow");
    }

    #[test]
    fn a_slow_upstream_has_more_time_and_a_known_fault_less() {
        let slow = |seconds| Patience { slowest_ack: s(seconds), ..patience() };
        let known = Patience { knows_ignored: true, ..patience() };
        let known_silent = Patience { knows_silent: true, ..patience() };
        for (patience, overtaken, unanswered, silence, alone, why) in [
            (patience(), s(4), s(10), s(8), s(5), "at first"),
            (slow(3), s(12), s(12), s(12), s(12), "four times the slowest"),
            (slow(12), s(30), s(30), s(30), s(30), "never more than the whole time"),
            (slow(40), s(80), s(80), s(80), s(80), "which is twice the slowest"),
            (known, KNOWN_MAX, KNOWN_MAX, s(8), KNOWN_MAX, "a known fault"),
            (known_silent, s(4), s(10), KNOWN_MAX, KNOWN_MAX, "each fault for itself"),
            (Patience { knows_ignored: true, ..slow(2) }, s(8), s(8), s(8), s(8), "a known fault, slowly"),
        ] {
            assert_eq!(
                (patience.overtaken(), patience.unanswered(), patience.silence(), patience.alone()),
                (overtaken, unanswered, silence, alone),
                "{why}"
            );
        }
        let (mut deadlines, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        deadlines.set_alone(Some(100));
        assert_eq!(deadlines.judge(sent, t0 + s(5)), Due::Ack(s(5)));
        deadlines.pinged(t0);
        deadlines.set_alone(Some(4 * 1024));
        assert_eq!(deadlines.judge(sent, t0 + s(8)), Due::Nothing, "a large event has time for its way");
        assert_eq!(deadlines.judge(sent, t0 + s(9)), Due::Ack(s(9)));
        deadlines.set_alone(Some(200_000));
        assert_eq!(deadlines.next(sent), Some(t0 + s(200)), "16 kbit/s, and no time-out is in its way");
        // The ping behind it is answered as soon as it is there, and it a little later.
        let (mut slow, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        slow.set_alone(Some(200_000));
        slow.pinged(t0);
        slow.heard(t0 + s(100));
        slow.answered(sent, t0 + s(100));
        assert_eq!(slow.judge(sent, t0 + s(104)), Due::Ping);
        // Others that are answered behind it change nothing.
        slow.pinged(t0 + s(104));
        slow.heard(t0 + s(104));
        slow.answered(sent, t0 + s(104));
        assert_eq!(slow.judge(sent, t0 + s(105)), Due::Unanswered(s(10)));
        deadlines.set_alone(Some(usize::MAX / 2));
        assert_eq!(deadlines.next(sent), Some(t0 + s(5) + TRAVEL_MAX), "but not for ever");
    }

    #[test]
    fn the_whole_time_doubles_after_fruitless_connections_and_shrinks_again() {
        let mut experience = Experience::default();
        let mut whole = Vec::new();
        for (took, was_fruitless) in
            [(false, true), (false, true), (false, false), (false, true), (false, true), (true, true)]
        {
            experience = experience.after(took, was_fruitless);
            whole.push(Patience { fruitless: experience.fruitless, ..patience() }.whole());
        }
        assert_eq!(whole, [s(60), s(120), s(120), s(240), s(240), s(30)]);
        assert!(experience.has_seen);
        let alone = |fruitless| Patience { fruitless, has_seen: false, ..patience() }.alone();
        assert_eq!([0, 1, 2].map(alone), [s(5), s(20), s(80)], "nothing was ever acknowledged");
        let long = Patience { fruitless: 9, ..Patience::new(s(500)) };
        assert_eq!(long.whole(), ACK_TIMEOUT_MAX);
        assert_eq!(Patience::new(s(900)).whole(), s(900), "what is set is kept to");

        let (mut deadlines, t0) = start_with(Patience { fruitless: 1, ..patience() });
        let sent = InFlight { head_sent_at: Some(t0), pending: false };
        answer_pings(&mut deadlines, t0 + s(10));
        assert_eq!(deadlines.judge(sent, t0 + s(19)), Due::Ping, "and not yet the end of it");
        deadlines.released(s(19), t0 + s(19));
        assert_eq!(deadlines.patience.whole(), s(38), "twice what was seen");
        for (at, slowest) in [(70, 19_000), (80, 9_500), (130, 9_500), (140, 4_750)] {
            deadlines.released(s(1), t0 + s(at));
            assert_eq!(
                deadlines.experience().slowest_ack * 2,
                Duration::from_millis(slowest),
                "after {at} s"
            );
        }
    }

    #[test]
    fn what_waits_behind_others_in_a_full_link_is_not_slow() {
        let (mut deadlines, t0) = start();
        for second in 1..100 {
            deadlines.released(s(second), t0 + s(second));
        }
        assert_eq!(deadlines.experience().slowest_ack * 2, s(1));
    }

    #[test]
    fn a_ping_is_answered_once_all_are() {
        let (mut deadlines, t0) = start();
        deadlines.pinged(t0);
        deadlines.pinged(t0 + s(1));
        deadlines.answered(IDLE, t0 + s(1));
        assert!(deadlines.awaits_pong());
        deadlines.answered(IDLE, t0 + s(1));
        assert!(!deadlines.awaits_pong());
    }

    #[test]
    fn without_a_keep_alive_nothing_is_ever_due_on_an_idle_connection() {
        let now = crate::clock::monotonic();
        let deadlines = Deadlines::new(patience(), Duration::ZERO, now);
        assert_eq!((deadlines.next(IDLE), deadlines.judge(IDLE, now + s(9999))), (None, Due::Nothing));
    }
}

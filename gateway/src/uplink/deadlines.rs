//! The time limits of one connection: when an acknowledgement, an answer to a ping, or a ping is due. Pure.
//!
//! An acknowledgement is waited for from the sending of the head, from its last move, or from the last write that the
//! link held up, whichever is latest: what is on its way through a slow link is late for no fault of the upstream.
//!
//! It reads no clock: `now` is an argument.

use std::time::{Duration, Instant};

/// A ping goes out after this part of the keep-alive, so that it is there within it.
const PING_AFTER: (u32, u32) = (3, 4);

/// The limits of one connection, and what they are measured from.
#[derive(Debug)]
pub struct Deadlines {
    ack_timeout: Duration,
    keep_alive: Duration,
    written_at: Instant,
    moved_at: Instant,
    pinged_at: Option<Instant>,
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
    Ack,
    /// The answer to a ping: the connection is given up.
    Pong,
}

impl Deadlines {
    /// For a connection made now. A keep-alive of zero never pings.
    #[must_use]
    pub fn new(ack_timeout: Duration, keep_alive: Duration, now: Instant) -> Self {
        Self { ack_timeout, keep_alive, written_at: now, moved_at: now, pinged_at: None }
    }

    /// Bytes went out; with `held_up`, not all that were there.
    pub fn wrote(&mut self, held_up: bool, now: Instant) {
        self.written_at = now;
        if held_up {
            self.moved_at = now;
        }
    }

    /// The head moved.
    pub fn released(&mut self, now: Instant) {
        self.moved_at = now;
    }

    /// A ping was sent.
    pub fn pinged(&mut self, now: Instant) {
        self.pinged_at = Some(now);
    }

    /// The ping was answered.
    pub fn answered(&mut self) {
        self.pinged_at = None;
    }

    /// When [`Deadlines::judge`] next has something to say; `None` if never, as things are.
    #[must_use]
    pub fn next(&self, in_flight: InFlight) -> Option<Instant> {
        [self.ack(in_flight), self.pong(), self.ping(in_flight)].into_iter().flatten().min()
    }

    /// What is due now.
    #[must_use]
    pub fn judge(&self, in_flight: InFlight, now: Instant) -> Due {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match () {
            () if is_over(self.ack(in_flight)) => Due::Ack,
            () if is_over(self.pong()) => Due::Pong,
            () if is_over(self.ping(in_flight)) => Due::Ping,
            () => Due::Nothing,
        }
    }

    fn ack(&self, in_flight: InFlight) -> Option<Instant> {
        Some(in_flight.head_sent_at?.max(self.moved_at) + self.ack_timeout)
    }

    fn pong(&self) -> Option<Instant> {
        Some(self.pinged_at?.max(self.moved_at) + self.ack_timeout)
    }

    fn ping(&self, in_flight: InFlight) -> Option<Instant> {
        // Bytes that wait for the link show that we are alive as soon as they can.
        let quiet = !in_flight.pending && self.pinged_at.is_none() && !self.keep_alive.is_zero();
        quiet.then(|| self.written_at + self.keep_alive * PING_AFTER.0 / PING_AFTER.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const IDLE: InFlight = InFlight { head_sent_at: None, pending: false };

    fn start() -> (Deadlines, Instant) {
        let now = crate::clock::monotonic();
        (Deadlines::new(s(30), s(60), now), now)
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
        assert_eq!(deadlines.judge(IDLE, t0 + s(75)), Due::Pong);
        deadlines.answered();
        assert_eq!(deadlines.next(IDLE), Some(t0 + s(90)));
    }

    #[test]
    fn the_head_has_its_time_from_its_sending_or_from_the_last_move() {
        let (mut deadlines, t0) = start();
        let sent = InFlight { head_sent_at: Some(t0 + s(10)), pending: false };
        assert_eq!(deadlines.next(sent), Some(t0 + s(40)));
        assert_eq!(deadlines.judge(sent, t0 + s(40)), Due::Ack);
        deadlines.wrote(false, t0 + s(35));
        assert_eq!(deadlines.judge(sent, t0 + s(40)), Due::Ack, "writing more is no acknowledgement");
        deadlines.released(t0 + s(20));
        assert_eq!(deadlines.judge(sent, t0 + s(49)), Due::Nothing);
        assert_eq!(deadlines.judge(sent, t0 + s(50)), Due::Ack);
    }

    #[test]
    fn a_slow_link_is_not_taken_for_a_silent_upstream() {
        let (mut deadlines, t0) = start();
        let held_up = InFlight { head_sent_at: Some(t0), pending: true };
        deadlines.wrote(true, t0 + s(25));
        assert_eq!(deadlines.judge(held_up, t0 + s(54)), Due::Nothing);
        assert_eq!(deadlines.judge(held_up, t0 + s(55)), Due::Ack);
    }

    #[test]
    fn without_a_keep_alive_nothing_is_ever_due_on_an_idle_connection() {
        let now = crate::clock::monotonic();
        let deadlines = Deadlines::new(s(30), Duration::ZERO, now);
        assert_eq!((deadlines.next(IDLE), deadlines.judge(IDLE, now + s(9999))), (None, Due::Nothing));
    }
}

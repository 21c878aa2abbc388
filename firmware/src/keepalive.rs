//! When to ping, and when the other side counts as dead.
//!
//! Purpose: the client must send something within the keep-alive interval [MQTT-3.1.2-20], and it
//! must notice a peer that is gone without a word. Half an interval without a packet either way:
//! ping. Another half without a packet from the peer: dead. So a dead peer is noticed within one
//! interval.
//!
//! What it does not do: it reads no clock and sends nothing. PUBACKs that stay away are no reason
//! to give up a connection that answers pings: the gateway withholds them while it cannot write to
//! its disk.

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing until this uptime, in milliseconds.
    WaitUntil(u64),
    /// Send PINGREQ.
    Ping,
    /// Give the connection up.
    Dead,
}

/// The state of one connection's keep-alive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    half_ms: u64,
    sent_ms: u64,
    heard_ms: u64,
    pinged_ms: Option<u64>,
}

impl KeepAlive {
    /// Starts at `now_ms`, when the CONNACK came. `interval_s` of 0 means that the server asks for
    /// none: then an hour.
    pub(crate) fn new(interval_s: u16, now_ms: u64) -> Self {
        let interval_s = if interval_s == 0 { 3600 } else { interval_s };
        KeepAlive { half_ms: u64::from(interval_s) * 500, sent_ms: now_ms, heard_ms: now_ms, pinged_ms: None }
    }

    /// A packet was sent.
    pub(crate) fn sent(&mut self, now_ms: u64) {
        self.sent_ms = now_ms;
    }

    /// A PINGREQ was sent.
    pub(crate) fn pinged(&mut self, now_ms: u64) {
        self.sent_ms = now_ms;
        self.pinged_ms = Some(now_ms);
    }

    /// A packet came in, any packet: the peer lives.
    pub(crate) fn heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
        self.pinged_ms = None;
    }

    /// What is to be done at `now_ms`.
    pub(crate) fn judge(&self, now_ms: u64) -> Verdict {
        let (at_ms, then) = match self.pinged_ms {
            Some(pinged_ms) => (pinged_ms + self.half_ms, Verdict::Dead),
            None => (self.sent_ms.min(self.heard_ms) + self.half_ms, Verdict::Ping),
        };
        if now_ms < at_ms { Verdict::WaitUntil(at_ms) } else { then }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_line_is_pinged_after_half_the_interval_and_dead_after_all_of_it() {
        let mut keep_alive = KeepAlive::new(30, 1000);
        assert_eq!(keep_alive.judge(1000), Verdict::WaitUntil(16_000));
        assert_eq!(keep_alive.judge(15_999), Verdict::WaitUntil(16_000));
        assert_eq!(keep_alive.judge(16_000), Verdict::Ping);
        keep_alive.pinged(16_000);
        assert_eq!(keep_alive.judge(16_000), Verdict::WaitUntil(31_000));
        assert_eq!(keep_alive.judge(31_000), Verdict::Dead);
    }

    #[test]
    fn an_answer_of_any_kind_counts_as_life() {
        let mut keep_alive = KeepAlive::new(30, 0);
        keep_alive.pinged(15_000);
        keep_alive.heard(15_100);
        assert_eq!(keep_alive.judge(29_999), Verdict::WaitUntil(30_000));
    }

    #[test]
    fn a_device_that_sends_into_silence_pings_too() {
        let mut keep_alive = KeepAlive::new(30, 0);
        for now_ms in (0..15_000).step_by(1000) {
            keep_alive.sent(now_ms);
        }
        assert_eq!(keep_alive.judge(15_000), Verdict::Ping, "nothing was heard for half the interval");
    }
}

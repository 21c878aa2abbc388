//! What a lane does when time has passed: pings, and the end of a connection whose answers are
//! late.
//!
//! One timer serves all limits. It decides nothing: see [`deadlines`](super::super::deadlines) and
//! [`pace`](super::super::pace).

use super::{
    super::{
        broken::Broken,
        deadlines::{Due, InFlight},
    },
    IDLE, Lane,
};
use crate::uplink::{engine::Connection, source::Source};

impl<S: Source, C: Connection> Lane<'_, S, C> {
    pub(super) fn ping(&mut self) {
        self.connection.ping();
        self.deadlines.pinged(self.now);
    }

    pub(super) fn in_flight(&self) -> InFlight {
        InFlight { head_sent_at: self.window.front_sent_at(), pending: self.connection.has_unwritten() }
    }

    /// Sets the alarm if something is due before it goes. One that goes too early costs a wake-up,
    /// and is never moved back.
    pub(super) fn arm(&mut self) {
        let due = self.deadlines.next(self.in_flight()).into_iter();
        let due = due.chain(self.drain_until).chain(self.trial.until()).chain(self.paced_until()).min();
        let due = due.unwrap_or(self.now + IDLE);
        if due < self.alarm_at || self.alarm.is_elapsed() {
            self.alarm_at = due;
            self.alarm.as_mut().reset(due.into());
        }
    }

    pub(super) fn after_alarm(&mut self) -> Result<(), Broken> {
        self.judge_refusal()?;
        match self.deadlines.judge(self.in_flight(), self.now) {
            Due::Ack(limit) => return Err(Broken::AckTimeout(limit)),
            Due::Overtaken(limit) => return Err(Broken::Overtaken(limit)),
            Due::Unanswered(limit) => return Err(Broken::Unanswered(limit)),
            Due::Silence(limit) => return Err(Broken::Silent(limit)),
            Due::Pong(limit) => return Err(Broken::PingTimeout(limit)),
            Due::Ping => self.ping(),
            Due::Gap => {
                self.deadlines.said_gap();
                self.too_much();
            }
            Due::Nothing => {}
        }
        Ok(())
    }
}

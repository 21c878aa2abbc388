//! Holds a lane to the pace: what may be sent now, and what the upstream's answers say of it.
//!
//! ```text
//!  missing among the acknowledgements · out of time · refused for its number ─▶ half the window, a rate
//! ```
//! Nothing here is done for an event while nothing limits the pace.

use super::{
    super::{broken::Broken, hours::State, pace::OPENS_AFTER},
    Instant, Lane,
};
use crate::{
    clock,
    uplink::{
        engine::{Connection, Lost},
        source::Source,
    },
};

impl<S: Source, C: Connection> Lane<'_, S, C> {
    /// Whether a message of about so many bytes may go now.
    pub(super) fn pace_allows(&self, bytes: usize) -> bool {
        let limits = &self.shared.settings.pace;
        let fits = limits.inflight_bytes.is_none_or(|most| {
            // One that is longer than all that may be in flight goes alone.
            self.window.waiting() == 0 || self.window.bytes() + bytes as u64 <= most.get()
        });
        fits && self.shared.pace.next_at().is_none_or(|at| at <= self.now)
    }

    /// When the window opens though nothing was acknowledged, if there is use for that.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        let is_stuck = !self.filling && !self.window.is_overtaken() && !self.trial.is_under_way();
        (is_stuck && self.window.opens_with_time()).then(|| self.full_at + OPENS_AFTER)
    }

    /// Opens the window, if its time has come.
    pub(super) fn open_with_time(&mut self) {
        if self.opens_at().is_some_and(|at| at <= self.now) && self.window.open_with_time() {
            self.filling = true;
            self.full_at = self.now;
        }
    }

    /// When the pace lets the next message go, or the uplink's hours may end, if something waits
    /// for that.
    pub(super) fn paced_until(&self) -> Option<Instant> {
        let next = if self.is_paced { self.shared.pace.next_at() } else { None };
        let all = [next, self.look_at, self.opens_at()].into_iter().flatten();
        all.filter(|at| *at > self.now).min()
    }

    /// A message of so many bytes was sent, the last that was pushed.
    pub(super) fn note_sent(&mut self, bytes: usize) {
        self.window.sized(bytes);
        self.shared.pace.sent(bytes, self.now);
    }

    /// So many messages were acknowledged.
    pub(super) fn note_acked(&mut self, messages: u32) {
        self.shared.pace.acked(messages, self.now);
        self.set_paced();
    }

    /// The source has nothing more for now.
    pub(super) fn note_starved(&mut self) {
        self.shared.pace.starved(self.now);
    }

    /// Messages are missing among those that are acknowledged, or the like.
    pub(super) fn too_much(&mut self) {
        let before = self.shared.pace.found_per_s();
        if self.shared.pace.too_much(self.window.opening()) {
            self.window.halve();
            self.set_paced();
        }
        // It is said once, and not each time that it is measured again.
        if let (None, Some(per_s)) = (before, self.shared.pace.found_per_s()) {
            tracing::info!(
                uplink = %self.shared.settings.name,
                "the upstream takes no more at once: going on with {per_s:.1} messages a second; set events_per_second if you know its limit"
            );
        }
    }

    /// What was missing among those that are acknowledged came in the end: it was no limit.
    pub(super) fn note_healed(&mut self) {
        let before = self.shared.pace.found_per_s();
        let Some(opening) = self.shared.pace.recovered() else { return };
        self.window.reopen(opening);
        self.set_paced();
        if before.is_some() && self.shared.pace.found_per_s().is_none() {
            tracing::info!(
                uplink = %self.shared.settings.name,
                "what was missing was acknowledged late: going on as fast as the upstream takes it"
            );
        }
    }

    /// What the failure of the connection says about the pace.
    pub(super) fn conclude_pace(&mut self, broken: &Broken) {
        match broken {
            // What happens to a single event says nothing of how many are too many.
            _ if self.trial.is_under_way() => {}
            Broken::Overtaken(_) | Broken::Unanswered(_) | Broken::AckTimeout(_) => self.too_much(),
            Broken::Silent(_) | Broken::PingTimeout(_) => self.window.halve(),
            Broken::NotNow(refusal) if refusal.is_of_a_rate() => self.too_much(),
            Broken::Lost(Lost::Disconnected { notice, .. }) if notice.reason.is_of_a_rate() => {
                self.too_much()
            }
            _ => {}
        }
    }

    /// Whether what lies at this offset waits for the uplink's hours.
    pub(super) fn is_held(&mut self, offset: u64) -> bool {
        let Some(hours) = self.shared.settings.send else { return false };
        if self.look_at.is_none_or(|at| at <= self.now) {
            let state = hours.state(clock::wall_ms());
            let (State::Open(look) | State::Closed(look)) = state;
            self.look_at = Some(self.now + look);
            self.is_closed = matches!(state, State::Closed(_));
        }
        self.is_closed && offset >= self.shared.urgent_to
    }

    /// The uplink's hours are over: what is in flight has the time that it has at any other hour.
    pub(super) async fn settle_held(&mut self) -> Result<(), Broken> {
        self.settle_all().await?;
        self.trace.is_held = true;
        Ok(())
    }

    pub(super) fn set_paced(&mut self) {
        self.is_paced = !self.shared.pace.is_free() || self.shared.settings.pace.inflight_bytes.is_some();
    }
}

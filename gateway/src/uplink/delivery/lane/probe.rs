//! Sends an event alone, where it is suspected, and says how the upstream failed over the head in
//! the end.
//!
//! ```text
//!  drained window ─▶ [control ─▶ ack] ─▶ head · ping ─▶ ack: it was no fault of the head's
//!                                                  └─▶ closed, refused, ignored, silent: evidence
//! ```
//! A control is an event that the upstream has acknowledged before: a copy of it, with its id. If
//! there is none, or it failed, it is one that lies before the head in the log, or one behind it:
//! the first on another topic, of another device rather than of the same one. It judges nothing:
//! see [`poison`](super::super::poison).

use super::{
    super::{
        broken::Broken,
        carried::Control,
        poison::{Ending, Fault, Plan, causes::Features},
    },
    Duration, Instant, Lane, ROOM,
};
use crate::{
    clock,
    store::Record,
    uplink::{
        engine::{Connection, Refusal},
        format::Format,
        source::Source,
    },
};

/// What was acknowledged on this connection shows for so long that the upstream takes events.
const CONTROL_FRESH: Duration = Duration::from_secs(5);
/// After an event was refused for now, the answers to those behind it are waited for so long.
const REFUSED_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a lane knows of the event that is suspected.
#[derive(Debug, Default)]
pub struct Trial {
    /// How the first event is to be sent.
    plan: Option<Plan>,
    /// Controls beside those that are carried.
    more_controls: Vec<Control>,
    /// The token of the control that is under way.
    pub control: Option<u64>,
    /// An event is under way alone.
    is_alone: bool,
    /// And the upstream had just taken another one.
    is_controlled: bool,
    /// When the upstream last acknowledged an event.
    took_at: Option<Instant>,
    /// An event was refused for now: the one of the lowest offset.
    refused: Option<RefusedNow>,
    /// How many were.
    refusals: usize,
}

#[derive(Debug, Clone, Copy)]
struct RefusedNow {
    offset: u64,
    reason: Refusal,
    until: Instant,
}

impl Trial {
    /// Nothing more is to be sent: the lane ends soon.
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// An event is under way alone, or before one that is to be.
    pub fn is_under_way(&self) -> bool {
        self.is_alone || self.control.is_some()
    }

    /// The upstream acknowledged an event.
    pub fn took(&mut self, now: Instant) {
        self.took_at = Some(now);
    }

    /// The upstream takes events: it acknowledged one just now.
    fn takes(&self, now: Instant) -> bool {
        self.took_at.is_some_and(|at| now.saturating_duration_since(at) < CONTROL_FRESH)
    }

    /// When the lane ends for a refusal.
    pub fn until(&self) -> Option<Instant> {
        Some(self.refused?.until)
    }
}

impl<S: Source, C: Connection> Lane<'_, S, C> {
    /// Gets ready for `plan`, before anything is sent.
    pub(super) async fn plan(&mut self, plan: Plan) -> Result<(), Broken> {
        if let Plan::Probe { .. } = plan {
            self.trial.more_controls = self.find_controls().await?;
        }
        self.trial.plan = Some(plan).filter(|plan| *plan != Plan::Stream);
        self.is_careful = self.trial.plan.is_some()
            || self.shared.carried.has_acked()
            || self.shared.poison.causes().is_recent(self.now);
        Ok(())
    }

    /// Sends the record if there is more to it than to send it. `None` if there is not.
    pub(super) async fn put_carefully(
        &mut self,
        offset: u64,
        record: &Record<'_>,
    ) -> Result<Option<bool>, Broken> {
        if self.shared.carried.is_acked(offset) {
            self.skip(offset, record, true);
            return Ok(Some(true));
        }
        let plan = self.trial.plan.take();
        let causes = self.shared.poison.causes();
        let is_foreseen = causes.foresees(&Features::of(record), self.now)
            || (causes.knows(Fault::Ignored, self.now) && self.shared.carried.is_unanswered(offset));
        if plan.is_none() && !is_foreseen {
            // Nothing is learnt on this connection: once what is known is out of date, the rest is
            // sent as ever.
            self.is_careful = causes.is_recent(self.now) || self.shared.carried.is_unanswered(offset);
            return Ok(None);
        }
        self.put_alone(offset, record, plan).await.map(Some)
    }

    /// Sends the record when nothing else is in flight, and waits until it is settled. False as
    /// [`Lane::put`].
    async fn put_alone(
        &mut self,
        offset: u64,
        record: &Record<'_>,
        plan: Option<Plan>,
    ) -> Result<bool, Broken> {
        if !self.window.is_empty() {
            // Nothing more is sent until then: what is in flight has no longer than if it were
            // alone.
            self.deadlines.set_alone(Some(0));
            self.ping();
            if !self.settle_all().await? {
                return Ok(false);
            }
            self.deadlines.set_alone(None);
        }
        let is_suspected = plan.is_some();
        let controls_failed = match plan {
            Some(Plan::Probe { controls_failed }) => Some(controls_failed),
            Some(_) => None,
            // It is foreseen: what the upstream took on this connection is as good.
            None => Some(0).filter(|_| !self.trial.takes(self.now)),
        };
        if let Some(failed) = controls_failed {
            let more = std::mem::take(&mut self.trial.more_controls);
            for control in self.shared.carried.controls(record.topic, &more, failed) {
                match self.put_control(offset, &control).await? {
                    Some(true) => break,
                    Some(false) => return Ok(false),
                    // The next one may be.
                    None => {}
                }
            }
        }
        self.trial.is_alone = true;
        self.trial.is_controlled = self.trial.takes(self.now);
        self.deadlines.set_alone(Some(record.size()));
        if !self.put_now(offset, record).await? {
            return Ok(false);
        }
        // What is answered behind the record was read behind it.
        self.ping();
        if !self.settle_all().await? {
            return Ok(false);
        }
        self.deadlines.set_alone(None);
        self.trial.is_alone = false;
        if !self.shared.carried.is_counted(offset) {
            self.shared.carried.set_unanswered(None);
            if is_suspected {
                // Alone it was taken: what was too much was how many there were.
                self.shared.pace.confirm();
            }
            if !self.shared.poison.causes().is_recent(self.now) {
                self.window.trust();
            }
            self.shared.poison.causes_mut().refute(&Features::of(record));
        }
        Ok(true)
    }

    /// Sends the control before the record at `head`, and waits for its acknowledgement. False on
    /// shutdown; `None` if it shows nothing: it cannot be sent in this format, or the upstream knew
    /// it and dropped the copy, which one that takes nothing does as well.
    async fn put_control(&mut self, head: u64, control: &Control) -> Result<Option<bool>, Broken> {
        let Some(record) = control.record() else { return Ok(None) };
        // A copy of what was taken before does not set back what the upstream has retained since
        // then.
        let record = Record { retain: record.retain && control.offset > head, ..record };
        // It releases nothing, whatever becomes of it.
        let token = self.window.push_part(head, 0, false, self.now).expect(ROOM);
        let Some(is_whole) = self.send_control(token, control.offset, &record) else {
            self.window.give_up(token);
            self.release();
            return Ok(None);
        };
        self.trial.control = Some(token);
        if self.is_paced {
            self.note_sent(record.size());
        }
        self.deadlines.set_alone(Some(record.size()));
        self.trial.took_at = None;
        if !self.settle_all().await? {
            return Ok(Some(false));
        }
        self.trial.control = None;
        if is_whole && control.offset > head {
            self.shared.carried.add_acked(std::iter::once(control.offset));
        }
        if self.trial.took_at.is_none() {
            return Ok(None);
        }
        self.shared.carried.keep(control.clone());
        Ok(Some(true))
    }

    /// Sends the first message of a control, and says whether it is all of it. `None` if it cannot
    /// be sent.
    fn send_control(&mut self, token: u64, offset: u64, record: &Record<'_>) -> Option<bool> {
        let connection = &mut self.connection;
        match &mut *self.shared.format {
            Format::Raw(raw) => {
                let message = raw.message(offset, record, &self.can).ok()?;
                connection.send(token, &message.aged(record.received_ms, clock::wall_ms)).ok()?;
                Some(true)
            }
            Format::Decoded(decoded) => {
                let (messages, problem) =
                    decoded.prepare(offset, record, &self.can, |message| connection.check(message));
                if messages == 0 {
                    return None;
                }
                let message = decoded.message(0).aged(record.received_ms, clock::wall_ms);
                connection.send(token, &message).ok()?;
                Some(messages == 1 && problem.is_none())
            }
        }
    }

    /// Waits until nothing is in flight. False on shutdown.
    pub(super) async fn settle_all(&mut self) -> Result<bool, Broken> {
        while !self.window.is_empty() {
            let event = self.wait(false).await?;
            if !self.handle(event).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An event was refused for now: nothing more is sent, and what is in flight is waited for, for
    /// what it says about the event.
    pub(super) fn note_refusal(&mut self, token: u64, reason: Refusal) {
        let Some(offset) = self.window.waiting_offset(token) else { return };
        self.trial.refusals += 1;
        let until = self.now + REFUSED_WAIT_MAX;
        let refused = self.trial.refused.get_or_insert(RefusedNow { offset, reason, until });
        if offset < refused.offset {
            *refused = RefusedNow { offset, reason, until: refused.until };
        }
    }

    /// Ends the lane for a refusal when all is answered, or its time is over.
    pub(super) fn judge_refusal(&self) -> Result<(), Broken> {
        match self.trial.refused {
            Some(refused) if self.now >= refused.until || self.window.waiting() <= self.trial.refusals => {
                Err(Broken::NotNow(refused.reason))
            }
            _ => Ok(()),
        }
    }

    /// What the next connection is to know of this one, however it ended.
    pub(super) fn carry_on(&mut self) {
        self.trace.experience = self.deadlines.experience();
        self.shared.carried.add_acked(self.window.acknowledged_records());
        self.shared.pace.opening = self.window.opening();
    }

    /// What the failure of this connection says about the head, and what of it is carried to the
    /// next one.
    pub(super) fn testify(&mut self, broken: &Broken) {
        let is_late = matches!(broken, Broken::Unanswered(_) | Broken::AckTimeout(_));
        // What happens to one event says nothing of the others, if others were ever taken.
        let is_of_one = self.trial.is_alone && self.trial.control.is_none() && self.trace.experience.has_seen;
        self.trace.was_fruitless = is_late && !self.trace.took && !is_of_one;
        self.trace.was_alone = self.trial.is_alone;
        self.trace.ending = match self.fault(broken) {
            _ if self.trial.control.is_some() => Ending::ControlFailed,
            Some(fault) => {
                let controlled = self.trial.is_alone && self.trial.is_controlled;
                Ending::Failed { fault, controlled }
            }
            None => Ending::Other,
        };
        let head = self.shared.source.released();
        let carried = &mut self.shared.carried;
        if is_late {
            carried.set_unanswered(self.window.back_offset());
        }
        for block in self.settled_block.iter().chain(self.blocks.front()) {
            let taken = S::records_from(block, self.began_at).filter(|(offset, record)| {
                let is_acked = *offset < head || carried.is_acked(*offset);
                is_acked && !record.local && !carried.is_counted(*offset)
            });
            let taken: Vec<_> = taken.collect();
            carried.add_controls(&taken);
        }
    }

    /// How the upstream failed over the head, if it was sent and that is what ended the connection.
    fn fault(&self, broken: &Broken) -> Option<Fault> {
        let sent_at = self.window.front_sent_at()?;
        match broken {
            _ if self.deadlines.written_at() < sent_at || !self.trace.sent => None,
            Broken::Lost(lost) => lost.blames_message().then_some(Fault::Closed),
            Broken::NotNow(reason) => {
                // The head may lie behind the released offset: a replay sends some of the records
                // only.
                let is_head = |refused: &RefusedNow| Some(refused.offset) == self.window.front_offset();
                self.trial.refused.filter(is_head).map(|_| Fault::Refused(*reason))
            }
            Broken::Overtaken(_) | Broken::Unanswered(_) => Some(Fault::Ignored),
            Broken::AckTimeout(_) if !self.deadlines.awaits_pong() => Some(Fault::Ignored),
            Broken::AckTimeout(_) | Broken::PingTimeout(_) | Broken::Silent(_) => Some(Fault::Silent),
            _ => None,
        }
    }
}

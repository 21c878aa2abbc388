//! What becomes of the upstream's answers: acknowledged, refused for good, or not now; and what is released for it.
//!
//! ```text
//!  inbox ─▶ PUBACK ─┬─ taken ──────────────────▶ window ─ prefix ─▶ source.release
//!                   ├─ never taken ─▶ set aside ─▶┘
//!                   └─ not now ─▶ nothing more is sent; when the rest is answered the lane ends, and sends again later
//! ```
//! Answers are read in bulk and released once. It waits for nothing but the store, when a record is set aside.

use fail::fail_point;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        link::Broken,
        reason::{Reason, Verdict},
        source::Source,
        wire::{self, Inbound},
    },
    Lane, REFILL_DIVISOR, Shared,
};
use crate::store::Record;

/// How often a record was sent that the upstream refused: one answer is enough.
const TRIES_REFUSED: u32 = 1;

impl<S: Source, Io: AsyncRead + AsyncWrite + Unpin> Lane<'_, S, Io> {
    /// Reads all that came, then settles it in one go.
    pub(super) async fn take_answers(&mut self) -> Result<(), Broken> {
        let (mut refused, mut ended, mut acks) = (Vec::new(), Ok(()), false);
        while ended.is_ok() {
            let (inbound, bytes) = match wire::inbound(self.link.inbox()) {
                Ok(Some(read)) => read,
                Ok(None) => break,
                Err(error) => {
                    ended = Err(error.into());
                    break;
                }
            };
            self.link.take(bytes);
            match inbound {
                Inbound::Ack { id, reason } => match reason.judge() {
                    // Whatever a control is refused for, it was taken before.
                    verdict if verdict != Verdict::Taken && self.trial.control == Some(id) => {
                        ended = Err(Broken::NotNow(reason));
                    }
                    Verdict::Taken => {
                        acks = true;
                        let known = self.window.acknowledge(id);
                        self.note_stray(known, id);
                    }
                    Verdict::NeverTaken => refused.push((id, reason)),
                    Verdict::NotNow => self.note_refusal(id, reason),
                },
                Inbound::Pong => {
                    self.deadlines.answered();
                    self.trace.answered = true;
                }
                Inbound::Disconnect { reason } => ended = Err(Broken::Disconnected(reason)),
                Inbound::Other => {}
            }
        }
        if acks {
            self.trace.took = true;
            self.trial.took(self.now);
            fail_point!("uplink-after-ack", |_| std::process::abort());
        }
        self.release();
        let is_answered = acks || !refused.is_empty();
        for (id, reason) in refused {
            // Each costs a commit: a shutdown does not wait for many, and what is left is refused again.
            if self.shared.shutdown.is_cancelled() {
                break;
            }
            self.refused(id, reason).await?;
            self.release();
        }
        self.deadlines.heard(self.now);
        // Records that need no answer are settled as well, and overtake nothing.
        if is_answered && self.window.is_overtaken() {
            self.deadlines.overtaken(self.now);
        }
        ended.and_then(|()| self.judge_refusal())
    }

    /// Sets aside what the upstream said that it will never take.
    async fn refused(&mut self, id: u16, reason: Reason) -> Result<(), Broken> {
        let Some(offset) = self.window.waiting_offset(id) else {
            self.note_stray(false, id);
            return Ok(());
        };
        let why = format!("the upstream refused it: {reason}");
        let block = self.blocks.iter().find(|block| offset < S::end(block)).cloned();
        let record = block.as_deref().and_then(|block| S::records_from(block, offset).next());
        let (_, record) =
            record.expect("invariant: a block is kept until all of it is released, see `release`");
        self.set_aside(id, offset, &record, &why, TRIES_REFUSED).await
    }

    pub(super) async fn set_aside(
        &mut self,
        id: u16,
        offset: u64,
        record: &Record<'_>,
        why: &str,
        tries: u32,
    ) -> Result<(), Broken> {
        // One letter for a record, however many of its messages are refused.
        if self.set_aside_now.insert(offset) {
            set_aside(&mut self.shared, offset, record, why, tries).await?;
        }
        self.window.set_aside(id);
        Ok(())
    }

    pub(super) fn release(&mut self) {
        if let Some(released) = self.window.advance() {
            // A part of the head does not clear the rest of it of a suspicion.
            if released.next_offset > self.shared.source.released() {
                while self.blocks.front().is_some_and(|block| S::end(block) <= released.next_offset) {
                    self.settled_block = self.blocks.pop_front();
                }
                self.set_aside_now.retain(|offset| *offset >= released.next_offset);
                self.shared.source.release(released.next_offset);
                fail_point!("uplink-after-release", |_| std::process::abort());
                self.trace.released = true;
            }
            let waited = self.now.duration_since(released.oldest_sent_at);
            if released.delivered_events > 0 {
                self.shared.tally.delivered(released.delivered_events, waited.as_secs_f64());
            }
            self.deadlines.released(waited, self.now);
        }
        self.filling |= self.window.room() >= self.window.open().div_ceil(REFILL_DIVISOR);
    }

    fn note_stray(&mut self, known: bool, id: u16) {
        if !known && !self.warned_of_stray {
            self.warned_of_stray = true;
            let uplink = &self.shared.settings.name;
            tracing::warn!(%uplink, id, "the upstream acknowledged a packet id that is not in flight: passed over");
        }
    }
}

/// Makes a dead letter of the record at `offset`, which was sent `tries` times, durably, and counts it if it was not
/// counted before: what is sent again after a connection broke may be refused again.
pub(in super::super) async fn set_aside<S: Source>(
    shared: &mut Shared<'_, S>,
    offset: u64,
    record: &Record<'_>,
    why: &str,
    tries: u32,
) -> Result<(), Broken> {
    shared.source.set_aside(offset, record, why, tries).await?;
    let is_new = shared.carried.count(offset);
    if let Some(records) = is_new.then(|| shared.tally.set_aside(record.events.into())).flatten() {
        let uplink = &shared.settings.name;
        tracing::warn!(%uplink, records, offset, topic = record.topic, "set an event aside: {why}");
    }
    Ok(())
}

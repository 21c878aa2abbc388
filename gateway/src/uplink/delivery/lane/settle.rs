//! What becomes of the upstream's answers: acknowledged, refused for good, or not now; and what is released for it.
//!
//! ```text
//!  inbox ─▶ PUBACK ─┬─ taken ──────────────────▶ window ─ prefix ─▶ source.release
//!                   ├─ never taken ─▶ set aside ─▶┘
//!                   └─ not now ─▶ nothing more is sent; when the rest is answered the lane ends, and sends again later
//! ```
//! Answers are read in bulk and released once. It waits for nothing but the store, when records are set aside: all that are known to be by
//! the time it would wait for something else become dead letters in one transaction, and settle then. At most
//! [`LETTERS_BYTES_MAX`] and one record more wait for that, and no more records than the window has room for.

use std::sync::Arc;

use fail::fail_point;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Lane, REFILL_DIVISOR, Shared};
use crate::{
    store::{NewLetter, Record},
    uplink::{
        engine::mqtt::{
            packets::{self, Inbound},
            reason::{Reason, Verdict},
            transport::Broken,
        },
        source::Source,
    },
};

/// How often a record was sent that the upstream refused: one answer is enough.
const TRIES_REFUSED: u32 = 1;
/// Of records that become dead letters in one transaction.
const LETTERS_BYTES_MAX: usize = 1024 * 1024;

/// What is to be set aside.
#[derive(Debug, Default)]
pub struct Unkept {
    letters: Vec<NewLetter>,
    bytes: usize,
    /// Packet ids that settle once the letters are durable.
    ids: Vec<u16>,
}

impl<S: Source, Io: AsyncRead + AsyncWrite + Unpin> Lane<'_, S, Io> {
    /// Reads all that came, then settles it in one go.
    pub(super) async fn take_answers(&mut self) -> Result<(), Broken> {
        let (mut refused, mut ended, mut acks) = (Vec::new(), Ok(()), false);
        while ended.is_ok() {
            let (inbound, bytes) = match packets::inbound(self.link.inbox()) {
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
            self.refused(id, reason).await?;
        }
        self.keep_letters().await?;
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
        self.set_aside(Some(id), offset, &record, why, TRIES_REFUSED).await
    }

    /// Has a dead letter made of the record before anything else is waited for; the packet `id` settles with it.
    pub(super) async fn set_aside(
        &mut self,
        id: Option<u16>,
        offset: u64,
        record: &Record<'_>,
        why: String,
        tries: u32,
    ) -> Result<(), Broken> {
        self.unkept.ids.extend(id);
        // One letter for a record, however many of its messages are refused.
        if self.set_aside_now.insert(offset) {
            let letter = NewLetter::new(offset, record, why, tries);
            self.unkept.bytes += letter.bytes();
            self.unkept.letters.push(letter);
        }
        if self.unkept.bytes >= LETTERS_BYTES_MAX {
            self.keep_letters().await?;
        }
        Ok(())
    }

    /// Makes dead letters of what is to be set aside, and settles it. Whether there was anything.
    pub(super) async fn keep_letters(&mut self) -> Result<bool, Broken> {
        let Unkept { letters, ids, .. } = std::mem::take(&mut self.unkept);
        if letters.is_empty() && ids.is_empty() {
            return Ok(false);
        }
        set_aside(&mut self.shared, letters).await?;
        for id in ids {
            self.window.set_aside(id);
        }
        self.release();
        Ok(true)
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

/// Makes dead letters, durably, and counts those that were not counted before: what is sent again after a connection broke may be
/// refused again.
pub(in super::super) async fn set_aside<S: Source>(
    shared: &mut Shared<'_, S>,
    letters: Vec<NewLetter>,
) -> Result<(), Broken> {
    if letters.is_empty() {
        return Ok(());
    }
    let letters = Arc::new(letters);
    shared.source.set_aside(letters.clone()).await?;
    for letter in &*letters {
        let (offset, record) = (letter.offset, letter.record());
        let is_new = shared.carried.count(offset);
        if let Some(records) = is_new.then(|| shared.tally.set_aside(record.events.into())).flatten() {
            let (uplink, why) = (&shared.settings.name, &letter.reason);
            tracing::warn!(%uplink, records, offset, topic = %record.topic, "set an event aside: {why}");
        }
    }
    Ok(())
}

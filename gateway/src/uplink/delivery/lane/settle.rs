//! What becomes of the upstream's answers: acknowledged, refused for good, or not now; and what is
//! released for it.
//!
//! ```text
//!  answer ─┬─ accepted ───────────────▶ window ─ prefix ─▶ source.release
//!          ├─ rejected ─▶ dead letter ─▶┘
//!          └─ retry ─▶ nothing more is sent; when the rest is answered the lane ends, and sends again later
//! ```
//! Answers are read in bulk and released once. It waits for nothing but the store, when there are
//! dead letters: all that are known by the time it would wait for something else are put in
//! one transaction, and settle then. At most [`LETTERS_BYTES_MAX`] and one record more
//! wait for that, and no more records than the window has room for.

use std::sync::Arc;

use fail::fail_point;

use super::{super::broken::Broken, Lane, REFILL_DIVISOR, ROOM, Shared};
use crate::{
    store::{LetterReason, NewLetter, ReasonCode, Record},
    uplink::{
        engine::{Answer, Connection, Refusal, TokenRange, Verdict},
        source::Source,
    },
};

/// How often a record was sent that the upstream refused: one answer is enough.
const TRIES_REFUSED: u32 = 1;
/// Of records that become dead letters in one transaction.
const LETTERS_BYTES_MAX: usize = 1024 * 1024;

/// What is to become a dead letter.
#[derive(Debug, Default)]
pub struct PendingLetters {
    letters: Vec<NewLetter>,
    bytes: usize,
    /// Tokens that settle once the letters are durable.
    tokens: Vec<u64>,
}

impl<S: Source, C: Connection> Lane<'_, S, C> {
    /// Reads all that came, then settles it in one go.
    pub(super) async fn take_answers(&mut self) -> Result<(), Broken> {
        let (mut refused, mut ended, mut takes) = (Vec::new(), Ok(()), false);
        let (mut acks, mut acked) = (false, 0);
        while ended.is_ok() {
            let answer = match self.connection.answer() {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(lost) => {
                    ended = Err(lost.into());
                    break;
                }
            };
            match answer {
                Answer::Settled(tokens, verdict @ (Verdict::Accepted | Verdict::Duplicate)) => {
                    acks = true;
                    takes |= verdict == Verdict::Accepted;
                    acked += self.accepted(tokens);
                }
                // Whatever a control is refused for, it was taken before.
                Answer::Settled(tokens, Verdict::Rejected(refusal) | Verdict::Retry(refusal))
                    if self.trial.control.is_some_and(|control| tokens.contains(control)) =>
                {
                    ended = Err(Broken::NotNow(refusal));
                }
                Answer::Settled(tokens, Verdict::Rejected(refusal)) => {
                    refused.extend(self.window.held(tokens).map(|token| (token, refusal)));
                }
                Answer::Settled(tokens, Verdict::Retry(refusal)) => {
                    self.window.held(tokens).for_each(|token| self.note_refusal(token, refusal));
                }
                Answer::Pong => {
                    self.deadlines.answered(self.in_flight(), self.now);
                    self.trace.answered = true;
                    self.trace.of_use = self.now - self.began;
                }
                Answer::Stray(name) => self.note_stray(name),
            }
        }
        if acks {
            self.trace.took |= takes;
            if takes {
                self.trial.took(self.now);
            }
            self.note_acked(acked);
            fail_point!("uplink-after-ack", |_| std::process::abort());
        }
        self.release();
        for (token, refusal) in refused {
            self.refused(token, refusal).await?;
        }
        self.flush_letters().await?;
        self.deadlines.heard(self.now);
        if self.window.is_overtaken() {
            self.deadlines.overtaken(self.now);
        }
        ended.and_then(|()| self.judge_refusal())
    }

    /// Gives how many messages of the range had waited for it.
    #[inline]
    fn accepted(&mut self, tokens: TokenRange) -> u32 {
        let acked = self.window.acknowledge(tokens);
        if acked == 0 {
            self.note_stray(tokens.first);
        }
        acked
    }

    /// Sets aside what the upstream said that it will never take.
    async fn refused(&mut self, token: u64, refusal: Refusal) -> Result<(), Broken> {
        let Some(offset) = self.window.waiting_offset(token) else {
            self.note_stray(token);
            return Ok(());
        };
        self.window.note_answered(token);
        let why = LetterReason::new(ReasonCode::Refused, format!("the upstream refused it: {refusal}"));
        let block = self.blocks.iter().find(|block| offset < S::end(block)).cloned();
        let record = block.as_deref().and_then(|block| S::records_from(block, offset).next());
        let (_, record) =
            record.expect("invariant: a block is kept until all of it is released, see `release`");
        self.dead_letter(Some(token), offset, &record, why, TRIES_REFUSED).await
    }

    /// Has a dead letter made of the record before anything else is waited for; the message of
    /// `token` settles with it.
    pub(super) async fn dead_letter(
        &mut self,
        token: Option<u64>,
        offset: u64,
        record: &Record<'_>,
        why: LetterReason,
        tries: u32,
    ) -> Result<(), Broken> {
        self.pending_letters.tokens.extend(token);
        // One letter for a record, however many of its messages are refused.
        if self.dead_letters_now.insert(offset) {
            let letter = NewLetter::new(offset, record, why, tries);
            self.pending_letters.bytes += letter.bytes();
            self.pending_letters.letters.push(letter);
        }
        if self.pending_letters.bytes >= LETTERS_BYTES_MAX {
            self.flush_letters().await?;
        }
        Ok(())
    }

    /// Makes dead letters of what is to become a dead letter, and settles it. Whether there was
    /// anything.
    pub(super) async fn flush_letters(&mut self) -> Result<bool, Broken> {
        let PendingLetters { letters, tokens, .. } = std::mem::take(&mut self.pending_letters);
        if letters.is_empty() && tokens.is_empty() {
            return Ok(false);
        }
        put_dead_letters(&mut self.shared, letters).await?;
        for token in tokens {
            self.window.give_up(token);
        }
        self.release();
        Ok(true)
    }

    /// Takes in a record of which nothing is sent, and which overtakes nothing.
    pub(super) fn skip(&mut self, offset: u64, record: &Record<'_>, was_acknowledged: bool) {
        assert!(self.window.skip(offset, record.events, was_acknowledged, self.now), "{ROOM}");
        self.release();
    }

    pub(super) fn release(&mut self) {
        if let Some(released) = self.window.advance() {
            self.full_at = self.now;
            // A part of the head does not clear the rest of it of a suspicion.
            if released.next_offset > self.shared.source.released() {
                while self.blocks.front().is_some_and(|block| S::end(block) <= released.next_offset) {
                    self.settled_block = self.blocks.pop_front();
                }
                self.dead_letters_now.retain(|offset| *offset >= released.next_offset);
                self.shared.source.release(released.next_offset);
                fail_point!("uplink-after-release", |_| std::process::abort());
                self.trace.released = true;
                self.trace.of_use = self.now - self.began;
            }
            let waited = self.now.duration_since(released.oldest_sent_at);
            self.trace.delivered_events += released.delivered_events;
            if released.delivered_events > 0 {
                self.shared.tally.delivered(released.delivered_events, waited.as_secs_f64());
            }
            if self.deadlines.has_said_gap() {
                self.note_healed();
            }
            self.deadlines.released(waited, self.now);
        }
        self.filling |= self.window.room() >= self.window.open().div_ceil(REFILL_DIVISOR);
    }

    fn note_stray(&mut self, id: u64) {
        if !self.warned_of_stray {
            self.warned_of_stray = true;
            let uplink = &self.shared.settings.name;
            tracing::warn!(%uplink, id, "the upstream acknowledged what is not in flight: passed over");
        }
    }
}

/// Makes dead letters, durably, and counts those that were not counted before: what is sent again
/// after a connection broke may be refused again.
pub async fn put_dead_letters<S: Source>(
    shared: &mut Shared<'_, S>,
    letters: Vec<NewLetter>,
) -> Result<(), Broken> {
    if letters.is_empty() {
        return Ok(());
    }
    let letters = Arc::new(letters);
    shared.source.put_dead_letters(letters.clone()).await?;
    for letter in &*letters {
        let (offset, record) = (letter.offset, letter.record());
        let is_new = shared.carried.count(offset);
        if let Some(records) = is_new.then(|| shared.tally.dead_letter(record.events.into())).flatten() {
            let (uplink, why) = (&shared.settings.name, &letter.reason);
            tracing::warn!(%uplink, records, offset, topic = %record.topic, "set an event aside: {why}");
        }
    }
    Ok(())
}

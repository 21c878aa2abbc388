//! How much the sessions may be owed: each an equal share of what there is for all, in the queue
//! and in flight together.
//!
//! ```text
//!   more sessions ─▶ smaller shares ─▶ all hold too much ─▶ queues beyond the share are cut, what came last first
//!                                                            └ still too much ─▶ sessions with more than that in flight end
//! ```
//! A session within its share loses nothing to the others. One that had more before the others came
//! gives its queue back; what is in flight cannot be taken back, for its packet ids are the
//! client's, so the session ends instead, and its client is told.
//!
//! Limits: [`QUEUED_BYTES_MAX`], and the copies of one message more; after a crash as much again at
//! the most, for what was routed since the last save, which the task keeps far below that. A small
//! store has less: what is held has to find room in its file.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use super::{Broker, mailbox::Mailbox, outbound::QueueLimits};

/// Bytes that all sessions together are owed at most, in their queues and in flight.
pub const QUEUED_BYTES_MAX: usize = 12 * 1024 * 1024;
/// A queue that is cut leaves one part in this of the share free, so that not every session that
/// comes is followed by cuts.
const CUT_PART: usize = 8;

type Sessions = HashMap<Arc<str>, Arc<Mailbox>>;

impl Broker {
    /// How much a session may be owed now: an equal share of what there is for all. Of what is from
    /// before the start it may have had most, when its queue was not full: nobody knows which, so
    /// it has room beside all that, and what comes then too.
    pub(super) fn limits(&self) -> QueueLimits {
        let settings = &self.0.settings;
        let (share, all_bytes_max) = (self.share_bytes(), self.queued_bytes_max());
        if self.0.catches_up.load(Ordering::Relaxed) {
            let all_bytes_max = all_bytes_max * 2;
            return QueueLimits {
                messages_max: usize::MAX,
                bytes_max: usize::MAX,
                all_bytes_max,
                is_again: true,
            };
        }
        let bytes_max = settings.queued_bytes_max.min(share);
        QueueLimits { messages_max: settings.queued_messages_max, bytes_max, all_bytes_max, is_again: false }
    }

    /// The store's file has room for so many bytes of what sessions are owed and of retained
    /// messages.
    pub(super) fn note_file_room(&self, bytes: u64) {
        self.0.file_bytes_max.store(usize::try_from(bytes).unwrap_or(usize::MAX), Ordering::Relaxed);
        let (queued, retained) = (self.queued_bytes_max(), self.retained_bytes_max());
        if queued < QUEUED_BYTES_MAX || retained < self.0.settings.retained_bytes_max {
            tracing::info!(
                queued,
                retained,
                "the store is small, and so is what is kept for local subscribers"
            );
        }
    }

    /// Bytes that all sessions together may be owed.
    pub(super) fn queued_bytes_max(&self) -> usize {
        QUEUED_BYTES_MAX.min(self.0.file_bytes_max.load(Ordering::Relaxed) / 2)
    }

    /// Bytes that each of those who have subscribed may be owed.
    fn share_bytes(&self) -> usize {
        self.queued_bytes_max() / self.0.subscriber_count.load(Ordering::Relaxed).max(1)
    }

    /// Bytes of the retained messages.
    pub(super) fn retained_bytes_max(&self) -> usize {
        let room = self.0.file_bytes_max.load(Ordering::Relaxed) - self.queued_bytes_max();
        self.0.settings.retained_bytes_max.min(room)
    }

    /// Bytes that all sessions are owed.
    pub(super) fn held_bytes(&self) -> usize {
        self.0.all_pending.bytes()
    }

    /// Keeps to what all sessions together may be owed. To be called with nothing locked.
    pub(super) fn keep_to_shares(&self) {
        let bytes_max = self.queued_bytes_max() + self.0.all_pending.again_bytes();
        if self.held_bytes() <= bytes_max {
            return;
        }
        let mut sessions = self.0.sessions.lock();
        let share = self.share_bytes();
        let mut lost = 0;
        for mailbox in sessions.values() {
            let (copies, keeps) = {
                let mut state = mailbox.state();
                let is_over = state.outbound.own_bytes() > share;
                let copies = if is_over { state.outbound.shed(share - share / CUT_PART) } else { 0 };
                (copies, state.outbound.keeps())
            };
            if copies > 0 && keeps {
                self.mark_dirty(mailbox, false);
            }
            lost += copies;
        }
        let mut ended = vec![];
        if self.held_bytes() > bytes_max {
            lost += self.end_largest(&mut sessions, share, &mut ended);
        }
        drop(sessions);
        self.0.counts.queue_full.fetch_add(lost as u64, Ordering::Relaxed);
        let warned = &self.0.warned;
        if let Some(lost) = warned.copies_shed.more(lost as u64) {
            tracing::warn!(
                lost,
                "more sessions share the room for what they are owed: those that had more lose some"
            );
        }
        if let Some(last) = ended.last()
            && let Some(sessions) = warned.sessions_revoked.more(ended.len() as u64)
        {
            tracing::warn!(sessions, client = %last.client(), "sessions are ended that do not acknowledge what they get");
        }
    }

    /// Ends the sessions with most in flight until all hold no more than they may. Gives how many
    /// copies are lost.
    fn end_largest(&self, sessions: &mut Sessions, share: usize, ended: &mut Vec<Arc<Mailbox>>) -> usize {
        let held = |mailbox: &Arc<Mailbox>| {
            let state = mailbox.state();
            (state.outbound.copies(), state.outbound.own_bytes())
        };
        let mut largest: Vec<_> = sessions.values().map(|mailbox| (held(mailbox), mailbox.clone())).collect();
        largest.retain(|((_, bytes), _)| *bytes > share);
        largest.sort_by_key(|((_, bytes), _)| Reverse(*bytes));
        let mut lost = 0;
        for ((messages, _), mailbox) in largest {
            if self.held_bytes() <= self.queued_bytes_max() + self.0.all_pending.again_bytes() {
                break;
            }
            lost += messages;
            sessions.remove(mailbox.client());
            self.forget(&mailbox);
            mailbox.revoke();
            ended.push(mailbox);
        }
        lost
    }
}

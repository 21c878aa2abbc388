//! Routing: a message goes into the queues of the sessions that subscribe to its topic, and among
//! the retained messages.

use std::sync::{Arc, atomic::Ordering};

use parking_lot::RwLockWriteGuard;

use super::{
    Broker,
    mailbox::{Mailbox, State},
    message::Message,
    outbound::QueueLimits,
    refusals::{Bound, Refusal},
    replay::Replay,
    retained::Outcome,
    subscriptions::SubscriptionTree,
};
use crate::mqtt::topics;

/// What routing a message came to.
#[derive(Debug, Default)]
pub struct Routed {
    /// Copies that it has, taken or refused.
    pub copies: usize,
    /// One of those who read and should be waited for before there is more: see `patience`.
    pub reader: Option<Arc<Mailbox>>,
}

impl Broker {
    /// Whether messages have to be looked at only for being retained.
    pub(super) fn is_idle(&self) -> bool {
        self.0.tree.read().is_empty()
    }

    /// Whether anybody takes messages on `topic`.
    pub(super) fn is_taken(&self, topic: &str) -> bool {
        self.0.tree.read().is_taken(topic)
    }

    /// Puts `message` where it belongs: into the mailboxes of its takers, and among the retained.
    pub(super) fn route(&self, message: &Arc<Message>) -> Routed {
        // Under one lock, or who subscribes in between would get it twice.
        let mut not_retained = None;
        let tree = match message.retain {
            true => {
                let mut tree = self.0.tree.write();
                not_retained = self.retain(&mut tree, message);
                RwLockWriteGuard::downgrade(tree)
            }
            false => self.0.tree.read(),
        };
        let limits = self.limits();
        let (mut refusals, mut routed) = (Vec::new(), Routed::default());
        for copy in tree.copies(&message.topic, &message.publisher, message.qos) {
            routed.copies += 1;
            let retain = message.retain && copy.keeps_retain;
            let (is_taken, keeps, held) = {
                let mut state = copy.mailbox.state();
                let is_taken = state.outbound.push(message, copy.qos, retain, copy.id.as_slice(), limits);
                if routed.reader.is_none() && copy.should_be_waited_for(&mut state, message, limits) {
                    routed.reader = Some(copy.mailbox.clone());
                }
                (is_taken, state.outbound.keeps() && copy.qos > 0, state.outbound.held())
            };
            if !is_taken {
                self.0.counts.queue_full.fetch_add(1, Ordering::Relaxed);
                refusals.extend(copy.mailbox.refuses().and_then(|times| {
                    let bound = Bound::of_queue(copy.qos, held, limits, &self.0.settings);
                    self.note_refused(copy.mailbox.client(), message, bound, times)
                }));
                continue;
            }
            if keeps {
                self.0.unsaved_bytes.fetch_add(message.size(), Ordering::Relaxed);
                self.mark_dirty(copy.mailbox, false);
            }
            copy.mailbox.notify();
        }
        drop(tree);
        refusals.extend(not_retained);
        refusals.iter().for_each(|refusal| self.report(refusal));
        self.keep_to_shares();
        routed
    }

    /// Gives what is to be told.
    fn retain(&self, tree: &mut SubscriptionTree, message: &Arc<Message>) -> Option<Refusal> {
        if topics::is_reserved(&message.topic) {
            tree.keep_figure(message);
            return None;
        }
        let (messages_max, bytes_max) = (self.0.settings.retained_messages_max, self.retained_bytes_max());
        match tree.retained.put(message, messages_max, bytes_max) {
            Outcome::Same => {}
            Outcome::NoRoom { was_there } => {
                self.0.counts.retained_full.fetch_add(1, Ordering::Relaxed);
                if was_there {
                    self.0.unsaved.lock().note_retained(&message.topic, messages_max);
                }
                let messages = tree.retained.len() + usize::from(was_there);
                let bound = Bound::of_retained(messages, bytes_max, &self.0.settings);
                return self.note_refused(&message.publisher, message, bound, 1);
            }
            Outcome::Changed => self.0.unsaved.lock().note_retained(&message.topic, messages_max),
        }
        None
    }

    /// Ends the retained messages whose time is over.
    pub(super) fn expire_retained(&self, now_ms: u64) {
        // Looked at beside those that publish, for mostly there are none.
        if !self.0.tree.read().retained.has_over(now_ms) {
            return;
        }
        let over = self.0.tree.write().retained.expire(now_ms);
        self.0.unsaved.lock().retained.extend(over);
    }

    /// Puts what is to be replayed into the session's queue. Whether there was anything.
    pub(super) fn replay(&self, mailbox: &Arc<Mailbox>) -> bool {
        // In this order, as everywhere.
        let tree = self.0.tree.read();
        self.replay_into(&tree, mailbox, &mut mailbox.state())
    }

    pub(super) fn replay_into(
        &self,
        tree: &SubscriptionTree,
        mailbox: &Arc<Mailbox>,
        state: &mut State,
    ) -> bool {
        let limits = half(self.limits());
        let State { replays, outbound, .. } = state;
        // A good deal at a time: each begins with a search.
        let (messages, bytes) = outbound.held();
        if messages > limits.messages_max / 2 || bytes > limits.bytes_max / 2 {
            return false;
        }
        let mut has_any = false;
        while let Some(Replay { filter, subscription, after }) = replays.first() {
            let (options, ids) = (subscription.options, subscription.id.as_slice());
            for message in tree.retained_for(filter, after.clone().as_deref()) {
                // Its own, too, are not local.
                let is_own = options.is_no_local() && *message.publisher == **mailbox.client();
                if !is_own && !outbound.push(message, message.qos.min(options.qos()), true, ids, limits) {
                    if outbound.copies() > 0 {
                        return has_any;
                    }
                    self.0.counts.queue_full.fetch_add(1, Ordering::Relaxed);
                }
                has_any = true;
                *after = Some(message.topic.clone());
            }
            replays.end_first();
        }
        has_any
    }
}

/// The other half is for what is published meanwhile.
fn half(limits: QueueLimits) -> QueueLimits {
    QueueLimits {
        messages_max: limits.messages_max.div_ceil(2),
        bytes_max: limits.bytes_max.div_ceil(2),
        ..limits
    }
}

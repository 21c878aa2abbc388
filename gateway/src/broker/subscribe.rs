//! The begin and the end of subscriptions.
//!
//! Limits: [`Settings::subscriptions_max`](super::Settings::subscriptions_max) of a session, and
//! [`SUBSCRIPTIONS_BYTES_MAX`] of all together.

use std::sync::Arc;

use tidegate_protocol::{Leaf, Topic};

use super::{
    Broker, mailbox::Mailbox, refusals::Bound, settings::SUBSCRIPTIONS_BYTES_MAX, subscription::Subscription,
};
use crate::mqtt::topics;

/// What the end of a subscription came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// It is over; the file says so once this save is made, if it is to say it: see
    /// [`Broker::saved`].
    Yes {
        /// The number to wait for.
        save: Option<u64>,
    },
    /// There was none.
    NotThere,
}

/// What a subscription came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// It stands; the file says so once this save is made, if it is to say it.
    Yes {
        /// The number to wait for: see [`Broker::saved`]. `None` where nothing is kept.
        save: Option<u64>,
    },
    /// The session has as many as it may, or all sessions together take what they may.
    TooMany(Bound),
}

impl Broker {
    /// Subscribes the session to `filter`, which was checked, and gives it what is retained.
    pub fn subscribe(&self, mailbox: &Arc<Mailbox>, filter: &str, subscription: Subscription) -> Subscribed {
        if topics::is_system(filter) {
            self.look_at_figures();
        }
        let has_retained;
        {
            let mut tree = self.0.tree.write();
            let mut state = mailbox.state();
            let is_new = !state.subscriptions.contains_key(filter);
            if is_new && state.subscriptions.len() >= self.0.settings.subscriptions_max {
                return Subscribed::TooMany(Bound::Subscriptions);
            }
            if is_new && tree.bytes_with(filter) > SUBSCRIPTIONS_BYTES_MAX {
                return Subscribed::TooMany(Bound::AllSubscriptions);
            }
            self.count_subscriber(mailbox);
            state.subscriptions.insert(filter.into(), subscription);
            state.is_changed = true;
            tree.insert(filter, mailbox, subscription);
            let is_shared = filter.starts_with(topics::SHARE);
            state.replays.end(filter);
            if !is_shared && subscription.options.wants_retained(is_new) {
                state.replays.begin(filter, subscription);
            }
            has_retained = self.replay_into(&tree, mailbox, &mut state);
        }
        if has_retained {
            mailbox.notify();
        }
        if matches!(Topic::parse(filter), Ok(Topic { leaf: Leaf::Command, .. })) {
            self.note_arrival();
        }
        let keeps = mailbox.state().outbound.keeps();
        Subscribed::Yes { save: keeps.then(|| self.mark_dirty(mailbox, true)) }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, mailbox: &Arc<Mailbox>, filter: &str) -> Unsubscribed {
        let mut tree = self.0.tree.write();
        {
            let mut state = mailbox.state();
            if state.subscriptions.remove(filter).is_none() {
                return Unsubscribed::NotThere;
            }
            state.replays.end(filter);
            state.is_changed = true;
        }
        tree.remove(filter, mailbox);
        drop(tree);
        let keeps = mailbox.state().outbound.keeps();
        Unsubscribed::Yes { save: keeps.then(|| self.mark_dirty(mailbox, true)) }
    }

    /// Ends the subscriptions that `is_over` says.
    pub fn unsubscribe_all(&self, mailbox: &Arc<Mailbox>, is_over: impl Fn(&str) -> bool) {
        let over: Vec<_> =
            mailbox.state().subscriptions.keys().filter(|filter| is_over(filter)).cloned().collect();
        for filter in over {
            self.unsubscribe(mailbox, &filter);
        }
    }
}

//! Who subscribes to what: all subscriptions by their filters, and which copies of a message they
//! make. Pure but for what it asks the sessions.
//!
//! A client with several subscriptions that take the topic gets a copy for each identifier that
//! they have, with that one alone, and one for those without any; each with the greatest QoS of the
//! subscriptions that it is for (section 3.3.4). So a client that tells its handlers apart by
//! identifier gets each message for each of them, and one that has none, as with MQTT 3.1.1, gets
//! it once. Of a shared subscription one member gets it, in turn, and one that is connected before
//! one that is not.
//!
//! Limits: bounded by whoever inserts, who is told what all take: see
//! [`SubscriptionTree::bytes_with`].

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::{
    filters::Filters,
    mailbox::{Mailbox, State},
    message::Message,
    outbound::QueueLimits,
    patience::{CAUGHT_UP_PART, WAITED_FOR_PART},
    retained::Retained,
    subscription::Subscription,
};
use crate::mqtt::topics::{self, share};

/// What a subscription takes beside its filter, in bytes: in its session, and on its node.
const ENTRY_BYTES: usize = 256;

/// Who takes what, and what is retained for them.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTree {
    plain: Filters<Subscriber>,
    shared: Filters<Group>,
    /// What subscriptions take beside the nodes of their filters.
    entries_bytes: usize,
    pub retained: Retained,
    /// What the gateway says of itself, which is not saved.
    figures: Retained,
}

#[derive(Debug, Clone)]
struct Subscriber {
    mailbox: Arc<Mailbox>,
    subscription: Subscription,
}

/// The members of one shared subscription.
#[derive(Debug)]
struct Group {
    name: Box<str>,
    members: Vec<Subscriber>,
    turn: AtomicUsize,
}

/// One copy.
pub(super) struct MessageCopy<'t> {
    pub mailbox: &'t Arc<Mailbox>,
    pub qos: u8,
    pub keeps_retain: bool,
    /// The identifier of the subscriptions that it is for.
    pub id: Option<u32>,
}

impl SubscriptionTree {
    pub fn insert(&mut self, filter: &str, mailbox: &Arc<Mailbox>, subscription: Subscription) {
        let subscriber = Subscriber { mailbox: mailbox.clone(), subscription };
        let members = match share(filter) {
            None => self.plain.entry(filter),
            Some((name, filter)) => {
                let groups = self.shared.entry(filter);
                let at = groups.iter().position(|group| *group.name == *name).unwrap_or_else(|| {
                    let (members, turn) = (Vec::new(), AtomicUsize::new(0));
                    groups.push(Group { name: name.into(), members, turn });
                    groups.len() - 1
                });
                &mut groups[at].members
            }
        };
        match members.iter_mut().find(|known| Arc::ptr_eq(&known.mailbox, mailbox)) {
            Some(known) => *known = subscriber,
            None => {
                members.push(subscriber);
                self.entries_bytes += ENTRY_BYTES + filter.len();
            }
        }
    }

    /// What all subscriptions take, in bytes, with one more of `filter` by somebody who has it not.
    pub fn bytes_with(&self, filter: &str) -> usize {
        let more = share(filter)
            .map_or_else(|| self.plain.bytes_more(filter), |(_, filter)| self.shared.bytes_more(filter));
        self.plain.bytes() + self.shared.bytes() + self.entries_bytes + more + ENTRY_BYTES + filter.len()
    }

    pub fn remove(&mut self, filter: &str, mailbox: &Arc<Mailbox>) {
        let mut removed = 0;
        let mut is_other = |subscriber: &Subscriber| {
            let is_other = !Arc::ptr_eq(&subscriber.mailbox, mailbox);
            removed += usize::from(!is_other);
            is_other
        };
        let cost = ENTRY_BYTES + filter.len();
        match share(filter) {
            None => {
                self.plain.change(filter, |subscribers| subscribers.retain(&mut is_other));
            }
            Some((name, filter)) => {
                self.shared.change(filter, |groups| {
                    if let Some(group) = groups.iter_mut().find(|group| *group.name == *name) {
                        group.members.retain(&mut is_other);
                    }
                    groups.retain(|group| !group.members.is_empty());
                });
            }
        }
        self.entries_bytes -= removed * cost;
    }

    pub fn is_taken(&self, topic: &str) -> bool {
        self.plain.any(topic, |_| true) || self.shared.any(topic, |_| true)
    }

    /// Whether a session that outlives its connection takes what `publisher` publishes on `topic`
    /// with QoS 1 or 2, and so keeps it.
    pub fn keep(&self, topic: &str, publisher: &str) -> bool {
        self.plain.any(topic, |subscriber| !subscriber.is_own(publisher) && subscriber.keeps())
            || self.shared.any(topic, |group| group.members.iter().any(Subscriber::keeps))
    }

    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.shared.is_empty()
    }

    /// The retained messages that a filter takes, by topic; those behind the topic `after`, if
    /// there is one.
    pub fn retained_for<'a>(
        &'a self,
        filter: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Message>> + use<'a> {
        let is_system = topics::is_system(filter);
        let mut figures =
            is_system.then(|| self.figures.matching(filter, after)).into_iter().flatten().peekable();
        let mut others = self.retained.matching(filter, after).peekable();
        std::iter::from_fn(move || match (figures.peek(), others.peek()) {
            (Some(figure), Some(other)) if figure.topic > other.topic => others.next(),
            (Some(_), _) => figures.next(),
            (None, _) => others.next(),
        })
    }

    /// Keeps what the gateway says of itself for those that subscribe later.
    pub fn keep_figure(&mut self, message: &Arc<Message>) {
        self.figures.put(message, usize::MAX, usize::MAX);
    }

    /// Those that subscribe to this very topic, without wildcards.
    pub fn exact(&self, topic: &str) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.plain.of(topic).iter().map(|subscriber| &subscriber.mailbox)
    }

    /// The copies that go out, one for each client and identifier.
    pub fn copies<'t>(&'t self, topic: &str, publisher: &str, qos: u8) -> Vec<MessageCopy<'t>> {
        let mut copies = Vec::new();
        self.plain.for_each(topic, |subscriber| {
            if !subscriber.is_own(publisher) {
                copies.push(subscriber.copy(qos));
            }
        });
        // Copies of one client and identifier lie side by side then, and are made one.
        copies.sort_by_key(|copy| (Arc::as_ptr(copy.mailbox), copy.id));
        copies.dedup_by(|again, first| {
            let is_same = Arc::ptr_eq(again.mailbox, first.mailbox) && again.id == first.id;
            if is_same {
                first.qos = first.qos.max(again.qos);
                first.keeps_retain |= again.keeps_retain;
            }
            is_same
        });
        self.shared
            .for_each(topic, |group| copies.extend(group.next().map(|subscriber| subscriber.copy(qos))));
        copies
    }
}

impl Subscriber {
    /// Whether what `publisher` publishes is its own, and it does not want that.
    fn is_own(&self, publisher: &str) -> bool {
        self.subscription.options.is_no_local() && **self.mailbox.client() == *publisher
    }

    /// Whether its session keeps what it takes with QoS 1 or 2.
    fn keeps(&self) -> bool {
        self.subscription.options.qos() > 0 && self.mailbox.state().outbound.keeps()
    }

    /// Its copy of a message that was published with `qos`.
    fn copy(&self, qos: u8) -> MessageCopy<'_> {
        let Subscription { options, id } = self.subscription;
        MessageCopy {
            mailbox: &self.mailbox,
            qos: options.qos().min(qos),
            keeps_retain: options.keeps_retain(),
            id,
        }
    }
}

impl MessageCopy<'_> {
    /// Whether its session reads and is owed so much that whoever has more for it should wait.
    pub fn should_be_waited_for(&self, state: &mut State, message: &Message, limits: QueueLimits) -> bool {
        if state.is_slow {
            state.is_slow = state.outbound.is_above(CAUGHT_UP_PART, limits);
        }
        let waits_for_save = self.qos == 2 && state.outbound.keeps();
        let waits_for_itself = self.qos > 0 && **self.mailbox.client() == *message.publisher;
        !state.is_slow
            && state.replays.is_empty()
            && !waits_for_save
            && !waits_for_itself
            && state.outbound.is_above(WAITED_FOR_PART, limits)
    }
}

impl Group {
    /// Whose turn it is: of those that are connected, if any is.
    fn next(&self) -> Option<&Subscriber> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..self.members.len()).map(|n| &self.members[(turn + n) % self.members.len()]);
        let is_there = |subscriber: &&Subscriber| subscriber.mailbox.state().outbound.is_attached();
        in_turn().find(is_there).or_else(|| in_turn().next())
    }
}

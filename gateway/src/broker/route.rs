//! Which sessions a message goes to, with what QoS and by which subscriptions. Pure but for the mailboxes it puts into.
//!
//! A client with several subscriptions that take the topic gets a copy for each identifier that
//! they have, with that one alone, and one for those without any; each with the greatest QoS of the
//! subscriptions that it is for (section 3.3.4). So a client that tells its handlers apart by
//! identifier gets each message for each of them, and one that has none, as with MQTT 3.1.1, gets
//! it once. Of a shared subscription one member gets it, in turn, and one that is connected before
//! one that is not.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::RwLockWriteGuard;

use super::{
    Broker,
    filters::Filters,
    mailbox::{Mailbox, State, Subscription},
    message::Message,
    outbound::Limits,
    patience::{CAUGHT_UP_PART, WAITED_FOR_PART},
    refusals::{Bound, Refusal},
    retained::{Outcome, Retained},
};
use crate::mqtt::topics::{self, share};

/// What a subscription takes beside its filter, in bytes: in its session, and on its node.
const ENTRY_BYTES: usize = 256;

/// Who takes what, and what is retained for them.
#[derive(Debug, Default)]
pub(super) struct Takers {
    plain: Filters<Taker>,
    shared: Filters<Group>,
    /// What subscriptions take beside the nodes of their filters.
    entries_bytes: usize,
    pub retained: Retained,
    /// What the gateway says of itself, which is not saved.
    figures: Retained,
}

#[derive(Debug, Clone)]
struct Taker {
    mailbox: Arc<Mailbox>,
    subscription: Subscription,
}

/// The members of one shared subscription.
#[derive(Debug)]
struct Group {
    name: Box<str>,
    members: Vec<Taker>,
    turn: AtomicUsize,
}

/// What routing a message came to.
#[derive(Debug, Default)]
pub struct Routed {
    /// Copies that it has, taken or refused.
    pub copies: usize,
    /// One of those who read and should be waited for before there is more: see `patience`.
    pub reader: Option<Arc<Mailbox>>,
}

/// One copy.
struct Copy<'t> {
    mailbox: &'t Arc<Mailbox>,
    qos: u8,
    keeps_retain: bool,
    /// The identifier of the subscriptions that it is for.
    id: Option<u32>,
}

impl Takers {
    pub fn insert(&mut self, filter: &str, mailbox: &Arc<Mailbox>, subscription: Subscription) {
        let taker = Taker { mailbox: mailbox.clone(), subscription };
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
            Some(known) => *known = taker,
            None => {
                members.push(taker);
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
        let mut is_other = |taker: &Taker| {
            let is_other = !Arc::ptr_eq(&taker.mailbox, mailbox);
            removed += usize::from(!is_other);
            is_other
        };
        let cost = ENTRY_BYTES + filter.len();
        match share(filter) {
            None => {
                self.plain.change(filter, |takers| takers.retain(&mut is_other));
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
        self.plain.any(topic, |taker| !taker.is_own(publisher) && taker.keeps())
            || self.shared.any(topic, |group| group.members.iter().any(Taker::keeps))
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
        self.plain.of(topic).iter().map(|taker| &taker.mailbox)
    }

    /// The copies that go out, one for each client and identifier.
    fn copies<'t>(&'t self, topic: &str, publisher: &str, qos: u8) -> Vec<Copy<'t>> {
        let mut copies = Vec::new();
        self.plain.for_each(topic, |taker| {
            if !taker.is_own(publisher) {
                copies.push(taker.copy(qos));
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
        self.shared.for_each(topic, |group| copies.extend(group.next().map(|taker| taker.copy(qos))));
        copies
    }
}

impl Taker {
    /// Whether what `publisher` publishes is its own, and it does not want that.
    fn is_own(&self, publisher: &str) -> bool {
        self.subscription.options.is_no_local() && **self.mailbox.client() == *publisher
    }

    /// Whether its session keeps what it takes with QoS 1 or 2.
    fn keeps(&self) -> bool {
        self.subscription.options.qos() > 0 && self.mailbox.state().outbound.keeps()
    }

    /// Its copy of a message that was published with `qos`.
    fn copy(&self, qos: u8) -> Copy<'_> {
        let Subscription { options, id } = self.subscription;
        Copy { mailbox: &self.mailbox, qos: options.qos().min(qos), keeps_retain: options.keeps_retain(), id }
    }
}

impl Copy<'_> {
    /// Whether its session reads and is owed so much that whoever has more for it should wait.
    fn should_be_waited_for(&self, state: &mut State, message: &Message, limits: Limits) -> bool {
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
    fn next(&self) -> Option<&Taker> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || (0..self.members.len()).map(|n| &self.members[(turn + n) % self.members.len()]);
        let is_there = |taker: &&Taker| taker.mailbox.state().outbound.is_attached();
        in_turn().find(is_there).or_else(|| in_turn().next())
    }
}

impl Broker {
    /// Whether messages have to be looked at only for being retained.
    pub(super) fn is_idle(&self) -> bool {
        self.0.takers.read().is_empty()
    }

    /// Whether anybody takes messages on `topic`.
    pub(super) fn is_taken(&self, topic: &str) -> bool {
        self.0.takers.read().is_taken(topic)
    }

    /// Puts `message` where it belongs: into the mailboxes of its takers, and among the retained.
    pub(super) fn route(&self, message: &Arc<Message>) -> Routed {
        // Under one lock, or who subscribes in between would get it twice.
        let mut not_retained = None;
        let takers = match message.retain {
            true => {
                let mut takers = self.0.takers.write();
                not_retained = self.retain(&mut takers, message);
                RwLockWriteGuard::downgrade(takers)
            }
            false => self.0.takers.read(),
        };
        let limits = self.limits();
        let (mut refusals, mut routed) = (Vec::new(), Routed::default());
        for copy in takers.copies(&message.topic, &message.publisher, message.qos) {
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
                self.soil(copy.mailbox, false);
            }
            copy.mailbox.ring();
        }
        drop(takers);
        refusals.extend(not_retained);
        refusals.iter().for_each(|refusal| self.tell(refusal));
        self.keep_to_shares();
        routed
    }

    /// Gives what is to be told.
    fn retain(&self, takers: &mut Takers, message: &Arc<Message>) -> Option<Refusal> {
        if topics::is_reserved(&message.topic) {
            takers.keep_figure(message);
            return None;
        }
        let (messages_max, bytes_max) = (self.0.settings.retained_messages_max, self.retained_bytes_max());
        match takers.retained.put(message, messages_max, bytes_max) {
            Outcome::Same => {}
            Outcome::NoRoom { was_there } => {
                self.0.counts.retained_full.fetch_add(1, Ordering::Relaxed);
                if was_there {
                    self.0.unsaved.lock().note_retained(&message.topic, messages_max);
                }
                let messages = takers.retained.len() + usize::from(was_there);
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
        if !self.0.takers.read().retained.has_over(now_ms) {
            return;
        }
        let over = self.0.takers.write().retained.expire(now_ms);
        self.0.unsaved.lock().retained.extend(over);
    }
}

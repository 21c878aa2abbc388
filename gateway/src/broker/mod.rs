//! Sessions and local subscribers: who is kept, who subscribes to what, what is retained, and which messages go to whom.
//!
//! ```text
//!   log ──follow──▶ broker task ──route──▶ mailboxes ─ ring ─▶ connections
//!                     │  └▶ retained         ▲
//!                     └─ save, some seconds later ─▶ sessions.redb
//!   publisher ── passed on: no route stores it, and nobody keeps it ─┘
//! ```
//! What is stored reaches local subscribers out of the log, after its commit: fan-out delays no
//! PUBACK and no commit, and a subscriber sees nothing that a power cut could take back. What no
//! route stores goes through the log all the same (`local` records, which no uplink gets) if
//! somebody keeps it: a session that outlives its connection and takes it with QoS 1 or 2, or the
//! retained messages. Then PUBACK means: on disk. Where only sessions take it that end with their
//! connections, a crash would end these as well, so its publisher's task puts it into their queues
//! at once: see [`Broker::wants`] for which way, and `in_log` for the order of the two.
//!
//! Limits, all in [`Settings`]: sessions, subscriptions of each, messages and bytes that each is owed, in its queue and in flight, retained
//! messages and bytes. All sessions together have [`QUEUED_BYTES_MAX`], of which each may use an equal share: a slow one loses its own copies.
//! Everything here is in memory and does not wait; the task that follows the log is in `task`.

mod direct;
mod ended;
pub mod filters;
pub(crate) mod in_log;
mod keep;
mod mailbox;
mod message;
mod outbound;
mod outgoing;
mod patience;
mod publish;
mod refusals;
mod replay;
mod retained;
mod route;
mod sessions;
pub mod settings;
mod share;
mod start;
mod system;
mod task;
#[cfg(test)]
mod tests;
mod turn;
mod wills;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tidegate_protocol::{Leaf, Topic};
use tokio::sync::{Notify, Semaphore, watch};

pub use direct::{Acknowledged, HandedOver};
pub use in_log::{Pair, Staged};
pub use mailbox::{Mailbox, Options, Subscription};
pub use message::Message;
use outbound::AllOwed;
pub use outbound::{Peer, Received, Written};
pub(crate) use outgoing::put_pubrel;
pub use patience::{PATIENCE_MAX, PATIENCE_PART, Patience, WAIT_MAX};
pub use refusals::Bound;
pub use route::Routed;
pub use sessions::Resumed;
pub use settings::Settings;
pub use share::QUEUED_BYTES_MAX;
pub(crate) use start::restore;
pub use system::Traffic;
pub(crate) use task::run;
pub(crate) use turn::COPIES_IN_A_TURN;
pub use wills::{CONNECTED_BYTES_MAX as CONNECTED_WILLS_BYTES_MAX, Publication, WillPlace};

use crate::{
    mqtt::{output::Output, topics},
    store::{Intake, SessionChange, Store, View},
    telemetry::repeats::{Doublings, Repeats},
};
use route::Takers;

/// Bytes of all subscriptions together: ten thousand devices with one of their own each.
pub const SUBSCRIPTIONS_BYTES_MAX: usize = 12 * 1024 * 1024;

/// The store's ends that the broker needs.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The way in.
    pub intake: Intake,
    /// What local subscribers get comes from here.
    pub view: View,
    /// Clients that had QoS 2 packet ids pending at the start.
    pub pending_clients: Vec<Box<str>>,
}

impl From<&Store> for Ends {
    fn from(store: &Store) -> Self {
        Ends { intake: store.intake(), view: store.view(), pending_clients: store.pending_clients() }
    }
}

/// Local subscribers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    takers: RwLock<Takers>,
    sessions: Mutex<HashMap<Arc<str>, Arc<Mailbox>>>,
    /// Sessions that have subscribed, for the share of each.
    subscriber_count: AtomicUsize,
    /// Sessions that are over, for their packet ids.
    ended: Mutex<ended::Ended>,
    /// What all sessions are owed.
    all_owed: Arc<AllOwed>,
    /// What went into the queues of sessions that are kept since the last save was gathered, in bytes.
    unsaved_bytes: AtomicUsize,
    /// What the file has room for, in bytes.
    file_bytes_max: AtomicUsize,
    in_log: in_log::InLog,
    /// Something is to be saved at once, or follows through the log.
    bell: Notify,
    unsaved: Mutex<Unsaved>,
    wills: Mutex<wills::Wills>,
    /// Room for the wills of clients that are connected, in bytes.
    will_room: Arc<Semaphore>,
    /// What was handed over and acknowledged.
    acknowledged: Mutex<Vec<direct::Acknowledged>>,
    /// A session came for which something may wait that is handed over.
    has_arrivals: AtomicBool,
    /// One of these two changed.
    direct: Notify,
    /// Grows with every save: see [`Broker::saved`].
    saved: watch::Sender<u64>,
    /// What was kept is taken up again.
    is_open: watch::Sender<bool>,
    /// What is routed is from before the start.
    catches_up: AtomicBool,
    /// How long the machine was off before its boot, in milliseconds, as far as the times here count it.
    off_ms: AtomicU64,
    counts: Counts,
    /// What is seen below `$SYS/`.
    traffic: Arc<Traffic>,
    figures_at: system::Times,
    warned: Warned,
}

/// What the file is to be told.
#[derive(Debug, Default)]
struct Unsaved {
    dirty: Vec<Arc<Mailbox>>,
    /// Sessions that are over.
    changes: Vec<SessionChange>,
    /// Topics whose retained message is another, or none.
    retained: HashSet<Box<str>>,
    /// A save failed: the next one says everything, for nobody knows what the file says.
    is_unknown: bool,
    /// Somebody waits for the save.
    is_urgent: bool,
    /// The number of the save that will have what is dirty now.
    number: u64,
}

impl Unsaved {
    /// The retained message of `topic` is another. Where more topics changed than may have one, the next save says everything.
    fn note_retained(&mut self, topic: &str, topics_max: usize) {
        if self.retained.len() < topics_max.saturating_mul(2) {
            self.retained.insert(topic.into());
        } else {
            self.is_unknown = true;
        }
    }
}

/// What happened since it was last taken.
#[derive(Debug, Default)]
struct Counts {
    delivered: AtomicU64,
    queue_full: AtomicU64,
    retained_full: AtomicU64,
    too_large: AtomicU64,
    expired: AtomicU64,
    denied: AtomicU64,
    wills_lost: AtomicU64,
}

/// What clients can cause with every CONNECT.
#[derive(Debug, Default)]
struct Warned {
    wills_not_kept: Doublings,
    wills_refused: Doublings,
    wills_lost: Doublings,
    sessions_ended: Doublings,
    sessions_revoked: Doublings,
    copies_shed: Doublings,
    /// By client and bound.
    refusals: Repeats,
}

/// What the end of a subscription came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// It is over; the file says so once this save is made, if it is to say it: see [`Broker::saved`].
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
    /// Without subscribers.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Broker(Arc::new(Inner {
            settings,
            takers: RwLock::default(),
            sessions: Mutex::default(),
            subscriber_count: AtomicUsize::new(0),
            ended: Mutex::default(),
            all_owed: Arc::default(),
            unsaved_bytes: AtomicUsize::new(0),
            file_bytes_max: AtomicUsize::new(usize::MAX),
            in_log: in_log::InLog::default(),
            bell: Notify::new(),
            unsaved: Mutex::new(Unsaved { number: 1, ..Unsaved::default() }),
            wills: Mutex::default(),
            will_room: Arc::new(Semaphore::new(wills::CONNECTED_BYTES_MAX)),
            acknowledged: Mutex::default(),
            has_arrivals: AtomicBool::new(false),
            direct: Notify::new(),
            saved: watch::Sender::new(0),
            is_open: watch::Sender::new(false),
            catches_up: AtomicBool::new(false),
            off_ms: AtomicU64::new(0),
            counts: Counts::default(),
            traffic: Arc::default(),
            figures_at: system::Times::default(),
            warned: Warned::default(),
        }))
    }

    /// Which way a message goes that no route stores. `staged` says what waits to be appended
    /// before it.
    #[must_use]
    pub fn wants(&self, incoming: &Incoming<'_>, staged: &Staged) -> Wanted {
        let Incoming { client, topic, qos, retain, is_id_kept } = *incoming;
        let (is_kept, is_taken) = {
            let takers = self.0.takers.read();
            let is_kept = qos > 0 && takers.keep(topic, client);
            (is_kept, is_kept || takers.is_taken(topic))
        };
        if !is_taken && !retain {
            return Wanted::No;
        }
        let pair = self.0.in_log.pair(client, topic);
        let follows = staged.contains(&pair) || self.0.in_log.holds(pair);
        match is_kept || retain || follows || (qos == 2 && is_id_kept) {
            // Where nobody waits for it but those to come, it waits for company like an event.
            true => Wanted::Stored { pair, is_hurried: is_kept || (is_taken && !retain) },
            false => Wanted::Passed,
        }
    }

    /// Messages of these pairs are in the intake, durable once the watermark has reached
    /// `durable_at`.
    pub fn note_in_log(&self, pairs: impl IntoIterator<Item = Pair>, durable_at: u64) {
        if self.0.in_log.note(pairs, durable_at) {
            self.0.bell.notify_one();
        }
    }

    /// Passes on a message that is not stored: it is in the queues of those who take it when this
    /// returns. Gives the copies that it has: whoever passes on [`COPIES_IN_A_TURN`] gives way to
    /// others.
    pub fn pass(&self, message: Message) -> Routed {
        self.route(&Arc::new(message))
    }

    /// Subscribes the session to `filter`, which was checked, and gives it what is retained.
    pub fn subscribe(&self, mailbox: &Arc<Mailbox>, filter: &str, subscription: Subscription) -> Subscribed {
        if topics::is_system(filter) {
            self.look_at_figures();
        }
        let has_retained;
        {
            let mut takers = self.0.takers.write();
            let mut state = mailbox.state();
            let is_new = !state.subscriptions.contains_key(filter);
            if is_new && state.subscriptions.len() >= self.0.settings.subscriptions_max {
                return Subscribed::TooMany(Bound::Subscriptions);
            }
            if is_new && takers.bytes_with(filter) > SUBSCRIPTIONS_BYTES_MAX {
                return Subscribed::TooMany(Bound::AllSubscriptions);
            }
            self.count_subscriber(mailbox);
            state.subscriptions.insert(filter.into(), subscription);
            state.is_changed = true;
            takers.insert(filter, mailbox, subscription);
            let is_shared = filter.starts_with(topics::SHARE);
            state.replays.end(filter);
            if !is_shared && subscription.options.wants_retained(is_new) {
                state.replays.begin(filter, subscription);
            }
            has_retained = self.replay_into(&takers, mailbox, &mut state);
        }
        if has_retained {
            mailbox.ring();
        }
        if matches!(Topic::parse(filter), Ok(Topic { leaf: Leaf::Command, .. })) {
            self.note_arrival();
        }
        let keeps = mailbox.state().outbound.keeps();
        Subscribed::Yes { save: keeps.then(|| self.soil(mailbox, true)) }
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, mailbox: &Arc<Mailbox>, filter: &str) -> Unsubscribed {
        let mut takers = self.0.takers.write();
        {
            let mut state = mailbox.state();
            if state.subscriptions.remove(filter).is_none() {
                return Unsubscribed::NotThere;
            }
            state.replays.end(filter);
            state.is_changed = true;
        }
        takers.remove(filter, mailbox);
        drop(takers);
        let keeps = mailbox.state().outbound.keeps();
        Unsubscribed::Yes { save: keeps.then(|| self.soil(mailbox, true)) }
    }

    /// Ends the subscriptions that `is_over` says.
    pub fn unsubscribe_all(&self, mailbox: &Arc<Mailbox>, is_over: impl Fn(&str) -> bool) {
        let over: Vec<_> =
            mailbox.state().subscriptions.keys().filter(|filter| is_over(filter)).cloned().collect();
        for filter in over {
            self.unsubscribe(mailbox, &filter);
        }
    }

    /// Writes what the session is owed.
    pub fn write(
        &self,
        mailbox: &Arc<Mailbox>,
        peer: Peer,
        now_ms: u64,
        out: &mut Output,
        out_bytes_max: usize,
        may_receive: impl Fn(&str) -> bool,
    ) -> Written {
        let mut written = Written::default();
        let keeps = loop {
            let keeps = {
                let mut state = mailbox.state();
                written.add(state.outbound.write(peer, now_ms, out, out_bytes_max, &may_receive));
                if written.is_cut || state.replays.is_empty() || state.outbound.queued() > 0 {
                    break state.outbound.keeps();
                }
                state.outbound.keeps()
            };
            if !self.replay(mailbox) {
                break keeps;
            }
        };
        let counts = &self.0.counts;
        for (count, n) in [
            (&counts.delivered, written.messages),
            (&counts.too_large, written.too_large),
            (&counts.expired, written.expired),
            (&counts.denied, written.denied),
        ] {
            if n > 0 {
                count.fetch_add(n, Ordering::Relaxed);
            }
        }
        if keeps && written != Written::default() {
            self.soil(mailbox, written.waits_for_file);
        }
        self.note_progress(mailbox);
        written
    }

    /// PUBACK came, with this reason code.
    pub fn acknowledge(&self, mailbox: &Arc<Mailbox>, packet_id: u16, reason: u8) {
        let (message, keeps) = {
            let mut state = mailbox.state();
            (state.outbound.acknowledge(packet_id), state.outbound.keeps())
        };
        if let Some(message) = message {
            self.note_acknowledged(&message, reason);
        }
        self.settled(mailbox, keeps, false);
    }

    /// PUBREC came.
    pub fn receive(&self, mailbox: &Arc<Mailbox>, packet_id: u16, is_refused: bool) -> Received {
        let (received, keeps) = {
            let mut state = mailbox.state();
            (state.outbound.receive(packet_id, is_refused), state.outbound.keeps())
        };
        self.settled(mailbox, keeps, !is_refused && received == Received::Known);
        received
    }

    /// PUBCOMP came.
    pub fn complete(&self, mailbox: &Arc<Mailbox>, packet_id: u16) {
        let keeps = {
            let mut state = mailbox.state();
            state.outbound.complete(packet_id);
            state.outbound.keeps()
        };
        self.settled(mailbox, keeps, false);
    }

    fn settled(&self, mailbox: &Arc<Mailbox>, keeps: bool, is_urgent: bool) {
        if keeps {
            self.soil(mailbox, is_urgent);
        }
        self.note_progress(mailbox);
        mailbox.ring();
    }

    /// The file does not say any more what it should of this session. Gives the number of the save that will have it.
    fn soil(&self, mailbox: &Arc<Mailbox>, is_urgent: bool) -> u64 {
        let is_new = mailbox.soil();
        if !is_new && !is_urgent {
            return 0;
        }
        let mut unsaved = self.0.unsaved.lock();
        if is_new {
            unsaved.dirty.push(mailbox.clone());
        }
        let wakes = is_urgent && !std::mem::replace(&mut unsaved.is_urgent, true);
        let number = unsaved.number;
        drop(unsaved);
        if wakes {
            self.0.bell.notify_one();
        }
        number
    }

    /// Somebody waits for the next save.
    fn urge(&self) {
        if !std::mem::replace(&mut self.0.unsaved.lock().is_urgent, true) {
            self.0.bell.notify_one();
        }
    }

    /// Follows the saves: what was given a number is durable once this has reached it.
    ///
    /// What this gives is never looked at with something locked, and nothing is locked while it is looked at: somebody who holds a lock
    /// and waits for it, beside one that looks at it and waits for the lock, would stop all clients once a save is to be told.
    #[must_use]
    pub fn saved(&self) -> watch::Receiver<u64> {
        self.0.saved.subscribe()
    }

    /// Waits until `is_over`, which is asked after every save and whenever wills are published, with nothing locked. Cancel-safe.
    pub async fn saved_until(mut saved: watch::Receiver<u64>, is_over: impl Fn(u64) -> bool) {
        loop {
            // Marked as seen before the rest is looked at: what comes in between is looked at again.
            let number = *saved.borrow_and_update();
            if is_over(number) || saved.changed().await.is_err() {
                return;
            }
        }
    }

    /// The save that is under way, if there is one. To be called with nothing locked.
    fn save_under_way(&self) -> Option<u64> {
        let number = self.0.unsaved.lock().number - 1;
        (number > *self.0.saved.borrow()).then_some(number)
    }

    /// Whether the last save failed: what is to be told after a save is told without it, and the log says so.
    #[must_use]
    pub fn cannot_save(&self) -> bool {
        self.0.unsaved.lock().is_unknown
    }

    /// Resolves when what was kept is taken up again, and with it what the log holds since then: clients may come. Cancel-safe.
    pub async fn opened(&self) {
        // It lives as long as the broker.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

/// A message that no route stores, as it comes in.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The client id of its publisher.
    pub client: &'a str,
    /// Its topic.
    pub topic: &'a str,
    /// Its QoS.
    pub qos: u8,
    /// It is to be retained.
    pub retain: bool,
    /// With QoS 2: its packet id outlives the connection, and so has to be stored.
    pub is_id_kept: bool,
}

/// What becomes of a message that no route stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nobody wants it.
    No,
    /// Passed on in memory: whoever takes it is connected, and keeps nothing.
    Passed,
    /// Stored for local subscribers: to be told with [`Broker::note_in_log`] when it is appended.
    Stored {
        /// Its client and topic.
        pair: Pair,
        /// Somebody waits for it, so its commit lingers but a moment.
        is_hurried: bool,
    },
}

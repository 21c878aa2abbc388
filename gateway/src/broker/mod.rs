//! Local subscribers: their sessions, who subscribes to what, what is retained, and which messages
//! go to whom.
//!
//! ```text
//!   log ──follow──▶ task ──route──▶ mailboxes ─ notify ─▶ connections
//!                     │  └▶ retained      ▲
//!                     └─ save, some seconds later ─▶ sessions.redb
//!   publisher ── transient: no route stores it, and nobody keeps it ─┘
//! ```
//! What is stored reaches local subscribers out of the log, after its commit: fan-out delays no
//! PUBACK and no commit, and a subscriber sees nothing that a power cut could take back. What no
//! route stores goes through the log all the same (`local` records, which no uplink gets) if
//! somebody keeps it: a session that outlives its connection and takes it with QoS 1 or 2, or the
//! retained messages. Then PUBACK means: on disk. Where only sessions take it that end with their
//! connections, a crash would end these as well, so its publisher's task puts it into their queues
//! at once: see [`Broker::wants`] for which way, and `in_log` for the order of the two.
//!
//! Reading order: [`settings`]; what a session is: `mailbox` with `outbound` (its queue), `message`
//! and `subscription`; who subscribes to what: `filters`, `subscriptions`, `retained`; what clients
//! do: `sessions`, `subscribe`, `incoming`, `deliver`, `wills`; `route`, and `task`, which follows
//! the log, with `start` and `save`. Messages that another room hands over are in `direct`.
//!
//! Limits, all in [`Settings`]: sessions, subscriptions of each, messages and bytes that each is
//! owed, in its queue and in flight, retained messages and bytes. All sessions together have
//! [`QUEUED_BYTES_MAX`], of which each may use an equal share: a slow one loses its own copies.
//! Everything but `task` is in memory and does not wait.

mod deliver;
mod direct;
mod ended;
mod filters;
mod in_log;
mod incoming;
mod mailbox;
mod message;
mod outbound;
mod outgoing;
mod patience;
mod publish_will;
mod refusals;
mod replay;
mod retained;
mod route;
mod save;
mod sessions;
pub mod settings;
mod share;
mod standing_wills;
mod start;
mod subscribe;
mod subscription;
mod subscriptions;
mod system;
mod task;
mod turn;
mod unsaved;
mod wills;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};

pub use direct::{Acknowledged, HandedOver};
pub use in_log::{Pair, Staged};
pub use incoming::{Incoming, Wanted};
pub use mailbox::Mailbox;
pub use message::Message;
pub use outbound::{Peer, Received, Written};
pub use patience::{PATIENCE_MAX, PATIENCE_PART, Patience, WAIT_MAX};
pub use refusals::Bound;
pub use route::Routed;
pub use sessions::Resumed;
pub use settings::{SUBSCRIPTIONS_BYTES_MAX, Settings};
pub use share::QUEUED_BYTES_MAX;
pub(crate) use start::restore;
pub use subscribe::{Subscribed, Unsubscribed};
pub use subscription::{Options, Subscription};
pub use system::Traffic;
pub(crate) use task::run;
pub(crate) use turn::COPIES_IN_A_TURN;
pub use wills::{CONNECTED_BYTES_MAX as CONNECTED_WILLS_BYTES_MAX, Publication, WillPermit};

use outbound::AllPending;
use subscriptions::SubscriptionTree;
use unsaved::Unsaved;

use crate::{
    store::{Intake, Store, View},
    telemetry::repeats::{Doublings, Repeats},
};

/// What the broker needs of the store.
#[derive(Debug, Clone)]
pub struct StoreHandles {
    /// The way in.
    pub intake: Intake,
    /// What local subscribers get comes from here.
    pub view: View,
    /// Clients that had QoS 2 packet ids pending at the start.
    pub pending_clients: Vec<Box<str>>,
}

impl From<&Store> for StoreHandles {
    fn from(store: &Store) -> Self {
        StoreHandles { intake: store.intake(), view: store.view(), pending_clients: store.pending_clients() }
    }
}

/// Local subscribers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: Settings,
    tree: RwLock<SubscriptionTree>,
    sessions: Mutex<HashMap<Arc<str>, Arc<Mailbox>>>,
    /// Sessions that have subscribed, for the share of each.
    subscriber_count: AtomicUsize,
    /// Sessions that are over, for their packet ids.
    ended: Mutex<ended::Ended>,
    /// What all sessions are owed.
    all_pending: Arc<AllPending>,
    /// What went into the queues of sessions that are kept since the last save was gathered, in
    /// bytes.
    unsaved_bytes: AtomicUsize,
    /// What the file has room for, in bytes.
    file_bytes_max: AtomicUsize,
    in_log: in_log::InLog,
    /// Something is to be saved at once, or follows through the log.
    notify: Notify,
    unsaved: Mutex<Unsaved>,
    wills: Mutex<standing_wills::Wills>,
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
    /// How long the machine was off before its boot, in milliseconds, as far as the times here
    /// count it.
    off_ms: AtomicU64,
    counts: Counts,
    /// What is seen below `$SYS/`.
    traffic: Arc<Traffic>,
    figures_at: system::Times,
    warned: Warned,
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

impl Broker {
    /// Without subscribers.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Broker(Arc::new(Inner {
            settings,
            tree: RwLock::default(),
            sessions: Mutex::default(),
            subscriber_count: AtomicUsize::new(0),
            ended: Mutex::default(),
            all_pending: Arc::default(),
            unsaved_bytes: AtomicUsize::new(0),
            file_bytes_max: AtomicUsize::new(usize::MAX),
            in_log: in_log::InLog::default(),
            notify: Notify::new(),
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

    /// Resolves when what was kept is taken up again, and with it what the log holds since then:
    /// clients may come. Cancel-safe.
    pub async fn opened(&self) {
        // It lives as long as the broker.
        let _ = self.0.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}

#[cfg(test)]
mod tests;

//! A local session: what it subscribes to and is owed, shared by its connection and the broker.
//!
//! The broker puts messages in and wakes the connection, which writes them out when its socket
//! takes them. Neither waits for the other: the lock is held for as long as a message takes to be
//! put in, or a buffer to be filled.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, futures::Notified};

use super::{outbound::Outbound, replay::Replays, subscription::Subscription};
use crate::{
    access::name::ANONYMOUS,
    store::{SessionRow, SubscriptionRow},
    telemetry::repeats::Doublings,
};

/// A client that comes back is told at once that its session goes on if the file would keep the
/// session for so long from now on, in seconds: time for a restart, and for the client to come back
/// once more.
const EXPIRY_MARGIN_S: u32 = 60;

/// A local session.
#[derive(Debug)]
pub struct Mailbox {
    client: Arc<str>,
    notify: Notify,
    /// There may be something to write.
    is_woken: AtomicBool,
    /// The file does not say what it should.
    is_dirty: AtomicBool,
    /// The session was ended while its client is connected.
    is_revoked: AtomicBool,
    /// It has subscribed: it may be owed something.
    is_subscriber: AtomicBool,
    /// Somebody waits for it to read.
    is_waited_for: AtomicBool,
    progress: Notify,
    /// Messages that it had no room for.
    refused: Doublings,
    state: Mutex<State>,
}

/// State that the lock guards.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Whose it is: the session of one identity is never another's.
    pub identity: Arc<str>,
    pub outbound: Outbound,
    pub subscriptions: BTreeMap<Box<str>, Subscription>,
    pub replays: Replays,
    /// It was waited for in vain, and has not caught up since.
    pub is_slow: bool,
    pub expiry_s: u32,
    /// By the steady clock, in milliseconds.
    pub away_since_ms: Option<u64>,
    /// The session itself, not what it is owed, may differ from the file.
    pub is_changed: bool,
    /// What the file says of it, or will say with the save that is under way.
    pub in_file: Option<InFile>,
}

/// What the file says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InFile {
    /// Of its row, but for the time since when its client is away.
    hash: u64,
    away_since_ms: Option<u64>,
}

impl Mailbox {
    /// One that subscribes to nothing.
    pub(super) fn new(client: Arc<str>, state: State) -> Self {
        Self {
            client,
            notify: Notify::new(),
            is_woken: AtomicBool::new(false),
            is_dirty: AtomicBool::new(false),
            is_revoked: AtomicBool::new(false),
            is_subscriber: AtomicBool::new(false),
            is_waited_for: AtomicBool::new(false),
            progress: Notify::new(),
            refused: Doublings::default(),
            state: Mutex::new(state),
        }
    }

    /// It had no room for one message more. Gives those since the last that were given, if they are
    /// to be told: one that is refused everything costs those that publish next to nothing.
    pub(super) fn refuses(&self) -> Option<u64> {
        self.refused.more(1).map(|all| all - all / 2)
    }

    /// The client id.
    #[must_use]
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Whether it has subscribed. One that has not is owed nothing, and nobody has to wait for what
    /// it is owed.
    #[must_use]
    pub fn is_subscriber(&self) -> bool {
        self.is_subscriber.load(Ordering::Acquire)
    }

    /// Whether it may be owed something from now on. Gives whether that is new.
    pub(super) fn set_subscriber(&self, is_subscriber: bool) -> bool {
        self.is_subscriber.swap(is_subscriber, Ordering::AcqRel) != is_subscriber
    }

    /// Resolves when there may be something to write. Cancel-safe.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Whether there may be something to write.
    #[must_use]
    #[inline]
    pub fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    /// What there is now is about to be written.
    pub fn clear_woken(&self) {
        self.is_woken.store(false, Ordering::Release);
    }

    /// Says that there may be something to write.
    pub fn notify(&self) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Whether the session was ended here, and its connection has to end as well.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    /// Ends the connection that has it, if there is one.
    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.notify();
    }

    /// The next progress of whoever reads.
    pub(super) fn progress(&self) -> Notified<'_> {
        self.progress.notified()
    }

    pub(super) fn wake_waiting(&self) {
        self.progress.notify_waiters();
    }

    pub(super) fn set_waited_for(&self) {
        self.is_waited_for.store(true, Ordering::SeqCst);
    }

    /// Whether somebody waited, who is woken now.
    pub(super) fn take_waited_for(&self) -> bool {
        self.is_waited_for.load(Ordering::SeqCst) && self.is_waited_for.swap(false, Ordering::SeqCst)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether it was clean, and is not any more.
    pub(super) fn mark_dirty(&self) -> bool {
        !self.is_dirty.swap(true, Ordering::AcqRel)
    }

    pub(super) fn clean(&self) {
        self.is_dirty.store(false, Ordering::Release);
    }
}

impl InFile {
    pub(super) fn of(row: &SessionRow) -> Self {
        let mut hasher = DefaultHasher::new();
        (&row.identity, row.expiry_s).hash(&mut hasher);
        for SubscriptionRow { filter, options, id } in &row.subscriptions {
            (filter, options, id).hash(&mut hasher);
        }
        row.will.is_some().hash(&mut hasher);
        Self { hash: hasher.finish(), away_since_ms: row.away_since_ms }
    }
}

impl State {
    /// The session as the file should say it.
    pub(super) fn row(&self) -> SessionRow {
        let subscriptions = self.subscriptions.iter().map(|(filter, subscription)| SubscriptionRow {
            filter: filter.to_string(),
            options: subscription.options.0,
            id: subscription.id,
        });
        SessionRow {
            identity: self.identity.to_string(),
            expiry_s: self.expiry_s,
            away_since_ms: self.away_since_ms,
            subscriptions: subscriptions.collect(),
            will: None,
        }
    }

    /// Nobody knows what the file says of it.
    pub(super) fn forget_file(&mut self) {
        self.in_file = None;
        self.outbound.forget_file();
    }

    /// Whether the file says what it has to before the client is told that the session goes on: all
    /// but since when it was away, as long as that would not end it soon after a restart.
    pub(super) fn is_in_file(&self, now_ms: u64) -> bool {
        let Some(in_file) = self.in_file else { return self.expiry_s == 0 };
        let margin_s = self.expiry_s.min(EXPIRY_MARGIN_S);
        let ends_soon = |since: u64| {
            self.expiry_s != u32::MAX && now_ms > since + u64::from(self.expiry_s - margin_s) * 1000
        };
        self.expiry_s > 0
            && !in_file.away_since_ms.is_some_and(ends_soon)
            && in_file.hash == InFile::of(&self.row()).hash
    }

    /// Nothing but its being there: it subscribes to nothing and is owed nothing.
    pub(super) fn is_bare(&self) -> bool {
        self.subscriptions.is_empty() && self.outbound.is_empty()
    }

    /// Whether somebody else than `identity` began it; nobody in particular is nobody else.
    pub(super) fn is_of_another(&self, identity: &str) -> bool {
        *self.identity != *identity && *self.identity != *ANONYMOUS
    }

    /// Whether its time is over.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.expiry_s != u32::MAX
            && self.away_since_ms.is_some_and(|since| now_ms >= since + u64::from(self.expiry_s) * 1000)
    }
}

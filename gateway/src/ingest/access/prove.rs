//! Checks passwords: off the runtime, few at a time, each one once.
//!
//! ```text
//!   known? ──yes──▶ in                       a keyed tag of (user, stored hash, password)
//!     └no─▶ wait after failures ─▶ queue ─▶ argon2id, two at a time ─▶ in, and known; or a failure noted
//! ```
//! Hashing takes 20 ms and 19 MiB on purpose, so that 10,000 devices that come back after an outage must not pay it again:
//! what was right is remembered as a keyed hash, whose key lives and dies with the process. The tag holds the stored hash,
//! so a password that was changed is unknown again. Without random bytes for a key nothing is remembered.
//!
//! An unknown user costs what a wrong password costs. Limits: [`RUNNING_MAX`] at a time, [`WAITING_MAX`] in the queue and
//! [`DELAYED_MAX`] that wait after failures; more are refused as "server busy". [`KNOWN_MAX`] tags, the oldest making room.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use blake2::{
    Blake2sMac256,
    digest::{FixedOutput as _, KeyInit as _, Update as _},
};
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::sleep};

use super::{
    failures::Failures,
    hash::{self, Stored},
    password::Password,
};
use crate::{clock, ingest::places};

/// Passwords hashed at a time: 38 MiB.
pub const RUNNING_MAX: usize = 2;
/// Clients that wait for it: on a small board the last one waits some seconds.
pub const WAITING_MAX: usize = 128;
/// Clients that wait because of failures from their address. Fewer than the [`places::WAITING_MAX`], whose places
/// they hold.
pub const DELAYED_MAX: usize = 64;
/// Tags of right passwords remembered, 32 bytes each.
pub const KNOWN_MAX: usize = 20_000;
const TAG_BYTES: usize = 32;

// Even when all clients are connected, those that are being looked at leave the listener places to refuse others.
const _: () = assert!(RUNNING_MAX + WAITING_MAX + DELAYED_MAX < places::WAITING_MAX);

type Tag = [u8; TAG_BYTES];

/// What came of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proven {
    /// It is the user's.
    Right,
    /// It is not, or there is no such user.
    Wrong,
    /// Nobody had time to look.
    Busy,
}

/// Checks passwords.
pub(super) struct Prover {
    key: Option<[u8; TAG_BYTES]>,
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    delayed: AtomicUsize,
    known: Mutex<Known>,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Known {
    tags: HashSet<Tag>,
    by_age: VecDeque<Tag>,
}

impl Prover {
    pub(super) fn new() -> Self {
        let mut key = [0; TAG_BYTES];
        Prover {
            key: getrandom::fill(&mut key).is_ok().then_some(key),
            running: Arc::new(Semaphore::new(RUNNING_MAX)),
            waiting: AtomicUsize::new(0),
            delayed: AtomicUsize::new(0),
            known: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Checks the password of `user`, whose hash is `stored`; `None` for one that has none.
    pub(super) async fn prove(
        &self,
        peer: IpAddr,
        user: &str,
        stored: Option<Stored>,
        password: &Password,
    ) -> Proven {
        let tag = stored.as_ref().and_then(|stored| self.tag(user, stored, password));
        if tag.is_some_and(|tag| self.known.lock().tags.contains(&tag)) {
            return Proven::Right;
        }
        let delay = self.failures.lock().delay(peer, clock::monotonic());
        if !delay.is_zero() {
            let Some(_place) = Place::take(&self.delayed, DELAYED_MAX) else { return Proven::Busy };
            sleep(delay).await;
        }
        let Some(place) = Place::take(&self.waiting, WAITING_MAX) else { return Proven::Busy };
        let Ok(turn) = self.running.clone().acquire_owned().await else { return Proven::Busy };
        drop(place);
        let password = password.clone();
        let hashing = tokio::task::spawn_blocking(move || {
            let is_right = match &stored {
                Some(stored) => stored.verifies(&password),
                None => {
                    hash::spend(&password);
                    false
                }
            };
            drop(turn);
            is_right
        });
        match hashing.await {
            Ok(true) => {
                if let Some(tag) = tag {
                    self.known.lock().remember(tag);
                }
                Proven::Right
            }
            Ok(false) => {
                self.failures.lock().note(peer, clock::monotonic());
                Proven::Wrong
            }
            // The runtime stops.
            Err(_) => Proven::Busy,
        }
    }

    /// Lengths precede the texts, so that no two triples run together.
    fn tag(&self, user: &str, stored: &Stored, password: &Password) -> Option<Tag> {
        let mut mac = Blake2sMac256::new_from_slice(&self.key?).ok()?;
        for part in [user.as_bytes(), stored.expose().as_bytes(), password.expose()] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Some(mac.finalize_fixed().into())
    }
}

impl Known {
    fn remember(&mut self, tag: Tag) {
        if !self.tags.insert(tag) {
            return;
        }
        self.by_age.push_back(tag);
        if self.by_age.len() > KNOWN_MAX
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.tags.remove(&oldest);
        }
    }
}

/// A place among a limited number, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        let one_more = |n| (n < most).then_some(n + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Place(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn password(text: &str) -> Password {
        Password::new(text.as_bytes())
    }

    #[tokio::test]
    async fn a_right_password_is_hashed_once_and_a_wrong_one_never_becomes_known() {
        let prover = Prover::new();
        let stored = Stored::make(&password("right")).unwrap();
        let prove = async |user: &str, stored: &Stored, text: &str| {
            prover.prove(PEER, user, Some(stored.clone()), &password(text)).await
        };
        assert_eq!(prove("a", &stored, "wrong").await, Proven::Wrong);
        assert_eq!(prove("a", &stored, "right").await, Proven::Right);
        // With no turn left, only what is known gets an answer.
        let turns = prover.running.clone().acquire_many_owned(RUNNING_MAX as u32).await.unwrap();
        assert_eq!(prove("a", &stored, "right").await, Proven::Right);
        let mut others = [("b", "right"), ("a", "wrong"), ("a", "right\0"), ("ar", "ight")]
            .map(|(user, text)| Box::pin(prove(user, &stored, text)));
        for other in &mut others {
            let waits = tokio::time::timeout(std::time::Duration::from_millis(5), other).await;
            assert!(waits.is_err(), "it was taken for known");
        }
        drop((others, turns));
        let changed = Stored::make(&password("new")).unwrap();
        assert_eq!(prove("a", &changed, "right").await, Proven::Wrong, "the password was changed");
        assert_eq!(prover.prove(PEER, "nobody", None, &password("right")).await, Proven::Wrong);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_its_places_come_back() {
        let prover = Prover::new();
        let turns = prover.running.clone().acquire_many_owned(RUNNING_MAX as u32).await.unwrap();
        let secret = password("x");
        let mut waiting: Vec<_> =
            (0..WAITING_MAX).map(|_| Box::pin(prover.prove(PEER, "a", None, &secret))).collect();
        for one in &mut waiting {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(one.as_mut().poll(cx))).await;
            assert!(polled.is_pending());
        }
        assert_eq!(prover.prove(PEER, "a", None, &secret).await, Proven::Busy);
        drop((waiting, turns));
        assert_eq!(prover.waiting.load(Ordering::Acquire), 0);
        assert_eq!(prover.prove(PEER, "a", None, &secret).await, Proven::Wrong);
    }

    #[test]
    fn tags_are_bounded_and_the_oldest_makes_room() {
        let mut known = Known::default();
        let tag = |i: usize| {
            let mut tag = [0; TAG_BYTES];
            tag[..8].copy_from_slice(&i.to_be_bytes());
            tag
        };
        for i in 0..=KNOWN_MAX {
            known.remember(tag(i));
            known.remember(tag(i));
        }
        assert_eq!((known.tags.len(), known.by_age.len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(!known.tags.contains(&tag(0)) && known.tags.contains(&tag(1)));
    }
}

//! Checks passwords: off the runtime, few at a time, each one once.
//!
//! ```text
//!   known? ──yes──▶ in                       a keyed tag of (user, stored hash, password)
//!     └no─▶ room ─▶ turn ─▶ a try of its address and name? ──yes──▶ argon2id, two at a time ─▶ in, and known; or a failure
//!                     ▲        └ not now: waits until then
//!                     └────────┘
//! ```
//! Hashing takes 20 ms and 19 MiB on purpose, so that 10,000 devices that come back after an outage
//! must not pay it again: what was right is remembered as a keyed hash, whose key lives and dies
//! with the process. The tag holds the stored hash, so a password that was changed is unknown
//! again. Without random bytes for a key nothing is remembered. What is known is let in whatever
//! others do.
//!
//! An unknown user costs what a wrong password costs. Limits: [`RUNNING_MAX`] at a time,
//! [`WAITING_MAX`] in the room, of these [`ADDRESS_WAITING_MAX`] from one address and
//! [`SLOWED_WAITING_MAX`] from one whose tries have to wait for each other: so an address that
//! guesses leaves the room to others. More are refused as "server busy". [`KNOWN_MAX`] tags, the
//! oldest making room.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use blake2::{
    Blake2sMac256,
    digest::{FixedOutput as _, KeyInit as _, Update as _},
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::sleep,
};

use super::{
    failures::{Failures, Taken, network},
    hash::{self, RUNNING_MAX, Stored},
};
use crate::{clock, mqtt::password::Password};

/// Clients that wait for it, or for a try: on a small board the last one waits some seconds. Fewer
/// than the connections that may wait, whose places they hold.
pub const WAITING_MAX: usize = 128;
/// Of these from one address, such as a network behind a router that comes back.
pub const ADDRESS_WAITING_MAX: usize = 64;
/// Of these from one address that failed so often that its tries wait for each other: the last one
/// waits some seconds.
pub const SLOWED_WAITING_MAX: usize = 4;
/// Tags of right passwords remembered, 32 bytes each.
pub const KNOWN_MAX: usize = 20_000;
const TAG_BYTES: usize = 32;

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
    waiting: Mutex<Waiting>,
    known: Mutex<Known>,
    failures: Mutex<Failures>,
    /// Woken when a try was given back: there may be one for those that wait.
    given_back: Notify,
}

/// Clients that wait, in all and by address.
#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What a client waited for.
enum Turn {
    /// To hash its password, which counts as a failure until it is right.
    Try(OwnedSemaphorePermit, Taken),
    /// Another client came with the same password meanwhile, and it was right.
    Known,
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
            waiting: Mutex::default(),
            known: Mutex::default(),
            failures: Mutex::new(Failures::new()),
            given_back: Notify::new(),
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
        if self.is_known(tag) {
            return Proven::Right;
        }
        let (turn, taken) = match self.wait(network(peer), user, tag).await {
            Some(Turn::Try(turn, taken)) => (turn, taken),
            Some(Turn::Known) => return Proven::Right,
            None => return Proven::Busy,
        };
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
                self.failures.lock().give_back(taken);
                self.given_back.notify_waiters();
                Proven::Right
            }
            Ok(false) => Proven::Wrong,
            // The runtime stops.
            Err(_) => Proven::Busy,
        }
    }

    /// Waits in the room until the password may be hashed. `None`: the room has no place.
    async fn wait(&self, peer: IpAddr, user: &str, tag: Option<Tag>) -> Option<Turn> {
        let is_slowed = self.failures.lock().is_slowed(peer, clock::monotonic());
        let slot = WaitingSlot::take(
            &self.waiting,
            peer,
            if is_slowed { SLOWED_WAITING_MAX } else { ADDRESS_WAITING_MAX },
        )?;
        loop {
            let turn = self.running.clone().acquire_owned().await.ok()?;
            if self.is_known(tag) {
                return Some(Turn::Known);
            }
            // From here on: a try that is given back while one is asked for wakes it as well.
            let given_back = self.given_back.notified();
            let taken = self.failures.lock().take(peer, user, clock::monotonic());
            let delay = match taken {
                Ok(taken) => return Some(Turn::Try(turn, taken)),
                Err(delay) => delay,
            };
            drop(turn);
            if slot.of_address() > SLOWED_WAITING_MAX {
                return None;
            }
            tokio::select! {
                () = sleep(delay) => {}
                () = given_back => {}
            }
        }
    }

    fn is_known(&self, tag: Option<Tag>) -> bool {
        tag.is_some_and(|tag| self.known.lock().tags.contains(&tag))
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

/// A place in the room, given back when dropped.
struct WaitingSlot<'a> {
    waiting: &'a Mutex<Waiting>,
    peer: IpAddr,
}

impl<'a> WaitingSlot<'a> {
    /// One of [`WAITING_MAX`], of which `peer` may have `most`.
    fn take(waiting: &'a Mutex<Waiting>, peer: IpAddr, most: usize) -> Option<Self> {
        let mut state = waiting.lock();
        if state.all >= WAITING_MAX || state.by_address.get(&peer).is_some_and(|taken| *taken >= most) {
            return None;
        }
        state.all += 1;
        *state.by_address.entry(peer).or_default() += 1;
        drop(state);
        Some(WaitingSlot { waiting, peer })
    }

    /// Places that its address has.
    fn of_address(&self) -> usize {
        self.waiting.lock().by_address.get(&self.peer).copied().unwrap_or_default()
    }
}

impl Drop for WaitingSlot<'_> {
    fn drop(&mut self) {
        let mut state = self.waiting.lock();
        state.all -= 1;
        if let Some(taken) = state.by_address.get_mut(&self.peer) {
            *taken -= 1;
            if *taken == 0 {
                state.by_address.remove(&self.peer);
            }
        }
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

    fn peer(i: usize) -> IpAddr {
        [10, 1, 0, u8::try_from(i).unwrap()].into()
    }

    async fn poll_once(waiting: &mut std::pin::Pin<Box<impl Future<Output = Proven>>>) -> Option<Proven> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match waiting.as_mut().poll(cx) {
                std::task::Poll::Ready(proven) => Some(proven),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_its_places_come_back() {
        let prover = Prover::new();
        let turns = prover.running.clone().acquire_many_owned(RUNNING_MAX as u32).await.unwrap();
        let secret = password("x");
        let mut waiting = vec![];
        for i in 0..WAITING_MAX {
            // Half of them from one address, which then has no more than that; the others from one
            // each.
            let peer = if i < ADDRESS_WAITING_MAX { PEER } else { peer(i) };
            let mut one = Box::pin(prover.prove(peer, "a", None, &secret));
            assert_eq!(poll_once(&mut one).await, None, "{i}");
            waiting.push(one);
            if i + 1 == ADDRESS_WAITING_MAX {
                assert_eq!(prover.prove(PEER, "a", None, &secret).await, Proven::Busy);
            }
        }
        assert_eq!(prover.prove(peer(1), "a", None, &secret).await, Proven::Busy);
        drop((waiting, turns));
        assert!(prover.waiting.lock().all == 0 && prover.waiting.lock().by_address.is_empty());
        assert_eq!(prover.prove(PEER, "a", None, &secret).await, Proven::Wrong);
    }

    #[tokio::test]
    async fn many_guesses_at_once_are_few_and_leave_the_room_to_others() {
        let prover = Arc::new(Prover::new());
        let mut guesses = tokio::task::JoinSet::new();
        for i in 0..200 {
            let prover = prover.clone();
            guesses
                .spawn(async move { prover.prove(PEER, &format!("u{}", i % 7), None, &password("x")).await });
        }
        let (mut wrong, mut busy) = (0, 0);
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(2);
        while let Ok(Some(proven)) = tokio::time::timeout_at(until, guesses.join_next()).await {
            match proven.unwrap() {
                Proven::Wrong => wrong += 1,
                Proven::Busy => busy += 1,
                Proven::Right => panic!("there is no such user"),
            }
        }
        assert!((6..=10).contains(&wrong), "{wrong} guesses in two seconds");
        assert!(busy >= 200 - 10 - SLOWED_WAITING_MAX, "{busy} were refused at once");
        assert!(prover.waiting.lock().all <= SLOWED_WAITING_MAX);
        let stored = Stored::make(&password("right")).unwrap();
        assert_eq!(prover.prove(peer(1), "u1", Some(stored), &password("right")).await, Proven::Right);
    }

    #[tokio::test]
    async fn a_crowd_with_right_passwords_is_let_in_from_one_address_and_holds_none_of_its_tries() {
        let prover = Arc::new(Prover::new());
        let stored = Stored::make(&password("right")).unwrap();
        let mut crowd = tokio::task::JoinSet::new();
        for i in 0..ADDRESS_WAITING_MAX {
            let (prover, stored) = (prover.clone(), stored.clone());
            crowd.spawn(async move {
                prover.prove(PEER, &format!("u{}", i % 20), Some(stored), &password("right")).await
            });
        }
        while let Some(proven) = crowd.join_next().await {
            assert_eq!(proven.unwrap(), Proven::Right);
        }
        assert_eq!(prover.known.lock().tags.len(), 20);
        assert!(!prover.failures.lock().is_slowed(PEER, clock::monotonic()));
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

//! Who failed to show who it is, by address and by name, and when the next try may be made. Pure.
//!
//! ```text
//!   take ─▶ counted as if it failed ─▶ hashed ─▶ right: given back
//!     └ too early: how long until then            wrong: it stays
//! ```
//! A try is taken before its password is hashed, so those that are made at once count one by one.
//! The first [`FREE`] failures cost nothing: a typing error, a device with an old password. Each
//! further one doubles the time until the next try, from [`DELAY_LEAST`] to [`ADDRESS_DELAY_MOST`]
//! for all that comes from an address, and to [`NAME_DELAY_MOST`] for all that is tried on a name:
//! the second is shorter, so one address that guesses a name leaves tries to whoever it belongs to.
//! Whoever is right is forgotten nothing but that try, or a user of its own would buy an attacker
//! fresh ones; after [`FORGET_AFTER`] without a failure all is forgotten. Limits: [`ADDRESSES_MAX`]
//! addresses and as many names; then the one that failed longest ago makes room. Of IPv6 the
//! network counts, for a host has all of it. Of names a keyed hash is kept.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Failures without a wait.
pub const FREE: u32 = 5;
/// The first wait.
pub const DELAY_LEAST: Duration = Duration::from_millis(100);
/// The longest wait of an address: less than one guess a second.
pub const ADDRESS_DELAY_MOST: Duration = Duration::from_secs(2);
/// The longest wait of a name, whoever tries it.
pub const NAME_DELAY_MOST: Duration = Duration::from_millis(500);
/// Time without a failure after which an address or a name is as good as new.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Addresses remembered, and names.
pub const ADDRESSES_MAX: usize = 4096;
/// The part of an IPv6 address that tells networks apart, in bits.
const NETWORK_BITS: u32 = 64;

#[derive(Debug)]
pub(super) struct Failures {
    addresses: Counts<IpAddr>,
    names: Counts<u64>,
    hasher: RandomState,
}

/// A try that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    at: Instant,
    address: (IpAddr, Option<Instant>),
    name: (u64, Option<Instant>),
}

#[derive(Debug)]
struct Counts<K> {
    delay_most: Duration,
    by: HashMap<K, Failed>,
}

#[derive(Debug, Clone, Copy)]
struct Failed {
    /// Tries that failed, and those that are not judged yet.
    times: u32,
    last: Instant,
}

impl Failures {
    pub(super) fn new() -> Self {
        Failures {
            addresses: Counts { delay_most: ADDRESS_DELAY_MOST, by: HashMap::new() },
            names: Counts { delay_most: NAME_DELAY_MOST, by: HashMap::new() },
            hasher: RandomState::new(),
        }
    }

    /// Takes a try of `user` from `peer`, or says how long there is none.
    pub(super) fn take(&mut self, peer: IpAddr, user: &str, now: Instant) -> Result<Taken, Duration> {
        let (address, name) = (network(peer), self.hasher.hash_one(user));
        let wait = self.addresses.wait(&address, now).max(self.names.wait(&name, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        let before = (self.addresses.note(address, now), self.names.note(name, now));
        Ok(Taken { at: now, address: (address, before.0), name: (name, before.1) })
    }

    /// Gives a try back whose password was right.
    pub(super) fn give_back(&mut self, taken: Taken) {
        self.addresses.give_back(taken.address, taken.at);
        self.names.give_back(taken.name, taken.at);
    }

    /// Whether tries from `peer` are more than [`FREE`], so that they have to wait for each other.
    pub(super) fn is_slowed(&self, peer: IpAddr, now: Instant) -> bool {
        let failed = self.addresses.by.get(&network(peer)).filter(|failed| !failed.is_over(now));
        failed.is_some_and(|failed| failed.times > FREE)
    }
}

impl<K: Hash + Eq + Copy> Counts<K> {
    /// How long there is no try for `key`.
    fn wait(&self, key: &K, now: Instant) -> Duration {
        let Some(failed) = self.by.get(key).filter(|failed| !failed.is_over(now)) else {
            return Duration::ZERO;
        };
        let delay = match failed.times.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(more) => (DELAY_LEAST * 2u32.saturating_pow(more.min(16) - 1)).min(self.delay_most),
        };
        (failed.last + delay).saturating_duration_since(now)
    }

    /// A try of `key` is made; gives when the one before it was.
    fn note(&mut self, key: K, now: Instant) -> Option<Instant> {
        if self.by.len() >= ADDRESSES_MAX && !self.by.contains_key(&key) {
            self.make_room(now);
        }
        let failed = self.by.entry(key).or_insert(Failed { times: 0, last: now });
        let before = (failed.times > 0 && !failed.is_over(now)).then_some(failed.last);
        failed.times = if before.is_none() { 1 } else { failed.times.saturating_add(1) };
        failed.last = now;
        before
    }

    fn give_back(&mut self, (key, before): (K, Option<Instant>), taken: Instant) {
        let Some(failed) = self.by.get_mut(&key) else { return };
        failed.times -= 1;
        if failed.times == 0 {
            self.by.remove(&key);
        } else if let Some(before) = before.filter(|_| failed.last == taken) {
            failed.last = before;
        }
    }

    fn make_room(&mut self, now: Instant) {
        self.by.retain(|_, failed| !failed.is_over(now));
        if self.by.len() >= ADDRESSES_MAX
            && let Some(oldest) = self.by.iter().min_by_key(|(_, failed)| failed.last).map(|(key, _)| *key)
        {
            self.by.remove(&oldest);
        }
    }
}

impl Failed {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGET_AFTER
    }
}

/// What counts as one address.
pub(super) fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [u8; 4] = [10, 0, 0, 1];

    /// When tries are made by whoever tries without a pause until `until_ms`, in milliseconds from
    /// the start.
    fn made(failures: &mut Failures, tries: &[([u8; 4], &str)], start: Instant, until_ms: u64) -> Vec<u64> {
        let mut made = vec![];
        for ms in 0..until_ms {
            for (peer, user) in tries {
                while failures.take((*peer).into(), user, start + Duration::from_millis(ms)).is_ok() {
                    made.push(ms);
                }
            }
        }
        made
    }

    #[test]
    fn tries_at_once_count_one_by_one_and_their_waits_grow_and_end_with_time() {
        let (mut failures, now) = (Failures::new(), crate::clock::monotonic());
        let times = made(&mut failures, &[(A, "a"), (A, "b"), (A, "c")], now, 10_000);
        assert_eq!(times[..12], [0, 0, 0, 0, 0, 0, 100, 300, 700, 1500, 3100, 5100]);
        assert_eq!(times.len(), 14, "one in two seconds from then on: {times:?}");
        assert!(failures.is_slowed(A.into(), now + Duration::from_secs(10)));
        let later = now + Duration::from_secs(10) + FORGET_AFTER;
        assert!(!failures.is_slowed(A.into(), later), "it begins anew");
        assert_eq!(made(&mut failures, &[(A, "a")], later, 100).len(), 6);
    }

    #[test]
    fn a_name_is_slowed_from_wherever_it_is_tried_and_one_address_alone_leaves_it_tries() {
        let (mut failures, now) = (Failures::new(), crate::clock::monotonic());
        let many: Vec<_> = (0..200).map(|i| ([10, 0, 1, i], "a")).collect();
        let times = made(&mut failures, &many, now, 60_000);
        let late = times.iter().filter(|ms| **ms >= 10_000).count();
        assert_eq!(late, 100, "two a second on one name, by two hundred addresses");
        assert!(failures.take([10, 0, 1, 7].into(), "b", now + Duration::from_secs(60)).is_ok());

        let (mut failures, mut longest) = (Failures::new(), Duration::ZERO);
        for ms in 0..60_000 {
            let at = now + Duration::from_millis(ms);
            let _ = failures.take(A.into(), "a", at);
            longest = longest.max(failures.take([10, 0, 0, 2].into(), "a", at).map_or_else(
                |wait| wait,
                |taken| {
                    failures.give_back(taken);
                    Duration::ZERO
                },
            ));
        }
        assert!(longest <= NAME_DELAY_MOST, "{longest:?}");
    }

    #[test]
    fn who_is_right_is_given_back_that_try_and_no_other() {
        let (mut failures, now) = (Failures::new(), crate::clock::monotonic());
        for _ in 0..100 {
            let taken = failures.take(A.into(), "a", now).unwrap();
            failures.give_back(taken);
        }
        assert!(failures.addresses.by.is_empty() && failures.names.by.is_empty(), "nothing is kept of it");
        // Nine failures, and one that is right each time that it may be tried.
        let mut wrong = 0;
        for ms in 0..10_000 {
            let at = now + Duration::from_millis(ms);
            if let Ok(taken) = failures.take(A.into(), "own", at) {
                failures.give_back(taken);
            }
            wrong += u32::from(failures.take(A.into(), "b", at).is_ok());
        }
        assert!(wrong <= 14, "{wrong} guesses: a user of its own bought some");
    }

    #[test]
    fn addresses_are_bounded_and_the_one_longest_ago_goes_first() {
        let (mut failures, now) = (Failures::new(), crate::clock::monotonic());
        let peer = |i: usize| IpAddr::from(Ipv6Addr::from_bits((i as u128) << 64));
        for i in 0..=ADDRESSES_MAX {
            for _ in 0..=FREE {
                failures.take(peer(i), &i.to_string(), now + Duration::from_micros(i as u64)).unwrap();
            }
        }
        assert_eq!((failures.addresses.by.len(), failures.names.by.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
        assert!(!failures.is_slowed(peer(0), now) && failures.is_slowed(peer(1), now));
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let (mut failures, now) = (Failures::new(), crate::clock::monotonic());
        for i in 0..=FREE {
            failures.take(format!("2001:db8::{i}").parse().unwrap(), &i.to_string(), now).unwrap();
            failures.take(format!("::ffff:10.0.0.{i}").parse().unwrap(), &i.to_string(), now).unwrap();
        }
        assert!(failures.is_slowed("2001:db8::ffff".parse().unwrap(), now));
        assert!(!failures.is_slowed("10.0.0.1".parse().unwrap(), now));
    }
}

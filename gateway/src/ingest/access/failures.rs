//! Who failed to show who it is, by address, and how long its next try waits. Pure.
//!
//! The first [`FREE`] failures cost nothing: a typing error, a device with an old password. Each further one doubles the
//! wait, from [`DELAY_LEAST`] to [`DELAY_MOST`]. Whoever is right is forgotten nothing, or a user of its own would buy an
//! attacker fresh tries; after [`FORGET_AFTER`] without a failure all is forgotten. Limits: [`ADDRESSES_MAX`] addresses; then
//! the one that failed longest ago makes room. Of IPv6 the network counts, for a host has all of it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Failures without a wait.
pub const FREE: u32 = 5;
/// The first wait.
pub const DELAY_LEAST: Duration = Duration::from_millis(100);
/// The longest wait.
pub const DELAY_MOST: Duration = Duration::from_secs(5);
/// Time without a failure after which an address is as good as new.
pub const FORGET_AFTER: Duration = Duration::from_secs(600);
/// Addresses remembered.
pub const ADDRESSES_MAX: usize = 4096;
/// The part of an IPv6 address that tells networks apart, in bits.
const NETWORK_BITS: u32 = 64;

#[derive(Debug, Default)]
pub(super) struct Failures(HashMap<IpAddr, Failed>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    times: u32,
    last: Instant,
}

impl Failures {
    /// How long a try from `peer` has to wait now.
    pub(super) fn delay(&self, peer: IpAddr, now: Instant) -> Duration {
        let Some(failed) = self.0.get(&network(peer)).filter(|failed| !failed.is_over(now)) else {
            return Duration::ZERO;
        };
        match failed.times.checked_sub(FREE) {
            None | Some(0) => Duration::ZERO,
            Some(more) => (DELAY_LEAST * 2u32.saturating_pow(more.min(16) - 1)).min(DELAY_MOST),
        }
    }

    /// A try from `peer` failed.
    pub(super) fn note(&mut self, peer: IpAddr, now: Instant) {
        let peer = network(peer);
        if self.0.len() >= ADDRESSES_MAX && !self.0.contains_key(&peer) {
            self.make_room(now);
        }
        let failed = self.0.entry(peer).or_insert(Failed { times: 0, last: now });
        failed.times = if failed.is_over(now) { 1 } else { failed.times.saturating_add(1) };
        failed.last = now;
    }

    fn make_room(&mut self, now: Instant) {
        self.0.retain(|_, failed| !failed.is_over(now));
        if self.0.len() >= ADDRESSES_MAX
            && let Some(oldest) = self.0.iter().min_by_key(|(_, failed)| failed.last).map(|(peer, _)| *peer)
        {
            self.0.remove(&oldest);
        }
    }
}

impl Failed {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= FORGET_AFTER
    }
}

fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> NETWORK_BITS << NETWORK_BITS).into(),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_after_some_failures_and_end_with_time() {
        let (mut failures, now) = (Failures::default(), crate::clock::monotonic());
        let (a, b): (IpAddr, IpAddr) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut delays = vec![];
        for _ in 0..FREE + 8 {
            failures.note(a, now);
            delays.push(failures.delay(a, now).as_millis());
        }
        assert_eq!(delays, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(failures.delay(b, now), Duration::ZERO);
        assert_eq!(failures.delay(a, now + FORGET_AFTER), Duration::ZERO);
        failures.note(a, now + FORGET_AFTER);
        assert_eq!(failures.delay(a, now + FORGET_AFTER), Duration::ZERO, "it begins anew");
    }

    #[test]
    fn addresses_are_bounded_and_the_one_longest_ago_goes_first() {
        let (mut failures, now) = (Failures::default(), crate::clock::monotonic());
        let peer = |i: usize| IpAddr::from(Ipv6Addr::from_bits((i as u128) << 64));
        for i in 0..=ADDRESSES_MAX {
            for _ in 0..=FREE {
                failures.note(peer(i), now + Duration::from_micros(i as u64));
            }
        }
        assert_eq!(failures.0.len(), ADDRESSES_MAX);
        assert_eq!(failures.delay(peer(0), now), Duration::ZERO);
        assert_eq!(failures.delay(peer(1), now), DELAY_LEAST);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_a_mapped_one_is_ipv4() {
        let (mut failures, now) = (Failures::default(), crate::clock::monotonic());
        for i in 0..=FREE {
            failures.note(format!("2001:db8::{i}").parse().unwrap(), now);
            failures.note(format!("::ffff:10.0.0.{i}").parse().unwrap(), now);
        }
        assert_eq!(failures.delay("2001:db8::ffff".parse().unwrap(), now), DELAY_LEAST);
        assert_eq!(failures.delay("10.0.0.1".parse().unwrap(), now), Duration::ZERO);
    }
}

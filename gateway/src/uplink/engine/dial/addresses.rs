//! In which order a name's addresses are tried. Pure.
//!
//! ```text
//!   found ─▶ one family after the other (RFC 8305 section 4) ─▶ those that failed lately go last
//! ```
//! An address counts as failed from the moment in which it takes a connection until the upstream
//! has answered on it: so one that accepts and says nothing is passed over by the next attempt,
//! whatever ended this one. Nothing is ever left out, so an upstream whose addresses all failed is
//! tried on.
//!
//! Limits: [`ADDRESSES_MAX`], both of a name and remembered; a failure is remembered for
//! [`REMEMBERED`].

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// So many addresses of a name are tried.
pub const ADDRESSES_MAX: usize = 16;
/// An address that failed is put last for so long.
const REMEMBERED: Duration = Duration::from_secs(600);

/// The addresses that failed lately, the latest last.
#[derive(Debug, Default)]
pub struct Addresses {
    failed: Vec<(SocketAddr, Instant)>,
}

impl Addresses {
    /// This one failed, or has yet to answer.
    pub fn failed(&mut self, address: SocketAddr, now: Instant) {
        self.answered(address);
        if self.failed.len() == ADDRESSES_MAX {
            self.failed.remove(0);
        }
        self.failed.push((address, now));
    }

    /// The upstream answered there.
    pub fn answered(&mut self, address: SocketAddr) {
        self.failed.retain(|(failed, _)| *failed != address);
    }

    /// The order in which to try what was found for a name.
    pub fn order(&mut self, found: impl IntoIterator<Item = SocketAddr>, now: Instant) -> Vec<SocketAddr> {
        self.failed.retain(|(_, at)| now.saturating_duration_since(*at) < REMEMBERED);
        let mut order = in_turn(found);
        // Stable: what did not fail comes first, in the order of the resolver.
        order.sort_by_key(|address| self.failed.iter().position(|(failed, _)| failed == address));
        order
    }
}

/// One of each family in turn, beginning with that of the first, each address once.
fn in_turn(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    let begins_with_v6 = all.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|address| address.is_ipv6() == begins_with_v6);
    let mut order = Vec::new();
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let before = order.len();
        order.extend(first.next());
        order.extend(second.next());
        if order.len() == before {
            order.truncate(ADDRESSES_MAX);
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_addresses_that_failed_go_last_the_oldest_failure_first() {
        let now = crate::clock::monotonic();
        let (a, b, c, d) = ("[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1");
        for (found, failed, order) in [
            (&[a, b, c, d][..], &[][..], &[a, c, b, d][..]),
            (&[c, d, a, a, b], &[], &[c, a, d, b]),
            (&[c, d], &[], &[c, d]),
            (&[a, b, c, d], &[a], &[c, b, d, a]),
            (&[a, c], &[c, a], &[c, a]),
            (&[a, c], &[a, c], &[a, c]),
            (&[a], &[a], &[a]),
            (&[], &[a], &[]),
        ] {
            let mut addresses = Addresses::default();
            failed.iter().for_each(|text| addresses.failed(text.parse().unwrap(), now));
            assert_eq!(addresses.order(all(found), now), all(order), "{found:?}, {failed:?} failed");
        }
    }

    #[test]
    fn a_failure_is_forgotten_with_an_answer_and_after_a_while_and_only_so_many_are_remembered() {
        let now = crate::clock::monotonic();
        let (a, c) = ("[::1]:1".parse().unwrap(), "1.1.1.1:1".parse().unwrap());
        let mut addresses = Addresses::default();
        addresses.failed(a, now);
        assert_eq!(addresses.order([a, c], now + REMEMBERED / 2), [c, a]);
        assert_eq!(addresses.order([a, c], now + REMEMBERED), [a, c]);
        addresses.failed(a, now);
        addresses.answered(a);
        assert_eq!(addresses.order([a, c], now), [a, c]);
        for port in 0..1000 {
            addresses.failed(SocketAddr::new(a.ip(), port), now);
        }
        assert_eq!(addresses.failed.len(), ADDRESSES_MAX);
        assert_eq!(
            addresses.order((0..100).map(|port| SocketAddr::new(c.ip(), port)), now).len(),
            ADDRESSES_MAX
        );
    }
}

//! Limits connections, from accepting to the end: how many, how fast, from where, and how long
//! before their client is accepted.
//!
//! ```text
//!   kernel's queue ─▶ room ─▶ accept ─▶ address ─▶ pace ─▶ waiting ──CONNECT, accepted──▶ client
//!     waits for a permit ┘     too many: closed ┘    └ waits   └ full: the oldest that waits is closed
//! ```
//! Connections whose client is not accepted (a handshake, no CONNECT yet, a refusal under way) are
//! limited by themselves, to [`WAITING_MAX`](super::limits::WAITING_MAX). One more pushes out the
//! oldest, so silent connections take nothing from those that speak: at the default rate a
//! connection has four seconds at least, whatever comes after it.
//!
//! Limits: `connections_max` clients, `WAITING_MAX` that wait,
//! [`CLOSING_MAX`](super::limits::CLOSING_MAX) that are being closed, fewer where there are few
//! file descriptors; beyond these the kernel's queue waits. Addresses are counted by IPv4 address
//! and by IPv6 network of 64 bits, which is what one customer is given. It does not read or write a
//! socket.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{bucket::Bucket, registry::DisconnectHandle, settings::Settings};
use crate::mqtt::fault::Fault;

/// What may be accepted at once, in seconds of the rate.
const ACCEPT_BURST: Duration = Duration::from_secs(2);
/// Bits of an IPv6 address that name a network.
const NETWORK_BITS: u32 = 64;

/// The limiter of all listeners.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    all: Arc<Semaphore>,
    rate: Mutex<Bucket>,
    addresses: Option<Addresses>,
    waiting_max: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Addresses {
    each_max: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

#[derive(Debug, Default)]
struct Waiting {
    serial: u64,
    /// By age.
    handles: BTreeMap<u64, DisconnectHandle>,
}

impl ConnectionLimiter {
    pub fn new(settings: &Settings) -> Arc<Self> {
        let all = settings.connections_max.saturating_add(settings.waiting_max + settings.closing_max);
        let all = all.min(Semaphore::MAX_PERMITS);
        let addresses = settings
            .connections_per_address_max
            .map(|each_max| Addresses { each_max, counts: Mutex::default() });
        Arc::new(ConnectionLimiter {
            all: Arc::new(Semaphore::new(all)),
            rate: Mutex::new(Bucket::new(settings.connections_per_s_max.into(), ACCEPT_BURST)),
            addresses,
            waiting_max: settings.waiting_max,
            waiting: Mutex::default(),
        })
    }

    /// Waits for room for one connection more. Cancel-safe. `None` never comes, for the semaphore
    /// is not closed.
    pub async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// When the next connection may be served, if not at once.
    pub fn pace(&self, now: Instant) -> Option<Instant> {
        self.rate.lock().take(now, 1)
    }

    /// A permit for a connection from `address`, which gives way when `disconnect` says so; `None`
    /// if there are too many from there.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        disconnect: &DisconnectHandle,
        room: OwnedSemaphorePermit,
    ) -> Option<Permit> {
        let address = network(address);
        if let Some(addresses) = &self.addresses
            && !addresses.enter(address)
        {
            return None;
        }
        let mut waiting = self.waiting.lock();
        if waiting.handles.len() >= self.waiting_max
            && let Some((_, oldest)) = waiting.handles.pop_first()
        {
            oldest.leave(Fault::PushedOut);
        }
        waiting.serial += 1;
        let serial = waiting.serial;
        waiting.handles.insert(serial, disconnect.clone());
        drop(waiting);
        Some(Permit { limiter: self.clone(), address, serial: Some(serial), _room: room })
    }
}

impl Addresses {
    fn enter(&self, address: IpAddr) -> bool {
        let mut counts = self.counts.lock();
        let count = counts.entry(address).or_default();
        let fits = *count < self.each_max;
        *count += usize::from(fits);
        fits
    }

    fn leave(&self, address: IpAddr) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one address.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() >> (128 - NETWORK_BITS) << (128 - NETWORK_BITS)).into()
        }
        address => address,
    }
}

/// A connection's permit, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<ConnectionLimiter>,
    address: IpAddr,
    /// While it waits.
    serial: Option<u64>,
    _room: OwnedSemaphorePermit,
}

impl Permit {
    /// The connection's client is accepted: it waits no more.
    pub fn accepted(&mut self) {
        if let Some(serial) = self.serial.take() {
            self.limiter.waiting.lock().handles.remove(&serial);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.accepted();
        if let Some(addresses) = &self.limiter.addresses {
            addresses.leave(self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, ingest::limits::WAITING_MAX, mqtt::fault::Fault};
    use tokio_util::sync::CancellationToken;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn enter(limiter: &Arc<ConnectionLimiter>, from: &str) -> Option<(DisconnectHandle, Permit)> {
        let disconnect = DisconnectHandle::new(&CancellationToken::new());
        let room = limiter.room().await.unwrap();
        Some((disconnect.clone(), limiter.enter(address(from), &disconnect, room)?))
    }

    #[tokio::test]
    async fn the_oldest_that_waits_gives_way_and_one_with_a_permit_does_not() {
        let limiter = ConnectionLimiter::new(&Settings::default());
        let mut accepted = enter(&limiter, "127.0.0.1").await.unwrap();
        accepted.1.accepted();
        let mut waiting = vec![];
        for _ in 0..WAITING_MAX {
            waiting.push(enter(&limiter, "127.0.0.1").await.unwrap());
        }
        assert!(waiting.iter().all(|(disconnect, _)| disconnect.cause().is_none()));
        waiting.remove(1);
        let _in_the_gap = enter(&limiter, "127.0.0.1").await.unwrap();
        assert_eq!(waiting[0].0.cause(), None);
        let _one_more = enter(&limiter, "127.0.0.1").await.unwrap();
        assert_eq!(waiting[0].0.cause(), Some(Fault::PushedOut));
        assert_eq!(waiting[1].0.cause(), None);
        assert_eq!(accepted.0.cause(), None);
    }

    #[tokio::test]
    async fn an_address_has_its_share_and_gets_it_back() {
        let settings = Settings { connections_per_address_max: Some(2), ..Settings::default() };
        let limiter = ConnectionLimiter::new(&settings);
        let first = enter(&limiter, "10.0.0.1").await.unwrap();
        let _mapped = enter(&limiter, "::ffff:10.0.0.1").await.unwrap();
        assert!(enter(&limiter, "10.0.0.1").await.is_none());
        let _other = enter(&limiter, "10.0.0.2").await.unwrap();
        let _networks =
            [enter(&limiter, "2001:db8::1").await.unwrap(), enter(&limiter, "2001:db8::2").await.unwrap()];
        assert!(enter(&limiter, "2001:db8::3").await.is_none(), "one network of 64 bits");
        drop(first);
        assert!(enter(&limiter, "10.0.0.1").await.is_some());
        drop(_other);
        assert!(!limiter.addresses.as_ref().unwrap().counts.lock().contains_key(&address("10.0.0.2")));
    }

    #[test]
    fn the_rate_allows_a_burst_and_then_its_rate() {
        let settings = Settings { connections_per_s_max: 10, ..Settings::default() };
        let (limiter, now) = (ConnectionLimiter::new(&settings), clock::monotonic());
        let free = (0..100).take_while(|_| limiter.pace(now).is_none()).count();
        assert_eq!(free, 10 * ACCEPT_BURST.as_secs() as usize);
        assert_eq!(limiter.pace(now), Some(now + Duration::from_millis(200)));
    }
}

//! Who has to leave when too many are connected: a permit for each connection, which knows since
//! when its client is waited for.
//!
//! ```text
//!   enter ──▶ waits for the client ──request is whole──▶ works ──answer──▶ waits for the client …
//!              └ since: the beginning, the last answer, or the last bytes that the client took
//! ```
//! A client that sends bytes without coming to an end is waited for all the same, so only bytes
//! that it *takes* count. It closes nothing itself: the connection does, when it is told.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// In place of a time: the gateway works, and waits for nobody.
const WORKS: u64 = u64::MAX;
/// A stalled client is noticed so much later than it should be at the most.
const STALL_LOOK: Duration = Duration::from_secs(1);

/// The permits that are out.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    began: Instant,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    serial: u64,
    permits: BTreeMap<u64, Arc<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// Milliseconds since the limiter began, or [`WORKS`].
    since_ms: AtomicU64,
    leave: CancellationToken,
}

impl Default for ConnectionLimiter {
    fn default() -> Self {
        Self { began: clock::monotonic(), taken: Arc::default() }
    }
}

impl ConnectionLimiter {
    /// A permit for one connection more.
    pub fn enter(&self) -> Arc<Permit> {
        let mut taken = self.taken.lock();
        taken.serial += 1;
        let serial = taken.serial;
        let waiting = Arc::new(Waiting { since_ms: AtomicU64::new(0), leave: CancellationToken::new() });
        taken.permits.insert(serial, waiting.clone());
        drop(taken);
        let permit = Permit {
            began: self.began,
            taken: self.taken.clone(),
            serial,
            waiting,
            is_writing: false.into(),
        };
        permit.waits();
        Arc::new(permit)
    }

    /// Tells the connection that keeps the gateway waiting longest to leave; false if none does.
    pub fn push_out(&self) -> bool {
        self.taken.lock().first().map(|permit| permit.leave.cancel()).is_some()
    }

    /// For how long that connection has kept the gateway waiting.
    pub fn longest_wait(&self) -> Option<Duration> {
        let since_ms = self.taken.lock().first()?.since_ms.load(Ordering::Relaxed);
        let now_ms = clock::monotonic().saturating_duration_since(self.began).as_millis() as u64;
        Some(Duration::from_millis(now_ms.saturating_sub(since_ms)))
    }
}

impl Taken {
    /// The one that would have to leave.
    fn first(&self) -> Option<&Arc<Waiting>> {
        let since = |(serial, permit): (&u64, &Arc<Waiting>)| {
            (!permit.leave.is_cancelled()).then(|| (*serial, permit.since_ms.load(Ordering::Relaxed)))
        };
        self.permits.get(&longest(self.permits.iter().filter_map(since))?)
    }
}

/// Of connections and the times since when they are waited for, the one that is waited for longest.
fn longest(waits: impl Iterator<Item = (u64, u64)>) -> Option<u64> {
    waits
        .filter(|(_, since_ms)| *since_ms != WORKS)
        .min_by_key(|(_, since_ms)| *since_ms)
        .map(|(serial, _)| serial)
}

/// A connection's permit, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    began: Instant,
    taken: Arc<Mutex<Taken>>,
    serial: u64,
    waiting: Arc<Waiting>,
    /// Something is to be written that the client's socket does not take.
    is_writing: AtomicBool,
}

impl Permit {
    /// The gateway works for this client until what is given is dropped.
    pub fn working(self: &Arc<Self>) -> Working {
        self.waiting.since_ms.store(WORKS, Ordering::Relaxed);
        Working(self.clone())
    }

    /// Resolves when another connection needs the permit. Cancel-safe.
    pub async fn pushed_out(&self) {
        self.waiting.leave.cancelled().await;
    }

    /// Resolves when the client has taken nothing of what is to be written for as long as `limit`.
    /// Cancel-safe.
    pub async fn stalled(&self, limit: Duration) {
        loop {
            sleep(STALL_LOOK.min(limit)).await;
            let since_ms = self.waiting.since_ms.load(Ordering::Relaxed);
            let waits_ms = self.now_ms().saturating_sub(since_ms);
            if self.is_writing.load(Ordering::Relaxed) && Duration::from_millis(waits_ms) >= limit {
                return;
            }
        }
    }

    fn waits(&self) {
        self.waiting.since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        clock::monotonic().saturating_duration_since(self.began).as_millis() as u64
    }

    /// How a write went: the client took some, or none.
    fn wrote(&self, some: bool) {
        self.is_writing.store(!some, Ordering::Relaxed);
        if some && self.waiting.since_ms.load(Ordering::Relaxed) != WORKS {
            self.waits();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.lock().permits.remove(&self.serial);
    }
}

/// The gateway works.
#[derive(Debug)]
pub(super) struct Working(Arc<Permit>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.waits();
    }
}

/// A socket that tells its permit when the client takes bytes.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    permit: Arc<Permit>,
}

impl Watched {
    pub fn new(stream: TcpStream, permit: Arc<Permit>) -> Self {
        Self { stream, permit }
    }

    fn told(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.permit.wrote(wrote.is_ready());
        wrote
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.told(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.told(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_is_waited_for_longest_leaves_and_one_that_waits_for_the_gateway_does_not() {
        for (waits, leaves) in [
            (&[][..], None),
            (&[(1, 5)], Some(1)),
            (&[(1, 5), (2, 4)], Some(2)),
            (&[(1, 5), (2, 5)], Some(1)),
            (&[(1, WORKS), (2, 9)], Some(2)),
            (&[(1, WORKS), (2, WORKS)], None),
        ] {
            assert_eq!(longest(waits.iter().copied()), leaves, "{waits:?}");
        }
    }

    #[test]
    fn a_permit_is_told_once_to_leave_and_is_free_when_it_is_dropped() {
        let limiter = ConnectionLimiter::default();
        let (first, second) = (limiter.enter(), limiter.enter());
        let working = first.working();
        assert!(limiter.push_out() && second.waiting.leave.is_cancelled());
        assert!(!limiter.push_out(), "the other one works");
        drop(working);
        assert!(limiter.push_out() && first.waiting.leave.is_cancelled());
        drop((first, second));
        assert!(limiter.taken.lock().permits.is_empty());
    }
}

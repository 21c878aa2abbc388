//! A TCP proxy that makes trouble: the network between the gateway and its upstream.
//!
//! ```text
//!  client ── up: delay, throttle ──▶ proxy ──▶ target
//!         ◀── down: delay, throttle, lost PUBACKs, cut after n bytes ──
//!  the link as a whole: open · cut · reset · half-open · silent
//! ```
//! Rules change while it runs and hold from the next bytes on, for connections that are open as
//! for new ones. What is chosen by chance is chosen by the test, from its seed: see [`flap`].
//!
//! Limits: [`PIPE_CHUNKS`] reads are under way in each direction. A throttled one reads little at a
//! time; what the kernel buffers before it is the kernel's affair.

mod acks;
mod flapping;
mod rules;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::sleep_until,
};

use self::acks::AckFilter;
pub use self::{
    flapping::{Fault, flap},
    rules::{Acks, Link, Rules, Way},
};
use crate::clock::now;

/// Reads that are on their way in one direction, at most.
const PIPE_CHUNKS: usize = 64;
/// Read at once, in bytes.
const CHUNK_BYTES: usize = 1 << 16;
/// A throttled direction reads at once what passes in this time, and no less than this.
const SLICE: Duration = Duration::from_millis(20);
const SLICE_BYTES_MIN: usize = 16;

/// What has happened so far.
#[derive(Debug, Default)]
struct Counts {
    cuts: AtomicU64,
    turned_away: AtomicU64,
    acks: AtomicU64,
    dropped_acks: AtomicU64,
}

/// A running proxy. Ends with the value.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    rules: watch::Sender<Rules>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that leads to `target` and makes no trouble.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (rules, watched) = watch::channel(Rules::default());
        let counts = Arc::<Counts>::default();
        let task = tokio::spawn(accept(listener, target, watched, counts.clone()));
        Self { address, rules, counts, task }
    }

    /// Changes what the link does, and no other rule.
    pub fn set(&self, link: Link) {
        self.rules.send_modify(|rules| rules.link = link);
    }

    /// Changes all rules.
    pub fn set_rules(&self, rules: Rules) {
        self.rules.send_replace(rules);
    }

    /// Open connections that a cut or a reset has closed.
    #[must_use]
    pub fn cut_connections(&self) -> u64 {
        self.counts.cuts.load(Ordering::Relaxed)
    }

    /// Connections that came while the link was cut or reset.
    #[must_use]
    pub fn turned_away(&self) -> u64 {
        self.counts.turned_away.load(Ordering::Relaxed)
    }

    /// PUBACKs that were lost.
    #[must_use]
    pub fn dropped_acks(&self) -> u64 {
        self.counts.dropped_acks.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let link = rules.borrow().link;
        if matches!(link, Link::Cut | Link::Reset) {
            counts.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        match link {
            Link::Cut => {}
            Link::Reset => drop(client.set_zero_linger()),
            Link::Open | Link::HalfOpen | Link::Silent => {
                connections.spawn(carry(client, target, rules.clone(), counts.clone()));
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries one connection to its end.
async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    mut rules: watch::Receiver<Rules>,
    counts: Arc<Counts>,
) {
    let _ = client.set_nodelay(true);
    let silent = rules.borrow_and_update().link == Link::Silent;
    if silent {
        return swallow(client, rules).await;
    }
    if rules.wait_for(|rules| rules.link != Link::HalfOpen).await.is_err() {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let _ = server.set_nodelay(true);
    let mut end = rules.clone();
    let link = {
        let ((client_read, client_write), (server_read, server_write)) = (client.split(), server.split());
        let mut filter = DownFilter::new(rules.clone(), &counts);
        let up = pump(client_read, server_write, rules.clone(), |rules| rules.up, |bytes| (bytes, false));
        let down = pump(server_read, client_write, rules, |rules| rules.down, |bytes| filter.pass(bytes));
        let ended = async {
            let link = end.wait_for(|rules| !matches!(rules.link, Link::Open | Link::HalfOpen)).await;
            link.map_or(Link::Cut, |rules| rules.link)
        };
        tokio::select! {
            () = up => return,
            () = down => return,
            link = ended => link,
        }
    };
    match link {
        Link::Silent => return swallow(client, end).await,
        Link::Reset => drop((client.set_zero_linger(), server.set_zero_linger())),
        Link::Cut | Link::Open | Link::HalfOpen => {}
    }
    counts.cuts.fetch_add(1, Ordering::Relaxed);
}

/// Reads what the client sends and says nothing, until the link is something else; then resets it.
async fn swallow(mut client: TcpStream, mut rules: watch::Receiver<Rules>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let reading = async { while let Ok(1..) = client.read(&mut buffer).await {} };
    tokio::select! {
        () = reading => {}
        _ = rules.wait_for(|rules| rules.link != Link::Silent) => {}
    }
    let _ = client.set_zero_linger();
}

/// What happens to bytes on the way to the client.
struct DownFilter<'a> {
    acks: AckFilter,
    bytes: u64,
    rules: watch::Receiver<Rules>,
    counts: &'a Counts,
}

impl<'a> DownFilter<'a> {
    fn new(rules: watch::Receiver<Rules>, counts: &'a Counts) -> Self {
        Self { acks: AckFilter::default(), bytes: 0, rules, counts }
    }

    /// What passes, and whether the connection is cut behind it.
    fn pass(&mut self, bytes: Bytes) -> (Bytes, bool) {
        let rules = *self.rules.borrow();
        let counts = self.counts;
        let mut passed = self.acks.pass(bytes, || {
            let ack = counts.acks.fetch_add(1, Ordering::Relaxed) + 1;
            let dropped = match rules.acks {
                Acks::Pass => false,
                Acks::DropOneIn(every) => ack % every == 0,
                Acks::DropAll => true,
            };
            counts.dropped_acks.fetch_add(dropped.into(), Ordering::Relaxed);
            dropped
        });
        let mut is_cut = false;
        if let Some(most) = rules.cut_after_bytes {
            let left = most.saturating_sub(self.bytes);
            is_cut = passed.len() as u64 >= left;
            passed.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            counts.cuts.fetch_add(is_cut.into(), Ordering::Relaxed);
        }
        self.bytes += passed.len() as u64;
        (passed, is_cut)
    }
}

/// Carries one direction to its end. `filter` gives what passes, and whether that is the last.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    rules: watch::Receiver<Rules>,
    way: impl Fn(&Rules) -> Way,
    mut filter: impl FnMut(Bytes) -> (Bytes, bool),
) {
    let (pipe_in, mut pipe_out) = mpsc::channel::<(Instant, Bytes)>(PIPE_CHUNKS);
    let mut reading = rules.clone();
    let read = async {
        let mut buffer = BytesMut::new();
        // Dropped at the end, so that the writer ends when it has written all.
        let pipe_in = pipe_in;
        while let Ok(now_rules) = moving(&mut reading).await {
            let most = slice_bytes(way(&now_rules).bytes_per_s);
            buffer.reserve(most);
            let Ok(1..) = (&mut from).take(most as u64).read_buf(&mut buffer).await else { return };
            let due = now() + way(&reading.borrow()).delay;
            if pipe_in.send((due, buffer.split().freeze())).await.is_err() {
                return;
            }
        }
    };
    let mut writing = rules;
    let write = async {
        let mut passed_at = now();
        while let Some((due, bytes)) = pipe_out.recv().await {
            if due > now() {
                sleep_until(due.into()).await;
            }
            let Ok(now_rules) = moving(&mut writing).await else { return };
            let (bytes, is_last) = filter(bytes);
            if let Some(rate) = way(&now_rules).bytes_per_s {
                let lasts = Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate));
                passed_at = passed_at.max(now()) + lasts;
                sleep_until(passed_at.into()).await;
            }
            if to.write_all(&bytes).await.is_err() || is_last {
                return;
            }
        }
    };
    // A writer that ends ends the connection; a reader that does lets the writer finish.
    let read = async {
        read.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}

/// The rules of the moment, once bytes move.
async fn moving(rules: &mut watch::Receiver<Rules>) -> Result<Rules, watch::error::RecvError> {
    rules.wait_for(|rules| rules.link != Link::HalfOpen).await.map(|rules| *rules)
}

fn slice_bytes(bytes_per_s: Option<u32>) -> usize {
    let Some(rate) = bytes_per_s else { return CHUNK_BYTES };
    ((f64::from(rate) * SLICE.as_secs_f64()) as usize).clamp(SLICE_BYTES_MIN, CHUNK_BYTES)
}

#[cfg(test)]
mod tests;

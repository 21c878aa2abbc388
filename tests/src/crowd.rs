//! A crowd: thousands of clients in a process of their own, most of them idle, that come back
//! whenever they are cut off.
//!
//! ```text
//!   test ──stdin: how many clients──▶ crowd (process) ──MQTT──▶ gateway
//!        ◀─stdout: a line of counts──┘   ends with its standard input
//! ```
//! A process each, because one has no file descriptors for all. Every other client speaks MQTT 5.
//! The first ones publish at a steady pace with QoS 1, the others say nothing. A client that was
//! refused or cut off tries again after a pause that grows and is drawn by lot, as a device's is.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::Client,
    codec::{Connect, Packet, Publish, Version},
    rng::Rng,
};

/// How often a crowd says how it is.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// Pauses before a client tries again, in milliseconds: the first, and the longest.
const PAUSE_MS: u64 = 500;
const PAUSE_MS_MAX: u64 = 4000;
/// Between two publishes of one client.
const PUBLISH_EVERY: Duration = Duration::from_millis(100);
/// Longest wait for a CONNACK: the gateway may be slow to accept, and a client that gives up makes
/// it no faster.
const CONNACK_LIMIT: Duration = Duration::from_secs(60);

/// How a crowd is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Clients connected now.
    pub connected: u64,
    /// Refusals with the code for "server busy" so far.
    pub busy: u64,
    /// Connections that were refused otherwise, or not answered, so far.
    pub failed: u64,
    /// Connections lost after CONNACK so far.
    pub lost: u64,
    /// Publishes acknowledged so far.
    pub acked: u64,
}

impl Counts {
    fn read(line: &str) -> Option<Self> {
        let mut numbers = line.split(' ').map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self { connected: next()?, busy: next()?, failed: next()?, lost: next()?, acked: next()? })
    }
}

/// A crowd's process, as the test sees it. Killed with the value.
#[derive(Debug)]
pub struct Crowd {
    child: Child,
    input: ChildStdin,
    counts: Arc<Mutex<Counts>>,
}

impl Crowd {
    /// Starts `program`, which calls [`run`], without a client: `publishers` of those to come
    /// publish.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(program: &Path, gateway: SocketAddr, name: &str, publishers: usize) -> Self {
        let mut child = Command::new(program)
            .args([gateway.to_string(), name.to_owned(), publishers.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let input = child.stdin.take().expect("it was piped");
        let output = BufReader::new(child.stdout.take().expect("it was piped"));
        let counts = Arc::new(Mutex::new(Counts::default()));
        let told = counts.clone();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                *told.lock() = Counts::read(&line).unwrap_or_else(|| panic!("no counts: {line}"));
            }
        });
        Self { child, input, counts }
    }

    /// Has so many clients from now on, if there were fewer.
    ///
    /// # Panics
    /// The process is gone.
    pub fn grow(&mut self, clients: usize) {
        writeln!(self.input, "{clients}").expect("the crowd is there");
    }

    /// How it was a moment ago.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.lock()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
struct Tally {
    connected: AtomicU64,
    busy: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    acked: AtomicU64,
}

/// The crowd's own process, until its standard input ends.
///
/// # Errors
/// The arguments are wrong, or there is no runtime.
pub fn run(arguments: &[String]) -> io::Result<()> {
    let [_, gateway, name, publishers] = arguments else { return Err(wrong("ADDRESS NAME PUBLISHERS")) };
    let gateway: SocketAddr = gateway.parse().map_err(|_| wrong(gateway))?;
    let publishers: usize = publishers.parse().map_err(|_| wrong(publishers))?;
    raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    {
        let tally = tally.clone();
        runtime.spawn(async move {
            loop {
                sleep(REPORT_INTERVAL).await;
                let Tally { connected, busy, failed, lost, acked } = &*tally;
                let [connected, busy, failed, lost, acked] =
                    [connected, busy, failed, lost, acked].map(|count| count.load(Ordering::Relaxed));
                println!("{connected} {busy} {failed} {lost} {acked}");
            }
        });
    }
    for line in io::stdin().lines() {
        let wanted: usize = line?.parse().map_err(|_| wrong("a number of clients"))?;
        for n in clients.len()..wanted {
            let client = live(gateway, name.clone(), n, n < publishers, tally.clone());
            clients.spawn_on(client, runtime.handle());
        }
    }
    Ok(())
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what.to_owned())
}

/// Lets this process have as many files as the system allows.
///
/// # Errors
/// The system refuses.
pub fn raise_file_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// One client, for ever.
async fn live(gateway: SocketAddr, name: String, n: usize, publishes: bool, tally: Arc<Tally>) {
    let client_id = format!("{name}-{n}");
    let version = if n.is_multiple_of(2) { Version::V311 } else { Version::V5 };
    let mut rng = Rng::new(n as u64);
    let mut pause_ms = PAUSE_MS;
    loop {
        let connect = Connect { version, client_id: &client_id, clean: true, keep_alive_s: 600 };
        match tokio::time::timeout(CONNACK_LIMIT, Client::connect(gateway, &connect)).await {
            Ok(Ok(mut client)) => {
                pause_ms = PAUSE_MS;
                tally.connected.fetch_add(1, Ordering::Relaxed);
                let _ = stay(&mut client, &client_id, publishes, &tally).await;
                tally.connected.fetch_sub(1, Ordering::Relaxed);
                tally.lost.fetch_add(1, Ordering::Relaxed);
            }
            Ok(Err(error)) if is_busy(&error, version) => {
                tally.busy.fetch_add(1, Ordering::Relaxed);
            }
            _ => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep(Duration::from_millis(rng.between(pause_ms / 2, pause_ms))).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS_MAX);
    }
}

/// Whether the CONNACK said "server unavailable" (3.1.1) or "server busy" (5).
fn is_busy(error: &io::Error, version: Version) -> bool {
    let code = if version == Version::V5 { "137" } else { "3" };
    error.kind() == io::ErrorKind::PermissionDenied && error.to_string() == code
}

/// Until the connection is lost.
async fn stay(client: &mut Client, topic: &str, publishes: bool, tally: &Tally) -> io::Result<()> {
    let mut pace = tokio::time::interval(PUBLISH_EVERY);
    let mut packet_id = 0;
    loop {
        tokio::select! {
            packet = client.read_packet() => {
                if matches!(packet?, Packet::Ack { .. }) {
                    tally.acked.fetch_add(1, Ordering::Relaxed);
                }
            }
            _ = pace.tick(), if publishes => {
                packet_id = packet_id % u16::MAX + 1;
                client.put_publish(&Publish {
                    topic,
                    payload: b"the payload of one in a crowd, 40 bytes",
                    qos: 1,
                    packet_id,
                    dup: false,
                    user_properties: &[],
                });
                client.flush().await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_counts_is_read() {
        let counts = Counts { connected: 1, busy: 2, failed: 3, lost: 4, acked: 5 };
        assert_eq!(Counts::read("1 2 3 4 5"), Some(counts));
        assert_eq!(Counts::read("1 2"), None);
    }
}

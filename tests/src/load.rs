//! The load of the benchmarks: QoS 1 publishers and an upstream that cost far less than what is
//! measured.
//!
//! A publisher's packets are made once, as a ring of one window; sending is writing slices of it,
//! and an acknowledgement is four bytes that are counted and not parsed. That holds for MQTT 3.1.1,
//! where PUBACK has one form only. The upstream walks packet heads, and answers what one read held
//! with one write.
//!
//! It counts and checks nothing else: what must not be lost or altered is the scenarios' to find.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    clock,
    codec::{self, Connect, Publish, Version},
    dial::{self, Dial, Login, Plain},
};

/// Payload size of the promised figures, in bytes.
pub const PAYLOAD_BYTES: usize = 40;
/// Size of a PUBACK of MQTT 3.1.1, in bytes.
pub(crate) const PUBACK_BYTES: usize = 4;
const BUFFER_BYTES: usize = 256 << 10;
/// Longest wait of a blocking read before it looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Publishers on one thread.
#[derive(Debug)]
pub struct Publishers {
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Publishers {
    /// Starts `clients` connections with `window` events in flight each. They end when they are
    /// stopped, or once all of them together have had `events_max` acknowledged.
    #[must_use]
    pub fn start(target: SocketAddr, clients: usize, window: usize, events_max: Option<u64>) -> Self {
        Self::start_by(&Plain::new(target, Login::Nobody), clients, window, events_max)
    }

    /// Starts them with connections of another kind.
    #[must_use]
    pub fn start_by<D: Dial>(dial: &D, clients: usize, window: usize, events_max: Option<u64>) -> Self {
        let (stop, acked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let each_max = events_max.map_or(u64::MAX, |events| events / clients as u64);
        let (dial, stopped, counter) = (dial.clone(), stop.clone(), acked.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut tasks = tokio::task::JoinSet::new();
                for client in 0..clients {
                    let (stop, acked) = (stopped.clone(), counter.clone());
                    tasks.spawn(publish(dial.clone(), client, window, each_max, stop, acked));
                }
                while let Some(ended) = tasks.join_next().await {
                    ended.map_err(io::Error::other)??;
                }
                Ok(())
            })
        });
        Self { stop, acked, thread }
    }

    /// Acknowledgements so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Nothing new; gives the acknowledgements once all in flight are acknowledged.
    ///
    /// # Errors
    /// A connection was lost.
    pub fn finish(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for `events_max`.
    ///
    /// # Errors
    /// A connection was lost.
    ///
    /// # Panics
    /// The load itself is broken.
    pub fn join(self) -> io::Result<u64> {
        self.thread.join().expect("the load does not panic")?;
        Ok(self.acked.load(Ordering::Relaxed))
    }
}

async fn publish<D: Dial>(
    dial: D,
    client: usize,
    window: usize,
    events_max: u64,
    stop: Arc<AtomicBool>,
    acked: Arc<AtomicU64>,
) -> io::Result<()> {
    let mut stream = dial::connect(&dial, client).await?;
    let ring = ring(client, window);
    let size = ring.len() / window;
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut buffer = vec![0; PUBACK_BYTES * window];
    let mut filled = 0;
    loop {
        let room = (window as u64 - (sent - received)).min(events_max - sent);
        if room > 0 && !stop.load(Ordering::Relaxed) {
            let at = (sent % window as u64) as usize;
            let until_end = (room as usize).min(window - at);
            stream.write_all(&ring[at * size..(at + until_end) * size]).await?;
            stream.write_all(&ring[..(room as usize - until_end) * size]).await?;
            // TLS keeps what the socket did not take; plain, there is nothing to do.
            stream.flush().await?;
            sent += room;
        } else if sent == received {
            return Ok(());
        }
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let acks = filled / PUBACK_BYTES;
        if buffer[0] != 0x40 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no PUBACK: {:#x}", buffer[0])));
        }
        buffer.copy_within(acks * PUBACK_BYTES..filled, 0);
        filled -= acks * PUBACK_BYTES;
        received += acks as u64;
        acked.fetch_add(acks as u64, Ordering::Relaxed);
    }
}

pub(crate) fn connect_packet(client_id: &str) -> BytesMut {
    let mut out = BytesMut::new();
    codec::put_connect(
        &mut out,
        &Connect { version: Version::V311, client_id, clean: true, keep_alive_s: 600 },
    );
    out
}

/// One window of PUBLISH packets of equal size, with the packet ids 1 to `window`.
pub(crate) fn ring(client: usize, window: usize) -> BytesMut {
    let mut out = BytesMut::new();
    for packet_id in 1..=window as u16 {
        let payload = format!("{client:08}{packet_id:032}");
        put_publish(&mut out, client, packet_id, payload.as_bytes());
    }
    out
}

fn put_publish(out: &mut BytesMut, client: usize, packet_id: u16, payload: &[u8]) {
    debug_assert_eq!(payload.len(), PAYLOAD_BYTES);
    let topic = format!("plant/m{client:04}/v");
    let publish = Publish { topic: &topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] };
    codec::put_publish(out, Version::V311, &publish);
}

/// Publishes one event each `interval` for `duration`, each with the time of its sending in it,
/// over one connection. Gives how many.
///
/// # Errors
/// The connection was lost.
pub fn publish_paced(target: SocketAddr, interval: Duration, duration: Duration) -> io::Result<u64> {
    let mut stream = TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect_packet("paced"))?;
    stream.read_exact(&mut [0; 4])?;
    let mut reader = stream.try_clone()?;
    let count = (duration.as_nanos() / interval.as_nanos()) as u64;
    let acks = std::thread::spawn(move || reader.read_exact(&mut vec![0; count as usize * PUBACK_BYTES]));
    let start = clock::now();
    let mut out = BytesMut::new();
    for n in 0..count {
        let due = interval * n as u32;
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let payload = format!("{:020}{n:020}", clock::nanos());
        put_publish(&mut out, 0, (n % 65_535) as u16 + 1, payload.as_bytes());
        stream.write_all(&out)?;
        out.clear();
    }
    acks.join().expect("the reader does not panic")?;
    Ok(count)
}

/// The upstream of the benchmarks: acknowledges and counts. It listens until it is dropped.
#[derive(Debug)]
pub struct Sink {
    shared: Arc<SinkShared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct SinkShared {
    stop: AtomicBool,
    timed: AtomicBool,
    delivered: AtomicU64,
    /// Events per second that it takes at most; 0 is without a limit.
    rate_max: AtomicU64,
    /// When the first and the last event came, in [`clock::nanos`]; 0 before.
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    latencies_ns: Mutex<Vec<u64>>,
}

impl Sink {
    /// Starts one.
    ///
    /// # Panics
    /// The port is taken.
    #[must_use]
    pub fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        listener.set_nonblocking(true).expect("a listener can be set so");
        let shared = Arc::new(SinkShared::default());
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            std::thread::scope(|scope| {
                while !for_thread.stop.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => drop(scope.spawn(|| serve(stream, &for_thread))),
                        Err(_) => std::thread::sleep(LOOK_UP),
                    }
                }
            });
        });
        Self { shared, thread: Some(thread) }
    }

    /// Events acknowledged to the gateway so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.shared.delivered.load(Ordering::Relaxed)
    }

    /// From now on it takes so many events per second at most; 0 is without a limit.
    pub fn limit(&self, rate_max: u64) {
        self.shared.rate_max.store(rate_max, Ordering::Relaxed);
    }

    /// From the first event to the last so far.
    #[must_use]
    pub fn span(&self) -> Duration {
        let [first, last] =
            [&self.shared.first_ns, &self.shared.last_ns].map(|at| at.load(Ordering::Relaxed));
        Duration::from_nanos(last - first)
    }

    /// From now on the payloads are those of [`publish_paced`]: keep how long each was under way.
    pub fn time_each(&self) {
        self.shared.timed.store(true, Ordering::Relaxed);
    }

    /// How long each was under way, sorted.
    #[must_use]
    pub fn latencies(&self) -> Vec<Duration> {
        let mut all = self.shared.latencies_ns.lock().clone();
        all.sort_unstable();
        all.into_iter().map(Duration::from_nanos).collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Ends with the connection; its errors are the other side's to notice.
fn serve(mut stream: TcpStream, shared: &SinkShared) {
    let _ = (stream.set_nodelay(true), stream.set_nonblocking(false), stream.set_read_timeout(Some(LOOK_UP)));
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut filled, mut output) = (0, BytesMut::new());
    while !shared.stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => return,
            Ok(read) => filled += read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        }
        let (mut at, mut events) = (0, 0);
        while let Some((first, body, end)) = codec::frame(&buffer[at..filled]) {
            events += answer(first, &buffer[at + body..at + end], shared, &mut output);
            at += end;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if stream.write_all(&output).is_err() {
            return;
        }
        output.clear();
        if events > 0 {
            let now = clock::nanos();
            let _ = shared.first_ns.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            shared.last_ns.store(now, Ordering::Relaxed);
            shared.delivered.fetch_add(events, Ordering::Relaxed);
            let rate_max = shared.rate_max.load(Ordering::Relaxed);
            if let Some(due_ns) = (events * 1_000_000_000).checked_div(rate_max) {
                std::thread::sleep(Duration::from_nanos(due_ns));
            }
        }
    }
}

/// Answers one packet of MQTT 3.1.1; 1 for an event.
fn answer(first: u8, body: &[u8], shared: &SinkShared, output: &mut BytesMut) -> u64 {
    match first >> 4 {
        1 => codec::put_connack(output, Version::V311, false, &[]),
        3 => {
            let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
            if first & 6 != 0 {
                output.extend_from_slice(&[0x40, 2, body[id], body[id + 1]]);
            }
            if shared.timed.load(Ordering::Relaxed) {
                let sent =
                    std::str::from_utf8(&body[id + 2..id + 22]).ok().and_then(|text| text.parse().ok());
                let now = clock::nanos();
                shared.latencies_ns.lock().push(now.saturating_sub(sent.unwrap_or(now)));
            }
            return 1;
        }
        8 => codec::put_suback(output, Version::V311, u16::from_be_bytes([body[0], body[1]]), 1),
        12 => codec::put_pingresp(output),
        _ => {}
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_and_sink_count_the_same_face_to_face() {
        let address = crate::ports::free_address();
        let sink = Sink::start(address);
        let acked = Publishers::start(address, 3, 10, Some(30_000)).join().unwrap();
        assert_eq!((acked, sink.delivered()), (30_000, 30_000));
        sink.time_each();
        let count = publish_paced(address, Duration::from_millis(1), Duration::from_millis(50)).unwrap();
        clock::wait_blocking("the last one", LOOK_UP * 50, || sink.delivered() == 30_000 + count);
        let latencies = sink.latencies();
        assert_eq!(latencies.len(), 50);
        assert!(latencies[49] < Duration::from_secs(1) && latencies[0] > Duration::ZERO);
    }
}

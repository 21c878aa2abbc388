//! A load that does not give way: so many events per second, whatever becomes of them, and how long
//! each acknowledgement takes.
//!
//! One thread writes a burst each millisecond, to one connection after the other; a thread for each
//! connection waits for the acknowledgements. A time is taken from just before the burst is
//! written, so it holds what the gateway and the machine make of it, and not the load's own
//! lateness: that shows in the rate.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    clock,
    load::{self, PUBACK_BYTES},
};

/// Connections.
const CLIENTS: usize = 20;
/// Events of one write.
const BURST_EVENTS: usize = 20;
const BURST_EVERY: Duration = Duration::from_millis(1);
/// Packet ids of a connection: the bursts of a second.
const RING_EVENTS: usize = 50 * BURST_EVENTS;
/// Longest wait of a blocking read before it looks whether to stop.
const LOOK_UP: Duration = Duration::from_millis(20);

/// Events per second.
pub const RATE: u64 = (BURST_EVENTS as u64) * 1000 / (BURST_EVERY.as_millis() as u64);

/// The load, under way.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Duration>>>,
    writer: JoinHandle<io::Result<()>>,
    readers: Vec<JoinHandle<io::Result<()>>>,
    lap_begun: Instant,
    acked: u64,
}

/// What was acknowledged in a stretch of time.
#[derive(Debug)]
pub struct Lap {
    /// Acknowledgements per second.
    pub rate: f64,
    /// From write to acknowledgement, sorted.
    acks: Vec<Duration>,
}

impl Lap {
    /// The time within which this part of the events was acknowledged, in milliseconds; 0 without
    /// any.
    #[must_use]
    pub fn ms(&self, part: f64) -> f64 {
        let at = (self.acks.len().saturating_sub(1) as f64 * part) as usize;
        self.acks.get(at).map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
    }
}

/// One connection as its two threads share it: when each burst was written.
type Written = Arc<Mutex<VecDeque<Instant>>>;

impl Steady {
    /// Connects and starts.
    ///
    /// # Errors
    /// The gateway is not there.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let (stop, acks) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let mut connections = Vec::new();
        let mut readers = Vec::new();
        for client in 0..CLIENTS {
            let mut stream = TcpStream::connect(target)?;
            stream.set_nodelay(true)?;
            stream.write_all(&load::connect_packet(&format!("steady-{client}")))?;
            stream.read_exact(&mut [0; 4])?;
            stream.set_read_timeout(Some(LOOK_UP))?;
            let (reader, written, stopped, acks) =
                (stream.try_clone()?, Written::default(), stop.clone(), acks.clone());
            connections.push((stream, written.clone()));
            readers.push(std::thread::spawn(move || read(reader, &written, &stopped, &acks)));
        }
        let stopped = stop.clone();
        let writer = std::thread::spawn(move || write(connections, &stopped));
        Ok(Self { stop, acks, writer, readers, lap_begun: clock::now(), acked: 0 })
    }

    /// What was acknowledged since the start, or since the last lap.
    pub fn lap(&mut self) -> Lap {
        let mut acks = std::mem::take(&mut *self.acks.lock());
        let seconds = self.lap_begun.elapsed().as_secs_f64();
        self.lap_begun = clock::now();
        self.acked += acks.len() as u64;
        acks.sort_unstable();
        Lap { rate: acks.len() as f64 / seconds, acks }
    }

    /// Writes nothing more and waits until all is acknowledged; gives how many that were, from the
    /// start.
    ///
    /// # Errors
    /// A connection was lost.
    ///
    /// # Panics
    /// The load itself is broken.
    pub fn finish(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().expect("the load does not panic")?;
        for reader in self.readers {
            reader.join().expect("the load does not panic")?;
        }
        Ok(self.acked + self.acks.lock().len() as u64)
    }
}

fn write(mut connections: Vec<(TcpStream, Written)>, stop: &AtomicBool) -> io::Result<()> {
    let rings: Vec<_> = (0..CLIENTS).map(|client| load::ring(client, RING_EVENTS)).collect();
    let begun = clock::now();
    for burst in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        std::thread::sleep((BURST_EVERY * burst).saturating_sub(begun.elapsed()));
        let client = burst as usize % CLIENTS;
        let burst_bytes = rings[client].len() / RING_EVENTS * BURST_EVENTS;
        let at = burst as usize / CLIENTS * burst_bytes % rings[client].len();
        let (stream, written) = &mut connections[client];
        written.lock().push_back(clock::now());
        stream.write_all(&rings[client][at..at + burst_bytes])?;
    }
    Ok(())
}

/// Ends once it is stopped and no burst is left without its acknowledgements.
fn read(
    mut stream: TcpStream,
    written: &Mutex<VecDeque<Instant>>,
    stop: &AtomicBool,
    acks: &Mutex<Vec<Duration>>,
) -> io::Result<()> {
    let mut buffer = vec![0; RING_EVENTS * PUBACK_BYTES];
    let (mut received_bytes, mut done) = (0, 0);
    while !(stop.load(Ordering::Relaxed) && written.lock().is_empty()) {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => received_bytes += read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let (now, mut written, mut acks) = (clock::now(), written.lock(), acks.lock());
        while done < received_bytes / PUBACK_BYTES
            && let Some(at) = written.front()
        {
            acks.push(now - *at);
            done += 1;
            if done.is_multiple_of(BURST_EVENTS) {
                written.pop_front();
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Sink;

    #[test]
    fn every_event_of_a_steady_load_is_acknowledged_and_timed() {
        let address = crate::ports::free_address();
        let sink = Sink::start(address);
        let mut steady = Steady::start(address).unwrap();
        let (mut acks, mut longest) = (0, 0.0_f64);
        while acks < 2_000 {
            std::thread::sleep(LOOK_UP);
            let lap = steady.lap();
            acks += lap.acks.len();
            longest = longest.max(lap.ms(1.0));
        }
        let acked = steady.finish().unwrap();
        clock::wait_blocking("the sink to have counted them", LOOK_UP * 50, || sink.delivered() == acked);
        assert!(longest > 0.0, "{longest} ms");
    }
}

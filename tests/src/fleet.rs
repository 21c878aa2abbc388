//! Devices that publish as fast as they are acknowledged, reconnect by themselves, and remember
//! what they were told.
//!
//! They play by the standard: what was not acknowledged is sent again after a reconnect, in order
//! and with DUP; a QoS 2 event that was received is only released again. What the gateway answers
//! out of turn goes into the ledger.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    client::Client,
    clock::{now, within},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    oracle::{self, Ledger},
};

/// Pause between attempts to connect while the gateway is down.
const RECONNECT: Duration = Duration::from_millis(10);
/// Pause after a refusal: whoever is told that there is no room does not come again at once.
const REFUSED: Duration = Duration::from_millis(200);
/// Longest wait for CONNACK before the attempt is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How one device behaves.
#[derive(Debug, Clone)]
pub struct Device {
    /// Client id and name in the payloads.
    pub name: String,
    /// Protocol version.
    pub version: Version,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Events in flight at most.
    pub window: usize,
    /// Sends again what was not acknowledged. A device that does not loses it, and nobody promised
    /// otherwise.
    pub resends: bool,
    /// Events after which it stops.
    pub count_max: u32,
    /// Size of a payload, in bytes; at least [`oracle::PAYLOAD_BYTES`].
    pub payload_bytes: usize,
    /// Pause between two bursts; with QoS 0 there is no acknowledgement to wait for.
    pub pause: Option<Duration>,
    /// Events per second from the start on; what could not be sent meanwhile is caught up with.
    pub per_second: Option<u32>,
}

impl Device {
    /// A QoS 1 device with 100 events in flight that sends until the fleet is stopped.
    #[must_use]
    pub fn new(name: &str, version: Version) -> Self {
        Self {
            name: name.into(),
            version,
            qos: 1,
            window: 100,
            resends: true,
            count_max: u32::MAX,
            payload_bytes: oracle::PAYLOAD_BYTES,
            pause: None,
            per_second: None,
        }
    }
}

/// Over all devices.
#[derive(Debug, Default)]
struct Counts {
    acked: AtomicU64,
    refused: AtomicU64,
}

/// Devices at work.
#[derive(Debug)]
pub struct Fleet {
    stop: CancellationToken,
    counts: Arc<Counts>,
    tasks: JoinSet<Ledger>,
}

impl Fleet {
    /// Starts all of them.
    #[must_use]
    pub fn start(gateway: SocketAddr, devices: impl IntoIterator<Item = Device>) -> Self {
        let (stop, counts) = (CancellationToken::new(), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        for device in devices {
            let worker = Worker::new(device, counts.clone());
            tasks.spawn(worker.run(gateway, stop.clone()));
        }
        Self { stop, counts, tasks }
    }

    /// Events acknowledged so far, over all devices.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.counts.acked.load(Ordering::Relaxed)
    }

    /// Acknowledgements so far that said no (MQTT 5), over all devices.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Lets each device finish: nothing new, but everything in flight until it is acknowledged.
    ///
    /// # Panics
    /// They did not finish within `limit`.
    pub async fn finish(self, limit: Duration) -> Vec<Ledger> {
        self.stop.cancel();
        self.all(limit).await
    }

    /// Waits until each device has sent its `count_max` and all of it is acknowledged.
    ///
    /// # Panics
    /// They did not within `limit`.
    pub async fn all(self, limit: Duration) -> Vec<Ledger> {
        within("the devices to get their acknowledgements", limit, self.tasks.join_all()).await
    }
}

struct InFlight {
    count: u32,
    packet_id: u16,
    /// QoS 2: PUBREC is here, so only PUBREL may follow.
    received: bool,
}

struct Worker {
    device: Device,
    ledger: Ledger,
    in_flight: VecDeque<InFlight>,
    packet_id: u16,
    counts: Arc<Counts>,
    begun: Instant,
}

impl Worker {
    fn new(device: Device, counts: Arc<Counts>) -> Self {
        let (name, qos) = (device.name.clone(), device.qos);
        let ledger = Ledger { topic: oracle::topic_of(&name), name, qos, ..Ledger::default() };
        Self { device, ledger, in_flight: VecDeque::new(), packet_id: 0, counts, begun: now() }
    }

    async fn run(mut self, gateway: SocketAddr, stop: CancellationToken) -> Ledger {
        loop {
            if self.is_done(&stop) {
                return self.ledger;
            }
            let connect = Connect {
                version: self.device.version,
                client_id: &self.device.name.clone(),
                clean: self.device.qos < 2,
                keep_alive_s: 60,
            };
            let connecting = tokio::time::timeout(CONNECT_LIMIT, Client::connect(gateway, &connect));
            let mut pause = RECONNECT;
            if let Ok(Ok(client)) = connecting.await {
                self.ledger.connections += 1;
                match self.converse(client, &stop).await {
                    Ok(()) => return self.ledger,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        self.ledger.strange.push(format!("{}: {error}", self.ledger.name));
                        return self.ledger;
                    }
                    Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => pause = REFUSED,
                    Err(_) => {}
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn is_done(&self, stop: &CancellationToken) -> bool {
        self.in_flight.is_empty()
            && (stop.is_cancelled() || self.ledger.sends.len() >= self.device.count_max as usize)
    }

    /// One connection's life. `Ok` says that there is nothing left to do.
    async fn converse(&mut self, mut client: Client, stop: &CancellationToken) -> io::Result<()> {
        if self.device.resends {
            self.resend(&mut client);
        } else {
            self.in_flight.clear();
        }
        let window = self.device.window.min(client.receive_maximum.into());
        loop {
            let stopped = stop.is_cancelled();
            if !stopped {
                self.top_up(&mut client, window);
            }
            if self.is_done(stop) {
                codec::put_disconnect(&mut client.output);
                return client.flush().await;
            }
            client.flush().await?;
            self.listen(&mut client, stop, stopped).await?;
            while let Some(packet) = client.take_packet()? {
                self.hear(packet, &mut client)?;
            }
        }
    }

    /// Waits for an answer, for the next burst, or for the word to stop.
    async fn listen(&self, client: &mut Client, stop: &CancellationToken, stopped: bool) -> io::Result<()> {
        let pause = async {
            match self.device.pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            read = client.fill() => read,
            () = stop.cancelled(), if !stopped => Ok(()),
            () = pause => Ok(()),
        }
    }

    fn top_up(&mut self, client: &mut Client, window: usize) {
        let mut burst = window;
        let count_max = match self.device.per_second {
            Some(rate) => (self.begun.elapsed().as_secs_f64() * f64::from(rate)) as u32,
            None => u32::MAX,
        };
        let count_max = self.device.count_max.min(count_max) as usize;
        while self.in_flight.len() < window && burst > 0 && self.ledger.sends.len() < count_max {
            burst -= 1;
            let count = self.ledger.sends.len() as u32;
            self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
            self.ledger.sends.push(0);
            self.ledger.acked.push(false);
            self.send(client, count, self.packet_id, false);
            if self.device.qos > 0 {
                self.in_flight.push_back(InFlight { count, packet_id: self.packet_id, received: false });
            }
        }
    }

    fn resend(&mut self, client: &mut Client) {
        for at in 0..self.in_flight.len() {
            let InFlight { count, packet_id, received } = self.in_flight[at];
            if received {
                codec::put_ack(&mut client.output, Ack::PubRel, packet_id, 0);
            } else {
                self.send(client, count, packet_id, true);
            }
        }
    }

    fn send(&mut self, client: &mut Client, count: u32, packet_id: u16, dup: bool) {
        let sends = &mut self.ledger.sends[count as usize];
        *sends = sends.saturating_add(1);
        client.put_publish(&Publish {
            topic: &self.ledger.topic,
            payload: oracle::payload_of(&self.ledger.name, count, self.device.payload_bytes).as_bytes(),
            qos: self.device.qos,
            packet_id,
            dup,
            user_properties: &[],
        });
    }

    /// Takes an acknowledgement in. A refusal (MQTT 5) ends the connection, and the event is sent
    /// again on the next.
    fn hear(&mut self, packet: Packet, client: &mut Client) -> io::Result<()> {
        let Packet::Ack { ack, packet_id, reason } = packet else {
            return match packet {
                Packet::Disconnect(_) => Err(io::ErrorKind::ConnectionReset.into()),
                other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("not asked for: {other:?}"))),
            };
        };
        // A release after the gateway has forgotten the packet id: MQTT 5.0 section 3.7.2.1.
        let reason = if (ack, reason) == (Ack::PubComp, 0x92) { 0 } else { reason };
        if reason >= 0x80 {
            *self.ledger.refusals.entry(reason).or_default() += 1;
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let at = self.in_flight.iter().position(|event| event.packet_id == packet_id);
        let Some(at) = at else {
            let text = format!("{ack:?} for packet id {packet_id}, which is not in flight");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        };
        if reason != 0 {
            self.ledger.strange.push(format!("{}: {ack:?} with reason {reason:#x}", self.ledger.name));
        }
        match (self.device.qos, ack) {
            (1, Ack::PubAck) => {
                if at != 0 {
                    // [MQTT-4.6.0-2]
                    self.ledger
                        .strange
                        .push(format!("{}: PUBACK {packet_id} out of order", self.ledger.name));
                }
                self.acknowledge(at);
                self.in_flight.remove(at);
            }
            (2, Ack::PubRec) => {
                self.in_flight[at].received = true;
                self.acknowledge(at);
                codec::put_ack(&mut client.output, Ack::PubRel, packet_id, 0);
            }
            (2, Ack::PubComp) if self.in_flight[at].received => drop(self.in_flight.remove(at)),
            other => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("out of turn: {other:?}")));
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, at: usize) {
        let acked = &mut self.ledger.acked[self.in_flight[at].count as usize];
        if !std::mem::replace(acked, true) {
            self.counts.acked.fetch_add(1, Ordering::Relaxed);
        }
    }
}

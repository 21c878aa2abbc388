//! One client sends as fast as its socket takes it, a hundred times what it may: it is slowed down
//! and nobody else is.
//!
//! The same neighbours are measured alone, beside the noise, and beside the noise where there is no
//! limit. What they wait for their acknowledgements is printed, not judged: it depends on the
//! machine. Judged is that nobody is cut off, that every publish of the neighbours is acknowledged,
//! and that the noise gets what it may and no more.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate_tests::{
    client::Client,
    clock::{now, within},
    codec::{Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports,
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::interval,
};

const NEIGHBOURS: usize = 20;
/// Publishes per second of each neighbour, well below the limit.
const PACE: u64 = 20;
/// Publishes per second of each client at most.
const QUOTA: u64 = 100;
/// How long each measurement takes, in seconds.
const MEASURE_S: u64 = 8;
/// Publishes of one write of the noise.
const BURST: u16 = 100;
/// What one read of the gateway may hold above the quota, and the first second's worth.
const SLACK: u64 = 3 * QUOTA;
const LIMIT: Duration = Duration::from_secs(60);

fn publish(topic: &'static str, qos: u8, packet_id: u16) -> Publish<'static> {
    let payload = b"a payload of forty bytes, more or less..";
    Publish { topic, payload, qos, packet_id, dup: false, user_properties: &[] }
}

async fn connect(gateway: SocketAddr, client_id: &str) -> Client {
    let connect = Connect { version: Version::V311, client_id, clean: true, keep_alive_s: 5 };
    Client::connect(gateway, &connect).await.expect("the gateway accepts")
}

/// What each publish waited for its acknowledgement, sorted. Every one has to be acknowledged.
async fn neighbours(gateway: SocketAddr) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for n in 0..NEIGHBOURS {
        clients.spawn(async move {
            let mut client = connect(gateway, &format!("neighbour-{n}")).await;
            let mut pace = interval(Duration::from_millis(1000 / PACE));
            let mut waits = vec![];
            for packet_id in 1..=(PACE * MEASURE_S) as u16 {
                pace.tick().await;
                let start = now();
                client.put_publish(&publish("neighbour", 1, packet_id));
                client.flush().await.expect("a neighbour is not cut off");
                let answer = client.next().await;
                assert!(matches!(answer, Packet::Ack { packet_id: id, .. } if id == packet_id), "{answer:?}");
                waits.push(start.elapsed());
            }
            waits
        });
    }
    let mut waits = within("the neighbours", LIMIT, clients.join_all()).await.concat();
    waits.sort_unstable();
    waits
}

/// A client that sends as fast as it can.
struct Noise {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    acked: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Noise {
    /// With QoS 0 there is not even an acknowledgement to wait for.
    async fn start(gateway: SocketAddr, qos: u8) -> Self {
        let mut client = connect(gateway, "noise").await;
        let (stop, sent, acked) = <(Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>)>::default();
        let (stopped, sent_now, acked_now) = (stop.clone(), sent.clone(), acked.clone());
        let task = tokio::spawn(async move {
            let mut packet_id = 0_u16;
            let mut fill = 0;
            while !stopped.load(Ordering::Relaxed) {
                if client.output.is_empty() {
                    for _ in 0..BURST {
                        packet_id = packet_id % u16::MAX + 1;
                        client.put_publish(&publish("noise", qos, packet_id));
                    }
                    fill += 1;
                }
                // A socket that takes no more makes it wait here, until its acknowledgements are
                // looked at again.
                match tokio::time::timeout(Duration::from_millis(20), client.fill_or_send()).await {
                    Ok(outcome) => {
                        if outcome.expect("the noise is slowed down, not cut off") {
                            sent_now.store(fill * u64::from(BURST), Ordering::Relaxed);
                        }
                    }
                    Err(_) => continue,
                }
                while let Some(packet) = client.take_packet().expect("packets") {
                    assert!(matches!(packet, Packet::Ack { .. }), "{packet:?}");
                    acked_now.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, sent, acked, task }
    }

    fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the noise was not cut off");
    }
}

fn gateway(limits: &str) -> (Sink, Gateway) {
    let address = ports::free_address();
    let sink = Sink::start(address);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{address}"), Version::V311));
    setup.limits = limits.into();
    (sink, Gateway::start(setup))
}

fn tell(what: &str, waits: &[Duration], noise_per_s: u64) -> f64 {
    let at = |percent: usize| waits[waits.len() * percent / 100].as_secs_f64() * 1000.0;
    let (p50, p99) = (at(50), at(99));
    eprintln!("{what:<30} noise {noise_per_s:>7}/s   neighbours p50 {p50:6.2} ms  p99 {p99:6.2} ms");
    p99
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_at_a_hundred_times_its_quota_slows_itself_and_nobody_else() {
    let (sink, limited) = gateway(&format!("publishes_per_second = {QUOTA}\n"));
    let alone = tell("alone", &neighbours(limited.mqtt).await, 0);

    let start = now();
    let noise = Noise::start(limited.mqtt, 1).await;
    let waits = neighbours(limited.mqtt).await;
    let (acked, seconds) = (noise.acked(), start.elapsed().as_secs());
    let beside = tell("beside the noise", &waits, acked / seconds.max(1));
    eprintln!("p99 beside the noise is {:.2} times that alone", beside / alone);
    assert_eq!(waits.len() as u64, NEIGHBOURS as u64 * PACE * MEASURE_S);
    assert!(acked >= QUOTA * MEASURE_S / 2, "the noise gets its share: {acked} in {seconds} s");
    assert!(acked <= QUOTA * (seconds + 1) + SLACK, "and no more: {acked} in {seconds} s");
    assert!(limited.metric("tidegate_throttled_total") >= 1.0);
    assert_eq!(limited.metric("tidegate_closed_connections_total"), 0.0);
    eprintln!("{} sent by the noise, {acked} acknowledged", noise.sent.load(Ordering::Relaxed));
    noise.finish().await;
    drop((sink, limited));

    let (_sink, unlimited) = gateway("");
    for qos in [1, 0] {
        let noise = Noise::start(unlimited.mqtt, qos).await;
        let waits = neighbours(unlimited.mqtt).await;
        let sent = noise.sent.load(Ordering::Relaxed);
        tell(&format!("beside QoS {qos} without a limit"), &waits, sent / MEASURE_S);
        assert_eq!(waits.len() as u64, NEIGHBOURS as u64 * PACE * MEASURE_S);
        noise.finish().await;
    }
}

//! Subscribers that do not read, beside 20,000 messages per second: they lose their own copies,
//! each of them counted, and nobody else loses anything, or waits.
//!
//! One is a `mosquitto_sub` that is stopped (SIGSTOP), one a socket that nobody reads. What
//! publishers wait for their acknowledgements, and the gateway's memory, is printed without
//! subscribers, with one that reads, and with the slow ones beside it. Judged is that the one that
//! reads gets all, that the numbers add up to the last message, and that memory is bounded.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tidegate_tests::{
    client::Client,
    clock::wait_for,
    codec::{self, Ack, Connect, Packet, Version},
    foreign::{self, Maker, Tool},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    ports, program,
    steady::{self, Steady},
};
use tokio::task::JoinHandle;

/// How long each measurement takes: the slow ones' queues are full long before.
const MEASURE: Duration = Duration::from_secs(8);
/// All that the load publishes.
const FILTER: &str = "plant/+/v";
/// Queues that hold more than a second of the load: one that reads is not to be taken for slow
/// because the machine is busy.
const LIMITS: &str = "queued_messages = 50000\nqueued_bytes = \"16 MiB\"\n";
/// What the queues, and the output of each subscriber, may add to the gateway's memory, with some
/// room for the allocator.
const MEMORY_MORE_MAX: u64 = 100 << 20;
const LIMIT: Duration = Duration::from_secs(60);

async fn connect(gateway: SocketAddr, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway, &connect).await.expect("the gateway accepts");
    client.subscribe(FILTER).await;
    client
}

/// Counts what it gets, with QoS 1.
struct Quick {
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Quick {
    async fn start(gateway: SocketAddr) -> Self {
        let mut client = connect(gateway, "quick").await;
        let count = Arc::new(AtomicU64::new(0));
        let counter = count.clone();
        let task = tokio::spawn(async move {
            while client.fill().await.is_ok() {
                while let Some(packet) = client.take_packet().expect("packets") {
                    let Packet::Publish(publish) = packet else { panic!("not asked for: {packet:?}") };
                    assert_eq!(publish.qos, 1);
                    codec::put_ack(&mut client.output, Ack::PubAck, publish.packet_id, 0);
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                client.flush().await.expect("the one that reads is not cut off");
            }
        });
        Self { count, task }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Quick {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The load for a while; gives how many messages it published.
async fn measure(what: &str, gateway: &Gateway) -> u64 {
    let address = gateway.mqtt;
    let measuring = tokio::task::spawn_blocking(move || {
        let mut load = Steady::start(address).expect("the gateway is there");
        std::thread::sleep(MEASURE);
        let lap = load.lap();
        (lap, load.finish().expect("no publisher is cut off"))
    });
    let (lap, published) = measuring.await.expect("the load does not panic");
    eprintln!(
        "{what:<34} {:>6.0}/s of {}/s   PUBACK p50 {:6.2} ms  p99 {:6.2} ms  p99.9 {:6.2} ms   {:>4} MiB",
        lap.rate,
        steady::RATE,
        lap.ms(0.5),
        lap.ms(0.99),
        lap.ms(0.999),
        gateway.usage().resident_bytes >> 20
    );
    published
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_does_not_read_loses_its_own_copies_counted_and_nobody_elses() {
    let upstream = ports::free_address();
    let _sink = Sink::start(upstream);
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{upstream}"), Version::V311));
    setup.limits = LIMITS.into();
    let mut gateway = Gateway::start(setup);
    measure("without subscribers", &gateway).await;
    let before_bytes = gateway.usage().resident_bytes;

    let quick = Quick::start(gateway.mqtt).await;
    let first = measure("one that reads", &gateway).await;
    wait_for("all of it at the one that reads", LIMIT, || quick.count() >= first).await;
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);

    let stopped = Tool::start(
        gateway.mqtt,
        foreign::Setup {
            maker: Maker::Mosquitto,
            version: Version::V311,
            name: "stopped".into(),
            clean: true,
            will: None,
            qos: 0,
            filters: vec![FILTER.into()],
        },
    );
    program::signal(stopped.pid(), "STOP");
    let unread = connect(gateway.mqtt, "unread").await;
    let second = measure("and two that do not", &gateway).await;
    wait_for("all of it at the one that reads", LIMIT, || quick.count() >= first + second).await;

    let mut found = (0.0, 0.0, 0.0);
    let copies = (first + 3 * second) as f64;
    wait_for("each copy to be accounted for", LIMIT, || {
        let metric = |name: &str| gateway.metric(name);
        found = (
            metric("tidegate_local_delivered_total"),
            metric("tidegate_local_dropped_total"),
            metric("tidegate_local_queued"),
        );
        found.0 + found.1 + found.2 == copies
    })
    .await;
    let (delivered, dropped, queued) = found;
    eprintln!("{copies} copies: {delivered} delivered, {dropped} dropped, {queued} wait");
    assert_eq!(quick.count(), first + second, "no copy too many");
    assert!(dropped > 0.0 && dropped + queued <= (2 * second) as f64);
    let more_bytes = gateway.usage().resident_peak_bytes.saturating_sub(before_bytes);
    assert!(more_bytes <= MEMORY_MORE_MAX, "the gateway took {} MiB more", more_bytes >> 20);
    drop((quick, stopped, unread));
    gateway.terminate();
}

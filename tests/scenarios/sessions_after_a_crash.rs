//! What was acknowledged for a session that is away outlives a crash: however much the session was
//! given shortly before, however often the gateway dies, and also when the crash damages the newest
//! segment.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use tidegate_tests::{
    client::Client,
    clock::wait_for,
    codec::{Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    subscriber::{Subscriber, text},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway that stores no event, with these lines of `[store]`.
fn start_with(store: &str) -> Gateway {
    let mut setup = Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V311));
    setup.routes = vec![];
    setup.store += store;
    Gateway::start(setup)
}

fn start() -> Gateway {
    start_with("")
}

/// Publishes numbers, each in so many bytes, with QoS 1.
struct Meter {
    client: Client,
    next: u32,
}

impl Meter {
    async fn start(gateway: &Gateway, next: u32) -> Self {
        let connect = Connect { version: Version::V311, client_id: "meter", clean: true, keep_alive_s: 60 };
        Self { client: Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts"), next }
    }

    /// Returns once all are acknowledged.
    async fn publish(&mut self, count: u32, bytes: usize) {
        const WINDOW: u16 = 50;
        for first in (0..count).step_by(usize::from(WINDOW)) {
            let window = (count - first).min(u32::from(WINDOW)) as u16;
            for packet_id in 1..=window {
                let payload = format!("{:<bytes$}", self.next);
                let payload = payload.as_bytes();
                let (topic, dup, user_properties) = ("house/x", false, &[][..]);
                self.client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup, user_properties });
                self.next += 1;
            }
            self.client.flush().await.expect("the connection is open");
            for packet_id in 1..=window {
                let answer = self.client.next().await;
                assert_eq!(answer, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
            }
        }
    }
}

/// The numbers that a subscriber has, each once.
fn numbers(subscriber: &Subscriber) -> BTreeSet<u32> {
    let number = |payload| text(payload).trim().parse().expect("a number");
    subscriber.book().messages.iter().map(|message| number(&message.payload)).collect()
}

async fn wait_for_all(subscriber: &Subscriber, count: u32) {
    wait_for(&format!("all of {count}"), LIMIT, || numbers(subscriber).len() as u32 >= count).await;
}

async fn watch(gateway: &Gateway) -> Subscriber {
    let subscriber = Subscriber::start(gateway.mqtt, Version::V311, "watch", &[("house/#", 1)]);
    wait_for("the grant", LIMIT, || subscriber.book().granted == 1).await;
    subscriber
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_was_given_before_a_crash_takes_no_room_from_what_it_is_owed() {
    // By far more than all sessions may be owed, and within the seconds in which nothing has to be
    // saved.
    let small = "max_bytes = \"64 MiB\"\nsegment_bytes = \"4 MiB\"\n";
    for (store, live, bytes) in [("", 4_000, 4_000), ("", 16_000, 500), (small, 4_000, 200)] {
        let mut gateway = start_with(store);
        let subscriber = watch(&gateway).await;
        let mut meter = Meter::start(&gateway, 0).await;
        meter.publish(live, bytes).await;
        wait_for_all(&subscriber, live).await;
        subscriber.set_online(false);
        wait_for("it to be away", LIMIT, || gateway.metric("tidegate_connections") == 1.0).await;
        meter.publish(300, bytes.min(2_000)).await;
        gateway.kill();
        gateway.restart();
        let mut meter = Meter::start(&gateway, meter.next).await;
        meter.publish(50, 100).await;
        subscriber.set_online(true);
        wait_for_all(&subscriber, live + 350).await;
        let messages = subscriber.book().messages.len();
        println!(
            "{live} of {bytes} B live, 300 while away, a kill, 50: {} came again",
            messages - numbers(&subscriber).len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_dies_again_and_again_loses_nothing_that_is_owed() {
    const ROUNDS: u32 = 12;
    let mut gateway = start();
    let subscriber = watch(&gateway).await;
    let mut count = 0;
    for _ in 0..ROUNDS {
        wait_for("it to be there", LIMIT, || gateway.metric("tidegate_connections") >= 1.0).await;
        let mut meter = Meter::start(&gateway, count).await;
        meter.publish(3_000, 200).await;
        wait_for_all(&subscriber, meter.next).await;
        subscriber.set_online(false);
        wait_for("it to be away", LIMIT, || gateway.metric("tidegate_connections") == 1.0).await;
        meter.publish(300, 200).await;
        count = meter.next;
        gateway.kill();
        gateway.restart();
        subscriber.set_online(true);
        wait_for_all(&subscriber, count).await;
    }
    let messages = subscriber.book().messages.len();
    println!("{ROUNDS} kills, {count} messages: {} came again", messages - count as usize);
}

fn newest_segment(gateway: &Gateway) -> PathBuf {
    let files = std::fs::read_dir(gateway.data_dir()).expect("it is there").filter_map(Result::ok);
    let segments = files.filter(|file| file.file_name().to_string_lossy().starts_with("seg-"));
    segments.map(|file| file.path()).max().expect("a segment")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_session_is_owed_is_found_in_a_segment_that_the_crash_damaged() {
    let cut: fn(&mut Vec<u8>) = |bytes| {
        bytes.pop();
    };
    let flip: fn(&mut Vec<u8>) = |bytes| bytes[40] ^= 1;
    for (what, damage) in [("a byte short", cut), ("a flipped bit in the head", flip)] {
        let mut gateway = start();
        let subscriber = watch(&gateway).await;
        // The session is saved, so the messages alone are in the log only.
        subscriber.set_online(false);
        wait_for("it to be away", LIMIT, || gateway.metric("tidegate_connections") == 0.0).await;
        let mut meter = Meter::start(&gateway, 0).await;
        meter.publish(700, 100).await;
        gateway.kill();
        let segment = newest_segment(&gateway);
        let mut bytes = std::fs::read(&segment).expect("it can be read");
        damage(&mut bytes);
        std::fs::write(&segment, bytes).expect("it can be written");
        gateway.restart();
        subscriber.set_online(true);
        wait_for_all(&subscriber, 700).await;
        println!("{what}: {} of 700", numbers(&subscriber).len());
    }
}

//! A PUBACK says that the event is on disk. The sync is held back, or fails, from outside, by strace, so that nothing
//! in the gateway's own code takes part in the proof.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    tools,
    upstream::{Inbox, Upstream},
};

/// How long each sync is held back.
const HOLD: Duration = Duration::from_secs(3);
/// Longest wait for what must not be held back.
const PROMPT_LIMIT: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);

/// strace on a running process. Detached with the value.
struct Strace(Child);

impl Strace {
    /// Attaches to all threads; does to each sync what `fault` says, in strace's words.
    fn attach(pid: u32, fault: &str) -> Self {
        let calls = "fdatasync,fsync,sync_file_range,msync";
        let mut child = Command::new(tools::find("strace"))
            .args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{fault}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace can be started");
        let mut lines = BufReader::new(child.stderr.take().expect("standard error is a pipe")).lines();
        let said = lines.next().expect("strace says what it does").expect("it is text");
        assert!(said.contains("attached"), "{said}");
        // Read on, or it would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM lets it detach; SIGKILL would take the gateway along.
        let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        let _ = self.0.wait();
    }
}

async fn chain() -> (Arc<Mutex<Inbox>>, Upstream, Gateway) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    (inbox, upstream, gateway)
}

async fn connect(gateway: &Gateway, version: Version, client_id: &str) -> Client {
    let connect = Connect { version, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts")
}

fn event(qos: u8, payload: &[u8]) -> Publish<'_> {
    Publish { topic: "plant/door", payload, qos, packet_id: 1, dup: false, user_properties: &[] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_the_sync_is_held_back_there_is_a_pingresp_and_no_puback() {
    let (_inbox, _upstream, gateway) = chain().await;
    let mut clients = vec![
        (connect(&gateway, Version::V311, "a").await, 1, Ack::PubAck),
        (connect(&gateway, Version::V5, "b").await, 1, Ack::PubAck),
        (connect(&gateway, Version::V5, "c").await, 2, Ack::PubRec),
    ];
    let _strace = Strace::attach(gateway.pid(), &format!("delay_enter={}", HOLD.as_micros()));
    let sent = now();
    for packet_id in [1, 2] {
        for (client, qos, _) in &mut clients {
            client.put_publish(&Publish { packet_id, ..event(*qos, b"open") });
            codec::put_pingreq(&mut client.output);
            client.flush().await.unwrap();
        }
        for (client, qos, _) in &mut clients {
            assert_eq!(client.next().await, Packet::PingResp, "QoS {qos}: before anything else");
        }
    }
    assert!(sent.elapsed() < PROMPT_LIMIT, "PINGRESP waited for the disk: {:?}", sent.elapsed());
    for packet_id in [1, 2] {
        for (client, _, expected) in &mut clients {
            assert_eq!(client.next().await, Packet::Ack { ack: *expected, packet_id, reason: 0 });
            assert!(
                sent.elapsed() >= HOLD,
                "acknowledged after {:?}, before the sync was over",
                sent.elapsed()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_kill_while_the_sync_is_held_back_happens_without_a_puback() {
    let (_inbox, _upstream, mut gateway) = chain().await;
    let mut client = connect(&gateway, Version::V5, "a").await;
    let strace = Strace::attach(gateway.pid(), "delay_enter=5000000");
    client.put_publish(&event(1, b"open"));
    codec::put_pingreq(&mut client.output);
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::PingResp);
    gateway.kill();
    drop(strace);
    assert_eq!(client.until_closed().await, vec![], "an acknowledgement for what no disk holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sync_that_fails_is_never_acknowledged_and_what_was_is_still_there() {
    let (inbox, upstream, mut gateway) = chain().await;
    let mut client = connect(&gateway, Version::V311, "a").await;
    client.put_publish(&event(1, b"before"));
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    wait_for("the first event upstream", LIMIT, || !inbox.lock().messages.is_empty()).await;

    let strace = Strace::attach(gateway.pid(), "error=EIO");
    client.put_publish(&event(1, b"during"));
    client.flush().await.unwrap();
    assert_eq!(client.until_closed().await, vec![], "3.1.1 has no refusal: it is closed without a word");
    wait_for("the gateway to say that it is not ready, or to end", LIMIT, || !gateway.is_ready()).await;
    drop(strace);

    if gateway.is_running() {
        gateway.terminate();
    } else {
        assert!(!gateway.wait_end(LIMIT).success());
    }
    assert!(!gateway.log().contains("panicked at"), "{}", gateway.log());
    assert!(gateway.log().contains("nput/output error"), "it does not say why: {}", gateway.log());
    gateway.restart();
    let mut client = connect(&gateway, Version::V5, "a").await;
    client.put_publish(&event(1, b"after"));
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    let arrived = |payload: &[u8]| inbox.lock().messages.iter().any(|message| message.payload == payload);
    wait_for("both acknowledged events upstream", LIMIT, || arrived(b"before") && arrived(b"after")).await;
    drop(upstream);
}

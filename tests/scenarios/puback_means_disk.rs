//! A PUBACK says that the event is on disk. The sync is held back, or fails, from outside, by
//! strace, so that nothing in the gateway's own code takes part in the proof.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{now, wait_for},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    strace::{SYNCS, Strace},
    upstream::{Inbox, Upstream},
};

/// How long each sync is held back.
const HOLD: Duration = Duration::from_secs(3);
/// Longest wait for what must not be held back.
const PROMPT_LIMIT: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for events to be taken in again once syncs succeed: the longest back-off and what
/// it takes to reopen.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

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
    let _strace = Strace::attach(gateway.pid(), SYNCS, &format!("delay_enter={}", HOLD.as_micros()));
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
    let strace = Strace::attach(gateway.pid(), SYNCS, "delay_enter=5000000");
    client.put_publish(&event(1, b"open"));
    codec::put_pingreq(&mut client.output);
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::PingResp);
    gateway.kill();
    drop(strace);
    assert_eq!(client.until_closed().await, vec![], "an acknowledgement for what no disk holds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_the_sync_fails_nothing_is_acknowledged_and_the_gateway_stays_says_why_and_recovers() {
    let (inbox, upstream, mut gateway) = chain().await;
    let mut client = connect(&gateway, Version::V311, "a").await;
    client.put_publish(&event(1, b"before"));
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    wait_for("the first event upstream", LIMIT, || !inbox.lock().messages.is_empty()).await;

    let strace = Strace::attach(gateway.pid(), SYNCS, "error=EIO");
    client.put_publish(&event(1, b"during"));
    client.flush().await.unwrap();
    let early = tokio::time::timeout(HOLD, client.read_packet()).await;
    assert!(early.is_err(), "an answer although no sync succeeded: {early:?}");
    wait_for("the gateway to say why it is not ready", LIMIT, || {
        gateway.not_ready().is_some_and(|text| text.contains("nput/output error"))
    })
    .await;
    assert!(gateway.log().contains("nput/output error"), "it does not say why: {}", gateway.log());
    assert!(gateway.is_running() && gateway.metric("tidegate_store_failing") == 1.0);
    drop(strace);

    wait_for("the gateway to recover by itself", RECOVERY_LIMIT, || gateway.is_ready()).await;
    // What the failed commit held is in the next one, and only now acknowledged.
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    let mut client = connect(&gateway, Version::V5, "b").await;
    client.put_publish(&event(1, b"after"));
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    let texts =
        || -> Vec<_> { inbox.lock().messages.iter().map(|message| message.payload.clone()).collect() };
    wait_for("each acknowledged event upstream, once", LIMIT, || texts() == ["before", "during", "after"])
        .await;
    gateway.terminate();
    drop(upstream);
}

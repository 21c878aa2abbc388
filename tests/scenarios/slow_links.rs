//! Links and upstreams that are slow and not broken: everything goes on, nothing is sent for
//! nothing, and no event is blamed.

use std::time::Duration;

use tidegate_tests::{
    chaos::{Proxy, Rules, Way},
    client::Client,
    clock::{now, wait_for},
    cloud::{Seen, StandIn, platforms},
    codec::{Ack, Connect, Packet, Publish, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Ledger},
};

/// Longest wait for devices to get their acknowledgements.
const DEVICES_LIMIT: Duration = Duration::from_secs(60);

/// Waits until all is there and acknowledged; the same with what comes to light.
async fn demand(what: &str, limit: Duration, ledgers: &[Ledger], gateway: &Gateway, cloud: &StandIn) {
    let start = now();
    wait_for(what, limit, || cloud.seen(|seen| seen.is_complete(ledgers))).await;
    let arrived = start.elapsed();
    wait_for("the acknowledgements", limit, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    let (verdict, connections) = cloud.seen(|seen| (seen.demand(ledgers), seen.connections.len()));
    eprintln!(
        "{what}: there after {arrived:?}, acknowledged after {:?}; {} events, {} copies, {connections} connections",
        start.elapsed(),
        verdict.arrived,
        verdict.copies
    );
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "a healthy event was blamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_that_take_40_seconds_are_waited_for() {
    let cloud = StandIn::start(platforms::broker()).await;
    cloud.change_behaviour(|behaviour| behaviour.ack_after = Duration::from_secs(40));
    let gateway = Gateway::start(Setup::new(Uplink::new(&cloud.url(), Version::V5)));
    let device = Device { count_max: 200, ..Device::new("d", Version::V5) };
    let ledgers = Fleet::start(gateway.mqtt, [device]).all(DEVICES_LIMIT).await;
    // Longer than the time-outs of three connections, and three acknowledgements behind each other:
    // of an event that was taken before, of the first, and of the rest.
    demand("200 events", Duration::from_secs(240), &ledgers, &gateway, &cloud).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kilobytes_pass_at_16_kbit_per_second() {
    const PAYLOAD_BYTES: usize = 200_000;
    let cloud = StandIn::start(platforms::broker()).await;
    let proxy = Proxy::start(cloud.address).await;
    let up = Way { bytes_per_s: Some(2_000), ..Way::default() };
    proxy.set_rules(Rules { up, ..Rules::default() });
    let url = format!("mqtt://{}", proxy.address);
    let gateway = Gateway::start(Setup::new(Uplink::new(&url, Version::V5)));
    let connect = Connect { version: Version::V5, client_id: "d", clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
    let sizes = [oracle::PAYLOAD_BYTES, PAYLOAD_BYTES, oracle::PAYLOAD_BYTES];
    let topic = oracle::topic_of("d");
    for (count, bytes) in sizes.into_iter().enumerate() {
        let (payload, packet_id) = (oracle::payload_of("d", count as u32, bytes), count as u16 + 1);
        let payload = payload.as_bytes();
        client.put_publish(&Publish {
            topic: &topic,
            payload,
            qos: 1,
            packet_id,
            dup: false,
            user_properties: &[],
        });
        client.flush().await.expect("the connection is open");
        assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
    }
    let ledger = Ledger {
        name: "d".into(),
        topic,
        qos: 1,
        sends: vec![1; 3],
        acked: vec![true; 3],
        ..Ledger::default()
    };
    demand("200 kB and small ones", Duration::from_secs(150), &[ledger], &gateway, &cloud).await;
    assert!(cloud.seen(|seen| seen.connections.len()) <= 2, "it was begun again and again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_of_200_ms_and_20_kb_per_second_is_kept_full() {
    const EVENTS: u32 = 4_000;
    /// Nothing may stand still for so long.
    const STANDSTILL_MAX: Duration = Duration::from_secs(10);
    let cloud = StandIn::start(platforms::broker()).await;
    let proxy = Proxy::start(cloud.address).await;
    let way = Way { delay: Duration::from_millis(100), bytes_per_s: Some(20_000) };
    proxy.set_rules(Rules { up: way, down: way, ..Rules::default() });
    let url = format!("mqtt://{}", proxy.address);
    let gateway = Gateway::start(Setup::new(Uplink::new(&url, Version::V5)));
    let device = Device { count_max: EVENTS, ..Device::new("d", Version::V5) };
    let ledgers = Fleet::start(gateway.mqtt, [device]).all(DEVICES_LIMIT).await;
    let (mut taken, mut moved_at) = (0, now());
    while taken < EVENTS as usize {
        let seen = cloud.seen(Seen::taken);
        if seen > taken {
            (taken, moved_at) = (seen, now());
        }
        assert!(moved_at.elapsed() < STANDSTILL_MAX, "nothing since {taken} events");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    demand("4,000 events", Duration::from_secs(60), &ledgers, &gateway, &cloud).await;
    let arrived = cloud.seen(|seen| seen.messages.len());
    assert!(arrived <= EVENTS as usize * 101 / 100, "{arrived} sent for {EVENTS}");
}

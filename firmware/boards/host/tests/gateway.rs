//! Simulated devices against a gateway that refuses, forgets, goes away and comes back.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use tidegate_board_host::{DeviceCounters, DeviceSettings, run_device};
use tidegate_protocol::events::LossReason;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use support::gateway::{Gateway, PACKET_BYTES_MAX_64, Peer, Publish, RECEIVE_MAX_2};
use support::{Record, TIME_MAX, device, get, until};

const QUOTA_EXCEEDED: u8 = 0x97;

/// A device under test.
struct Running {
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(settings: DeviceSettings) -> Self {
        let counters = Arc::new(DeviceCounters::default());
        let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn(run_device(settings, counters.clone(), quiesce.clone(), shutdown.clone()));
        Running { counters, quiesce, shutdown, task }
    }

    /// Waits for its end.
    async fn end(self) {
        timeout(TIME_MAX, self.task).await.expect("the device ends").unwrap();
    }
}

/// Acknowledges all that comes until the device ends the connection.
async fn take_all(peer: &mut Peer, record: &mut Record) {
    while let Some(publish) = peer.publish().await {
        record.enter(&publish.topic, &publish.payload);
        peer.ack(publish.id).await;
    }
}

async fn take(peer: &mut Peer, count: usize) -> Vec<Publish> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(peer.publish().await.unwrap());
    }
    taken
}

fn payloads(publishes: &[Publish]) -> Vec<&[u8]> {
    publishes.iter().map(|publish| publish.payload.as_slice()).collect()
}

fn all_of(counters: &DeviceCounters) -> Vec<u32> {
    (0..get(&counters.sampled_events) as u32).collect()
}

#[tokio::test]
async fn a_refused_frame_is_kept_and_sent_again() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(DeviceSettings { window: 1, ..device("sim-1", gateway.port) });
    let mut peer = gateway.accept(false, &[]).await;
    let first = peer.publish().await.unwrap();
    peer.refuse(first.id, QUOTA_EXCEEDED).await;
    for _ in 0..2 {
        let again = peer.publish().await.unwrap();
        assert_eq!(again.payload, first.payload);
        assert!(!again.dup, "a refused publish is over: the next is a new one");
        assert_eq!(get(&running.counters.acked_events), 0);
        peer.refuse(again.id, QUOTA_EXCEEDED).await;
    }
    running.quiesce.cancel();
    let mut record = Record::default();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;
    assert_eq!(record.of("sim-1").first, all_of(&counters));
    assert_eq!(get(&counters.acked_events), get(&counters.sampled_events));
}

#[tokio::test]
async fn a_resumed_session_gets_what_was_in_flight_again_with_dup_under_the_same_identifiers() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    assert!(peer.clean_start, "the first connection of a boot begins anew");
    let sent = take(&mut peer, 4).await;
    assert!(sent.iter().all(|publish| !publish.dup));
    peer.ack(sent[1].id).await;
    until("the acknowledgement is taken", || get(&running.counters.acked_events) > 0).await;
    drop(peer);

    let mut peer = gateway.accept(true, &[]).await;
    assert!(!peer.clean_start);
    let again = take(&mut peer, 3).await;
    // A fifth frame may have taken the place that became free; then it is sent again after these.
    let expected: Vec<Publish> =
        [&sent[0], &sent[2], &sent[3]].map(|publish| Publish { dup: true, ..publish.clone() }).into();
    assert_eq!(again, expected);
    for publish in &again {
        peer.ack(publish.id).await;
    }
    running.quiesce.cancel();
    take_all(&mut peer, &mut Record::default()).await;
    let counters = running.counters.clone();
    running.end().await;
    assert_eq!(get(&counters.acked_events), get(&counters.sampled_events));
}

#[tokio::test]
async fn a_forgotten_session_gets_everything_as_new_from_the_oldest_on() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let sent = take(&mut peer, 4).await;
    drop(peer);
    let mut peer = gateway.accept(false, &[]).await;
    let again = take(&mut peer, 4).await;
    assert_eq!(payloads(&again), payloads(&sent), "sealed bytes never change");
    assert!(again.iter().all(|publish| !publish.dup));
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test]
async fn the_gateways_receive_maximum_is_held_also_when_resending() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let sent = take(&mut peer, 4).await;
    drop(peer);
    let mut peer = gateway.accept(true, &RECEIVE_MAX_2).await;
    let again = take(&mut peer, 2).await;
    assert_eq!(payloads(&again), payloads(&sent[..2]));
    let before = get(&running.counters.sampled_events);
    until("ten more frames", || get(&running.counters.sampled_events) > before + 200).await;
    assert!(peer.is_quiet(), "two are unacknowledged, and two is all it takes");
    peer.ack(again[0].id).await;
    let third = peer.publish().await.unwrap();
    assert_eq!((third.payload, third.dup), (sent[2].payload.clone(), true));
    running.shutdown.cancel();
    running.end().await;
}

#[tokio::test]
async fn acknowledgements_may_come_in_any_order() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    for _ in 0..3 {
        let mut window = take(&mut peer, 4).await;
        window.iter().for_each(|publish| record.enter(&publish.topic, &publish.payload));
        window.reverse();
        for publish in window {
            peer.ack(publish.id).await;
        }
    }
    running.quiesce.cancel();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;
    assert_eq!(record.of("sim-1").first, all_of(&counters));
}

#[tokio::test]
async fn an_outage_longer_than_the_queue_loses_the_oldest_and_says_which() {
    let gateway = Gateway::listen(0).await;
    let port = gateway.port;
    let settings = DeviceSettings { sample_every_ms: 1, batch_events: 4, ..device("sim-1", port) };
    let running = Running::start(settings);
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    for publish in take(&mut peer, 4).await {
        record.enter(&publish.topic, &publish.payload);
        peer.ack(publish.id).await;
    }
    drop((peer, gateway));
    until("losses", || get(&running.counters.lost_events) >= 100).await;
    let gateway = Gateway::listen(port).await;
    let mut peer = gateway.accept(false, &[]).await;
    running.quiesce.cancel();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;

    assert_accounted(&record, &counters);
}

#[tokio::test]
async fn a_frame_that_the_gateway_never_takes_is_named_as_lost_and_stops_nothing() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &PACKET_BYTES_MAX_64).await;
    until("losses", || get(&running.counters.lost_events) >= 20).await;
    running.quiesce.cancel();
    let mut record = Record::default();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;
    assert!(record.of("sim-1").losses.iter().all(|loss| loss.reason == LossReason::TooLarge));
    assert_accounted(&record, &counters);
}

/// Every number has arrived or is named as lost, and not both.
fn assert_accounted(record: &Record, counters: &DeviceCounters) {
    let arrivals = record.of("sim-1");
    let told = arrivals.losses.iter().flat_map(|loss| loss.first_seq..loss.first_seq + loss.count);
    let told: BTreeSet<u32> = told.collect();
    assert_eq!(told.len() as u64, get(&counters.lost_events), "each lost event is named once");
    let arrived: BTreeSet<u32> = arrivals.first.iter().copied().collect();
    assert!(told.is_disjoint(&arrived));
    let accounted: Vec<u32> = told.union(&arrived).copied().collect();
    assert_eq!(accounted, all_of(counters), "every number arrived or is named");
}

#[tokio::test]
async fn while_the_gateway_is_away_frames_are_filled_up_so_that_the_queue_holds_more() {
    let gateway = Gateway::listen(0).await;
    let port = gateway.port;
    drop(gateway);
    let settings =
        DeviceSettings { sample_every_ms: 1, batch_events: 4, batch_age_ms: 20, ..device("sim-1", port) };
    let running = Running::start(settings);
    // In frames of four, the queue would hold 96.
    until("many events", || get(&running.counters.queued_events) >= 400).await;
    running.quiesce.cancel();
    let gateway = Gateway::listen(port).await;
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;
    assert_eq!(get(&counters.lost_events), 0);
    assert_eq!(record.of("sim-1").first, all_of(&counters));
}

#[tokio::test]
async fn a_device_asked_to_end_waits_for_its_gateway_and_delivers() {
    let gateway = Gateway::listen(0).await;
    let port = gateway.port;
    drop(gateway);
    let running = Running::start(device("sim-1", port));
    until("some events", || get(&running.counters.queued_events) >= 30).await;
    running.quiesce.cancel();
    let gateway = Gateway::listen(port).await;
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    take_all(&mut peer, &mut record).await;
    let counters = running.counters.clone();
    running.end().await;
    assert_eq!(record.of("sim-1").first, all_of(&counters));
}

#[tokio::test]
async fn a_device_that_is_shut_down_ends_without_its_gateway() {
    let gateway = Gateway::listen(0).await;
    let port = gateway.port;
    drop(gateway);
    let running = Running::start(device("sim-1", port));
    until("some events", || get(&running.counters.queued_events) >= 3).await;
    running.shutdown.cancel();
    running.end().await;
}

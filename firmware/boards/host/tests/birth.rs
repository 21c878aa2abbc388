//! What a device says of itself: birth, status and will, and what it does when it is asked.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::sync::Arc;

use tidegate_board_host::{Climatic, DeviceCounters, DeviceSettings, KINDS, Model, birth_of, run_model};
use tidegate_firmware::device::Firmware;
use tidegate_firmware::sensor::SimulatedClimate;
use tidegate_protocol::{Birth, FrameHead, Kind, Kinds, ResetReason, State, Status, schema_set};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use support::gateway::{Gateway, PACKET_BYTES_MAX_64, Peer, Publish};
use support::{Record, TIME_MAX, device, get, until};

const QUOTA_EXCEEDED: u8 = 0x97;
/// CONNACK: at most one publish unacknowledged.
const RECEIVE_MAX_1: [u8; 3] = [0x21, 0, 1];

struct Running {
    counters: Arc<DeviceCounters>,
    quiesce: CancellationToken,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start<M: Model>(settings: DeviceSettings) -> Self {
        let counters = Arc::new(DeviceCounters::default());
        let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
        let task =
            tokio::spawn(run_model::<M>(settings, counters.clone(), quiesce.clone(), shutdown.clone()));
        Running { counters, quiesce, shutdown, task }
    }

    async fn end(self) {
        self.shutdown.cancel();
        timeout(TIME_MAX, self.task).await.expect("the device ends").unwrap();
    }
}

/// A device that says that it is there every 20 ms.
enum Talkative {}

impl Model for Talkative {
    type Sensors = (SimulatedClimate,);
    const KINDS: &'static [Kind] = Climatic::KINDS;
    const FIRMWARE: Firmware<'static> = Climatic::FIRMWARE;
    const STATUS_EVERY_MS: u32 = 20;

    fn sensors(seed: u64) -> Self::Sensors {
        Climatic::sensors(seed)
    }
}

fn connection(publish: &Publish) -> u32 {
    assert_eq!((publish.topic.as_str(), publish.retain, publish.dup), ("tg/sim-1/b", true, false));
    Birth::parse(&publish.payload).unwrap().connection
}

/// The next publish of a topic; those of other topics are acknowledged.
async fn next_of(peer: &mut Peer, topic: &str) -> Publish {
    let found = async {
        loop {
            let publish = peer.any_publish().await.unwrap();
            if publish.topic == topic {
                return publish;
            }
            peer.ack(publish.id).await;
        }
    };
    timeout(TIME_MAX, found).await.unwrap_or_else(|_| panic!("waited in vain for a publish on {topic}"))
}

#[tokio::test]
async fn the_birth_is_the_first_word_of_every_connection_and_explains_the_frames() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Climatic>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let first = peer.any_publish().await.unwrap();
    assert_eq!(connection(&first), 1);
    let birth = Birth::parse(&first.payload).unwrap();
    assert_eq!((birth.boot, birth.reset, birth.wall_ms), (7, ResetReason::PowerOn, None));
    assert_eq!((birth.firmware, birth.kinds), ("tidegate-sim", Kinds::new(KINDS)));
    peer.ack(first.id).await;
    let frame = next_of(&mut peer, "tg/sim-1/e").await;
    assert_eq!(FrameHead::parse(&frame.payload).unwrap().0.schema_set, birth.kinds.schema_set());
    assert_eq!(birth.kinds.schema_set(), schema_set(KINDS));
    assert_eq!(peer.subscriptions, [("tg/sim-1/c".to_owned(), 1)]);
    drop(peer);

    // Also of a session that is taken up again, before what was in flight.
    let mut peer = gateway.accept(true, &[]).await;
    let second = peer.any_publish().await.unwrap();
    assert_eq!(connection(&second), 2);
    assert!(Birth::parse(&second.payload).unwrap().uptime_ms > birth.uptime_ms, "made anew, not kept");
    let again = next_of(&mut peer, "tg/sim-1/e").await;
    assert_eq!(again, Publish { dup: true, ..frame });
    running.end().await;
}

#[tokio::test]
async fn a_birth_without_an_answer_is_said_anew_and_takes_no_place_in_the_session() {
    let gateway = Gateway::listen(0).await;
    let settings = DeviceSettings { sample_every_ms: 20, batch_events: 5, ..device("sim-1", gateway.port) };
    let running = Running::start::<Climatic>(settings);
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    // More often than a session has places.
    for number in 1..=25 {
        let birth = peer.any_publish().await.unwrap();
        assert_eq!(connection(&birth), number, "never sent again as a copy");
        // An acknowledged frame keeps the next dial near.
        let frame = next_of(&mut peer, "tg/sim-1/e").await;
        record.enter(&frame.topic, &frame.payload);
        let acked = get(&running.counters.acked_events);
        peer.ack(frame.id).await;
        until("the acknowledgement is taken", || get(&running.counters.acked_events) > acked).await;
        drop(peer);
        peer = gateway.accept(true, &[]).await;
    }
    running.quiesce.cancel();
    take_the_rest(&mut peer, &mut record).await;
    assert_all_arrived(running, &record).await;
}

async fn take_the_rest(peer: &mut Peer, record: &mut Record) {
    while let Some(frame) = peer.publish().await {
        record.enter(&frame.topic, &frame.payload);
        peer.ack(frame.id).await;
    }
}

/// The device has ended, and every event arrived in its order.
async fn assert_all_arrived(running: Running, record: &Record) {
    timeout(TIME_MAX, running.task).await.expect("the device ends").unwrap();
    let sampled = get(&running.counters.sampled_events) as u32;
    assert_eq!(get(&running.counters.lost_events), 0);
    let first = &record.of("sim-1").first;
    assert!(first.iter().copied().eq(0..sampled), "{} of {sampled} arrived", first.len());
}

#[tokio::test]
async fn a_birth_that_is_refused_is_said_again() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Climatic>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    for _ in 0..3 {
        let birth = next_of(&mut peer, "tg/sim-1/b").await;
        assert_eq!(connection(&birth), 1);
        peer.refuse(birth.id, QUOTA_EXCEEDED).await;
    }
    running.end().await;
}

#[tokio::test]
async fn the_will_says_which_connection_is_gone() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Climatic>(device("sim-1", gateway.port));
    for number in 1..=3 {
        let peer = gateway.accept(false, &[]).await;
        let will = Status::parse(&peer.will).unwrap();
        assert_eq!((will.boot, will.connection, will.state), (7, number, State::Offline));
    }
    running.end().await;
}

#[tokio::test]
async fn a_device_says_that_it_is_there_and_that_it_stops() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Talkative>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    for _ in 0..5 {
        let publish = next_of(&mut peer, "tg/sim-1/s").await;
        let status = Status::parse(&publish.payload).unwrap();
        assert_eq!((status.boot, status.connection, status.state), (7, 1, State::Online));
        assert!(!publish.retain);
        peer.ack(publish.id).await;
    }
    running.quiesce.cancel();
    let mut last = None;
    while let Some(publish) = peer.any_publish().await {
        peer.ack(publish.id).await;
        last = Some(publish);
    }
    let last = last.unwrap();
    assert_eq!(last.topic, "tg/sim-1/s", "the last word before DISCONNECT");
    assert_eq!(Status::parse(&last.payload).unwrap().state, State::Stopping);
    running.end().await;
}

#[tokio::test]
async fn a_status_that_is_not_answered_is_not_followed_by_more() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Talkative>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    next_of(&mut peer, "tg/sim-1/s").await;
    let deadline = get(&running.counters.sampled_events) + 100;
    while get(&running.counters.sampled_events) < deadline {
        let publish = peer.any_publish().await.unwrap();
        assert_ne!(publish.topic, "tg/sim-1/s");
        peer.ack(publish.id).await;
    }
    running.end().await;
}

#[tokio::test]
async fn a_device_that_is_asked_says_its_birth_again_and_acknowledges_every_command() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Climatic>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let birth = next_of(&mut peer, "tg/sim-1/b").await;
    peer.ack(birth.id).await;
    next_of(&mut peer, "tg/sim-1/e").await;
    for id in 1..=3 {
        peer.command(id, "tg/sim-1/c", b"birth").await;
        let again = next_of(&mut peer, "tg/sim-1/b").await;
        assert_eq!(connection(&again), 1);
        peer.ack(again.id).await;
    }
    peer.command(4, "tg/sim-1/c", b"open the window").await;
    while peer.acked.len() < 4 {
        let publish = peer.any_publish().await.unwrap();
        assert_ne!(publish.topic, "tg/sim-1/b", "only when it is asked");
        peer.ack(publish.id).await;
    }
    assert_eq!(peer.acked, [1, 2, 3, 4]);
    running.end().await;
}

#[tokio::test]
async fn commands_beyond_a_connections_memory_begin_a_new_connection_and_lose_nothing() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Climatic>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &[]).await;
    let mut record = Record::default();
    let mut id = 0;
    let orderly = loop {
        id += 1;
        assert!(id < 100, "the memory ends before");
        peer.command(id, "tg/sim-1/c", &[b'x'; 80]).await;
        let Some(publish) = peer.publish().await else { break true };
        record.enter(&publish.topic, &publish.payload);
        peer.ack(publish.id).await;
    };
    assert!(orderly && id > 5, "a DISCONNECT after {id} commands");
    let mut peer = gateway.accept(true, &[]).await;
    running.quiesce.cancel();
    take_the_rest(&mut peer, &mut record).await;
    assert_all_arrived(running, &record).await;
}

#[tokio::test]
async fn a_gateway_that_takes_one_publish_at_a_time_gets_birth_and_frames() {
    let gateway = Gateway::listen(0).await;
    let running = Running::start::<Talkative>(device("sim-1", gateway.port));
    let mut peer = gateway.accept(false, &RECEIVE_MAX_1).await;
    let birth = peer.any_publish().await.unwrap();
    assert_eq!(connection(&birth), 1);
    until("two frames' events", || get(&running.counters.sampled_events) > 50).await;
    peer.ack(birth.id).await;
    for _ in 0..5 {
        let frame = peer.publish().await.unwrap();
        peer.ack(frame.id).await;
    }
    running.quiesce.cancel();
    while let Some(frame) = peer.publish().await {
        peer.ack(frame.id).await;
    }
    until("the end", || running.task.is_finished()).await;
    assert_eq!(get(&running.counters.acked_events), get(&running.counters.sampled_events));
}

#[tokio::test]
async fn a_gateway_that_takes_no_birth_of_that_length_gets_frames_all_the_same() {
    let gateway = Gateway::listen(0).await;
    let settings = DeviceSettings { batch_events: 2, window: 1, ..device("sim-1", gateway.port) };
    let running = Running::start::<Climatic>(settings);
    let mut peer = gateway.accept(false, &PACKET_BYTES_MAX_64).await;
    let publish = peer.any_publish().await.unwrap();
    assert_eq!(publish.topic, "tg/sim-1/e");
    running.end().await;
}

#[test]
fn the_birth_of_a_model_is_known_without_running_it() {
    let bytes = birth_of::<Climatic>(3);
    let birth = Birth::parse(&bytes).unwrap();
    assert_eq!((birth.boot, birth.connection, birth.kinds), (3, 1, Kinds::new(KINDS)));
}

//! An upstream that refuses, limits, hangs or forgets: what can be delivered is, and one bad event
//! stops nothing.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    chaos::{Link, Proxy},
    client::Client,
    clock::wait_for,
    codec::{Ack, Connect, Packet, Publish, Received, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Recorder},
    rng::Rng,
    upstream::{Cloud, Inbox, Reply, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);

async fn publish(gateway: &Gateway, messages: &[(&str, Vec<u8>)]) {
    let connect = Connect { version: Version::V311, client_id: "c", clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
    for (at, (topic, payload)) in messages.iter().enumerate() {
        let packet_id = at as u16 + 1;
        client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] });
        client.flush().await.expect("the connection is open");
        let expected = Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 };
        assert_eq!(client.next().await, expected, "{topic}");
    }
}

fn topics(inbox: &Mutex<Inbox>) -> Vec<String> {
    let text = |message: &Received| String::from_utf8_lossy(&message.topic).into_owned();
    inbox.lock().messages.iter().map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_too_large_for_the_upstream_is_set_aside_and_those_behind_it_go_on() {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    // Maximum Packet Size 1000: [MQTT5] 3.2.2.3.6.
    let upstream = Upstream::start_with(inbox.clone(), &[0x27, 0, 0, 3, 0xE8]).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    publish(&gateway, &[("a", vec![b'x'; 10]), ("b", vec![b'x'; 2000]), ("c", vec![b'x'; 10])]).await;
    wait_for("the events around the large one", LIMIT, || topics(&inbox) == ["up/a", "up/c"]).await;
    wait_for("the count of what was set aside", LIMIT, || {
        gateway.metric("tidegate_set_aside_events_total") == 1.0
            && gateway.metric("tidegate_backlog_events") == 0.0
    })
    .await;
}

/// Refuses one topic for ever, takes the others.
#[derive(Default)]
struct Picky {
    taken: Vec<String>,
    refused: u32,
}

impl Cloud for Picky {
    fn take(&mut self, publish: &Received) -> Reply {
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        if topic.ends_with("bad") {
            self.refused += 1;
            return Reply::Refuse(0x90);
        }
        self.taken.push(topic);
        Reply::Ack
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_event_that_the_upstream_refuses_for_its_topic_is_set_aside_and_those_behind_it_go_on() {
    let cloud = Arc::new(Mutex::new(Picky::default()));
    let upstream = Upstream::start(cloud.clone()).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    publish(&gateway, &[("a", vec![1]), ("bad", vec![2]), ("c", vec![3])]).await;
    wait_for("the events around the refused one", LIMIT, || cloud.lock().taken == ["up/a", "up/c"]).await;
    wait_for("the count of what was set aside", LIMIT, || {
        gateway.metric("tidegate_set_aside_events_total") == 1.0
            && gateway.metric("tidegate_backlog_events") == 0.0
    })
    .await;
    assert_eq!(cloud.lock().refused, 1, "what it will never take is not sent again");
}

/// Closes the connection now and then in place of an acknowledgement.
struct Unsteady {
    rng: Rng,
    recorder: Recorder,
    closed: u32,
}

impl Cloud for Unsteady {
    fn take(&mut self, publish: &Received) -> Reply {
        self.recorder.record(publish);
        if self.closed < 30 && self.rng.between(0, 500) == 0 {
            self.closed += 1;
            return Reply::Close;
        }
        Reply::Ack
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upstream_that_breaks_off_again_and_again_gets_everything_in_order() {
    for version in [Version::V311, Version::V5] {
        let rng = Rng::from_environment("breaking off");
        let cloud = Unsteady { rng, recorder: Recorder::new("up/"), closed: 0 };
        let cloud = Arc::new(Mutex::new(cloud));
        let upstream = Upstream::start(cloud.clone()).await;
        let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), version)));
        let devices = ["a", "b", "c"].map(|name| Device { count_max: 10_000, ..Device::new(name, version) });
        let ledgers = Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
        wait_for("everything upstream", LIMIT, || oracle::is_complete(&ledgers, &cloud.lock().recorder))
            .await;
        let verdict = oracle::judge(&ledgers, &cloud.lock().recorder);
        verdict.demand();
        assert!(cloud.lock().closed >= 5 && verdict.copies > 0, "the upstream was steady");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_uplinks_do_not_wait_for_each_other() {
    let (near, far) =
        (Arc::new(Mutex::new(Recorder::new("up/"))), Arc::new(Mutex::new(Recorder::new("lake/"))));
    let (near_upstream, far_upstream) =
        (Upstream::start(near.clone()).await, Upstream::start(far.clone()).await);
    let proxy = Proxy::start(far_upstream.address).await;
    proxy.set(Link::Cut);
    let mut setup = Setup::new(Uplink::new(&near_upstream.url(), Version::V5));
    let url = format!("mqtt://{}", proxy.address);
    setup.uplinks.push(Uplink {
        name: "lake".into(),
        topic: "lake/{topic}".into(),
        ..Uplink::new(&url, Version::V311)
    });
    let gateway = Gateway::start(setup);
    let device = Device { count_max: 20_000, ..Device::new("d", Version::V5) };
    let ledgers = Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
    wait_for("everything at the near one", LIMIT, || oracle::is_complete(&ledgers, &near.lock())).await;
    assert_eq!(far.lock().deliveries(), 0);
    proxy.set(Link::Open);
    wait_for("everything at the far one", LIMIT, || oracle::is_complete(&ledgers, &far.lock())).await;
    oracle::judge(&ledgers, &near.lock()).demand();
    oracle::judge(&ledgers, &far.lock()).demand();
}

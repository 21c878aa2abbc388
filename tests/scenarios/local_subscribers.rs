//! The gateway as the local broker of tools that know nothing of it: paho-mqtt and aiomqtt
//! (Python), mqtt (npm), mosquitto's programs and rumqttc, each over MQTT 3.1.1 and 5.
//!
//! Every tool goes through the same life, on topics that a route stores and on topics that none
//! does: it gets retained messages and live ones, publishes, shares a subscription, is away while
//! messages come for it, unsubscribes, and dies and leaves a will.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use tidegate_tests::{
    client::Client,
    clock::now,
    codec::{self, Ack, Connect, Packet, Publish, Version},
    foreign::{Maker, Message, Setup, Tool},
    gateway::{self, Gateway, Uplink},
    subscriber::{Subscriber, text},
    upstream::{Inbox, Upstream},
};

/// Messages of each kind.
const COUNT: usize = 20;

/// Another client: publishes, and gets what the tool publishes.
struct Other {
    publisher: Client,
    version: Version,
    subscriber: Subscriber,
    seen: usize,
}

impl Other {
    async fn start(gateway: SocketAddr, version: Version, prefix: &str) -> Self {
        let name = format!("other-{}", prefix.replace('/', "-"));
        let subscriber = Subscriber::start(gateway, version, &name, &[(&format!("{prefix}/from/#"), 2)]);
        wait_for("the grant", || subscriber.book().granted == 1).await;
        let connect =
            Connect { version, client_id: &format!("{name}-publisher"), clean: true, keep_alive_s: 60 };
        let publisher = Client::connect(gateway, &connect).await.expect("the gateway accepts");
        Self { publisher, version, subscriber, seen: 0 }
    }

    /// Publishes, and waits for the acknowledgement.
    async fn publish(&mut self, qos: u8, retain: bool, topic: &str, text: &str) {
        let publish =
            Publish { topic, payload: text.as_bytes(), qos, packet_id: 1, dup: false, user_properties: &[] };
        let put = if retain { codec::put_retained } else { codec::put_publish };
        put(&mut self.publisher.output, self.version, &publish);
        for ack in [&[][..], &[Ack::PubAck], &[Ack::PubRec, Ack::PubComp]][usize::from(qos)] {
            if *ack == Ack::PubComp {
                codec::put_ack(&mut self.publisher.output, Ack::PubRel, 1, 0);
            }
            self.publisher.flush().await.expect("the connection is open");
            let answer = self.publisher.next().await;
            // 0x10: nobody takes it.
            let is_ack = matches!(answer, Packet::Ack { ack: a, reason: 0 | 0x10, .. } if a == *ack);
            assert!(is_ack, "{answer:?}");
        }
        self.publisher.flush().await.expect("the connection is open");
    }

    /// The next message from the tool: QoS, topic and payload.
    async fn next(&mut self) -> (u8, String, String) {
        let at = self.seen;
        self.seen += 1;
        wait_for("a message from the tool", || self.subscriber.book().messages.len() > at).await;
        let book = self.subscriber.book();
        let message = &book.messages[at];
        (message.qos, text(&message.topic), text(&message.payload))
    }
}

async fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    tidegate_tests::clock::wait_for(what, Duration::from_secs(30), condition).await;
}

fn message(qos: u8, retain: bool, topic: &str, text: impl ToString) -> Message {
    Message { qos, retain, topic: topic.into(), text: text.to_string() }
}

/// All that a tool needs of a broker, in both versions.
async fn live(maker: Maker) {
    let upstream = Upstream::start(std::sync::Arc::new(parking_lot::Mutex::new(Inbox::default()))).await;
    let mut setup = gateway::Setup::new(Uplink::new(&upstream.url(), Version::V5));
    setup.routes = vec![("stored/#".into(), "opaque".into())];
    let mut gateway = Gateway::start(setup);
    for version in [Version::V311, Version::V5] {
        for place in ["stored", "local"] {
            let prefix = format!("{place}/{}", version as u8);
            eprintln!("{maker:?} on {prefix}");
            let mut other = Other::start(gateway.mqtt, version, &prefix).await;
            let setup = Setup {
                maker: maker.clone(),
                version,
                name: format!("tool-{}", prefix.replace('/', "-")),
                clean: true,
                will: None,
                qos: 2,
                filters: vec![],
            };
            gets_and_gives(&gateway, &setup, &prefix, &mut other).await;
            shares(&gateway, &setup, &prefix, &mut other).await;
            comes_back(&gateway, &setup, &prefix, &mut other).await;
            dies(&gateway, &setup, &prefix, &mut other).await;
        }
    }
    assert_eq!(gateway.metric("tidegate_local_dropped_total"), 0.0);
    gateway.terminate();
}

/// Retained messages, live ones with each QoS in their order, and its own to others.
async fn gets_and_gives(gateway: &Gateway, setup: &Setup, prefix: &str, other: &mut Other) {
    let lamp = format!("{prefix}/house/kitchen/lamp");
    other.publish(1, true, &lamp, "off").await;
    let filters = vec![format!("{prefix}/house/+/lamp"), format!("{prefix}/deep/#")];
    let mut tool = Tool::start(gateway.mqtt, Setup { filters, ..setup.clone() });
    assert_eq!(tool.next_message(), message(1, true, &lamp, "off"));
    other.publish(1, true, &lamp, "on").await;
    assert_eq!(
        tool.next_message(),
        message(1, false, &lamp, "on"),
        "what is not kept for later is not marked"
    );
    for qos in 0..=2 {
        let topic = format!("{prefix}/deep/a/b/{qos}");
        for count in 0..COUNT {
            other.publish(qos, false, &topic, &count.to_string()).await;
        }
        for count in 0..COUNT {
            assert_eq!(tool.next_message(), message(qos, false, &topic, count));
        }
        let topic = format!("{prefix}/from/{qos}");
        for count in 0..COUNT.min(5) {
            tool.publish(qos, false, &topic, &count.to_string());
            assert_eq!(other.next().await, (qos, topic.clone(), count.to_string()));
        }
    }
    tool.leave();
    other.publish(1, true, &lamp, "").await;
}

/// Each message of a shared subscription goes to one of its members.
async fn shares(gateway: &Gateway, setup: &Setup, prefix: &str, other: &mut Other) {
    let member = |name: &str| {
        let filters = vec![format!("$share/workers/{prefix}/jobs/+"), format!("{prefix}/end")];
        Tool::start(gateway.mqtt, Setup { filters, name: format!("{}-{name}", setup.name), ..setup.clone() })
    };
    let members = [member("a"), member("b")];
    for count in 0..COUNT {
        other.publish(1, false, &format!("{prefix}/jobs/{}", count % 3), &count.to_string()).await;
    }
    other.publish(1, false, &format!("{prefix}/end"), "end").await;
    let mut done = vec![];
    for mut member in members {
        let before = done.len();
        loop {
            let message = member.next_message();
            if message.text == "end" {
                break;
            }
            done.push(message.text);
        }
        assert!(done.len() > before, "a member got nothing: {done:?}");
        member.leave();
    }
    let all: BTreeSet<_> = done.iter().cloned().collect();
    assert!(done.len() == COUNT && all.len() == COUNT, "{done:?}");
}

/// A session that is kept gets what came while its client was away, and ends what it unsubscribes
/// from.
async fn comes_back(gateway: &Gateway, setup: &Setup, prefix: &str, other: &mut Other) {
    let (news, rest) = (format!("{prefix}/news/+"), format!("{prefix}/rest"));
    let filters = vec![news.clone(), rest.clone()];
    let setup = Setup { clean: false, filters, name: format!("{}-kept", setup.name), ..setup.clone() };
    let tool = Tool::start(gateway.mqtt, setup.clone());
    assert_ne!(tool.session_present, Some(true));
    tool.leave();
    for qos in [1, 2] {
        for count in 0..COUNT {
            other.publish(qos, false, &format!("{prefix}/news/{qos}"), &count.to_string()).await;
        }
    }
    let mut tool = Tool::resume(gateway.mqtt, setup);
    assert_ne!(tool.session_present, Some(false));
    let mut got: Vec<_> = (0..2 * COUNT).map(|_| tool.next_message()).collect();
    // Each QoS has an order of its own.
    got.sort_by_key(|message| message.qos);
    for (at, got) in got.into_iter().enumerate() {
        let qos = 1 + (at / COUNT) as u8;
        assert_eq!(got, message(qos, false, &format!("{prefix}/news/{qos}"), at % COUNT));
    }
    let mut tool = tool.unsubscribe(&news);
    other.publish(1, false, &format!("{prefix}/news/1"), "nobody's").await;
    other.publish(1, false, &rest, "last").await;
    assert_eq!(tool.next_message(), message(1, false, &rest, "last"));
    tool.leave();
}

/// What it wanted said when it is gone is said, and not when it takes its leave.
async fn dies(gateway: &Gateway, setup: &Setup, prefix: &str, other: &mut Other) {
    let will = format!("{prefix}/from/will");
    let setup = Setup { will: Some(will.clone()), ..setup.clone() };
    Tool::start(gateway.mqtt, Setup { name: format!("{}-polite", setup.name), ..setup.clone() }).leave();
    // This one takes its leave with a word that asks for its will: reason 0x04.
    if (&setup.maker, setup.version) == (&Maker::Mosquitto, Version::V5) {
        assert_eq!(other.next().await, (1, will.clone(), "gone".into()));
    }
    let dead = Tool::start(gateway.mqtt, Setup { name: format!("{}-mortal", setup.name), ..setup });
    drop(dead);
    assert_eq!(other.next().await, (1, will, "gone".into()));
    other.publish(1, false, &format!("{prefix}/from/end"), "end").await;
    assert_eq!(other.next().await.2, "end", "one will, of the one that died");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn paho_mqtt_has_the_gateway_for_its_broker() {
    live(Maker::Paho).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn aiomqtt_has_the_gateway_for_its_broker() {
    live(Maker::Aiomqtt).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn npm_s_mqtt_has_the_gateway_for_its_broker() {
    live(Maker::Npm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn mosquitto_s_programs_have_the_gateway_for_their_broker() {
    live(Maker::Mosquitto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn rumqttc_has_the_gateway_for_its_broker() {
    live(Maker::Rumqttc(env!("CARGO_BIN_EXE_rumqttc_tool").into())).await;
}

/// npm's mqtt, and Node-RED with it, is such a client: where a system acknowledges small packets
/// only after 40 ms, as systems do that wait for an answer, its next message waits that long.
#[tokio::test]
async fn a_client_with_nagles_algorithm_waits_for_no_delayed_acknowledgement_after_its_own() {
    const ROUNDS: usize = 41;
    const DELAYED: Duration = Duration::from_millis(25);
    let gateway = Gateway::start(gateway::Setup {
        routes: vec![],
        ..gateway::Setup::new(Uplink::new("mqtt://127.0.0.1:1", Version::V311))
    });
    let connect = async |client_id| {
        let connect = Connect { version: Version::V311, client_id, clean: true, keep_alive_s: 60 };
        Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts")
    };
    let (mut lamp, mut switch) = (connect("lamp").await, connect("switch").await);
    lamp.leave_nagle_on().expect("the connection is open");
    lamp.subscribe("lamp/set").await;
    switch.subscribe("lamp/is").await;
    let publish = |topic, qos| Publish {
        topic,
        payload: b"on",
        qos,
        packet_id: qos.into(),
        dup: false,
        user_properties: &[],
    };
    let mut took = vec![];
    for _ in 0..ROUNDS {
        let begun = now();
        switch.put_publish(&publish("lamp/set", 1));
        switch.flush().await.expect("the connection is open");
        // The acknowledgement is a packet of its own, and the answer the one behind it.
        lamp.next_publish().await;
        lamp.put_publish(&publish("lamp/is", 0));
        lamp.flush().await.expect("the connection is open");
        assert_eq!(switch.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
        switch.next_publish().await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!("{ROUNDS} rounds: p50 {:?}, longest {:?}", took[ROUNDS / 2], took[ROUNDS - 1]);
    assert!(took[ROUNDS / 2] < DELAYED, "{took:?}");
}

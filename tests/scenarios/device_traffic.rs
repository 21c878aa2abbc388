//! Home Assistant, zigbee2mqtt, Tasmota, a Victron GX and a Sparkplug node at mosquitto and at
//! Tidegate, side by side: what they say is as their makers document it, said by paho, and
//! subscribers see the same at both.
//!
//! Compared are, for each subscriber and topic, the messages in their order: QoS, retain flag,
//! payload. Between topics of different clients no broker promises an order.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::Value;
use tidegate_tests::{
    brokers::Mosquitto,
    codec::Version,
    gateway::{Gateway, Setup, Uplink},
    tools,
};

/// Messages that a subscriber of everything sees at the least, if all of it was said.
const MESSAGES_MIN: usize = 1_600;

/// By subscriber and topic, the messages in their order.
type Seen = BTreeMap<(String, String), Vec<Value>>;

/// Has all of it said to a broker, and gives what each subscriber saw.
fn seen_at(broker: SocketAddr, version: &str) -> Seen {
    let output = Command::new(tools::python_with_paho())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/device_traffic.py"))
        .args([&broker.port().to_string(), version])
        .stdin(Stdio::null())
        .output()
        .expect("python can be started");
    assert!(output.status.success(), "MQTT {version} at {broker}: {output:?}");
    let mut seen = Seen::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let (name, messages): (String, Vec<Vec<Value>>) = serde_json::from_str(line).expect("JSON");
        for mut message in messages {
            let topic = message.remove(0).as_str().expect("a topic").to_owned();
            seen.entry((name.clone(), topic)).or_default().push(message.into());
        }
    }
    seen
}

fn count(seen: &Seen, subscriber: &str) -> usize {
    seen.iter().filter(|((name, _), _)| name == subscriber).map(|(_, messages)| messages.len()).sum()
}

/// Once with all of it stored for an uplink, and once with none of it: a message takes another way
/// through the gateway then.
fn assert_same(version: &str) {
    let peer = Mosquitto::start();
    let theirs = seen_at(peer.address, version);
    assert!(count(&theirs, "early") >= MESSAGES_MIN, "{}", count(&theirs, "early"));
    for route in ["#", "nobody/says/this"] {
        let upstream = Mosquitto::start();
        let mut setup = Setup::new(Uplink::new(&upstream.url(), Version::V311));
        setup.routes = vec![(route.into(), "opaque".into())];
        let gateway = Gateway::start(setup);
        assert_alike(&theirs, &seen_at(gateway.mqtt, version), &format!("MQTT {version}, route {route}"));
    }
}

fn assert_alike(theirs: &Seen, ours: &Seen, what: &str) {
    for name in ["early", "assistant", "app", "late"] {
        println!("{what}, {name}: mosquitto {}, Tidegate {}", count(theirs, name), count(ours, name));
    }
    assert_eq!(theirs.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    for (place, messages) in theirs {
        let shown = |messages: &[Value]| {
            let short = |message: &Value| message.to_string().chars().take(80).collect::<String>();
            messages.iter().map(short).collect::<Vec<_>>()
        };
        let own = &ours[place];
        assert!(
            messages == own,
            "{what}, {place:?}: {:#?} at mosquitto, {:#?} here",
            shown(messages),
            shown(own)
        );
    }
}

#[test]
fn what_people_have_at_home_and_at_work_sees_at_tidegate_what_it_sees_at_mosquitto_on_mqtt_3_1_1() {
    assert_same("4");
}

#[test]
fn what_people_have_at_home_and_at_work_sees_at_tidegate_what_it_sees_at_mosquitto_on_mqtt_5() {
    assert_same("5");
}

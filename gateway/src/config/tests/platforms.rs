//! `platform`: what it sets where no other key does, and what it refuses.

use std::num::{NonZeroU32, NonZeroU64};

use super::{problems, read, uplink};
use crate::uplink::{
    Settings, Upstream,
    engine::mqtt::{Retain, Version},
};

fn one(rest: &str) -> Settings {
    let mut settings = read(&uplink(rest)).unwrap_or_else(|error| panic!("{rest}: {error}"));
    settings.uplinks.remove(0)
}

#[test]
fn a_platform_sets_what_no_other_key_sets() {
    let aws = one("platform = \"aws-iot\"\n");
    assert_eq!(aws.pace.events_per_s, NonZeroU32::new(95));
    assert_eq!(aws.pace.bytes_per_s, NonZeroU64::new(498_073));
    assert_eq!((aws.pace.inflight_bytes, aws.window.get()), (None, 100));
    let Upstream::Mqtt(broker) = &aws.upstream else { panic!("{aws:?}") };
    assert_eq!((broker.packet_bytes_max, broker.retain), (Some(131_072), Retain::Never));
    assert_eq!((broker.version, broker.keep_alive.as_secs()), (Version::V5, 30));

    let slower = "platform = \"aws-iot\"\nevents_per_second = 10\nwindow = 5\nmax_packet_bytes = \"2 KiB\"\n";
    let slower = one(&format!("{slower}retain = \"as-published\"\nkeep_alive = \"60s\"\n"));
    assert_eq!((slower.pace.events_per_s, slower.window.get()), (NonZeroU32::new(10), 5));
    let Upstream::Mqtt(broker) = &slower.upstream else { panic!("{slower:?}") };
    assert_eq!((broker.packet_bytes_max, broker.retain), (Some(2048), Retain::AsPublished));
    assert_eq!(broker.keep_alive.as_secs(), 60);

    let hub = "platform = \"azure-iot-hub\"\nclient_id = \"{gateway}\"\n";
    let hub = one(&format!("{hub}topic = \"devices/{{gateway}}/messages/events/device={{device}}\"\n"));
    let Upstream::Mqtt(broker) = &hub.upstream else { panic!("{hub:?}") };
    assert_eq!((broker.version, hub.pace.events_per_s, hub.window.get()), (Version::V311, None, 1000));

    let plain = one("platform = \"tidegate\"\n");
    assert_eq!((plain.pace, plain.window.get()), (one("").pace, 1000));
}

#[test]
fn what_cannot_fit_a_platform_is_refused_at_its_key() {
    for (platform, rest, expected) in [
        ("aws", "", "6: [[uplink]] platform: unknown platform \"aws\"; did you mean \"aws-iot\"?"),
        (
            "aws-iot",
            "events_per_second = 200\n",
            "7: [[uplink]] events_per_second: 200 events a second are more than the 100 that AWS IoT Core takes; without the key it is 95",
        ),
        (
            "azure-event-grid",
            "inflight_bytes = \"1 MiB\"\n",
            "7: [[uplink]] inflight_bytes: 1048576 bytes in flight are more than the 64000 that Azure Event Grid takes; without the key it is 64000",
        ),
        (
            "aws-iot",
            "window = 101\n",
            "7: [[uplink]] window: 101 messages in flight are more than the 100 that AWS IoT Core takes; without the key it is 100",
        ),
        (
            "thingsboard",
            "topic = \"v1/devices/me/telemetry\"\nmax_packet_bytes = \"65 KiB\"\n",
            "8: [[uplink]] max_packet_bytes: 66560 bytes in a packet are more than the 65536 that ThingsBoard takes; without the key it is 65536",
        ),
        (
            "aws-iot",
            "keep_alive = \"10s\"\n",
            "7: [[uplink]] keep_alive: AWS IoT Core takes 30 to 1200 s; without the key it is 30 s",
        ),
        (
            "azure-iot-hub",
            "protocol = \"5\"\ntopic = \"devices/tidegate-barn-7-c/messages/events/\"\n",
            "7: [[uplink]] protocol: Azure IoT Hub does not speak it; remove the key",
        ),
        (
            "azure-iot-hub",
            "",
            "6: [[uplink]] platform: topics of Azure IoT Hub begin with devices/tidegate-barn-7-c/messages/events/; set \"topic\" so",
        ),
        (
            "aws-iot",
            "topic = \"a/b/c/d/e/f/g/h/{device}\"\n",
            "7: [[uplink]] topic: the topic for the upstream has 8 slashes, more than 7, whatever the event: shorten it for AWS IoT Core",
        ),
        (
            "azure-event-grid",
            "client_id = \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"\n",
            "7: [[uplink]] client_id: the client id has 129 bytes, more than the 128 that Azure Event Grid takes",
        ),
    ] {
        let said = problems(&uplink(&format!("platform = {platform:?}\n{rest}")));
        assert_eq!(said, format!("g.toml:{expected}"));
    }
    let nats =
        "[gateway]\nid = \"barn-7\"\n[[uplink]]\nname = \"c\"\nurl = \"nats://a\"\nplatform = \"tidegate\"\n";
    assert_eq!(problems(nats), "g.toml:6: [[uplink]] platform: for mqtt:// alone; remove it");
}

//! What an event looks like on the wire, byte by byte where it matters.

use tidegate_protocol::FrameWriter;

use super::{
    super::{Template, engine::mqtt::Version, template::TopicLimits},
    broker::{ACCEPTED_V5, ACCEPTED_V311, Arrival, Broker, Reply},
    *,
};

/// User properties of a v5 PUBLISH; panics on any other property before `rest`.
pub fn user_properties<'a>(mut bytes: &'a [u8], rest: &[u8]) -> Vec<(&'a str, &'a str)> {
    let mut found = vec![];
    while bytes != rest {
        assert_eq!(bytes[0], 0x26);
        bytes = &bytes[1..];
        let mut text = || {
            let (length, after) = bytes.split_at(2);
            let (text, after) = after.split_at(u16::from_be_bytes([length[0], length[1]]).into());
            bytes = after;
            std::str::from_utf8(text).unwrap()
        };
        found.push((text(), text()));
    }
    found
}

async fn send(
    settings: impl FnOnce(&mut Settings),
    connack: &[u8],
    records: &[Owned],
) -> (Vec<Arrival>, Log) {
    let broker = Broker::start(connack, |_, _| Reply::Ack).await;
    let mut chosen = super::settings(broker.port);
    settings(&mut chosen);
    let log = Log::default();
    records.iter().for_each(|record| log.push(record.clone()));
    let uplink = Running::start(chosen, log.clone());
    uplink.released(records.len() as u64).await;
    uplink.stop().await;
    (broker.arrivals().into_iter().map(|(_, arrival)| arrival).collect(), log)
}

pub fn frame(boot: u32, first_seq: u32) -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = FrameWriter::new(&mut buffer, boot, first_seq, 7, false);
    for at_ms in [1000, 2000] {
        writer.push(at_ms, 0, &[1, 2]).unwrap();
    }
    writer.finish().to_vec()
}

#[tokio::test]
async fn on_mqtt_5_every_event_says_what_it_is() {
    let framed = Owned { kind: Kind::Frame, events: 2, ..Owned::new("tg/stall-3/e", &frame(12, 345)) };
    let foreign =
        Owned { properties: vec![0x01, 1, 0x03, 0, 1, b'x'], ..Owned::new("zigbee2mqtt/door", b"{}") };
    let status = Owned::new("tg/stall-3/s", b"up");
    let version = |settings: &mut Settings| settings.broker().version = Version::V5;
    let (arrivals, _) = send(version, ACCEPTED_V5, &[framed.clone(), foreign.clone(), status]).await;
    let received = ("tidegate-received", "2023-11-14T22:13:20.123Z");
    assert_eq!(
        user_properties(&arrivals[0].properties, &[]),
        [
            ("tidegate-id", "stall-3/12/345"),
            ("tidegate-count", "2"),
            ("tidegate-device", "stall-3"),
            received,
        ]
    );
    assert_eq!(
        user_properties(&arrivals[1].properties, &foreign.properties),
        [("tidegate-id", "barn-7/0badcafe-1"), ("tidegate-device", "client"), received]
    );
    assert_eq!(
        user_properties(&arrivals[2].properties, &[]),
        [("tidegate-id", "barn-7/0badcafe-2"), ("tidegate-device", "stall-3"), received]
    );
    assert_eq!(arrivals[0].payload, framed.payload);
}

#[tokio::test]
async fn on_mqtt_3_an_event_goes_out_as_it_came() {
    let retained = Owned { retain: true, properties: vec![0x01, 1], ..Owned::new("a/b", b"\0\xFF") };
    let (arrivals, _) = send(|_| (), ACCEPTED_V311, &[retained]).await;
    let expected =
        Arrival { id: 1, head: 0x33, topic: "a/b".into(), properties: vec![], payload: vec![0, 0xFF] };
    assert_eq!(arrivals, [expected]);
}

#[tokio::test]
async fn an_upstream_without_retained_messages_is_not_sent_the_flag() {
    let retained = Owned { retain: true, ..Owned::new("a/b", b"1") };
    let version = |settings: &mut Settings| settings.broker().version = Version::V5;
    for (connack, head) in [(&[0x20, 5, 0, 0, 2, 0x25, 0][..], 0x32), (ACCEPTED_V5, 0x33)] {
        let (arrivals, _) = send(version, connack, std::slice::from_ref(&retained)).await;
        assert_eq!(arrivals[0].head, head);
    }
}

#[tokio::test]
async fn an_empty_retained_message_stays_one_in_every_format() {
    use super::super::FormatName::{CloudEvents, Json, Raw};
    let deletion = |kind| Owned { kind, retain: true, ..Owned::new("house/mode", b"") };
    let mut table = vec![];
    for (version, connack) in [(Version::V5, ACCEPTED_V5), (Version::V311, ACCEPTED_V311)] {
        for format in [Raw, Json, CloudEvents] {
            table.extend([Kind::Json, Kind::Opaque].map(|kind| (version, connack, format, kind)));
        }
    }
    for (version, connack, format, kind) in table {
        let settings = |settings: &mut Settings| {
            (settings.broker().version, settings.format) = (version, format);
            settings.topic = Template::parse("up/{topic}").unwrap();
        };
        let (arrivals, log) = send(settings, connack, &[deletion(kind)]).await;
        let case = format!("{version:?} {format:?} {kind:?}: {arrivals:?}");
        assert_eq!((arrivals.len(), log.aside().len()), (1, 0), "{case}");
        assert_eq!((arrivals[0].head, &*arrivals[0].topic), (0x33, "up/house/mode"), "{case}");
        assert!(arrivals[0].payload.is_empty(), "{case}");
        let id = if format == CloudEvents { "id" } else { "tidegate-id" };
        if version == Version::V5 {
            let properties = user_properties(&arrivals[0].properties, &[]);
            assert!(properties.contains(&(id, "barn-7/0badcafe-0")), "{case}");
        }
    }
    // Where nothing is retained there is nothing to take away: it is an event like any other.
    let settings =
        |settings: &mut Settings| (settings.broker().version, settings.format) = (Version::V5, Json);
    let (arrivals, _) = send(settings, &[0x20, 5, 0, 0, 2, 0x25, 0], &[deletion(Kind::Opaque)]).await;
    assert_eq!((arrivals[0].head, arrivals[0].payload[0]), (0x32, b'{'));
}

#[tokio::test]
async fn the_template_makes_the_topic_and_what_is_no_topic_is_set_aside() {
    let settings = |settings: &mut Settings| {
        let template = Template::parse("sites/{gateway}/{device}/{topic}").unwrap();
        settings.topic = template.within(TopicLimits { slashes_max: 6, ..TopicLimits::MQTT });
    };
    let bad = Owned { client: "cli#ent".into(), ..Owned::new("a/b", b"1") };
    let deep = Owned::new("a/b/c/d/e", b"2");
    let records = [Owned::new("tg/s3/e", b"0"), bad, deep, Owned::new("a/b", b"3")];
    let (arrivals, log) = send(settings, ACCEPTED_V311, &records).await;
    let topics: Vec<_> = arrivals.iter().map(|arrival| arrival.topic.as_str()).collect();
    assert_eq!(topics, ["sites/barn-7/s3/tg/s3/e", "sites/barn-7/client/a/b"]);
    let whys = ["holds a wildcard or NUL", "has 7 slashes, more than 6"];
    let aside: Vec<_> = (1..).zip(whys.map(|why| format!("the topic for the upstream {why}"))).collect();
    assert_eq!(log.aside(), aside);
}

#[tokio::test]
async fn a_foreign_event_is_of_the_device_that_a_level_of_its_topic_names_in_every_format() {
    use super::super::FormatName::{CloudEvents, Json, Raw, ThingsBoard};
    let by_level = |topic: &str| Owned {
        kind: Kind::Json,
        device_level: std::num::NonZeroU8::new(2),
        ..Owned::new(topic, b"{}")
    };
    let topics = ["rtl_433/attic/devices/7", "rtl_433", "tg/stall-3/r"];
    let devices = ["attic", "client", "stall-3"];
    for format in [Raw, Json, CloudEvents, ThingsBoard] {
        let settings = |settings: &mut Settings| {
            (settings.broker().version, settings.format) = (Version::V5, format);
            settings.topic = Template::parse("up/{device}").unwrap();
        };
        let (arrivals, _) = send(settings, ACCEPTED_V5, &topics.map(by_level)).await;
        let found: Vec<_> =
            arrivals.iter().map(|arrival| arrival.topic.strip_prefix("up/").unwrap()).collect();
        assert_eq!(found, devices, "{format:?}");
        for (arrival, device) in arrivals.iter().zip(devices) {
            let properties = String::from_utf8_lossy(&arrival.properties);
            let parsed = |arrival: &Arrival| -> serde_json::Value {
                serde_json::from_slice(&arrival.payload).unwrap()
            };
            let said = match format {
                Raw => {
                    properties.contains(&format!("tidegate-device\0{}{device}", device.len() as u8 as char))
                }
                CloudEvents => properties.contains(&format!("/tidegate/barn-7/{device}")),
                Json => parsed(arrival)["device"] == device,
                ThingsBoard => parsed(arrival)[device].is_array(),
            };
            assert!(said, "{format:?} {arrival:?}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_upstream_is_set_aside_before_a_byte_is_sent() {
    let records = [Owned::new("a", b"0"), Owned::new("a", &[7; 300]), Owned::new("a", b"2")];
    let why = |bytes, max| {
        format!("its packet of {bytes} bytes is longer than the {max} bytes that the upstream takes")
    };

    let packet_bytes_max = |settings: &mut Settings| settings.broker().packet_bytes_max = Some(307);
    let (arrivals, log) = send(packet_bytes_max, ACCEPTED_V311, &records).await;
    assert_eq!((arrivals.len(), log.aside()), (2, vec![(1, why(308, 307))]));
    assert_eq!(log.tries(), [0], "it was never sent");

    let (arrivals, log) = send(|s| s.broker().packet_bytes_max = Some(308), ACCEPTED_V311, &records).await;
    assert_eq!((arrivals.len(), log.aside()), (3, vec![]));

    let announced = [0x20, 8, 0, 0, 5, 0x27, 0, 0, 1, 0];
    let version = |settings: &mut Settings| settings.broker().version = Version::V5;
    let (arrivals, log) = send(version, &announced, &records).await;
    assert_eq!(arrivals.len(), 2);
    let bytes = 308 + 1 + arrivals[0].properties.len() as u64;
    assert_eq!(log.aside()[0], (1, why(bytes, 256)));
}

#[tokio::test]
async fn what_is_to_be_set_aside_at_once_costs_one_commit() {
    let records = (0..64).map(|n| Owned::new("a", &vec![7; if n % 2 == 0 { 300 } else { 3 }]));
    let records: Vec<_> = records.collect();
    let (arrivals, log) =
        send(|settings| settings.broker().packet_bytes_max = Some(307), ACCEPTED_V311, &records).await;
    assert_eq!((arrivals.len(), log.aside().len()), (32, 32));
    let blocks = records.len().div_ceil(log.block_records as usize);
    assert!(log.commits() <= blocks, "{} commits for {blocks} blocks", log.commits());
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_all_that_is_to_be_set_aside() {
    let broker = Broker::start(ACCEPTED_V311, |_, _| Reply::Ack).await;
    let mut settings = super::settings(broker.port);
    settings.broker().packet_bytes_max = Some(5);
    let log = Log { block_records: 20_000, ..Log::numbered(20_000) };
    let uplink = Running::start(settings, log.clone());
    eventually(|| !log.aside().is_empty(), || format!("{:?}", uplink.health)).await;
    uplink.stop().await;
    assert!(log.aside().len() < 20_000);
}

#[tokio::test]
async fn what_is_for_local_subscribers_alone_is_passed_over_and_what_a_publisher_says_goes_out() {
    let local = Owned { local: true, events: 0, ..Owned::new("zigbee2mqtt/lamp/set", b"on") };
    let event = Owned { properties: vec![0x02, 0, 0, 0, 9, 0x01, 1], ..Owned::new("a/b", b"1") };
    let version = |settings: &mut Settings| settings.broker().version = Version::V5;
    let (arrivals, log) =
        send(version, ACCEPTED_V5, &[local.clone(), event.clone(), local.clone(), local]).await;
    assert_eq!(arrivals.iter().map(|arrival| arrival.topic.as_str()).collect::<Vec<_>>(), ["a/b"]);
    // Received before its clock was set, it has its whole time.
    let (expiry, others) = arrivals[0].properties.split_at(5);
    assert_eq!(expiry, &event.properties[..5]);
    user_properties(others, &event.properties[5..]);
    assert_eq!(log.aside(), []);
}

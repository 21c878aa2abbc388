//! CONNECT and CONNACK: sections 3.1 and 3.2.

use std::time::Duration;

use tidegate::ingest::Settings;
use tokio::time::timeout;

use super::{
    client::{Client, Connect, DUP, LIMIT, QOS1, connect, packet, publish, subscribe, text},
    listener::{BOTH, Listener},
};

/// 5: [MQTT-3.1.0-1] [MQTT-3.14.0-1]
/// 3.1.1: [MQTT-3.1.0-1]
#[tokio::test]
async fn the_first_packet_is_connect_or_the_gateway_closes() {
    let listener = Listener::open().await;
    for first in [&[0xc0, 0][..], &publish(4, 0, "a", 0, &[], ""), &[0xe0, 0], &[0xf0, 0]] {
        assert_eq!(listener.send(4, first).await.next().await, None, "{first:02x?}");
    }
}

/// 5: [MQTT-3.1.0-2]
/// 3.1.1: [MQTT-3.1.0-2]
#[tokio::test]
async fn a_second_connect_ends_the_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.client(version, "c").await;
        client.send(&Connect::new(version, "c").bytes()).await;
        client.ends_with(0x82).await;
    }
}

/// 5: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
/// 3.1.1: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
#[tokio::test]
async fn a_protocol_that_is_not_served_is_refused_by_name_and_level() {
    let listener = Listener::open().await;
    let with = |name: &str, level: u8| {
        let properties: &[u8] = if level > 4 { &[0] } else { &[] };
        packet(0x10, &[&text(name), &[level, 2, 0, 60], properties, &text("c")])
    };
    assert_eq!(listener.refusal(4, &with("MQTX", 4)).await, None);
    assert_eq!(listener.refusal(4, &with("mqtt", 4)).await, None);
    assert_eq!(listener.refusal(4, &with("MQIsdp", 4)).await, Some(1));
    assert_eq!(listener.refusal(4, &with("MQTT", 3)).await, Some(1));
    assert_eq!(listener.refusal(5, &with("MQTT", 6)).await, Some(0x84));
    assert_eq!(
        listener.refusal(5, &with("MQTT", 0x85)).await,
        Some(0x84),
        "no bridge speaks MQTT 5 like that"
    );
}

/// A CONNECT in the form of MQTT 3.1.1 under any name and level.
fn under(name: &str, level: u8, flags: u8, id: &str) -> Vec<u8> {
    packet(0x10, &[&text(name), &[level, flags, 0, 60], &text(id)])
}

const BRIDGES: [(&str, u8); 2] = [("MQTT", 0x84), ("MQIsdp", 0x83)];

/// 5: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
/// 3.1.1: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
#[tokio::test]
async fn mqtt_3_1_is_served_with_the_packets_of_3_1_1_and_without_session_present() {
    let listener = Listener::open().await;
    for level in [3, 0x83] {
        let id = format!("longer-than-the-23-characters-of-the-standard-{level}");
        let mut client = listener.send(4, &under("MQIsdp", level, 0, &id)).await;
        assert_eq!(client.packet().await.body, [0, 0]);
        let mut subscribe_again = subscribe(4, 7, &[], &[("t/a", 1)]);
        subscribe_again[0] |= DUP;
        client.send(&subscribe_again).await;
        assert_eq!(client.wait(9).await.body, [0, 7, 1]);
        client.leave().await;
        let mut other = listener.client(5, "other").await;
        other.publish("t/a", 1, "while it was away").await;
        let mut client = listener.send(4, &under("MQIsdp", level, 0, &id)).await;
        assert_eq!(client.packet().await.body, [0, 0], "the first byte is reserved");
        assert_eq!(client.take().await.payload, "while it was away");
    }
    assert_eq!(listener.refusal(4, &under("MQIsdp", 3, 2, "")).await, Some(2), "a client id is a must");
}

/// 5: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
/// 3.1.1: [MQTT-3.1.2-1] [MQTT-3.1.2-2]
#[tokio::test]
async fn a_bridge_gets_nothing_back_that_it_brought_and_the_retain_flag_as_published() {
    let listener = Listener::open().await;
    for (name, level) in BRIDGES {
        let mut bridge = listener.send(4, &under(name, level, 0, "bridge")).await;
        assert_eq!(bridge.packet().await.body[1], 0, "{name} {level:02x}");
        bridge.subscribe(&format!("{level}/#"), 1).await;
        bridge.publish(&format!("{level}/own"), 1, "brought by itself").await;
        let mut other = listener.client(5, "other").await;
        other.retain(&format!("{level}/state"), 1, "state").await;
        let got = bridge.take().await;
        assert_eq!((&*got.payload, got.retain), ("state", true), "{name} {level:02x}");
        bridge.leave().await;
        let mut clean = listener.send(4, &under(name, level, 2, "bridge")).await;
        assert_eq!(clean.packet().await.body, [0, 0]);
        clean.leave().await;
    }
}

/// What MQTT 5 says to a malformed CONNECT; MQTT 3.1.1 has nothing to say.
fn malformed(version: u8) -> Option<u8> {
    (version == 5).then_some(0x81)
}

/// 5: [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13] [MQTT-3.1.4-1] [MQTT-3.2.2-6]
/// 3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-14] [MQTT-3.1.2-15]
/// [MQTT-3.1.4-1] [MQTT-3.2.2-4] [MQTT-3.2.2-6]
#[tokio::test]
async fn connect_flags_that_contradict_are_refused() {
    let listener = Listener::open().await;
    for version in BOTH {
        for flags in [0x01, 0x02 | 0x08, 0x02 | 0x10, 0x02 | 0x20, 0x02 | 0x04 | 0x18] {
            let bytes = connect(version, flags, 60, &[], &[&text("c"), &text("t"), &text("p")]);
            assert_eq!(listener.refusal(version, &bytes).await, malformed(version), "{version} {flags:02x}");
        }
    }
}

/// 5: [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18]
/// [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3] 3.1.1: [MQTT-3.1.2-9] [MQTT-3.1.2-11]
/// [MQTT-3.1.2-13] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.2-20] [MQTT-3.1.2-21] [MQTT-3.1.2-22]
/// [MQTT-3.1.3-1] [MQTT-3.1.3-3]
#[tokio::test]
async fn a_payload_has_the_fields_that_the_flags_say_and_no_others() {
    let listener = Listener::open().await;
    let none = |version: u8| if version == 5 { vec![0] } else { vec![] };
    for version in BOTH {
        let (user, password, will) = (0x80, 0x40, 0x04);
        let will_fields = [none(version), text("t"), text("w")].concat();
        let table: [(u8, Vec<Vec<u8>>, bool); 9] = [
            (user | password, vec![text("u"), text("p")], true),
            (user, vec![text("u")], true),
            (user, vec![], false),
            (user | password, vec![text("u")], false),
            (0, vec![text("u")], false),
            (user, vec![text("u"), text("p")], false),
            (will, vec![will_fields.clone()], true),
            (will, vec![none(version), text("t")], false),
            (will | user | password, vec![will_fields, text("u"), text("p")], true),
        ];
        for (flags, fields, is_good) in table {
            let fields = [vec![text("c")], fields].concat().concat();
            let bytes = connect(version, 2 | flags, 60, &[], &[&fields]);
            if is_good {
                let mut client = listener.send(version, &bytes).await;
                assert_eq!(client.packet().await.body[1], 0, "{version} {flags:02x}");
            } else {
                let code = listener.refusal(version, &bytes).await;
                assert!(code.is_none_or(|code| code >= 0x80), "{version} {flags:02x}: {code:02x?}");
            }
        }
    }
    // MQTT 5 allows a password alone, MQTT 3.1.1 does not.
    let alone = |version| connect(version, 0x42, 60, &[], &[&text("c"), &text("p")]);
    assert_eq!(listener.refusal(4, &alone(4)).await, None);
    assert_eq!(listener.send(5, &alone(5)).await.packet().await.body[1], 0);
}

/// 5: [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.1.2-23] [MQTT-3.2.2-1] [MQTT-3.2.2-3]
/// 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
#[tokio::test]
async fn a_session_goes_on_where_it_was_left() {
    let listener = Listener::open().await;
    for version in BOTH {
        let id = format!("c{version}");
        let mut client = listener.resume(version, &id).await;
        assert!(!client.session_present, "there was none");
        client.subscribe("t/a", 1).await;
        client.leave().await;
        let mut other = listener.client(version, "other").await;
        other.publish("t/a", 1, "while it was away").await;
        let mut client = listener.resume(version, &id).await;
        assert!(client.session_present);
        assert_eq!(client.take().await.payload, "while it was away");
        other.publish("t/a", 1, "now").await;
        assert_eq!(client.take().await.payload, "now");
    }
}

/// 5: [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2]
/// 3.1.1: [MQTT-3.1.2-6] [MQTT-3.1.4-3] [MQTT-3.2.2-1]
#[tokio::test]
async fn a_clean_start_ends_the_session_before_it() {
    let listener = Listener::open().await;
    for version in BOTH {
        let id = format!("c{version}");
        let mut client = listener.resume(version, &id).await;
        client.subscribe("t/a", 1).await;
        client.leave().await;
        let mut other = listener.client(version, "other").await;
        other.publish("t/a", 1, "of the session before").await;
        let mut client = listener.client(version, &id).await;
        assert!(!client.session_present);
        client.subscribe("t/b", 1).await;
        other.publish("t/a", 1, "nobody's").await;
        other.publish("t/b", 1, "new").await;
        assert_eq!(client.take().await.payload, "new");
        client.leave().await;
        // And a session that began clean with MQTT 3.1.1 ends with its connection.
        if version == 4 {
            assert!(!listener.resume(version, &id).await.session_present);
        }
    }
}

/// 5: [MQTT-3.1.3-3] [MQTT-3.1.3-5] [MQTT-3.1.3-8] [MQTT-3.2.2-7]
/// 3.1.1: [MQTT-3.1.3-3] [MQTT-3.1.3-5] [MQTT-3.1.3-9] [MQTT-3.2.2-5]
#[tokio::test]
async fn a_client_id_may_be_any_text_of_up_to_1024_bytes() {
    let listener = Listener::open().await;
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let long = "x".repeat(1024);
    for version in BOTH {
        for id in ["a", &alphabet[..23], &alphabet[23..46], &alphabet[39..], "büro/+#$", &long] {
            listener.client(version, id).await;
        }
        let too_long = Connect::new(version, &"x".repeat(1025)).bytes();
        let code = if version == 5 { 0x85 } else { 2 };
        assert_eq!(listener.refusal(version, &too_long).await, Some(code));
    }
}

/// 5: [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
/// 3.1.1: [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.1.3-8]
#[tokio::test]
async fn who_comes_without_a_client_id_gets_one() {
    let listener = Listener::open().await;
    let mut ids = vec![];
    for clean in [true, false] {
        let without = Connect { clean, ..Connect::new(5, "").expiry(60) };
        let client = listener.connect(&without).await;
        let at = client.connack.windows(2).position(|bytes| bytes == [0x12, 0]).unwrap();
        let length = usize::from(client.connack[at + 2]);
        ids.push(String::from_utf8(client.connack[at + 3..at + 3 + length].to_vec()).unwrap());
    }
    assert_ne!(ids[0], ids[1]);
    // It is as if the client had brought it.
    let again = listener.resume(5, &ids[1]).await;
    assert!(again.session_present);

    let mut first = listener.client(4, "").await;
    let mut second = listener.client(4, "").await;
    first.ping().await;
    second.ping().await;
    let kept = Connect { clean: false, ..Connect::new(4, "") };
    assert_eq!(listener.refusal(4, &kept.bytes()).await, Some(2));
}

/// 5: [MQTT-3.1.4-3]
/// 3.1.1: [MQTT-3.1.4-2]
#[tokio::test]
async fn a_new_connection_of_a_client_ends_the_old_one() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut first = listener.resume(version, "c").await;
        first.subscribe("t/a", 1).await;
        let mut second = listener.resume(version, "c").await;
        assert!(second.session_present);
        first.ends_with(0x8e).await;
        let mut other = listener.client(version, "other").await;
        other.publish("t/a", 1, "to the second").await;
        assert_eq!(second.take().await.payload, "to the second");
    }
}

/// 5: [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1]
/// 3.1.1: [MQTT-3.1.4-4] [MQTT-3.2.0-1]
#[tokio::test]
async fn nothing_comes_before_connack_and_there_is_one() {
    let listener = Listener::open().await;
    for version in BOTH {
        let hasty = [
            Connect::new(version, "c").bytes(),
            subscribe(version, 7, &[], &[("t/a", 1)]),
            publish(version, QOS1, "t/a", 8, &[], "x"),
            vec![0xc0, 0],
        ];
        let mut client = listener.send(version, &hasty.concat()).await;
        let connack = client.packet().await;
        assert_eq!((connack.first, &connack.body[..2]), (0x20, &[0, 0][..]));
        let mut kinds = vec![];
        for _ in 0..4 {
            kinds.push(client.packet().await.first >> 4);
        }
        kinds.sort_unstable();
        assert_eq!(kinds, [3, 4, 9, 13]);
    }
}

/// 5: [MQTT-3.1.4-6]
/// 3.1.1: [MQTT-3.1.4-5]
#[tokio::test]
async fn what_follows_a_refused_connect_is_not_looked_at() {
    let listener = Listener::open().await;
    for version in BOTH {
        let bad = connect(version, 0x01, 60, &[], &[&text("c")]);
        let follows = publish(version, QOS1, "s/a", 1, &[], "of the refused");
        listener.refusal(version, &[bad, follows].concat()).await;
        let mut good = listener.client(version, "good").await;
        good.publish("s/a", 1, "good").await;
    }
    assert_eq!(listener.upstream(2).await, ["good", "good"]);
}

/// 5: [MQTT-3.1.2-22]
/// 3.1.1: [MQTT-3.1.2-24]
#[tokio::test]
async fn silence_for_one_and_a_half_keep_alives_ends_a_connection() {
    let listener = Listener::open().await;
    for version in BOTH {
        let mut client = listener.connect(&Connect { keep_alive_s: 1, ..Connect::new(version, "c") }).await;
        let begin = tokio::time::Instant::now();
        client.ends_with(0x8d).await;
        assert!(begin.elapsed() >= Duration::from_millis(1400));
    }
    // Bytes that make no packet do not count.
    let mut client = listener.connect(&Connect { keep_alive_s: 1, ..Connect::new(4, "c") }).await;
    client.send(&[0x30, 0xff, 0x7f]).await;
    let drips = async {
        loop {
            client.send(b"x").await;
            if let Ok(end) = timeout(Duration::from_millis(100), client.next()).await {
                return end;
            }
        }
    };
    assert_eq!(timeout(LIMIT / 2, drips).await.unwrap(), None);
}

fn has(client: &Client, property: &[u8]) -> bool {
    client.connack.windows(property.len()).any(|bytes| bytes == property)
}

/// 5: [MQTT-3.1.2-21] [MQTT-3.2.2-21] [MQTT-3.2.2-22]
#[tokio::test]
async fn a_keep_alive_is_lowered_only_if_the_client_is_told() {
    let listener = Listener::with(Settings { keep_alive_max_s: 1, ..Settings::default() }).await;
    let mut lowered = listener.client(5, "lowered").await;
    assert!(has(&lowered, &[0x13, 0, 1]));
    lowered.ends_with(0x8d).await;
    let kept = listener.connect(&Connect { keep_alive_s: 1, ..Connect::new(5, "kept") }).await;
    assert!(!has(&kept, &[0x13, 0, 1]));
    let mut none = listener.connect(&Connect { keep_alive_s: 0, ..Connect::new(5, "none") }).await;
    // MQTT 3.1.1 has no way to tell.
    let mut old = listener.client(4, "old").await;
    tokio::time::sleep(Duration::from_millis(1700)).await;
    none.ping().await;
    old.ping().await;
}

/// 5: [MQTT-3.1.2-28] [MQTT-3.2.2-9] [MQTT-3.2.2-10] [MQTT-3.2.2-11] [MQTT-3.2.2-12]
/// [MQTT-3.2.2-13] [MQTT-3.2.2-14] [MQTT-3.2.2-18] [MQTT-4.12.0-6]
#[tokio::test]
async fn connack_tells_what_is_offered_and_nothing_that_was_not_asked_for() {
    let listener = Listener::open().await;
    for asked in [0, 1] {
        let connect = Connect::new(5, "c").property(&[0x19, asked, 0x17, asked]);
        let client = listener.connect(&connect).await;
        let mut ids = vec![];
        let mut rest = &client.connack[3..];
        while let [id, value @ ..] = rest {
            ids.push(*id);
            // Receive maximum, retain available, maximum packet size, topic alias maximum.
            let bytes = [(0x21, 2), (0x25, 1), (0x27, 4), (0x22, 2)];
            let (_, bytes) = bytes.iter().find(|(known, _)| known == id).expect("nothing else is told");
            rest = &value[*bytes..];
        }
        ids.sort_unstable();
        assert_eq!(ids, [0x21, 0x22, 0x25, 0x27]);
        assert!(has(&client, &[0x25, 1]), "retained messages are offered");
    }
}

/// 5: [MQTT-3.1.4-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8] [MQTT-3.14.0-1] [MQTT-4.12.0-1]
/// [MQTT-4.13.2-1] 3.1.1: [MQTT-3.1.4-1] [MQTT-3.2.2-4] [MQTT-3.2.2-5]
#[tokio::test]
async fn properties_that_connect_may_not_have_are_refused() {
    let listener = Listener::open().await;
    let table: [(&[u8], u8); 9] = [
        (&[0x21, 0, 0], 0x82),                               // receive maximum 0
        (&[0x27, 0, 0, 0, 0], 0x82),                         // maximum packet size 0
        (&[0x17, 2], 0x82),                                  // request problem information 2
        (&[0x21, 0, 9, 0x21, 0, 9], 0x82),                   // twice
        (&[0x23, 0, 1], 0x82),                               // a topic alias
        (&[0x77, 0], 0x81),                                  // no property
        (&[0x11, 0], 0x81),                                  // cut short
        (&[0x16, 0, 1, 1], 0x82),                            // authentication data without a method
        (&[0x15, 0, 5, b'S', b'C', b'R', b'A', b'M'], 0x8c), // an authentication method
    ];
    for (properties, code) in table {
        let bytes = Connect::new(5, "c").property(properties).bytes();
        assert_eq!(listener.refusal(5, &bytes).await, Some(code), "{properties:02x?}");
    }
}

/// 5: [MQTT-3.1.2-24] [MQTT-3.2.2-19]
#[tokio::test]
async fn a_refusal_is_without_words_where_the_client_takes_no_more() {
    let listener = Listener::open().await;
    let bytes = Connect::new(5, &"x".repeat(1025)).property(&[0x27, 0, 0, 0, 5]).bytes();
    let mut client = listener.send(5, &bytes).await;
    assert_eq!(client.packet().await.body, [0, 0x85, 0]);
    assert_eq!(client.next().await, None);
}

/// 5: [MQTT-3.1.2-29] [MQTT-3.4.2-1] [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-1] [MQTT-3.5.2-2]
/// [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1]
/// [MQTT-3.9.2-2]
#[tokio::test]
async fn no_reason_is_given_in_words_on_any_other_packet() {
    let listener = Listener::open().await;
    let mut client = listener.connect(&Connect::new(5, "c").property(&[0x17, 0])).await;
    client.send(&subscribe(5, 1, &[], &[("a/#/b", 0)])).await;
    assert_eq!(client.packet().await.body, [0, 1, 0, 0x8f]);
    client.send(&publish(5, QOS1, "nobody/wants/it", 2, &[], "x")).await;
    assert_eq!(client.packet().await.body, [0, 2, 0x10]);
    client.send(&[0x62, 2, 0, 9]).await;
    assert_eq!(client.packet().await.body[..2], [0, 9]);
}

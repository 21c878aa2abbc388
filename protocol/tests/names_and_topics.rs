//! Device names and topics: what is accepted, and what each refusal says.

use proptest::prelude::*;
use tidegate_protocol::limits::TOPIC_BYTES_MAX;
use tidegate_protocol::{DeviceName, EventId, Leaf, NameError, Topic, TopicError};

const LEAVES: [(Leaf, &str); 5] =
    [(Leaf::Events, "e"), (Leaf::Birth, "b"), (Leaf::Status, "s"), (Leaf::Command, "c"), (Leaf::Reply, "r")];

#[test]
fn names_are_accepted_and_refused_by_the_table() {
    let long = "a".repeat(33);
    let cases = [
        ("a", None),
        ("barn-7", None),
        ("-", None),
        ("01234567890123456789012345678901", None),
        ("", Some(NameError::Empty)),
        (long.as_str(), Some(NameError::TooLong { bytes: 33 })),
        ("Barn", Some(NameError::Byte { at: 0, byte: b'B' })),
        ("barn_7", Some(NameError::Byte { at: 4, byte: b'_' })),
        ("barn/7", Some(NameError::Byte { at: 4, byte: b'/' })),
        ("stöp", Some(NameError::Byte { at: 2, byte: 0xc3 })),
        ("+", Some(NameError::Byte { at: 0, byte: b'+' })),
        ("a\0", Some(NameError::Byte { at: 1, byte: 0 })),
    ];
    for (name, error) in cases {
        assert_eq!(DeviceName::new(name).err(), error, "{name}");
        if error.is_none() {
            assert_eq!(DeviceName::new(name).map(|name| name.to_string()).as_deref(), Ok(name));
        }
    }
}

#[test]
fn topics_are_accepted_and_refused_by_the_table() {
    for (leaf, level) in LEAVES {
        let topic = format!("tg/barn-7/{level}");
        let device = DeviceName::new("barn-7").expect("a name");
        assert_eq!(Topic::parse(&topic), Ok(Topic { device, leaf }));
    }
    let cases = [
        ("", TopicError::Foreign),
        ("tg", TopicError::Foreign),
        ("TG/a/e", TopicError::Foreign),
        ("/tg/a/e", TopicError::Foreign),
        ("zigbee2mqtt/lamp", TopicError::Foreign),
        ("tg/", TopicError::Leaf),
        ("tg/a", TopicError::Leaf),
        ("tg/a/", TopicError::Leaf),
        ("tg/a/x", TopicError::Leaf),
        ("tg/a/E", TopicError::Leaf),
        ("tg/a/e/", TopicError::Leaf),
        ("tg/a/e/e", TopicError::Leaf),
        ("tg//e", TopicError::Device(NameError::Empty)),
        ("tg/+/e", TopicError::Device(NameError::Byte { at: 0, byte: b'+' })),
        ("tg/#", TopicError::Leaf),
    ];
    for (topic, error) in cases {
        assert_eq!(Topic::parse(topic), Err(error), "{topic}");
    }
}

#[test]
fn a_buffer_too_small_for_a_topic_is_left_as_it_was() {
    let topic = Topic::parse("tg/barn-7/c").expect("a topic");
    let mut small = [b'x'; 10];
    assert_eq!(topic.write(&mut small), Err(TopicError::BufferTooSmall { needed: 11 }));
    assert_eq!(small, [b'x'; 10]);
    assert_eq!(topic.write(&mut [0; 11]), Ok("tg/barn-7/c"));
}

#[test]
fn an_event_is_shown_by_boot_and_number() {
    assert_eq!(EventId { boot: 17, seq: 4_000_000_000 }.to_string(), "17-4000000000");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_topic_of_every_device_comes_back(
        name in "[a-z0-9-]{1,32}",
        leaf in prop::sample::select(&LEAVES[..]),
    ) {
        let topic = Topic { device: DeviceName::new(&name).expect("a name"), leaf: leaf.0 };
        let mut buffer = [0; TOPIC_BYTES_MAX];
        let text = topic.write(&mut buffer).expect("room");
        prop_assert_eq!(text, format!("tg/{name}/{}", leaf.1));
        prop_assert_eq!(Topic::parse(text), Ok(topic));
    }

    #[test]
    fn any_text_is_judged_without_panic(text in "(tg/)?\\PC{0,40}(/e)?") {
        if let Ok(topic) = Topic::parse(&text) {
            let mut buffer = [0; TOPIC_BYTES_MAX];
            prop_assert_eq!(topic.write(&mut buffer), Ok(text.as_str()));
        }
    }
}

//! What becomes of a publish: stored as what, or taken by no route. Pure.
//!
//! ```text
//!   tg/<device>/e          a frame, or opaque if its head cannot be read
//!   tg/<device>/b|s|r      opaque
//!   tg/…                   no route
//!   other topics           the first route whose filter matches, else no route
//! ```
//! Nothing is refused for its content: a payload that is no frame is stored as it came. Only a
//! frame's head is read here, never its events. Limits: a route list is walked for every publish on
//! a foreign topic, so it is meant for tens of routes, not thousands.

use std::num::NonZeroU8;

use tidegate_protocol::{FrameHead, Leaf, Topic, TopicError};

use crate::{
    mqtt::topics,
    store::{Kind, record::LAST_DEVICE_LEVEL},
};

const _: () = assert!(topics::TOPIC_LEVELS_MAX == LAST_DEVICE_LEVEL as usize);

/// What the payloads of a route are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// JSON, as the one who runs the gateway says: it is not checked.
    Json,
    /// UTF-8, as the one who runs the gateway says: what is none is stored all the same, and told.
    Text,
    /// Bytes.
    Opaque,
}

/// A topic filter that is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// MQTT topic filter; a checked one, see [`topics::check_filter`].
    pub filter: String,
    /// What its payloads are.
    pub payload: Payload,
    /// Its events never linger.
    pub urgent: bool,
    /// Which level of the topic names the device, from 1; without it, the device is the client.
    pub device_level: Option<NonZeroU8>,
}

/// What becomes of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored.
    Store {
        /// As what.
        kind: Kind,
        /// Events in it.
        events: u8,
        /// Never lingers.
        urgent: bool,
        /// Which level of the topic names the device, from 1, if one does.
        device_level: Option<NonZeroU8>,
        /// It is not what it should be.
        malformed: Option<Malformed>,
    },
    /// No route takes it: acknowledged, and not stored.
    NoRoute,
}

/// What a payload is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It came on a frame topic and is no frame.
    Frame,
    /// It came on a route for text and is no UTF-8.
    Text,
}

const OPAQUE: Verdict = own(Kind::Opaque, 1, false, None);

/// What came on a topic of ours, which names the device itself.
const fn own(kind: Kind, events: u8, urgent: bool, malformed: Option<Malformed>) -> Verdict {
    Verdict::Store { kind, events, urgent, device_level: None, malformed }
}

/// Judges a publish by its topic, by the head of its payload on a frame topic, and by the routes.
#[must_use]
pub fn judge(topic: &str, payload: &[u8], routes: &[Route]) -> Verdict {
    match Topic::parse(topic) {
        Ok(Topic { leaf: Leaf::Events, .. }) => judge_frame(payload),
        Ok(Topic { leaf: Leaf::Birth | Leaf::Status | Leaf::Reply, .. }) => OPAQUE,
        Err(TopicError::Foreign) => judge_foreign(topic, payload, routes),
        Ok(Topic { leaf: Leaf::Command, .. }) | Err(_) => Verdict::NoRoute,
    }
}

fn judge_frame(payload: &[u8]) -> Verdict {
    match FrameHead::parse(payload) {
        Ok((head, _)) => own(Kind::Frame, head.count, head.urgent, None),
        Err(_) => own(Kind::Opaque, 1, false, Some(Malformed::Frame)),
    }
}

fn judge_foreign(topic: &str, payload: &[u8], routes: &[Route]) -> Verdict {
    let Some(route) = routes.iter().find(|route| topics::matches(&route.filter, topic)) else {
        return Verdict::NoRoute;
    };
    let kind = match route.payload {
        Payload::Json => Kind::Json,
        Payload::Text => Kind::Text,
        Payload::Opaque => Kind::Opaque,
    };
    let is_text = || std::str::from_utf8(payload).is_ok();
    let malformed = (kind == Kind::Text && !is_text()).then_some(Malformed::Text);
    Verdict::Store { kind, events: 1, urgent: route.urgent, device_level: route.device_level, malformed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_protocol::FrameWriter;

    fn route(filter: &str, payload: Payload, urgent: bool) -> Route {
        Route { filter: filter.into(), payload, urgent, device_level: None }
    }

    fn routes() -> Vec<Route> {
        vec![
            route("alarm/#", Payload::Opaque, true),
            route("zigbee2mqtt/+", Payload::Json, false),
            route("zigbee2mqtt/#", Payload::Opaque, false),
            route("tasmota/#", Payload::Text, false),
            route("tg/#", Payload::Opaque, false),
        ]
    }

    fn frame(events: u8, urgent: bool) -> Vec<u8> {
        let mut buffer = [0; 256];
        let mut writer = FrameWriter::new(&mut buffer, 7, 0, 1, urgent);
        for i in 0..events {
            writer.push(u64::from(i) * 1000, 0, &[i]).unwrap();
        }
        writer.finish().to_vec()
    }

    use super::own as store;

    #[test]
    fn a_publish_is_judged_by_topic_head_and_routes() {
        let three = frame(3, true);
        let (no_frame, no_text) = (Some(Malformed::Frame), Some(Malformed::Text));
        let table: [(&str, &[u8], Verdict); 16] = [
            ("tg/barn-1/e", &three, store(Kind::Frame, 3, true, None)),
            ("tg/barn-1/e", &frame(1, false), store(Kind::Frame, 1, false, None)),
            ("tg/barn-1/e", b"{}", store(Kind::Opaque, 1, false, no_frame)),
            ("tg/barn-1/e", b"", store(Kind::Opaque, 1, false, no_frame)),
            ("tg/barn-1/b", &three, OPAQUE),
            ("tg/barn-1/s", b"", OPAQUE),
            ("tg/barn-1/r", b"ok", OPAQUE),
            ("tg/barn-1/c", b"do", Verdict::NoRoute),
            ("tg/Barn 1/e", &three, Verdict::NoRoute),
            ("alarm", b"1", store(Kind::Opaque, 1, true, None)),
            ("zigbee2mqtt/door", b"{}", store(Kind::Json, 1, false, None)),
            ("zigbee2mqtt/door/availability", b"on", store(Kind::Opaque, 1, false, None)),
            ("tasmota/LWT", b"21.5", store(Kind::Text, 1, false, None)),
            ("tasmota/LWT", "21.5 °C".as_bytes(), store(Kind::Text, 1, false, None)),
            ("tasmota/LWT", b"21.5 \xb0C", store(Kind::Text, 1, false, no_text)),
            ("other", b"", Verdict::NoRoute),
        ];
        for (topic, payload, wanted) in table {
            assert_eq!(judge(topic, payload, &routes()), wanted, "{topic} {payload:02x?}");
        }
    }

    #[test]
    fn the_first_route_that_matches_says_which_level_names_the_device_and_never_that_of_our_topics() {
        let named = |filter: &str, level| Route {
            device_level: NonZeroU8::new(level),
            ..route(filter, Payload::Json, false)
        };
        let routes = [named("rtl_433/+/devices/#", 2), named("rtl_433/#", 3), named("#", 1)];
        for (topic, payload, level) in [
            ("rtl_433/attic/devices/7", &b"{}"[..], 2),
            ("rtl_433/attic/events", b"{}", 3),
            ("door", b"{}", 1),
            ("tg/barn-1/e", &frame(1, false), 0),
            ("tg/barn-1/r", b"ok", 0),
        ] {
            let Verdict::Store { device_level, .. } = judge(topic, payload, &routes) else {
                panic!("{topic}")
            };
            assert_eq!(device_level, NonZeroU8::new(level), "{topic}");
        }
    }

    proptest! {
        #[test]
        fn a_frame_topic_is_always_stored(payload: Vec<u8>) {
            prop_assert_ne!(judge("tg/a/e", &payload, &[]), Verdict::NoRoute);
        }

        #[test]
        fn no_topic_panics(topic in "(tg/)?\\PC{0,20}", payload: Vec<u8>) {
            let _ = judge(&topic, &payload, &routes());
        }
    }
}

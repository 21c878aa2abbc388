//! Frames beside what they mean, checked both ways. The files under `tests/golden/` are the format:
//! a change that breaks one breaks every device in the field, and needs a new version.
//!
//! A vector that is missing is told with what this program writes.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use common::{
    CLIMATE_KIND, KINDS, Owned, SCHEMA_SET, body, climate_events, from_hex, read_all, readings, to_hex,
};
use serde_json::Value;
use tidegate_protocol::events::{Climate, LOSS_KIND, Loss, LossReason};
use tidegate_protocol::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::{FrameHead, FrameWriter, Kind, schema_set};

const NAMES: [&str; 6] =
    ["one-reading", "four-events", "turns", "sixty-readings", "sixty-readings-regular", "extremes"];

/// A vector: a frame, and what it means.
struct Vector {
    frame: Vec<u8>,
    head: FrameHead,
    events: Vec<Owned>,
}

#[test]
fn every_frame_reads_as_written_beside_it() {
    for name in NAMES {
        let vector = load(name);
        let (head, events) = read_all(&vector.frame).expect(name);
        assert_eq!(head, vector.head, "{name}");
        assert_eq!(events, vector.events, "{name}");
    }
}

#[test]
fn the_events_written_again_give_the_same_bytes() {
    for name in NAMES {
        let Vector { frame, head, events } = load(name);
        assert_eq!(to_hex(&write(head, &events)), to_hex(&frame), "{name}");
    }
}

#[test]
fn the_readings_beside_the_bodies_are_those_in_the_bodies() {
    for name in NAMES {
        let file = file(name);
        for event in file["events"].as_array().expect(name) {
            let Some(fields) = event.get("climate") else { continue };
            let field = |name: &str| fields[name].as_i64().expect("a number");
            let climate = Climate {
                temperature: field("temperature") as i16,
                humidity: field("humidity") as u16,
                pressure: field("pressure") as u32,
            };
            assert_eq!(to_hex(&body(&climate)), event["body"].as_str().expect("text"), "{name}");
        }
    }
}

#[test]
fn sixty_readings_of_three_channels_fit_the_budget() {
    let jittering = load("sixty-readings").frame.len();
    let regular = load("sixty-readings-regular").frame.len();
    assert!(jittering <= 60 * 6, "the budget: {jittering}");
    assert_eq!((jittering, regular), (262, 262), "and what it is today");
}

#[test]
fn the_fingerprint_of_the_kinds_is_that_of_the_frames() {
    assert_eq!(schema_set(&[]), 0x811c_9dc5, "FNV-1a of nothing");
    assert_eq!(schema_set(KINDS), 0x23a0_711c);
    for name in NAMES {
        assert_eq!(load(name).head.schema_set, SCHEMA_SET, "{name}");
    }
    let kind = |name, version| Kind { name, version, definition: &[] };
    assert_ne!(schema_set(&[kind("loss", 1), kind("climate", 2)]), schema_set(&KINDS[..2]));
    assert_ne!(schema_set(&[kind("a", 1), kind("b", 1)]), schema_set(&[kind("b", 1), kind("a", 1)]));
}

#[test]
fn the_byte_ruler_in_the_docs_is_a_vector() {
    let docs: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "docs", "wire-format.md"].iter().collect();
    let docs = std::fs::read_to_string(docs).expect("the page on the format");
    let (_, ruler) = docs.split_once("## A frame, byte by byte").expect("the ruler's heading");
    let ruler = ruler.split("```").nth(1).expect("the ruler");
    let mut frame = Vec::new();
    for line in ruler.lines() {
        let mut words = line.split_whitespace();
        let Some(offset) = words.next() else { continue };
        assert_eq!(offset.parse(), Ok(frame.len()), "{line}");
        let is_byte = |word: &&str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        frame.extend(words.take_while(is_byte).flat_map(from_hex));
    }
    assert_eq!(to_hex(&frame), to_hex(&load("four-events").frame));
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.json")].iter().collect()
}

fn file(name: &str) -> Value {
    let missing =
        |error| panic!("{}: {error}; what this program writes:\n{}", path(name).display(), text(name));
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(missing);
    serde_json::from_str(&text).expect(name)
}

fn load(name: &str) -> Vector {
    let file = file(name);
    let number = |value: &Value| value.as_u64().expect("a number");
    let events: Vec<Owned> = file["events"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|event| Owned {
            seq: number(&event["seq"]) as u32,
            uptime_ms: number(&event["uptime_ms"]),
            kind: number(&event["kind"]) as u8,
            body: from_hex(event["body"].as_str().expect("text")),
        })
        .collect();
    let head = FrameHead {
        boot: number(&file["boot"]) as u32,
        first_seq: number(&file["first_seq"]) as u32,
        base_ms: number(&file["base_ms"]),
        schema_set: number(&file["schema_set"]) as u32,
        count: number(&file["count"]) as u8,
        urgent: file["urgent"].as_bool().expect("true or false"),
    };
    Vector { frame: from_hex(file["frame"].as_str().expect("text")), head, events }
}

fn write(head: FrameHead, events: &[Owned]) -> Vec<u8> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let mut writer = FrameWriter::new(&mut buffer, head.boot, head.first_seq, head.schema_set, head.urgent);
    for event in events {
        let id = writer.push(event.uptime_ms, event.kind, &event.body).expect("the events fit");
        assert_eq!((id.boot, id.seq), (head.boot, event.seq));
    }
    writer.finish().to_vec()
}

/// The text of a vector that is made anew.
fn text(name: &str) -> String {
    let climate = |temperature, humidity, pressure| body(&Climate { temperature, humidity, pressure });
    let loss = body(&Loss { first_seq: 120, count: 60, reason: LossReason::QueueFull });
    let start_ms = 3_600_123;
    let (about, boot, first_seq, urgent, events) = match name {
        "one-reading" => (
            "A frame of a single reading.",
            17,
            0,
            false,
            vec![(5_021, CLIMATE_KIND, climate(2345, 4520, 101_325))],
        ),
        "four-events" => {
            let events = vec![
                (start_ms, CLIMATE_KIND, climate(2345, 4520, 101_325)),
                (start_ms + 1000, CLIMATE_KIND, climate(2347, 4517, 101_327)),
                (start_ms + 2002, CLIMATE_KIND, climate(2346, 4517, 101_324)),
                (start_ms + 2002, LOSS_KIND, loss),
            ];
            ("Every form an event can take.", 17, 300, true, events)
        }
        "turns" => {
            let about = "Kinds in turn; kinds, bodies and steps just beyond what the short form takes.";
            (about, 4, 9, false, in_turn(&climate(2345, 4520, 101_325)))
        }
        "sixty-readings" => {
            let events = climate_events(&readings(7, start_ms, 60, 5));
            ("A reading a second, late by up to 5 ms.", 17, 48_211, false, events)
        }
        "sixty-readings-regular" => {
            let events = climate_events(&readings(7, start_ms, 60, 0));
            ("A reading a second, on the millisecond.", 17, 48_211, false, events)
        }
        _ => {
            let base_ms = u64::MAX - u64::from(u32::MAX);
            let events = vec![
                (base_ms, 7, vec![]),
                (base_ms, 7, vec![]),
                (u64::MAX, 7, vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
                (base_ms + 1, 7, vec![0x00]),
                (base_ms + 2, 7, vec![0x80, 0x00]),
                (base_ms + 3, 31, vec![0xa5; 900]),
                (base_ms + 4, 31, vec![]),
            ];
            (
                "The ends of every range, a number spelled too long, a long body.",
                u32::MAX,
                u32::MAX - 7,
                false,
                events,
            )
        }
    };
    let events: Vec<Owned> = events
        .into_iter()
        .zip(first_seq..)
        .map(|((uptime_ms, kind, body), seq)| Owned { seq, uptime_ms, kind, body })
        .collect();
    let head = FrameHead {
        boot,
        first_seq,
        base_ms: events[0].uptime_ms,
        schema_set: SCHEMA_SET,
        count: events.len() as u8,
        urgent,
    };
    lay_out(about, head, &events)
}

fn in_turn(climate: &[u8]) -> Vec<(u64, u8, Vec<u8>)> {
    let light = body(&412_u16);
    let at = |uptime_ms, kind, body: &[u8]| (uptime_ms, kind, body.to_vec());
    vec![
        at(60_000, CLIMATE_KIND, climate),
        at(60_002, 2, &light),
        at(61_000, CLIMATE_KIND, climate),
        at(61_002, 2, &light),
        at(62_000, CLIMATE_KIND, climate),
        at(62_002, 2, &light),
        at(62_500, 9, &light),
        at(62_501, 9, &light),
        at(63_000, CLIMATE_KIND, climate),
        at(63_002 - 64, 2, &light),
        at(64_000, CLIMATE_KIND, climate),
        at(63_874 + 64, 2, &light),
        at(64_500, 3, &[0; 32]),
        at(64_500, 3, &[0; 32]),
        at(64_500, 3, &[0; 33]),
        at(64_500, 3, &[0]),
        at(64_500, 3, &[1]),
        at(65_000, CLIMATE_KIND, climate),
    ]
}

fn lay_out(about: &str, head: FrameHead, events: &[Owned]) -> String {
    let FrameHead { boot, first_seq, base_ms, schema_set, count, urgent } = head;
    let mut text =
        format!("{{\n  \"about\": \"{about}\",\n  \"frame\": \"{}\",\n", to_hex(&write(head, events)));
    write!(text, "  \"boot\": {boot}, \"first_seq\": {first_seq}, \"base_ms\": {base_ms}, ").expect("text");
    write!(text, "\"schema_set\": {schema_set}, \"count\": {count}, \"urgent\": {urgent},\n  \"events\": [")
        .expect("text");
    for (at, Owned { seq, uptime_ms, kind, body }) in events.iter().enumerate() {
        text.push_str(if at == 0 { "\n" } else { ",\n" });
        write!(text, "    {{\"seq\": {seq}, \"uptime_ms\": {uptime_ms}, \"kind\": {kind}, ").expect("text");
        write!(text, "\"body\": \"{}\"", to_hex(body)).expect("text");
        if *kind == CLIMATE_KIND {
            let c: Climate = postcard::from_bytes(body).expect("a climate body");
            write!(text, ",\n     \"climate\": {{\"temperature\": {}, ", c.temperature).expect("text");
            write!(text, "\"humidity\": {}, \"pressure\": {}}}", c.humidity, c.pressure).expect("text");
        }
        text.push('}');
    }
    text.push_str("\n  ]\n}\n");
    assert!(events.iter().all(|event| event.body.len() <= BODY_BYTES_MAX));
    text
}

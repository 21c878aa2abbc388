//! Whatever is written is read again: the same numbers, times, kinds and bytes, for any events at
//! all.

mod common;

use common::{CLIMATE_KIND, Owned, SCHEMA_SET, body, read_all, write_all};
use proptest::prelude::*;
use tidegate_protocol::events::{Climate, Loss, LossReason};
use tidegate_protocol::limits::{DELTA_BODY_BYTES_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::{BodyError, FrameReader, FrameWriter, PushError};

type Given = (u64, u8, Vec<u8>);

/// LEB128 numbers in their shortest spelling.
fn numbers(values: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for &value in values {
        bytes.extend(body(&value));
    }
    bytes
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // A steady series: the same number of numbers, close to one another.
        4 => prop::collection::vec(2000..2040_u64, 3).prop_map(|values| numbers(&values)),
        2 => prop::collection::vec(any::<u64>(), 0..4).prop_map(|values| numbers(&values)),
        // Numbers that change their length, up to more than is remembered.
        2 => prop::collection::vec(prop_oneof![Just(127_u64), Just(128), Just(u64::MAX), Just(0)], 0..6)
            .prop_map(|values| numbers(&values)),
        2 => prop::collection::vec(any::<f32>(), 1..4)
            .prop_map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        // Numbers spelled longer than needed, or cut short.
        2 => prop::collection::vec(prop_oneof![Just(0x80_u8), Just(0), Just(1), Just(0xff)], 0..14),
        1 => prop::collection::vec(any::<u8>(), 0..DELTA_BODY_BYTES_MAX + 4),
        1 => prop::collection::vec(any::<u8>(), 0..960),
    ]
}

fn events() -> impl Strategy<Value = Vec<Given>> {
    let step = prop_oneof![
        6 => 995..1005_i64,
        2 => Just(0_i64),
        2 => -100..100_i64,
        1 => any::<i64>(),
        1 => -70_000_000_000..70_000_000_000_i64,
    ];
    let kind = prop_oneof![4 => 0..3_u8, 1 => 6..10_u8, 1 => 0..32_u8];
    let start = prop_oneof![Just(0), 0..10_000_000_u64, Just(u64::MAX), any::<u64>()];
    (start, prop::collection::vec((step, kind, bodies()), 1..400)).prop_map(|(start, steps)| {
        let mut uptime_ms = start;
        let event = |(step, kind, body)| {
            uptime_ms = uptime_ms.wrapping_add_signed(step);
            (uptime_ms, kind, body)
        };
        steps.into_iter().map(event).collect()
    })
}

/// Writes events into as many frames as they need.
fn write_frames(events: &[Given]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = events;
    let mut seq = 0;
    while !rest.is_empty() {
        let mut buffer = [0xee; FRAME_BYTES_MAX];
        let mut writer = FrameWriter::new(&mut buffer, 9, seq, SCHEMA_SET, false);
        while let Some(((uptime_ms, kind, body), behind)) = rest.split_first() {
            let before = (writer.len(), writer.count());
            match writer.push(*uptime_ms, *kind, body) {
                Ok(id) => assert_eq!(id.seq, seq),
                Err(PushError::Full) => {
                    assert_eq!((writer.len(), writer.count()), before);
                    break;
                }
                Err(other) => panic!("{other}"),
            }
            seq += 1;
            rest = behind;
        }
        assert!(!writer.is_empty(), "an empty frame takes any event");
        frames.push(writer.finish().to_vec());
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_events_come_back_as_they_were(events in events()) {
        let mut read = Vec::new();
        for frame in write_frames(&events) {
            let (head, events) = read_all(&frame).expect("a frame just written");
            prop_assert_eq!(usize::from(head.count), events.len());
            prop_assert_eq!(head.base_ms, events[0].uptime_ms);
            read.extend(events);
        }
        let written: Vec<Owned> = events
            .into_iter()
            .zip(0..)
            .map(|((uptime_ms, kind, body), seq)| Owned { seq, uptime_ms, kind, body })
            .collect();
        prop_assert_eq!(read, written);
    }

    #[test]
    fn no_event_costs_more_than_its_body_and_eight_bytes(events in events()) {
        for frame in write_frames(&events) {
            let (_, events) = read_all(&frame).expect("a frame just written");
            let most: usize = events.iter().map(|event| event.body.len() + 8).sum();
            prop_assert!(frame.len() <= 27 + most);
        }
    }

    #[test]
    fn an_event_and_its_body_give_the_same_frame(
        values in prop::collection::vec(any::<(i16, u16, u32, f32)>(), 1..20),
        long in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let (mut by_event, mut by_body) = ([0; FRAME_BYTES_MAX], [0; FRAME_BYTES_MAX]);
        let mut events = FrameWriter::new(&mut by_event, 1, 0, SCHEMA_SET, false);
        let mut bodies = FrameWriter::new(&mut by_body, 1, 0, SCHEMA_SET, false);
        for (at, value) in values.iter().enumerate() {
            let mut buffer = [0; 1024];
            let long = (value, long.as_slice());
            let bytes = postcard::to_slice(value, &mut buffer).expect("room");
            prop_assert_eq!(events.push_event(at as u64, 2, value), bodies.push(at as u64, 2, bytes));
            let bytes = postcard::to_slice(&long, &mut buffer).expect("room");
            prop_assert_eq!(events.push_event(at as u64, 3, &long), bodies.push(at as u64, 3, bytes));
            prop_assert_eq!(events.push_event(at as u64, 3, &()), bodies.push(at as u64, 3, &[]));
        }
        prop_assert_eq!(events.finish(), bodies.finish());
    }
}

#[test]
fn an_event_decodes_as_its_type_and_as_no_other() {
    let climate = Climate { temperature: -1234, humidity: 10_000, pressure: 0 };
    let loss = Loss { first_seq: 5, count: 70_000, reason: LossReason::Storage };
    let frame = write_all(1, 0, &[(0, CLIMATE_KIND, body(&climate)), (0, 0, body(&loss))]);
    let mut reader = FrameReader::new(&frame).expect("a frame");
    let first = reader.next_event().expect("two").expect("readable");
    assert_eq!(first.decode(), Ok(climate));
    assert_eq!(first.decode::<u8>(), Err(BodyError), "bytes left over");
    assert_eq!(first.decode::<[u32; 9]>(), Err(BodyError), "bytes missing");
    assert_eq!(reader.next_event().expect("two").expect("readable").decode(), Ok(loss));
    assert!(reader.next_event().is_none());
}

#[test]
fn the_head_is_postcard() {
    let frame = write_all(300, 70_000, &[(1 << 40, 9, vec![])]);
    let head = body(&(300_u32, 70_000_u32, 1_u64 << 40, SCHEMA_SET.to_le_bytes()));
    assert_eq!(frame[3..3 + head.len()], head);
    assert_eq!(frame[..3], [0x11, 0, 1]);
    assert_eq!(frame[3 + head.len()..], [0x80 | 0x40 | 9, 0], "on time, kind 9, a body of no bytes");
}

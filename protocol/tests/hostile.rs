//! Bytes that no device of ours wrote: the reader says what is wrong and ends, it never panics.

mod common;

use common::{CLIMATE_KIND, body, climate_events, read_all, readings, write_all};
use proptest::prelude::*;
use tidegate_protocol::events::{Climate, Loss, LossReason};
use tidegate_protocol::limits::{BODY_BYTES_MAX, DELTA_BODY_BYTES_MAX, FRAME_BYTES_MAX};
use tidegate_protocol::{FrameError, FrameHead, FrameReader};

/// A head of boot 1, first number 2, time 3, schema set 4, for `count` events.
fn head(count: u8) -> Vec<u8> {
    vec![0x11, 0, count, 1, 2, 3, 4, 0, 0, 0]
}

fn frame(count: u8, events: &[u8]) -> Vec<u8> {
    [head(count).as_slice(), events].concat()
}

/// Reads to the end and checks what holds for any bytes.
fn read_anything(bytes: &[u8]) {
    let Ok(mut reader) = FrameReader::new(bytes) else { return };
    let head = reader.head();
    let mut events = 0;
    let mut failed = false;
    while let Some(event) = reader.next_event() {
        assert!(!failed, "an error is the last thing said");
        match event {
            Ok(event) => {
                assert!(event.body.len() <= BODY_BYTES_MAX && event.kind < 32);
                assert_eq!(event.id.seq, head.first_seq + events);
                events += 1;
            }
            Err(_) => failed = true,
        }
    }
    assert!(events <= u32::from(head.count) && (failed || events == u32::from(head.count)));
    assert!(reader.next_event().is_none(), "it stays over");
}

fn mixed_frame() -> Vec<u8> {
    let mut events = climate_events(&readings(5, 1_000_000, 20, 9));
    events.insert(7, (1_000_500, 0, body(&Loss { first_seq: 1, count: 2, reason: LossReason::TooLarge })));
    events.insert(11, (1_003_500, 30, vec![0xa5; 60]));
    events.insert(12, (1_003_500, 2, vec![0x80, 0x80]));
    write_all(3, 200, &events)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
        read_anything(&bytes);
    }

    #[test]
    fn any_bytes_behind_a_head_are_read_to_an_end(
        count in 1..=255_u8,
        events in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        read_anything(&frame(count, &events));
    }

    #[test]
    fn an_altered_frame_is_read_to_an_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut frame = mixed_frame();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        read_anything(&frame);
    }
}

#[test]
fn every_single_byte_altered_in_every_way_is_read_to_an_end() {
    let mut frame = mixed_frame();
    for at in 0..frame.len() {
        let was = frame[at];
        for byte in 0..=255 {
            frame[at] = byte;
            read_anything(&frame);
        }
        frame[at] = was;
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_an_error() {
    let frame = mixed_frame();
    read_all(&frame).expect("the whole frame");
    for bytes in 0..frame.len() {
        assert_eq!(read_all(&frame[..bytes]), Err(FrameError::Truncated), "{bytes} bytes");
    }
}

#[test]
fn bytes_after_the_last_event_are_an_error() {
    let mut frame = mixed_frame();
    frame.extend([0, 0]);
    assert_eq!(read_all(&frame), Err(FrameError::Trailing { bytes: 2 }));
}

#[test]
fn the_head_is_refused_by_cause() {
    let long = vec![0x11; FRAME_BYTES_MAX + 1];
    let cases: &[(&[u8], FrameError)] = &[
        (&long, FrameError::TooLong { bytes: FRAME_BYTES_MAX + 1 }),
        (&[], FrameError::Truncated),
        (&[0x11, 0], FrameError::Truncated),
        (&[0x21, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::Version { found: 2 }),
        (&[0x12, 0, 1, 1, 2, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::FrameKind { found: 2 }),
        (&[0x11, 3, 1, 1, 2, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::Flags { found: 3 }),
        (&[0x11, 0, 0, 1, 2, 3, 4, 0, 0, 0], FrameError::NoEvents),
        (&[0x11, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0xc9], FrameError::Truncated),
        (&[0x11, 0, 1, 0x81, 0x00, 2, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::Varint),
        (&[0x11, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x1f, 2, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::Varint),
        (
            &[
                0x11, 0, 1, 1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 4, 0, 0, 0,
                0xc9, 0,
            ],
            FrameError::Varint,
        ),
        (&[0x11, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 3, 4, 0, 0, 0, 0xc9, 0], FrameError::SequenceOver),
    ];
    for (bytes, error) in cases {
        assert_eq!(FrameHead::parse(bytes).err(), Some(*error), "{bytes:02x?}");
    }
    let last_number = [0x11, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 3, 4, 0, 0, 0, 0xc9, 0];
    let (head, bytes) = FrameHead::parse(&last_number).expect("the last number but one");
    assert_eq!((head.first_seq, head.base_ms, head.schema_set, bytes), (u32::MAX - 1, 3, 4, 14));
}

#[test]
fn events_are_refused_by_cause() {
    let body_of_too_many = BODY_BYTES_MAX + 1;
    let cases: &[(u8, &[u8], FrameError)] = &[
        (1, &[0x05], FrameError::NoReference),
        (1, &[0xe1], FrameError::NoReference),
        (2, &[0xdf, 0, 0x05], FrameError::NoReference),
        (2, &[0xdf, 0, 0xff], FrameError::NoReference),
        (2, &[0xc1, 2, 0x80, 0x00, 0x02, 0], FrameError::NoReference),
        (2, &[0xc1, 1, 0x80, 0x02, 0], FrameError::NoReference),
        (2, &[0xc9, 0, 0x00], FrameError::NoReference),
        (2, &[0xc9, 0, 0xe9], FrameError::NoReference),
        (1, &[0x81, 0x80, 0x00, 0], FrameError::Varint),
        (1, &[0x81, 0xff, 0xff, 0xff, 0xff, 0x10, 0], FrameError::Varint),
        (
            1,
            &[0xc1, 0x80 | (body_of_too_many & 0x7f) as u8, (body_of_too_many >> 7) as u8],
            FrameError::BodyTooLong,
        ),
        (1, &[0xc1, 2, 7], FrameError::Truncated),
        (2, &[0xc1, 1, 7, 0x02, 0x80, 0x00], FrameError::Varint),
    ];
    for (count, events, error) in cases {
        assert_eq!(read_all(&frame(*count, events)).err(), Some(*error), "{events:02x?}");
    }
}

#[test]
fn a_difference_that_would_grow_a_body_beyond_the_limit_is_refused() {
    let mut events = vec![0xc1, DELTA_BODY_BYTES_MAX as u8];
    events.extend([0; DELTA_BODY_BYTES_MAX]);
    events.push(0x02);
    events.extend([0; DELTA_BODY_BYTES_MAX - 1]);
    events.extend([0x80, 0x02]);
    assert_eq!(read_all(&frame(2, &events)), Err(FrameError::BodyTooLong));
}

#[test]
fn a_body_too_long_to_be_remembered_is_nothing_to_differ_from() {
    let mut events = vec![0xc1, 1, 0, 0xc1, DELTA_BODY_BYTES_MAX as u8 + 1];
    events.extend([0; DELTA_BODY_BYTES_MAX + 1]);
    for difference in [&[0xe1][..], &[0xe1, 0], &[0x00, 0]] {
        let events = [events.as_slice(), difference].concat();
        assert_eq!(read_all(&frame(3, &events)), Err(FrameError::NoReference));
    }
}

#[test]
fn an_uptime_beyond_64_bits_is_refused() {
    let mut bytes = vec![0x11, 0, 1, 1, 2];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    bytes.extend([4, 0, 0, 0, 0x81, 0x02, 0]);
    assert_eq!(read_all(&bytes), Err(FrameError::TimeOver));
}

#[test]
fn a_plain_writer_needs_none_of_the_savings() {
    let climate = Climate { temperature: 1, humidity: 2, pressure: 3 };
    let plain = [&[0x81, 0x00, 3][..], &body(&climate), &[0x81, 0x80, 0x01, 3], &body(&climate)].concat();
    let (_, events) = read_all(&frame(2, &plain)).expect("a plain frame");
    assert_eq!(events[1].uptime_ms, 3 + 64, "a time written out, a body written out");
    assert_eq!((events[1].kind, &events[1].body), (CLIMATE_KIND, &body(&climate)));
}

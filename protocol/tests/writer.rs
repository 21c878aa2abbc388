//! What the writer promises: a push that fails leaves the frame as it was, and the frame is whole
//! at every moment.

mod common;

use common::{CLIMATE_KIND, SCHEMA_SET, body, read_all, readings};
use tidegate_protocol::limits::{BODY_BYTES_MAX, EVENTS_MAX, FRAME_BYTES_MAX, SPAN_MS_MAX};
use tidegate_protocol::{EventId, FrameHead, FrameWriter, PushError};

#[test]
fn a_frame_without_events_is_no_frame() {
    let mut buffer = [0; 64];
    let writer = FrameWriter::new(&mut buffer, 1, 0, 0, true);
    assert!(writer.is_empty());
    assert_eq!((writer.len(), writer.count()), (0, 0));
    assert_eq!(writer.finish(), b"");
}

#[test]
fn the_frame_is_whole_after_every_push_and_after_every_failed_one() {
    for size in 0..120 {
        let mut buffer = vec![0; size];
        let mut writer = FrameWriter::new(&mut buffer, 1, 0, SCHEMA_SET, false);
        let mut taken = Vec::new();
        for (uptime_ms, climate) in readings(1, 500, 40, 200) {
            let by_event = taken.len() % 2 == 0;
            let pushed = match by_event {
                true => writer.push_event(uptime_ms, CLIMATE_KIND, &climate),
                false => writer.push(uptime_ms, CLIMATE_KIND, &body(&climate)),
            };
            match pushed {
                Ok(_) => taken.push((uptime_ms, body(&climate))),
                Err(error) => assert_eq!(error, PushError::Full),
            }
            assert_eq!(usize::from(writer.count()), taken.len());
        }
        let frame = writer.finish();
        if taken.is_empty() {
            assert!(frame.is_empty() && size < 24);
            continue;
        }
        let events = read_all(frame).expect("a whole frame").1;
        let read: Vec<_> = events.into_iter().map(|event| (event.uptime_ms, event.body)).collect();
        assert_eq!(read, taken, "{size} bytes");
    }
}

#[test]
fn a_full_frame_takes_255_events_and_no_more() {
    let mut buffer = [0; 4096];
    let mut writer = FrameWriter::new(&mut buffer, 1, 10, 0, false);
    for i in 0..EVENTS_MAX as u64 {
        writer.push(i * 1000, 1, &[5]).expect("room");
    }
    assert_eq!(writer.push(255_000, 1, &[5]), Err(PushError::Full));
    assert_eq!(read_all(writer.finish()).expect("a frame").1.len(), EVENTS_MAX);
}

#[test]
fn a_larger_buffer_does_not_make_a_larger_frame() {
    let mut buffer = [0; 4096];
    let mut writer = FrameWriter::new(&mut buffer, 1, 0, 0, false);
    writer.push(0, 9, &[1; BODY_BYTES_MAX]).expect("the longest body");
    assert_eq!(writer.push(0, 9, &[1; 100]), Err(PushError::Full));
    assert_eq!(writer.push_event(0, 9, &[[1_u8; 25]; 4]), Err(PushError::Full));
    assert!(writer.finish().len() <= FRAME_BYTES_MAX);
}

#[test]
fn the_longest_body_fits_in_an_empty_frame_at_the_ends_of_every_range() {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let mut writer = FrameWriter::new(&mut buffer, u32::MAX, u32::MAX - 1, u32::MAX, true);
    let id = writer.push(u64::MAX, 31, &[0xff; BODY_BYTES_MAX]).expect("room");
    assert_eq!(id, EventId { boot: u32::MAX, seq: u32::MAX - 1 });
    assert_eq!(writer.push(u64::MAX, 31, &[]), Err(PushError::SequenceOver));
    let (head, events) = read_all(writer.finish()).expect("a frame");
    assert_eq!(events[0].body.len(), BODY_BYTES_MAX);
    let expected = FrameHead {
        boot: u32::MAX,
        first_seq: u32::MAX - 1,
        base_ms: u64::MAX,
        schema_set: u32::MAX,
        count: 1,
        urgent: true,
    };
    assert_eq!(head, expected);
}

#[test]
fn events_that_no_frame_takes_are_refused_by_cause() {
    struct Unwilling;
    impl serde::Serialize for Unwilling {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("no"))
        }
    }
    let mut buffer = [0; FRAME_BYTES_MAX];
    let mut writer = FrameWriter::new(&mut buffer, 1, 0, 0, false);
    let too_long = [0; BODY_BYTES_MAX + 1];
    assert_eq!(writer.push(0, 32, &[]), Err(PushError::Kind { kind: 32 }));
    assert_eq!(writer.push(0, 1, &too_long), Err(PushError::BodyTooLong { bytes: BODY_BYTES_MAX + 1 }));
    assert_eq!(
        writer.push_event(0, 1, &too_long.as_slice()),
        Err(PushError::BodyTooLong { bytes: BODY_BYTES_MAX + 3 })
    );
    assert_eq!(writer.push_event(0, 1, &Unwilling), Err(PushError::Unserializable));
    assert!(writer.is_empty());
}

#[test]
fn an_uptime_before_the_first_or_too_far_after_it_belongs_in_another_frame() {
    let mut buffer = [0; 256];
    let mut writer = FrameWriter::new(&mut buffer, 1, 0, 0, false);
    writer.push(5_000, 1, &[]).expect("room");
    assert_eq!(writer.push(4_999, 1, &[]), Err(PushError::Full));
    assert_eq!(writer.push(5_001 + SPAN_MS_MAX, 1, &[]), Err(PushError::Full));
    writer.push(5_000 + SPAN_MS_MAX, 1, &[]).expect("the last moment");
    writer.push(5_001, 1, &[]).expect("back again, but not before the first");
    let times: Vec<u64> = read_all(writer.finish()).expect("a frame").1.iter().map(|e| e.uptime_ms).collect();
    assert_eq!(times, [5_000, 5_000 + SPAN_MS_MAX, 5_001]);
}

#[test]
fn a_frame_becomes_urgent_when_told_so() {
    let mut buffer = [0; 64];
    let mut writer = FrameWriter::new(&mut buffer, 1, 0, 0, false);
    writer.set_urgent(true);
    writer.push(0, 1, &[]).expect("room");
    writer.set_urgent(false);
    assert!(!writer.head().urgent);
    writer.set_urgent(true);
    assert!(FrameHead::parse(writer.finish()).expect("a frame").0.urgent);
}

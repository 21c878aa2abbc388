//! What several test files and the benchmark share: made-up sensors, and frames written and read
//! whole.
//!
//! The sensors are deterministic: the same seed gives the same readings for ever, since golden
//! vectors are made of them.
#![expect(dead_code, reason = "each test file uses a part of it")]

use tidegate_protocol::events::{Climate, EventType, Loss, Power};
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::{FrameError, FrameHead, FrameReader, FrameWriter, Kind, schema_set};

/// The kinds of the made-up device: `loss` is always the first.
pub const KINDS: &[Kind] =
    &[Loss::KIND, Climate::KIND, Kind { name: "light", version: 1, definition: &[] }, Power::KIND];
/// Their fingerprint.
pub const SCHEMA_SET: u32 = schema_set(KINDS);
/// Index of [`Climate`] in [`KINDS`].
pub const CLIMATE_KIND: u8 = 1;

/// An event that owns its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    pub seq: u32,
    pub uptime_ms: u64,
    pub kind: u8,
    pub body: Vec<u8>,
}

/// Reads a frame to its end.
pub fn read_all(frame: &[u8]) -> Result<(FrameHead, Vec<Owned>), FrameError> {
    let mut reader = FrameReader::new(frame)?;
    let mut events = Vec::new();
    while let Some(event) = reader.next_event() {
        let event = event?;
        assert_eq!(event.id.boot, reader_boot(frame));
        events.push(Owned {
            seq: event.id.seq,
            uptime_ms: event.uptime_ms,
            kind: event.kind,
            body: event.body.to_vec(),
        });
    }
    Ok((reader.head(), events))
}

fn reader_boot(frame: &[u8]) -> u32 {
    FrameHead::parse(frame).expect("the reader took it").0.boot
}

/// Writes events (time, kind, body) that all fit into one frame.
pub fn write_all(boot: u32, first_seq: u32, events: &[(u64, u8, Vec<u8>)]) -> Vec<u8> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let mut writer = FrameWriter::new(&mut buffer, boot, first_seq, SCHEMA_SET, false);
    for (uptime_ms, kind, body) in events {
        writer.push(*uptime_ms, *kind, body).expect("the events fit");
    }
    writer.finish().to_vec()
}

/// A body of the made-up device.
pub fn body(event: &impl serde::Serialize) -> Vec<u8> {
    let mut buffer = [0; 64];
    postcard::to_slice(event, &mut buffer).expect("64 bytes are enough").to_vec()
}

/// `count` readings, one a second from `start_ms` on, each late by up to `jitter_ms`: a room that
/// warms slowly, and the noise of an ordinary sensor (0.02 Cel, 0.05 %RH, 2 Pa about the value).
pub fn readings(seed: u64, start_ms: u64, count: u64, jitter_ms: u64) -> Vec<(u64, Climate)> {
    let mut noise = Noise(seed);
    (0..count)
        .map(|i| {
            let uptime_ms = start_ms + i * 1000 + noise.below(jitter_ms + 1);
            let climate = Climate {
                temperature: (2345 + i as i64 / 6 + noise.about_zero(2)) as i16,
                humidity: (4520 - i as i64 / 4 + noise.about_zero(5)) as u16,
                pressure: (101_325 + i as i64 / 10 + noise.about_zero(2)) as u32,
            };
            (uptime_ms, climate)
        })
        .collect()
}

/// [`readings`] as events of one kind.
pub fn climate_events(readings: &[(u64, Climate)]) -> Vec<(u64, u8, Vec<u8>)> {
    readings.iter().map(|(uptime_ms, climate)| (*uptime_ms, CLIMATE_KIND, body(climate))).collect()
}

/// A linear congruential generator (Knuth's MMIX constants): enough for noise.
pub struct Noise(pub u64);

impl Noise {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// Roughly normal, standard deviation `deviation`: the sum of twelve even numbers.
    pub fn about_zero(&mut self, deviation: i64) -> i64 {
        let sum: i64 = (0..12).map(|_| self.below(1000) as i64).sum();
        let scaled = (sum - 12 * 500) * deviation;
        (scaled + scaled.signum() * 500) / 1000
    }
}

pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

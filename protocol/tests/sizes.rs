//! What a reading costs on the wire, and what the same readings cost in other formats. The table in
//! `docs/wire-format.md` is what `cargo test -p tidegate-protocol --test sizes -- --nocapture`
//! prints.

mod common;

use common::{CLIMATE_KIND, Noise, SCHEMA_SET, body, climate_events, read_all, readings, write_all};
use serde_json::{Value, json};
use tidegate_protocol::events::Climate;
use tidegate_protocol::{FrameReader, FrameWriter};

const START_MS: u64 = 3_600_123;

fn per_reading(bytes: usize, readings: usize) -> f64 {
    bytes as f64 / readings as f64
}

fn minute(jitter_ms: u64) -> Vec<(u64, Climate)> {
    readings(7, START_MS, 60, jitter_ms)
}

#[test]
fn sixty_jittering_readings_cost_at_most_five_bytes_each_with_the_head() {
    for jitter_ms in [1, 5, 10, 20] {
        for seed in 0..50 {
            let frame = write_all(17, 48_211, &climate_events(&readings(seed, START_MS, 60, jitter_ms)));
            assert!(frame.len() <= 60 * 5, "{jitter_ms} ms, seed {seed}: {} bytes", frame.len());
        }
    }
}

#[test]
fn sixty_regular_readings_cost_a_control_byte_and_one_byte_per_channel() {
    let frame = write_all(17, 48_211, &climate_events(&minute(0)));
    // Head 3 + 1 + 3 + 4 + 4; first event: control, length, 7 of body; second: control and a step
    // of 2 bytes.
    assert_eq!(frame.len(), 15 + 9 + 6 + 58 * 4, "{} bytes", frame.len());
}

#[test]
fn kinds_that_take_turns_cost_no_more_than_a_single_one() {
    let mut noise = Noise(3);
    let mut events = Vec::new();
    for (uptime_ms, climate) in minute(5) {
        events.push((uptime_ms, CLIMATE_KIND, body(&climate)));
        events.push((uptime_ms + 2, 2, body(&(400 + noise.below(9) as u32,))));
        events.push((uptime_ms + 4, 3, body(&(230_000 + noise.below(30) as u32, noise.below(20) as i16))));
    }
    let frame = write_all(17, 48_211, &events);
    println!(
        "frame, 3 kinds in turn, 180 events   {:5} B  {:6.2} each",
        frame.len(),
        per_reading(frame.len(), 180)
    );
    let fields = 60 * (3 + 1 + 2);
    assert!(frame.len() <= fields + events.len() + 40, "{} bytes", frame.len());
    assert_eq!(read_all(&frame).expect("a whole frame").1.len(), 180);
}

#[test]
fn writer_and_reader_hold_at_most_400_bytes_of_state() {
    assert!(size_of::<FrameWriter<'_>>() - size_of::<&mut [u8]>() <= 400, "{}", size_of::<FrameWriter<'_>>());
    assert!(size_of::<FrameReader<'_>>() - size_of::<&[u8]>() <= 400, "{}", size_of::<FrameReader<'_>>());
}

#[test]
fn the_other_formats_cost_more() {
    let readings = minute(5);
    let ours = write_all(17, 48_211, &climate_events(&readings)).len();
    let regular = write_all(17, 48_211, &climate_events(&minute(0))).len();
    let single = write_all(17, 48_211, &climate_events(&readings[..1])).len();
    println!("frame, 60 readings, jitter to 5 ms   {ours:5} B  {:6.2} each", per_reading(ours, 60));
    println!("frame, 60 readings, regular          {regular:5} B  {:6.2} each", per_reading(regular, 60));
    println!("frame, 1 reading                     {single:5} B");
    for (name, bytes) in [
        ("postcard, absolute values", postcard_absolute(&readings)),
        ("JSON arrays, no names", json_bytes(&json_arrays(&readings))),
        ("JSON objects, short names", json_bytes(&json_objects(&readings))),
        ("SenML-JSON (RFC 8428)", json_bytes(&senml(&readings))),
    ] {
        println!("{name:36} {bytes:5} B  {:6.2} each", per_reading(bytes, 60));
        assert!(bytes > 2 * ours, "{name}: {bytes} against {ours}");
    }
}

/// The same head, then for each reading its step in time, its kind and its body.
fn postcard_absolute(readings: &[(u64, Climate)]) -> usize {
    let head = body(&(17_u32, 48_211_u32, START_MS, SCHEMA_SET.to_le_bytes())).len() + 3;
    let mut before_ms = START_MS;
    readings.iter().fold(head, |bytes, (uptime_ms, climate)| {
        let step_ms = uptime_ms - before_ms;
        before_ms = *uptime_ms;
        bytes + body(&(step_ms, CLIMATE_KIND, climate)).len()
    })
}

fn json_bytes(value: &Value) -> usize {
    serde_json::to_vec(value).expect("JSON").len()
}

fn json_arrays(readings: &[(u64, Climate)]) -> Value {
    let rows: Vec<Value> = readings
        .iter()
        .map(|(uptime_ms, c)| json!([uptime_ms - START_MS, c.temperature, c.humidity, c.pressure]))
        .collect();
    json!({ "boot": 17, "seq": 48_211, "base": START_MS, "climate": rows })
}

fn json_objects(readings: &[(u64, Climate)]) -> Value {
    let rows: Vec<Value> = readings
        .iter()
        .map(|(uptime_ms, c)| {
            json!({ "t": uptime_ms, "temp": hundredths(i64::from(c.temperature)),
                "rh": hundredths(i64::from(c.humidity)), "p": c.pressure })
        })
        .collect();
    json!({ "boot": 17, "seq": 48_211, "climate": rows })
}

fn senml(readings: &[(u64, Climate)]) -> Value {
    let mut records = vec![json!({ "bn": "barn-7:17:", "bt": START_MS as f64 / 1000.0 })];
    for (uptime_ms, c) in readings {
        let t = (uptime_ms - START_MS) as f64 / 1000.0;
        let [temperature, humidity] = [i64::from(c.temperature), i64::from(c.humidity)].map(hundredths);
        records.push(json!({ "n": "temperature", "u": "Cel", "t": t, "v": temperature }));
        records.push(json!({ "n": "humidity", "u": "%RH", "t": t, "v": humidity }));
        records.push(json!({ "n": "pressure", "u": "Pa", "t": t, "v": c.pressure }));
    }
    Value::Array(records)
}

fn hundredths(value: i64) -> f64 {
    value as f64 / 100.0
}

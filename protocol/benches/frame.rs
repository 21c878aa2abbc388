//! What a frame costs in time: 60 readings of three channels written and read, and a head alone.
//! `cargo bench -p tidegate-protocol --bench frame`; the rate per element is events per second.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use common::{CLIMATE_KIND, SCHEMA_SET, climate_events, readings, write_all};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate_protocol::events::Climate;
use tidegate_protocol::limits::FRAME_BYTES_MAX;
use tidegate_protocol::{FrameHead, FrameReader, FrameWriter};

const EVENTS: usize = 60;

fn frame(criterion: &mut Criterion) {
    let readings = readings(7, 3_600_123, EVENTS as u64, 5);
    let events = climate_events(&readings);
    let frame = write_all(17, 48_211, &events);

    let mut group = criterion.benchmark_group("frame");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("encode 60 bodies", |bencher| {
        let mut buffer = [0; FRAME_BYTES_MAX];
        bencher.iter(|| {
            let mut writer = FrameWriter::new(&mut buffer, 17, 48_211, SCHEMA_SET, false);
            for (uptime_ms, kind, body) in black_box(&events) {
                writer.push(*uptime_ms, *kind, body).expect("room");
            }
            black_box(writer.finish()).len()
        });
    });
    group.bench_function("encode 60 events", |bencher| {
        let mut buffer = [0; FRAME_BYTES_MAX];
        bencher.iter(|| {
            let mut writer = FrameWriter::new(&mut buffer, 17, 48_211, SCHEMA_SET, false);
            for (uptime_ms, climate) in black_box(&readings) {
                writer.push_event(*uptime_ms, CLIMATE_KIND, climate).expect("room");
            }
            black_box(writer.finish()).len()
        });
    });
    group.bench_function("decode 60 bodies", |bencher| {
        bencher.iter(|| {
            let mut reader = FrameReader::new(black_box(&frame)).expect("a frame");
            while let Some(event) = reader.next_event() {
                black_box(event.expect("an event"));
            }
        });
    });
    group.bench_function("decode 60 events", |bencher| {
        bencher.iter(|| {
            let mut reader = FrameReader::new(black_box(&frame)).expect("a frame");
            while let Some(event) = reader.next_event() {
                black_box(event.expect("an event").decode::<Climate>().expect("a climate"));
            }
        });
    });
    group.finish();
    criterion.bench_function("head", |bencher| bencher.iter(|| FrameHead::parse(black_box(&frame))));
}

criterion_group!(benches, frame);
criterion_main!(benches);

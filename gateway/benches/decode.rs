//! The body of an event to JSON: `cargo bench -p tidegate --bench decode`.
//!
//! Our decoder, by a definition that came at run time, beside what else there is: `postcard-dyn`,
//! which also needs no static type and makes a `serde_json::Value`, and serde with the static type,
//! which a gateway that is not rebuilt cannot have. The same 1,000 bodies of `climate` for all; the
//! rate per element is events per second. Only ours knows scales: the others write integers.
//!
//! `stamp`: the times of the 60 events of a frame, with a lock of the fleet for each of them, and
//! with what is known taken once for all of them.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use parking_lot::Mutex;
use postcard_schema::schema::owned::OwnedNamedType;
use tidegate::{
    catalog::{Decoder, Values},
    clock::{Journal, Reading},
    fleet::State,
    store::{Kind, Record},
};
use tidegate_protocol::{
    FrameWriter, Schema,
    events::{Climate, EventType},
    postcard,
};

const EVENTS: u32 = 1_000;
/// Events of a frame.
const FRAME_EVENTS: u64 = 60;

/// Readings of a day.
fn bodies() -> Vec<Vec<u8>> {
    let climate = |n: u32| Climate {
        temperature: 2_345 - (n * 37 % 4_000) as i16,
        humidity: 4_520 + (n * 13 % 3_000) as u16,
        pressure: 101_325 - n * 7 % 900,
    };
    (0..EVENTS).map(|n| postcard_bytes(&climate(n))).collect()
}

fn postcard_bytes(climate: &Climate) -> Vec<u8> {
    let mut buffer = [0; 32];
    postcard::to_slice(climate, &mut buffer).expect("it fits").to_vec()
}

fn decode(criterion: &mut Criterion) {
    let bodies = bodies();
    let mut out = Vec::with_capacity(256);
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(EVENTS.into()));

    let decoder = Decoder::compile(Climate::KIND.definition).expect("a definition");
    for (name, values) in [("own, scaled", Values::Scaled), ("own, raw", Values::Raw)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for body in black_box(&bodies) {
                    out.clear();
                    decoder.to_json(body, values, &mut out).expect("a body");
                    black_box(&out);
                }
            });
        });
    }

    group.bench_function("serde, static type", |bencher| {
        bencher.iter(|| {
            for body in black_box(&bodies) {
                out.clear();
                let climate: Climate = postcard::from_bytes(body).expect("a body");
                serde_json::to_writer(&mut out, &climate).expect("JSON");
                black_box(&out);
            }
        });
    });

    let schema = OwnedNamedType::from(<Climate as Schema>::SCHEMA);
    group.bench_function("postcard-dyn", |bencher| {
        bencher.iter(|| {
            for body in black_box(&bodies) {
                out.clear();
                let value = postcard_dyn::from_slice_dyn(&schema, body).expect("a body");
                serde_json::to_writer(&mut out, &value).expect("JSON");
                black_box(&out);
            }
        });
    });
    group.finish();
}

fn compile(criterion: &mut Criterion) {
    criterion.bench_function("compile a definition", |bencher| {
        bencher.iter(|| Decoder::compile(black_box(Climate::KIND.definition)).expect("a definition"));
    });
}

/// A fleet that knows one device by one frame.
fn fleet(wall_ms: u64) -> State {
    let mut state = State::new(Default::default(), Default::default(), true);
    let reading = Reading { boot_id: [1; 16], boot_ms: 100_000, wall_ms: wall_ms as i64 };
    state.begin(Journal::default(), &reading, 0);
    let mut frame = [0; 1024];
    let mut writer = FrameWriter::new(&mut frame, 3, 0, 7, false);
    for n in 0..FRAME_EVENTS {
        writer.push(n * 1000, 0, &[]).expect("it fits");
    }
    let record = Record {
        kind: Kind::Frame,
        events: 1,
        qos: 1,
        received_ms: wall_ms,
        client: "barn",
        topic: "tg/barn/e",
        payload: writer.finish(),
        ..Record::default()
    };
    let _ = state.apply(0, &record);
    state
}

fn stamp(criterion: &mut Criterion) {
    const WALL_MS: u64 = 1_800_000_000_000;
    let state = Mutex::new(fleet(WALL_MS));
    let mut group = criterion.benchmark_group("stamp");
    group.throughput(Throughput::Elements(FRAME_EVENTS));
    group.bench_function("a lock for each event", |bencher| {
        bencher.iter(|| {
            for n in 0..FRAME_EVENTS {
                black_box(state.lock().stamp("barn", 3, n * 1000, 0, WALL_MS));
            }
        });
    });
    group.bench_function("once for a frame", |bencher| {
        bencher.iter(|| {
            let mut times = state.lock().frame("barn", 3, 0, WALL_MS);
            for n in 0..FRAME_EVENTS {
                black_box(times.stamp(n * 1000));
            }
            state.lock().note_given("barn", &times);
        });
    });
    group.finish();
}

criterion_group!(benches, decode, compile, stamp);
criterion_main!(benches);

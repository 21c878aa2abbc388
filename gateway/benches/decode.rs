//! The body of an event to JSON: `cargo bench -p tidegate --bench decode`.
//!
//! Our decoder, by a definition that came at run time, beside what else there is: `postcard-dyn`, which also needs no static type and
//! makes a `serde_json::Value`, and serde with the static type, which a gateway that is not rebuilt cannot have. The same 1,000 bodies of
//! `climate` for all; the rate per element is events per second. Only ours knows scales: the others write integers.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postcard_schema::schema::owned::OwnedNamedType;
use tidegate::catalog::{Decoder, Values};
use tidegate_protocol::{
    Schema,
    events::{Climate, EventType},
    postcard,
};

const EVENTS: u32 = 1_000;

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

criterion_group!(benches, decode, compile);
criterion_main!(benches);

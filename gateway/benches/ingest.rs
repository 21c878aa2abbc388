//! A session without its socket: `cargo bench -p tidegate --bench ingest`.
//!
//! `session/…`: one read of 1,000 PUBLISH packets of 40 bytes is parsed, judged, made into records,
//! and acknowledged: time per PUBLISH is the figure divided by 1,000.

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::{
    access::Permissions,
    broker::Broker,
    clock,
    ingest::{
        Payload, Route, Settings,
        session::{Now, Opening, Session, Sink},
    },
    store::{Record, Watermark},
};
use tidegate_protocol::FrameWriter;

const PUBLISHES: u16 = 1_000;

/// Takes records as the store's batch does, and forgets them.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
}

impl Sink for Rows {
    fn push(&mut self, record: &Record<'_>) {
        record.write(&mut self.bytes);
    }
    fn push_exactly_once(&mut self, record: &Record<'_>, _packet_id: u16) {
        record.write(&mut self.bytes);
    }
    fn push_release(&mut self, _client: &str, _packet_id: u16) {}
}

fn open(version: u8, now: Now) -> Session {
    let filters = ["zigbee2mqtt/#", "shellies/+/relay/#", "bench/#"];
    let routes = filters.map(|filter| Route {
        filter: filter.into(),
        payload: Payload::Opaque,
        urgent: false,
        device_level: None,
    });
    let settings = Settings { inflight_max: PUBLISHES + 1, routes: routes.into(), ..Settings::default() };
    let settings = Arc::new(settings);
    let mut session = Session::new(settings.clone(), Broker::new(settings.broker()), now);
    session.set_permissions(Permissions::all());
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let body = [&[0, 4, b'M', b'Q', b'T', b'T', version, 2, 0, 60], properties, &[0, 1, b'c']].concat();
    session.handle_input(now, &[&[0x10, body.len() as u8], &body[..]].concat(), &mut Rows::default());
    let connect = session.take_connect().expect("a CONNECT that is right");
    session.accept(now, *connect, Opening::fresh("client-1".into()));
    session.handle_written(now, session.output().len());
    session
}

fn publishes(version: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    let mut out = vec![];
    for id in 1..=PUBLISHES {
        let length = 2 + topic.len() + 2 + properties.len() + payload.len();
        out.extend([0x32, u8::try_from(length).expect("a short packet"), 0, topic.len() as u8]);
        out.extend(topic.as_bytes());
        out.extend(id.to_be_bytes());
        out.extend(properties);
        out.extend(payload);
    }
    out
}

fn frame() -> Vec<u8> {
    let mut buffer = [0; 256];
    let mut writer = FrameWriter::new(&mut buffer, 7, 1_000, 0x1234_5678, false);
    for i in 0..6 {
        writer.push(i * 1_000, 0, &[1, 2, 3, 4]).expect("an event that fits");
    }
    writer.finish().to_vec()
}

/// One read, appended and acknowledged.
fn round<S: Sink>(session: &mut Session, input: &[u8], sink: &mut S, now: Now, ticket: &mut u64) {
    let taken = session.handle_input(now, black_box(input), sink);
    assert_eq!(taken, input.len());
    session.handle_appended(*ticket);
    *ticket += u64::from(PUBLISHES);
    session.handle_watermark(now, Watermark { committed: *ticket, closed: false });
    let output = session.output().len();
    assert_eq!(output, 4 * usize::from(PUBLISHES));
    session.handle_written(now, output);
}

fn session(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session");
    group.throughput(Throughput::Elements(PUBLISHES.into()));
    let now = Now { at: clock::monotonic(), wall_ms: 1, steady_ms: 1 };
    let frame = frame();
    let cases: [(&str, u8, &str, &[u8]); 4] = [
        ("3.1.1 route", 4, "bench/client-1/t", &[b'7'; 40]),
        ("5 route", 5, "bench/client-1/t", &[b'7'; 40]),
        ("3.1.1 frame", 4, "tg/client-1/e", &frame),
        ("5 frame", 5, "tg/client-1/e", &frame),
    ];
    for (name, version, topic, payload) in cases {
        let input = publishes(version, topic, payload);
        let (mut session, mut ticket, mut rows) = (open(version, now), 0, Rows::default());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                rows.bytes.clear();
                round(&mut session, &input, &mut rows, now, &mut ticket);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);

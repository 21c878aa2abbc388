//! The commit path and the way back: `cargo bench -p tidegate --bench store`.
//!
//! `commit/N`: N records of 40 bytes appended, and the wait until they are durable, one sync included.
//! `drain`: a backlog of a million records read from the files, as an uplink does after an outage.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::{
    clock,
    store::{AppendError, Batch, Kind, Record, Settings, Store},
};
use tokio::runtime::Runtime;

const UPLINK: &str = "cloud";
const BACKLOG_RECORDS: u64 = 1_000_000;

fn open(folder: &Path) -> Store {
    let settings = Settings {
        data_dir: folder.into(),
        segment_bytes: 64 * 1024 * 1024,
        retain: Duration::from_secs(3_600),
        wear_budget_bytes_per_day: None,
        linger_max: Duration::from_secs(1),
        dead_letters_max_bytes: 64 << 20,
    };
    Store::open(settings, &[UPLINK.into()]).expect("a store in an empty folder")
}

fn record() -> Record<'static> {
    Record {
        kind: Kind::Opaque,
        events: 1,
        retain: false,
        urgent: false,
        received_ms: 1_000,
        client: "client-1",
        topic: "bench/t",
        properties: &[],
        payload: &[7; 40],
    }
}

async fn append_durable(store: &Store, batch: &mut Batch) {
    let (intake, tickets) = (store.intake(), batch.tickets());
    let first = loop {
        match intake.append(batch) {
            Ok(first) => break first,
            Err(AppendError::Full) => intake.room(batch.bytes()).await,
            Err(error) => panic!("{error}"),
        }
    };
    let mut watermark = intake.watermark();
    watermark.wait_for(|mark| mark.committed >= first + tickets).await.expect("the store is open");
}

fn commit(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let mut group = criterion.benchmark_group("commit");
    for records in [1u64, 100, 1_000, 10_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let store = open(folder.path());
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::from_parameter(records), |bench| {
            let mut batch = Batch::default();
            bench.iter(|| {
                (0..records).for_each(|_| batch.push(&record()));
                runtime.block_on(append_durable(&store, &mut batch));
            });
        });
        let status = store.status();
        println!("commit/{records}: {} bytes written per event", status.written_bytes / status.events.max(1));
    }
}

fn drain(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let mut batch = Batch::default();
    for _ in 0..BACKLOG_RECORDS / 1_000 {
        (0..1_000).for_each(|_| batch.push(&record()));
        runtime.block_on(append_durable(&store, &mut batch));
    }
    store.close();
    let mut group = criterion.benchmark_group("drain");
    group.sample_size(10).throughput(Throughput::Elements(BACKLOG_RECORDS));
    group.bench_function("from_files", |bench| {
        bench.iter_custom(|rounds| (0..rounds).map(|_| drain_once(&runtime, folder.path())).sum());
    });
}

/// Reads and releases the whole backlog. The cursor is not saved, so that it is there again the next time.
fn drain_once(runtime: &Runtime, folder: &Path) -> Duration {
    let store = open(folder);
    let mut reader = store.reader(UPLINK).expect("its reader");
    let begun = clock::monotonic();
    runtime.block_on(async {
        while reader.position() < BACKLOG_RECORDS {
            let from = reader.position();
            let block = reader.next().await.expect("a block");
            black_box(block.records_from(from).count());
            reader.release(block.end());
        }
    });
    let took = begun.elapsed();
    store.crash();
    took
}

criterion_group!(benches, commit, drain);
criterion_main!(benches);

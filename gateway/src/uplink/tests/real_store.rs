//! Over the store itself.

use super::{
    super::{engine::mqtt::Version, run},
    broker::{ACCEPTED_V5, Broker, Came, Reply},
    *,
};
use crate::store::{self, Batch, Store};

fn open(dir: &tempfile::TempDir) -> Store {
    let settings = store::Settings {
        segment_bytes: 1 << 20,
        retain: Duration::from_secs(3600),
        ..store::Settings::new(dir.path())
    };
    Store::open(settings, &["cloud".to_owned()]).unwrap()
}

fn append(store: &Store, numbers: std::ops::Range<usize>) {
    for n in numbers {
        let mut batch = Batch::default();
        batch.push(&Owned::new(&format!("site/{n}"), n.to_string().as_bytes()).borrow());
        while store.intake().append(&mut batch).is_err() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_store_keeps_its_name_and_another_has_another() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let name = |dir: &tempfile::TempDir| Source::ids(&open(dir).reader("cloud").unwrap()).clone();
    let first = name(&dir);
    assert_eq!(name(&dir), first);
    assert_ne!(name(&other), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_holds_arrives_across_restarts_and_what_is_refused_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(ACCEPTED_V5, |_, came| match came {
        Came::Publish(arrival) if arrival.payload == b"5" => Reply::Refuse(0x99),
        _ => Reply::Ack,
    })
    .await;
    for range in [0..400, 400..800] {
        let store = open(&dir);
        append(&store, range.clone());
        let mut chosen = settings(broker.port);
        chosen.broker().version = Version::V5;
        let (health, shutdown) = (Arc::new(Health::default()), CancellationToken::new());
        let uplink = tokio::spawn(run(
            chosen,
            store.reader("cloud").unwrap(),
            EventContext::default(),
            health.clone(),
            shutdown.clone(),
        ));
        let backlog = || store.status().backlogs[0].clone();
        eventually(
            || backlog().events == 0 && store.status().next_offset == range.end as u64,
            || format!("{:?} {:?}", backlog(), health),
        )
        .await;
        assert_eq!(store.status().dead_letters, 1);
        shutdown.cancel();
        tokio::time::timeout(PATIENCE, uplink).await.unwrap().unwrap();
        store.close();
    }
    let expected: Vec<String> = (0..800).map(|n| n.to_string()).collect();
    assert_eq!(broker.first_arrivals(), expected);
    assert_eq!(broker.arrivals().len(), 800, "the cursor was kept");
}

//! What the store promises about dead letters: kept whole, looked at from elsewhere, bounded, and
//! never in the way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use tidegate::store::{
    Batch, DeadLetterFilter, Kind, LetterReason, NewLetter, Reader, ReasonCode, Record, Settings, Store, View,
};

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";
const ROOM: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 512;

fn open(folder: &Path) -> Store {
    let settings = Settings { dead_letters_max_bytes: ROOM, ..Settings::new(folder) };
    Store::open(settings, &[UPLINK.into()]).unwrap()
}

fn record<'a>(client: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        kind: Kind::Json,
        events: 1,
        retain: true,
        qos: 0,
        local: false,
        device_level: None,
        urgent: true,
        received_ms: 1_000,
        client,
        topic: "zigbee2mqtt/door",
        properties: &[1, 1],
        payload,
    }
}

/// Stores one record, and waits until it is durable.
async fn append(store: &Store, record: &Record<'_>) {
    let mut batch = Batch::default();
    batch.push(record);
    let ticket = store.intake().append(&mut batch).unwrap();
    let mut watermark = store.intake().watermark();
    let durable = watermark.wait_for(|watermark| watermark.committed > ticket);
    assert!(tokio::time::timeout(LIMIT, durable).await.expect("a commit within the limit").is_ok());
}

/// Sets the next record of the log aside, and goes on behind it.
async fn set_next_aside(reader: &mut Reader, reason: &str) {
    let from = reader.position();
    let block = tokio::time::timeout(LIMIT, reader.next()).await.expect("a block within the limit").unwrap();
    for (offset, record) in block.records_from(from) {
        let letter = NewLetter::new(offset, &record, LetterReason::new(ReasonCode::Other, reason), 1);
        reader.add_dead_letters(Arc::new(vec![letter])).await.unwrap();
        reader.release(offset + 1);
    }
}

fn all(view: &View) -> Vec<u64> {
    let (mut after, mut ids) = (0, Vec::new());
    loop {
        let page = view.dead_letters(&DeadLetterFilter::default(), after, 100).unwrap();
        ids.extend(page.letters.iter().map(|letter| letter.id));
        match page.next {
            Some(next) => after = next,
            None => return ids,
        }
    }
}

#[tokio::test]
async fn a_dead_letter_is_there_whole_after_a_crash_and_gone_when_it_was_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, &record("barn", b"poison")).await;
    append(&store, &record("barn", b"more poison")).await;
    let mut reader = store.reader(UPLINK).unwrap();
    while reader.position() < 2 {
        set_next_aside(&mut reader, "too large").await;
    }
    store.crash();

    let store = open(folder.path());
    let view = store.view();
    assert_eq!(all(&view), [1, 2]);
    let letter = view.dead_letter(1).unwrap().unwrap();
    assert_eq!((letter.uplink.as_str(), letter.offset, letter.reason.as_str()), (UPLINK, 0, "too large"));
    assert_eq!(letter.record(), record("barn", b"poison"));
    assert!(view.remove_dead_letter(1).unwrap());
    assert!(!view.remove_dead_letter(1).unwrap());
    store.crash();
    let store = open(folder.path());
    assert_eq!((all(&store.view()), store.status().dead_letters), (vec![2], 1));
}

#[tokio::test]
async fn full_dead_letters_hold_nothing_up_and_the_file_stays_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut reader = store.reader(UPLINK).unwrap();
    // Sizes that fit pages badly.
    for bytes in [2_100, 4_100, 700, 9_000].into_iter().cycle().take(600) {
        append(&store, &record("barn", &vec![7; bytes])).await;
        set_next_aside(&mut reader, "too large").await;
    }
    let status = store.status();
    // What was dropped is told by gap records, some at a time.
    let told = status.next_offset - 600;
    assert!((1..10).contains(&told) && status.backlogs[0].events == told, "{status:?}");
    assert!(status.dead_letter_bytes <= ROOM && status.dead_letters < 300, "{status:?}");
    let ids = all(&store.view());
    assert_eq!((ids.len() as u64, ids.last()), (status.dead_letters, Some(&600)));
    let file = std::fs::metadata(folder.path().join("dead_letters.redb")).unwrap();
    assert!(file.blocks() * BLOCK_BYTES <= 2 * ROOM, "{} bytes on the disk", file.blocks() * BLOCK_BYTES);
}

#[test]
fn whoever_looks_and_drops_meanwhile_loses_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let view = store.view();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let barn = DeadLetterFilter { device: Some("barn".into()), ..DeadLetterFilter::default() };
    let mut dropped = 0;
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut dropped = 0;
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                assert!(all(&view).is_sorted());
                dropped += view.remove_dead_letters(&barn).unwrap();
            }
            dropped
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut reader = store.reader(UPLINK).unwrap();
            for n in 0..300 {
                let client = if n % 2 == 0 { "barn" } else { "stable" };
                append(&store, &record(client, b"x")).await;
                set_next_aside(&mut reader, "refused").await;
            }
        });
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        dropped = looking.join().unwrap();
    });
    dropped += view.remove_dead_letters(&barn).unwrap();
    assert_eq!((dropped, all(&view).len()), (150, 150));
}

#[tokio::test]
async fn damaged_dead_letters_keep_no_event_from_anybody() {
    for harm in [
        |path: &Path| std::fs::write(path, "what is this").unwrap(),
        |path: &Path| {
            std::fs::remove_file(path).unwrap();
        },
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        append(&store, &record("barn", b"poison")).await;
        append(&store, &record("barn", b"fine")).await;
        set_next_aside(&mut store.reader(UPLINK).unwrap(), "too large").await;
        store.close();
        harm(&folder.path().join("dead_letters.redb"));

        let store = open(folder.path());
        assert_eq!((store.status().events, store.status().failure), (2, None));
        append(&store, &record("barn", b"poison again")).await;
        let mut reader = store.reader(UPLINK).unwrap();
        let before = store.status().dead_letters;
        set_next_aside(&mut reader, "too large").await;
        assert_eq!(before, 0);
        assert!(store.status().dead_letters > 0);
    }
}

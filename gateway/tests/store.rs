//! What the store promises: durable receipts, stored once, read behind cursors, opened after any
//! stop.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, sync::Arc, time::Duration};

use tidegate::store::{
    Batch, Block, FLEET, HURRIED_LINGER_MAX, INTAKE_BYTES_MAX, Kind, LetterReason, NewLetter, Reader,
    ReasonCode, Record, Settings, Store, StoreError,
};
use tidegate_protocol::{DeviceName, FrameWriter, Leaf, Topic};

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";

fn settings(folder: &Path) -> Settings {
    Settings { linger_max: Duration::from_secs(1), ..Settings::new(folder) }
}

fn open(folder: &Path) -> Store {
    Store::open(settings(folder), &[UPLINK.into()]).unwrap()
}

fn record<'a>(topic: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record { events: 1, qos: 0, received_ms: 1_000, client: "c", topic, payload, ..Record::default() }
}

/// Appends `texts` as records, and waits until they are durable.
async fn append(store: &Store, texts: impl IntoIterator<Item = String>) {
    let (intake, mut batch) = (store.intake(), Batch::default());
    for text in texts {
        batch.push(&record("t", text.as_bytes()));
        if batch.bytes() > 64 * 1024 {
            wait_durable(store, append_when_room(&intake, &mut batch).await).await;
        }
    }
    if !batch.is_empty() {
        wait_durable(store, append_when_room(&intake, &mut batch).await).await;
    }
}

/// The ticket behind the batch's last one.
async fn append_when_room(intake: &tidegate::store::Intake, batch: &mut Batch) -> u64 {
    let tickets = batch.tickets();
    loop {
        match intake.append(batch) {
            Ok(first) => return first + tickets,
            Err(tidegate::store::AppendError::Full) => intake.room(batch).await,
            Err(closed) => panic!("{closed}"),
        }
    }
}

async fn wait_durable(store: &Store, ticket: u64) {
    let mut watermark = store.intake().watermark();
    let durable = watermark.wait_for(|watermark| watermark.committed >= ticket || watermark.closed);
    let reached = tokio::time::timeout(LIMIT, durable).await.expect("a commit within the limit").unwrap();
    assert!(reached.committed >= ticket, "the store closed before it was durable");
}

/// Reads `count` records as text from where the reader stands.
async fn read(reader: &mut Reader, count: usize) -> Vec<(u64, String)> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let from = reader.position();
        let block = next(reader).await;
        let found = block.records_from(from).map(|(offset, record)| (offset, text(&record)));
        texts.extend(found);
    }
    texts
}

async fn next(reader: &mut Reader) -> Arc<Block> {
    tokio::time::timeout(LIMIT, reader.next()).await.expect("a block within the limit").unwrap()
}

fn text(record: &Record<'_>) -> String {
    String::from_utf8_lossy(record.payload).into_owned()
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// The topic and the payload of a frame of two events.
fn frame(device: &str, boot: u32, first_seq: u32) -> (String, Vec<u8>) {
    let (mut topic, mut buffer) = ([0; 64], [0; 256]);
    let name = Topic { device: DeviceName::new(device).unwrap(), leaf: Leaf::Events };
    let topic = name.write(&mut topic).unwrap().to_owned();
    let mut writer = FrameWriter::new(&mut buffer, boot, first_seq, 0, false);
    writer.push(1, 1, b"abc").unwrap();
    writer.push(2, 1, b"abd").unwrap();
    (topic, writer.finish().to_vec())
}

fn segment_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names.filter(|path| path.to_string_lossy().contains("seg-")).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_held_is_not_deleted_although_it_is_delivered_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { segment_bytes: 300_000, ..settings(folder.path()) };
    let filler = "x".repeat(1_000);
    let deletes = |folder: &Path, to: usize| {
        let folder = folder.to_owned();
        tokio::time::timeout(Duration::from_secs(7), async move {
            while segment_files(&folder).len() > to {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    let store = Store::open(small.clone(), &[UPLINK.into()]).unwrap();
    store.view().save_fleet(&[], 0).unwrap();
    store.view().hold(FLEET, 0);
    append(&store, (0..2_000).map(|n| format!("{n} {filler}"))).await;
    let mut reader = store.reader(UPLINK).unwrap();
    read(&mut reader, 2_000).await;
    reader.release(2_000);
    let all = segment_files(folder.path()).len();
    deletes(folder.path(), all - 1).await.expect_err("it is held");
    store.crash();

    // Nobody took it up again yet.
    let store = Store::open(small, &[UPLINK.into()]).unwrap();
    let all = segment_files(folder.path()).len();
    let mut reader = store.reader(UPLINK).unwrap();
    reader.release(2_000);
    deletes(folder.path(), all - 1).await.expect_err("it is held");
    store.view().save_fleet(&[], 2_000).unwrap();
    store.view().hold(FLEET, 2_000);
    deletes(folder.path(), 1).await.expect("what is held no more is deleted");
}

#[tokio::test]
async fn what_is_durable_is_read_in_order_from_memory_and_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, numbers(0..5_000)).await;
    let mut reader = store.reader(UPLINK).unwrap();
    let expected: Vec<_> = (0..5_000).map(|n| (n, n.to_string())).collect();
    assert_eq!(read(&mut reader, 5_000).await, expected);
    assert!(store.reader(UPLINK).is_none(), "an uplink has one reader");
    store.close();

    let store = open(folder.path());
    let mut reader = store.reader(UPLINK).unwrap();
    assert_eq!(read(&mut reader, 5_000).await, expected, "nothing was released");
    reader.seek(4_321);
    assert_eq!(read(&mut reader, 679).await, expected[4_321..]);
}

#[tokio::test]
async fn a_crash_keeps_every_durable_record_and_the_totals() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5u64 {
        let store = open(folder.path());
        assert_eq!(store.status().events, round * 700);
        append(&store, numbers(round * 700..(round + 1) * 700)).await;
        store.crash();
    }
    let store = open(folder.path());
    let texts: Vec<_> =
        read(&mut store.reader(UPLINK).unwrap(), 3_500).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, numbers(0..3_500));
    let backlog = &store.status().backlogs[0];
    assert_eq!((backlog.events, backlog.oldest_received_ms), (3_500, Some(1_000)));
    assert_eq!(backlog.bytes, (0..3_500u64).map(|n| 16 + 2 + n.to_string().len() as u64).sum::<u64>());
}

#[tokio::test]
async fn nothing_appended_after_a_crash_is_ever_called_durable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, numbers(0..3)).await;
    let intake = store.intake();
    store.crash();
    let mut batch = Batch::default();
    batch.push(&record("t", b"late"));
    assert_eq!(intake.append(&mut batch), Err(tidegate::store::AppendError::Closed));
    assert_eq!(batch.tickets(), 1, "the batch is as it was");
    let watermark = *intake.watermark().borrow();
    assert_eq!((watermark.committed, watermark.closed), (3, true));
}

#[tokio::test]
async fn a_released_record_is_not_read_again_and_an_unreleased_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, numbers(0..100)).await;
    let mut reader = store.reader(UPLINK).unwrap();
    read(&mut reader, 100).await;
    reader.release(60);
    assert_eq!((reader.released(), store.status().backlogs[0].events), (60, 40));
    reader.seek(reader.released());
    assert_eq!(read(&mut reader, 40).await[0], (60, "60".into()));
    // What is in flight may be looked at again, out of order.
    reader.seek(90);
    assert_eq!(read(&mut reader, 1).await[0], (90, "90".into()));
    reader.seek(100);
    reader.release(75);
    assert_eq!(store.status().backlogs[0].events, 25);
    drop(reader);
    store.close();

    let store = open(folder.path());
    assert_eq!(store.status().backlogs[0].events, 25);
    assert_eq!(read(&mut store.reader(UPLINK).unwrap(), 25).await[0], (75, "75".into()));
}

#[tokio::test]
async fn a_reader_waits_for_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut reader = store.reader(UPLINK).unwrap();
    let waiting = tokio::spawn(async move { read(&mut reader, 1).await });
    append(&store, ["hello".to_owned()]).await;
    let read = tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap();
    assert_eq!(read, [(0, "hello".into())]);
}

#[tokio::test]
async fn segments_are_sealed_read_across_and_deleted_when_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { segment_bytes: 300_000, ..settings(folder.path()) };
    let store = Store::open(small.clone(), &[UPLINK.into()]).unwrap();
    let filler = "x".repeat(1_000);
    append(&store, (0..3_000).map(|n| format!("{n} {filler}"))).await;
    let segments = store.status().segments;
    assert!(segments >= 8, "{segments} segments");
    store.crash();

    let store = Store::open(small, &[UPLINK.into()]).unwrap();
    let mut reader = store.reader(UPLINK).unwrap();
    let read = read(&mut reader, 3_000).await;
    assert!(read.iter().enumerate().all(|(n, (offset, text))| {
        *offset == n as u64 && text.split(' ').next() == Some(n.to_string().as_str())
    }));
    reader.release(3_000);
    let deleted = async {
        while segment_files(folder.path()).len() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, deleted).await.expect("delivered segments are deleted");
    append(&store, ["after".to_owned()]).await;
    assert_eq!(store.status().events, 3_001);
}

#[tokio::test]
async fn a_frame_sent_again_is_stored_once_also_after_a_crash_and_in_another_segment() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { segment_bytes: 50_000, ..settings(folder.path()) };
    let mut expected = 0;
    for round in 0..3 {
        let store = Store::open(small.clone(), &[UPLINK.into()]).unwrap();
        let (intake, mut batch) = (store.intake(), Batch::default());
        for (device, boot, first_seq) in [("a", 1, 0), ("a", 1, 2), ("b", 1, 0), ("a", 1, 0), ("a", 2, 0)] {
            let (topic, payload) = frame(device, boot, first_seq);
            batch.push(&Record { kind: Kind::Frame, events: 2, ..record(&topic, &payload) });
        }
        let ticket = append_when_room(&intake, &mut batch).await;
        wait_durable(&store, ticket).await;
        append(&store, [format!("{} {round}", "x".repeat(60_000))]).await;
        expected += if round == 0 { 8 + 1 } else { 1 };
        assert_eq!(store.status().events, expected, "round {round}");
        store.crash();
    }
}

#[tokio::test]
async fn what_lies_between_copies_is_kept_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (intake, mut batch) = (store.intake(), Batch::default());
    let (topic, first) = frame("a", 1, 0);
    let (_, second) = frame("a", 1, 2);
    let sent: [&[u8]; 9] = [&first, b"x", &first, &first, b"y", b"yy", &second, &first, b"z"];
    for payload in sent {
        let kind = if payload.len() > 2 { Kind::Frame } else { Kind::Opaque };
        batch.push(&Record {
            kind,
            events: if kind == Kind::Frame { 2 } else { 1 },
            ..record(&topic, payload)
        });
    }
    let ticket = append_when_room(&intake, &mut batch).await;
    wait_durable(&store, ticket).await;
    store.close();
    let store = open(folder.path());
    let block = next(&mut store.reader(UPLINK).unwrap()).await;
    let stored: Vec<_> = block.records_from(0).map(|(_, record)| record.payload).collect();
    assert_eq!(stored, [&first[..], b"x", b"y", b"yy", &second, b"z"]);
    assert_eq!((block.end(), store.status().events), (6, 8));
}

#[tokio::test]
async fn a_qos_2_record_is_stored_once_until_its_release_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let receive = |batch: &mut Batch, text: &str| batch.push_exactly_once(&record("t", text.as_bytes()), 7);
    for (round, release) in [(0u64, false), (0, false), (0, true), (1, true)] {
        let store = open(folder.path());
        let (intake, mut batch) = (store.intake(), Batch::default());
        receive(&mut batch, "first");
        receive(&mut batch, "again");
        if release {
            batch.push_release("c", 7);
        }
        let ticket = append_when_room(&intake, &mut batch).await;
        wait_durable(&store, ticket).await;
        assert_eq!((store.status().events, intake.has_pending("c")), (round + 1, !release));
        store.crash();
    }
    let store = open(folder.path());
    let (intake, mut batch) = (store.intake(), Batch::default());
    receive(&mut batch, "x");
    batch.push_forget("c");
    receive(&mut batch, "y");
    let ticket = append_when_room(&intake, &mut batch).await;
    wait_durable(&store, ticket).await;
    let texts: Vec<_> =
        read(&mut store.reader(UPLINK).unwrap(), 4).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["first", "first", "x", "y"]);
}

#[tokio::test]
async fn received_times_hold_across_a_clock_that_is_set_by_decades() {
    let folder = tempfile::tempdir().unwrap();
    let times = [5_000, 1_795_000_000_123, 1_795_000_000_124, 6_000];
    let store = open(folder.path());
    let (intake, mut batch) = (store.intake(), Batch::default());
    let mut ticket = 0;
    for received_ms in times {
        batch.push(&Record { received_ms, ..record("t", b"x") });
        ticket = append_when_room(&intake, &mut batch).await;
    }
    wait_durable(&store, ticket).await;
    store.close();
    let (store, mut found) = (open(folder.path()), vec![]);
    let mut reader = store.reader(UPLINK).unwrap();
    while found.len() < times.len() {
        let block = next(&mut reader).await;
        found.extend(block.records_from(0).map(|(_, record)| record.received_ms));
    }
    assert_eq!(found, times);
}

#[tokio::test]
async fn a_full_intake_refuses_and_later_has_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (intake, big) = (store.intake(), vec![b'x'; 1024 * 1024]);
    let (mut refused, mut last) = (0, 0);
    for _ in 0..32 {
        let mut batch = Batch::default();
        batch.push(&record("t", &big));
        assert!(batch.bytes() < INTAKE_BYTES_MAX);
        while let Err(error) = intake.append(&mut batch) {
            assert_eq!(error, tidegate::store::AppendError::Full);
            refused += 1;
            tokio::time::timeout(LIMIT, intake.room(&batch)).await.expect("room within the limit");
        }
        last += 1;
    }
    wait_durable(&store, last).await;
    assert!(refused > 0, "32 MiB fit into the intake at once");
    assert_eq!(store.status().events, 32);
}

#[tokio::test]
async fn what_is_set_aside_is_counted_also_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, ["poison".to_owned()]).await;
    let mut reader = store.reader(UPLINK).unwrap();
    let block = next(&mut reader).await;
    let (offset, poison) = block.records_from(0).next().unwrap();
    let letter = NewLetter::new(offset, &poison, LetterReason::new(ReasonCode::TooLong, "too large"), 1);
    reader.add_dead_letters(Arc::new(vec![letter])).await.unwrap();
    reader.release(offset + 1);
    store.crash();
    assert_eq!(open(folder.path()).status().dead_letters, 1);
}

#[tokio::test]
async fn a_new_uplink_starts_where_the_one_farthest_behind_stands() {
    let folder = tempfile::tempdir().unwrap();
    let both = ["old".to_owned(), "fast".to_owned()];
    let store = Store::open(settings(folder.path()), &both).unwrap();
    append(&store, numbers(0..10)).await;
    for (name, released) in [("old", 4), ("fast", 9)] {
        let mut reader = store.reader(name).unwrap();
        read(&mut reader, 10).await;
        reader.release(released);
    }
    store.close();
    let store = Store::open(settings(folder.path()), &["fast".to_owned(), "renamed".to_owned()]).unwrap();
    let events: Vec<_> = store.status().backlogs.iter().map(|backlog| backlog.events).collect();
    assert_eq!(events, [1, 6, 6], "the old place is kept");
}

#[tokio::test]
async fn a_second_gateway_a_foreign_folder_and_missing_segments_are_refused_untouched() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    append(&store, numbers(0..3)).await;
    let refused = |folder: &Path| Store::open(settings(folder), &[UPLINK.into()]).unwrap_err();
    assert!(matches!(refused(folder.path()), StoreError::InUse { .. }));
    store.close();

    let foreign = tempfile::tempdir().unwrap();
    std::fs::write(foreign.path().join("holiday.jpg"), b"x").unwrap();
    assert!(
        matches!(refused(foreign.path()), StoreError::Foreign { example, .. } if example == "holiday.jpg")
    );
    assert_eq!(std::fs::read_dir(foreign.path()).unwrap().count(), 1);

    let segment = segment_files(folder.path()).remove(0);
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::remove_file(&segment).unwrap();
    assert!(matches!(refused(folder.path()), StoreError::SegmentsMissing { .. }));
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(open(folder.path()).status().events, 3, "put back, it opens");
}

#[tokio::test]
async fn an_unfinished_segment_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close();
    let unfinished = folder.path().join("seg-00000000000000000009.redb.new");
    std::fs::write(&unfinished, b"half").unwrap();
    assert_eq!(open(folder.path()).status().segments, 1);
    assert!(!unfinished.exists());
}

/// A store whose wear budget is spent: commits linger for an hour.
async fn spent(folder: &Path) -> Store {
    let frugal = Settings {
        wear_budget_bytes_per_day: Some(1),
        linger_max: Duration::from_secs(3_600),
        ..settings(folder)
    };
    let store = Store::open(frugal, &[UPLINK.into()]).unwrap();
    // The first commit spends what there is.
    append(&store, ["first".to_owned()]).await;
    store
}

#[tokio::test]
async fn a_spent_wear_budget_shares_commits_and_urgent_records_do_not_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = spent(folder.path()).await;
    let (intake, mut batch) = (store.intake(), Batch::default());
    batch.push(&record("t", b"waits"));
    intake.append(&mut batch).unwrap();
    batch.push(&Record { urgent: true, ..record("t", b"now") });
    let ticket = append_when_room(&intake, &mut batch).await;
    wait_durable(&store, ticket).await;
    assert_eq!(store.status().events, 3);
}

#[tokio::test]
async fn a_commit_that_somebody_waits_for_lingers_but_a_moment_and_takes_along_what_lingered() {
    let folder = tempfile::tempdir().unwrap();
    let store = spent(folder.path()).await;
    let (intake, mut batch) = (store.intake(), Batch::default());
    batch.push(&record("t", b"lingers"));
    let ticket = append_when_room(&intake, &mut batch).await;
    for hurried in ["while another lingers", "by itself"] {
        batch.push(&record("t", hurried.as_bytes()));
        batch.hurry();
        let ticket = append_when_room(&intake, &mut batch).await;
        wait_durable(&store, ticket).await;
    }
    wait_durable(&store, ticket).await;
    // And it is the batch that is hurried, not what its connection sends next.
    batch.push(&record("t", b"lingers"));
    let ticket = append_when_room(&intake, &mut batch).await;
    tokio::time::sleep(10 * HURRIED_LINGER_MAX).await;
    assert!(intake.watermark().borrow().committed < ticket);
    let budget = store.status().wear_budget.unwrap();
    assert!(budget.linger > Duration::from_secs(3_000) && budget.lingers_since_ms.is_some(), "{budget:?}");
    assert!(budget.left_bytes <= 0, "{budget:?}");
}

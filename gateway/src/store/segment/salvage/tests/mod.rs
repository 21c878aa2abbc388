//! Every damage that leaves rows whole, on the files that the store writes: what is whole is found,
//! and nothing else.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::*;
use crate::store::{
    OsFolder,
    record::{
        Record,
        epochs::Epochs,
        gaps::Gaps,
        ids::StoreIds,
        pending::Pending,
        row::{HEAD_BYTES, RowHead},
    },
    segment::{Beginning, Part},
};

const STORE: u32 = 0x1234_5678;
const FIRST: u64 = 5_000;
const BYTES_BEFORE: u64 = 900_000;
const PAGE_BYTES: usize = 4096;

/// Rows by their offsets.
type Rows = BTreeMap<u64, Vec<u8>>;

fn row(at: &mut LogPosition, payloads: &[Vec<u8>]) -> (u64, Vec<u8>) {
    let mut row = vec![0; HEAD_BYTES];
    for payload in payloads {
        let record = Record {
            events: 2,
            qos: 1,
            received_ms: 1_000,
            client: "hub",
            topic: "a/topic",
            properties: &[0x01, 0x01],
            payload,
            ..Record::default()
        };
        record.write(&mut row);
    }
    let records = payloads.len() as u32;
    let head = RowHead {
        records,
        events: 2 * records,
        base_ms: 1_000,
        events_before: at.events,
        bytes_before: at.bytes,
    };
    head.seal(&mut row);
    let offset = at.offset;
    at.offset += u64::from(records);
    at.events += u64::from(2 * records);
    at.bytes += (row.len() - HEAD_BYTES) as u64;
    (offset, row)
}

/// A segment as the store writes it, commit by commit, with rows of all sizes.
fn filled(folder: &Path, commits: usize) -> (Files, Rows, LogPosition) {
    let files = Files::new(Arc::new(OsFolder::new(folder.to_owned())));
    let beginning = Beginning {
        store: STORE,
        ids: &StoreIds::one(STORE),
        first: FIRST,
        events_before: 7_000,
        bytes_before: BYTES_BEFORE,
        part: Part::Whole,
        cursors: &[("cloud".into(), FIRST)],
        pending: &Pending::default(),
        seen: &[vec![3; 500]],
        gaps: &Gaps::default(),
        epochs: Epochs::default(),
    };
    let mut at = LogPosition { offset: FIRST, events: 7_000, bytes: BYTES_BEFORE, received_ms: None };
    let (mut rows, segment) = (Rows::new(), Segment::create(&files, &beginning, |_| Ok(())).unwrap());
    for n in 0..commits {
        let sizes: &[usize] = [&[30][..], &[10, 700, 20], &[3_000; 9], &[5; 60], &[50_000]][n % 5];
        // Of many small ones, as most rows are, there are most.
        let sizes = if n % 3 == 0 { sizes } else { &[40] };
        let payloads: Vec<_> = sizes.iter().map(|size| vec![n as u8; *size]).collect();
        let (offset, row) = row(&mut at, &payloads);
        let commit = segment.begin_commit().unwrap();
        commit.rows([(offset, &row[..])].into_iter()).unwrap();
        commit.finish().unwrap();
        rows.insert(offset, row);
    }
    drop(segment);
    (files, rows, at)
}

fn path(folder: &Path) -> std::path::PathBuf {
    folder.join(segment::name_of(FIRST))
}

fn damaged(end: u64) -> Damaged {
    Damaged { first: FIRST, end: Some(end), store: Some(STORE), ..Damaged::default() }
}

fn salvaged(files: &Files, damaged: &Damaged) -> (Rows, Salvage) {
    let mut salvage = Salvage::look(files, damaged).unwrap();
    let (mut rows, mut at) = (Rows::new(), FIRST);
    let visited = salvage.for_each(|block| {
        assert!(block.first() >= at, "in order");
        at = block.end();
        rows.insert(block.first(), block.row().to_vec());
        Ok(())
    });
    visited.unwrap();
    (rows, salvage)
}

type Harm = fn(&mut Vec<u8>);

#[test]
fn a_file_one_byte_short_or_long_or_flipped_or_zeroed_in_its_head_gives_all_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let (files, rows, end) = filled(folder.path(), 120);
    let whole = std::fs::read(path(folder.path())).unwrap();
    let harms: [(&str, Harm); 7] = [
        ("as it was", |_| {}),
        ("a byte short", |bytes| bytes.truncate(bytes.len() - 1)),
        ("a byte long", |bytes| bytes.push(7)),
        ("a flipped bit in the name of the format", |bytes| bytes[3] ^= 1),
        ("the whole head flipped", |bytes| bytes[..320].iter_mut().for_each(|byte| *byte ^= 0xff)),
        ("the first page zeroed", |bytes| bytes[..PAGE_BYTES].fill(0)),
        ("bytes put before it", |bytes| drop(bytes.splice(0..0, [9; 13]))),
    ];
    for (what, harm) in harms {
        let mut bytes = whole.clone();
        harm(&mut bytes);
        std::fs::write(path(folder.path()), bytes).unwrap();
        let known =
            Damaged { before: Some(LogPosition { bytes: BYTES_BEFORE, ..end }), ..damaged(end.offset) };
        let known = match what {
            // No page is where it should be: the records before the segment say whose rows these
            // are.
            "bytes put before it" => {
                Damaged { before: known.before.map(|mark| LogPosition { offset: FIRST, ..mark }), ..known }
            }
            _ => damaged(end.offset),
        };
        let (found, salvage) = salvaged(&files, &known);
        let missing: Vec<_> = rows.keys().filter(|offset| !found.contains_key(offset)).collect();
        assert!(found == rows, "{what}: {} of {} rows, without {missing:?}", found.len(), rows.len());
        assert_eq!((salvage.doubts(), salvage.unassigned_records), (None, 0), "{what}");
    }
}

#[test]
fn a_page_that_is_overwritten_wherever_it_lies_costs_the_rows_in_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (files, rows, end) = filled(folder.path(), 60);
    let whole = std::fs::read(path(folder.path())).unwrap();
    let (mut lost_most, mut harmful) = (0, 0);
    for page in 0..whole.len() / PAGE_BYTES {
        let mut bytes = whole.clone();
        bytes[page * PAGE_BYTES..][..PAGE_BYTES].fill(0xaa);
        std::fs::write(path(folder.path()), &bytes).unwrap();
        // One page is the meta's: what lies behind the segment says then whose its rows are.
        let known = Damaged { behind: Some(end), ..damaged(end.offset) };
        let (found, salvage) = salvaged(&files, &known);
        assert!(found.iter().all(|(offset, row)| rows.get(offset) == Some(row)), "page {page}: as they were");
        // A row of which a copy is whole anywhere in the file is found.
        for (offset, row) in rows.iter().filter(|(offset, _)| !found.contains_key(offset)) {
            let is_whole = bytes.windows(row.len()).any(|window| window == row);
            assert!(!is_whole, "page {page}: the row {offset} is there and was not found");
        }
        let lost = rows.len() - found.len();
        (lost_most, harmful) = (lost_most.max(lost), harmful + usize::from(lost > 0));
        assert_eq!(salvage.unassigned_records, 0, "page {page}");
    }
    assert!(harmful > 10 && lost_most < 60, "{harmful} pages hold rows, {lost_most} rows at the most");
}

#[test]
fn rows_of_another_store_or_place_or_of_nobody_knows_whose_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (files, rows, end) = filled(folder.path(), 30);
    let others = Damaged { store: Some(STORE + 1), ..damaged(end.offset) };
    assert!(Salvage::look(&files, &others).unwrap().is_empty());
    let mut bytes = std::fs::read(path(folder.path())).unwrap();
    bytes[..PAGE_BYTES].fill(0);
    std::fs::write(path(folder.path()), &bytes).unwrap();
    assert!(Salvage::look(&files, &others).unwrap().is_empty(), "its meta is found by itself");
    assert!(salvaged(&files, &damaged(end.offset)).0 == rows);

    // Without its meta, what lies before or behind it says so, or nobody does.
    let name =
        bytes.windows(12).position(|bytes| bytes == b"bytes_before").unwrap() / PAGE_BYTES * PAGE_BYTES;
    bytes[name..name + PAGE_BYTES].fill(0);
    std::fs::write(path(folder.path()), &bytes).unwrap();
    assert!(Salvage::look(&files, &damaged(end.offset)).unwrap().is_empty());
    let begin = LogPosition { offset: FIRST, events: 7_000, bytes: BYTES_BEFORE, received_ms: None };
    for (before, behind) in [(Some(begin), None), (None, Some(end))] {
        let known = Damaged { before, behind, ..damaged(end.offset) };
        assert!(salvaged(&files, &known).0 == rows);
    }
    let wrong = Damaged { before: Some(LogPosition { bytes: 1, ..begin }), ..damaged(end.offset) };
    assert!(Salvage::look(&files, &wrong).unwrap().is_empty());
}

#[test]
fn a_row_that_somebody_published_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(Arc::new(OsFolder::new(folder.path().to_owned())));
    let mut at = LogPosition { offset: FIRST, events: 0, bytes: BYTES_BEFORE + 5_000, received_ms: None };
    let forged = row(&mut at, &[b"forged".to_vec()]).1;
    let beginning = Beginning {
        store: STORE,
        ids: &StoreIds::one(STORE),
        first: FIRST,
        events_before: 0,
        bytes_before: BYTES_BEFORE,
        part: Part::Whole,
        cursors: &[],
        pending: &Pending::default(),
        seen: &[],
        gaps: &Gaps::default(),
        epochs: Epochs::default(),
    };
    let mut at = LogPosition { offset: FIRST, events: 0, bytes: BYTES_BEFORE, received_ms: None };
    let (offset, published) = row(&mut at, &[forged.repeat(40)]);
    drop(Segment::create(&files, &beginning, |filler| filler.row(offset, &published)).unwrap());
    let mut bytes = std::fs::read(path(folder.path())).unwrap();
    bytes[0] ^= 1;
    std::fs::write(path(folder.path()), &bytes).unwrap();
    let (found, salvage) = salvaged(&files, &damaged(FIRST + 100));
    assert_eq!((found.len(), &found[&FIRST], salvage.unassigned_records), (1, &published, 0));
}

#[test]
fn what_only_looks_like_rows_is_looked_at_for_so_long_and_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let (files, _, end) = filled(folder.path(), 1);
    // Heads of rows whose one record is as long as the file, again and again.
    let length = 256 * 1024;
    let mut head = row(&mut LogPosition::default(), &[vec![7; length / 2]]).1[..128].to_vec();
    head[4] ^= 1;
    std::fs::write(path(folder.path()), head.repeat(length / head.len())).unwrap();
    let salvage = Salvage::look(&files, &damaged(end.offset)).unwrap();
    assert!(salvage.is_cut && salvage.is_empty());
    assert!(salvage.doubts().is_some_and(|said| said.contains("limit")), "{:?}", salvage.doubts());
}

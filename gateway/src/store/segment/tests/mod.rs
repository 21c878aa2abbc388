//! A segment that is damaged: whatever is read of it, and when it is closed, nobody panics.

use std::path::Path;

use super::*;
use crate::store::{
    disk::{Files, folder::OsFolder},
    record::row::{HEAD_BYTES, RowHead},
};

const ROW_BYTES: usize = 1_100;
const PAGE_BYTES: usize = 4_096;

fn fill(folder: &Path, rows: u64) -> Files {
    let files = Files::new(std::sync::Arc::new(OsFolder::new(folder.to_owned())));
    let (pending, gaps) = (Pending::default(), Gaps::default());
    let beginning = Beginning {
        store: 1,
        ids: &StoreIds::one(1),
        first: 0,
        events_before: 0,
        bytes_before: 0,
        part: Part::Whole,
        cursors: &[],
        pending: &pending,
        seen: &[],
        gaps: &gaps,
        epochs: Epochs::default(),
    };
    let row = |at: u64| {
        let mut row = vec![7; HEAD_BYTES + ROW_BYTES];
        RowHead { records: 1, events: 1, base_ms: 0, events_before: at, bytes_before: at }.seal(&mut row);
        row
    };
    let segment = Segment::create(&files, &beginning, |_| Ok(())).unwrap();
    for at in 0..rows {
        let commit = segment.begin_commit().unwrap();
        commit.rows([(at, &row(at)[..])].into_iter()).unwrap();
        commit.finish().unwrap();
    }
    files
}

#[test]
fn a_damaged_segment_is_opened_read_and_closed_without_a_panic() {
    for rows in [1, 10, 100, 300] {
        let folder = tempfile::tempdir().unwrap();
        let files = fill(folder.path(), rows);
        let path = folder.path().join(name_of(0));
        let whole = std::fs::read(&path).unwrap();
        for start in 0..40 {
            let mut bytes = whole.clone();
            let damaged = bytes.iter_mut().skip(PAGE_BYTES + start * 7).step_by(997);
            damaged.for_each(|byte| *byte ^= 0x40);
            std::fs::write(&path, bytes).unwrap();
            let Ok(segment) = Segment::open_unchecked(&files, 0) else { continue };
            let _ = segment.head();
            let _ = segment.for_each_row(|_| Ok(()));
        }
    }
}

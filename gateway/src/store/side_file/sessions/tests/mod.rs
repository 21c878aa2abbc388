//! The file as earlier versions left it, and what is read of a full one.

use std::sync::Arc;

use super::*;
use crate::{
    clock::{Journal, timeline::STEADY_ORIGIN_MS},
    store::OsFolder,
};

const HOUR_MS: u64 = 3_600_000;
/// 2026-11-29, milliseconds since 1970.
const NOW_MS: u64 = 1_795_910_400_000;
const STORE: u32 = 7;

#[test]
fn times_of_the_wall_clock_in_format_1_are_read_and_the_first_save_says_everything_anew() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(Arc::new(OsFolder::new(folder.path().to_owned())));
    let message =
        MessageRow { expiry_s: Some(60), received_ms: NOW_MS - 2 * HOUR_MS, ..MessageRow::default() };
    let session = SessionRow {
        away_since_ms: Some(NOW_MS - HOUR_MS),
        will: Some(WillRow { due_ms: NOW_MS + HOUR_MS, message: message.clone() }),
        ..SessionRow::default()
    };
    let owed = UnackedRow { message: message.clone(), ..UnackedRow::default() };
    let changes = [
        Change::Session("a".into(), session),
        Change::Unacked("a".into(), 1, owed),
        Change::Retained("r".into(), Some(message)),
    ];
    let old = SideFile { format: 1, ..SIDE_FILE };
    drop(old.make(&files, STORE, |transaction| {
        make_tables(transaction)?;
        changes.iter().try_for_each(|change| make(transaction, change, &mut None))
    }));
    // The machine runs for ten minutes: all of it is from before.
    let boot_ms = HOUR_MS as i64 / 6;
    let now = Reading { boot_id: [1; 16], boot_ms, wall_ms: NOW_MS as i64 };
    let timeline = Timeline::default();
    timeline.begin(Journal::default(), &now, 0);
    let file = SessionFile::new(files, STORE, timeline);
    let now_ms = (STEADY_ORIGIN_MS + boot_ms) as u64;
    let check = |kept: &KeptSessions| {
        let (_, session, owed) = &kept.sessions[0];
        assert_eq!(session.away_since_ms, Some(now_ms - HOUR_MS));
        assert_eq!(session.will.as_ref().unwrap().due_ms, now_ms + HOUR_MS);
        assert_eq!(owed[0].1.message.received_ms, now_ms - 2 * HOUR_MS);
        assert_eq!(kept.retained[0].received_ms, now_ms - 2 * HOUR_MS);
    };
    let kept = file.load(&now, u64::MAX).unwrap().unwrap();
    assert!(kept.is_old);
    check(&kept);
    let (client, session, owed) = kept.sessions[0].clone();
    let changes = [
        Change::Clear,
        Change::Session(client.clone(), session),
        Change::Unacked(client, 1, owed[0].1.clone()),
        Change::Retained("r".into(), Some(kept.retained[0].clone())),
    ];
    file.save(changes.to_vec(), 5).unwrap();
    let kept = file.load(&now, u64::MAX).unwrap().unwrap();
    assert!(!kept.is_old);
    check(&kept);
}

#[test]
fn what_sessions_are_owed_is_shared_out_only_where_all_of_it_is_more_than_the_limit() {
    const EMPTY_SESSIONS: usize = 2_000;
    const MESSAGES: u64 = 256;
    const LIMIT_BYTES: u64 = 2 << 20;
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(Arc::new(OsFolder::new(folder.path().to_owned())));
    let now = Reading { boot_id: [1; 16], boot_ms: 5_000, wall_ms: NOW_MS as i64 };
    let timeline = Timeline::default();
    timeline.begin(Journal::default(), &now, 0);
    let file = SessionFile::new(files, STORE, timeline);
    let session = |name: String| Change::Session(name, SessionRow::default());
    let message = MessageRow { payload: vec![7; 4096].into(), ..MessageRow::default() };
    let owed = UnackedRow { message, ..UnackedRow::default() };
    let mut changes = vec![session("full".into())];
    changes.extend((0..MESSAGES).map(|number| Change::Unacked("full".into(), number, owed.clone())));
    changes.extend((0..EMPTY_SESSIONS).map(|number| session(format!("empty-{number}"))));
    file.save(changes, 5).unwrap();
    let load = |limit_bytes| {
        let kept = file.load(&now, limit_bytes).unwrap().unwrap();
        assert_eq!(kept.sessions.len(), EMPTY_SESSIONS + 1);
        let messages: usize = kept.sessions.iter().map(|(_, _, owed)| owed.len()).sum();
        (messages as u64, kept.left_out)
    };
    assert_eq!(load(LIMIT_BYTES), (MESSAGES, 0), "1 MiB of 2 MiB");
    let (read, left_out) = load(LIMIT_BYTES / 2);
    assert!(read > MESSAGES * 9 / 10, "those that are owed nothing take no share: {read} read");
    assert!(left_out > 0 && read + left_out == MESSAGES, "{read} read, {left_out} left out");
}

#[test]
fn who_wants_less_than_a_share_leaves_the_rest_to_the_others() {
    for (wanted, max, most) in [
        (vec![], 0, u64::MAX),
        (vec![5, 5], 10, u64::MAX),
        (vec![6, 5], 10, 5),
        (vec![1, 2, 100], 53, 50),
        (vec![100, 1, 100, 2], 53, 25),
        (vec![3, 3, 3], 2, 0),
    ] {
        assert_eq!(share(wanted.clone(), max), most, "{wanted:?} of {max}");
        let taken: u64 = wanted.iter().map(|wanted| most.min(*wanted)).sum();
        assert!(taken <= max.max(wanted.iter().sum()), "{wanted:?} of {max}");
    }
}

//! Looking into a store: what is damaged is named, what is known is told, nothing is written, and a
//! running store and a stopped one say the same.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tidegate::{
    clock::{self, Now},
    store::{
        Batch, Committer, FleetChange, Kind, MessageRow, NewCommand, NewId, OsFolder, Put, Record,
        SessionChange, SessionRow, Settings, Step, Store, StoreError,
        inspect::{
            CatFilter, CatItem, CatLimits, FileKind, FileReport, Inspector, Part, Stat, Summary, Verdict,
        },
    },
};

const UPLINK: &str = "cloud";
const SEGMENT_BYTES: u64 = 128 * 1024;
/// Records of a commit; its events were all received in the same second.
const COMMIT_RECORDS: u64 = 40;
const PAYLOAD_BYTES: usize = 200;
const ALL: CatLimits = CatLimits { records: u64::MAX, bytes: u64::MAX };

fn settings(folder: &Path) -> Settings {
    Settings {
        segment_bytes: SEGMENT_BYTES,
        // The events are of 1970.
        retain: Duration::from_secs(200 * 366 * 86_400),
        max_bytes: 1 << 30,
        ..Settings::new(folder)
    }
}

fn open(folder: &Path) -> (Store, Committer) {
    let files = Arc::new(OsFolder::new(folder.into()));
    Store::open_stepwise(files, settings(folder), &[UPLINK.into()], clock::now()).unwrap()
}

/// Stores commits of records, numbered from where the store stands.
fn fill(store: &Store, committer: &mut Committer, commits: u64) {
    for _ in 0..commits {
        let mut batch = Batch::default();
        let first = store.status().next_offset;
        for n in first..first + COMMIT_RECORDS {
            let (mut payload, topic) = (format!("{{\"n\":{n}}}").into_bytes(), format!("tg/dev-{}/e", n % 3));
            let kind = if n % 2 == 0 { Kind::Json } else { Kind::Opaque };
            if kind == Kind::Opaque {
                payload.resize(PAYLOAD_BYTES, n as u8);
            }
            batch.push(&Record {
                kind,
                events: 1,
                qos: 0,
                received_ms: n / COMMIT_RECORDS * 1_000,
                client: "hub",
                topic: if n % 5 == 0 { "plain" } else { &topic },
                payload: &payload,
                ..Record::default()
            });
        }
        store.intake().append(&mut batch).unwrap();
        assert_eq!(committer.step(clock::now()), Step::Committed);
    }
}

/// A store of some segments, closed.
fn closed_store() -> tempfile::TempDir {
    let folder = closed_store_of(80);
    assert!(segments(folder.path()).len() >= 4);
    folder
}

fn closed_store_of(commits: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut committer) = open(folder.path());
    fill(&store, &mut committer, commits);
    committer.finish(clock::now());
    store.close();
    folder
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("seg-") && name.ends_with(".redb")
    };
    let mut files: Vec<_> = names.filter(is_segment).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn first_of(path: &Path) -> u64 {
    name(path)[4..24].parse().unwrap()
}

fn verify(inspector: &Inspector) -> (Vec<FileReport>, Summary) {
    let reports: Vec<_> = inspector.verify().unwrap().map(Result::unwrap).collect();
    let mut summary = Summary::default();
    reports.iter().for_each(|report| summary.add(report));
    (reports, summary)
}

fn verify_files(folder: &Path) -> (Vec<FileReport>, Summary) {
    verify(&Inspector::of_files(folder).unwrap())
}

/// Of the reports that are not well, the file and the verdict.
fn troubles(reports: &[FileReport]) -> Vec<(&str, Verdict)> {
    let not_well = reports.iter().filter(|report| report.verdict != Verdict::Good);
    not_well.map(|report| (report.file.as_str(), report.verdict)).collect()
}

/// All records as JSON, and where some cannot be read.
fn cat(inspector: &Inspector, filter: &CatFilter) -> (Vec<String>, Vec<(u64, u64)>) {
    let (mut lines, mut unreadable) = (Vec::new(), Vec::new());
    let next = inspector.cat(filter, ALL, &mut |item| match item {
        CatItem::Record(entry) => lines.push(serde_json::to_string(&entry).unwrap()),
        CatItem::Unreadable { offsets, .. } => unreadable.push((offsets.from, offsets.to)),
    });
    assert_eq!(next.unwrap(), None);
    (lines, unreadable)
}

/// Every file with its bytes and the time of its last change.
fn contents(folder: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let read = |entry: std::fs::DirEntry| {
        let changed = entry.metadata().unwrap().modified().unwrap();
        (entry.file_name().into_string().unwrap(), (std::fs::read(entry.path()).unwrap(), changed))
    };
    entries.map(read).collect()
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// What both a running and a stopped store can say.
fn without_the_run(mut stat: Stat) -> Stat {
    (stat.run, stat.at_ms) = (None, 0);
    for segment in &mut stat.segments {
        segment.is_active = false;
        segment.file_bytes = 0;
    }
    stat.others.iter_mut().for_each(|other| other.file_bytes = 0);
    stat.file_bytes = 0;
    stat
}

fn stat(inspector: &Inspector) -> Stat {
    inspector.stat(clock::now()).unwrap()
}

#[test]
fn a_healthy_store_is_well_and_a_running_and_a_stopped_one_agree() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut committer) = open(folder.path());
    fill(&store, &mut committer, 80);
    let mut reader = store.reader(UPLINK).unwrap();
    reader.release(1_234);
    let later = Now { at: clock::now().at + Duration::from_secs(10), ..clock::now() };
    committer.step(later);
    let running = store.view().inspector();
    let (live, live_stat, live_lines) =
        (verify(&running), stat(&running), cat(&running, &CatFilter::default()));
    let run = live_stat.run.clone().unwrap();
    assert_eq!((run.commits, run.stored_events, run.max_bytes), (81, 3_200, 1 << 30));
    assert!(run.syncs >= 80 && run.written_bytes_per_event.unwrap() > PAYLOAD_BYTES as f64 / 2.0, "{run:?}");
    committer.finish(clock::now());
    drop(reader);
    store.close();

    let stopped = Inspector::of_files(folder.path()).unwrap();
    let (reports, summary) = verify(&stopped);
    assert_eq!(troubles(&reports), []);
    assert_eq!((summary.verdict, summary.records, summary.events), (Verdict::Good, 3_200, 3_200));
    let open = [("dead_letters.redb", Verdict::Noted), ("journal.log", Verdict::Noted)];
    assert_eq!(troubles(&live.0), open);
    let ends = |reports: &[FileReport]| -> Vec<_> {
        reports.iter().map(|report| (report.file.clone(), report.first, report.end, report.records)).collect()
    };
    assert_eq!(ends(&live.0), ends(&reports));
    let stopped_stat = stat(&stopped);
    assert_eq!(without_the_run(live_stat), without_the_run(stopped_stat.clone()));
    assert_eq!((stopped_stat.next_offset, stopped_stat.newest_ms), (3_200, Some(79_000)));
    let uplink = &stopped_stat.uplinks[0];
    assert_eq!((uplink.cursor, uplink.lag_events, uplink.oldest_ms), (1_234, Some(1_966), Some(30_000)));
    assert_eq!(live_lines, cat(&stopped, &CatFilter::default()));
    assert_eq!(live_lines.0.len(), 3_200);
}

#[test]
fn looking_writes_nothing_and_holds_a_gateway_off() {
    let folder = closed_store();
    let store = Store::open(settings(folder.path()), &[UPLINK.into()]).unwrap();
    let refused = Inspector::of_files(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse { .. }), "{refused}");
    store.crash();

    let before = contents(folder.path());
    let inspector = Inspector::of_files(folder.path()).unwrap();
    verify(&inspector);
    stat(&inspector);
    cat(&inspector, &CatFilter::default());
    let held_off = Store::open(settings(folder.path()), &[UPLINK.into()]).unwrap_err();
    assert!(matches!(held_off, StoreError::InUse { .. }), "{held_off}");
    drop(inspector);
    assert_eq!(before.len(), contents(folder.path()).len());
    assert!(before == contents(folder.path()), "a file was changed");
    Store::open(settings(folder.path()), &[UPLINK.into()]).unwrap().close();
}

#[test]
fn where_there_is_no_store_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("photo.jpg"), "not an event").unwrap();
    for path in [folder.path().to_owned(), folder.path().join("nowhere"), folder.path().join("photo.jpg")] {
        let error = Inspector::of_files(&path).unwrap_err();
        assert!(matches!(error, StoreError::NoStore { .. }), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_flipped_byte_anywhere_in_a_sealed_segment_is_named_or_harmless() {
    let folder = closed_store_of(26);
    assert_eq!(segments(folder.path()).len(), 2);
    let target = segments(folder.path())[0].clone();
    let whole = std::fs::read(&target).unwrap();
    let filter = CatFilter { offset: first_of(&target), ..CatFilter::default() };
    let lines = cat(&Inspector::of_files(folder.path()).unwrap(), &filter).0;
    let (mut named, step) = (0, whole.len() as u64 / 200);
    for at in (0..whole.len() as u64).step_by(step as usize).chain(0..64) {
        std::fs::write(&target, &whole).unwrap();
        flip(&target, at);
        let inspector = Inspector::of_files(folder.path()).unwrap();
        let (reports, _) = verify(&inspector);
        let found = troubles(&reports);
        if found.is_empty() {
            assert_eq!(cat(&inspector, &filter), (lines.clone(), vec![]), "byte {at} is not harmless");
        } else {
            assert_eq!(found, [(name(&target), Verdict::Damaged)], "byte {at}");
            let report = reports.iter().find(|report| report.file == name(&target)).unwrap();
            let finding = &report.findings[0];
            assert!(finding.offsets.is_some() && finding.advice.contains("start the gateway"), "{finding:?}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}: the flips hit something");
}

#[test]
fn whatever_is_in_a_segment_nothing_panics_and_a_smear_is_named_or_harmless() {
    let folder = closed_store_of(25);
    let target = segments(folder.path())[0].clone();
    let whole = std::fs::read(&target).unwrap();
    let lines = cat(&Inspector::of_files(folder.path()).unwrap(), &CatFilter::default()).0;
    for (n, at) in (0..whole.len()).step_by(whole.len() / 60).enumerate() {
        let mut bytes = whole.clone();
        let end = (at + [8, 512, 4096][n % 3]).min(whole.len());
        bytes[at..end].fill([0, 0xff][n % 2]);
        std::fs::write(&target, bytes).unwrap();
        let inspector = Inspector::of_files(folder.path()).unwrap();
        stat(&inspector);
        let (reports, _) = verify(&inspector);
        if troubles(&reports).is_empty() {
            assert_eq!(cat(&inspector, &CatFilter::default()), (lines.clone(), vec![]), "{n} at byte {at}");
        } else {
            assert_eq!(troubles(&reports), [(name(&target), Verdict::Damaged)], "{n} at byte {at}");
        }
    }
}

#[test]
fn the_command_says_what_is_damaged_and_nothing_of_what_the_database_makes_of_it() {
    let folder = closed_store_of(25);
    let target = segments(folder.path())[0].clone();
    let mut bytes = std::fs::read(&target).unwrap();
    // Behind the database's own head: nothing of its pages makes sense.
    bytes[4096..].fill(0xff);
    std::fs::write(&target, bytes).unwrap();
    for (command, code) in [("verify", 65), ("stat", 0), ("cat", 65)] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let output = program.args(["store", command, "--files"]).arg(folder.path()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {errors}");
        assert!(!errors.contains("panicked"), "{command}: {errors}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(command == "cat" || said.contains(name(&target)), "{said}");
    }
}

#[test]
fn a_segment_that_is_cut_empty_or_of_another_store_is_named() {
    let folder = closed_store();
    let other = closed_store();
    let target = segments(folder.path())[1].clone();
    let whole = std::fs::read(&target).unwrap();
    for bytes in [&whole[..whole.len() / 2], &whole[..100], &[], b"not a database at all"] {
        std::fs::write(&target, bytes).unwrap();
        let (reports, summary) = verify_files(folder.path());
        assert_eq!(troubles(&reports), [(name(&target), Verdict::Damaged)], "{} bytes", bytes.len());
        assert_eq!((summary.verdict, summary.damaged), (Verdict::Damaged, 1));
    }
    std::fs::write(&target, &whole).unwrap();
    std::fs::copy(&segments(other.path())[1], &target).unwrap();
    let (reports, _) = verify_files(folder.path());
    assert_eq!(troubles(&reports), [(name(&target), Verdict::Damaged)]);
    let finding = &reports.iter().find(|report| report.verdict == Verdict::Damaged).unwrap().findings[0];
    assert!(finding.what.contains("another store"), "{finding:?}");
}

#[test]
fn a_damaged_segment_of_a_running_store_is_named_and_mended_and_then_known() {
    let folder = closed_store();
    let (store, mut committer) = open(folder.path());
    let target = segments(folder.path())[1].clone();
    // In the middle of a row.
    let at = std::fs::read(&target).unwrap().windows(5).position(|bytes| bytes == b"plain").unwrap();
    flip(&target, at as u64);
    let inspector = store.view().inspector();
    let (reports, summary) = verify(&inspector);
    assert_eq!(troubles(&reports)[0], (name(&target), Verdict::Damaged));
    assert_eq!((summary.damaged, summary.unchecked), (1, 0));
    let report = reports.iter().find(|report| report.verdict == Verdict::Damaged).unwrap();
    assert!(report.records > 0 && report.findings.len() > 1, "{report:?}");
    let lost = report.findings[1].offsets.unwrap();

    committer.step(clock::now());
    let (reports, summary) = verify(&inspector);
    assert_eq!((summary.verdict, summary.damaged), (Verdict::Noted, 0), "{reports:?}");
    assert_eq!(summary.known_missing_records, lost.to - lost.from);
    let aside = format!("{}.damaged", name(&target));
    assert!(reports.iter().any(|report| report.file == aside && report.kind == FileKind::SetAside));
    let known = stat(&inspector);
    assert_eq!(known.missing, [lost]);
    assert_eq!(known.segments[1].part, Part::Salvaged);
    assert!(known.others.iter().any(|other| other.is_set_aside));
    committer.finish(clock::now());
    store.close();
    let (reports, stopped) = verify_files(folder.path());
    assert_eq!(stopped.verdict, Verdict::Noted, "{reports:?}");
    assert_eq!(stopped.known_missing_records, summary.known_missing_records);
}

#[test]
fn a_deleted_segment_is_a_hole_until_a_gap_record_says_so() {
    let folder = closed_store();
    let files = segments(folder.path());
    let hole = first_of(&files[1])..first_of(&files[2]);
    std::fs::remove_file(&files[1]).unwrap();
    let (reports, summary) = verify_files(folder.path());
    let missing = reports.iter().find(|report| report.kind == FileKind::Missing).unwrap();
    assert_eq!((missing.file.as_str(), missing.verdict), (name(&files[1]), Verdict::Damaged));
    assert_eq!(missing.findings[0].offsets.map(|range| range.from..range.to), Some(hole.clone()));
    assert_eq!(summary.damaged, 1);

    let (store, mut committer) = open(folder.path());
    let inspector = store.view().inspector();
    assert_eq!(verify(&inspector).1.verdict, Verdict::Damaged);
    committer.step(clock::now());
    let (reports, summary) = verify(&inspector);
    assert_eq!((summary.verdict, summary.known_missing_records), (Verdict::Noted, hole.end - hole.start));
    let missing = reports.iter().find(|report| report.kind == FileKind::Missing).unwrap();
    assert!(missing.findings[0].what.contains("missing, recorded"), "{missing:?}");
    assert_eq!(stat(&inspector).missing[0].from..stat(&inspector).missing[0].to, hole);
    committer.finish(clock::now());
    store.close();
}

#[test]
fn the_oldest_segment_missing_shows_by_the_cursor_before_it_and_the_newest_by_what_the_state_says() {
    let folder = closed_store();
    let files = segments(folder.path());
    std::fs::remove_file(&files[0]).unwrap();
    let (reports, _) = verify_files(folder.path());
    assert_eq!(troubles(&reports), [(name(&files[0]), Verdict::Damaged)]);
    let range = reports[0].findings[0].offsets.unwrap();
    assert_eq!((range.from, range.to), (0, first_of(&files[1])));
    let (last, others) = files[1..].split_last().unwrap();
    std::fs::remove_file(last).unwrap();
    assert!(troubles(&verify_files(folder.path()).0).contains(&(name(last), Verdict::Damaged)));
    others.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    let (reports, _) = verify_files(folder.path());
    assert_eq!((reports[0].kind, reports[0].verdict), (FileKind::Missing, Verdict::Damaged));
}

#[test]
fn other_files_are_named_and_the_state_is_checked() {
    let folder = closed_store();
    let put = |name: &str| std::fs::write(folder.path().join(name), "x").unwrap();
    ["photo.jpg", "seg-00000000000000000007.redb.new", "seg-00000000000000000009.redb.damaged"]
        .into_iter()
        .for_each(put);
    let (reports, summary) = verify_files(folder.path());
    let kind = |name: &str| reports.iter().find(|report| report.file == name).map(|report| report.kind);
    assert_eq!(kind("photo.jpg"), Some(FileKind::Foreign));
    assert_eq!(kind("seg-00000000000000000007.redb.new"), Some(FileKind::Unfinished));
    assert_eq!(kind("seg-00000000000000000009.redb.damaged"), Some(FileKind::SetAside));
    assert_eq!(summary.verdict, Verdict::Noted);

    let state = folder.path().join("dead_letters.redb");
    let whole = std::fs::read(&state).unwrap();
    std::fs::write(&state, &whole[..whole.len() / 2]).unwrap();
    assert!(troubles(&verify_files(folder.path()).0).contains(&("dead_letters.redb", Verdict::Damaged)));
    std::fs::remove_file(&state).unwrap();
    assert!(troubles(&verify_files(folder.path()).0).contains(&("dead_letters.redb", Verdict::Damaged)));
    std::fs::copy(closed_store().path().join("dead_letters.redb"), &state).unwrap();
    assert!(troubles(&verify_files(folder.path()).0).contains(&("dead_letters.redb", Verdict::Damaged)));
}

#[test]
fn a_store_whose_dead_letters_have_the_name_of_earlier_versions_is_looked_into_and_left_as_it_is() {
    let folder = store_with_every_file();
    let old = folder.path().join("state.redb");
    std::fs::rename(folder.path().join("dead_letters.redb"), &old).unwrap();
    let before = contents(folder.path());
    let (reports, summary) = verify_files(folder.path());
    assert_eq!((summary.verdict, troubles(&reports)), (Verdict::Good, vec![]));
    assert!(reports.iter().any(|report| report.file == "state.redb" && report.kind == FileKind::State));
    assert!(before == contents(folder.path()), "something was written");
    std::fs::write(&old, "no database").unwrap();
    assert_eq!(troubles(&verify_files(folder.path()).0), [("state.redb", Verdict::Damaged)]);
}

/// A stopped store with something in every file that a gateway keeps.
fn store_with_every_file() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut committer) = open(folder.path());
    fill(&store, &mut committer, 3);
    let payload = |of: &str| format!("kept in {of}").into_bytes();
    let message =
        MessageRow { topic: "t".into(), payload: payload("sessions.redb").into(), ..MessageRow::default() };
    let sessions = vec![
        SessionChange::Session("c".into(), SessionRow { expiry_s: 9, ..SessionRow::default() }),
        SessionChange::Retained("t".into(), Some(message)),
    ];
    store.view().save_sessions(sessions, 0).unwrap();
    let device = FleetChange::Device("barn-1".into(), payload("fleet.redb"));
    store.view().save_fleet(&[device], 0).unwrap();
    let payload = payload("commands.redb");
    let command = NewCommand {
        device: "barn-1",
        id: NewId::Given("1"),
        payload: &payload,
        content_type: None,
        expires_ms: None,
        origin: "http",
    };
    assert!(matches!(store.outbox().put(&command, 1), Ok(Put::Taken(_))));
    committer.finish(clock::now());
    store.close();
    folder
}

#[test]
fn every_file_of_a_stopped_store_is_named_and_checked_and_damage_says_what_to_do() {
    let (folder, other) = (store_with_every_file(), store_with_every_file());
    let kinds = [
        ("dead_letters.redb", FileKind::State),
        ("commands.redb", FileKind::Commands),
        ("sessions.redb", FileKind::Sessions),
        ("fleet.redb", FileKind::Fleet),
    ];
    let (reports, summary) = verify_files(folder.path());
    assert_eq!((summary.verdict, troubles(&reports)), (Verdict::Good, vec![]));
    for (file, kind) in kinds {
        assert!(reports.iter().any(|report| report.file == file && report.kind == kind), "{file}");
        let path = folder.path().join(file);
        let whole = std::fs::read(&path).unwrap();
        let mut harmed = vec![
            ("cut to a half", whole[..whole.len() / 2].to_vec()),
            ("empty", vec![]),
            ("a photograph", b"not a database, for all that anybody knows".repeat(200)),
            ("of another store", std::fs::read(other.path().join(file)).unwrap()),
        ];
        let marker = format!("kept in {file}").into_bytes();
        let places: Vec<_> = (0..whole.len()).filter(|at| whole[*at..].starts_with(&marker)).collect();
        assert_eq!(places.is_empty(), file == "dead_letters.redb", "{file}");
        if !places.is_empty() {
            let mut flipped = whole.clone();
            places.iter().for_each(|at| flipped[at + 3] ^= 1);
            harmed.push(("a flipped bit in what it keeps", flipped));
        }
        for (what, bytes) in harmed {
            std::fs::write(&path, bytes).unwrap();
            let before = contents(folder.path());
            let (reports, summary) = verify_files(folder.path());
            assert_eq!(troubles(&reports), [(file, Verdict::Damaged)], "{file}, {what}");
            assert_eq!(summary.damaged, 1);
            let finding = &reports.iter().find(|report| report.file == file).unwrap().findings[0];
            assert!(["start the gateway", "put the file"].iter().any(|word| finding.advice.contains(word)));
            assert!(before == contents(folder.path()), "{file}, {what}: something was written");
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(verify_files(folder.path()).1.verdict, Verdict::Good);
}

#[test]
fn a_mark_and_what_was_set_aside_beside_the_segments_are_named_for_what_they_are() {
    let folder = closed_store_of(3);
    let mark = "delivered-00000000000000000009-0000000a-9-9";
    for name in [mark, "fleet.redb.damaged", "sessions.redb.new"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let (reports, summary) = verify_files(folder.path());
    assert_eq!(summary.verdict, Verdict::Noted);
    let of = |name: &str| {
        let report = reports.iter().find(|report| report.file == name).unwrap();
        (report.kind, format!("{} {}", report.findings[0].what, report.findings[0].advice))
    };
    for (name, kind, words) in [
        (mark, FileKind::Delivered, "how far everything is delivered"),
        ("fleet.redb.damaged", FileKind::SetAside, "what was in it is gone"),
        ("sessions.redb.new", FileKind::Unfinished, "takes its place"),
    ] {
        let (found, said) = of(name);
        assert!(found == kind && said.contains(words), "{name}: {found:?}, {said}");
    }
}

#[test]
fn records_are_found_by_place_time_device_and_kind_and_page_by_page() {
    let folder = closed_store();
    let inspector = Inspector::of_files(folder.path()).unwrap();
    let count = |filter: CatFilter| cat(&inspector, &filter).0.len() as u64;
    let none = CatFilter::default;
    assert_eq!(count(CatFilter { offset: 3_000, ..none() }), 200);
    assert_eq!(count(CatFilter { from_ms: Some(10_000), to_ms: Some(12_000), ..none() }), 80);
    assert_eq!(count(CatFilter { kind: Some(Kind::Json), ..none() }), 1_600);
    assert_eq!(count(CatFilter { device: Some("hub".into()), ..none() }), 640);
    let ones = (0..3_200u64).filter(|n| n % 5 != 0 && n % 3 == 1).count() as u64;
    assert_eq!(count(CatFilter { device: Some("dev-1".into()), ..none() }), ones);
    assert_eq!(count(CatFilter { from_ms: Some(80_000), ..none() }), 0);

    let (all, mut paged, mut at, mut pages) = (cat(&inspector, &none()).0, Vec::new(), Some(0), 0);
    while let Some(offset) = at {
        let limits = CatLimits { records: 300, bytes: 20_000 };
        let filter = CatFilter { offset, ..none() };
        at = inspector
            .cat(&filter, limits, &mut |item| match item {
                CatItem::Record(entry) => paged.push(serde_json::to_string(&entry).unwrap()),
                CatItem::Unreadable { why, .. } => panic!("{why}"),
            })
            .unwrap();
        pages += 1;
    }
    assert_eq!(paged, all);
    assert!(pages > 10, "{pages}");
    assert!(all[1].starts_with("{\"offset\":1,\"id\":\"") && all[0].contains("\"payload\":{\"n\":0}"));
}

#[test]
fn what_cannot_be_read_is_told_and_what_is_behind_it_is_shown() {
    let folder = closed_store();
    let files = segments(folder.path());
    std::fs::write(&files[1], "no database").unwrap();
    let inspector = Inspector::of_files(folder.path()).unwrap();
    let (lines, unreadable) = cat(&inspector, &CatFilter::default());
    let hole = first_of(&files[1])..first_of(&files[2]);
    assert_eq!(unreadable, [(hole.start, hole.end)]);
    assert_eq!(lines.len() as u64, 3_200 - (hole.end - hole.start));
    let stat = stat(&inspector);
    assert!(stat.segments[1].problem.is_some() && stat.segments[2].problem.is_none());
    assert_eq!(stat.next_offset, 3_200);
}

#[test]
fn a_closed_store_says_so() {
    let folder = closed_store();
    let (store, committer) = open(folder.path());
    let inspector = store.view().inspector();
    committer.finish(clock::now());
    store.close();
    assert!(matches!(inspector.verify(), Err(StoreError::Closed)));
    assert!(matches!(inspector.stat(clock::now()), Err(StoreError::Closed)));
}

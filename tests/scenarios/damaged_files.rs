//! Files of the store that were damaged while the gateway was stopped: it starts by itself, says
//! what happened, keeps the damaged file under another name, delivers everything else, and tells
//! the cloud what may be missing.
//!
//! One device sends one event after the other and each once, so that an event's count is its
//! record's offset.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tidegate_tests::{
    chain::{Chain, DRAIN_LIMIT},
    chaos::Link,
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Ledger},
    ports, program,
};

const DEVICE: &str = "press-1";
const EVENTS: u32 = 6_000;
const PAYLOAD_BYTES: usize = 1_000;
/// A page of the database, in bytes.
const PAGE_BYTES: usize = 4_096;
const LIMIT: Duration = Duration::from_secs(60);

/// A stopped gateway's store with a backlog of several segments.
struct Stored {
    folder: TempDir,
    ledgers: Vec<Ledger>,
    /// File name by offset of the first record.
    segments: BTreeMap<u64, String>,
}

fn set_up(setup: &mut Setup) {
    setup.store += "segment_bytes = \"1 MiB\"\n";
}

/// Fills a store whose upstream is not there, and keeps a copy of it.
async fn fill(events: u32) -> Stored {
    let nobody = ports::free_address();
    let mut setup = Setup::new(Uplink::new(&format!("mqtt://{nobody}"), Version::V5));
    set_up(&mut setup);
    let mut gateway = Gateway::start(setup);
    let device =
        Device { count_max: events, payload_bytes: PAYLOAD_BYTES, ..Device::new(DEVICE, Version::V5) };
    let ledgers = Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
    let (status, _) = gateway.terminate();
    assert!(status.success(), "{status}");
    let folder = tempfile::Builder::new().prefix("stored-").tempdir_in(program::scratch()).unwrap();
    copy(&gateway.data_dir(), folder.path());
    let first = |name: &String| name.strip_prefix("seg-")?.strip_suffix(".redb")?.parse().ok();
    let names = names_in(folder.path()).into_iter();
    let segments: BTreeMap<_, _> = names.filter_map(|name| Some((first(&name)?, name))).collect();
    Stored { folder, ledgers, segments }
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.into_string().unwrap()).collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names_in(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// What is done to a file, and what is then to be found.
struct Damage {
    /// In words.
    what: &'static str,
    act: fn(&Path),
    /// The gap record's reason.
    reason: &'static str,
}

/// What leaves every row of a sealed segment whole: it is found, and there is nothing to tell the
/// cloud.
const HARMLESS: [&str; 4] =
    ["a flipped bit in the first page", "a zeroed first page", "a byte short", "a byte long"];

const OF_A_SEGMENT: [Damage; 14] = [
    Damage { what: "a flipped bit in a payload", act: flip_payload, reason: "damaged" },
    Damage { what: "many flipped bytes", act: flip_many, reason: "damaged" },
    Damage { what: "a flipped bit in the first page", act: flip_head, reason: "damaged" },
    Damage { what: "a zeroed first page", act: zero_head, reason: "damaged" },
    Damage { what: "a byte short", act: cut_by_a_byte, reason: "damaged" },
    Damage { what: "a byte long", act: add_a_byte, reason: "damaged" },
    Damage { what: "zeroed pages in the middle", act: zero_middle, reason: "damaged" },
    Damage { what: "cut to a half", act: cut_to_half, reason: "damaged" },
    Damage { what: "cut to nothing", act: cut_to_nothing, reason: "damaged" },
    Damage { what: "deleted", act: delete, reason: "missing" },
    Damage { what: "a foreign file under its name", act: put_foreign, reason: "damaged" },
    Damage { what: "a folder in its place", act: put_folder, reason: "damaged" },
    Damage { what: "a pipe in its place", act: put_pipe, reason: "damaged" },
    Damage { what: "another store's segment under its name", act: put_others, reason: "damaged" },
];

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Where the middle one of the payloads in a file begins.
fn some_payload(bytes: &[u8]) -> usize {
    let start = format!("{DEVICE}:0");
    let windows = bytes.windows(start.len()).enumerate();
    let all: Vec<_> = windows.filter(|(_, window)| *window == start.as_bytes()).map(|(at, _)| at).collect();
    all[all.len() / 2]
}

fn flip_payload(path: &Path) {
    change(path, |bytes| {
        let at = some_payload(bytes);
        bytes[at + 100] ^= 1;
    });
}

fn flip_many(path: &Path) {
    change(path, |bytes| bytes.iter_mut().skip(PAGE_BYTES).step_by(997).for_each(|byte| *byte ^= 0x40));
}

fn flip_head(path: &Path) {
    change(path, |bytes| bytes[3] ^= 1);
}

fn zero_head(path: &Path) {
    change(path, |bytes| bytes[..PAGE_BYTES].fill(0));
}

fn zero_middle(path: &Path) {
    change(path, |bytes| {
        let page = some_payload(bytes) / PAGE_BYTES * PAGE_BYTES;
        bytes[page..page + PAGE_BYTES].fill(0);
    });
}

fn cut_by_a_byte(path: &Path) {
    change(path, |bytes| bytes.truncate(bytes.len() - 1));
}

fn add_a_byte(path: &Path) {
    change(path, |bytes| bytes.push(7));
}

fn cut_to_half(path: &Path) {
    change(path, |bytes| bytes.truncate(bytes.len() / 2));
}

fn cut_to_nothing(path: &Path) {
    change(path, Vec::clear);
}

fn delete(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

fn put_foreign(path: &Path) {
    std::fs::write(path, "a photograph, for all that anybody knows\n".repeat(1_000)).unwrap();
}

fn put_folder(path: &Path) {
    delete(path);
    std::fs::create_dir(path).unwrap();
}

fn put_pipe(path: &Path) {
    delete(path);
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// A sealed segment from a store with another identity.
fn put_others(path: &Path) {
    let mut names = names_in(&others());
    names.retain(|name| name.starts_with("seg-"));
    names.sort();
    std::fs::copy(others().join(&names[2]), path).unwrap();
}

/// Another store, filled with the same.
fn others() -> PathBuf {
    program::scratch().join(format!("others-{}", std::process::id()))
}

/// `tidegate store verify --files` on a stopped gateway's folder: exit code, and all that it says.
fn verify(folder: &Path) -> (Option<i32>, String) {
    let files: [&std::ffi::OsStr; 4] =
        ["store".as_ref(), "verify".as_ref(), "--files".as_ref(), folder.as_ref()];
    let output = program::run(files);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Starts a gateway on a copy of `stored` in which `damage` was done to `file`, after `store
/// verify` had its say.
async fn start_damaged(stored: &Stored, file: &str, damage: &Damage) -> Chain {
    let mut chain = Chain::prepare(set_up).await;
    let data_dir = chain.gateway.data_dir();
    copy(stored.folder.path(), &data_dir);
    (damage.act)(&data_dir.join(file));
    let (code, said) = verify(&data_dir);
    assert!(!matches!(code, None | Some(0 | 101)), "{}: verify ended with {code:?}: {said}", damage.what);
    assert!(said.contains(file), "{}: verify does not name {file}: {said}", damage.what);
    chain.gateway.restart();
    chain
}

/// Waits for the gap record, and demands that all is there but what it covers, which lies within
/// `within`.
async fn demand_the_rest(
    chain: &mut Chain,
    stored: &Stored,
    file: &str,
    damage: &Damage,
    within: (u64, u64),
) {
    let what = damage.what;
    chain.demand_fresh_event().await;
    // Where the last one ended cannot be known, so there may be more to tell of it.
    let is_whole = HARMLESS.contains(&what) && within.1 != u64::MAX;
    if is_whole {
        wait_for(&format!("{what}: to be set aside"), LIMIT, || {
            names_in(&chain.gateway.data_dir()).contains(&format!("{file}.damaged"))
        })
        .await;
    } else {
        wait_for(&format!("{what}: a gap record"), LIMIT, || !chain.recorder.lock().gaps().is_empty()).await;
    }
    chain.wait_drained().await;
    assert!(
        !is_whole || chain.recorder.lock().gaps().is_empty(),
        "{what}: {:?}",
        chain.recorder.lock().gaps()
    );
    judge_the_rest(chain, stored, damage, within);
    demand_said(chain, file, damage, within);
    chain.gateway.terminate();
    chain.gateway.restart();
    chain.demand_fresh_event().await;
}

fn judge_the_rest(chain: &Chain, stored: &Stored, damage: &Damage, within: (u64, u64)) {
    let (what, recorder) = (damage.what, chain.recorder.lock());
    for gap in recorder.gaps() {
        assert_eq!(gap.reason, damage.reason, "{what}: {gap:?}");
        assert!(within.0 <= gap.from && gap.to <= within.1, "{what}: {gap:?} is not within {within:?}");
    }
    let verdict = oracle::judge_with_gaps(&stored.ledgers, &recorder, "cloud");
    let lost = verdict.lost.get(DEVICE).cloned().unwrap_or_default();
    let covered = |count: u32| {
        let covers = |gap: &tidegate_tests::gaps::Gap| (gap.from..gap.to).contains(&u64::from(count));
        recorder.gaps().iter().any(covers)
    };
    let uncovered: Vec<_> = lost.iter().filter(|count| !covered(**count)).collect();
    assert!(uncovered.is_empty(), "{what}: missing, and no gap record says so: {uncovered:?}");
    if let Some(told) = recorder.gaps().iter().map(|gap| gap.events).sum::<Option<u64>>() {
        assert_eq!(told, lost.len() as u64, "{what}: what gap records count, and what is missing");
    }
    // How many they were cannot always be known. All else the oracle says has to be right.
    let beside = |text: &&String| {
        ![
            "events are missing, gap records say",
            "invented: the device late",
            "does not add up",
            " violations",
        ]
        .iter()
        .any(|known| text.contains(known))
    };
    let beside: Vec<_> = verdict.violations.iter().filter(beside).collect();
    assert!(beside.is_empty(), "{what}: {beside:?}");
    eprintln!("{what}: {} events missing, {:?}", lost.len(), recorder.gaps());
}

/// The log and the folder say what happened.
fn demand_said(chain: &Chain, file: &str, damage: &Damage, within: (u64, u64)) {
    let (what, log) = (damage.what, chain.gateway.log());
    // A file that is not there has no name any more.
    let named = if damage.reason == "missing" { format!("from={}", within.0) } else { file.to_owned() };
    assert!(log.contains(&named), "{what}: the log does not name {named}: {log}");
    assert!(!log.contains("panicked at"), "{what}: {log}");
    let names = names_in(&chain.gateway.data_dir());
    let kept = names.contains(&format!("{file}.damaged"));
    assert_eq!(kept, damage.reason != "missing", "{what}: {names:?}");
}

/// Does each damage to the segment `file` of a store of its own. Gives those that were not
/// overcome.
async fn try_each(
    stored: Stored,
    file: &str,
    within: (u64, u64),
    damages: impl Iterator<Item = Damage>,
) -> Vec<&'static str> {
    let (stored, mut failed) = (Arc::new(stored), vec![]);
    for damage in damages {
        let (stored, file, what) = (stored.clone(), file.to_owned(), damage.what);
        let tried = tokio::spawn(async move {
            let mut chain = start_damaged(&stored, &file, &damage).await;
            demand_the_rest(&mut chain, &stored, &file, &damage, within).await;
        });
        if tried.await.is_err() {
            failed.push(what);
        }
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_sealed_segment_is_set_apart_and_everything_else_goes_on() {
    let stored = fill(EVENTS).await;
    copy(fill(EVENTS).await.folder.path(), &others());
    let (code, said) = verify(stored.folder.path());
    assert_eq!(code, Some(0), "an undamaged store: {said}");
    let firsts: Vec<_> = stored.segments.keys().copied().collect();
    assert!(firsts.len() >= 5, "{firsts:?}");
    let file = stored.segments[&firsts[2]].clone();
    let failed = try_each(stored, &file, (firsts[2], firsts[3]), OF_A_SEGMENT.into_iter()).await;
    std::fs::remove_dir_all(others()).unwrap();
    assert_eq!(failed, [""; 0], "not overcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_oldest_segment_is_not_taken_for_a_delivered_one() {
    let stored = fill(EVENTS).await;
    let firsts: Vec<_> = stored.segments.keys().copied().collect();
    let file = stored.segments[&firsts[0]].clone();
    let damages =
        OF_A_SEGMENT.into_iter().filter(|damage| ["deleted", "cut to nothing"].contains(&damage.what));
    assert_eq!(try_each(stored, &file, (firsts[0], firsts[1]), damages).await, [""; 0], "not overcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_active_segment_is_set_apart_and_events_are_taken_in_again() {
    let stored = fill(EVENTS).await;
    let (first, file) = stored.segments.last_key_value().map(|(first, file)| (*first, file.clone())).unwrap();
    // Without the last segment nobody can tell that there was one.
    let damages = OF_A_SEGMENT
        .into_iter()
        .filter(|damage| damage.what != "deleted" && !damage.what.contains("another store"));
    // Where it ended cannot always be known.
    assert_eq!(try_each(stored, &file, (first, u64::MAX), damages).await, [""; 0], "not overcome");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn damaged_dead_letters_are_set_apart_and_no_event_is_missing() {
    let stored = fill(EVENTS / 4).await;
    for act in [flip_head, zero_head, cut_to_half, cut_to_nothing, put_foreign] {
        let damage = Damage { what: "dead letters", act, reason: "dead-letters-damaged" };
        let chain = start_damaged(&stored, "dead_letters.redb", &damage).await;
        wait_for("a gap record", LIMIT, || !chain.recorder.lock().gaps().is_empty()).await;
        wait_for("all events", DRAIN_LIMIT, || oracle::is_complete(&stored.ledgers, &chain.recorder.lock()))
            .await;
        let recorder = chain.recorder.lock();
        assert!(recorder.gaps().iter().all(|gap| gap.reason == damage.reason), "{:?}", recorder.gaps());
        assert_eq!(oracle::judge_with_gaps(&stored.ledgers, &recorder, "cloud").lost, BTreeMap::new());
        assert!(chain.gateway.log().contains("dead_letters.redb"), "{}", chain.gateway.log());
        assert!(names_in(&chain.gateway.data_dir()).contains(&"dead_letters.redb.damaged".to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_without_its_dead_letters_goes_on_with_all_its_events() {
    let stored = fill(EVENTS / 4).await;
    let mut chain = Chain::prepare(set_up).await;
    chain.proxy.set(Link::Open);
    copy(stored.folder.path(), &chain.gateway.data_dir());
    std::fs::remove_file(chain.gateway.data_dir().join("dead_letters.redb")).unwrap();
    chain.gateway.restart();
    wait_for("all events", DRAIN_LIMIT, || oracle::is_complete(&stored.ledgers, &chain.recorder.lock()))
        .await;
}

/// An upstream knows a copy by its id: an event with the id of another is lost there, in silence.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_the_last_segment_is_gone_no_event_gets_the_id_of_another() {
    let mut failed = vec![];
    for damage in OF_A_SEGMENT.iter().filter(|damage| {
        ["deleted", "cut to nothing", "cut to a half", "a zeroed first page"].contains(&damage.what)
    }) {
        let mut chain = Chain::start(set_up).await;
        let device = |name: &str| Device {
            count_max: EVENTS / 2,
            payload_bytes: PAYLOAD_BYTES,
            ..Device::new(name, Version::V5)
        };
        let mut ledgers = Fleet::start(chain.gateway.mqtt, [device(DEVICE)]).all(LIMIT).await;
        chain.wait_drained().await;
        chain.gateway.terminate();
        let data_dir = chain.gateway.data_dir();
        let segments = names_in(&data_dir).into_iter().filter(|name| name.starts_with("seg-"));
        (damage.act)(&data_dir.join(segments.max().unwrap()));
        chain.gateway.restart();
        ledgers.extend(Fleet::start(chain.gateway.mqtt, [device("press-2")]).all(LIMIT).await);
        wait_for("the new events", LIMIT, || oracle::is_complete(&ledgers, &chain.recorder.lock())).await;
        let verdict = oracle::judge_with_gaps(&ledgers, &chain.recorder.lock(), "cloud");
        let shared: Vec<_> = verdict.violations.iter().filter(|text| text.contains("share an id")).collect();
        eprintln!(
            "{}: {} events, {} ids shared, {:?}",
            damage.what,
            verdict.arrived,
            shared.len(),
            chain.recorder.lock().gaps()
        );
        if !shared.is_empty() {
            failed.push((damage.what, shared[0].clone()));
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

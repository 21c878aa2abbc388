//! Places of uplinks that are not configured any more: kept as they are until they are forgotten.
//! And of uplinks that are paused: until they are resumed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tidegate::{
    clock::{self, Now},
    store::{
        Backlog, Batch, Committer, ForgetError, OsFolder, PauseError, Reader, Record, Settings, Store,
        StoreError, UPLINKS_KEPT_MAX, WhenFull, forget_uplink_in, pause_uplink_in, resume_uplink_in,
    },
};

const LIMIT: Duration = Duration::from_secs(20);
/// More than it takes until cursors are saved and what is done with is deleted.
const A_WHILE: Duration = Duration::from_secs(10);
const PAYLOAD: [u8; 1000] = [7; 1000];

/// A store of small segments that is driven step by step.
struct Life {
    store: Store,
    committer: Committer,
    readers: BTreeMap<String, Reader>,
    now: Now,
}

impl Life {
    fn open(folder: &Path, uplinks: &[&str]) -> Self {
        Self::open_with(folder, uplinks, |_| {}).unwrap()
    }

    fn open_with(
        folder: &Path,
        uplinks: &[&str],
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self, StoreError> {
        let uplinks: Vec<String> = uplinks.iter().map(|name| (*name).to_owned()).collect();
        let mut settings = Settings { segment_bytes: 20_000, ..Settings::new(folder) };
        change(&mut settings);
        let (now, disk) = (clock::now(), Arc::new(OsFolder::new(folder.to_owned())));
        let (store, committer) = Store::open_stepwise(disk, settings, &uplinks, now)?;
        Ok(Self { store, committer, readers: BTreeMap::new(), now })
    }

    /// Appends events one commit each, for a second of the store's time each.
    fn append(&mut self, count: usize) {
        for _ in 0..count {
            let mut batch = Batch::default();
            batch.push(&Record {
                events: 1,
                qos: 0,
                received_ms: self.now.wall_ms,
                client: "c",
                topic: "t",
                payload: &PAYLOAD,
                ..Record::default()
            });
            self.store.intake().append(&mut batch).unwrap();
            self.step(Duration::from_secs(1));
        }
    }

    fn step(&mut self, time: Duration) {
        self.now.at += time;
        self.now.wall_ms += time.as_millis() as u64;
        self.committer.step(self.now);
    }

    /// An uplink delivers all that there is, and gives how many records that was.
    async fn deliver(&mut self, uplink: &str) -> u64 {
        let end = self.store.status().next_offset;
        let reader = self.readers.entry(uplink.to_owned());
        let reader = reader.or_insert_with(|| self.store.reader(uplink).unwrap());
        let from = reader.position();
        read_to(reader, end).await;
        reader.release(end);
        self.step(A_WHILE);
        self.step(A_WHILE);
        end - from
    }

    fn backlog(&self, uplink: &str) -> Option<Backlog> {
        self.store.status().backlogs.into_iter().find(|backlog| backlog.uplink == uplink)
    }

    fn forget(&mut self, uplink: &'static str) -> Result<Backlog, ForgetError> {
        let view = self.store.view();
        let asked = std::thread::spawn(move || view.forget_uplink(uplink));
        let limit = clock::monotonic() + LIMIT;
        while !asked.is_finished() {
            assert!(clock::monotonic() < limit, "it is not forgotten");
            self.step(Duration::ZERO);
            std::thread::sleep(Duration::from_millis(5));
        }
        asked.join().unwrap()
    }

    fn close(self) {
        self.committer.finish(self.now);
        self.store.close();
    }
}

/// Reads on to `end`, and demands that nothing is left out.
async fn read_to(reader: &mut Reader, end: u64) {
    let mut at = reader.position();
    while at < end {
        let next = tokio::time::timeout(LIMIT, reader.next()).await.expect("a block within the limit");
        for (offset, _) in next.unwrap().records_from(at) {
            assert_eq!(offset, at, "a record is left out");
            at += 1;
        }
    }
}

#[tokio::test]
async fn what_an_uplink_has_not_delivered_is_kept_over_starts_and_segments_and_it_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud", "lake"]);
    life.append(30);
    assert_eq!(life.deliver("cloud").await, 30);
    life.close();
    for start in 1..=3 {
        let mut life = Life::open(folder.path(), &["cloud"]);
        life.append(30);
        assert_eq!(life.deliver("cloud").await, 30);
        let kept = life.backlog("lake").unwrap();
        assert_eq!((kept.is_configured, kept.events), (false, 30 * (start + 1)));
        assert!(life.store.reader("lake").is_none(), "nobody reads for it");
        // As after a crash: the cursors are those that were saved with the events.
        if start == 2 { drop(life) } else { life.close() }
    }
    let mut life = Life::open(folder.path(), &["lake", "cloud"]);
    assert!(life.store.status().segments > 3, "over several segments");
    assert_eq!(life.deliver("lake").await, 120);
    assert_eq!(life.backlog("lake").map(|backlog| backlog.is_configured), Some(true));
    life.append(1);
    assert!(life.store.status().segments < 3, "what both have delivered is deleted");
}

#[tokio::test]
async fn a_forgotten_place_holds_nothing_more_and_no_start_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud", "lake"]);
    life.append(60);
    life.deliver("cloud").await;
    life.close();
    let mut life = Life::open(folder.path(), &["cloud"]);
    let segments = life.store.status().segments;
    assert!(matches!(life.forget("cloud"), Err(ForgetError::Configured { .. })));
    let unknown = life.forget("sea").unwrap_err().to_string();
    assert!(unknown.contains("there are: lake"), "{unknown}");
    let forgotten = life.forget("lake").unwrap();
    assert_eq!((forgotten.events, life.backlog("lake")), (60, None));
    assert!(matches!(life.forget("lake"), Err(ForgetError::Unknown { .. })));
    life.step(A_WHILE);
    assert!(life.store.status().segments < segments, "what waited for it alone is deleted");
    // Durable: what a crash leaves says so.
    drop(life);
    let life = Life::open(folder.path(), &["cloud"]);
    assert_eq!(life.backlog("lake"), None);
    drop(life);
    let life = Life::open(folder.path(), &["cloud", "lake"]);
    assert_eq!(life.backlog("lake").map(|backlog| backlog.events), Some(0), "it begins as a new one does");
}

#[tokio::test]
async fn in_the_folder_of_a_stopped_gateway_a_place_is_forgotten_and_nothing_else_changes() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud", "lake"]);
    life.append(60);
    life.deliver("cloud").await;
    life.append(5);
    life.close();
    let unknown = forget_uplink_in(folder.path(), "sea").unwrap_err().to_string();
    assert!(unknown.contains("there are: cloud, lake"), "{unknown}");
    assert_eq!(forget_uplink_in(folder.path(), "lake").unwrap().events, 65);
    let mut life = Life::open(folder.path(), &["cloud"]);
    assert_eq!((life.backlog("lake"), life.store.status().events), (None, 65));
    assert_eq!(life.deliver("cloud").await, 5);
    life.close();

    let running = Store::open(Settings::new(folder.path()), &["cloud".into()]).unwrap();
    let refused = forget_uplink_in(folder.path(), "cloud").unwrap_err();
    assert!(matches!(refused, ForgetError::Store(StoreError::InUse { .. })), "{refused}");
    running.close();
    let empty = tempfile::tempdir().unwrap();
    let refused = forget_uplink_in(empty.path(), "cloud").unwrap_err();
    assert!(matches!(refused, ForgetError::Store(StoreError::NoStore { .. })), "{refused}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is made there");
}

#[tokio::test]
async fn a_full_store_drops_what_waits_for_it_as_the_policy_says_and_counts_that() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud", "lake"]);
    life.append(10);
    life.close();
    let full = |settings: &mut Settings| {
        (settings.max_bytes, settings.when_full) = (4 << 20, WhenFull::DropOldest);
    };
    let mut life = Life::open_with(folder.path(), &["cloud"], full).unwrap();
    for _ in 0..100 {
        life.append(20);
        life.deliver("cloud").await;
    }
    let status = life.store.status();
    assert!(status.dropped_events > 0 && status.used_bytes <= 4 << 20, "{status:?}");
    let kept = life.backlog("lake").unwrap();
    assert!(kept.events + status.dropped_events >= 2_010, "{kept:?} {status:?}");
    assert_eq!(life.backlog("cloud").unwrap().events, 0);
}

#[test]
fn a_renamed_uplink_begins_where_the_one_farthest_behind_stands_and_the_old_place_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["old"]);
    life.append(10);
    life.close();
    let mut life = Life::open(folder.path(), &["new"]);
    life.append(1);
    let events = |name| life.backlog(name).map(|backlog| backlog.events);
    assert_eq!((events("new"), events("old")), (Some(11), Some(11)));
}

#[test]
fn no_more_places_are_kept_than_may_be_and_none_is_given_up_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..=UPLINKS_KEPT_MAX).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut life = Life::open(folder.path(), &names);
    life.append(1);
    life.close();
    let refused = Life::open_with(folder.path(), &[], |_| {}).err().unwrap();
    assert!(refused.to_string().contains("tidegate uplinks forget"), "{refused}");
    let life = Life::open(folder.path(), &["u0"]);
    assert_eq!(life.store.status().backlogs.len(), names.len());
    life.close();
    // What the error says to do.
    assert_eq!(forget_uplink_in(folder.path(), "u1").unwrap().events, 1);
    let life = Life::open(folder.path(), &[]);
    assert_eq!(life.store.status().backlogs.len(), UPLINKS_KEPT_MAX);
    assert_eq!(life.backlog("u1"), None);
}

#[tokio::test]
async fn where_no_place_is_kept_an_uplink_begins_with_the_oldest_record_and_nothing_counts_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["old"]);
    life.append(60);
    life.deliver("old").await;
    life.append(5);
    life.close();
    forget_uplink_in(folder.path(), "old").unwrap();
    let mut life = Life::open(folder.path(), &["new"]);
    life.step(A_WHILE);
    life.step(A_WHILE);
    let status = life.store.status();
    assert_eq!((status.dropped_events, status.events), (0, 65), "a gap record says that something is lost");
    let from = life.store.reader("new").unwrap().position();
    assert!(from > 0 && from <= 60, "{from}: what was delivered to all is deleted");
}

#[test]
fn a_pause_that_was_answered_outlives_a_crash_and_so_does_its_end_and_it_goes_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let open = |uplinks: &[&str]| Life::open(folder.path(), uplinks);
    let since = |life: &Life, name| life.backlog(name).unwrap().paused_since_ms;
    let mut life = open(&["cloud", "lake"]);
    life.append(3);
    let watch = life.store.view().watch_pause("cloud").unwrap();
    for asked_at_ms in [5, 9] {
        assert_eq!(life.store.view().pause_uplink("cloud", asked_at_ms).unwrap(), 5, "since the first");
    }
    assert_eq!((*watch.borrow(), since(&life, "lake")), (Some(5), None));
    drop(life);
    let life = open(&["cloud", "lake"]);
    assert_eq!((since(&life, "cloud"), since(&life, "lake")), (Some(5), None));
    assert_eq!(life.store.view().resume_uplink("cloud").unwrap(), Some(5));
    assert_eq!(life.store.view().resume_uplink("cloud").unwrap(), None);
    life.store.view().pause_uplink("lake", 7).unwrap();
    drop(life);
    let mut life = open(&["cloud"]);
    assert_eq!((since(&life, "cloud"), since(&life, "lake")), (None, Some(7)));
    let unknown = life.store.view().pause_uplink("lake", 8).unwrap_err().to_string();
    assert_eq!(unknown, "there is no uplink \"lake\"; there are: cloud");
    life.forget("lake").unwrap();
    drop(life);
    assert_eq!(since(&open(&["cloud", "lake"]), "lake"), None, "it begins as a new one does");
}

#[test]
fn a_pause_that_cannot_be_saved_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud", "lake"]);
    life.append(3);
    life.store.view().pause_uplink("lake", 5).unwrap();
    life.store.cut_power();
    let refused = life.store.view().pause_uplink("cloud", 6).unwrap_err();
    assert!(matches!(refused, PauseError::NotSaved(_)), "{refused}");
    let refused = life.store.view().resume_uplink("lake").unwrap_err();
    assert!(
        refused.to_string().starts_with("the uplink goes on as it did, for that cannot be saved: "),
        "{refused}"
    );
    let since = |name| life.backlog(name).unwrap().paused_since_ms;
    assert_eq!((since("cloud"), since("lake")), (None, Some(5)));
    drop(life);
    let life = Life::open(folder.path(), &["cloud", "lake"]);
    let since = |name| life.backlog(name).unwrap().paused_since_ms;
    assert_eq!((since("cloud"), since("lake")), (None, Some(5)));
}

#[test]
fn in_the_folder_of_a_stopped_gateway_an_uplink_is_paused_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let mut life = Life::open(folder.path(), &["cloud"]);
    life.append(3);
    life.close();
    assert_eq!(pause_uplink_in(folder.path(), "cloud", 5).unwrap(), 5);
    assert_eq!(pause_uplink_in(folder.path(), "cloud", 9).unwrap(), 5);
    let unknown = pause_uplink_in(folder.path(), "sea", 9).unwrap_err().to_string();
    assert_eq!(unknown, "there is no uplink \"sea\"; there are: cloud");
    let running = Store::open(Settings::new(folder.path()), &["cloud".into()]).unwrap();
    assert_eq!(running.status().backlogs[0].paused_since_ms, Some(5));
    let refused = resume_uplink_in(folder.path(), "cloud").unwrap_err();
    assert!(matches!(refused, PauseError::Store(StoreError::InUse { .. })), "{refused}");
    running.close();
    assert_eq!(resume_uplink_in(folder.path(), "cloud").unwrap(), Some(5));
    assert_eq!(resume_uplink_in(folder.path(), "cloud").unwrap(), None);
    let empty = tempfile::tempdir().unwrap();
    let refused = pause_uplink_in(empty.path(), "cloud", 5).unwrap_err();
    assert!(matches!(refused, PauseError::Store(StoreError::NoStore { .. })), "{refused}");
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0, "nothing is made there");
}

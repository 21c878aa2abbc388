//! A data folder that was copied, or restored from a copy: events that were stored before keep
//! their ids, and no id is given twice.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_tests::{
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::ID_PROPERTY,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u32 = 50;
const SAID: &str = "the store is not where it last ran";

/// A gateway and its cloud.
struct Site {
    gateway: Gateway,
    inbox: Arc<Mutex<Inbox>>,
    _upstream: Upstream,
}

impl Site {
    async fn prepare(data_dir: Option<PathBuf>) -> Self {
        let inbox = Arc::<Mutex<Inbox>>::default();
        let upstream = Upstream::start(inbox.clone()).await;
        let uplink = Uplink::new(&upstream.url(), Version::V5);
        let gateway = Gateway::prepare(Setup { data_dir, ..Setup::new(uplink) });
        Self { gateway, inbox, _upstream: upstream }
    }

    /// Events of a device of this name, and waits until the cloud has all that it should.
    async fn send(&self, device: &str, arrived: usize) {
        let device = Device { count_max: EVENTS, ..Device::new(device, Version::V311) };
        Fleet::start(self.gateway.mqtt, [device]).all(LIMIT).await;
        wait_for("the events to arrive", LIMIT, || self.ids().len() >= arrived).await;
    }

    /// By what was sent, the id that it came under.
    fn ids(&self) -> BTreeMap<Vec<u8>, String> {
        let inbox = self.inbox.lock();
        let mut ids = BTreeMap::new();
        for message in &inbox.messages {
            let id = message.user_property(ID_PROPERTY).expect("every event has an id");
            let before = ids.insert(message.payload.to_vec(), id.clone());
            assert!(before.is_none_or(|before| before == id), "a copy came under another id: {id}");
        }
        ids
    }

    fn says_moved(&self) -> bool {
        self.gateway.log().contains(SAID)
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.is_ok_and(|status| status.success()), "{} can be copied", from.display());
}

/// Demands that what both have is the same event wherever the id is, and that each event has one of
/// its own.
fn demand_one_id_each(sites: [&BTreeMap<Vec<u8>, String>; 2]) {
    let mut owners: BTreeMap<&String, &Vec<u8>> = BTreeMap::new();
    for (payload, id) in sites.into_iter().flatten() {
        let owner = owners.insert(id, payload);
        assert!(owner.is_none_or(|owner| owner == payload), "two events under the id {id}");
    }
    let shared = sites[0].iter().filter(|(payload, _)| sites[1].contains_key(*payload));
    for (payload, id) in shared {
        assert_eq!(sites[1].get(payload), Some(id), "one event under two ids");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_gives_ids_of_its_own_to_new_events_and_keeps_those_of_old_ones() {
    let mut first = Site::prepare(None).await;
    first.gateway.restart();
    let folder = first.gateway.data_dir();
    first.send("before", 50).await;
    first.gateway.kill();
    let copied = folder.with_file_name("copied");
    copy(&folder, &copied);

    // Where it ran before, nothing changes, however often it is started.
    for (n, device) in ["after-a", "after-b", "after-c"].into_iter().enumerate() {
        first.gateway.restart();
        assert!(!first.says_moved(), "{}", first.gateway.log());
        first.send(device, 100 + 50 * n).await;
        if n == 1 {
            first.gateway.terminate();
        } else {
            first.gateway.kill();
        }
    }
    let mut second = Site::prepare(Some(copied)).await;
    second.gateway.restart();
    let (is_said, log) = (second.says_moved(), second.gateway.log());
    second.send("elsewhere", 50).await;
    // From now on that is where it runs.
    second.gateway.kill();
    second.gateway.restart();
    assert!(!second.says_moved(), "{}", second.gateway.log());
    second.send("elsewhere-too", 100).await;

    // What was stored before the copy is sent again by both: the same events under the same ids.
    for site in [&mut first, &mut second] {
        if !site.gateway.is_running() {
            site.gateway.restart();
        }
        let body = "{\"uplink\":\"cloud\",\"what\":{\"stored\":{\"from_ms\":0,\"to_ms\":99999999999999}}}";
        let replay = format!("http://{}/api/replay", site.gateway.http);
        let answer = ureq::post(replay).content_type("application/json").send(body);
        assert!(answer.is_ok(), "{answer:?}");
    }
    wait_for("the replays", LIMIT, || first.ids().len() >= 200 && second.ids().len() >= 150).await;
    let (here, there) = (first.ids(), second.ids());
    let both = here.keys().filter(|payload| there.contains_key(*payload)).count();
    assert_eq!(both, EVENTS as usize, "those of before the copy");
    demand_one_id_each([&here, &there]);
    assert!(is_said, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_folder_that_is_restored_from_a_backup_gives_no_id_again() {
    for is_in_place in [false, true] {
        let mut site = Site::prepare(None).await;
        site.gateway.restart();
        let folder = site.gateway.data_dir();
        site.send("before", 50).await;
        site.gateway.terminate();
        let backup = folder.with_file_name("backup");
        copy(&folder, &backup);
        site.gateway.restart();
        site.send("since", 100).await;
        site.gateway.terminate();

        if is_in_place {
            // As rsync does it: the folder stays, its files are made anew.
            for entry in std::fs::read_dir(&folder).expect("it is there") {
                std::fs::remove_file(entry.expect("it can be read").path()).expect("it can be removed");
            }
            copy(&backup.join("."), &folder);
        } else {
            std::fs::remove_dir_all(&folder).expect("it is there");
            copy(&backup, &folder);
        }
        site.gateway.restart();
        site.send("restored", 150).await;
        let ids = site.ids();
        assert_eq!(ids.len(), 150, "what was sent since the backup, and what is sent now");
        demand_one_id_each([&ids, &BTreeMap::new()]);
        assert!(site.says_moved(), "{}", site.gateway.log());
    }
}

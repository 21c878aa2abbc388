//! An uplink that is not in the configuration for some starts, from outside: what waits for it is
//! kept, shown, and goes out once it is back, or is forgotten on request.

use std::{collections::BTreeSet, process::Output, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::ID_PROPERTY,
    program,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);
const EVENTS: u32 = 300;
const USAGE: i32 = 64;

/// A cloud that is there, and the other, which is away at first.
struct World {
    gateway: Gateway,
    cloud: Arc<Mutex<Inbox>>,
    lake: Arc<Mutex<Inbox>>,
    upstreams: [Upstream; 2],
    rounds: u32,
}

impl World {
    async fn start() -> Self {
        let (cloud, lake) = (Arc::<Mutex<Inbox>>::default(), Arc::<Mutex<Inbox>>::default());
        let upstreams = [Upstream::start(cloud.clone()).await, Upstream::start(lake.clone()).await];
        let away = Uplink { name: "lake".into(), ..Uplink::new("mqtt://127.0.0.1:9", Version::V5) };
        let mut setup = Setup::new(Uplink::new(&upstreams[0].url(), Version::V5));
        setup.uplinks.push(away);
        setup.store += "segment_bytes = \"1 MiB\"\n";
        let mut world = Self { gateway: Gateway::start(setup), cloud, lake, upstreams, rounds: 0 };
        world.send().await;
        world
    }

    /// Some events, and waits until the cloud has them.
    async fn send(&mut self) {
        let name = format!("round-{}", self.rounds);
        let device = Device { count_max: EVENTS, ..Device::new(&name, Version::V311) };
        Fleet::start(self.gateway.mqtt, [device]).all(LIMIT).await;
        self.rounds += 1;
        wait_for("the cloud to have them", LIMIT, || ids(&self.cloud).len() >= self.sent()).await;
    }

    fn sent(&self) -> usize {
        (EVENTS * self.rounds) as usize
    }

    /// Starts again with these uplinks: killed or stopped before.
    fn restart_with(&mut self, uplinks: &[&str], is_killed: bool) {
        if is_killed {
            self.gateway.kill()
        } else {
            self.gateway.terminate();
        }
        std::fs::remove_file(self.gateway.config_path()).expect("it was written at the start");
        let uplink = |name: &&str| {
            let at = usize::from(*name == "lake");
            Uplink { name: (*name).into(), ..Uplink::new(&self.upstreams[at].url(), Version::V5) }
        };
        self.gateway.setup.uplinks = uplinks.iter().map(uplink).collect();
        self.gateway.restart();
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        let http = self.gateway.http.to_string();
        program::run(arguments.iter().copied().chain(["--http", &http]))
    }
}

/// The ids of what has arrived, each once.
fn ids(inbox: &Mutex<Inbox>) -> BTreeSet<String> {
    let inbox = inbox.lock();
    inbox.messages.iter().filter_map(|message| message.user_property(ID_PROPERTY)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_uplink_that_some_starts_did_not_name_gets_all_that_waited_for_it_once_it_is_back() {
    let mut world = World::start().await;
    for is_killed in [true, false, true] {
        world.restart_with(&["cloud"], is_killed);
        let log = world.gateway.log();
        let waits = world.sent();
        assert!(
            log.contains(&format!("lake is not configured any more: {waits} events wait for it")),
            "{log}"
        );
        assert!(log.contains("tidegate uplinks forget lake"), "{log}");
        world.send().await;
    }
    let waits = world.sent();
    let (_, ready) = world.gateway.get("/readyz").expect("it answers");
    assert!(ready.contains(&format!("{waits} events are kept for it")), "{ready}");
    assert_eq!(world.gateway.metric("tidegate_backlog_events{uplink=\"lake\"}") as usize, waits);
    assert!(text(&world.ask(&["status"]).stdout).contains("lake                              KEPT"));
    let list = text(&world.ask(&["uplinks", "list", "--json"]).stdout);
    assert!(
        list.contains(&format!("\"name\":\"lake\",\"configured\":false,\"backlog_events\":{waits}")),
        "{list}"
    );

    world.restart_with(&["cloud", "lake"], false);
    wait_for("all that waited", LIMIT, || ids(&world.lake).len() >= waits).await;
    assert_eq!(ids(&world.lake), ids(&world.cloud), "the same events under the same ids");
    assert_eq!(world.gateway.metric("tidegate_uplinks_kept"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_forgotten_uplink_is_gone_for_good_and_one_that_runs_is_not_forgotten() {
    let mut world = World::start().await;
    world.restart_with(&["cloud"], false);
    for (name, why) in [("cloud", "take its [[uplink]] out"), ("sea", "there are: lake")] {
        let refused = world.ask(&["uplinks", "forget", name]);
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(USAGE) && said.contains(why), "{said}");
    }
    let forgotten = world.ask(&["uplinks", "forget", "lake"]);
    let said = text(&forgotten.stdout) + &text(&forgotten.stderr);
    assert!(said.contains(&format!("lake is forgotten: {EVENTS} events waited for it")), "{said}");
    world.restart_with(&["cloud"], true);
    assert!(!world.gateway.log().contains("not configured any more"), "{}", world.gateway.log());
    assert_eq!(world.gateway.metric("tidegate_uplinks_kept"), 0.0);
    world.send().await;

    // On the files of a stopped gateway the same.
    world.restart_with(&["cloud", "lake"], false);
    wait_for("what came since", LIMIT, || world.gateway.metric("tidegate_backlog_events") == 0.0).await;
    world.gateway.terminate();
    let folder = world.gateway.data_dir();
    let folder = folder.to_str().expect("a path in UTF-8");
    let list = text(&program::run(["uplinks", "list", "--files", folder]).stdout);
    assert!(list.contains("cloud") && list.contains("lake"), "{list}");
    let forgotten = program::run(["uplinks", "forget", "lake", "--files", folder, "--json"]);
    assert_eq!(text(&forgotten.stdout), "{\"name\":\"lake\",\"events\":0,\"bytes\":0}\n");
    let list = text(&program::run(["uplinks", "list", "--files", folder]).stdout);
    assert!(list.contains("cloud") && !list.contains("lake"), "{list}");
}

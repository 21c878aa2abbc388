//! Uplinks that are paused and resumed, from outside: real mosquitto, a gateway that is killed in
//! between, and the oracle that knows every event.

use std::{path::PathBuf, process::Output, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tidegate_tests::{
    brokers::Mosquitto,
    clock::{now, wait_for},
    cloud::{StandIn, platforms},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Ledger, Recorder},
    program, reader,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Promised: from the answer to a connection.
const RESUMED_WITHIN: Duration = Duration::from_secs(1);
const EVENTS: u32 = 500;
const USAGE: i32 = 64;

/// A mosquitto that writes down who comes and goes, and a gateway that sends to it.
struct World {
    gateway: Gateway,
    broker: Mosquitto,
    recorder: Arc<Mutex<Recorder>>,
    ledgers: Vec<Ledger>,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("paused-").tempdir_in(program::scratch());
        let folder = folder.expect("the scratch folder is writable");
        let log = folder.path().join("mosquitto.log");
        let broker = Mosquitto::start_with(|_| format!("log_dest file {}\nlog_type notice", log.display()));
        let recorder = reader::record(broker.address, "up/").await;
        let lines = "client_id = \"gate-cloud\"\ncommands = \"down/{device}\"\n".to_owned();
        let uplink = Uplink { lines, ..Uplink::new(&broker.url(), Version::V5) };
        let gateway = Gateway::start(Setup::new(uplink));
        Self { gateway, broker, recorder, ledgers: vec![], log, _folder: folder }
    }

    /// Some more events, which the gateway has acknowledged when this returns.
    async fn send(&mut self) {
        let round = self.ledgers.len();
        let device = Device { count_max: EVENTS, ..Device::new(&format!("d{round}"), Version::V5) };
        self.ledgers.extend(Fleet::start(self.gateway.mqtt, [device]).all(LIMIT).await);
    }

    fn has_all(&self) -> bool {
        oracle::is_complete(&self.ledgers, &self.recorder.lock())
    }

    fn arrived(&self) -> usize {
        oracle::judge(&self.ledgers, &self.recorder.lock()).arrived
    }

    /// `tidegate uplinks` with these arguments: what it says, and its exit code.
    fn uplinks(&self, arguments: &[&str]) -> (String, i32) {
        let output = program::run(["uplinks"].iter().chain(arguments));
        (said(&output), output.status.code().unwrap_or(-1))
    }

    /// The same, asked of the running gateway.
    fn ask(&self, action: &str, name: &str) -> (String, i32) {
        self.uplinks(&[action, name, "--http", &self.gateway.http.to_string()])
    }

    fn broker_log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("mosquitto writes it")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_outlives_a_crash_and_shows_everywhere_and_what_waits_goes_out_when_it_is_resumed() {
    let mut world = World::start().await;
    world.send().await;
    wait_for("the broker to have them", LIMIT, || world.has_all()).await;
    let (words, code) = world.ask("pause", "cloud");
    assert!(code == 0 && words.starts_with("cloud is paused"), "{code} {words}");
    for client in ["gate-cloud", "gate-cloud-commands"] {
        let goodbye = format!("Client {client} disconnected.");
        wait_for(&goodbye, LIMIT, || world.broker_log().contains(&goodbye)).await;
    }

    world.send().await;
    world.gateway.kill();
    world.gateway.restart();
    world.send().await;
    let gateway = &world.gateway;
    assert!(gateway.log().contains("paused since "), "{}", gateway.log());
    assert_eq!(gateway.metric("tidegate_uplink_paused{uplink=\"cloud\"}"), 1.0);
    assert_eq!(gateway.metric("tidegate_uplink_connects_total"), 0.0, "since the start");
    // And those before the pause that were acknowledged, as far as no cursor was saved behind them.
    let waits = gateway.metric("tidegate_backlog_events{uplink=\"cloud\"}") as u32;
    assert!((2 * EVENTS..=3 * EVENTS).contains(&waits), "{waits}");
    assert_eq!(world.arrived(), EVENTS as usize, "nothing was sent meanwhile");
    let until = "nothing is sent until \"tidegate uplinks resume cloud\"";
    let (status, ready) = gateway.get("/readyz").expect("it answers");
    let warned = format!("{until}; {waits} events wait for it\n");
    assert!(status == 200 && ready.contains("warning: the uplink cloud is paused for "), "{ready}");
    assert!(ready.contains(&warned), "{ready}");
    let shown = said(&program::run(["status", "--http", &gateway.http.to_string()]));
    assert!(shown.contains("cloud                             PAUSED") && shown.contains(until), "{shown}");
    let (list, _) = world.uplinks(&["list", "--http", &gateway.http.to_string()]);
    assert!(list.contains("cloud                             PAUSED"), "{list}");

    let (words, code) = world.ask("resume", "cloud");
    let resumed = now();
    assert!(code == 0 && words.starts_with("cloud is resumed: it was paused for "), "{code} {words}");
    wait_for("the connection", LIMIT, || world.gateway.metric("tidegate_uplink_connected") == 1.0).await;
    let took = resumed.elapsed();
    assert!(took < RESUMED_WITHIN, "{took:?}");
    wait_for("all that waited", LIMIT, || world.has_all()).await;
    let verdict = oracle::judge(&world.ledgers, &world.recorder.lock());
    eprintln!("connected {took:?} after it was resumed; {} events arrived", verdict.arrived);
    assert_eq!(verdict.arrived, 3 * EVENTS as usize);
    verdict.demand();
    assert_eq!(world.gateway.metric("tidegate_uplink_paused"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_is_kept_while_the_upstream_is_away_and_on_the_files_of_a_stopped_gateway() {
    let mut world = World::start().await;
    for (action, name) in [("pause", "lake"), ("resume", "lake")] {
        let (words, code) = world.ask(action, name);
        assert!(code == USAGE && words.contains("no uplink \"lake\"; there are: cloud"), "{code} {words}");
    }
    let (words, code) = world.ask("resume", "cloud");
    assert!(code == 0 && words.contains("cloud was not paused"), "{code} {words}");
    world.broker.stop();
    wait_for("the loss", LIMIT, || world.gateway.metric("tidegate_uplink_connected") == 0.0).await;
    // While it waits for the next try.
    assert_eq!(world.ask("pause", "cloud").1, 0);
    wait_for("the pause", LIMIT, || world.gateway.log().contains("paused since ")).await;
    let tries = world.gateway.log().matches("trying again").count();
    world.broker.restart();
    world.send().await;
    assert_eq!(world.gateway.metric("tidegate_uplink_connects_total"), 1.0);
    assert_eq!(world.gateway.log().matches("trying again").count(), tries);

    let folder = world.gateway.data_dir().display().to_string();
    let (words, code) = world.uplinks(&["resume", "cloud", "--files", &folder]);
    assert!(code == 69, "a gateway has the files open: {code} {words}");
    world.gateway.terminate();
    let (words, code) = world.uplinks(&["resume", "lake", "--files", &folder]);
    assert!(code == USAGE && words.contains("there are: cloud"), "{code} {words}");
    let (words, code) = world.uplinks(&["resume", "cloud", "--files", &folder]);
    assert!(code == 0 && words.starts_with("cloud is resumed"), "{code} {words}");
    world.recorder = reader::record(world.broker.address, "up/").await;
    world.gateway.restart();
    wait_for("all that waited", LIMIT, || world.has_all()).await;

    world.gateway.terminate();
    let (words, code) = world.uplinks(&["pause", "cloud", "--files", &folder]);
    assert!(code == 0 && words.starts_with("cloud is paused"), "{code} {words}");
    let verified = program::run(["store", "verify", "--files", &folder]);
    assert!(verified.status.success(), "{}", said(&verified));
    world.gateway.restart();
    world.send().await;
    assert_eq!(world.gateway.metric("tidegate_backlog_events"), f64::from(EVENTS));
    assert_eq!(world.ask("resume", "cloud").1, 0);
    wait_for("all events", LIMIT, || world.has_all()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_uplink_that_is_resumed_at_once_connects_no_sooner_than_its_platform_lets_it() {
    let cloud = StandIn::start(platforms::aws_iot()).await;
    let lines = "platform = \"aws-iot\"\n".to_owned();
    let gateway =
        Gateway::start(Setup::new(Uplink { window: 100, lines, ..Uplink::new(&cloud.url(), Version::V5) }));
    let http = gateway.http.to_string();
    for connects in 1..=4 {
        wait_for("a connection", LIMIT, || {
            gateway.metric("tidegate_uplink_connects_total") >= f64::from(connects)
        })
        .await;
        for action in ["pause", "resume"] {
            let answer = program::run(["uplinks", action, "cloud", "--http", &http]);
            assert!(answer.status.success(), "{}", said(&answer));
        }
    }
    wait_for("the last connection", LIMIT, || gateway.metric("tidegate_uplink_connects_total") >= 5.0).await;
    let breaches = cloud.seen(|seen| seen.breaches());
    assert!(breaches.is_empty(), "{breaches:?}");
}

//! What a person or a monitoring system sees: health, metrics, status.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_tests::{
    chaos::{Link, Proxy},
    clock::wait_for,
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::Recorder,
    program::{self, Build},
    tools,
    upstream::Upstream,
};

const LIMIT: Duration = Duration::from_secs(30);
const EVENTS: u32 = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_figures_agree_with_what_the_devices_and_the_cloud_counted() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder.clone()).await;
    let proxy = Proxy::start(upstream.address).await;
    proxy.set(Link::Cut);
    let mut gateway =
        Gateway::start(Setup::new(Uplink::new(&format!("mqtt://{}", proxy.address), Version::V5)));
    assert_eq!(gateway.get("/healthz").unwrap().0, 200);
    let metric = |gateway: &Gateway, name: &str| gateway.metric(&format!("tidegate_{name}"));

    let device = Device { count_max: EVENTS, ..Device::new("d", Version::V5) };
    Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
    let events = f64::from(EVENTS);
    assert_eq!(metric(&gateway, "received_events_total"), events);
    assert_eq!(metric(&gateway, "stored_events_total"), events);
    assert_eq!(metric(&gateway, "backlog_events"), events);
    assert_eq!(metric(&gateway, "uplink_connected"), 0.0);
    assert!(metric(&gateway, "backlog_bytes") >= events * 40.0);
    assert!(metric(&gateway, "commits_total") >= 1.0 && metric(&gateway, "syncs_total") >= 1.0);
    assert!(metric(&gateway, "sync_seconds_sum") > 0.0);
    assert!(metric(&gateway, "written_bytes_total") >= metric(&gateway, "stored_bytes_total"));
    wait_for("the backlog to age", LIMIT, || metric(&gateway, "backlog_age_seconds") >= 1.0).await;

    proxy.set(Link::Open);
    wait_for("the backlog to drain", LIMIT, || metric(&gateway, "backlog_events") == 0.0).await;
    assert_eq!(metric(&gateway, "delivered_events_total"), events);
    assert_eq!(metric(&gateway, "backlog_bytes"), 0.0);
    assert_eq!(metric(&gateway, "backlog_age_seconds"), 0.0);
    assert_eq!(metric(&gateway, "uplink_connected"), 1.0);
    assert_eq!(recorder.lock().deliveries() as u32, EVENTS);
    for name in ["duplicate_events_total", "set_aside_events_total", "protocol_errors_total"] {
        assert_eq!(metric(&gateway, name), 0.0, "{name}");
    }
    wait_for("the device to be gone", LIMIT, || metric(&gateway, "connections") == 0.0).await;
    gateway.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn promtool_has_nothing_to_say_about_the_metrics() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder).await;
    let gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V311)));
    let device = Device { count_max: 100, ..Device::new("d", Version::V311) };
    Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
    let (status, metrics) = gateway.get("/metrics").unwrap();
    assert!(status == 200 && metrics.contains("tidegate_stored_events_total 100"), "{metrics}");
    let mut promtool = Command::new(tools::find("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn status_tells_a_running_gateway_and_says_when_there_is_none() {
    let recorder = Arc::new(Mutex::new(Recorder::new("up/")));
    let upstream = Upstream::start(recorder).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let status = |json: bool| {
        let mut command = Command::new(program::gateway(Build::Shipped));
        command.args(["status", "--http", &gateway.http.to_string()]).args(json.then_some("--json"));
        command.output().unwrap()
    };
    let (table, json) = (status(false), status(true));
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("gate") && table.contains("cloud") && table.contains("ready"), "{table}");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["ready"], true, "{json}");
    let http = gateway.http;
    gateway.terminate();
    let gone = Command::new(program::gateway(Build::Shipped))
        .args(["status", "--http", &http.to_string()])
        .output()
        .unwrap();
    assert_eq!(gone.status.code(), Some(69));
}

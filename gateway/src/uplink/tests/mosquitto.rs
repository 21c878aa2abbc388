//! Against mosquitto, a broker that others wrote. It has to be installed (Debian: `mosquitto`,
//! `mosquitto-clients`).

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Instant,
};

use super::{super::engine::mqtt::Version, *};

/// A mosquitto on a free port of loopback. Killed when dropped.
pub struct Mosquitto {
    pub port: u16,
    process: Child,
    _dir: tempfile::TempDir,
}

impl Mosquitto {
    pub fn start(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("mosquitto.conf");
        // Bound for a moment, to learn a port that is free.
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        // A queue without end: it is the uplink that is tested, not mosquitto's memory.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nuser root\nmax_queued_messages 0\n{extra}\n"
        );
        fs::write(&config, text).unwrap();
        let program = ["/usr/sbin/mosquitto", "mosquitto"]
            .into_iter()
            .find(|p| !p.starts_with('/') || fs::exists(p).unwrap());
        let process = Command::new(program.unwrap())
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto is installed");
        let started = crate::clock::monotonic();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::elapsed(&started) < PATIENCE, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { port, process, _dir: dir }
    }

    /// Subscribes to everything, and collects `topic payload user-properties` line by line.
    fn subscribe(&self) -> (Arc<Mutex<Vec<String>>>, Subscriber) {
        let port = self.port.to_string();
        // Whoever gets the retained message has subscribed.
        let retained = ["-p", &port, "-r", "-t", "ready", "-m", "1"];
        assert!(Command::new("mosquitto_pub").args(retained).status().unwrap().success());
        let mut process = Command::new("mosquitto_sub")
            .args(["-p", &port, "-V", "5", "-q", "1", "-t", "#", "-F", "%t %p %P"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mosquitto-clients is installed");
        let (lines, subscribed) = (Arc::new(Mutex::new(Vec::new())), std::sync::mpsc::channel());
        let (kept, output) = (lines.clone(), BufReader::new(process.stdout.take().unwrap()));
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with("ready ") {
                    subscribed.0.send(()).unwrap();
                } else if line.starts_with("site/") {
                    kept.lock().unwrap().push(line);
                }
            }
        });
        let subscriber = Subscriber(process);
        subscribed.1.recv_timeout(PATIENCE).expect("mosquitto_sub subscribes");
        (lines, subscriber)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Subscriber(Child);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn mosquitto_passes_on_everything_in_order_in_both_versions() {
    let mosquitto = Mosquitto::start("");
    for version in [Version::V311, Version::V5] {
        let (lines, _subscriber) = mosquitto.subscribe();
        let mut settings = settings(mosquitto.port);
        settings.broker().version = version;
        let uplink = Running::start(settings, Log::numbered(3000));
        uplink.released(3000).await;
        eventually(|| lines.lock().unwrap().len() == 3000, || format!("{}", lines.lock().unwrap().len()))
            .await;
        for (n, line) in lines.lock().unwrap().iter().enumerate() {
            let properties = match version {
                Version::V311 => String::new(),
                Version::V5 => format!(
                    "tidegate-id:barn-7/0badcafe-{n} tidegate-device:client \
                     tidegate-received:2023-11-14T22:13:20.123Z"
                ),
            };
            assert_eq!(line.trim_end(), format!("site/{n} {n} {properties}").trim_end());
        }
        assert_eq!(uplink.health.view().connects, 1);
        uplink.stop().await;
    }
}

#[tokio::test]
async fn what_is_too_large_for_mosquitto_is_set_aside_in_both_versions() {
    let mosquitto = Mosquitto::start("max_packet_size 2000");
    for (version, connects, why) in [
        // MQTT 5 announces its limit; 3.1.1 has nothing but to hang up.
        (Version::V5, 1, "that the upstream takes"),
        (Version::V311, 5, "the upstream closed the connection over it"),
    ] {
        let log = Log::numbered(20);
        log.push(Owned::new("site/large", &[b'x'; 5000]));
        (0..20).for_each(|_| log.push(Owned::new("site/after", b"1")));
        let mut settings = settings(mosquitto.port);
        settings.broker().version = version;
        // One at a time, so that no acknowledgement is lost when it hangs up.
        settings.window = 1.try_into().unwrap();
        let uplink = Running::start(settings, log);
        uplink.released(41).await;
        let aside = uplink.log.aside();
        assert!(aside.len() == 1 && aside[0].0 == 20 && aside[0].1.ends_with(why), "{aside:?}");
        assert_eq!(uplink.health.view().connects, connects);
        uplink.stop().await;
    }
}

#[tokio::test]
async fn an_outage_of_mosquitto_costs_nothing() {
    let mut mosquitto = Mosquitto::start("persistence false");
    let port = mosquitto.port;
    let uplink = Running::start(settings(port), Log::numbered(100));
    uplink.released(100).await;
    mosquitto.process.kill().unwrap();
    mosquitto.process.wait().unwrap();
    (100..200).for_each(|n| uplink.log.push(Owned::new(&format!("site/{n}"), b"x")));
    eventually(|| !uplink.health.view().connected, || format!("{:?}", uplink.health)).await;
    assert_eq!(uplink.log.released(), 100);
    let again = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
    fs::write(mosquitto._dir.path().join("mosquitto.conf"), again).unwrap();
    mosquitto.process = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(mosquitto._dir.path().join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    uplink.released(200).await;
    let view = uplink.health.view();
    assert_eq!((view.connects, view.delivered_events, uplink.log.aside()), (2, 200, vec![]));
    uplink.stop().await;
}

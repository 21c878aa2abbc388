//! Commands to a device that sleeps: what was taken in comes once the device does, through SIGKILL
//! of the gateway, and the device's reply is kept with the command and goes to the cloud.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::Value;
use tidegate_tests::{
    clock::wait_for,
    codec::{Received, Version},
    gateway::{Gateway, Setup, Uplink},
    program::{self, Build},
    tools,
    upstream::{Cloud, Reply, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);

/// Topic and payload of all that came to the cloud.
#[derive(Default)]
struct Witness(Vec<(String, String)>);

impl Cloud for Witness {
    fn take(&mut self, publish: &Received) -> Reply {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.0.push((text(&publish.topic), text(&publish.payload)));
        Reply::Ack
    }
}

/// `tests/clients/paho_commands.py`. Asleep when dropped, as by loss of power.
struct Device {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Device {
    fn wake(gateway: &Gateway, version: Version, name: &str) -> Self {
        let version = if version == Version::V5 { "5" } else { "3.1.1" };
        let mut child = Command::new(tools::python_with_paho())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/paho_commands.py"))
            .args([&gateway.mqtt.port().to_string(), version, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python can be started");
        let said = Arc::new(Mutex::new(Vec::new()));
        let (kept, output) = (said.clone(), child.stdout.take().expect("standard output is a pipe"));
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| kept.lock().push(line));
        });
        Self { child, said }
    }

    /// The commands that it got, in order: id and payload.
    fn got(&self) -> Vec<String> {
        self.said.lock().iter().filter_map(|line| line.strip_prefix("got ")).map(str::to_owned).collect()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `tidegate commands`, and the JSON that it prints.
fn commands(gateway: &Gateway, words: &[&str], json: &str) -> Value {
    let mut command = Command::new(program::gateway(Build::Shipped));
    command.arg("commands").args(words).args(["--http", &gateway.http.to_string(), json]);
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

fn send(gateway: &Gateway, device: &str, id: &str, payload: &str) {
    commands(gateway, &["send", device, payload, "--id", id], "--json-output");
}

fn show(gateway: &Gateway, device: &str, id: &str) -> Value {
    commands(gateway, &["show", device, id], "--json")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_device_that_sleeps_gets_its_commands_when_it_comes_and_its_replies_are_kept_and_forwarded() {
    let witness = Arc::new(Mutex::new(Witness::default()));
    let upstream = Upstream::start(witness.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    for (version, name) in [(Version::V5, "stall-5"), (Version::V311, "stall-3")] {
        let id_of = |id: &str| if version == Version::V5 { id.to_owned() } else { "-".to_owned() };
        // Taken in before the device was ever there, and there after SIGKILL.
        send(&gateway, name, "c1", "one");
        gateway.kill();
        gateway.restart();
        assert_eq!(show(&gateway, name, "c1")["state"], "pending");
        let device = Device::wake(&gateway, version, name);
        wait_for("the first command", LIMIT, || !device.got().is_empty()).await;
        assert_eq!(device.got(), [format!("{} one", id_of("c1"))]);
        wait_for("its reply", LIMIT, || show(&gateway, name, "c1")["state"] == "replied").await;
        assert_eq!(show(&gateway, name, "c1")["reply"], "done one");
        // It is there, and gets the next one at once.
        send(&gateway, name, "c2", "two");
        wait_for("the second reply", LIMIT, || show(&gateway, name, "c2")["state"] == "replied").await;
        drop(device);

        // It sleeps; the gateway dies in between; the same command again is the same.
        send(&gateway, name, "c3", "three");
        gateway.kill();
        gateway.restart();
        send(&gateway, name, "c3", "three");
        send(&gateway, name, "c4", "four");
        let device = Device::wake(&gateway, version, name);
        for id in ["c3", "c4"] {
            wait_for("the reply to what waited", LIMIT, || show(&gateway, name, id)["state"] == "replied")
                .await;
        }
        assert_eq!(device.got(), [format!("{} three", id_of("c3")), format!("{} four", id_of("c4"))]);
        let topic = format!("up/tg/{name}/r");
        // At least once: what was on its way when the gateway died comes again. First copies come
        // in order.
        let forwarded = || -> Vec<String> {
            let came = witness.lock().0.clone();
            let replies = came.into_iter().filter(|(of, _)| *of == topic).map(|(_, payload)| payload);
            let mut firsts = Vec::new();
            replies.for_each(|reply| {
                if !firsts.contains(&reply) {
                    firsts.push(reply)
                }
            });
            firsts
        };
        wait_for("the replies in the cloud", LIMIT, || forwarded().len() >= 4).await;
        assert_eq!(forwarded(), ["done one", "done two", "done three", "done four"]);
    }
    assert_eq!(gateway.metric("tidegate_commands_pending"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_gateway_that_dies_while_a_device_works_delivers_every_command_at_least_once() {
    const COMMANDS: usize = 60;
    let witness = Arc::new(Mutex::new(Witness::default()));
    let upstream = Upstream::start(witness.clone()).await;
    let mut gateway = Gateway::start(Setup::new(Uplink::new(&upstream.url(), Version::V5)));
    let device = Device::wake(&gateway, Version::V5, "stall-5");
    for n in 0..COMMANDS {
        send(&gateway, "stall-5", &format!("c{n}"), &n.to_string());
        if n % 20 == 10 {
            gateway.kill();
            gateway.restart();
        }
    }
    wait_for("all replies", LIMIT, || gateway.metric("tidegate_commands_pending") == 0.0).await;
    let list = commands(&gateway, &["show", "stall-5", "c0"], "--json");
    assert_eq!(list["device"], "stall-5");
    let got = device.got();
    for n in 0..COMMANDS {
        assert!(got.contains(&format!("c{n} {n}")), "{n} is not among {got:?}");
        assert_ne!(show(&gateway, "stall-5", &format!("c{n}"))["state"], "pending");
    }
}

//! Events of devices that do not speak our frames: whose they are and what shape they have, as
//! their route says, whatever the uplink's format.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidegate_tests::{
    clock::wait_for,
    codec::{Received, Version},
    gateway::{Gateway, Setup, Uplink},
    program::{self, Build},
    tools,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(60);
/// The MQTT client that publishes all of it.
const CLIENT: &str = "hub";

/// A gateway with one uplink for each format, all to one upstream, below the format's name.
async fn gateway(tables: &str) -> (Arc<Mutex<Inbox>>, Upstream, Gateway) {
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let uplink = |format: &str| Uplink {
        name: format.to_owned(),
        format: format.to_owned(),
        topic: format!("{format}/{{device}}/{{topic}}"),
        ..Uplink::new(&upstream.url(), Version::V5)
    };
    let uplinks = ["raw", "json", "cloudevents"].map(uplink).into();
    let setup = Setup { uplinks, routes: vec![], tables: tables.to_owned(), ..Setup::new(uplink("raw")) };
    (inbox, upstream, Gateway::start(setup))
}

/// Publishes with the real tool, at QoS 1 on MQTT 5.
fn publish(gateway: &Gateway, topic: &str, payload: &[u8], more: &[&str]) {
    let address = gateway.mqtt;
    let mut child = Command::new(tools::find("mosquitto_pub"))
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-i", CLIENT, "-V", "5", "-q", "1", "-s", "-t", topic])
        .args(more)
        .stdin(Stdio::piped())
        .spawn()
        .expect("mosquitto_pub can be started");
    let mut stdin = child.stdin.take().expect("it has a standard input");
    std::io::Write::write_all(&mut stdin, payload).expect("it reads all of it");
    drop(stdin);
    assert!(child.wait().expect("it ends").success(), "{topic}");
}

/// What came below this topic.
fn came(inbox: &Mutex<Inbox>, below: &str) -> Vec<Received> {
    let inbox = inbox.lock();
    inbox.messages.iter().filter(|message| message.topic.starts_with(below.as_bytes())).cloned().collect()
}

fn parsed(message: &Received) -> Value {
    serde_json::from_slice(&message.payload).unwrap_or_else(|error| panic!("{error}: {message:?}"))
}

/// What `tidegate WORDS… --http …` says.
fn tidegate(gateway: &Gateway, words: &str) -> String {
    let output = Command::new(program::gateway(Build::Shipped))
        .args(words.split(' '))
        .args(["--http", &gateway.http.to_string()])
        .output()
        .expect("the program runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_device_of_a_foreign_event_is_what_its_route_says_in_every_format_and_stays_so() {
    let route = |device: &str| {
        format!(
            "[[route]]\nfilter = \"rtl_433/#\"\npayload = \"json\"\ndevice = \"{device}\"\n[[route]]\nfilter = \"#\"\n"
        )
    };
    let (inbox, _upstream, mut gateway) = gateway(&route("{2}")).await;
    for topic in ["rtl_433/attic/devices/7", "rtl_433", "door"] {
        publish(&gateway, topic, b"21", &[]);
    }
    let of = [("attic", "rtl_433/attic/devices/7"), (CLIENT, "rtl_433"), (CLIENT, "door")];
    for (device, topic) in of {
        for format in ["raw", "json", "cloudevents"] {
            let name = format!("{format}/{device}/{topic}");
            wait_for(&name, LIMIT, || came(&inbox, &name).len() == 1).await;
            let message = &came(&inbox, &name)[0];
            let said = match format {
                "raw" => message.user_property("tidegate-device"),
                "json" => parsed(message)["device"].as_str().map(str::to_owned),
                _ => message.user_property("source").map(|source| source.replace("/tidegate/gate/", "")),
            };
            assert_eq!(said.as_deref(), Some(device), "{name}");
        }
    }

    // A configuration that says otherwise holds for what comes from now on: a copy says what the
    // first delivery said.
    wait_for("all to be released", LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0).await;
    gateway.kill();
    gateway.setup.tables = route("{3}");
    std::fs::remove_file(gateway.config_path()).expect("the configuration is there, and is written anew");
    gateway.restart();
    publish(&gateway, "rtl_433/attic/devices/7", b"22", &[]);
    wait_for("the new one", LIMIT, || came(&inbox, "json/devices/rtl_433").len() == 1).await;
    let first = parsed(&came(&inbox, "json/attic/")[0]);
    let shown = tidegate(&gateway, "store cat --device attic");
    let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((shown.len(), &shown[0]["id"]), (1, &first["id"]));
    tidegate(&gateway, "replay --uplink json --from 1h --device attic");
    let copies = came(&inbox, "json/attic/");
    let again = parsed(copies.last().expect("the copy came"));
    assert_eq!((&again["id"], &again["device"]), (&first["id"], &first["device"]));
    assert!(again["replayed"].is_string(), "{again}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_route_gives_its_events_one_shape_in_every_format_and_what_is_no_text_is_told_once_and_not_lost() {
    let routes = ["json", "text", "opaque"]
        .map(|payload| format!("[[route]]\nfilter = \"{payload}/#\"\npayload = \"{payload}\"\n"));
    let (inbox, _upstream, gateway) = gateway(&routes.concat()).await;
    let csv = ["-D", "publish", "content-type", "text/csv", "-D", "publish", "payload-format-indicator", "1"];
    let payloads = [&b"21.5"[..], b"online", b"21.5 \xb0C"];
    for route in ["json", "text", "opaque"] {
        for (n, payload) in payloads.into_iter().enumerate() {
            publish(&gateway, &format!("{route}/{n}"), payload, &[]);
        }
        publish(&gateway, &format!("{route}/3"), b"a;b", &csv);
    }
    wait_for("all of them, three times", LIMIT, || inbox.lock().messages.len() == 36).await;

    let event = |route: &str, n: usize| parsed(&came(&inbox, &format!("json/{CLIENT}/{route}/{n}"))[0]);
    let base64 = [json!("MjEuNQ=="), json!("b25saW5l"), json!("MjEuNSCwQw=="), json!("YTti")];
    for (route, data) in [
        ("json", [json!(21.5), json!("online"), Value::Null, json!("a;b")]),
        ("text", [json!("21.5"), json!("online"), Value::Null, json!("a;b")]),
        ("opaque", [Value::Null, Value::Null, Value::Null, Value::Null]),
    ] {
        for (n, data) in data.into_iter().enumerate() {
            let (event, bytes) = (event(route, n), if data.is_null() { &base64[n] } else { &Value::Null });
            assert_eq!((&event["data"], &event["data_base64"]), (&data, bytes), "{route} {event}");
            assert_eq!(event["type"], route);
        }
        assert_eq!(event(route, 3)["content_type"], "text/csv");
        // What came is what goes in the others, and what its publisher says of it goes along.
        for format in ["raw", "cloudevents"] {
            for (n, payload) in payloads.into_iter().chain([&b"a;b"[..]]).enumerate() {
                let message = &came(&inbox, &format!("{format}/{CLIENT}/{route}/{n}"))[0];
                assert_eq!(message.payload, payload, "{format} {route}");
                let is_csv = message.properties.windows(11).any(|part| part == b"\x03\x00\x08text/csv");
                let is_said_to_be_text = message.properties.windows(2).any(|part| part == b"\x01\x01");
                assert_eq!(is_csv, n == 3, "{format} {route} {message:?}");
                assert!(is_said_to_be_text || n != 3, "{format} {route} {message:?}");
            }
        }
    }
    let told = |words: &str| gateway.log().lines().filter(|line| line.contains(words)).count();
    wait_for("a line in the log", LIMIT, || told("is no UTF-8, and its route says text") == 1).await;
    publish(&gateway, "text/2", b"\xb0", &[]);
    wait_for("the next one", LIMIT, || inbox.lock().messages.len() == 39).await;
    assert_eq!(told("is no UTF-8, and its route says text"), 1, "once for each client");
    assert_eq!(gateway.metric("tidegate_malformed_texts_total"), 2.0);
    let shown = tidegate(&gateway, "store cat --kind text");
    assert_eq!(shown.lines().count(), 5, "{shown}");
}

//! Node-RED as a process: the real one, from npm, with flows that record what their `mqtt in` nodes
//! give them and that publish what a scenario asks for.
//!
//! A scenario speaks with the flows over HTTP, as somebody's dashboard would: Node-RED itself is
//! the only client of the brokers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{clock::wait_blocking, codec::Version, ports, program, tools};

/// Longest wait until the flows run.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Pause before Node-RED connects again, in milliseconds; 15,000 if nobody says otherwise.
const RECONNECT_MS: u32 = 300;

/// A broker as the flows know it: an `mqtt-broker` node.
#[derive(Debug, Clone)]
pub struct Connection {
    /// What the scenario calls it.
    pub name: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// Which MQTT.
    pub version: Version,
    /// "Use clean session" and "Automatically unsubscribe when disconnecting" are off.
    pub kept: bool,
}

/// What an `mqtt in` node gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload, as text.
    pub payload: String,
    /// When the flow had it, in milliseconds of Node-RED's monotonic clock.
    pub at_ms: f64,
}

/// What each `mqtt in` node gave, by its name.
pub type Seen = BTreeMap<String, Vec<Message>>;

/// A Node-RED with its folder. Killed with the value.
#[derive(Debug)]
pub struct NodeRed {
    http: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
    earlier: Seen,
}

impl NodeRed {
    /// Starts one in which each connection has an `mqtt in` node for each of `filters`, of the name
    /// `CONNECTION FILTER`, and one with dynamic subscriptions, of the name `CONNECTION dynamic`.
    ///
    /// # Panics
    /// There is no place for its folder, or the flows do not run within a minute.
    #[must_use]
    pub fn start(connections: &[Connection], filters: &[&str]) -> Self {
        let http = ports::free_address();
        let folder = tempfile::Builder::new()
            .prefix("node-red-")
            .tempdir_in(program::scratch())
            .expect("the scratch folder is writable");
        let settings = format!(
            "module.exports = {{ uiHost: '127.0.0.1', uiPort: {}, httpAdminRoot: false, credentialSecret: false,\n\
             telemetry: {{ enabled: false }}, mqttReconnectTime: {RECONNECT_MS},\n\
             externalModules: {{ autoInstall: false, palette: {{ allowInstall: false }} }},\n\
             functionGlobalContext: {{ seen: {{}}, clock: () => performance.now() }} }};\n",
            http.port()
        );
        let mut flows = vec![json!({ "id": "tab", "type": "tab", "label": "scenario" })];
        flows.extend(report());
        for connection in connections {
            flows.extend(nodes_of(connection, filters));
        }
        let put = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("the folder is writable");
        };
        put("settings.js", settings);
        put("flows.json", Value::from(flows).to_string());
        let mut node_red = Self { http, folder, child: None, earlier: Seen::new() };
        node_red.restart();
        node_red
    }

    /// Starts it again after [`NodeRed::stop`].
    ///
    /// # Panics
    /// The flows do not run within a minute.
    pub fn restart(&mut self) {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("node-red.log")).expect("the folder is writable");
        let child = Command::new(tools::find("node"))
            .arg(tools::node_modules().join("node-red/red.js"))
            .arg("--settings")
            .arg(folder.join("settings.js"))
            .arg("--userDir")
            .args([folder, &folder.join("flows.json")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor is left"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("node can be started"));
        let agent = agent();
        let seen = self.url("seen");
        wait_blocking("Node-RED's flows to run", START_LIMIT, || {
            let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            assert!(!ended, "Node-RED ended: {}", self.log());
            agent.get(&seen).call().is_ok()
        });
    }

    /// SIGTERM, upon which its flows end in order.
    ///
    /// # Panics
    /// It does not run.
    pub fn stop(&mut self) {
        self.earlier = self.seen();
        let mut child = self.child.take().expect("Node-RED runs");
        program::signal(child.id(), "TERM");
        child.wait().expect("it is our child");
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("node-red.log")).unwrap_or_default()
    }

    /// What its `mqtt in` nodes gave, also before its last stop.
    ///
    /// # Panics
    /// Node-RED does not answer.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let mut answer = agent().get(self.url("seen")).call().expect("Node-RED answers");
        let rows: BTreeMap<String, Vec<(String, String, f64)>> =
            serde_json::from_reader(answer.body_mut().as_reader()).expect("JSON as the flow makes it");
        let mut seen = self.earlier.clone();
        for (name, rows) in rows {
            let messages = rows.into_iter().map(|(topic, payload, at_ms)| Message { topic, payload, at_ms });
            seen.entry(name).or_default().extend(messages);
        }
        seen
    }

    /// Has messages published, in their order: each with `topic`, `payload`, `qos`, `retain` as an
    /// `mqtt out` node takes them.
    pub fn publish(&self, connection: &str, messages: &[Value]) {
        self.post("publish", connection, &messages.into());
    }

    /// Subscribes to one topic after the other, as a flow does whose topics are not known before.
    pub fn subscribe(&self, connection: &str, topics: &[String]) {
        self.post("subscribe", connection, &topics.into());
    }

    /// Begins to publish `count` messages of QoS 1, so many in a second, each with the time of its
    /// sending, and does not wait.
    pub fn publish_paced(&self, connection: &str, topic: &str, count: usize, per_second: usize) {
        self.post("pace", connection, &json!({ "topic": topic, "count": count, "per_second": per_second }));
    }

    fn post(&self, what: &str, connection: &str, body: &Value) {
        let url = self.url(&format!("{what}/{connection}"));
        let answer = agent().post(url).header("Content-Type", "application/json").send(body.to_string());
        answer.expect("Node-RED answers");
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.http)
    }
}

impl Drop for NodeRed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("Node-RED has said:\n{}", self.log());
        }
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).build().new_agent()
}

/// `GET /seen`.
fn report() -> [Value; 3] {
    [
        json!({ "id": "seen-in", "type": "http in", "z": "tab", "url": "/seen", "method": "get", "wires": [["seen"]] }),
        function("seen", "msg.payload = global.get('seen'); return msg;", &json!([["seen-out"]])),
        json!({ "id": "seen-out", "type": "http response", "z": "tab", "wires": [] }),
    ]
}

fn function(id: &str, code: &str, wires: &Value) -> Value {
    let outputs = wires.as_array().map_or(0, Vec::len);
    json!({ "id": id, "type": "function", "z": "tab", "func": code, "outputs": outputs, "libs": [], "wires": wires })
}

/// The nodes of one connection: the broker, what is subscribed, what is published.
fn nodes_of(connection: &Connection, filters: &[&str]) -> Vec<Value> {
    let name = connection.name;
    let broker = format!("{name} broker");
    let mut nodes = vec![json!({
        "id": broker, "type": "mqtt-broker", "name": name, "broker": "127.0.0.1", "port": connection.address.port(),
        "clientid": if connection.kept { format!("node-red-{name}") } else { String::new() }, "autoConnect": true,
        "usetls": false, "protocolVersion": if connection.version == Version::V5 { "5" } else { "4" },
        "keepalive": "60", "cleansession": !connection.kept, "autoUnsubscribe": !connection.kept,
        "sessionExpiry": if connection.kept { "3600" } else { "" },
    })];
    let mut subscribe = |what: &str, topic: &str, inputs: u8| {
        let (id, record) = (format!("{name} {what}"), format!("{name} {what} record"));
        nodes.push(json!({
            "id": id, "type": "mqtt in", "z": "tab", "topic": topic, "qos": "1", "datatype": "utf8", "broker": broker,
            "nl": false, "rap": true, "rh": 0, "inputs": inputs, "wires": [[record]],
        }));
        let code = format!(
            "const seen = global.get('seen');\n\
             (seen[{id:?}] ??= []).push([msg.topic, String(msg.payload), global.get('clock')()]);"
        );
        nodes.push(function(&record, &code, &json!([])));
    };
    for filter in filters {
        subscribe(filter, filter, 0);
    }
    subscribe("dynamic", "", 1);
    nodes.push(
        json!({ "id": format!("{name} out"), "type": "mqtt out", "z": "tab", "broker": broker, "wires": [] }),
    );
    // Each answers at once what asks for it, on its first output.
    let asked = [
        ("publish", "out", "for (const each of msg.payload) node.send([null, each]);"),
        (
            "subscribe",
            "dynamic",
            "for (const topic of msg.payload) node.send([null, { action: 'subscribe', topic, qos: 1 }]);",
        ),
        (
            "pace",
            "out",
            "const { topic, count, per_second } = msg.payload, clock = global.get('clock'), begun = clock();\n\
             let sent = 0;\n\
             const timer = setInterval(() => {\n\
                 const due = Math.min(count, (clock() - begun) * per_second / 1000);\n\
                 for (; sent < due; sent++) node.send([null, { topic, qos: 1, payload: String(clock()) }]);\n\
                 if (sent === count) clearInterval(timer);\n\
             }, 2);",
        ),
    ];
    for (what, to, code) in asked {
        let (from, id) = (format!("{name} {what} in"), format!("{name} {what}"));
        nodes.push(json!({
            "id": from, "type": "http in", "z": "tab", "url": format!("/{what}/{name}"), "method": "post", "wires": [[id]],
        }));
        let code = format!("{code}\nmsg.payload = 'ok'; return [msg, null];");
        nodes.push(function(&id, &code, &json!([["seen-out"], [format!("{name} {to}")]])));
    }
    nodes
}

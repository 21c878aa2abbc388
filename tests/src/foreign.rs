//! Local tools that know nothing of Tidegate, as processes: they subscribe, publish and die as they
//! are told.
//!
//! Those on a library (paho-mqtt, aiomqtt, npm's mqtt, rumqttc) are told line by line; the protocol
//! is in `tests/clients/paho_tool.py`. mosquitto's programs take it all as arguments: one that is
//! to unsubscribe leaves for it, and comes back.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use crate::{clock::wait_blocking, codec::Version, program, tools};

/// Longest wait for anything that a tool is to do.
const LIMIT: Duration = Duration::from_secs(30);
/// Told where there is nothing to subscribe to.
const NOTHING: &str = "nothing/at/all";

/// Whose tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// PyPI's paho-mqtt.
    Paho,
    /// PyPI's aiomqtt.
    Aiomqtt,
    /// npm's mqtt.
    Npm,
    /// `mosquitto_sub` and `mosquitto_pub`.
    Mosquitto,
    /// rumqttc, in the program at this path.
    Rumqttc(PathBuf),
}

/// What a tool is started as.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whose.
    pub maker: Maker,
    /// Protocol version.
    pub version: Version,
    /// Client id.
    pub name: String,
    /// Its session ends with its connection.
    pub clean: bool,
    /// Topic of a will that says `gone`, with QoS 1.
    pub will: Option<String>,
    /// QoS of all subscriptions.
    pub qos: u8,
    /// What it subscribes to.
    pub filters: Vec<String>,
}

/// A message that a tool got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// As delivered.
    pub qos: u8,
    /// As delivered.
    pub retain: bool,
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub text: String,
}

/// A running tool. Killed with the value, as by loss of power.
#[derive(Debug)]
pub struct Tool {
    /// What it was started as.
    pub setup: Setup,
    /// The gateway said that it had the session; `None` if the tool does not tell.
    pub session_present: Option<bool>,
    gateway: SocketAddr,
    child: Child,
    said: Receiver<String>,
    messages: VecDeque<Message>,
}

impl Tool {
    /// Starts one, and waits until it is connected and its subscriptions are granted as asked for.
    ///
    /// # Panics
    /// It is not.
    #[must_use]
    pub fn start(gateway: SocketAddr, setup: Setup) -> Self {
        let mut tool = Self::resume(gateway, setup);
        if tool.setup.maker != Maker::Mosquitto {
            for filter in tool.setup.filters.clone() {
                tool.send_line(&format!("subscribe {} {filter}", tool.setup.qos));
                let granted = tool.answer("granted ");
                assert_eq!(granted, tool.setup.qos.to_string(), "for {filter}");
            }
        }
        tool
    }

    /// Starts one that goes on with its session and subscribes to nothing; mosquitto's always
    /// subscribes.
    ///
    /// # Panics
    /// It is not connected.
    #[must_use]
    pub fn resume(gateway: SocketAddr, setup: Setup) -> Self {
        let mut child = setup
            .command(gateway)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the tool can be started");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let (said_in, said) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| drop(said_in.send(line)));
        });
        let mut tool = Self { setup, session_present: None, gateway, child, said, messages: VecDeque::new() };
        if tool.setup.maker == Maker::Mosquitto {
            tool.answer("Subscribed ");
        } else {
            tool.session_present = match tool.answer("connected ").as_str() {
                "-" => None,
                present => Some(present == "1"),
            };
        }
        tool
    }

    /// The next message that it got.
    ///
    /// # Panics
    /// None comes.
    pub fn next_message(&mut self) -> Message {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            let line = self.said.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("{:?} gets no message", self.setup));
            self.hear(&line);
        }
    }

    /// Publishes, and waits for the acknowledgement.
    ///
    /// # Panics
    /// None comes.
    pub fn publish(&mut self, qos: u8, retain: bool, topic: &str, text: &str) {
        if self.setup.maker != Maker::Mosquitto {
            self.send_line(&format!("publish {qos} {} {topic} {text}", u8::from(retain)));
            self.answer("published");
            return;
        }
        let mut command = self.setup.mosquitto("mosquitto_pub", self.gateway, "-publisher");
        command.args(["-q", &qos.to_string(), "-t", topic, "-m", text]).args(retain.then_some("-r"));
        let status = command.status().expect("mosquitto_pub can be started");
        assert!(status.success(), "{command:?}: {status}");
    }

    /// Unsubscribes.
    ///
    /// # Panics
    /// It is not told that it is done.
    #[must_use]
    pub fn unsubscribe(mut self, filter: &str) -> Self {
        self.setup.filters.retain(|kept| kept != filter);
        if self.setup.maker != Maker::Mosquitto {
            self.send_line(&format!("unsubscribe {filter}"));
            self.answer("unsubscribed");
            return self;
        }
        let (gateway, setup) = (self.gateway, self.setup.clone());
        self.leave();
        let mut command = setup.mosquitto("mosquitto_sub", gateway, "");
        command.args(["-c", "-U", filter, "-t", NOTHING, "-E"]);
        let status = command.status().expect("mosquitto_sub can be started");
        assert!(status.success(), "{command:?}: {status}");
        Self::resume(gateway, setup)
    }

    /// Disconnects, as it should.
    ///
    /// # Panics
    /// It does not end.
    pub fn leave(mut self) {
        drop(self.child.stdin.take());
        if self.setup.maker == Maker::Mosquitto {
            program::signal(self.child.id(), "TERM");
        }
        wait_blocking("the tool to leave", LIMIT, || matches!(self.child.try_wait(), Ok(Some(_))));
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn send_line(&mut self, line: &str) {
        let told = writeln!(self.child.stdin.as_ref().expect("it is told until it leaves"), "{line}");
        told.expect("the tool listens");
    }

    /// The rest of the line that begins with `word`, which it is to say; messages that come before
    /// are kept.
    fn answer(&mut self, word: &str) -> String {
        loop {
            let line = self.said.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|_| panic!("{:?} does not say {word:?}", self.setup));
            if let Some(rest) = line.strip_prefix(word) {
                return rest.into();
            }
            self.hear(&line);
        }
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<_> = line.splitn(5, ' ').collect();
        if let ["message", qos, retain, topic, text] = words[..] {
            let qos = qos.parse().expect("tools write numbers");
            let message =
                Message { qos, retain: retain == "1", topic: topic.to_owned(), text: text.to_owned() };
            self.messages.push_back(message);
        }
        assert!(!line.starts_with("error") && !line.starts_with("refused"), "{:?}: {line}", self.setup);
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Setup {
    fn command(&self, gateway: SocketAddr) -> Command {
        let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");
        let mut command = match &self.maker {
            Maker::Paho => Command::new(tools::python_with_paho()),
            Maker::Aiomqtt => Command::new(tools::python_with_paho()),
            Maker::Npm => Command::new(tools::find("node")),
            Maker::Rumqttc(program) => Command::new(program),
            Maker::Mosquitto => return self.mosquitto_sub(gateway),
        };
        match &self.maker {
            Maker::Paho => command.arg(format!("{clients}/paho_tool.py")),
            Maker::Aiomqtt => command.arg(format!("{clients}/aiomqtt_tool.py")),
            Maker::Npm => {
                command.env("NODE_PATH", tools::node_modules()).arg(format!("{clients}/mqtt_tool.js"))
            }
            Maker::Rumqttc(_) | Maker::Mosquitto => &mut command,
        };
        let version = if self.version == Version::V5 { "5" } else { "3.1.1" };
        command.args([&gateway.port().to_string(), version, &self.name]);
        command.args([if self.clean { "1" } else { "0" }, self.will.as_deref().unwrap_or("-")]);
        command
    }

    fn mosquitto_sub(&self, gateway: SocketAddr) -> Command {
        let tool = self.mosquitto("mosquitto_sub", gateway, "");
        // Line by line, though its output is no terminal.
        let mut command = Command::new(tools::find("stdbuf"));
        command.arg("-oL").arg(tool.get_program()).args(tool.get_args());
        command.args(["-d", "-F", "message %q %r %t %p", "-q", &self.qos.to_string()]);
        command.args((!self.clean).then_some("-c"));
        if let Some(topic) = &self.will {
            command.args(["--will-topic", topic, "--will-payload", "gone", "--will-qos", "1"]);
        }
        let nothing = [NOTHING.to_owned()];
        let filters = if self.filters.is_empty() { &nothing[..] } else { &self.filters };
        filters.iter().for_each(|filter| {
            command.args(["-t", filter]);
        });
        command
    }

    fn mosquitto(&self, program: &str, gateway: SocketAddr, role: &str) -> Command {
        let version = if self.version == Version::V5 { "mqttv5" } else { "mqttv311" };
        let mut command = Command::new(tools::find(program));
        command.args(["-h", "127.0.0.1", "-p", &gateway.port().to_string(), "-V", version]);
        command.args(["-i", &format!("{}{role}", self.name)]);
        command
    }
}

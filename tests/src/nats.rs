//! A real nats-server with JetStream as the upstream, and a small client that looks at its streams.
//!
//! The server is a process with a folder of its own, on loopback and a free port; it can be
//! stopped, killed and started again on what its folder holds. The client is the tests' own and
//! shares no code with the gateway. It makes streams, and reads all messages of one back in the
//! stream's order.
//!
//! Limits: the client has one thing under way at a time, and panics at whatever it does not expect.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{clock::wait_blocking, codec::Received, oracle::ID_PROPERTY, ports, program, tools};

/// Longest wait until a server answers with JetStream ready, on a machine with much else to do.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The subject of the client's answers.
const INBOX: &str = "_INBOX.harness";
/// The header by which a stream tells a copy.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";

/// A nats-server with its folder and port. Killed with the value.
#[derive(Debug)]
pub struct Nats {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

/// A message of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Bytes,
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Nats {
    /// Starts one without a stream.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with lines of configuration added.
    ///
    /// # Panics
    /// It is not ready within thirty seconds.
    #[must_use]
    pub fn start_with(lines: &str) -> Self {
        let address = ports::free_address();
        let folder = tempfile::Builder::new()
            .prefix("nats-")
            .tempdir_in(program::scratch())
            .expect("the scratch folder is writable");
        let text = format!(
            "listen: \"{address}\"\njetstream {{\n store_dir: {:?}\n max_mem: 64MB\n max_file: 2GB\n}}\n{lines}\n",
            folder.path()
        );
        std::fs::write(folder.path().join("nats.conf"), text).expect("the folder is writable");
        let mut server = Self { address, folder, child: None };
        server.restart();
        server
    }

    /// Starts it on what its folder holds, and waits until JetStream answers.
    ///
    /// # Panics
    /// It runs, or is not ready within thirty seconds.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let mut command = Command::new(tools::find("nats-server"));
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        command.arg("-l").arg(self.folder.path().join("nats.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("nats-server can be started"));
        wait_blocking("nats-server to be ready", READY_LIMIT, || {
            TcpStream::connect(self.address).is_ok() && self.client().request("INFO", &json!("")).is_some()
        });
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// It does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("nats-server runs");
        child.kill().expect("it is ours to kill");
        child.wait().expect("it is our child");
    }

    /// The address as the gateway's configuration names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// A new connection.
    ///
    /// # Panics
    /// The server is not there.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server is there");
        stream.set_nodelay(true).expect("a connection can be set so");
        stream.set_read_timeout(Some(ANSWER_LIMIT)).expect("a connection can be set so");
        let mut client = Self { stream: BufReader::new(stream) };
        assert!(client.line().starts_with("INFO "), "a server begins with INFO");
        let connect = json!({"verbose": false, "headers": true, "no_responders": true, "protocol": 1});
        client.write(format!("CONNECT {connect}\r\nSUB {INBOX} 1\r\nPING\r\n").as_bytes());
        assert_eq!(client.line(), "PONG");
        client
    }

    /// Makes a stream: its name, its subjects, and further settings of it.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn create_stream(&mut self, name: &str, subjects: &[&str], settings: &Value) {
        self.configure("CREATE", name, subjects, settings);
    }

    /// Changes a stream: what `settings` do not name has its default again.
    ///
    /// # Panics
    /// The server refuses it.
    pub fn update_stream(&mut self, name: &str, subjects: &[&str], settings: &Value) {
        self.configure("UPDATE", name, subjects, settings);
    }

    fn configure(&mut self, what: &str, name: &str, subjects: &[&str], settings: &Value) {
        let mut config = json!({"name": name, "subjects": subjects, "storage": "file"});
        for (key, value) in settings.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let answer = self.request(&format!("STREAM.{what}.{name}"), &config).expect("JetStream is there");
        assert!(answer["error"].is_null(), "{answer}");
    }

    /// Messages that a stream holds.
    ///
    /// # Panics
    /// There is no such stream.
    #[must_use]
    pub fn count(&mut self, stream: &str) -> u64 {
        let answer = self.request(&format!("STREAM.INFO.{stream}"), &json!("")).expect("JetStream is there");
        answer["state"]["messages"].as_u64().unwrap_or_else(|| panic!("no state in {answer}"))
    }

    /// All messages of a stream, in its order.
    ///
    /// # Panics
    /// The server does not give them, one after the other and whole.
    #[must_use]
    pub fn read_all(&mut self, stream: &str) -> Vec<Message> {
        // A subject of its own: a consumer of an earlier call would go on with it.
        static READS: AtomicU64 = AtomicU64::new(0);
        let subject = format!("{INBOX}.{}", READS.fetch_add(1, Ordering::Relaxed));
        let count = self.count(stream);
        self.write(format!("SUB {subject} 2\r\n").as_bytes());
        let config = json!({
            "deliver_subject": subject, "deliver_policy": "all", "ack_policy": "none",
            "replay_policy": "instant", "inactive_threshold": 60_000_000_000_u64,
            // Else a server gives up a reader that is slower than its disk.
            "flow_control": true, "idle_heartbeat": 5_000_000_000_u64,
        });
        let ask = json!({"stream_name": stream, "config": config});
        self.send_request(&format!("CONSUMER.CREATE.{stream}"), &ask);
        let (mut found, mut answer) = (vec![], None);
        while found.len() < count as usize || answer.is_none() {
            let (to, reply, message) = self.next();
            if to == INBOX {
                let parsed: Value = serde_json::from_slice(&message.payload).expect("an answer is JSON");
                assert!(parsed["error"].is_null(), "{parsed}");
                answer = Some(parsed);
                continue;
            }
            let stalled = message.header("Nats-Consumer-Stalled").unwrap_or_default();
            if let Some(answer) = [reply.as_str(), stalled].into_iter().find(|to| to.starts_with("$JS.FC.")) {
                self.write(format!("PUB {answer} 0\r\n\r\n").as_bytes());
                continue;
            }
            if reply.is_empty() {
                // A heartbeat.
                continue;
            }
            // $JS.ACK.<stream>.<consumer>.<tries>.<stream sequence>.<consumer
            // sequence>.<time>.<pending>
            let sequence = reply.split('.').nth(6).and_then(|word| word.parse::<usize>().ok());
            assert_eq!(sequence, Some(found.len() + 1), "a message is missing before {reply}");
            found.push(message);
        }
        found
    }

    /// Asks JetStream; `None` if there is no JetStream yet.
    ///
    /// # Panics
    /// The answer is no JSON.
    pub fn request(&mut self, what: &str, ask: &Value) -> Option<Value> {
        self.send_request(what, ask);
        loop {
            let (to, _, message) = self.next();
            if to != INBOX {
                continue;
            }
            if message.payload.is_empty() {
                return None;
            }
            return Some(serde_json::from_slice(&message.payload).expect("an answer is JSON"));
        }
    }

    fn send_request(&mut self, what: &str, ask: &Value) {
        let ask = if ask == "" { String::new() } else { ask.to_string() };
        self.write(format!("PUB $JS.API.{what} {INBOX} {}\r\n{ask}\r\n", ask.len()).as_bytes());
    }

    /// The next message: the subject that it was delivered to, where its answer would go, and
    /// itself.
    fn next(&mut self) -> (String, String, Message) {
        loop {
            let line = self.line();
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["PING"] => self.write(b"PONG\r\n"),
                ["MSG", subject, sid, ref rest @ .., whole] => {
                    return self.message(subject, sid, rest, 0, number(whole));
                }
                ["HMSG", subject, sid, ref rest @ .., headers, whole] => {
                    return self.message(subject, sid, rest, number(headers), number(whole));
                }
                _ => assert!(line.starts_with("INFO ") || line == "+OK", "not asked for: {line}"),
            }
        }
    }

    /// A message whose line was read. A consumer delivers each under its own subject: what tells
    /// an answer is the subscription.
    fn message(
        &mut self,
        subject: &str,
        sid: &str,
        reply: &[&str],
        headers: usize,
        whole: usize,
    ) -> (String, String, Message) {
        let mut body = vec![0; whole + 2];
        self.stream.read_exact(&mut body).expect("a message is whole");
        body.truncate(whole);
        let payload = Bytes::from(body.split_off(headers));
        let block = String::from_utf8(body).expect("headers are text");
        let pairs = block.lines().filter_map(|line| line.split_once(": "));
        let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let to = if sid == "1" { INBOX } else { "read" };
        let reply = reply.first().copied().unwrap_or_default();
        (to.into(), reply.into(), Message { subject: subject.into(), headers, payload })
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server says something");
        line.trim_end().to_owned()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("the server reads");
    }
}

impl Message {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The same as a MQTT broker would have got it: for the oracle. Its topic has none of the
    /// characters that a subject holds encoded.
    #[must_use]
    pub fn received(&self) -> Received {
        let mut properties = BytesMut::new();
        if let Some(id) = self.header(ID_PROPERTY) {
            // A user property: MQTT 5.0 section 2.2.2.2.
            properties.put_u8(0x26);
            for text in [ID_PROPERTY, id] {
                properties.put_u16(text.len() as u16);
                properties.put_slice(text.as_bytes());
            }
        }
        Received {
            topic: self.subject.replace('.', "/").into(),
            payload: self.payload.clone(),
            qos: 1,
            packet_id: 1,
            dup: false,
            retain: false,
            properties: properties.freeze(),
        }
    }
}

fn number(word: &str) -> usize {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

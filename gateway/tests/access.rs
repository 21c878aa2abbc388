//! Who is let in and what they may do, over loopback and with the real door and store. The client
//! is a few bytes by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::Write,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate::{
    access::{Access, Acl, ClientIds, Files, Policy, Stored, User, Users, edit},
    ingest::{self, ListenerSettings, Payload, Route, Settings},
    mqtt::Password,
    store::{self, Store},
    telemetry,
};
use tidegate_board_host::{DeviceCounters, DevicePassword, DeviceSettings, run_device};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);
const UPLINK: &str = "cloud";
const SECRET: &str = "correct-horse-battery";
const WRONG: &str = "wrong-horse-battery";
const VERSIONS: [u8; 2] = [4, 5];

const ACL: &str = r#"
[[rule]]
who = "*"
publish = ["s/{identity}/#", "c/{client_id}"]

[[rule]]
who = "anonymous"
publish = ["s/open"]
"#;

/// Everything that is logged, at every level, by all tests of this file.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The lines with all of `words` in them, once there are `wanted`.
    async fn lines(&self, words: &[&str], wanted: usize) -> Vec<String> {
        let found = || -> Vec<String> {
            let text = self.text();
            let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
            lines.map(str::to_owned).collect()
        };
        let waiting = async {
            while found().len() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, waiting)
            .await
            .unwrap_or_else(|_| panic!("not {wanted} with {words:?}: {:?}", found()));
        found()
    }

    fn get() -> &'static Log {
        static LOG: OnceLock<Log> = OnceLock::new();
        LOG.get_or_init(|| {
            let log = Log::default();
            let writer = log.clone();
            tracing_subscriber::fmt()
                .with_env_filter("trace")
                .with_writer(move || writer.clone())
                .with_ansi(false)
                .init();
            telemetry::recorder();
            log
        })
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The lines of the audit log with all of `words` in them, once there is one.
    async fn audit(&self, words: &[&str]) -> String {
        let wanted = || {
            let text = self.text();
            let lines = text.lines().filter(|line| line.contains("tidegate::audit"));
            lines.filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).next()
        };
        let waiting = async {
            loop {
                if let Some(line) = wanted() {
                    return line;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("no line with {words:?} in\n{}", self.text()))
    }
}

/// The same hash for all tests: each costs tens of milliseconds.
fn stored() -> Stored {
    static STORED: OnceLock<Stored> = OnceLock::new();
    STORED.get_or_init(|| Stored::make(&Password::new(SECRET.as_bytes())).unwrap()).clone()
}

fn user(name: &str, client_ids: ClientIds) -> User {
    User { name: name.into(), password: Some(stored()), client_ids, roles: vec![] }
}

fn users() -> Users {
    let mut users = Users::default();
    users.add(user("barn-3", ClientIds::Own));
    users.add(user("barn-4", ClientIds::Own));
    users.add(user("tool", ClientIds::Any));
    users.add(user("barn-5", ClientIds::Own));
    users.add(user("barn-6", ClientIds::Own));
    users.add(User { password: None, ..user("only-cert", ClientIds::Own) });
    users
}

fn policy() -> Policy {
    Policy { users: Some(users()), acl: Some(Acl::parse(ACL, Path::new("acl.toml")).unwrap()) }
}

fn change(file: &Path, change: impl FnOnce(&mut Users)) {
    edit(file, |all| {
        change(all);
        Ok::<_, ()>(())
    })
    .unwrap();
}

/// A door with a listener for users at `closed` and one for anybody at `open`.
struct House {
    store: Store,
    access: Arc<Access>,
    closed: u16,
    open: u16,
    _shutdown: tokio_util::sync::DropGuard,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open(policy: Policy) -> Self {
        Self::with(Access::new(policy)).await
    }

    async fn with(access: Access) -> Self {
        Log::get();
        let folder = tempfile::tempdir().unwrap();
        let store = store::Settings::new(folder.path());
        let store = Store::open(store, &[UPLINK.into()]).unwrap();
        let access = Arc::new(access);
        let routes = ["s/#", "c/#", "will", "tidegate/#"].map(|f| Route {
            filter: f.into(),
            payload: Payload::Opaque,
            urgent: false,
            device_level: None,
        });
        let settings = Settings { routes: routes.into(), access: access.clone(), ..Settings::default() };
        let mut bound = vec![];
        for anonymous in [false, true] {
            let mut listener = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
            listener.anonymous = anonymous;
            bound.push(ingest::bind(&listener).await.unwrap());
        }
        let ports: Vec<u16> = bound.iter().map(|bound| bound.local_addr().port()).collect();
        let shutdown = CancellationToken::new();
        tokio::spawn(ingest::run(bound, (&store).into(), settings, shutdown.clone()));
        House {
            store,
            access,
            closed: ports[0],
            open: ports[1],
            _shutdown: shutdown.drop_guard(),
            _folder: folder,
        }
    }

    /// Connects to the listener for users and gives the client with its CONNACK's code.
    async fn try_user(&self, hello: &Hello<'_>) -> (Client, u8) {
        Client::connect(self.closed, hello).await
    }

    async fn user(&self, hello: &Hello<'_>) -> Client {
        let (client, code) = self.try_user(hello).await;
        assert_eq!(code, 0, "{hello:?}");
        client
    }

    /// `topic payload` of all records, in order.
    async fn records(&self, wanted: usize) -> Vec<String> {
        self.records_until(|records| records.len() >= wanted).await
    }

    async fn records_until(&self, is_enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut reader = self.store.reader(UPLINK).unwrap();
        let mut records = vec![];
        while !is_enough(&records) {
            let position = reader.position();
            let block = timeout(LIMIT, reader.next()).await.unwrap().unwrap();
            records.extend(
                block.records_from(position).map(|(_, record)| {
                    format!("{} {}", record.topic, String::from_utf8_lossy(record.payload))
                }),
            );
        }
        records
    }
}

#[derive(Debug, Clone, Copy)]
struct Hello<'a> {
    version: u8,
    client_id: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    will: Option<&'a str>,
    clean: bool,
}

fn hello<'a>(version: u8, user: &'a str, password: &'a str) -> Hello<'a> {
    Hello { version, client_id: user, user: Some(user), password: Some(password), will: None, clean: true }
}

fn nobody(version: u8, client_id: &str) -> Hello<'_> {
    Hello { version, client_id, user: None, password: None, will: None, clean: true }
}

impl Hello<'_> {
    fn packet(&self) -> Vec<u8> {
        let flags = u8::from(self.clean) << 1
            | u8::from(self.will.is_some()) << 2
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.user.is_some()) << 7;
        let none: &[u8] = if self.version == 5 { &[0] } else { &[] };
        // A session that is to be continued is kept for an hour.
        let properties: &[u8] =
            if self.version == 5 && !self.clean { &[5, 0x11, 0, 0, 14, 16] } else { none };
        let mut rest = text(self.client_id);
        if let Some(topic) = self.will {
            rest.extend([none, &text(topic), &text("will")].concat());
        }
        rest.extend(self.user.into_iter().chain(self.password).flat_map(text));
        packet(0x10, &[&text("MQTT"), &[self.version, flags, 0, 60], properties, &rest])
    }
}

struct Client(TcpStream);

impl Client {
    async fn connect(port: u16, hello: &Hello<'_>) -> (Self, u8) {
        Self::connect_from([127, 0, 0, 1], port, hello).await
    }

    async fn connect_from(from: [u8; 4], port: u16, hello: &Hello<'_>) -> (Self, u8) {
        let (client, connack) = Self::connect_whole(from, port, hello).await;
        (client, connack[3])
    }

    async fn connect_whole(from: [u8; 4], port: u16, hello: &Hello<'_>) -> (Self, Vec<u8>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut client = Client(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
        client.0.set_nodelay(true).unwrap();
        client.send(&hello.packet()).await;
        let connack = client.packet().await;
        assert_eq!(connack.first(), Some(&0x20), "{hello:?}: {connack:02x?}");
        (client, connack)
    }

    async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.0.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next packet, whole; empty when the door closed.
    async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        if timeout(LIMIT, self.0.read_exact(&mut packet)).await.unwrap().is_err() {
            return vec![];
        }
        assert!(packet[1] < 128, "longer than these tests expect");
        let mut body = vec![0; packet[1].into()];
        timeout(LIMIT, self.0.read_exact(&mut body)).await.unwrap().unwrap();
        packet.extend(body);
        packet
    }

    async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert_eq!(self.packet().await, [0xd0, 0]);
    }
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = vec![first];
    if body.len() < 128 {
        out.push(body.len() as u8);
    } else {
        out.extend([body.len() as u8 | 0x80, (body.len() >> 7) as u8]);
    }
    out.extend(body);
    out
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn publish(version: u8, first: u8, topic: &str, packet_id: u16, payload: &str) -> Vec<u8> {
    let none: &[u8] = if version == 5 { &[0] } else { &[] };
    let id = if first & 6 == 0 { vec![] } else { packet_id.to_be_bytes().to_vec() };
    packet(0x30 | first, &[&text(topic), &id, none, payload.as_bytes()])
}

const QOS1: u8 = 2;
const QOS2: u8 = 4;

/// The code of a CONNACK, by version.
fn code(version: u8, v311: u8, v5: u8) -> u8 {
    if version == 5 { v5 } else { v311 }
}

#[tokio::test]
async fn only_the_right_password_of_a_known_user_lets_a_client_in() {
    for version in VERSIONS {
        // A house each, for failures add up to waits.
        let house = House::open(policy()).await;
        let (bad, denied) = (code(version, 4, 0x86), code(version, 5, 0x87));
        let right = hello(version, "barn-3", SECRET);
        let table = [
            (right, 0),
            (hello(version, "barn-3", WRONG), bad),
            (hello(version, "barn-3", ""), bad),
            (hello(version, "nobody", SECRET), bad),
            (hello(version, "", SECRET), bad),
            (hello(version, "only-cert", SECRET), bad),
            (hello(version, "only-cert", ""), bad),
            (Hello { password: None, ..right }, bad),
            (nobody(version, "barn-3"), denied),
            (nobody(version, ""), denied),
            // It was right a moment ago, and the wrong one is wrong all the same.
            (right, 0),
            (hello(version, "barn-3", concat!("correct-horse-battery", "x")), bad),
        ];
        for (hello, wanted) in table {
            let (mut client, code) = house.try_user(&hello).await;
            assert_eq!(code, wanted, "{hello:?}");
            match code {
                0 => client.ping().await,
                _ => assert_eq!(client.packet().await, Vec::<u8>::new(), "closed after the refusal"),
            }
        }
    }
    let house = House::open(policy()).await;
    let lone_password = Hello { user: None, ..hello(5, "barn-3", SECRET) };
    assert_eq!(house.try_user(&lone_password).await.1, 0x86);
}

#[tokio::test]
async fn a_client_id_is_its_owners_alone() {
    let house = House::open(policy()).await;
    for version in VERSIONS {
        let foreign = code(version, 2, 0x85);
        let mut barn = house.user(&hello(version, "barn-3", SECRET)).await;
        let with_id = |client_id, user| Hello { client_id, ..hello(version, user, SECRET) };
        for (hello, wanted) in [
            (with_id("barn-3", "barn-4"), foreign),
            (with_id("something", "barn-4"), foreign),
            (with_id("barn-3", "tool"), foreign),
            (with_id("barn-4", "tool"), foreign),
            (with_id("something", "tool"), 0),
            (with_id("tool", "tool"), 0),
            (with_id("", "tool"), 0),
        ] {
            assert_eq!(house.try_user(&hello).await.1, wanted, "{hello:?}");
        }
        let (_, code) = Client::connect(house.open, &nobody(version, "barn-3")).await;
        assert_eq!(code, foreign, "an anonymous client with a user's name");
        barn.ping().await;
        // Without an id of its own choice it gets its name, and so it takes over its own
        // connection.
        house.user(&with_id("", "barn-3")).await;
        let end = barn.packet().await;
        assert_eq!(end.get(2).copied(), (version == 5).then_some(0x8e), "{end:02x?}");
    }
}

#[tokio::test]
async fn a_session_is_not_taken_over_by_another_identity_not_even_while_its_owner_is_away() {
    let house = House::open(Policy { users: Some(users()), acl: None }).await;
    for version in VERSIONS {
        let id = format!("shared-{version}");
        let mine = Hello { client_id: &id, clean: false, ..hello(version, "tool", SECRET) };
        let theirs = nobody(version, &id);
        let mut tool = house.user(&mine).await;
        assert_eq!(Client::connect(house.open, &theirs).await.1, code(version, 2, 0x85));
        tool.ping().await;
        tool.send(&[0xe0, 0]).await;
        assert_eq!(tool.packet().await, Vec::<u8>::new());
        Log::get().audit(&["disconnected", "tool", &id]).await;
        assert_eq!(Client::connect(house.open, &theirs).await.1, code(version, 2, 0x85));
        house.user(&mine).await.ping().await;
    }
}

#[tokio::test]
async fn whoever_a_client_id_is_the_name_of_gets_it_from_whoever_took_it() {
    let mut known = users();
    assert!(known.remove("barn-3"));
    let house = House::open(Policy { users: Some(known), acl: None }).await;
    for version in VERSIONS {
        house.access.replace(Policy {
            users: Some({
                let mut without = users();
                without.remove("barn-3");
                without
            }),
            acl: None,
        });
        let squat = Hello { client_id: "barn-3", clean: false, ..hello(version, "tool", SECRET) };
        let own = Hello { clean: false, ..hello(version, "barn-3", SECRET) };
        // Its session stays when it leaves, and is nobody's that comes with the name.
        let mut tool = house.user(&squat).await;
        tool.send(&[0xe0, 0]).await;
        assert_eq!(tool.packet().await, Vec::<u8>::new());
        house.access.replace(Policy { users: Some(users()), acl: None });
        let (mut barn, connack) = Client::connect_whole([127, 0, 0, 1], house.closed, &own).await;
        assert_eq!((connack[2], connack[3]), (0, 0), "a session of its own: {connack:02x?}");
        assert_eq!(house.try_user(&squat).await.1, code(version, 2, 0x85));
        barn.ping().await;
        barn.send(&[0xe0, 0]).await;
        assert_eq!(barn.packet().await, Vec::<u8>::new());
        house.user(&Hello { clean: true, ..own }).await.send(&[0xe0, 0]).await;
    }
}

#[tokio::test]
async fn a_publish_that_is_not_allowed_is_told_by_version_and_quality_of_service_and_never_stored() {
    let house = House::open(policy()).await;
    let mut client = house.user(&hello(5, "barn-3", SECRET)).await;
    let stolen = "s/barn-4/x";
    client.send(&publish(5, 0, stolen, 0, "stolen")).await;
    for (qos, topic, wanted) in [
        (QOS1, stolen, vec![0x40, 3, 0, 1, 0x87]),
        (QOS2, stolen, vec![0x50, 3, 0, 1, 0x87]),
        (QOS1, "s/barn-3/x", vec![0x40, 2, 0, 1]),
        (QOS1, "s/+x", vec![]),
    ] {
        let is_topic = !topic.contains('+');
        client.send(&publish(5, qos, topic, 1, "5")).await;
        let answer = client.packet().await;
        if is_topic {
            assert_eq!(answer, wanted, "{topic}");
        } else {
            assert_eq!((answer[0], answer[2]), (0xe0, 0x90), "no topic at all");
        }
    }
    // 3.1.1 has no word for it: QoS 0 is dropped, above that the connection ends.
    for (first, survives) in [(0, true), (QOS1, false), (QOS2, false)] {
        let mut client = house.user(&hello(4, "barn-3", SECRET)).await;
        client.send(&publish(4, first, stolen, 1, "stolen")).await;
        if survives {
            client.ping().await;
            client.send(&publish(4, QOS1, "s/barn-3/x", 1, "4")).await;
            assert_eq!(client.packet().await, [0x40, 2, 0, 1]);
        } else {
            assert_eq!(client.packet().await, Vec::<u8>::new(), "{first}");
        }
    }
    assert_eq!(house.records(2).await, ["s/barn-3/x 5", "s/barn-3/x 4"]);
    let rule = "the access file has no [[rule]], who = \"barn-3\", publish = [\"s/barn-4/x\"]";
    Log::get().audit(&["denied", "barn-3", "publish", stolen, rule]).await;
}

#[tokio::test]
async fn a_will_that_is_not_allowed_is_refused_with_the_connect_and_one_that_is_gets_published() {
    let house = House::open(policy()).await;
    for version in VERSIONS {
        let denied = Hello { will: Some("will"), ..hello(version, "barn-3", SECRET) };
        assert_eq!(house.try_user(&denied).await.1, code(version, 5, 0x87));
        let allowed = Hello { will: Some("s/barn-3/will"), ..denied };
        drop(house.user(&allowed).await);
    }
    assert_eq!(house.records(2).await, ["s/barn-3/will will", "s/barn-3/will will"]);
}

#[tokio::test]
async fn wildcards_in_a_client_id_open_no_topic() {
    let house = House::open(policy()).await;
    for version in VERSIONS {
        for id in ["+", "#", "a/b", "$SYS", "c/#"] {
            let mut client = house.user(&Hello { client_id: id, ..hello(version, "tool", SECRET) }).await;
            for topic in ["c/a", "c/a/b", "c/$SYS", "s/barn-3/x"] {
                client.send(&publish(version, 0, topic, 0, "stolen")).await;
            }
            client.ping().await;
        }
        let mut client = house.user(&Hello { client_id: "mine", ..hello(version, "tool", SECRET) }).await;
        client.send(&publish(version, QOS1, "c/mine", 1, "mine")).await;
        assert_eq!(client.packet().await, [0x40, 2, 0, 1]);
        // A user name with a wildcard is no user's.
        let (_, answer) = house.try_user(&Hello { client_id: "x", ..hello(version, "#", SECRET) }).await;
        assert_eq!(answer, code(version, 4, 0x86));
    }
    assert_eq!(house.records(2).await, ["c/mine mine", "c/mine mine"]);
}

#[tokio::test]
async fn an_open_door_is_open_without_rules_and_has_those_for_anonymous_with_them() {
    for (policy, all) in [(Policy::default(), true), (policy(), false)] {
        let house = House::open(policy).await;
        for version in VERSIONS {
            let (mut client, code) = Client::connect(house.open, &nobody(version, "x")).await;
            assert_eq!(code, 0);
            client.send(&publish(version, 0, "s/anything", 0, "any")).await;
            client.send(&publish(version, QOS1, "s/open", 1, "open")).await;
            assert_eq!(client.packet().await, [0x40, 2, 0, 1]);
        }
        let records = house.records(if all { 4 } else { 2 }).await;
        assert_eq!(
            records.iter().filter(|record| *record == "s/anything any").count(),
            if all { 2 } else { 0 }
        );
    }
    // Without users, a user name has nothing to be compared with; with users it has to be right
    // everywhere.
    let house = House::open(Policy::default()).await;
    assert_eq!(Client::connect(house.open, &hello(4, "x", SECRET)).await.1, 0);
    assert_eq!(Client::connect(house.closed, &hello(4, "x", SECRET)).await.1, 4);
    let house = House::open(policy()).await;
    assert_eq!(Client::connect(house.open, &hello(4, "barn-3", WRONG)).await.1, 4);
}

#[tokio::test]
async fn a_reload_ends_the_sessions_of_users_that_are_gone_and_changes_what_the_others_may_do() {
    let folder = tempfile::tempdir().unwrap();
    let files =
        Files { users: Some(folder.path().join("users.toml")), acl: Some(folder.path().join("acl.toml")) };
    let (users_file, acl_file) = (files.users.clone().unwrap(), files.acl.clone().unwrap());
    change(&users_file, |all| *all = users());
    assert_eq!(std::fs::metadata(&users_file).unwrap().permissions().mode() & 0o7777, 0o600);
    std::fs::write(&acl_file, ACL).unwrap();
    let house = House::with(Access::load(files).unwrap()).await;
    for version in VERSIONS {
        let with_will = Hello { will: Some("s/barn-3/will"), ..hello(version, "barn-3", SECRET) };
        let mut gone = house.user(&with_will).await;
        let mut stays = house.user(&hello(version, "barn-4", SECRET)).await;

        // A bad file changes nothing.
        std::fs::write(&acl_file, "[[rule]]\nwho = 1\n").unwrap();
        let error = house.access.reload().unwrap_err().to_string();
        assert!(error.contains("acl.toml:2: "), "{error}");
        gone.ping().await;
        stays.send(&publish(version, QOS1, "s/barn-4/x", 1, "before")).await;
        assert_eq!(stays.packet().await, [0x40, 2, 0, 1]);

        std::fs::write(&acl_file, "[[rule]]\nwho = \"barn-4\"\npublish = [\"s/new\"]\n").unwrap();
        change(&users_file, |all| assert!(all.remove("barn-3")));
        house.access.reload().unwrap();
        let end = gone.packet().await;
        assert_eq!(end.get(2).copied(), (version == 5).then_some(0x87), "{end:02x?}");
        assert_eq!(house.try_user(&with_will).await.1, code(version, 4, 0x86));
        stays.send(&publish(version, 0, "s/barn-4/x", 0, "denied now")).await;
        stays.send(&publish(version, QOS1, "s/new", 2, "new")).await;
        assert_eq!(stays.packet().await, [0x40, 2, 0, 2]);

        // A new password ends what the old one began.
        let mut changed = user("barn-4", ClientIds::Own);
        changed.password = Some(Stored::make(&Password::new(WRONG.as_bytes())).unwrap());
        change(&users_file, |all| *all.get_mut("barn-4").unwrap() = changed);
        house.access.reload().unwrap();
        let end = stays.packet().await;
        assert_eq!(end.get(2).copied(), (version == 5).then_some(0x87), "{end:02x?}");

        change(&users_file, |all| *all = users());
        std::fs::write(&acl_file, ACL).unwrap();
        house.access.reload().unwrap();
    }
    // No will of the user that was removed: it may not publish any more.
    let records = house.records(4).await;
    assert_eq!(records, ["s/barn-4/x before", "s/new new", "s/barn-4/x before", "s/new new"]);
    Log::get().audit(&["user removed", "barn-3"]).await;
}

#[tokio::test]
async fn many_failures_slow_an_address_down_and_who_was_known_before_is_not_held_up() {
    let house = House::open(policy()).await;
    house.user(&hello(5, "barn-3", SECRET)).await;
    let began = tokio::time::Instant::now();
    for _ in 0..9 {
        assert_eq!(house.try_user(&hello(5, "barn-4", WRONG)).await.1, 0x86);
    }
    assert!(began.elapsed() >= Duration::from_millis(700), "the last three wait 100, 200 and 400 ms");
    // The next try is 800 ms after the last one.
    let began = tokio::time::Instant::now();
    let (_, known) = house.try_user(&hello(5, "barn-3", SECRET)).await;
    let known_took = began.elapsed();
    let (_, new) = house.try_user(&hello(5, "barn-4", SECRET)).await;
    assert_eq!((known, new), (0, 0));
    assert!(began.elapsed() >= Duration::from_millis(400) && known_took < began.elapsed() / 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_that_guess_get_less_than_one_guess_a_second_and_hold_no_honest_device_up() {
    const GUESSERS: usize = 200;
    const WATCHED: Duration = Duration::from_secs(10);
    let house = House::open(policy()).await;
    // The one beside the guessers has been there since before; the others never were.
    house.user(&hello(5, "barn-3", SECRET)).await;
    let (guesses, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut guessers = tokio::task::JoinSet::new();
    for i in 0..GUESSERS {
        let (port, guesses, refused) = (house.closed, guesses.clone(), refused.clone());
        guessers.spawn(async move {
            // Names that are there, names that are not, and one each.
            let own = format!("u{i}");
            let name = ["barn-3", "barn-4", "tool", "nobody", &own][i % 5];
            loop {
                let (_, code) = Client::connect(port, &hello(5, name, WRONG)).await;
                match code {
                    0x86 => guesses.fetch_add(1, Ordering::Relaxed),
                    0x89 => refused.fetch_add(1, Ordering::Relaxed),
                    code => panic!("{code:02x}"),
                };
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
    }
    let begin = tokio::time::Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let first = guesses.load(Ordering::Relaxed);
    assert!((6..=12).contains(&first), "{first} guesses in the first seconds");
    let (mut beside, mut elsewhere, mut new) = (vec![], vec![], vec![]);
    let mut others = ["barn-4", "tool", "barn-5", "barn-6"].into_iter();
    while begin.elapsed() < Duration::from_secs(4) + WATCHED {
        let connect = async |from: [u8; 4], name: &'static str, taken: &mut Vec<Duration>| {
            let began = tokio::time::Instant::now();
            let (_, code) = Client::connect_from(from, house.closed, &hello(5, name, SECRET)).await;
            assert_eq!(code, 0, "{name} from {from:?}");
            taken.push(began.elapsed());
        };
        connect([127, 0, 0, 1], "barn-3", &mut beside).await;
        connect([127, 0, 0, 2], "barn-3", &mut elsewhere).await;
        if let Some(name) = others.next() {
            // Its password has to be hashed.
            connect([127, 0, 0, 3], name, &mut new).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(guessers.try_join_next().is_none(), "a guesser ended");
    let (late, refused) = (guesses.load(Ordering::Relaxed) - first, refused.load(Ordering::Relaxed));
    let shown = format!(
        "{first} guesses in 4 s, {late} in the next {WATCHED:?}, {refused} refused as busy; slowest beside {:?}, elsewhere {:?}, new {new:?}",
        beside.iter().max(),
        elsewhere.iter().max()
    );
    println!("{shown}");
    assert!(late <= WATCHED.as_secs() as usize && refused > GUESSERS, "{shown}");
    assert!(beside.len() > 10 && new.len() == 4, "{shown}");
    for taken in [beside, elsewhere, new] {
        assert!(taken.iter().all(|taken| *taken < Duration::from_secs(1)), "{shown}");
    }
}

#[tokio::test]
async fn the_firmware_connects_as_its_own_user_and_publishes_where_a_device_may() {
    let house = House::open(Policy { users: Some(users()), acl: None }).await;
    let settings = |name: &str, password: &str| DeviceSettings {
        name: name.into(),
        password: Some(DevicePassword(password.into())),
        gateway: format!("127.0.0.1:{}", house.closed),
        boot: 1,
        seed: 1,
        sample_every_ms: 1,
        batch_events: 4,
        batch_age_ms: 10,
        window: 4,
    };
    let counters = Arc::new(DeviceCounters::default());
    let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let running = run_device(settings("barn-3", SECRET), counters.clone(), quiesce.clone(), shutdown.clone());
    let running = tokio::spawn(running);
    let refused = Arc::new(DeviceCounters::default());
    let wrong = run_device(settings("barn-4", WRONG), refused.clone(), quiesce.clone(), shutdown.clone());
    let wrong = tokio::spawn(wrong);
    let acknowledged = async {
        while counters.acked_events.load(Ordering::Relaxed) < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, acknowledged).await.unwrap();
    Log::get().audit(&["refused", "barn-4", "the password is wrong"]).await;
    assert_eq!(refused.acked_events.load(Ordering::Relaxed), 0);
    quiesce.cancel();
    timeout(LIMIT, running).await.unwrap().unwrap();
    shutdown.cancel();
    timeout(LIMIT, wrong).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_device_that_is_denied_for_want_of_an_access_file_has_its_rule_in_the_log_and_check_says_so() {
    let house = House::open(Policy { users: Some(users()), acl: None }).await;
    let mut client = house.user(&hello(5, "barn-5", SECRET)).await;
    client.send(&publish(5, QOS1, "s/plug", 1, "on")).await;
    assert_eq!(client.packet().await, [0x40, 3, 0, 1, 0x87]);
    let told = "[access] acl names no file, so a user has its own tg/ topics alone: name one, with [[rule]]";
    let log = Log::get();
    log.audit(&["denied", told, "who = \"barn-5\", publish = [\"s/plug\"]"]).await;
    let will = Hello { will: Some("s/will"), ..hello(5, "barn-6", SECRET) };
    assert_eq!(house.try_user(&will).await.1, 0x87);
    log.audit(&["denied", "action=\"will\"", told, "who = \"barn-6\", publish = [\"s/will\"]"]).await;

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gateway.toml");
    change(&folder.path().join("users.toml"), |all| assert!(all.add(user("barn-5", ClientIds::Own))));
    std::fs::write(
        &config,
        "[gateway]\nid = \"g\"\ndata_dir = \"data\"\n[access]\nusers = \"users.toml\"\n[[listener]]\n\
         address = \"127.0.0.1:1\"\n[[route]]\nfilter = \"s/#\"\n",
    )
    .unwrap();
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate")).arg("check").arg(&config).output();
    let said = String::from_utf8(check.unwrap().stdout).unwrap();
    for wanted in
        ["rules     none: [access] acl names no file", "with [[rule]], who = \"*\", publish = [\"s/#\"]"]
    {
        assert!(said.contains(wanted), "{said}");
    }
}

#[tokio::test]
async fn no_secret_is_in_any_log_line_or_metric_and_the_audit_log_tells_who_and_why() {
    let house = House::open(policy()).await;
    let payload = "payload-that-nobody-logs";
    for version in VERSIONS {
        let mut client = house.user(&hello(version, "barn-3", SECRET)).await;
        client.send(&publish(version, 0, "s/other", 0, payload)).await;
        client.send(&publish(version, QOS1, "s/barn-3/x", 1, payload)).await;
        client.packet().await;
        client.send(&[0xe0, 0]).await;
        client.packet().await;
        house.try_user(&hello(version, "barn-3", WRONG)).await;
        house.try_user(&hello(version, "evil\nINFO forged", SECRET)).await;
        house.try_user(&Hello { user: None, ..hello(5, "x", SECRET) }).await;
        let denied = Hello { will: Some("will"), ..hello(version, "barn-3", SECRET) };
        house.try_user(&denied).await;
    }
    let log = Log::get();
    log.audit(&["connected", "identity=barn-3", "protocol=\"5\"", "by=\"password\"", "peer=127.0.0.1:"])
        .await;
    log.audit(&["disconnected", "identity=barn-3", "the client disconnected"]).await;
    log.audit(&["refused", "user=barn-3", "the password is wrong"]).await;
    log.audit(&["refused", "user=evil\\nINFO forged", "there is no such user"]).await;
    log.audit(&["refused", "the will's topic is not allowed"]).await;
    log.audit(&["denied", "action=\"publish\"", "topic=s/other"]).await;
    let metrics = telemetry::recorder().unwrap().render();
    for series in [
        "tidegate_authentication_failures_total{reason=\"wrong_password\"}",
        "tidegate_authentication_failures_total{reason=\"unknown_user\"}",
        "tidegate_denied_total{action=\"publish\"}",
        "tidegate_denied_total{action=\"will\"}",
    ] {
        assert!(metrics.contains(series), "{series} is missing from\n{metrics}");
    }
    let debug = format!("{:?} {:?}", policy(), house.access);
    let (log, hash) = (log.text(), stored());
    let hash = hash.expose().rsplit('$').next().unwrap().to_owned();
    for secret in [SECRET, WRONG, payload, &hash, "argon2id$"] {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("debug", &debug)] {
            assert!(!text.contains(secret), "{secret} is in the {place}");
        }
    }
    assert!(!log.lines().any(|line| line.starts_with("INFO forged")));
    for name in ["barn-3", "127.0.0.1"] {
        assert!(!metrics.contains(name), "{name} is a label");
    }
}

/// A connection from `from`, which sends `bytes` and waits for the door to close it.
async fn send_and_be_closed(from: [u8; 4], port: u16, bytes: &[u8]) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let _ = timeout(LIMIT, stream.read_to_end(&mut vec![])).await.unwrap();
}

#[tokio::test]
async fn five_devices_in_error_before_connect_at_five_addresses_are_five_lines() {
    let house = House::open(policy()).await;
    let addresses = (61..66).map(|last| [127, 0, 0, last]);
    for address in addresses.clone().chain(addresses.clone()) {
        // PINGREQ in place of CONNECT, and a packet that is longer than any.
        send_and_be_closed(address, house.open, &[0xc0, 0]).await;
        send_and_be_closed(address, house.open, &[0x10, 0xff, 0xff, 0xff, 0x7f]).await;
    }
    for address in addresses {
        let peer = format!("peer=127.0.0.{}:", address[3]);
        let lines = Log::get().lines(&["WARN", &peer, "no CONNECT"], 1).await;
        assert!(lines.len() == 1 && lines[0].contains("said once for this address"), "{lines:?}");
        let lines = Log::get().lines(&["WARN", &peer, "[limits] packet_bytes"], 2).await;
        assert!(lines[0].contains("times=1") && lines[1].contains("times=2"), "{lines:?}");
    }
}

#[tokio::test]
async fn two_devices_with_one_client_id_are_told_of_with_both_addresses_and_not_with_every_turn() {
    let house = House::open(policy()).await;
    let mut clients = vec![];
    for turn in 0..10 {
        let from = [127, 0, 0, 71 + turn % 2];
        clients.push(Client::connect_from(from, house.open, &nobody(5, "twin")).await);
    }
    let lines = Log::get().lines(&["WARN", "client=twin", "take it from each other"], 2).await;
    assert_eq!(lines.len(), 2, "at 4 and at 8: {lines:?}");
    for (line, count) in lines.iter().zip(["count=4", "count=8"]) {
        let has = |word: &str| line.contains(word);
        assert!(has(count) && has("peer=127.0.0.71:") && has("before=127.0.0.72:"), "{line}");
    }
}

/// Publishes on the gateway's own topics with every quality of service, behind another, and gives
/// what came back.
async fn publish_forged(house: &House, hello: &Hello<'_>, version: u8) -> Vec<Vec<u8>> {
    let (mut client, code) = Client::connect(house.open, hello).await;
    assert_eq!(code, 0);
    client.send(&publish(version, 0, "tidegate/gap", 0, "forged")).await;
    client.send(&publish(version, 0, "$SYS/forged", 0, "forged")).await;
    client.send(&publish(version, QOS1, "s/open", 1, "before")).await;
    client.send(&publish(version, QOS1, "tidegate/gap", 2, "forged")).await;
    client.send(&publish(version, QOS2, "tidegate/gap", 3, "forged")).await;
    let mut answers = vec![];
    for _ in 0..3 {
        answers.push(client.packet().await);
    }
    answers
}

#[tokio::test]
async fn what_is_published_on_the_gateways_own_topics_from_outside_is_refused_told_and_not_stored() {
    let house = House::open(Policy::default()).await;
    let (mut subscriber, _) = Client::connect(house.open, &nobody(4, "reads")).await;
    let filters = [text("tidegate/#"), vec![1], text("$SYS/forged"), vec![1], text("seen"), vec![1]];
    subscriber.send(&packet(0x82, &[&[0, 1], &filters.concat()])).await;
    assert_eq!(subscriber.packet().await, [0x90, 5, 0, 1, 1, 1, 1], "subscribing stays as it is");

    let v5 = publish_forged(&house, &nobody(5, "forger-5"), 5).await;
    assert_eq!(v5, [vec![0x40, 2, 0, 1], vec![0x40, 3, 0, 2, 0x87], vec![0x50, 3, 0, 3, 0x87]]);
    // MQTT 3.1.1 has no word for it but the connection's end.
    let v311 = publish_forged(&house, &nobody(4, "forger-4"), 4).await;
    assert!(v311[1..].iter().all(Vec::is_empty), "{v311:02x?}");
    // A bridge may bring what another gateway said, and must not be held up by it.
    let bridge = publish_forged(&house, &nobody(0x84, "bridge"), 4).await;
    assert_eq!(bridge, [vec![0x40, 2, 0, 1], vec![0x40, 2, 0, 2], vec![0x50, 2, 0, 3]]);
    for (version, code) in [(4, 5), (5, 0x87)] {
        let forger = Hello { will: Some("tidegate/gap"), ..nobody(version, "will") };
        assert_eq!(Client::connect(house.open, &forger).await.1, code);
    }
    // By default mosquitto's bridges say there whether they are connected.
    let bridge = Hello { will: Some("$SYS/broker/connection/barn.home/state"), ..nobody(0x84, "bridge") };
    assert_eq!(Client::connect(house.open, &bridge).await.1, 0);

    for client in ["client=forger-5", "client=forger-4", "client=bridge"] {
        let words = [client, "denied", "action=\"publish\"", "topic=tidegate/gap", "no rule opens tidegate/"];
        Log::get().audit(&words).await;
    }
    let (mut last, _) = Client::connect(house.open, &nobody(5, "last")).await;
    last.send(&publish(5, QOS1, "seen", 1, "last")).await;
    assert_eq!(last.packet().await[..2], [0x40, 2]);
    assert_eq!(subscriber.packet().await[4..8], *b"seen", "nothing came before it");
    last.send(&publish(5, QOS1, "s/open", 2, "after")).await;
    last.packet().await;
    // Of 3.1.1's what was read with the refused ones may be lost with the connection: it was not
    // acknowledged then.
    let mut records =
        house.records_until(|records| records.last().is_some_and(|last| last == "s/open after")).await;
    records.retain(|record| !["s/open before", "seen last"].contains(&record.as_str()));
    assert_eq!(records, ["s/open after"]);
}

/// Topic and payload of the next message, and whether it comes as a retained one.
async fn figure(client: &mut Client) -> (String, String, bool) {
    let packet = client.packet().await;
    assert_eq!(packet[0] & 0xf6, 0x30, "QoS 0: {packet:02x?}");
    let (topic, payload) = packet[4..].split_at(usize::from(packet[3]));
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(topic), text(payload), packet[0] & 1 != 0)
}

async fn subscribe(client: &mut Client, filter: &str) -> u8 {
    client.send(&packet(0x82, &[&[0, 1], &text(filter), &[0]])).await;
    client.packet().await[4]
}

#[tokio::test]
async fn a_health_check_finds_the_gateways_figures_below_sys_and_gets_them_anew_while_it_looks() {
    let house = House::open(Policy::default()).await;
    let (mut device, _) = Client::connect(house.open, &nobody(5, "device")).await;
    device.send(&publish(5, QOS1, "s/open", 1, "x")).await;
    device.packet().await;
    let (mut all, _) = Client::connect(house.open, &nobody(4, "all")).await;
    assert_eq!(subscribe(&mut all, "#").await, 0);
    let (mut check, _) = Client::connect(house.open, &nobody(4, "check")).await;
    assert_eq!(subscribe(&mut check, "$SYS/#").await, 0);
    let mut found = std::collections::BTreeMap::new();
    for _ in 0..12 {
        let (topic, value, is_retained) = figure(&mut check).await;
        assert!(is_retained, "{topic}");
        found.insert(topic, value);
    }
    let of = |name: &str| found.get(&format!("$SYS/broker/{name}")).map(String::as_str);
    assert!(of("version").is_some_and(|version| version.starts_with("tidegate version 0.")), "{found:?}");
    assert!(of("uptime").is_some_and(|uptime| uptime.ends_with(" seconds")), "{found:?}");
    for name in ["clients/connected", "clients/total"] {
        assert_eq!(of(name), Some("3"), "{name}: {found:?}");
    }
    assert_eq!((of("clients/disconnected"), of("publish/messages/received")), (Some("0"), Some("1")));
    // CONNECT, PUBLISH; CONNECT, SUBSCRIBE; CONNECT, and what is under way.
    let received: u64 = of("messages/received").unwrap().parse().unwrap();
    assert!((5..=6).contains(&received), "{found:?}");
    for name in ["messages/sent", "publish/messages/sent", "subscriptions/count", "retained messages/count"] {
        assert!(of(name).is_some_and(|n| n.parse::<u64>().is_ok()), "{name}: {found:?}");
    }
    // Anew, and not as retained ones, for it subscribes already.
    let (mut uptime, mut anew) = (None, vec![]);
    while uptime.is_none() {
        let (topic, value, is_retained) = figure(&mut check).await;
        assert!(!is_retained, "{topic}");
        uptime = (topic == "$SYS/broker/uptime").then_some(value);
        anew.push(topic);
    }
    assert!(uptime.as_deref() != of("uptime"), "{uptime:?}");
    // A wildcard in the first level takes none of them.
    device.send(&publish(5, QOS1, "s/open", 2, "last")).await;
    assert_eq!(figure(&mut all).await.0, "s/open");

    // The access rules hold as for any other topic.
    let house = House::open(policy()).await;
    let mut barn = house.user(&hello(4, "barn-3", SECRET)).await;
    assert_eq!(subscribe(&mut barn, "$SYS/broker/uptime").await, 0x80);
}

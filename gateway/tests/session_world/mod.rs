//! A door with the real store behind it that stops, is killed and comes back, and a client of a few
//! bytes by hand for each identity.
//!
//! ```text
//!   Client ──TCP──▶ ingest::run ─▶ Store (its thread) ─▶ SimulatedDisk
//!   World: stop, kill, start; the clock is ahead by as much as it says
//! ```
//! The disk is one in memory, as thousands of restarts would wear a real one. A kill is what
//! SIGKILL is: nothing is written from then on, and no connection is told. The clock stands still
//! but for [`World::pass`].
#![allow(dead_code, reason = "each file of tests uses its part of it")]

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    thread::JoinHandle,
    time::Duration,
};

use tidegate::{
    access::{Access, Acl, ClientIds, Policy, Stored, User, Users},
    clock,
    ingest::{self, ListenerSettings, Payload, Route, Settings},
    mqtt::Password,
    store::{self, Store},
};
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle as Task,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    client::{self, Client, LIMIT, Will, text},
    simulated_disk::SimulatedDisk,
};

pub const UPLINK: &str = "cloud";
/// Who may come, each with this password. All may use any client id.
pub const OWNERS: [&str; 2] = ["one", "two"];
const SECRET: &str = "correct-horse-battery";
const ACL: &str = r##"[[rule]]
who = "*"
publish = ["#"]
subscribe = ["#"]
"##;

/// The gateway between its start and its end.
struct Life {
    store: Store,
    committer: JoinHandle<()>,
    port: u16,
    shutdown: CancellationToken,
    door: Task<()>,
}

pub struct World {
    disk: SimulatedDisk,
    settings: Settings,
    life: Option<Life>,
    ahead_ms: u64,
    /// The clock is one for all.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::const_new(());

/// A CONNECT.
#[derive(Debug, Clone)]
pub struct Hello {
    pub version: u8,
    pub owner: &'static str,
    pub id: String,
    pub clean: bool,
    /// MQTT 5.
    pub expiry_s: u32,
    pub will: Option<Will>,
}

impl Hello {
    pub fn new(version: u8, owner: &'static str, id: &str) -> Self {
        Hello { version, owner, id: id.into(), clean: false, expiry_s: 3600, will: None }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut flags = 0xc0 | u8::from(self.clean) << 1;
        let mut parts = vec![text(&self.id)];
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
            if self.version == 5 {
                parts.push([&[will.properties.len() as u8], &will.properties[..]].concat());
            }
            parts.extend([text(&will.topic), text(&will.payload)]);
        }
        parts.extend([text(self.owner), text(SECRET)]);
        let expiry = [&[0x11][..], &self.expiry_s.to_be_bytes()].concat();
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        client::connect(self.version, flags, 0, &expiry, &parts)
    }
}

/// All users, made once: what their password's hash costs is paid once as well.
fn access() -> Arc<Access> {
    static ACCESS: OnceLock<Arc<Access>> = OnceLock::new();
    let make = || {
        let stored = Stored::make(&Password::new(SECRET.as_bytes())).unwrap();
        let acl = Acl::parse(ACL, Path::new("acl.toml")).unwrap();
        let mut users = Users::default();
        for name in OWNERS {
            let password = Some(stored.clone());
            users.add(User { name: name.into(), password, client_ids: ClientIds::Any, roles: vec![] });
        }
        Arc::new(Access::new(Policy { users: Some(users), acl: Some(acl) }))
    };
    ACCESS.get_or_init(make).clone()
}

impl World {
    pub async fn open(seed: u64) -> Self {
        Self::with(seed, Settings::default()).await
    }

    pub async fn with(seed: u64, settings: Settings) -> Self {
        let route =
            Route { filter: "s/#".into(), payload: Payload::Opaque, urgent: false, device_level: None };
        let settings = Settings { routes: vec![route], access: access(), ..settings };
        let turn = TURN.lock().await;
        fail::cfg("bus-tick", "return(2)").unwrap();
        let disk = SimulatedDisk::new(seed);
        let mut world = World { disk, settings, life: None, ahead_ms: 0, _turn: turn };
        world.pass(0);
        world.start().await;
        world
    }

    /// So many milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        self.ahead_ms += ms;
        fail::cfg("clock-ahead", &format!("return({})", self.ahead_ms)).unwrap();
    }

    pub async fn start(&mut self) {
        let store_settings = store::Settings {
            segment_bytes: 1 << 20,
            dead_letters_max_bytes: 1 << 20,
            ..store::Settings::new(Path::new("/simulated"))
        };
        let uplinks = [UPLINK.to_owned()];
        let opened = Store::open_stepwise(self.disk.folder(), store_settings, &uplinks, clock::now());
        let (store, committer) = opened.unwrap();
        let committer = std::thread::spawn(move || committer.run());
        let mut listener = ListenerSettings::new("127.0.0.1:0".parse().unwrap());
        listener.anonymous = false;
        let bound = ingest::bind(&listener).await.unwrap();
        let port = bound.local_addr().port();
        let shutdown = CancellationToken::new();
        let door =
            tokio::spawn(ingest::run(vec![bound], (&store).into(), self.settings.clone(), shutdown.clone()));
        self.life = Some(Life { store, committer, port, shutdown, door });
        // Who is let in finds all that was kept taken up.
        let probe = Hello { clean: true, expiry_s: 0, ..Hello::new(5, OWNERS[0], "probe") };
        self.connect(&probe).await.leave().await;
    }

    /// Ends as SIGTERM does, with these clients connected.
    pub async fn stop(&mut self, clients: Vec<Client>) {
        let Life { store, committer, shutdown, door, .. } = self.life.take().unwrap();
        shutdown.cancel();
        for mut client in clients {
            while client.next().await.is_some() {}
        }
        timeout(LIMIT, door).await.unwrap().unwrap();
        store.close();
        committer.join().unwrap();
    }

    /// Ends as SIGKILL does, with these clients connected.
    pub async fn kill(&mut self, clients: Vec<Client>) {
        let Life { store, committer, door, shutdown, .. } = self.life.take().unwrap();
        store.cut_power();
        // The connections end as well, but what they would write reaches nothing.
        shutdown.cancel();
        drop(clients);
        store.crash();
        timeout(LIMIT, door).await.unwrap().unwrap();
        committer.join().unwrap();
    }

    /// The bus has looked after what was over by now: a will that is due later than all of that is
    /// published, and another one after it.
    pub async fn ticked(&mut self) {
        for _ in 0..2 {
            let before = self.stored().len();
            let will = Will { properties: vec![0x18, 0, 0, 0, 1], ..Will::new("s/tick", "tick") };
            let hello = Hello { will: Some(will), ..Hello::new(5, OWNERS[0], "tick") };
            let mut client = self.connect(&hello).await;
            client.send(&[0xe0, 1, 4]).await;
            assert_eq!(client.next().await, None);
            self.pass(1001);
            let tick = async {
                while self.stored().len() == before {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(LIMIT, tick).await.expect("the bus ticks");
        }
    }

    pub fn store(&self) -> &Store {
        &self.life.as_ref().unwrap().store
    }

    /// Connects, and gives the client with the code of its CONNACK.
    pub async fn try_connect(&self, hello: &Hello) -> (Client, u8) {
        let mut client = Client::dial(self.life.as_ref().unwrap().port, hello.version).await;
        client.send(&hello.bytes()).await;
        let connack = client.packet().await;
        assert_eq!(connack.first, 0x20, "{connack:02x?}");
        client.session_present = connack.body[0] == 1;
        let code = connack.body[1];
        client.connack = connack.body;
        (client, code)
    }

    pub async fn connect(&self, hello: &Hello) -> Client {
        let (client, code) = self.try_connect(hello).await;
        assert_eq!(code, 0, "{hello:?}");
        client
    }

    /// Payloads of all records that a route stored, in order.
    pub fn stored(&self) -> Vec<String> {
        let view = self.store().view();
        let mut payloads = vec![];
        let (mut at, end) = (view.begin().unwrap().offset, view.end().offset);
        while at < end {
            let scan = view.scan(at, None, 64 * 1024).unwrap();
            for block in &scan.blocks {
                let records = block.records_from(at).filter(|(_, record)| !record.local);
                payloads
                    .extend(records.map(|(_, record)| String::from_utf8_lossy(record.payload).into_owned()));
            }
            at = scan.next.offset;
        }
        payloads
    }
}

//! Sessions against a reference: whatever clients do, and whenever the gateway is stopped or
//! killed, what they were promised holds.
//!
//! Clients of both versions and two owners connect, subscribe, publish with QoS 0 to 2, leave, are
//! lost and have wills, with a door and a store that are real, over a disk in memory; time passes
//! when an action says so. The reference is the book of `session_reference`; the actions are chosen
//! and shrunk by proptest, so a failure is shown as the shortest list that fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "conformance/client.rs"]
#[allow(dead_code, reason = "each file of tests uses its part of it")]
mod client;
mod session_reference;
mod session_world;
#[allow(unused_imports, reason = "each file of tests uses its part of it")]
mod simulated_disk;

use std::{collections::BTreeMap, process::Command, time::Duration};

use client::{Client, DUP, Got, PUBACK, PUBCOMP, PUBREC, PUBREL, QOS1, QOS2, RETAIN, Will, ack, publish};
use proptest::prelude::*;
use session_reference::{Reference, Session, There, Will as KeptWill};
use session_world::{Hello, OWNERS, World};

const IDS: [&str; 2] = ["a", "b"];
/// "Client identifier not valid" on MQTT 5, and "identifier rejected" on MQTT 3.1.1.
const FOREIGN: [u8; 2] = [0x85, 0x02];
const LIMIT: Duration = Duration::from_secs(5);
/// Processes that run the cases at once: each waits for about half of its time.
const PROCESSES: u32 = 4;
/// Tells such a process how many cases are its own.
const SHARE: &str = "TEST_SESSION_SHARE";

#[derive(Debug, Clone)]
enum Action {
    Connect {
        id: usize,
        owner: usize,
        version: u8,
        clean: bool,
        expiry_s: u32,
        will_delay_s: Option<u8>,
    },
    Subscribe {
        id: usize,
        qos: u8,
    },
    /// QoS 0, 1, or 2 to the end.
    Publish {
        id: usize,
        qos: u8,
    },
    /// QoS 2 up to PUBREC.
    Begin {
        id: usize,
    },
    /// Sends again what it began, and ends it.
    Finish {
        id: usize,
    },
    Retain {
        id: usize,
    },
    /// Reads what it is owed.
    Take {
        id: usize,
    },
    Leave {
        id: usize,
    },
    Lose {
        id: usize,
    },
    Pass {
        ms: u64,
    },
    Restart {
        is_kill: bool,
        down_ms: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let id = || 0..IDS.len();
    let connect = (
        id(),
        prop_oneof![4 => Just(0usize), 1 => Just(1)],
        prop_oneof![Just(4u8), Just(5)],
        prop::bool::weighted(0.25),
        prop_oneof![Just(0u32), Just(15), Just(45), Just(u32::MAX)],
        prop_oneof![3 => Just(None), 1 => Just(Some(0u8)), 1 => Just(Some(25)), 1 => Just(Some(65))],
    );
    prop_oneof![
        8 => connect.prop_map(|(id, owner, version, clean, expiry_s, will_delay_s)| {
            Action::Connect { id, owner, version, clean, expiry_s, will_delay_s }
        }),
        3 => (id(), 0..3u8).prop_map(|(id, qos)| Action::Subscribe { id, qos }),
        3 => (id(), 0..3u8).prop_map(|(id, qos)| Action::Publish { id, qos }),
        4 => id().prop_map(|id| Action::Begin { id }),
        2 => id().prop_map(|id| Action::Finish { id }),
        1 => id().prop_map(|id| Action::Retain { id }),
        2 => id().prop_map(|id| Action::Take { id }),
        2 => id().prop_map(|id| Action::Leave { id }),
        2 => id().prop_map(|id| Action::Lose { id }),
        2 => prop_oneof![Just(10_000u64), Just(30_000)].prop_map(|ms| Action::Pass { ms }),
        4 => (any::<bool>(), prop_oneof![3 => Just(0u64), 1 => Just(20_000)])
            .prop_map(|(is_kill, down_ms)| Action::Restart { is_kill, down_ms }),
    ]
}

struct Case {
    world: World,
    book: Reference,
    clients: BTreeMap<&'static str, Client>,
    /// Messages of QoS 2 that each session was given, to the end.
    given: BTreeMap<&'static str, Vec<String>>,
}

impl Case {
    async fn carry_out(&mut self, action: &Action) {
        match *action {
            Action::Connect { id, owner, version, clean, expiry_s, will_delay_s } => {
                let expiry_s = match (version, clean) {
                    (4, true) => 0,
                    (4, false) => u32::MAX,
                    _ => expiry_s,
                };
                let hello = Hello { clean, expiry_s, ..Hello::new(version, OWNERS[owner], IDS[id]) };
                self.connect(IDS[id], hello, will_delay_s.map(|s| if version == 4 { 0 } else { s })).await;
            }
            Action::Subscribe { id, qos } => self.subscribe(IDS[id], qos).await,
            Action::Publish { id, qos } => self.publish(IDS[id], qos).await,
            Action::Begin { id } => self.begin(IDS[id]).await,
            Action::Finish { id } => self.finish(IDS[id]).await,
            Action::Retain { id } => self.retain(IDS[id]).await,
            Action::Take { id } => self.take(IDS[id]).await,
            Action::Leave { id } => {
                if let Some(client) = self.clients.remove(IDS[id]) {
                    leave(client).await;
                    self.book.left(IDS[id]);
                }
            }
            Action::Lose { id } => {
                if let Some(client) = self.clients.remove(IDS[id]) {
                    client.lose().await;
                    self.lost(IDS[id]).await;
                }
            }
            Action::Pass { ms } => {
                self.world.pass(ms);
                self.book.now_ms += ms;
                self.publish_due().await;
            }
            Action::Restart { is_kill, down_ms } => self.restart(is_kill, down_ms).await,
        }
    }

    /// Wills whose time has come are published by now.
    async fn publish_due(&mut self) {
        for will in self.book.publish_due() {
            self.wait_stored(&will).await;
        }
    }

    async fn lost(&mut self, id: &'static str) {
        if let Some(will) = self.book.lost(id) {
            self.wait_stored(&will).await;
        }
    }

    async fn connect(&mut self, id: &'static str, mut hello: Hello, will_delay_s: Option<u8>) {
        let there = self.book.session(id);
        let owner = self.book.sessions.get(id).map(|session| session.owner);
        let is_connected = self.clients.contains_key(id);
        let will = will_delay_s.map(|seconds| {
            let payload = self.book.payload("will");
            let properties = if hello.version == 5 { vec![0x18, 0, 0, 0, seconds] } else { vec![] };
            Will { properties, ..Will::new("s/will", &payload) }
        });
        hello.will = will.clone();
        let (client, code) = self.world.try_connect(&hello).await;
        let is_foreign = owner.is_some_and(|owner| owner != hello.owner);
        if code != 0 {
            assert!(FOREIGN.contains(&code) && is_foreign && there != There::No, "{code:#x} for {hello:?}");
            return;
        }
        assert!(!is_foreign || there != There::Yes, "{hello:?} gets what is {owner:?}'s");
        if is_connected {
            self.clients.remove(id);
            // A session that goes on takes a will that waits along.
            if let Some(will) = self.book.lost(id) {
                self.wait_stored(&will).await;
            }
        }
        let there = if is_connected { self.book.session(id) } else { there };
        let may_be_present = !hello.clean && there != There::No;
        let must_be_present = !hello.clean && there == There::Yes;
        assert!(client.session_present <= may_be_present, "a session that is over is present: {hello:?}");
        assert!(client.session_present >= must_be_present, "a session is gone: {hello:?}");
        self.book.back(id, client.session_present);
        let session =
            self.book.sessions.entry(id).or_insert_with(|| Session::new(hello.owner, hello.expiry_s));
        (session.expiry_s, session.away) = (hello.expiry_s, None);
        if let Some((will, seconds)) = will.zip(will_delay_s) {
            let delay_ms = u64::from(u32::from(seconds).min(hello.expiry_s)) * 1000;
            let (payload, due_ms) = (will.payload, None);
            let will = KeptWill { payload, delay_ms, due_ms, ends_with_session: false, is_unsure: false };
            self.book.wills.insert(id, will);
        }
        self.clients.insert(id, client);
    }

    async fn subscribe(&mut self, id: &'static str, qos: u8) {
        let Some(client) = self.clients.get_mut(id) else { return };
        assert_eq!(client.subscribe("s/m", qos).await, qos);
        self.book.sessions.get_mut(id).unwrap().subscribed = Some(qos);
    }

    async fn publish(&mut self, id: &'static str, qos: u8) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let payload = self.book.payload("m");
        // Packet ids that are in use lie below.
        let packet_id = 100;
        client.send(&publish(client.version, qos << 1, "s/m", packet_id, &[], &payload)).await;
        match qos {
            // Nothing acknowledges it, but it is stored like any other.
            0 => self.wait_stored(&payload).await,
            1 => wait_ack(client, PUBACK, packet_id).await,
            _ => {
                wait_ack(client, PUBREC, packet_id).await;
                client.send(&ack(PUBREL, packet_id)).await;
                wait_ack(client, PUBCOMP, packet_id).await;
            }
        }
        self.book.wants(&payload, 1, 1);
        self.book.acknowledged(&payload, qos);
    }

    async fn begin(&mut self, id: &'static str) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let payload = self.book.payload("m");
        let in_use = &mut self.book.sessions.get_mut(id).unwrap().in_use;
        let packet_id = (1..).find(|packet_id| !in_use.contains_key(packet_id)).unwrap();
        in_use.insert(packet_id, payload.clone());
        client.send(&publish(client.version, QOS2, "s/m", packet_id, &[], &payload)).await;
        wait_ack(client, PUBREC, packet_id).await;
        self.book.wants(&payload, 1, 1);
        self.book.acknowledged(&payload, 2);
    }

    async fn finish(&mut self, id: &'static str) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let in_use = std::mem::take(&mut self.book.sessions.get_mut(id).unwrap().in_use);
        for (packet_id, payload) in in_use {
            client.send(&publish(client.version, QOS2 | DUP, "s/m", packet_id, &[], &payload)).await;
            wait_ack(client, PUBREC, packet_id).await;
            client.send(&ack(PUBREL, packet_id)).await;
            wait_ack(client, PUBCOMP, packet_id).await;
        }
    }

    async fn retain(&mut self, id: &'static str) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let payload = self.book.payload("r");
        client.send(&publish(client.version, QOS1 | RETAIN, "r", 101, &[], &payload)).await;
        wait_ack(client, PUBACK, 101).await;
        self.book.retained = Some(payload);
    }

    /// All that the client is owed comes, and nothing that it is not.
    async fn take(&mut self, id: &'static str) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let session = self.book.sessions.get_mut(id).unwrap();
        if session.subscribed.is_none() {
            return;
        }
        while !session.owed.is_empty() {
            let Some(got) = take(client).await else { continue };
            let is_owed = session.owed.remove(&got.payload).is_some();
            assert!(is_owed || session.may_come.contains(&got.payload), "{got:?} is not owed: {session:?}");
            if got.qos == 2 {
                let given = self.given.entry(id).or_default();
                assert!(!given.contains(&got.payload), "{got:?} is given twice");
                given.push(got.payload);
            } else if got.qos == 1 {
                session.may_come.insert(got.payload);
            }
        }
    }

    async fn restart(&mut self, is_kill: bool, down_ms: u64) {
        let clients = std::mem::take(&mut self.clients).into_values().collect();
        if is_kill {
            self.world.kill(clients).await;
        } else {
            self.world.stop(clients).await;
        }
        self.world.pass(down_ms);
        self.book.restarted(is_kill, down_ms);
        self.world.start().await;
        self.publish_due().await;
        self.check_retained().await;
    }

    /// Whoever subscribes is given what was retained last.
    async fn check_retained(&self) {
        let Some(retained) = &self.book.retained else { return };
        let hello = Hello { clean: true, expiry_s: 0, ..Hello::new(5, OWNERS[0], "late") };
        let mut late = self.world.connect(&hello).await;
        late.subscribe("r", 0).await;
        assert_eq!(late.take().await.payload, *retained);
        late.leave().await;
    }

    async fn wait_stored(&self, payload: &str) {
        let is_stored = async {
            while !self.world.stored().iter().any(|stored| stored == payload) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, is_stored).await.unwrap_or_else(|_| panic!("{payload} is never stored"));
    }

    /// Everything that is still to come has come, and nothing else.
    async fn check(mut self) {
        for id in IDS {
            self.take(id).await;
            if let Some(client) = self.clients.remove(id) {
                leave(client).await;
                self.book.left(id);
            }
        }
        self.carry_out(&Action::Pass { ms: 100_000 }).await;
        let wanted = std::mem::take(&mut self.book.stored);
        for (payload, times) in &wanted {
            if times.min > 0 {
                self.wait_stored(payload).await;
            }
        }
        self.world.ticked().await;
        let stored = self.world.stored();
        for (payload, times) in &wanted {
            let count = stored.iter().filter(|stored| *stored == payload).count();
            // Each kill may come between a will's record and the file's knowing of it.
            let again = if payload.starts_with("will") && times.max > 0 { self.book.kills } else { 0 };
            let is_right = (times.min..=times.max + again).contains(&count);
            assert!(is_right, "{payload} is stored {count} times, not {times:?}");
        }
        let known = |payload: &String| wanted.contains_key(payload) || payload == "tick";
        assert!(stored.iter().all(known), "{stored:?}, of which not all of {wanted:?}");
        self.check_retained().await;
        self.world.stop(vec![]).await;
    }
}

/// DISCONNECT, and everything that comes until the door closes.
async fn leave(mut client: Client) {
    client.send(&[0xe0, 0]).await;
    while client.next().await.is_some() {}
}

/// Waits for an acknowledgement; its reason is success.
async fn wait_ack(client: &mut Client, first: u8, packet_id: u16) {
    let packet = client.wait(first >> 4).await;
    assert_eq!(packet.body[..2], packet_id.to_be_bytes(), "{packet:02x?}");
    assert!(packet.body.get(2).is_none_or(|reason| *reason == 0 || *reason == 0x10), "{packet:02x?}");
}

/// The next message, acknowledged to the end; `None` for the rest of one from before.
async fn take(client: &mut Client) -> Option<Got> {
    let packet = client.packet().await;
    if packet.first >> 4 == PUBREL >> 4 {
        client.send(&ack(PUBCOMP, u16::from_be_bytes([packet.body[0], packet.body[1]]))).await;
        return None;
    }
    let got = Got::read(client.version, &packet);
    match got.qos {
        1 => client.send(&ack(PUBACK, got.id)).await,
        2 => {
            client.send(&ack(PUBREC, got.id)).await;
            let id = got.id.to_be_bytes();
            while client.wait(6).await.body[..2] != id {}
            client.send(&ack(PUBCOMP, got.id)).await;
        }
        _ => {}
    }
    Some(got)
}

/// `TEST_SESSION_CASES` sets how many lists of actions.
fn cases() -> u32 {
    std::env::var("TEST_SESSION_CASES").map_or(2000, |text| text.parse().expect("a number"))
}

/// The clock that passes here is one for all of a process, so the cases are shared by several of
/// them.
#[test]
fn whatever_clients_do_and_whenever_the_gateway_ends_what_they_were_promised_holds() {
    if let Ok(share) = std::env::var(SHARE) {
        return run(share.parse().unwrap());
    }
    let share = cases().div_ceil(PROCESSES).to_string();
    let name = std::thread::current().name().unwrap().to_owned();
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", &name]).env(SHARE, &share);
                let output = command.output().unwrap();
                let stdout = String::from_utf8_lossy(&output.stdout);
                assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}");
            });
        }
    });
}

fn run(cases: u32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 100,
        max_shrink_time: 120_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(seed: u64, actions in prop::collection::vec(action(), 1..16))| {
        runtime.block_on(async {
            let world = World::open(seed).await;
            let (book, clients) = (Reference::default(), BTreeMap::new());
            let mut case = Case { world, book, clients, given: BTreeMap::new() };
            for action in &actions {
                case.carry_out(action).await;
            }
            case.check().await;
        });
    });
}

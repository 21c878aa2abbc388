//! What clients were promised before the gateway was killed or stopped holds after it: whose a
//! client id is, which packet ids are in use, and wills.

use std::{collections::BTreeSet, fs, sync::Arc, time::Duration};

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tidegate_tests::{
    client::Client,
    clock::{holds_for, now, wait_for},
    codec::{self, Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    oracle::ID_PROPERTY,
    program,
    upstream::{Inbox, Upstream},
};

/// Users that may use any client id, with this password.
const OWNERS: [&str; 2] = ["one", "two"];
const PASSWORD: &str = "correct-horse-battery";
const ACL: &str = "[[rule]]\nwho = \"*\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n";
/// "Client Identifier not valid": MQTT 5.0 section 3.2.2.2.
const FOREIGN: u8 = 0x85;
/// For so long after a start a client may come back before its will is published.
const RETURN_GRACE: Duration = Duration::from_secs(30);
/// Longest wait for something to arrive upstream.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
enum End {
    Kill,
    Stop,
}

/// A gateway that knows its clients, and its cloud.
struct Site {
    gateway: Gateway,
    inbox: Arc<Mutex<Inbox>>,
    _upstream: Upstream,
}

impl Site {
    async fn start() -> Self {
        let inbox = Arc::<Mutex<Inbox>>::default();
        let upstream = Upstream::start(inbox.clone()).await;
        let access = "users = \"users.toml\"\nacl = \"acl.toml\"\n".into();
        let uplink = Uplink::new(&upstream.url(), Version::V5);
        let setup = Setup { access, listener: "anonymous = false\n".into(), ..Setup::new(uplink) };
        let mut gateway = Gateway::prepare(setup);
        let in_folder = |name| gateway.config_path().with_file_name(name);
        fs::write(in_folder("acl.toml"), ACL).expect("the folder is writable");
        fs::write(in_folder("password"), PASSWORD).expect("the folder is writable");
        let (users, password) = (in_folder("users.toml"), in_folder("password"));
        for owner in OWNERS {
            let mut add = vec!["users".as_ref(), "add".as_ref(), owner.as_ref()];
            add.extend(["--client-id".as_ref(), "any".as_ref(), "--file".as_ref(), users.as_os_str()]);
            add.extend(["--password-file".as_ref(), password.as_os_str()]);
            let added = program::run(add);
            assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
        }
        gateway.restart();
        Self { gateway, inbox, _upstream: upstream }
    }

    fn end_and_start(&mut self, end: End) {
        match end {
            End::Kill => self.gateway.kill(),
            End::Stop => assert!(self.gateway.terminate().0.success(), "{}", self.gateway.log()),
        }
        self.gateway.restart();
    }

    /// Connects a client that continues its session; gives the reason code of a refusal.
    async fn try_connect(&self, hello: &Hello<'_>) -> Result<Client, u8> {
        let mut client =
            Client::open(self.gateway.mqtt, Version::V5).await.expect("the gateway can be reached");
        hello.put(&mut client);
        client.flush().await.expect("the connection is open");
        match client.next().await {
            Packet::ConnAck { reason: 0, session_present, .. } => {
                client.session_present = session_present;
                Ok(client)
            }
            Packet::ConnAck { reason, .. } => Err(reason),
            other => panic!("not a CONNACK: {other:?}"),
        }
    }

    async fn connect(&self, hello: &Hello<'_>) -> Client {
        self.try_connect(hello).await.expect("it is let in")
    }

    /// How many events of this payload have arrived upstream: the uplink may send one again.
    fn arrived(&self, payload: &str) -> usize {
        let inbox = self.inbox.lock();
        let events = inbox.messages.iter().filter(|message| message.payload == payload);
        events.map(|event| event.user_property(ID_PROPERTY)).collect::<BTreeSet<_>>().len()
    }

    async fn wait_arrived(&self, payload: &str) {
        wait_for(payload, ARRIVAL_LIMIT, || self.arrived(payload) > 0).await;
    }
}

/// A CONNECT of MQTT 5.
#[derive(Clone, Copy)]
struct Hello<'a> {
    owner: &'a str,
    id: &'a str,
    is_clean: bool,
    expiry_s: u32,
    /// The payload of a will of QoS 1.
    will: Option<&'a str>,
}

impl<'a> Hello<'a> {
    fn new(owner: &'a str, id: &'a str) -> Self {
        Self { owner, id, is_clean: false, expiry_s: 3600, will: None }
    }

    fn put(&self, client: &mut Client) {
        let mut body = BytesMut::new();
        codec::put_text(&mut body, "MQTT");
        let will = if self.will.is_some() { 0b0000_1100 } else { 0 };
        // User name and password, a keep-alive of a minute, Session Expiry Interval: MQTT 5.0
        // section 3.1.2.
        let clean = u8::from(self.is_clean) << 1;
        body.put_slice(&[5, 0b1100_0000 | will | clean, 0, 60, 5, 0x11]);
        body.put_u32(self.expiry_s);
        codec::put_text(&mut body, self.id);
        if let Some(payload) = self.will {
            body.put_u8(0);
            codec::put_text(&mut body, "wills");
            codec::put_text(&mut body, payload);
        }
        codec::put_text(&mut body, self.owner);
        codec::put_text(&mut body, PASSWORD);
        codec::put_packet(&mut client.output, 0x10, &body);
    }
}

/// QoS 2 up to PUBREC.
async fn begin(client: &mut Client, packet_id: u16, payload: &str) {
    let payload = payload.as_bytes();
    client.put_publish(&Publish { topic: "t", payload, qos: 2, packet_id, dup: false, user_properties: &[] });
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubRec, packet_id, reason: 0 });
}

async fn release(client: &mut Client, packet_id: u16) {
    codec::put_ack(&mut client.output, Ack::PubRel, packet_id, 0);
    client.flush().await.expect("the connection is open");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubComp, packet_id, reason: 0 });
}

/// A site for each way to end, side by side: they wait for most of their time.
async fn with_each_end<F: Future<Output = ()> + Send + 'static>(promise: fn(Site, End) -> F) {
    let run = |end| tokio::spawn(async move { promise(Site::start().await, end).await });
    for (end, run) in [End::Kill, End::Stop].map(|end| (end, run(end))) {
        run.await.unwrap_or_else(|broken| panic!("{end:?}: {broken}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_is_over_after_a_restart_takes_its_packet_ids_along() {
    with_each_end(|mut site, end| async move {
        let hello = Hello { expiry_s: 2, ..Hello::new("one", "publisher") };
        let mut client = site.connect(&hello).await;
        begin(&mut client, 7, "before").await;
        site.end_and_start(end);
        // Away since the start at the latest.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut client = site.connect(&hello).await;
        assert!(!client.session_present, "its session is over");
        begin(&mut client, 7, "after").await;
        release(&mut client, 7).await;
        site.wait_arrived("after").await;
        assert_eq!((site.arrived("before"), site.arrived("after")), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_goes_on_after_a_restart_has_its_packet_ids_and_its_owner() {
    with_each_end(|mut site, end| async move {
        let hello = Hello::new("one", "publisher");
        let mut client = site.connect(&hello).await;
        begin(&mut client, 7, "once").await;
        site.end_and_start(end);
        let stranger = site.try_connect(&Hello::new("two", "publisher")).await;
        assert_eq!(stranger.err(), Some(FOREIGN), "a stranger gets the client id");
        let mut client = site.connect(&hello).await;
        assert!(client.session_present, "its session goes on");
        begin(&mut client, 7, "once").await;
        release(&mut client, 7).await;
        begin(&mut client, 7, "next").await;
        release(&mut client, 7).await;
        site.wait_arrived("next").await;
        assert_eq!((site.arrived("once"), site.arrived("next")), (1, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_session_that_a_clean_start_has_ended_does_not_come_back() {
    with_each_end(|mut site, end| async move {
        let hello = Hello::new("one", "publisher");
        drop(site.connect(&hello).await);
        let client = site.connect(&Hello { is_clean: true, expiry_s: 0, ..hello }).await;
        assert!(!client.session_present);
        site.end_and_start(end);
        let client = site.connect(&hello).await;
        assert!(!client.session_present, "CONNACK said that it was over");
        assert!(!site.gateway.log().contains("not saved in time"), "{}", site.gateway.log());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_restart_the_will_is_published_of_a_client_that_does_not_come_back_and_of_no_other() {
    with_each_end(|mut site, end| async move {
        let back = Hello { will: Some("back is gone"), ..Hello::new("one", "back") };
        let gone = Hello { will: Some("gone is gone"), ..Hello::new("one", "gone") };
        let left = Hello { will: Some("left is gone"), ..Hello::new("one", "left") };
        let clients = [site.connect(&back).await, site.connect(&gone).await];
        let mut client = site.connect(&left).await;
        // DISCONNECT takes the will along.
        codec::put_disconnect(&mut client.output);
        client.flush().await.expect("the connection is open");
        client.until_closed().await;
        site.end_and_start(end);
        drop(clients);
        let started = now();
        let _back = site.connect(&back).await;
        site.wait_arrived("gone is gone").await;
        // Less a second: the gateway was there before it was known to be.
        let waited = started.elapsed() + Duration::from_secs(1);
        assert!(waited > RETURN_GRACE, "its client had only {waited:?} to come back");
        // Those of the others would have been due by then.
        holds_for("no other will is published", Duration::from_secs(2), || {
            site.arrived("back is gone") + site.arrived("left is gone") == 0
        })
        .await;
        assert_eq!(site.arrived("gone is gone"), 1);
    })
    .await;
}

/// A store that has run for days stands at its size: what is delivered is deleted as new events
/// come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_and_retained_outlives_a_kill_where_what_is_delivered_makes_room() {
    let upstream = Upstream::start(Arc::<Mutex<Inbox>>::default()).await;
    let mut setup = Setup::new(Uplink::new(&upstream.url(), Version::V5));
    setup.store += "max_bytes = \"8 MiB\"\nsegment_bytes = \"1 MiB\"\n";
    setup.routes = vec![("z/#".into(), "opaque".into())];
    let mut gateway = Gateway::start(setup);
    let connect = |gateway: &Gateway, client_id: &'static str, clean: bool| {
        let (mqtt, version) = (gateway.mqtt, Version::V311);
        async move {
            let connect = Connect { version, client_id, clean, keep_alive_s: 60 };
            Client::connect(mqtt, &connect).await.expect("it is let in")
        }
    };
    connect(&gateway, "keeper", false).await.subscribe("q/#").await;
    for round in 0..4 {
        let text = format!("round {round}");
        let mut publisher = connect(&gateway, "publisher", true).await;
        let mut packet_id = 0;
        let mut publish = async |topic: &str, payload: &[u8], is_retained: bool| {
            packet_id = packet_id % 1000 + 1;
            let (qos, dup, user_properties) = (1, false, &[][..]);
            let publish = Publish { topic, payload, qos, packet_id, dup, user_properties };
            if is_retained {
                codec::put_retained(&mut publisher.output, Version::V311, &publish);
            } else {
                publisher.put_publish(&publish);
            }
            publisher.flush().await.expect("it is not cut off");
            assert_eq!(publisher.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
        };
        publish("kept", text.as_bytes(), true).await;
        publish("q/a", text.as_bytes(), false).await;
        let begin = now();
        while begin.elapsed() < Duration::from_millis(1500) {
            publish("z/b", &[7; 3000], false).await;
        }
        gateway.kill();
        gateway.restart();
        let mut keeper = connect(&gateway, "keeper", false).await;
        // What was acknowledged just before the kill may come again.
        while keeper.next_publish().await.payload != text {}
        let mut late = connect(&gateway, "late", true).await;
        late.subscribe("kept").await;
        assert_eq!(late.next_publish().await.payload, text, "what is retained");
    }
    let deleted = gateway.metric("tidegate_segments");
    assert!(deleted < 9.0, "segments are deleted: {deleted}");
}

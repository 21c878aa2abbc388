//! A NATS JetStream upstream, against a real nats-server: events arrive whole, in order and once in
//! the stream, whoever is killed; without a stream they wait; what the server never takes stops
//! nothing.
//!
//! How many random kills: `TEST_JETSTREAM_KILLS`, 12 if it is not set.

use std::{collections::HashSet, time::Duration};

use serde_json::json;
use tidegate_protocol::FrameWriter;
use tidegate_tests::{
    chain::{DRAIN_LIMIT, RECOVERY_LIMIT},
    client::Client,
    clock::{now, wait_for},
    codec::{Ack, Connect, Packet, Publish, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    nats::{MESSAGE_ID, Message, Nats},
    oracle::{self, Ledger, Recorder, Verdict},
    program::{self, Build},
    rng::Rng,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Longest time between a restart and the next kill.
const LIFE_MS_MAX: u64 = 800;
/// Longest time that a server stays away.
const AWAY_MS_MAX: u64 = 300;
/// A stream that remembers ids for longer than any test takes.
const WINDOW_NS: u64 = 3_600_000_000_000;

/// The set-up of a gateway whose only uplink is this server, with more lines for the uplink.
fn setup(server: &Nats, lines: &str) -> Setup {
    let table = format!(
        "[[uplink]]\nname = \"cloud\"\nurl = \"{}\"\ntopic = \"up/{{topic}}\"\n{lines}\n",
        server.url()
    );
    let nobody = Uplink::new("", Version::V5);
    Setup { uplinks: vec![], tables: table, ..Setup::new(nobody) }
}

fn create_stream(server: &Nats) {
    server.client().create_stream("EVENTS", &["up.>"], &json!({"duplicate_window": WINDOW_NS}));
}

async fn connect(gateway: &Gateway, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(gateway.mqtt, &connect).await.expect("the gateway is there")
}

/// Publishes at QoS 1, and waits for the PUBACK.
async fn publish(client: &mut Client, topic: &str, payload: &[u8], packet_id: u16) {
    let (dup, user_properties) = (false, &[][..]);
    client.put_publish(&Publish { topic, payload, qos: 1, packet_id, dup, user_properties });
    client.flush().await.expect("it is not cut off");
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
}

async fn wait_drained(gateway: &Gateway) {
    wait_for("the backlog to be gone", DRAIN_LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0)
        .await;
}

/// The oracle's word on what the stream holds once nothing is left to send.
async fn judge(gateway: &Gateway, server: &Nats, ledgers: &[Ledger]) -> Verdict {
    wait_drained(gateway).await;
    let messages = tokio::task::block_in_place(|| server.client().read_all("EVENTS"));
    let mut recorder = Recorder::new("up/");
    messages.iter().for_each(|message| recorder.record(&message.received()));
    let verdict = oracle::judge(ledgers, &recorder);
    let lost: usize = verdict.lost.values().map(Vec::len).sum();
    let Verdict { acknowledged, arrived, .. } = verdict;
    let ids: HashSet<_> = messages.iter().map(|message| message.header(MESSAGE_ID)).collect();
    let copies = messages.len() - ids.len();
    eprintln!("{acknowledged} acknowledged, {arrived} in the stream, {lost} not, {copies} copies");
    verdict.demand();
    // What a device sent twice are two events with an id each.
    assert_eq!(copies, 0, "the stream tells a copy by its id");
    verdict
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn events_arrive_in_the_stream_with_their_subjects_ids_and_headers_in_order() {
    let server = Nats::start();
    create_stream(&server);
    let gateway = Gateway::start(setup(&server, "nats = { stream = \"EVENTS\" }"));
    let mut client = connect(&gateway, "press 7").await;
    publish(&mut client, "hall 2/v1.5//temp*", b"\x00\xff", 1).await;
    publish(&mut client, "_INBOX/x", b"{}", 2).await;
    wait_drained(&gateway).await;
    let messages = server.client().read_all("EVENTS");
    let subjects: Vec<_> = messages.iter().map(|message| message.subject.as_str()).collect();
    assert_eq!(subjects, ["up.hall%202.v1%2E5.%00.temp%2A", "up._INBOX.x"]);
    assert_eq!(&messages[0].payload[..], b"\x00\xff");
    let id = messages[0].header("tidegate-id").expect("an event has an identity");
    assert!(id.starts_with("gate/"), "{id}");
    assert_eq!(messages[0].header(MESSAGE_ID), Some(&*format!("tidegate-gate-cloud/{id}")));
    assert_eq!(messages[0].header("tidegate-device"), Some("press%207"));
    assert!(messages[0].header("tidegate-received").is_some());
    assert_ne!(messages[1].header(MESSAGE_ID), messages[0].header(MESSAGE_ID));

    server.client().request("STREAM.PURGE.EVENTS", &json!("")).expect("JetStream is there");
    let devices = (0..4).map(|n| Device { count_max: 2_000, ..Device::new(&format!("d{n}"), Version::V5) });
    let ledgers = Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
    let verdict = judge(&gateway, &server, &ledgers).await;
    assert_eq!(verdict.arrived, 8_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn kills_of_the_gateway_and_of_the_server_lose_nothing_and_leave_order_and_one_copy() {
    let kills: u32 = std::env::var("TEST_JETSTREAM_KILLS").map_or(12, |text| text.parse().unwrap());
    let mut rng = Rng::from_environment("JetStream kills");
    let mut server = Nats::start();
    create_stream(&server);
    let mut gateway = Gateway::start(setup(&server, ""));
    let fleet = Fleet::start(gateway.mqtt, devices());
    for _ in 0..kills {
        let acknowledged = fleet.acknowledged();
        wait_for("acknowledgements", RECOVERY_LIMIT, || fleet.acknowledged() > acknowledged + 1000).await;
        // The moment is what is random: nothing is waited for.
        tokio::time::sleep(Duration::from_millis(rng.between(0, LIFE_MS_MAX))).await;
        let (of_server, of_gateway) = match rng.between(0, 2) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if of_server {
            server.kill();
        }
        if of_gateway {
            gateway.kill();
            gateway.restart();
        }
        if of_server {
            tokio::time::sleep(Duration::from_millis(rng.between(0, AWAY_MS_MAX))).await;
            tokio::task::block_in_place(|| server.restart());
        }
    }
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    let verdict = judge(&gateway, &server, &ledgers).await;
    assert!(verdict.acknowledged > kills as usize * 1000, "there was no load to speak of");
}

/// Every kind of device: both versions, wide and narrow windows, QoS 0, 1 and 2.
fn devices() -> Vec<Device> {
    let new = Device::new;
    vec![
        new("wide", Version::V5),
        new("old", Version::V311),
        Device { window: 1, ..new("narrow", Version::V5) },
        Device { qos: 2, window: 20, ..new("exact", Version::V5) },
        Device { qos: 0, window: 5, pause: Some(Duration::from_millis(5)), ..new("careless", Version::V5) },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_sent_again_after_a_kill_behind_the_acknowledgement_is_in_the_stream_once() {
    let server = Nats::start();
    create_stream(&server);
    let mut setup = setup(&server, "");
    setup.build = Build::WithFailpoints;
    let mut gateway = Gateway::start(setup);
    let fleet = Fleet::start(gateway.mqtt, [Device::new("d", Version::V5)]);
    for hits in 0..3 {
        gateway.kill();
        gateway.setup.environment =
            vec![("FAILPOINTS".into(), format!("uplink-after-ack={hits}*off->return"))];
        gateway.spawn();
        let status = gateway.wait_end(RECOVERY_LIMIT);
        assert!(status.code().is_none(), "ended by {status}, not by its abort");
        gateway.setup.environment.clear();
        gateway.restart();
    }
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    judge(&gateway, &server, &ledgers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_stream_events_wait_and_go_out_once_there_is_one() {
    let server = Nats::start();
    let gateway = Gateway::start(setup(&server, ""));
    let devices = ["a", "b"].map(|name| Device { count_max: 50, ..Device::new(name, Version::V5) });
    let ledgers = Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
    wait_for("a word on what to do", LIMIT, || {
        gateway.log().contains("no stream takes up.>: create one with this subject")
    })
    .await;
    assert_eq!(gateway.metric("tidegate_backlog_events"), 100.0);
    create_stream(&server);
    judge(&gateway, &server, &ledgers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_uplinks_into_one_stream_and_two_events_of_one_number_all_arrive() {
    let server = Nats::start();
    create_stream(&server);
    let lake = format!("[[uplink]]\nname = \"lake\"\nurl = \"{}\"\ntopic = \"up/{{topic}}\"", server.url());
    let gateway = Gateway::start(setup(&server, &lake));
    let mut client = connect(&gateway, "press").await;
    publish(&mut client, "reading", b"1", 1).await;
    for (packet_id, body) in [(2, [1]), (3, [2])] {
        let mut buffer = [0; 64];
        let mut frame = FrameWriter::new(&mut buffer, 1, 7, 0xdead_beef, false);
        frame.push(1000, 1, &body).expect("it fits");
        publish(&mut client, "tg/press/e", frame.finish(), packet_id).await;
    }
    wait_for("both uplinks to deliver all", DRAIN_LIMIT, || {
        gateway.metric("tidegate_delivered_events_total") == 6.0
    })
    .await;
    assert_eq!(tokio::task::block_in_place(|| server.client().count("EVENTS")), 6);
}

/// How long a full stream is watched: several times as long as an event is suspected and tried.
const FULL_FOR: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_that_is_full_blames_no_event_though_it_answers_copies_of_what_it_has() {
    let server = Nats::start();
    let full = json!({"discard": "new", "max_msgs": 6, "duplicate_window": WINDOW_NS});
    server.client().create_stream("EVENTS", &["up.>"], &full);
    let gateway = Gateway::start(setup(&server, ""));
    let devices = ["a", "b", "c"].map(|name| Device { count_max: 20, ..Device::new(name, Version::V5) });
    Fleet::start(gateway.mqtt, devices).all(LIMIT).await;
    wait_for("the stream to be full", LIMIT, || gateway.metric("tidegate_backlog_events") == 54.0).await;
    let start = now();
    while start.elapsed() < FULL_FOR {
        assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(gateway.metric("tidegate_backlog_events"), 54.0);
    server.client().update_stream("EVENTS", &["up.>"], &json!({"duplicate_window": WINDOW_NS}));
    wait_drained(&gateway).await;
    let messages = tokio::task::block_in_place(|| server.client().read_all("EVENTS"));
    let ids: HashSet<_> = messages.iter().map(|message| message.header(MESSAGE_ID)).collect();
    // The order is not looked at: a later event of a device may have shown that there is room
    // again.
    assert_eq!((ids.len(), messages.len()), (60, 60));
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_the_server_never_takes_becomes_a_dead_letter_and_what_is_behind_it_passes() {
    let server = Nats::start_with("max_payload: 64KB");
    server.client().create_stream("EVENTS", &["up.>"], &json!({"max_msg_size": 16 * 1024}));
    let gateway = Gateway::start(setup(&server, ""));
    let mut client = connect(&gateway, "press").await;
    for (packet_id, bytes) in [(1, 10), (2, 20_000), (3, 11), (4, 100_000), (5, 12)] {
        publish(&mut client, "p", &vec![b'x'; bytes], packet_id).await;
    }
    wait_drained(&gateway).await;
    let messages = server.client().read_all("EVENTS");
    let sizes: Vec<_> = messages.iter().map(|message: &Message| message.payload.len()).collect();
    assert_eq!(sizes, [10, 11, 12]);
    let http = gateway.http.to_string();
    let listed = program::run(["dead-letters", "list", "--http", &http]).stdout;
    let listed = String::from_utf8(listed).expect("UTF-8");
    for reason in ["message size exceeds maximum allowed (10054)", "longer than the 65536 bytes"] {
        assert!(listed.contains(reason), "{listed}");
    }
    assert_eq!(gateway.metric("tidegate_dead_letters"), 2.0, "{listed}");
}

/// A server on which the user `gate` may publish on `up.good.>` and read its answers, and nothing
/// else.
const USERS: &str = r#"
no_auth_user: harness
authorization {
  users = [
    { user: "gate", password: "s3cret", permissions: { publish: ["up.good.>"], subscribe: ["_INBOX.>"] } }
    { user: "harness", password: "x" }
  ]
}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subject_that_the_user_may_not_publish_on_becomes_a_dead_letter_and_stops_nothing() {
    let server = Nats::start_with(USERS);
    create_stream(&server);
    let mut setup = setup(&server, "user = \"gate\"");
    setup.environment = vec![("TIDEGATE_PASSWORD_CLOUD".into(), "s3cret".into())];
    let gateway = Gateway::start(setup);
    let mut client = connect(&gateway, "press").await;
    for (packet_id, topic) in [(1, "good/1"), (2, "bad/1"), (3, "good/2"), (4, "bad/1"), (5, "good/3")] {
        publish(&mut client, topic, b"{}", packet_id).await;
    }
    wait_drained(&gateway).await;
    let messages = server.client().read_all("EVENTS");
    let subjects: Vec<_> = messages.iter().map(|message| message.subject.as_str()).collect();
    assert_eq!(subjects, ["up.good.1", "up.good.2", "up.good.3"]);
    assert_eq!(gateway.metric("tidegate_dead_letters"), 2.0);
    assert!(gateway.log().contains("the upstream disconnected: permissions violation"));
}

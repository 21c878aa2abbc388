//! What is wrong with the way to an upstream, in words: the same in the log, in `tidegate status`,
//! in `/api/status` and in `/readyz?verbose`, with since when and when the next try is, and what
//! `tidegate uplinks test` says. Before real brokers that are not what the configuration says, and
//! stand-ins for those that cannot be had.

use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tidegate_tests::{
    brokers::Mosquitto,
    ca::Ca,
    client::Client,
    clock::wait_for,
    cloud::{StandIn, limits::Limits, platforms},
    codec::{Connect, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    ports,
    program::{self, Build},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A gateway whose one uplink leads there.
fn gateway(url: &str, version: Version, lines: &str) -> Gateway {
    Gateway::start(Setup::new(Uplink { lines: lines.to_owned(), ..Uplink::new(url, version) }))
}

/// Why there is no connection, as `/api/status` says it; empty while there is one.
fn why(gateway: &Gateway) -> String {
    let (_, json) = gateway.get("/api/status").expect("it answers");
    let status: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    status["uplinks"][0]["outage"]["why"].as_str().unwrap_or_default().to_owned()
}

/// Waits for these words, and finds the same ones everywhere.
async fn demand(gateway: &Gateway, words: &str) {
    wait_for(words, LIMIT, || why(gateway).contains(words)).await;
    wait_for("the log", LIMIT, || gateway.log().contains(words)).await;
    let line = gateway.log().lines().find(|line| line.contains(words)).expect("it is there").to_owned();
    assert!(line.contains("trying again ") && !line.contains("0ns"), "{line}");
    // More than a second after it began, it is said since when.
    let is_told = |text: &str| {
        let line = text.lines().find(|line| line.contains(words));
        line.is_some_and(|line| {
            ["; no connection for ", ", since 20", "; trying again "].iter().all(|part| line.contains(part))
        })
    };
    let status = || program::run(["status", "--http", &gateway.http.to_string()]).stdout;
    wait_for("status", LIMIT, || is_told(&String::from_utf8_lossy(&status()))).await;
    let verbose = || gateway.get("/readyz?verbose").expect("it answers");
    wait_for("/readyz?verbose", LIMIT, || verbose().0 == 200 && is_told(&verbose().1)).await;
    let (_, short) = gateway.get("/readyz").expect("it answers");
    assert_eq!(short, "ready\n", "what can be taken in does not hang on an upstream");
    eprintln!("{line}");
}

/// What `tidegate uplinks test cloud` says by the gateway's own configuration.
fn test_uplink(gateway: &Gateway, arguments: &[&str]) -> String {
    test_by(&gateway.config_path(), arguments)
}

fn test_by(config: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program::gateway(Build::Shipped));
    command.args(["uplinks", "test", "cloud", "--config"]).arg(config).args(arguments);
    let output = command.output().expect("the program can be started");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn wrong(said: &str) -> &str {
    said.lines().find_map(|line| line.strip_prefix("WRONG  ")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_that_is_not_there_is_said_everywhere_in_the_same_words() {
    let address = ports::free_address();
    let gateway = gateway(&format!("mqtt://{address}"), Version::V5, "");
    let words = format!("cannot connect: {address}: Connection refused (os error 111)");
    demand(&gateway, &words).await;
    assert_eq!(wrong(&test_uplink(&gateway, &[])), words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_port_of_tls_that_is_dialled_plain_is_told() {
    let folder = tempfile::Builder::new().prefix("words-").tempdir_in(program::scratch());
    let folder = folder.expect("the scratch folder is writable");
    let ca = Ca::new().expect("there are random numbers");
    let [cert, key] = ["server.pem", "server.key"].map(|name| folder.path().join(name));
    ca.server().expect("there are random numbers").write(&cert, &key).expect("the folder is writable");
    let tls = ports::free_address();
    let _broker = Mosquitto::start_with(|_| {
        let (port, cert, key) = (tls.port(), cert.display(), key.display());
        format!("listener {port} 127.0.0.1\ncertfile {cert}\nkeyfile {key}")
    });
    for version in [Version::V5, Version::V311] {
        let gateway = gateway(&format!("mqtt://{tls}"), version, "");
        demand(&gateway, "write mqtts:// in url").await;
        let said = test_uplink(&gateway, &[]);
        assert!(said.contains(&format!("good   {tls} takes the connection")), "{said}");
        assert_eq!(wrong(&said), why(&gateway), "one word for one thing");
    }
}

/// A client that connects with this id as often as it can, until it is told to stop.
fn rival(broker: SocketAddr, version: Version, client_id: &'static str) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    tokio::spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            let connect = Connect { version, client_id, clean: true, keep_alive_s: 0 };
            if let Ok(mut client) = Client::connect(broker, &connect).await {
                // Until it is thrown out.
                while client.read_packet().await.is_ok() {}
            }
        }
    });
    stop
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_client_of_the_same_id_is_guessed_where_the_broker_does_not_tell() {
    for version in [Version::V5, Version::V311] {
        let broker = Mosquitto::start();
        let gateway = gateway(&broker.url(), version, "client_id = \"gate-cloud\"\n");
        wait_for("a connection", LIMIT, || gateway.metric("tidegate_uplink_connected") == 1.0).await;
        let stop = rival(broker.address, version, "gate-cloud");
        let words = "times in a row, soon after it was made; another client may connect with this client id";
        demand(&gateway, words).await;
        stop.store(true, Ordering::Relaxed);
    }
}

/// Answers a CONNECT by a CONNACK with the code that its bytes up to its flags give, and closes.
async fn closing_broker(code: fn(&[u8; 10]) -> u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // All of it: a connection that is closed with something unread is reset.
            let mut connect = [0; 1024];
            let bytes = stream.read(&mut connect).await.unwrap_or(0);
            if let Some(head) = connect[..bytes].first_chunk() {
                let _ = stream.write_all(&[0x20, 2, 0, code(head)]).await;
            }
        }
    });
    address
}

/// Knows MQTT 3.1.1 alone, and says so: the level is behind the protocol's name. (MQTT 3.1.1
/// section 3.1.2.2)
fn old(head: &[u8; 10]) -> u8 {
    u8::from(head[8] != 4)
}

/// Accepts whoever leaves no will. (MQTT 3.1.1 sections 3.1.2.3 and 3.2.2.3)
fn fickle(head: &[u8; 10]) -> u8 {
    if head[9] & 4 == 0 { 0 } else { 5 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_of_mqtt_3_1_1_alone_is_told_whether_it_answers_or_closes() {
    let gateway_of_5 = gateway(&format!("mqtt://{}", closing_broker(old).await), Version::V5, "");
    let words =
        "the upstream refused the connection: unacceptable protocol version (1): set protocol = \"3.1.1\"";
    demand(&gateway_of_5, words).await;
    assert_eq!(wrong(&test_uplink(&gateway_of_5, &[])), words);

    let limits = Limits { versions: &[Version::V311], ..platforms::broker() };
    let closes = StandIn::start(limits).await;
    let gateway = gateway(&closes.url(), Version::V5, "");
    demand(&gateway, "the upstream closed the connection in the handshake, without a word; it may want")
        .await;
    let words = why(&gateway);
    for part in ["TLS at this port: write mqtts:// in url", "protocol = \"3.1.1\"", "(policy)"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert_eq!(wrong(&test_uplink(&gateway, &[])), words);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_upstream_that_accepts_a_client_and_closes_at_once_does_not_pass_the_test() {
    let gateway = gateway(&format!("mqtt://{}", closing_broker(fickle).await), Version::V311, "");
    let said = test_uplink(&gateway, &[]);
    assert!(said.contains("good   the upstream accepts this client"), "{said}");
    assert!(wrong(&said).starts_with("the upstream closed the connection"), "{said}");

    // The test leaves what the uplink itself would leave.
    let mut setup = gateway.setup.clone();
    setup.gateway = "health_interval = \"1m\"\n".into();
    let said = test_uplink(&Gateway::start(setup), &[]);
    let tried =
        "tried  without a last will, for with one the upstream refused the connection: not authorized (5)";
    assert!(said.contains(tried), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_broker_with_an_acl_says_what_it_does_not_allow_and_which_key_to_look_at() {
    let folder = tempfile::Builder::new().prefix("words-").tempdir_in(program::scratch());
    let folder = folder.expect("the scratch folder is writable");
    let acl = folder.path().join("acl");
    std::fs::write(&acl, "topic readwrite allowed/#\n").expect("the folder is writable");
    let broker = Mosquitto::start_with(|_| format!("acl_file {}", acl.display()));
    let gateway = gateway(&broker.url(), Version::V5, "");
    let device = Device { count_max: 10, ..Device::new("d", Version::V5) };
    Fleet::start(gateway.mqtt, [device]).all(LIMIT).await;
    let refused = "the upstream refused it: not authorized (0x87)";
    wait_for(refused, LIMIT, || gateway.log().contains(refused)).await;
    let said = test_uplink(&gateway, &["--publish", "up/probe"]);
    let words = "nothing can be published on \"up/probe\": the upstream refuses it: not authorized (0x87): allow this client \
                 there to publish, or set topic to what it may publish on";
    assert_eq!(wrong(&said), words);
    assert_eq!(wrong(&test_uplink(&gateway, &["--publish", "allowed/probe"])), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cloud_that_refuses_a_client_or_closes_over_a_topic_is_told_with_the_key_to_look_at() {
    let cloud = StandIn::start(platforms::emqx_serverless("barn", "secret")).await;
    let gateway = gateway(&cloud.url(), Version::V5, "");
    let words = "the upstream refused the connection: bad user name or password (0x86): check user";
    demand(&gateway, words).await;
    assert_eq!(wrong(&test_uplink(&gateway, &[])), why(&gateway));

    // What its policy does not allow ends the connection, and nothing says why.
    let cloud = StandIn::start(platforms::aws_iot()).await;
    let folder = tempfile::Builder::new().prefix("words-").tempdir_in(program::scratch());
    let config = folder.as_ref().expect("the scratch folder is writable").path().join("test.toml");
    let text = format!("[gateway]\nid = \"gate\"\n[[uplink]]\nname = \"cloud\"\nurl = \"{}\"\n", cloud.url());
    std::fs::write(&config, text).expect("the folder is writable");
    let said = test_by(&config, &["--publish", "a/b/c/d/e/f/g/h/i"]);
    let words = "nothing can be published on \"a/b/c/d/e/f/g/h/i\": the upstream closed the connection; a rule (policy, ACL)";
    assert!(wrong(&said).starts_with(words), "{said}");
}

//! The way to an upstream through real programs: mosquitto with TLS and client certificates, over
//! WebSocket, and through tinyproxy; a name whose first node says nothing; certificates that are
//! replaced while events flow.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tidegate_tests::{
    black_hole::BlackHole,
    brokers::Mosquitto,
    ca::{Ca, Pair},
    client::Client,
    clock::{now, wait_for},
    codec::{Connect, Packet, Publish, Version},
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle, ports,
    program::{self, Build},
    reader, tools,
};

const LIMIT: Duration = Duration::from_secs(60);
/// The user and the password that the proxy asks for, in its configuration's words.
const LOGIN: (&str, &str) = ("gate", "secret-7");

/// A CA, a mosquitto with a plain port for its readers and a port with TLS, and a folder with the
/// certificates of both ends.
struct Cloud {
    ca: Ca,
    broker: Mosquitto,
    tls: SocketAddr,
    folder: tempfile::TempDir,
}

impl Cloud {
    /// With these lines for the port with TLS.
    fn start(lines: &str) -> Self {
        Self::start_with(lines, |ca| ca.server())
    }

    /// The same with this certificate.
    fn start_with(lines: &str, certify: impl FnOnce(&Ca) -> Result<Pair, rcgen::Error>) -> Self {
        let folder = tempfile::Builder::new().prefix("cloud-").tempdir_in(program::scratch());
        let folder = folder.expect("the scratch folder is writable");
        let ca = Ca::new().expect("there are random numbers");
        let file = |name: &str| folder.path().join(name);
        ca.write(&file("ca.pem")).expect("the folder is writable");
        let server = certify(&ca).expect("there are random numbers");
        server.write(&file("server.pem"), &file("server.key")).expect("the folder is writable");
        std::fs::write(file("crl.pem"), ca.revoke(&[66]).expect("it is signed")).expect("it is writable");
        let tls = ports::free_address();
        let broker = Mosquitto::start_with(|_| {
            let [ca, cert, key, crl] = ["ca.pem", "server.pem", "server.key", "crl.pem"].map(file);
            format!(
                "listener {} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n{}",
                tls.port(),
                ca.display(),
                cert.display(),
                key.display(),
                lines.replace("{crl}", &crl.display().to_string())
            )
        });
        let cloud = Self { ca, broker, tls, folder };
        cloud.give("gate", 7);
        cloud
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives the gateway a client certificate with this serial number, in place of the one before.
    fn give(&self, name: &str, serial: u64) {
        let pair = self.ca.client_numbered(name, serial).expect("there are random numbers");
        let [cert, key] = ["next.pem", "next.key"].map(|name| self.file(name));
        pair.write(&cert, &key).expect("the folder is writable");
        std::fs::rename(cert, self.file("gate.pem")).expect("the folder is writable");
        std::fs::rename(key, self.file("gate.key")).expect("the folder is writable");
    }

    /// The keys of a gateway that believes this CA, and shows its certificate if it is to.
    fn keys(&self, shows: bool) -> String {
        let text = |name: &str| format!("{:?}", self.file(name).display().to_string());
        let (ca, cert, key) = (text("ca.pem"), text("gate.pem"), text("gate.key"));
        let pair = if shows { format!(", cert = {cert}, key = {key}") } else { String::new() };
        format!("tls = {{ ca = {ca}{pair} }}\n")
    }
}

fn setup(url: &str, keys: &str) -> Setup {
    let table = format!("[[uplink]]\nname = \"cloud\"\nurl = \"{url}\"\ntopic = \"up/{{topic}}\"\n{keys}\n");
    let build = Build::WithFailpoints;
    Setup { build, uplinks: vec![], tables: table, ..Setup::new(Uplink::new("", Version::V5)) }
}

fn devices(count_max: u32) -> Vec<Device> {
    (0..4).map(|n| Device { count_max, ..Device::new(&format!("d{n}"), Version::V5) }).collect()
}

/// Sends events through this gateway, and has the oracle hold them against what the broker got.
async fn demand_events(gateway: &Gateway, broker: SocketAddr) {
    let recorder = reader::record(broker, "up/").await;
    let ledgers = Fleet::start(gateway.mqtt, devices(1_000)).all(LIMIT).await;
    wait_for("all events to be there", LIMIT, || oracle::is_complete(&ledgers, &recorder.lock())).await;
    let verdict = oracle::judge(&ledgers, &recorder.lock());
    assert_eq!(verdict.arrived, 4_000);
    verdict.demand();
}

async fn wait_log(gateway: &Gateway, words: &str) {
    wait_for(words, LIMIT, || gateway.log().contains(words)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_to_mosquitto_by_tls_with_a_client_certificate_and_by_the_systems_cas() {
    let cloud = Cloud::start("require_certificate true\ncrlfile {crl}\n");
    let url = format!("mqtts://localhost:{}", cloud.tls.port());
    let gateway = Gateway::start(setup(&url, &cloud.keys(true)));
    demand_events(&gateway, cloud.broker.address).await;
    let log = gateway.log();
    assert!(log.contains(&format!("address={}", cloud.tls)), "{log}");
    // The system's list, which the environment names, and no certificate of our own.
    let mut setup = setup(&url, "");
    setup.environment = vec![("SSL_CERT_FILE".into(), cloud.file("ca.pem").display().to_string())];
    let gateway = Gateway::start(setup);
    wait_log(&gateway, "the server wants a client certificate: set tls.cert and tls.key").await;
    // Revoked there.
    cloud.give("gate", 66);
    let gateway = Gateway::start(self::setup(&url, &cloud.keys(true)));
    wait_log(&gateway, "the server says that our certificate of \"CN=gate\" is revoked: get a new one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_replaced_twice_while_events_flow_costs_no_event_and_no_restart() {
    let cloud = Cloud::start("require_certificate true\nuse_identity_as_username true\n");
    let url = format!("mqtts://localhost:{}", cloud.tls.port());
    let gateway = Gateway::start(setup(&url, &cloud.keys(true)));
    let recorder = reader::record(cloud.broker.address, "up/").await;
    let fleet = Fleet::start(
        gateway.mqtt,
        devices(u32::MAX).into_iter().map(|device| Device {
            per_second: Some(200),
            pause: Some(Duration::from_millis(10)),
            ..device
        }),
    );
    for serial in [8, 9] {
        let connects = gateway.metric("tidegate_uplink_connects_total");
        cloud.give("gate", serial);
        // Nobody asks: the change is found.
        wait_for("a connection by the new certificate", LIMIT, || {
            gateway.metric("tidegate_uplink_connects_total") > connects
        })
        .await;
        let before = recorder.lock().deliveries();
        wait_for("events to flow on", LIMIT, || recorder.lock().deliveries() > before + 500).await;
    }
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("all events to be there", LIMIT, || oracle::is_complete(&ledgers, &recorder.lock())).await;
    oracle::judge(&ledgers, &recorder.lock()).demand();
    let log = gateway.log();
    assert!(log.contains("connecting anew: its TLS files were replaced"), "{log}");
    assert!(!log.contains("trying again"), "a connection failed: {log}");
    assert_eq!(gateway.starts(), 1);
    // A key that is another's is not used, and the connection stands.
    let connects = gateway.metric("tidegate_uplink_connects_total");
    let torn = cloud.ca.client("gate").expect("there are random numbers");
    torn.write(&cloud.file("torn.pem"), &cloud.file("torn.key")).expect("the folder is writable");
    std::fs::rename(cloud.file("torn.key"), cloud.file("gate.key")).expect("the folder is writable");
    wait_log(&gateway, "were not reloaded, the old ones are used").await;
    wait_log(&gateway, "the key does not belong to the certificate in ").await;
    assert_eq!(gateway.metric("tidegate_uplink_connects_total"), connects);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_to_mosquitto_over_websocket_with_and_without_tls() {
    let cloud = Cloud::start("protocol websockets\n");
    let url = format!("wss://localhost:{}/mqtt", cloud.tls.port());
    let gateway = Gateway::start(setup(&url, &cloud.keys(false)));
    demand_events(&gateway, cloud.broker.address).await;
    let plain = ports::free_address();
    let broker =
        Mosquitto::start_with(|_| format!("listener {} 127.0.0.1\nprotocol websockets\n", plain.port()));
    let gateway = Gateway::start(setup(&format!("ws://{plain}"), ""));
    demand_events(&gateway, broker.address).await;
}

/// A tinyproxy. Killed with the value.
struct Tinyproxy {
    address: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Tinyproxy {
    /// One that connects to these ports and to no others.
    fn start(ports: &[u16]) -> Self {
        let address = ports::free_address();
        let folder = tempfile::Builder::new().prefix("tinyproxy-").tempdir_in(program::scratch());
        let folder = folder.expect("the scratch folder is writable");
        let mut text = format!(
            "Port {}\nListen 127.0.0.1\nTimeout 600\nMaxClients 20\nBasicAuth {} {}\n",
            address.port(),
            LOGIN.0,
            LOGIN.1
        );
        ports.iter().for_each(|port| text += &format!("ConnectPort {port}\n"));
        let file = folder.path().join("tinyproxy.conf");
        std::fs::write(&file, text).expect("the folder is writable");
        let mut command = Command::new(tools::find("tinyproxy"));
        command
            .arg("-d")
            .arg("-c")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().expect("tinyproxy can be started");
        tidegate_tests::clock::wait_blocking("tinyproxy to listen", LIMIT, || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self { address, child, _folder: folder }
    }

    fn keys(&self, password_file: &Path) -> String {
        format!(
            "proxy = \"http://{}\"\nproxy_user = {:?}\nproxy_password_file = {password_file:?}\n",
            self.address, LOGIN.0
        )
    }
}

impl Drop for Tinyproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_secret(file: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(file, text)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_through_a_real_proxy_and_what_it_refuses_is_told_in_words() {
    let cloud = Cloud::start("require_certificate true\n");
    let proxy = Tinyproxy::start(&[cloud.tls.port(), 9]);
    let password = cloud.file("proxy.password");
    write_secret(&password, "wrong\n").expect("the folder is writable");
    let url = format!("mqtts://localhost:{}", cloud.tls.port());
    let gateway = Gateway::start(setup(&url, &(cloud.keys(true) + &proxy.keys(&password))));
    let words =
        format!("cannot connect through the proxy {}: it does not accept the user \"gate\"", proxy.address);
    wait_log(&gateway, &words).await;
    // The right one is read before the next connect.
    write_secret(&password, &format!("{}\n", LOGIN.1)).expect("the folder is writable");
    demand_events(&gateway, cloud.broker.address).await;
    for (port, words) in
        [(cloud.broker.address.port(), "it forbids connections to localhost:"), (9, "it cannot reach ")]
    {
        let gateway = Gateway::start(setup(&format!("mqtt://localhost:{port}"), &proxy.keys(&password)));
        wait_log(&gateway, words).await;
    }
    for text in [gateway.log(), gateway.get("/api/status").expect("HTTP answers").1] {
        assert!(!text.contains(LOGIN.1), "the password in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_never_answers_is_left_for_the_next_address_through_three_restarts_of_the_upstream() {
    let mut broker = Mosquitto::start();
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.2:0").expect("loopback has more than one address");
    let silent_at = silent.local_addr().expect("it is bound");
    let mut setup = setup("mqtt://cloud.example", "protocol = \"5\"\n");
    let hole = BlackHole::on_ipv6();
    // In place of DNS: a name with an address that leads nowhere, a node that is down, one that
    // hangs, and one that works.
    let down = ports::free_address();
    let names = format!("dial-names=return({},{down},{silent_at},{})", hole.address, broker.address);
    setup.environment = vec![("FAILPOINTS".into(), names)];
    let _built = program::gateway(Build::WithFailpoints);
    let begun = now();
    let gateway = Gateway::start(setup);
    let is_connected = || gateway.metric("tidegate_uplink_connected") == 1.0;
    wait_for("the first connection", Duration::from_secs(15), is_connected).await;
    eprintln!("connected after {:?}", begun.elapsed());
    let connect = Connect { version: Version::V5, client_id: "d", clean: true, keep_alive_s: 60 };
    let mut device = Client::connect(gateway.mqtt, &connect).await.expect("the gateway is there");
    for round in 1..=3 {
        broker.stop();
        wait_for("the connection to be lost", LIMIT, || !is_connected()).await;
        broker.restart();
        let begun = now();
        wait_for("the connection to be there again", Duration::from_secs(15), is_connected).await;
        eprintln!("restart {round}: connected after {:?}", begun.elapsed());
        let (topic, payload) = ("a/b", &b"x"[..]);
        let (dup, user_properties) = (false, &[][..]);
        device.put_publish(&Publish { topic, payload, qos: 1, packet_id: round, dup, user_properties });
        device.flush().await.expect("the connection is open");
        assert!(matches!(device.next().await, Packet::Ack { reason: 0, .. }));
        wait_for("the event to be delivered", LIMIT, || {
            gateway.metric("tidegate_delivered_events_total") >= f64::from(round)
        })
        .await;
    }
}

/// What `tidegate uplinks test cloud` prints with a configuration of these keys, and its exit code.
fn test_uplink(folder: &Path, keys: &str, arguments: &[&str]) -> (String, i32) {
    test_uplink_of_names(folder, keys, arguments, "")
}

/// The same where these addresses are what names are at.
fn test_uplink_of_names(folder: &Path, keys: &str, arguments: &[&str], names: &str) -> (String, i32) {
    let file = folder.join("test.toml");
    let text = format!(
        "[gateway]\nid = \"gate\"\n[[uplink]]\nname = \"cloud\"\ntopic = \"up/{{topic}}\"\nprotocol = \"3.1.1\"\n{keys}"
    );
    std::fs::write(&file, text).expect("the folder is writable");
    let mut command = Command::new(program::gateway(Build::WithFailpoints));
    command.args(["uplinks", "test", "cloud", "--config"]).arg(file).args(arguments);
    if !names.is_empty() {
        command.env("FAILPOINTS", format!("dial-names=return({names})"));
    }
    let output = command.output().expect("the program can be started");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().unwrap_or(-1))
}

#[test]
fn each_certificate_that_is_wrong_is_named_in_one_line_by_uplinks_test() {
    let url = |cloud: &Cloud, host: &str| format!("url = \"mqtts://{host}:{}\"\n", cloud.tls.port());
    let wanting = "require_certificate true\ncrlfile {crl}\n";
    let cloud = Cloud::start(wanting);
    let (good, code) = test_uplink(
        cloud.folder.path(),
        &(url(&cloud, "localhost") + &cloud.keys(true)),
        &["--publish", "probe/1"],
    );
    assert_eq!(code, 0, "{good}");
    for words in [
        &*format!("good   localhost is at {}", cloud.tls),
        &format!("good   {} takes the connection", cloud.tls),
        "the server's certificate is of \"CN=localhost\", signed by \"CN=Benchmark CA\", for localhost, good until ",
        "good   the upstream accepts this client",
        "good   a probe was published on \"probe/1\" and acknowledged",
    ] {
        assert!(good.contains(words), "{words}: {good}");
    }
    let demand = |cloud: &Cloud, keys: &str, words: &str| {
        let (said, code) = test_uplink(cloud.folder.path(), keys, &[]);
        let wrong: Vec<_> = said.lines().filter(|line| line.starts_with("WRONG  ")).collect();
        assert!(wrong.len() == 1 && wrong[0].contains(words) && code == 69, "{words}: {code}, {said}");
        eprintln!("{}", wrong[0]);
    };
    let other = Ca::named("Other CA").expect("there are random numbers");
    other.write(&cloud.file("other.pem")).expect("the folder is writable");
    let wrong_ca = cloud.keys(true).replace("ca.pem", "other.pem");
    demand(
        &cloud,
        &(url(&cloud, "localhost") + &wrong_ca),
        "is signed by \"CN=Benchmark CA\", which is not in ",
    );
    demand(&cloud, &(url(&cloud, "127.0.0.1") + &cloud.keys(true)), "is for localhost and not for 127.0.0.1");
    demand(&cloud, &(url(&cloud, "localhost") + &cloud.keys(false)), "the server wants a client certificate");
    cloud.give("gate", 66);
    demand(
        &cloud,
        &(url(&cloud, "localhost") + &cloud.keys(true)),
        "our certificate of \"CN=gate\" is revoked",
    );
    let foreign = other.client("gate").expect("there are random numbers");
    foreign.write(&cloud.file("f.pem"), &cloud.file("f.key")).expect("the folder is writable");
    let keys = cloud.keys(true).replace("gate.pem", "f.pem").replace("gate.key", "f.key");
    demand(
        &cloud,
        &(url(&cloud, "localhost") + &keys),
        "does not know the CA of our certificate of \"CN=gate\"",
    );
    // A key that is another's is the configuration's to tell.
    let torn = cloud.keys(true).replace("gate.key", "f.key");
    let (said, code) = test_uplink(cloud.folder.path(), &(url(&cloud, "localhost") + &torn), &[]);
    assert!(
        code == 78 && said.contains("[[uplink]] tls.key: ") && said.contains("does not belong"),
        "{said}"
    );
    for ((from, to), words) in [
        ((2020, 2021), "expired on 2021-01-01T00:00:00Z, and it is "),
        ((2098, 2099), "is not valid before 2098-01-01T00:00:00Z, and it is "),
    ] {
        let cloud = Cloud::start_with("", |ca| ca.server_valid(from, to));
        demand(&cloud, &(url(&cloud, "localhost") + &cloud.keys(false)), words);
    }
    // Steps below TLS.
    let plain = format!("url = \"mqtts://{}\"\n", cloud.broker.address) + &cloud.keys(false);
    demand(&cloud, &plain, "no TLS with ");
    demand(&cloud, "url = \"mqtt://127.0.0.1:9\"\n", "cannot connect: 127.0.0.1:9: Connection refused");
}

#[test]
fn an_address_that_was_tried_in_vain_is_not_called_good_by_uplinks_test() {
    let folder = tempfile::Builder::new().prefix("tried-").tempdir_in(program::scratch());
    let folder = folder.expect("the scratch folder is writable");
    let (broker, dead) = (Mosquitto::start(), ports::free_address());
    let names = format!("{dead},{}", broker.address);
    let keys = "url = \"mqtt://broker.example\"\n";
    let (said, code) = test_uplink_of_names(folder.path(), keys, &[], &names);
    let expected = format!(
        "cloud to mqtt://broker.example:1883\n\
         good   broker.example is at {dead}, {live}\n\
         tried  {dead} takes no connection: Connection refused (os error 111)\n\
         good   {live} takes the connection\n\
         good   the upstream accepts this client: ",
        live = broker.address
    );
    assert!(code == 0 && said.starts_with(&expected), "{said}");
}

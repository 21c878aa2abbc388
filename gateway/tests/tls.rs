//! TLS at the door: who gets in and who does not, over loopback, with certificates made here and
//! rustls as the client. What a person reads of it is in the metrics; the log lines are looked at
//! by `tests/scenarios/tls_from_outside.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ca;
mod careless;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use ca::{Ca, Pair, Wish};
use rcgen::ExtendedKeyUsagePurpose;
use rustls::{
    ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tidegate::{
    access::{Access, Acl, Policy, Users},
    clock, config,
    ingest::{self, ClientCert, ListenerSettings, Settings, TlsSettings},
    reload::Reload,
    store::{self, Store},
    telemetry,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::{CancellationToken, DropGuard};

const LIMIT: Duration = Duration::from_secs(20);
const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const CONNECT_V5: &[u8] = b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x05\x11\x00\x00\x00\x00\x00\x01c";
const CONNACK_V311: [u8; 4] = [0x20, 2, 0, 0];

fn connect(id: u8) -> Vec<u8> {
    [b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01", &[id][..]].concat()
}

/// A door with TLS, and everything that belongs to it.
struct House {
    folder: TempDir,
    server_ca: Ca,
    devices_ca: Ca,
    port: u16,
    access: Arc<Access>,
    reload: Reload,
    _store: Store,
    _door: JoinHandle<()>,
    _shutdown: DropGuard,
}

/// Devices that choose their client ids, and may do everything: this is about who gets through the
/// handshake.
fn policy() -> Policy {
    let user = |name| format!("[[user]]\nname = \"{name}\"\ncertificate_only = true\nclient_id = \"any\"\n");
    let users = ["stall-3", "good", "prompt", "lost", "kept"].map(user).concat();
    let acl = "[[rule]]\nwho = \"*\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n";
    Policy {
        users: Some(Users::parse(&users, Path::new("users.toml")).unwrap()),
        acl: Some(Acl::parse(acl, Path::new("acl.toml")).unwrap()),
    }
}

impl House {
    /// One that requires certificates and has revoked number 666.
    async fn open() -> Self {
        Self::open_with(ClientCert::Required, ingest::limits::TLS_TIMEOUT).await
    }

    async fn open_with(client_cert: ClientCert, tls_timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (server_ca, devices_ca) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
        let listener = listener(folder.path(), &server_ca, &devices_ca, client_cert);
        Self::open_at(folder, server_ca, devices_ca, listener, tls_timeout).await
    }

    async fn open_at(
        folder: TempDir,
        server_ca: Ca,
        devices_ca: Ca,
        listener: ListenerSettings,
        tls_timeout: Duration,
    ) -> Self {
        telemetry::recorder();
        let store = Store::open(
            store::Settings {
                segment_bytes: 1 << 20,
                max_bytes: 1 << 30,
                ..store::Settings::new(folder.path().join("data"))
            },
            &["cloud".into()],
        );
        let store = store.unwrap();
        let bound = ingest::bind(&listener).await.unwrap();
        let port = bound.local_addr().port();
        let reload = Reload::default();
        reload.add(bound.reloadable().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(reload.clone().run(shutdown.clone()));
        let access = Arc::new(Access::new(policy()));
        let settings = Settings { tls_timeout, access: access.clone(), ..Settings::default() };
        let door = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));
        House {
            folder,
            server_ca,
            devices_ca,
            port,
            access,
            reload,
            _store: store,
            _door: door,
            _shutdown: shutdown.drop_guard(),
        }
    }

    fn device(&self, name: &'static str, serial: u64) -> Pair {
        self.devices_ca.sign(Wish::client(name, serial))
    }

    /// What a device is set up with.
    fn config(&self, version: &'static SupportedProtocolVersion, pair: Option<&Pair>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.certificate.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match pair.map(Pair::der) {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"mqtt".to_vec()];
        Arc::new(config)
    }

    async fn dial(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        timeout(LIMIT, TlsConnector::from(config).connect(name, stream)).await.unwrap()
    }

    /// Connects by MQTT 3.1.1 as a client named by one letter; an error if it is not let in.
    async fn enter(&self, config: Arc<ClientConfig>, id: u8) -> std::io::Result<TlsStream<TcpStream>> {
        let mut stream = self.dial(config).await?;
        stream.write_all(&connect(id)).await?;
        let mut connack = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut connack)).await.unwrap()?;
        assert_eq!(connack, CONNACK_V311);
        Ok(stream)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }
}

fn listener(folder: &Path, server_ca: &Ca, devices_ca: &Ca, client_cert: ClientCert) -> ListenerSettings {
    let (cert, key) = server_ca.sign(Wish::server(1)).write(folder, "server");
    fs::write(folder.join("devices-ca.pem"), devices_ca.certificate.pem()).unwrap();
    fs::write(folder.join("revoked.pem"), devices_ca.revoke(&[666], 30)).unwrap();
    let has_clients = client_cert != ClientCert::None;
    let tls = TlsSettings {
        cert,
        key,
        client_ca: has_clients.then(|| folder.join("devices-ca.pem")),
        client_cert,
        crl: has_clients.then(|| folder.join("revoked.pem")),
        max_record_bytes: None,
    };
    ListenerSettings { tls: Some(tls), ..ListenerSettings::new("127.0.0.1:0".parse().unwrap()) }
}

async fn ping(stream: &mut TlsStream<TcpStream>) {
    stream.write_all(&[0xc0, 0]).await.unwrap();
    let mut answer = [0; 2];
    timeout(LIMIT, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, [0xd0, 0]);
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = clock::monotonic() + LIMIT;
    while !is_so() {
        assert!(clock::monotonic() < until, "waited in vain for {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn failures(reason: &str) -> u64 {
    let line = format!("tidegate_tls_failures_total{{reason=\"{reason}\"}} ");
    let text = telemetry::recorder().unwrap().render();
    text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn a_client_with_a_good_certificate_publishes_by_tls_1_2_and_1_3() {
    let house = House::open().await;
    for version in VERSIONS {
        let mut stream =
            house.enter(house.config(version, Some(&house.device("stall-3", 7))), b'a').await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"mqtt"[..]));
        stream.write_all(b"\x32\x09\x00\x03t/x\x00\x01hi").await.unwrap();
        let mut puback = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut puback)).await.unwrap().unwrap();
        assert_eq!(puback, [0x40, 2, 0, 1]);
    }
}

#[tokio::test]
async fn whoever_has_no_good_certificate_is_refused_by_its_cause() {
    let house = House::open().await;
    let stranger = Ca::new("devices", (-1, 90));
    let client = |serial| Wish::client("stall-3", serial);
    let sign = |wish| Some(house.devices_ca.sign(wish));
    for (reason, pair) in [
        ("expired", sign(Wish { valid: (-20, -10), ..client(2) })),
        ("not_yet_valid", sign(Wish { valid: (10, 20), ..client(3) })),
        ("unknown_ca", Some(Ca::new("somebody", (-1, 90)).sign(client(4)))),
        ("bad_certificate", Some(stranger.sign(client(5)))),
        ("usage", sign(Wish { usage: ExtendedKeyUsagePurpose::ServerAuth, ..client(6) })),
        ("revoked", sign(client(666))),
        ("no_certificate", None),
        ("no_identity", sign(Wish { name: Some("a/#"), ..client(8) })),
        ("no_identity", sign(Wish { name: Some("two words"), ..client(8) })),
        ("no_identity", sign(Wish { name: Some("anonymous"), ..client(8) })),
    ] {
        for version in VERSIONS {
            let before = failures(reason);
            let entered = house.enter(house.config(version, pair.as_ref()), b'b').await;
            assert!(entered.is_err(), "{reason} by {version:?} got in");
            wait_for(reason, || failures(reason) > before).await;
        }
    }
    house.enter(house.config(&TLS13, Some(&house.device("good", 9))), b'b').await.unwrap();
}

#[tokio::test]
async fn a_chain_that_is_longer_than_is_kept_for_a_connection_is_refused() {
    const CHAIN_BYTES_MAX: usize = 16 * 1024;
    let house = House::open().await;
    let pair = house.device("good", 9);
    // What stands beside a certificate without being of use to it.
    let beside = Ca::new("somebody", (-1, 90)).certificate.der().clone();
    let fits = (CHAIN_BYTES_MAX - pair.certificate.der().len()) / beside.len();
    for (count, gets_in) in [(fits, true), (fits + 1, false)] {
        let (own, key) = pair.der();
        let chain = [own].into_iter().chain(std::iter::repeat_n(beside.clone(), count)).collect();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(careless::Anybody));
        let config = builder.with_client_auth_cert(chain, key).unwrap();
        let before = failures("bad_certificate");
        let entered = house.enter(Arc::new(config), b'3').await;
        assert_eq!(entered.is_ok(), gets_in, "{count}");
        wait_for("its count", || gets_in || failures("bad_certificate") > before).await;
    }
}

#[tokio::test]
async fn tls_1_1_and_what_is_no_tls_are_refused_by_their_causes() {
    let house = House::open().await;
    // TLS 1.1 as it is offered by an old client: one cipher suite, no extensions.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    // What was sent, what is answered, the cause.
    for (sent, alert, reason) in [
        (hello.as_slice(), Some(40), "version"),
        (&connect(b'c'), None, "not_tls"),
        (b"GET / HTTP/1.1\r\n\r\n", None, "not_tls"),
    ] {
        let before = failures(reason);
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut answer = vec![];
        timeout(LIMIT, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(answer.first().is_none_or(|first| *first == 21), "an alert at most: {answer:02x?}");
        if let Some(alert) = alert {
            assert_eq!(answer.last(), Some(&alert), "{answer:02x?}");
        }
        wait_for(reason, || failures(reason) > before).await;
    }
}

#[tokio::test]
async fn silent_and_half_handshakes_end_in_time_and_hold_nobody_up() {
    let house = House::open_with(ClientCert::Required, Duration::from_secs(3)).await;
    let before = failures("timeout");
    let mut idlers = vec![];
    for at in 0..100 {
        let mut stream = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
        if at % 2 == 0 {
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 9]).await.unwrap();
        }
        idlers.push(stream);
    }
    let began = clock::monotonic();
    house.enter(house.config(&TLS13, Some(&house.device("prompt", 7))), b'd').await.unwrap();
    assert!(clock::monotonic() - began < Duration::from_secs(2), "a proper client had to wait");
    assert_eq!(failures("timeout"), before);
    for mut idler in idlers {
        let mut answer = vec![];
        // Closed or reset.
        let _ = timeout(LIMIT, idler.read_to_end(&mut answer)).await.unwrap();
    }
    wait_for("timeouts", || failures("timeout") >= before + 100).await;
}

#[tokio::test]
async fn new_files_serve_the_next_handshake_and_leave_sessions_alone() {
    let house = House::open().await;
    let config = house.config(&TLS13, Some(&house.device("stall-3", 7)));
    let mut old = house.enter(config.clone(), b'e').await.unwrap();
    let serves = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let next = house.server_ca.sign(Wish::server(2));
    assert_ne!(serves(&old), next.certificate.der().to_vec());
    next.write(house.folder.path(), "server");
    // Nobody asks: the change is found.
    let until = clock::monotonic() + LIMIT;
    loop {
        let stream = house.enter(config.clone(), b'f').await.unwrap();
        if serves(&stream) == next.certificate.der().to_vec() {
            break;
        }
        assert!(clock::monotonic() < until, "the new certificate is not served");
        sleep(Duration::from_millis(100)).await;
    }
    ping(&mut old).await;
    assert!(house.reload.warnings().is_empty(), "{:?}", house.reload.warnings());
}

#[tokio::test]
async fn bad_new_files_are_told_and_the_old_ones_are_served() {
    let house = House::open().await;
    let config = house.config(&TLS13, Some(&house.device("stall-3", 7)));
    let good = fs::read(house.path("server.key")).unwrap();
    fs::write(house.path("server.key"), "-----BEGIN PRIVATE KEY-----\n?\n-----END PRIVATE KEY-----\n")
        .unwrap();
    house.reload.ask();
    wait_for("a warning", || !house.reload.warnings().is_empty()).await;
    let warnings = house.reload.warnings();
    assert!(warnings[0].contains("were not reloaded, the old ones are used"), "{warnings:?}");
    assert!(warnings[0].contains("server.key: the file is damaged"), "{warnings:?}");
    house.enter(config.clone(), b'g').await.unwrap();
    let text = telemetry::recorder().unwrap().render();
    assert!(text.contains("tidegate_reload_failures_total{what=\"tls\"}"), "{text}");

    fs::write(house.path("server.key"), good).unwrap();
    house.reload.ask();
    wait_for("no warning", || house.reload.warnings().is_empty()).await;
    house.enter(config, b'g').await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_becomes_revoked_ends_its_connection_and_no_other() {
    let house = House::open().await;
    let config = house.config(&TLS13, Some(&house.device("lost", 13)));
    let mut other = house.enter(house.config(&TLS13, Some(&house.device("kept", 14))), b'h').await.unwrap();
    let mut lost = house.dial(config.clone()).await.unwrap();
    lost.write_all(CONNECT_V5).await.unwrap();
    let mut connack = [0; 2];
    timeout(LIMIT, lost.read_exact(&mut connack)).await.unwrap().unwrap();
    let mut rest = vec![0; connack[1].into()];
    timeout(LIMIT, lost.read_exact(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest[1], 0, "{rest:02x?}");

    fs::write(house.path("revoked.pem"), house.devices_ca.revoke(&[666, 13], 30)).unwrap();
    house.reload.ask();
    let mut disconnect = vec![];
    timeout(LIMIT, lost.read_to_end(&mut disconnect)).await.unwrap().unwrap();
    assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x87), "{disconnect:02x?}");
    ping(&mut other).await;
    assert!(house.enter(config, b'i').await.is_err());
}

#[tokio::test]
async fn a_certificates_identity_owns_its_client_id_whoever_took_it_before() {
    let house = House::open().await;
    // One that may choose its client id, and a device that is in no file and whose name is that id.
    let (squatter, owner) = (house.device("good", 21), house.device("q", 22));
    let (squatter, owner) = (house.config(&TLS13, Some(&squatter)), house.config(&TLS13, Some(&owner)));
    let mut kept = connect(b'q');
    kept[9] = 0;
    let first_byte = |connack: [u8; 4]| (connack[2], connack[3]);
    let enter = async |config: &Arc<ClientConfig>, connect: &[u8]| {
        let mut stream = house.dial(config.clone()).await.unwrap();
        stream.write_all(connect).await.unwrap();
        let mut connack = [0; 4];
        timeout(LIMIT, stream.read_exact(&mut connack)).await.unwrap().unwrap();
        (stream, first_byte(connack))
    };
    let (mut squatting, code) = enter(&squatter, &kept).await;
    assert_eq!(code, (0, 0));
    ping(&mut squatting).await;
    // While the other one is connected, and after it left a session behind.
    let (mut owning, code) = enter(&owner, &kept).await;
    assert_eq!(code, (0, 0), "a session of its own");
    let mut rest = vec![];
    timeout(LIMIT, squatting.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(enter(&squatter, &kept).await.1, (0, 2), "the id is its owner's");
    ping(&mut owning).await;
    owning.write_all(&[0xe0, 0]).await.unwrap();
    timeout(LIMIT, owning.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(enter(&squatter, &kept).await.1, (0, 2), "while it is away as well");
    assert_eq!(enter(&owner, &kept).await.1, (1, 0), "its session is there");
}

#[tokio::test]
async fn a_user_that_is_removed_is_disconnected_though_only_a_certificate_let_it_in() {
    let house = House::open().await;
    let config = |name, serial| house.config(&TLS13, Some(&house.device(name, serial)));
    let listed = |names: &str| {
        let user = |name| format!("[[user]]\nname = \"{name}\"\ncertificate_only = true\n");
        let users = names.chars().map(user).collect::<String>();
        Policy { users: Some(Users::parse(&users, Path::new("users.toml")).unwrap()), ..policy() }
    };
    house.access.replace(listed("rs"));
    // Each has its own name as its client id, which its certificate alone would give it.
    let mut stays = house.enter(config("r", 31), b'r').await.unwrap();
    let mut removed = house.enter(config("s", 32), b's').await.unwrap();
    let mut never_listed = house.enter(config("t", 33), b't').await.unwrap();
    house.access.replace(listed("r"));
    let mut rest = vec![];
    timeout(LIMIT, removed.read_to_end(&mut rest)).await.unwrap().unwrap();
    ping(&mut stays).await;
    ping(&mut never_listed).await;
    house.enter(config("s", 32), b's').await.unwrap();
}

#[tokio::test]
async fn a_session_is_resumed_only_where_no_certificate_would_have_to_be_checked_again() {
    for (client_cert, resumed) in
        [(ClientCert::Required, false), (ClientCert::Optional, false), (ClientCert::None, true)]
    {
        let house = House::open_with(client_cert, ingest::limits::TLS_TIMEOUT).await;
        for version in VERSIONS {
            let config = house.config(version, Some(&house.device("stall-3", 7)));
            let mut first = house.enter(config.clone(), b'j').await.unwrap();
            // By then a ticket has come, if one comes at all.
            ping(&mut first).await;
            let second = house.enter(config, b'j').await.unwrap();
            let kind = second.get_ref().1.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), resumed, "{client_cert:?} {version:?} {kind:?}");
        }
    }
}

#[tokio::test]
async fn without_users_whoever_is_nobody_is_refused_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, devices) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
    let settings = listener(folder.path(), &servers, &devices, ClientCert::Optional);
    let house =
        House::open_at(folder, servers, devices, ListenerSettings { anonymous: false, ..settings }, LIMIT)
            .await;
    for version in VERSIONS {
        house.enter(house.config(version, Some(&house.device("stall-3", 7))), b'm').await.unwrap();
        let mut nobody = house.dial(house.config(version, None)).await.unwrap();
        nobody.write_all(&connect(b'm')).await.unwrap();
        let mut connack = [0; 4];
        timeout(LIMIT, nobody.read_exact(&mut connack)).await.unwrap().unwrap();
        assert_eq!(connack, [0x20, 2, 0, 5], "not authorized");
    }
}

#[tokio::test]
async fn a_certificate_may_be_optional() {
    let house = House::open_with(ClientCert::Optional, ingest::limits::TLS_TIMEOUT).await;
    for version in VERSIONS {
        house.enter(house.config(version, None), b'k').await.unwrap();
        house.enter(house.config(version, Some(&house.device("stall-3", 7))), b'k').await.unwrap();
        let revoked = house.config(version, Some(&house.device("stall-3", 666)));
        assert!(house.enter(revoked, b'k').await.is_err(), "a bad one is worse than none");
    }
}

/// One change to good files, and what is said of them then.
type Change = (&'static str, Box<dyn Fn(&Path, &Ca, &Ca)>, &'static str);

fn changes() -> Vec<Change> {
    let remove =
        |file: &'static str| move |folder: &Path, _: &Ca, _: &Ca| fs::remove_file(folder.join(file)).unwrap();
    let copy = |from: &'static str, to: &'static str| {
        move |folder: &Path, _: &Ca, _: &Ca| {
            fs::copy(folder.join(from), folder.join(to)).unwrap();
        }
    };
    let serve = |wish: Wish| {
        move |folder: &Path, ca: &Ca, _: &Ca| drop(ca.sign(wish.clone()).write(folder, "server"))
    };
    vec![
        ("nothing", Box::new(|_, _, _| {}), ""),
        (
            "no certificate",
            Box::new(remove("server.pem")),
            "tls.cert: /f/server.pem: the file cannot be read: No such file",
        ),
        (
            "no key",
            Box::new(remove("server.key")),
            "tls.key: /f/server.key: the file cannot be read: No such file",
        ),
        (
            "no list",
            Box::new(remove("revoked.pem")),
            "tls.crl: /f/revoked.pem: the file cannot be read: No such file",
        ),
        (
            "expired",
            Box::new(serve(Wish { valid: (-20, -10), ..Wish::server(1) })),
            // It is served with a warning.
            "",
        ),
        ("not valid yet", Box::new(serve(Wish { valid: (10, 20), ..Wish::server(1) })), ""),
        (
            "for clients",
            Box::new(serve(Wish::client("x", 1))),
            "tls.cert: /f/server.pem: the certificate is not for servers",
        ),
        (
            "another key",
            Box::new(|folder, ca, _| {
                let cert = fs::read(folder.join("server.pem")).unwrap();
                ca.sign(Wish::server(2)).write(folder, "server");
                fs::write(folder.join("server.pem"), cert).unwrap();
            }),
            "tls.key: /f/server.key: the key does not belong to the certificate in /f/server.pem",
        ),
        (
            "a key for all",
            Box::new(|folder, _, _| {
                fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
            }),
            "tls.key: /f/server.key: everybody on this machine may read the key (mode 0644); chmod 600 it",
        ),
        (
            "an encrypted key",
            Box::new(|folder, _, _| {
                let text =
                    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
                fs::write(folder.join("server.key"), text).unwrap();
            }),
            "tls.key: /f/server.key: the key is encrypted; decrypt it by",
        ),
        (
            "a key as the certificate",
            Box::new(copy("server.key", "server.pem")),
            "tls.cert: /f/server.pem: the file holds a private key and no certificate; a PEM file with",
        ),
        (
            "no PEM",
            Box::new(|folder, _, _| fs::write(folder.join("devices-ca.pem"), "\u{1}\u{2}").unwrap()),
            "tls.client_ca: /f/devices-ca.pem: the file holds nothing in PEM and no certificate",
        ),
        (
            "a device as the CA",
            Box::new(|folder, _, devices| {
                let device = devices.sign(Wish::client("stall-3", 7));
                let mut text = device.certificate.pem();
                text.push_str(&devices.certificate.pem());
                fs::write(folder.join("devices-ca.pem"), text).unwrap();
            }),
            "tls.client_ca: /f/devices-ca.pem: the certificate of CN=stall-3 is no CA's; name the certificate of",
        ),
        (
            "an expired CA",
            Box::new(|folder, _, _| {
                fs::write(folder.join("devices-ca.pem"), Ca::new("devices", (-20, -10)).certificate.pem())
                    .unwrap();
            }),
            // Devices are refused by this cause, and the rest goes on.
            "",
        ),
        (
            "a list of another CA",
            Box::new(|folder, servers, _| {
                fs::write(folder.join("revoked.pem"), servers.revoke(&[1], 10)).unwrap()
            }),
            "tls.crl: /f/revoked.pem: no list of the CA CN=devices; every CA of client_ca needs its list",
        ),
        (
            "a list that the CA did not sign",
            Box::new(|folder, _, _| {
                fs::write(folder.join("revoked.pem"), Ca::new("devices", (-1, 90)).revoke(&[1], 10)).unwrap()
            }),
            "tls.crl: /f/revoked.pem: the list of the CA CN=devices is not signed by its key in client_ca",
        ),
        (
            "a list that the CA did not sign beside one that it did",
            Box::new(|folder, _, devices| {
                let lists = Ca::new("devices", (-1, 90)).revoke(&[1], 10) + &devices.revoke(&[1], 10);
                fs::write(folder.join("revoked.pem"), lists).unwrap()
            }),
            "",
        ),
        (
            "two CAs of one name and a list of one of them",
            Box::new(|folder, _, devices| {
                let cas = devices.certificate.pem() + &Ca::new("devices", (-1, 90)).certificate.pem();
                fs::write(folder.join("devices-ca.pem"), cas).unwrap()
            }),
            "tls.crl: /f/revoked.pem: no list of the CA CN=devices; every CA of client_ca needs its list",
        ),
        (
            "an old list",
            Box::new(|folder, _, devices| {
                fs::write(folder.join("revoked.pem"), devices.revoke(&[1], -1)).unwrap()
            }),
            "",
        ),
        (
            "a certificate as the list",
            Box::new(copy("server.pem", "revoked.pem")),
            "tls.crl: /f/revoked.pem: the file holds a certificate and no list of revoked certificates (X509 CRL)",
        ),
    ]
}

#[test]
fn the_configuration_names_the_key_the_file_and_what_to_do() {
    for (name, change, expected) in changes() {
        let folder = tempfile::tempdir().unwrap();
        let (servers, devices) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
        listener(folder.path(), &servers, &devices, ClientCert::Required);
        change(folder.path(), &servers, &devices);
        let text = "[gateway]\nid = \"a\"\n[[listener]]\naddress = \"0.0.0.0:8883\"\n\
                    tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"devices-ca.pem\", crl = \"revoked.pem\" }\n";
        let read = config::parse(text, &folder.path().join("g.toml"), &|_| None);
        let said = read.map_or_else(|error| error.to_string(), |_| String::new());
        let said = said.replace(folder.path().to_str().unwrap(), "/f");
        let expected = match expected {
            "" => String::new(),
            expected => format!("/f/g.toml:5: [[listener]] {expected}"),
        };
        assert!(said.starts_with(&expected) && said.is_empty() == expected.is_empty(), "{name}: {said}");
    }
}

#[tokio::test]
async fn what_runs_out_is_warned_of_in_time() {
    let house = House::open().await;
    wait_for("a first look", || house.reload.warnings().is_empty()).await;
    house.server_ca.sign(Wish { valid: (-1, 7), ..Wish::server(3) }).write(house.folder.path(), "server");
    let old = Ca::new("old", (-20, -10)).certificate.pem();
    fs::write(house.path("devices-ca.pem"), house.devices_ca.certificate.pem() + &old).unwrap();
    fs::write(house.path("revoked.pem"), house.devices_ca.revoke(&[], -1)).unwrap();
    house.reload.ask();
    wait_for("warnings", || house.reload.warnings().len() == 3).await;
    let warnings = house.reload.warnings();
    for (warning, words) in warnings.iter().zip([
        "server.pem expires in ",
        "CA CN=old in client_ca expired on",
        "crl was to be renewed by",
    ]) {
        assert!(warning.starts_with("listener 127.0.0.1:0: ") && warning.contains(words), "{warning}");
    }
    let expiry = telemetry::recorder().unwrap().render();
    let line = "tidegate_certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"} ";
    assert!(expiry.contains(line), "{expiry}");
    // A list that is out of date, and a CA beside one that is not: the others get in.
    house.enter(house.config(&TLS13, Some(&house.device("stall-3", 7))), b'l').await.unwrap();
}

#[test]
fn a_check_names_lists_whose_signature_is_seen_only_when_a_device_comes() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, devices) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
    let tls = listener(folder.path(), &servers, &devices, ClientCert::Required).tls.unwrap();
    let check = || tls.check(clock::wall_ms()).unwrap();
    assert_eq!(check(), Vec::<String>::new());
    let lists = devices.revoke(&[], 30) + &devices.authorize("workshop", 5, ca::days(90)).revoke(&[], 30);
    fs::write(folder.path().join("revoked.pem"), lists).unwrap();
    let said = check();
    assert!(
        said.len() == 1 && said[0].starts_with("crl has a list of CN=workshop, which is no CA"),
        "{said:?}"
    );
}

#[tokio::test]
async fn two_cas_of_one_name_each_have_their_own_list_in_whatever_order() {
    for is_new_first in [false, true] {
        let house = House::open().await;
        let new = Ca::new("devices", (-1, 900));
        let both = |old: String, new: String| if is_new_first { new + &old } else { old + &new };
        let cas = both(house.devices_ca.certificate.pem(), new.certificate.pem());
        fs::write(house.path("devices-ca.pem"), cas).unwrap();
        let lists = |old: &[u64], of_new: &[u64]| {
            fs::write(
                house.path("revoked.pem"),
                both(house.devices_ca.revoke(old, 30), new.revoke(of_new, 30)),
            )
            .unwrap();
        };
        let of_old = |serial| house.config(&TLS13, Some(&house.device("good", serial)));
        let of_new = |serial| house.config(&TLS12, Some(&new.sign(Wish::client("good", serial))));
        let mut waits = house.enter(of_old(40), b'n').await.unwrap();
        lists(&[41], &[42]);
        house.reload.ask();
        let until = clock::monotonic() + LIMIT;
        let mut stays = loop {
            match house.enter(of_new(41), b'o').await {
                Ok(stream) => break stream,
                Err(error) => assert!(clock::monotonic() < until, "the new CA's device stays out: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        };
        // The same numbers, each the other one's.
        let mut ends = house.enter(of_old(42), b'p').await.unwrap();
        let mut other = house.enter(of_new(40), b'u').await.unwrap();
        for revoked in [of_old(41), of_new(42)] {
            let before = failures("revoked");
            assert!(house.enter(revoked, b'v').await.is_err(), "a revoked one got in");
            wait_for("a refusal", || failures("revoked") > before).await;
        }
        let stranger = Ca::new("devices", (-1, 90)).sign(Wish::client("good", 43));
        assert!(house.enter(house.config(&TLS13, Some(&stranger)), b'w').await.is_err());
        // Connections end by the key of their CA as well.
        lists(&[41, 42], &[42]);
        house.reload.ask();
        let mut rest = vec![];
        timeout(LIMIT, ends.read_to_end(&mut rest)).await.unwrap().unwrap();
        for stream in [&mut waits, &mut stays, &mut other] {
            ping(stream).await;
        }
    }
}

#[tokio::test]
async fn a_list_that_no_ca_signed_changes_nothing_and_is_told() {
    let house = House::open().await;
    let forged = Ca::new("devices", (-1, 90)).revoke(&[50], 30);
    fs::write(house.path("revoked.pem"), &forged).unwrap();
    house.reload.ask();
    wait_for("a warning", || house.reload.warnings().len() == 1).await;
    let warnings = house.reload.warnings();
    assert!(
        warnings[0].contains("the old ones are used") && warnings[0].contains("is not signed by its key")
    );
    house.enter(house.config(&TLS13, Some(&house.device("good", 50))), b'x').await.unwrap();
    assert!(house.enter(house.config(&TLS13, Some(&house.device("good", 666))), b'x').await.is_err());
    // Beside a good one it is left out.
    fs::write(house.path("revoked.pem"), forged + &house.devices_ca.revoke(&[51], 30)).unwrap();
    house.reload.ask();
    wait_for("another warning", || {
        house.reload.warnings().iter().any(|said| said.contains("crl has a list of CN=devices that no CA"))
    })
    .await;
    house.enter(house.config(&TLS13, Some(&house.device("good", 50))), b'x').await.unwrap();
    assert!(house.enter(house.config(&TLS13, Some(&house.device("good", 51))), b'x').await.is_err());
}

/// A device that does not look at the gateway's certificate.
fn careless(pair: &Pair) -> Arc<ClientConfig> {
    let (certificate, key) = pair.der();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(careless::Anybody));
    Arc::new(builder.with_client_auth_cert(vec![certificate], key).unwrap())
}

#[tokio::test]
async fn an_expired_certificate_is_served_with_a_warning_and_new_lists_are_loaded_beside_it() {
    let expired = |house: &House, serial| {
        let wish = Wish { valid: (-20, -10), ..Wish::server(serial) };
        house.server_ca.sign(wish).write(house.folder.path(), "server");
        house.reload.ask();
    };
    // One that is good is not given up for it.
    let house = House::open().await;
    expired(&house, 60);
    wait_for("a warning", || !house.reload.warnings().is_empty()).await;
    let warnings = house.reload.warnings();
    assert!(
        warnings[0].contains("the old ones are used: ") && warnings[0].contains("expired on"),
        "{warnings:?}"
    );
    house.enter(house.config(&TLS13, Some(&house.device("good", 61))), b'y').await.unwrap();

    // A start with it.
    let folder = tempfile::tempdir().unwrap();
    let (servers, devices) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
    let listener = listener(folder.path(), &servers, &devices, ClientCert::Required);
    servers.sign(Wish { valid: (-20, -10), ..Wish::server(62) }).write(folder.path(), "server");
    let house = House::open_at(folder, servers, devices, listener, LIMIT).await;
    wait_for("a warning", || {
        house.reload.warnings().iter().any(|said| said.contains("server.pem expired on"))
    })
    .await;
    let (stays, lost) = (careless(&house.device("good", 63)), careless(&house.device("good", 64)));
    let mut stays = house.enter(stays, b'z').await.unwrap();
    let mut ends = house.enter(lost.clone(), b'1').await.unwrap();
    // A device that looks does not connect.
    assert!(house.enter(house.config(&TLS13, Some(&house.device("good", 65))), b'2').await.is_err());
    fs::write(house.path("revoked.pem"), house.devices_ca.revoke(&[64], 30)).unwrap();
    house.reload.ask();
    let mut rest = vec![];
    timeout(LIMIT, ends.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(house.enter(lost, b'1').await.is_err(), "its certificate is revoked");
    ping(&mut stays).await;
    // And a new one ends the trouble.
    house.server_ca.sign(Wish::server(66)).write(house.folder.path(), "server");
    house.reload.ask();
    wait_for("no warning", || house.reload.warnings().is_empty()).await;
    house.enter(house.config(&TLS13, Some(&house.device("good", 65))), b'2').await.unwrap();
}

/// A connection whose incoming TLS records are measured.
struct Measured {
    stream: TcpStream,
    seen: Vec<u8>,
    longest: Arc<AtomicUsize>,
}

impl Measured {
    /// The longest of the records in what was seen, without its head.
    fn measure(&mut self) {
        while let Some(head) = self.seen.first_chunk::<5>() {
            let bytes = usize::from(u16::from_be_bytes([head[3], head[4]]));
            if self.seen.len() < 5 + bytes {
                return;
            }
            self.longest.fetch_max(bytes, Ordering::Relaxed);
            self.seen.drain(..5 + bytes);
        }
    }
}

impl AsyncRead for Measured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        self.seen.extend_from_slice(&into.filled()[before..]);
        self.measure();
        read
    }
}

impl AsyncWrite for Measured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Subscribes, has itself sent a message of 5,000 bytes, and gives the longest record that came,
/// handshake included.
async fn longest_record(house: &House, version: &'static SupportedProtocolVersion) -> usize {
    const PAYLOAD_BYTES: usize = 5_000;
    let longest = Arc::new(AtomicUsize::new(0));
    let stream = TcpStream::connect(("127.0.0.1", house.port)).await.unwrap();
    let measured = Measured { stream, seen: vec![], longest: longest.clone() };
    let connector = TlsConnector::from(house.config(version, None));
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = timeout(LIMIT, connector.connect(name, measured)).await.unwrap().unwrap();
    stream.write_all(&[&connect(b'm')[..], b"\x82\x06\x00\x01\x00\x01t\x00"].concat()).await.unwrap();
    let mut answers = [0; 9];
    timeout(LIMIT, stream.read_exact(&mut answers)).await.unwrap().unwrap();
    assert_eq!(answers, [0x20, 2, 0, 0, 0x90, 3, 0, 1, 0]);
    let bytes = 3 + PAYLOAD_BYTES;
    let publish =
        [&[0x30, bytes as u8 | 0x80, (bytes >> 7) as u8, 0, 1, b't'][..], &[7; PAYLOAD_BYTES]].concat();
    stream.write_all(&publish).await.unwrap();
    let mut message = vec![0; publish.len()];
    timeout(LIMIT, stream.read_exact(&mut message)).await.unwrap().unwrap();
    assert_eq!(message, publish);
    longest.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_client_with_a_small_buffer_gets_no_tls_record_that_is_longer_than_the_listener_says() {
    /// What a record has beside what is encrypted in it: 17 bytes of TLS 1.3 and 24 of TLS 1.2 with
    /// AES-GCM.
    const SEALED_BYTES_MOST: usize = 24;
    for version in VERSIONS {
        for max_record_bytes in [None, Some(512)] {
            let folder = tempfile::tempdir().unwrap();
            let (server_ca, devices_ca) = (Ca::new("servers", (-1, 900)), Ca::new("devices", (-1, 900)));
            let mut listener = listener(folder.path(), &server_ca, &devices_ca, ClientCert::None);
            listener.tls.as_mut().unwrap().max_record_bytes = max_record_bytes;
            let timeout = ingest::limits::TLS_TIMEOUT;
            let house = House::open_at(folder, server_ca, devices_ca, listener, timeout).await;
            house.access.replace(Policy::default());
            let longest = longest_record(&house, version).await;
            match max_record_bytes {
                None => assert!(longest > 5_000, "{version:?}: {longest}"),
                Some(bytes) => {
                    assert!((bytes..=bytes + SEALED_BYTES_MOST).contains(&longest), "{version:?}: {longest}");
                }
            }
        }
    }
}

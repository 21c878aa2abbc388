//! TLS with certificates of every kind: each that is wrong is told in one line that says what to
//! do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::date_time_ymd;
use tokio_util::sync::CancellationToken;

use super::{
    super::tls::{KeyPair, Tls, TlsSettings},
    certificates::{Ca, Kind, Pair},
    *,
};
use crate::reload::Reloadable as _;

/// A folder with the CA's certificate, and an uplink's settings that believe it.
fn folder(ca: &Ca) -> (tempfile::TempDir, TlsSettings) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    ca.write(&file);
    (folder, TlsSettings { ca: Some(file), ..TlsSettings::default() })
}

fn pair(folder: &Path) -> KeyPair {
    KeyPair { cert: folder.join("gw.pem"), key: folder.join("gw.key") }
}

fn layers(settings: &TlsSettings) -> Layers {
    Layers { tls: Some(Arc::new(Tls::new("cloud", settings.clone()))), ..Layers::default() }
}

/// What becomes of a connect by these settings to this server.
async fn ask(server: SocketAddr, settings: &TlsSettings) -> Result<Dialer, String> {
    let mut dialer = Dialer::with_names(LIMIT, &[server]);
    dialer.echo(server.port(), &layers(settings)).await.map(|_| dialer)
}

#[tokio::test]
async fn bytes_go_both_ways_by_tls_1_2_and_1_3_and_the_trace_says_whose_certificate_it_was() {
    let ca = Ca::new("Test CA");
    let (_folder, settings) = folder(&ca);
    let server = ca.server("localhost", |params| params.not_after = date_time_ymd(2101, 2, 3));
    for (kind, version) in Kind::new(&server).both().into_iter().zip(["TLS 1.2", "TLS 1.3"]) {
        let dialer = ask(kind.serve().await, &settings).await.unwrap();
        let said = dialer.done().last().unwrap().to_string();
        let of = "the server's certificate is of \"CN=localhost\", signed by \"CN=Test CA\", for localhost";
        assert_eq!(said, format!("{version}; {of}, good until 2101-02-03T00:00:00Z"));
    }
    let offering = TlsSettings { alpn: vec!["x-amzn-mqtt-ca".into()], ..settings.clone() };
    let kind = Kind { alpn: &["mqtt", "x-amzn-mqtt-ca"], ..Kind::new(&server) };
    let dialer = ask(kind.serve().await, &offering).await.unwrap();
    assert!(dialer.done().last().unwrap().to_string().starts_with("TLS 1.3 with \"x-amzn-mqtt-ca\"; "));
    let other = Kind { alpn: &["h2"], ..Kind::new(&server) };
    let failed = ask(other.serve().await, &offering).await.unwrap_err();
    assert!(failed.contains("the server speaks none of the protocols in tls.alpn"), "{failed}");
}

#[tokio::test]
async fn a_servers_certificate_that_is_not_good_is_told_by_its_cause_and_what_to_do() {
    let (ca, other, namesake) = (Ca::new("Test CA"), Ca::new("Other CA"), Ca::new("Test CA"));
    let (_folder, settings) = folder(&ca);
    let stranger = TlsSettings { server_name: Some("cloud.example".into()), ..settings.clone() };
    let good = ca.server("localhost", |_| ());
    let cases: [(Pair, &TlsSettings, &str); 8] = [
        (
            namesake.server("localhost", |_| ()),
            &settings,
            "the server's certificate is signed by another CA of the name of one in ",
        ),
        (
            ca.server("localhost", |params| {
                params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            }),
            &settings,
            "the server shows a CA's certificate as its own: have this CA sign one for the server",
        ),
        (other.server("localhost", |_| ()), &settings, "is signed by \"CN=Other CA\", which is not in "),
        (
            ca.server("elsewhere.example", |_| ()),
            &settings,
            "is for elsewhere.example and not for localhost: name one of these in url, or",
        ),
        (good, &stranger, "is for localhost and not for cloud.example"),
        (
            ca.server("localhost", |params| params.not_after = date_time_ymd(2020, 1, 2)),
            &settings,
            "expired on 2020-01-02T00:00:00Z, and it is ",
        ),
        (
            ca.server("localhost", |params| params.not_before = date_time_ymd(2100, 1, 2)),
            &settings,
            "is not valid before 2100-01-02T00:00:00Z, and it is ",
        ),
        (
            ca.server("localhost", |params| {
                params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
            }),
            &settings,
            "is not for servers",
        ),
    ];
    for (server, settings, words) in &cases {
        for kind in Kind::new(server).both() {
            let address = kind.serve().await;
            let failed = ask(address, settings).await.err().unwrap_or_default();
            let starts = format!("no TLS with {address}: the server");
            assert!(failed.starts_with(&starts) && failed.contains(words), "{words}: {failed}");
            assert_eq!(failed.lines().count(), 1);
        }
    }
    let nameless = TlsSettings { server_name: Some("no name".into()), ..settings };
    let failed = ask(closed_by_peer().await, &nameless).await.err().unwrap_or_default();
    assert!(failed.contains("\"no name\" is neither a DNS name nor an address"), "{failed}");
}

#[tokio::test]
async fn what_a_server_makes_of_our_certificate_is_told_though_it_comes_after_the_handshake() {
    let (ca, other) = (Ca::new("Test CA"), Ca::new("Other CA"));
    let (folder, settings) = folder(&ca);
    let server = ca.server("localhost", |_| ());
    let wanting = Kind { clients: Some(&ca), ..Kind::new(&server) };
    let with = TlsSettings { client: Some(pair(folder.path())), ..settings.clone() };
    let show = |shown: &Pair| shown.write(&pair(folder.path()).cert, &pair(folder.path()).key);
    for kind in wanting.both() {
        let address = kind.serve().await;
        let failed = ask(address, &settings).await.err().unwrap_or_default();
        assert!(
            failed.contains("set tls.cert and tls.key")
                || failed.contains("a client certificate in tls.cert"),
            "{failed}"
        );
        show(&other.client("gate"));
        let failed = ask(address, &with).await.err().unwrap_or_default();
        let words = "the server does not know the CA of our certificate of \"CN=gate\", \"CN=Other CA\"";
        assert!(failed.contains(words), "{failed}");
        let (start, end) = (date_time_ymd(2098, 1, 2), date_time_ymd(2099, 1, 2));
        show(&ca.client_with("gate", |params| (params.not_before, params.not_after) = (start, end)));
        let failed = ask(address, &with).await.err().unwrap_or_default();
        let words = "our certificate of \"CN=gate\", which is good from 2098-01-02T00:00:00Z until 2099-01-02T00:00:00Z";
        assert!(failed.contains(words), "{failed}");
        show(&ca.client("gate"));
        ask(address, &with).await.unwrap();
    }
}

/// A server that closes at once.
async fn closed_by_peer() -> SocketAddr {
    serve("127.0.0.1:0", |mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await
}

#[tokio::test]
async fn what_is_no_tls_at_all_is_told() {
    let ca = Ca::new("Test CA");
    let (_folder, settings) = folder(&ca);
    let broker = serve("127.0.0.1:0", |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1024]).await;
    })
    .await;
    for (address, words) in [
        (broker, "what answers there is not TLS: check the port, or leave TLS out of url"),
        (closed_by_peer().await, "the server closed the connection in the handshake"),
    ] {
        let failed = ask(address, &settings).await.err().unwrap_or_default();
        assert!(failed.contains(words), "{failed}");
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_with_their_path_and_nothing_of_a_key() {
    let ca = Ca::new("Test CA");
    let (folder, settings) = folder(&ca);
    let KeyPair { cert, key } = pair(folder.path());
    let with = TlsSettings { client: Some(pair(folder.path())), ..settings.clone() };
    let server = ca.server("localhost", |_| ());
    let address = Kind::new(&server).serve().await;
    let mut secret = String::new();
    for step in ["missing", "other key", "open key", "no key", "no ca"] {
        let (mut settings, gate) = (with.clone(), ca.client("gate"));
        gate.write(&cert, &key);
        secret += &gate.key.serialize_pem();
        let words = match step {
            "missing" => {
                std::fs::remove_file(&cert).unwrap();
                "gw.pem: the file cannot be read: No such file"
            }
            "other key" => {
                ca.client("other").write(&folder.path().join("other.pem"), &key);
                "gw.key: the key does not belong to the certificate in "
            }
            "open key" => {
                use std::os::unix::fs::PermissionsExt as _;
                std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
                "gw.key: everybody on this machine may read the key (mode 0644); chmod 600 it"
            }
            "no key" => {
                settings.client = Some(KeyPair { cert: cert.clone(), key: cert.clone() });
                std::fs::set_permissions(&cert, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                "gw.pem: the file holds a certificate and no private key"
            }
            _ => {
                settings.ca = Some(key.clone());
                "gw.key: the file holds a private key and no certificate"
            }
        };
        let failed = ask(address, &settings).await.err().unwrap_or_default();
        assert!(failed.contains(words), "{step}: {failed}");
        let checked = Tls::new("cloud", settings).check(0).unwrap_err().to_string();
        assert!(checked.contains(words), "{step}: {checked}");
        let is_told = |line: &str| !line.starts_with('-') && failed.contains(line);
        assert!(!secret.lines().any(is_told), "a line of the key in {failed}");
        let _ = std::fs::remove_file(&cert);
        let _ = std::fs::remove_file(&key);
    }
}

#[tokio::test]
async fn new_files_end_a_standing_connection_in_order_and_bad_ones_are_not_used() {
    let ca = Ca::new("Test CA");
    let (folder, settings) = folder(&ca);
    let KeyPair { cert, key } = pair(folder.path());
    let settings = TlsSettings { client: Some(pair(folder.path())), ..settings };
    let tls = Arc::new(Tls::new("cloud", settings));
    let layers = Layers { tls: Some(tls.clone()), ..Layers::default() };
    let server = ca.server("localhost", |_| ());
    let address = Kind { clients: Some(&ca), ..Kind::new(&server) }.serve().await;
    ca.client("gate").write(&cert, &key);
    let mut dialer = Dialer::with_names(LIMIT, &[address]);
    let wall_ms = clock::wall_ms();
    for turn in 0..2 {
        dialer.echo(address.port(), &layers).await.unwrap();
        let stop = CancellationToken::new();
        let watch = dialer.cancel_when_stale(&stop);
        // The same once more, a torn pair, and one that has ended already.
        tls.load(wall_ms).unwrap();
        let torn: PathBuf = folder.path().join("torn.pem");
        ca.client("next").write(&torn, &key);
        assert!(tls.load(wall_ms).unwrap_err().contains("does not belong to"), "turn {turn}");
        let old = ca.server("gate", |params| params.not_after = date_time_ymd(2020, 1, 2));
        old.write(&cert, &key);
        assert!(tls.load(wall_ms).unwrap_err().contains("the certificate expired on 2020-01-02"));
        tokio::task::yield_now().await;
        assert!(!stop.is_cancelled(), "turn {turn}");
        drop(watch);
        dialer.echo(address.port(), &layers).await.unwrap();
        let _watch = dialer.cancel_when_stale(&stop);
        ca.client("gate").write(&cert, &key);
        tls.load(wall_ms).unwrap();
        timeout(LIMIT, stop.cancelled()).await.unwrap();
    }
    assert_eq!(tls.warnings(wall_ms), Vec::<String>::new());
    let near = ca.server("gate", |params| params.not_after = date_time_ymd(2100, 1, 2));
    near.write(&cert, &key);
    tls.load(wall_ms).unwrap();
    let end_ms = 4_102_531_200_000 - 86_400_000;
    let said = tls.warnings(end_ms);
    assert!(
        said[0].starts_with("uplink cloud: the certificate ") && said[0].contains("expires in"),
        "{said:?}"
    );
}

//! The pages of the platforms tell the truth: the configuration of each, as it stands there, brings
//! events to the platform's stand-in, which finds nothing to object to.

use std::{path::Path, time::Duration};

use tidegate_tests::{
    ca::Ca,
    client::Client,
    clock::wait_for,
    cloud::{Seen, StandIn, limits::Limits, platforms, sas::SharedAccess, tls::ServerTls},
    codec::{Ack, Connect, Packet, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    program,
};

const LIMIT: Duration = Duration::from_secs(60);
/// Events of each page.
const EVENTS: u16 = 20;

/// A page: its name, its platform, whether that wants a certificate, and the password or key that
/// goes into the file that the page names.
struct Page {
    name: &'static str,
    limits: Limits,
    wants_certificate: bool,
    password: Option<String>,
}

/// The first block of TOML of a page.
fn configuration(page: &str) -> String {
    let path = program::workspace().join("docs/uplinks").join(page).with_extension("md");
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (_, rest) = text.split_once("```toml\n").expect("the page has a configuration");
    rest.split_once("```").expect("a block ends").0.into()
}

/// What a key of the block is set to, without quotes.
fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = block.split_once(&format!("{key} = \""))?;
    rest.split('"').next()
}

/// The files that a page names, in the folder of the configuration.
fn write_files(page: &Page, block: &str, folder: &Path, ca: &Ca) {
    let ca_name = value(block, "ca").unwrap_or("system.pem");
    ca.write(&folder.join(ca_name)).expect("the folder is writable");
    if let (Some(cert), Some(key)) = (value(block, "cert"), value(block, "key")) {
        let pair = ca.client("barn-7").expect("random numbers");
        pair.write(&folder.join(cert), &folder.join(key)).expect("the folder is writable");
    }
    let secret = value(block, "password_file").or_else(|| value(block, "azure_key_file"));
    if let (Some(name), Some(password)) = (secret, &page.password) {
        use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(folder.join(name));
        file.and_then(|mut file| file.write_all(password.as_bytes())).expect("the folder is writable");
    }
}

/// The same block for a stand-in that listens at `address` in the platform's place.
fn at(block: &str, host: &str, address: std::net::SocketAddr) -> String {
    let url = value(block, "url").expect("the page has an address");
    let block = block.replace(url, &format!("mqtts://{address}"));
    let named = format!("tls = {{ server_name = \"{host}\"");
    match block.contains("tls = { ") {
        true => block.replace("tls = { ", &format!("{named}, ")),
        false => format!("{block}{named} }}\n"),
    }
}

async fn show(page: Page) {
    let block = configuration(page.name);
    let url = value(&block, "url").expect("the page has an address");
    let host = url.trim_start_matches("mqtts://").split(':').next().expect("a host").to_owned();
    let ca = Ca::new().expect("random numbers");
    let own = ca.server_called(&host).expect("a name of a host").der();
    let tls = ServerTls::new(&host, own, page.wants_certificate.then_some(&ca)).expect("good certificates");
    let cloud = StandIn::start_behind(page.limits.clone(), tls).await;
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("", Version::V5)));
    let folder = gateway.config_path().parent().expect("it lies in a folder").to_owned();
    write_files(&page, &block, &folder, &ca);
    let system = folder.join("system.pem");
    if system.exists() {
        let name = system.to_string_lossy().into_owned();
        gateway.setup.environment.push(("SSL_CERT_FILE".into(), name));
    }
    let text = format!(
        "[gateway]\nid = \"barn-7\"\ndata_dir = {:?}\n[http]\naddress = \"{}\"\n[[listener]]\naddress = \"{}\"\n\
         [[route]]\nfilter = \"#\"\npayload = \"json\"\n{}",
        gateway.data_dir(),
        gateway.http,
        gateway.mqtt,
        at(&block, &host, cloud.address)
    );
    std::fs::write(gateway.config_path(), text).expect("the folder is writable");
    gateway.restart();
    publish(&gateway).await;
    let what = format!("events of the page {}", page.name);
    wait_for(&what, LIMIT, || {
        cloud.seen(Seen::taken) >= EVENTS.into() && gateway.metric("tidegate_backlog_events") == 0.0
    })
    .await;
    assert_eq!(cloud.seen(|seen| seen.breaches.clone()), [], "{}", page.name);
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "{}", page.name);
}

async fn publish(gateway: &Gateway) {
    let connect = Connect { version: Version::V5, client_id: "d", clean: true, keep_alive_s: 60 };
    let mut client = Client::connect(gateway.mqtt, &connect).await.expect("the gateway accepts");
    for packet_id in 1..=EVENTS {
        let payload = format!("{{\"temperature\":{packet_id}}}");
        let payload = payload.as_bytes();
        client.put_publish(&Publish {
            topic: "hall/2/climate",
            payload,
            qos: 1,
            packet_id,
            dup: false,
            user_properties: &[],
        });
        client.flush().await.expect("the connection is open");
        assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_of_each_page_brings_events_to_its_platform() {
    let access = SharedAccess::new("myhub.azure-devices.net", "barn-7");
    let key = access.key_base64();
    let page = |name, limits, wants_certificate, password: Option<&str>| Page {
        name,
        limits,
        wants_certificate,
        password: password.map(str::to_owned),
    };
    let pages = [
        page("aws-iot", platforms::aws_iot(), true, None),
        page("azure-iot-hub", platforms::azure_iot_hub(access), false, Some(&key)),
        page("azure-event-grid", platforms::azure_event_grid("barn-7"), true, None),
        page("thingsboard", platforms::thingsboard("A1_TEST_TOKEN"), false, None),
        page("hivemq-cloud", platforms::hivemq_cloud("barn-7", "secret"), false, Some("secret")),
        page("emqx-serverless", platforms::emqx_serverless("barn-7", "secret"), false, Some("secret")),
    ];
    for page in pages {
        show(page).await;
    }
}

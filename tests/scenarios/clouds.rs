//! The clouds that an MQTT uplink meets, each by a stand-in that holds its clients to the
//! platform's limits: kills of the gateway and a link that flaps lose nothing that was
//! acknowledged, and a backlog goes at the rate that the platform takes.
//!
//! How long links flap: `TEST_CLOUD_SECONDS`, 48 if it is not set.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use tempfile::TempDir;
use tidegate_tests::{
    ca::Ca,
    chaos::{Fault, Link, Proxy, flap},
    clock::{now, unix_s, wait_for},
    cloud::{Breach, Seen, StandIn, limits::Limits, platforms, sas::SharedAccess, tls::ServerTls},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::Ledger,
    program::scratch,
    rng::Rng,
};

/// Longest wait for devices to get their acknowledgements, and for the backlog to be gone.
const DRAIN_LIMIT: Duration = Duration::from_secs(240);
/// A link is up, and down, for so long at a time.
const FLAP_MS: (u64, u64) = (1_000, 10_000);
/// Of so many acknowledgements of a platform one is lost.
const ACKS_PER_LOST: NonZeroU64 = NonZeroU64::new(150).expect("150 is not 0");
/// The gateway is killed after so long.
const LIFE_MS: (u64, u64) = (6_000, 12_000);
/// What flapping links do. Early cuts hit the handshake, of TLS where there is one.
const FAULTS: [Fault; 5] = [Fault::Cut, Fault::Reset, Fault::HalfOpen, Fault::LostAcks, Fault::CutEarly];

/// The gateway's client id, by its own id and the uplink's name.
const CLIENT_ID: &str = "tidegate-gate-cloud";

/// A platform, what of its rules the gateway may break, and the load.
struct Case {
    limits: Limits,
    uplink: Uplink,
    password: Option<String>,
    /// Breaches that lose nothing and are not held against the gateway here.
    allowed: &'static [Breach],
    devices: u32,
    events_per_s_per_device: u32,
    tls: Option<Tls>,
}

/// TLS before a platform, and the folder with the files that the gateway needs for it.
struct Tls {
    server: ServerTls,
    _folder: TempDir,
}

impl Case {
    async fn start(&self) -> StandIn {
        match &self.tls {
            Some(tls) => StandIn::start_behind(self.limits.clone(), tls.server.clone()).await,
            None => StandIn::start(self.limits.clone()).await,
        }
    }

    /// The same behind TLS of a server called `host`, which may ask for a certificate.
    fn behind_tls(mut self, host: &str, asks: bool) -> Self {
        let folder = TempDir::with_prefix_in("tls-", scratch()).expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let ca = Ca::new().expect("random numbers");
        ca.write(&file("ca.pem")).expect("the folder is writable");
        let mut keys = format!("ca = {:?}, server_name = {host:?}", file("ca.pem"));
        if asks {
            let pair = ca.client("gate").expect("random numbers");
            pair.write(&file("gate.pem"), &file("gate.key")).expect("the folder is writable");
            keys += &format!(", cert = {:?}, key = {:?}", file("gate.pem"), file("gate.key"));
        }
        let own = ca.server_called(host).expect("a host's name").der();
        let server = ServerTls::new(host, own, asks.then_some(&ca)).expect("good certificates");
        self.uplink.lines += &format!("\ntls = {{ {keys} }}");
        self.tls = Some(Tls { server, _folder: folder });
        self
    }

    fn setup(&self, proxy: &Proxy) -> Setup {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        let url = format!("{scheme}://{}", proxy.address);
        let mut setup = Setup::new(Uplink { url, ..self.uplink.clone() });
        let password = self.password.iter();
        setup.environment.extend(password.map(|text| ("TIDEGATE_PASSWORD_CLOUD".to_owned(), text.clone())));
        setup
    }

    fn aws_iot() -> Self {
        Self {
            limits: platforms::aws_iot(),
            uplink: Uplink::new("", Version::V5),
            password: None,
            allowed: &[Breach::ConnectRate, Breach::Rate],
            devices: 3,
            events_per_s_per_device: 15,
            tls: None,
        }
    }

    fn azure_iot_hub() -> Self {
        let access = SharedAccess::new("hub.azure-devices.example", CLIENT_ID);
        let topic = format!("devices/{CLIENT_ID}/messages/events/device={{device}}");
        let lines = format!("user = {:?}", access.user());
        Self {
            uplink: Uplink { topic, lines, ..Uplink::new("", Version::V311) },
            password: Some(access.token(unix_s() + 24 * 3600)),
            limits: platforms::azure_iot_hub(access),
            allowed: &[],
            devices: 3,
            events_per_s_per_device: 100,
            tls: None,
        }
    }

    fn azure_event_grid() -> Self {
        Self {
            limits: platforms::azure_event_grid("gate"),
            uplink: Uplink { lines: "user = \"gate\"".into(), ..Uplink::new("", Version::V5) },
            password: Some("none".into()),
            allowed: &[Breach::Rate],
            devices: 3,
            events_per_s_per_device: 100,
            tls: None,
        }
    }

    fn emqx_serverless() -> Self {
        Self {
            limits: platforms::emqx_serverless("gate", "secret"),
            uplink: Uplink { lines: "user = \"gate\"".into(), ..Uplink::new("", Version::V5) },
            password: Some("secret".into()),
            allowed: &[],
            devices: 2,
            events_per_s_per_device: 2,
            tls: None,
        }
    }
}

/// Devices publish, the link flaps, the gateway is killed: nothing is lost, every device's events
/// are in order, and nobody is blamed.
async fn survive(case: Case) {
    let seconds = std::env::var("TEST_CLOUD_SECONDS").map_or(48, |text| text.parse().expect("a number"));
    let duration = Duration::from_secs(seconds);
    let mut rng = Rng::from_environment(case.limits.name);
    let cloud = case.start().await;
    let proxy = Arc::new(Proxy::start(cloud.address).await);
    let mut gateway = Gateway::start(case.setup(&proxy));
    let devices = (0..case.devices).map(|n| Device {
        per_second: Some(case.events_per_s_per_device),
        pause: Some(Duration::from_millis(50)),
        ..Device::new(&format!("d{n}"), if n % 2 == 0 { Version::V311 } else { Version::V5 })
    });
    let fleet = Fleet::start(gateway.mqtt, devices);
    // A link that flaps loses acknowledgements for a while; the platform loses a few all the time.
    cloud.change_behaviour(|behaviour| behaviour.drop_ack_every = Some(ACKS_PER_LOST));
    let flapping = tokio::spawn({
        let (proxy, mut rng) = (proxy.clone(), Rng::new(rng.next_u64()));
        async move { flap(&proxy, &mut rng, &FAULTS, FLAP_MS, duration).await }
    });
    while !flapping.is_finished() {
        // The moment is what is random: nothing is waited for.
        tokio::time::sleep(Duration::from_millis(rng.between(LIFE_MS.0, LIFE_MS.1))).await;
        gateway.kill();
        gateway.restart();
    }
    let faults = flapping.await.expect("flapping does not panic");
    cloud.change_behaviour(|behaviour| behaviour.drop_ack_every = None);
    let ledgers = fleet.finish(DRAIN_LIMIT).await;
    let (proxy, cloud) = (&*proxy, &cloud);
    demand(&case, &ledgers, &gateway, cloud).await;
    eprintln!(
        "{}: {faults:?}, {} kills, {} connections cut, {} turned away, {} acknowledgements lost",
        case.limits.name,
        gateway.starts() - 1,
        proxy.cut_connections(),
        proxy.turned_away(),
        proxy.dropped_acks() + cloud.seen(|seen| seen.dropped_acks)
    );
    // A gateway that was just killed, or waits before its next try, has no connection to lose.
    let disturbed = proxy.cut_connections() + proxy.turned_away() + proxy.dropped_acks();
    assert!(disturbed > 0, "the link was hardly ever down");
}

async fn demand(case: &Case, ledgers: &[Ledger], gateway: &Gateway, cloud: &StandIn) {
    let name = case.limits.name;
    wait_for(&format!("everything at {name}"), DRAIN_LIMIT, || cloud.seen(|seen| seen.is_complete(ledgers)))
        .await;
    wait_for("the backlog to be gone", DRAIN_LIMIT, || gateway.metric("tidegate_backlog_events") == 0.0)
        .await;
    let (verdict, connections, breaches) =
        cloud.seen(|seen| (seen.demand(ledgers), seen.connections.len(), seen.breaches()));
    eprintln!(
        "{name}: {} events, {} copies, {connections} connections, breaches {breaches:?}",
        verdict.arrived, verdict.copies
    );
    let window = case.uplink.window.min(u32::from(case.limits.unacked_max));
    assert!(verdict.copies <= connections * window as usize, "{name}: more copies than windows");
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "{name}: a healthy event was blamed");
    // A handshake that the link broke off is nobody's fault.
    let is_allowed = |breach: &&Breach| case.allowed.contains(breach) || **breach == Breach::Handshake;
    let strange: Vec<_> = breaches.keys().filter(|breach| !is_allowed(breach)).collect();
    assert!(strange.is_empty(), "{name}: {strange:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aws_iot_core_gets_everything_in_order_over_kills_and_a_link_that_flaps() {
    survive(Case::aws_iot().behind_tls("abc-ats.iot.eu-central-1.amazonaws.example", true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_iot_hub_gets_everything_in_order_over_kills_and_a_link_that_flaps() {
    survive(Case::azure_iot_hub().behind_tls("hub.azure-devices.example", false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_event_grid_gets_everything_in_order_over_kills_and_a_link_that_flaps() {
    survive(Case::azure_event_grid().behind_tls("space.ts.eventgrid.example", true)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emqx_serverless_gets_everything_in_order_over_kills_and_a_link_that_flaps() {
    survive(Case::emqx_serverless().behind_tls("abcd.emqxsl.example", false)).await;
}

/// Puts so many events of two devices into the store while the link is down, opens it, and gives
/// how long it takes until all are there and the share that was sent twice.
async fn drain(case: Case, events: u32, limit: Duration) -> (Duration, f64) {
    let cloud = case.start().await;
    let proxy = Proxy::start(cloud.address).await;
    proxy.set(Link::Cut);
    let gateway = Gateway::start(case.setup(&proxy));
    let devices = ["a", "b"].map(|name| Device { count_max: events / 2, ..Device::new(name, Version::V311) });
    let ledgers = Fleet::start(gateway.mqtt, devices).all(DRAIN_LIMIT).await;
    proxy.set(Link::Open);
    // The first connection may be a back-off away, which is none of the pace.
    wait_for("the first event", DRAIN_LIMIT, || cloud.seen(Seen::taken) > 0).await;
    let start = now();
    let what = format!("{events} events at {}", case.limits.name);
    let limit = limit + DRAIN_LIMIT;
    wait_for(&what, limit, || cloud.seen(|seen| seen.is_complete(&ledgers))).await;
    let took = start.elapsed();
    let twice = cloud.seen(|seen| seen.messages.len() - events as usize) as f64 / f64::from(events);
    let breaches = cloud.seen(Seen::breaches);
    eprintln!("{what}: {took:?}, {:.1} % sent twice, breaches {breaches:?}", twice * 100.0);
    cloud.seen(|seen| seen.demand(&ledgers));
    assert_eq!(gateway.metric("tidegate_dead_letters"), 0.0, "a healthy event was blamed");
    (took, twice)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_finds_the_rate_over_which_aws_iot_core_discards() {
    let limit = Duration::from_secs(120);
    let (took, twice) = drain(Case::aws_iot(), 5000, limit).await;
    assert!(took <= limit && twice <= 0.1, "{took:?}, {twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_goes_to_aws_iot_core_with_its_platform_alone_and_hardly_any_goes_twice() {
    let limit = Duration::from_secs(60);
    let mut case = Case::aws_iot();
    case.uplink.window = 100;
    case.uplink.lines = "platform = \"aws-iot\"".into();
    let (took, twice) = drain(case, 5000, limit).await;
    assert!(took <= limit && twice <= 0.01, "{took:?}, {twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_goes_to_emqx_serverless_at_the_rate_that_it_takes() {
    let limit = Duration::from_secs(60);
    let (took, twice) = drain(Case::emqx_serverless(), 500, limit).await;
    assert!(took <= limit && twice <= 0.1, "{took:?}, {twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_goes_to_emqx_serverless_with_its_platform_alone_and_nothing_goes_twice() {
    let limit = Duration::from_secs(60);
    let mut case = Case::emqx_serverless();
    case.uplink.lines += "\nplatform = \"emqx-serverless\"";
    let (took, twice) = drain(case, 500, limit).await;
    assert!(took <= limit && twice == 0.0, "{took:?}, {twice}");
}

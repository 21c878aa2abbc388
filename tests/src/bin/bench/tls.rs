//! TLS to the upstream: mosquitto's bridge and the gateway before the same upstream, whose TLS is
//! ended by this program, on one thread for whoever is measured.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::ring, version::TLS13};
use tidegate_tests::{
    brokers::Mosquitto,
    ca::Ca,
    clock::now,
    codec::Version,
    gateway::{Gateway, Setup, Uplink},
    load::{Publishers, Sink},
    ports, program,
};
use tokio::{io::copy_bidirectional_with_sizes, net::TcpListener, net::TcpStream, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use super::{
    WARM_UP,
    contestants::{Contestant, Running, UPLINK_WINDOW, bridge},
    drained, micros,
};

/// What is asked for at the least, against mosquitto in the same run.
const RATE_RATIO_MIN: f64 = 10.0;
const CPU_RATIO_MAX: f64 = 0.2;
/// Clients and events in flight of each.
const LOAD: (usize, usize) = (50, 100);
const BUFFER_BYTES: usize = 64 * 1024;

/// The end of TLS: whoever connects reaches the upstream. Ends with the value.
struct Front {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Front {
    fn start(ca: &Ca, upstream: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let (certificate, key) = ca.server()?.der();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let address = ports::free_address();
        let listener = runtime.block_on(TcpListener::bind(address))?;
        runtime.spawn(async move {
            while let Ok((outer, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let _ = carry(outer, &acceptor, upstream).await;
                });
            }
        });
        Ok(Self { address, _runtime: runtime })
    }
}

/// An error is the others' to notice.
async fn carry(outer: TcpStream, acceptor: &TlsAcceptor, upstream: SocketAddr) -> std::io::Result<()> {
    outer.set_nodelay(true)?;
    let mut outer = acceptor.accept(outer).await?;
    let mut inner = TcpStream::connect(upstream).await?;
    inner.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut outer, &mut inner, BUFFER_BYTES, BUFFER_BYTES).await.map(drop)
}

/// Full speed over TLS. `false` says that the ratios fall short.
pub fn tls(measured: Duration) -> Result<bool, Box<dyn Error>> {
    let (clients, window) = LOAD;
    println!("### TLS 1.3 to the upstream, {clients} x {window}\n");
    println!("| | out, k/s | CPU per event, µs | lost |\n|---|---|---|---|");
    let ca = Ca::new()?;
    let folder = tempfile::tempdir_in(program::scratch())?;
    let file = folder.path().join("ca.pem");
    ca.write(&file)?;
    let mut figures = vec![];
    for contestant in [Contestant::Mosquitto, Contestant::Tidegate] {
        let upstream = ports::free_address();
        let (sink, front) = (Sink::start(upstream), Front::start(&ca, upstream)?);
        let (port, ca) = (front.address.port(), file.display());
        let running = if contestant == Contestant::Mosquitto {
            let lines = bridge(&format!("localhost:{port}")) + &format!("bridge_cafile {ca}\n");
            Running::Mosquitto(Mosquitto::start_with(|_| lines))
        } else {
            let table = format!(
                "[[uplink]]\nname = \"cloud\"\nurl = \"mqtts://localhost:{port}\"\nprotocol = \"3.1.1\"\n\
                 window = {UPLINK_WINDOW}\ntls = {{ ca = \"{ca}\" }}\n"
            );
            let nobody = Uplink::new("", Version::V311);
            let setup = Setup { uplinks: vec![], tables: table, ..Setup::new(nobody) };
            Running::Tidegate(Box::new(Gateway::start(setup)))
        };
        let publishers = Publishers::start(running.address(), clients, window, None);
        std::thread::sleep(WARM_UP);
        let (begun, delivered, start) = (now(), sink.delivered(), running.usage());
        std::thread::sleep(measured);
        let (events, end) = (sink.delivered() - delivered, running.usage());
        let rate = events as f64 / begun.elapsed().as_secs_f64() / 1000.0;
        let missing = drained(&sink, publishers.finish()?);
        let cpu = micros(start, end, events);
        println!("| {} | {rate:.0} | {cpu:.2} | {missing} |", contestant.name());
        figures.push((rate, cpu, missing));
    }
    let [(peer_rate, peer_cpu, _), (rate, cpu, missing)] = figures[..] else { return Ok(false) };
    let (rate, cpu) = (rate / peer_rate, cpu / peer_cpu);
    println!("\nTidegate against mosquitto: {rate:.1} times its rate at {cpu:.2} of its CPU.\n");
    Ok(rate >= RATE_RATIO_MIN && cpu <= CPU_RATIO_MAX && missing == 0)
}

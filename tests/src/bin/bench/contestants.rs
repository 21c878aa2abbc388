//! Who is measured: each starts in front of the same upstream, and is a process of its own.

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use tempfile::TempDir;
use tidegate_tests::{
    brokers::Mosquitto,
    clock::wait_blocking,
    codec::Version,
    gateway::{Gateway, Setup, Uplink},
    meter::{self, Usage},
    ports, program,
};

const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// Publishes in flight to the upstream, for all of them.
pub const UPLINK_WINDOW: u32 = 10_000;

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// Debian's mosquitto with a bridge, in memory.
    Mosquitto,
    /// The gateway, as it is shipped.
    Tidegate,
    /// What is possible: see `ceiling.rs`.
    Ceiling,
}

impl Contestant {
    /// As the tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto bridge (memory only)",
            Self::Tidegate => "**Tidegate** (durable)",
            Self::Ceiling => "ceiling (durable)",
        }
    }

    /// Starts it in front of `upstream`.
    pub fn start(self, upstream: SocketAddr) -> Running {
        match self {
            Self::Mosquitto => Running::Mosquitto(Mosquitto::start_with(|_| bridge(&upstream.to_string()))),
            Self::Tidegate => {
                let uplink = Uplink {
                    window: UPLINK_WINDOW,
                    ..Uplink::new(&format!("mqtt://{upstream}"), Version::V311)
                };
                Running::Tidegate(Box::new(Gateway::start(Setup::new(uplink))))
            }
            Self::Ceiling => Running::Ceiling(Ceiling::start(upstream)),
        }
    }
}

/// Lines that make mosquitto a bridge: QoS 1, everything out, with a window as wide as the others'.
pub fn bridge(upstream: &str) -> String {
    format!(
        "max_inflight_messages {UPLINK_WINDOW}\npersistence false\nconnection up\naddress {upstream}\n\
         bridge_protocol_version mqttv311\ntry_private false\nnotifications false\ncleansession false\n\
         restart_timeout 1 2\ntopic # out 1\n"
    )
}

/// A started contestant. Ends with the value.
pub enum Running {
    /// [`Contestant::Mosquitto`]
    Mosquitto(Mosquitto),
    /// [`Contestant::Tidegate`]
    Tidegate(Box<Gateway>),
    /// [`Contestant::Ceiling`]
    Ceiling(Ceiling),
}

impl Running {
    /// Where devices connect.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Mosquitto(broker) => broker.address,
            Self::Tidegate(gateway) => gateway.mqtt,
            Self::Ceiling(ceiling) => ceiling.address,
        }
    }

    /// What it costs.
    pub fn usage(&self) -> Usage {
        meter::usage(match self {
            Self::Mosquitto(broker) => broker.pid(),
            Self::Tidegate(gateway) => gateway.pid(),
            Self::Ceiling(ceiling) => ceiling.child.id(),
        })
    }
}

/// The ceiling's process.
pub struct Ceiling {
    address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Ceiling {
    fn start(upstream: SocketAddr) -> Self {
        let folder = tempfile::tempdir_in(program::scratch()).expect("the scratch folder is writable");
        let address = ports::free_address();
        let child = Command::new(beside("ceiling"))
            .args([address.to_string(), upstream.to_string()])
            .arg(folder.path().join("rows.redb"))
            .spawn()
            .expect("it was built beside this program");
        wait_blocking("the ceiling to listen", LISTEN_LIMIT, || TcpStream::connect(address).is_ok());
        Self { address, child, _folder: folder }
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn beside(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program knows where it is");
    own.with_file_name(name)
}

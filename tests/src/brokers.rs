//! Real brokers as upstreams: mosquitto as a process, rumqttd as a thread.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{clock::wait_blocking, ports, program, tools};

/// Longest wait until a broker listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);

/// A mosquitto with its folder and port. Killed with the value.
#[derive(Debug)]
pub struct Mosquitto {
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
}

impl Mosquitto {
    /// Starts one that keeps what its sessions have not got, on disk, without a limit.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(|_| String::new())
    }

    /// Starts one with lines of configuration added, such as a bridge's.
    ///
    /// # Panics
    /// It does not listen within ten seconds.
    #[must_use]
    pub fn start_with(lines: impl FnOnce(SocketAddr) -> String) -> Self {
        let address = ports::free_address();
        let folder = tempfile::Builder::new()
            .prefix("mosquitto-")
            .tempdir_in(program::scratch())
            .expect("the scratch folder is writable");
        // Started as root it would give up its rights, and its folder with them.
        let text = format!(
            "user root\nlistener {} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 1000\n{}\n",
            address.port(),
            folder.path().display(),
            lines(address)
        );
        std::fs::write(folder.path().join("mosquitto.conf"), text).expect("the folder is writable");
        let mut broker = Self { address, folder, child: None };
        broker.restart();
        broker
    }

    /// Starts it again after [`Mosquitto::stop`].
    ///
    /// # Panics
    /// It does not listen within ten seconds.
    pub fn restart(&mut self) {
        self.child = Some(spawn_mosquitto(Command::new(tools::find("mosquitto")), self.folder.path()));
        wait_blocking("mosquitto to listen", LISTEN_LIMIT, || TcpStream::connect(self.address).is_ok());
    }

    /// SIGTERM, upon which it saves its sessions, and waits for the end.
    ///
    /// # Panics
    /// It does not run.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("mosquitto runs");
        program::signal(child.id(), "TERM");
        child.wait().expect("it is our child");
    }

    /// The process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("mosquitto runs").id()
    }

    /// The address as the gateway's configuration names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }
}

/// Starts a mosquitto, which `command` names, on `mosquitto.conf` in this folder; what it says goes
/// nowhere.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn spawn_mosquitto(mut command: Command, folder: &Path) -> Child {
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("mosquitto can be started")
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a rumqttd in this process, with a port for 3.1.1 and one for 5. It has no way to stop: it
/// ends with the process.
///
/// # Panics
/// It does not listen within ten seconds.
#[must_use]
pub fn start_rumqttd() -> (SocketAddr, SocketAddr) {
    let (v4, v5) = (ports::free_address(), ports::free_address());
    let server = |name: &str, listen: SocketAddr| {
        let connections = serde_json::json!({
            "connection_timeout_ms": 5000, "max_payload_size": 1 << 20, "max_inflight_count": 1000,
        });
        serde_json::json!({
            name: { "name": name, "listen": listen, "next_connection_delay_ms": 1, "connections": connections }
        })
    };
    let config = serde_json::json!({
        "id": 0,
        "router": {
            "max_connections": 1000, "max_outgoing_packet_count": 200,
            "max_segment_size": 100 << 20, "max_segment_count": 10,
        },
        "v4": server("v4", v4),
        "v5": server("v5", v5),
    });
    let config = serde_json::from_value(config).expect("the fields are those of rumqttd's configuration");
    std::thread::spawn(move || drop(rumqttd::Broker::new(config).start()));
    wait_blocking("rumqttd to listen", LISTEN_LIMIT, || {
        [v4, v5].iter().all(|address| TcpStream::connect(address).is_ok())
    });
    (v4, v5)
}

//! What a listener costs: the same load through four of them, from an open one to one that asks for
//! certificates, of mosquitto and of Tidegate with the same settings.
//!
//! Without bridge and uplink: only the way in is measured. Mosquitto has no subscriber, so it drops
//! what it acknowledged; Tidegate has it on disk. Each client has a topic of its own, which the
//! access rules allow it and nobody else. Before the load, every client connects once and then four
//! times more, one after the other from two tasks: the first time a password costs Tidegate a hash
//! with argon2id, and then none; mosquitto it costs one with PBKDF2 each time. Tidegate is given no
//! limit on connections per second, and mosquitto `set_tcp_nodelay`, so that neither a limit nor a
//! timer is taken for a cost.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use tidegate_tests::{
    brokers::Mosquitto,
    ca::{Ca, Pair},
    clock::now,
    codec::Version,
    dial::{self, Dial, Login, Plain, Tls},
    gateway::{Gateway, Setup, Uplink},
    load::{self, Publishers},
    meter, program, tools,
};
use tokio::io::AsyncWriteExt as _;

use super::{
    WARM_UP,
    contestants::{Contestant, Running},
    micros,
};

const CLIENTS: usize = 50;
/// Events in flight of each.
const WINDOW: usize = 100;
/// Tasks that connect: each client always by the same one.
const CONNECTING_TASKS: usize = 2;
/// Connections of clients that were there before.
const CONNECTS_AGAIN: usize = 200;
/// DISCONNECT.
const GOODBYE: [u8; 2] = [0xE0, 0];

/// Which listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listener {
    Open,
    Users,
    TlsUsers,
    TlsCertificates,
}

const LISTENERS: [Listener; 4] =
    [Listener::Open, Listener::Users, Listener::TlsUsers, Listener::TlsCertificates];

impl Listener {
    fn name(self) -> &'static str {
        match self {
            Self::Open => "plain, anonymous",
            Self::Users => "plain, users and ACL",
            Self::TlsUsers => "TLS 1.3, users and ACL",
            Self::TlsCertificates => "TLS 1.3, client certificates and ACL",
        }
    }

    fn login(self) -> Login {
        match self {
            Self::Open => Login::Nobody,
            Self::Users | Self::TlsUsers => Login::Password,
            Self::TlsCertificates => Login::Certificate,
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::TlsUsers | Self::TlsCertificates)
    }
}

/// Prints the table.
pub fn listeners(measured: Duration) -> Result<(), Box<dyn Error>> {
    let files = Files::make()?;
    let mut ratios = String::new();
    println!(
        "### The listener: {CLIENTS} x {WINDOW}, QoS 1, {} B, no bridge and no uplink\n",
        load::PAYLOAD_BYTES
    );
    println!(
        "| listener | | acknowledged, k/s | CPU per event, µs | memory, MiB: then / at most | connects/s: first / again \
         | load's CPU, µs |"
    );
    println!("|---|---|---|---|---|---|---|");
    for listener in LISTENERS {
        let mut peer = None;
        for (contestant, name) in [
            (Contestant::Mosquitto, "mosquitto (memory only)"),
            (Contestant::Tidegate, "**Tidegate** (durable)"),
        ] {
            let running = files.start(contestant, listener);
            let figures = files.measure(listener, &running, measured)?;
            figures.print(listener.name(), name);
            let Figures { rate: peer_rate, cpu: peer_cpu, again: peer_again, .. } =
                *peer.get_or_insert(figures);
            if contestant == Contestant::Tidegate {
                ratios += &format!(
                    "{}: {:.1} times its rate at {:.2} of its CPU, {:.1} times its connects. ",
                    listener.name(),
                    figures.rate / peer_rate,
                    figures.cpu / peer_cpu,
                    figures.again / peer_again,
                );
            }
        }
    }
    println!("\nTidegate against mosquitto: {ratios}\n");
    Ok(())
}

/// One row.
#[derive(Clone, Copy)]
struct Figures {
    /// Acknowledgements per second.
    rate: f64,
    /// Of the broker for each event, in µs.
    cpu: f64,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    /// Connections per second of clients that were never there, and of those that were.
    first: f64,
    again: f64,
    /// Of the load for each event, in µs.
    own_cpu: f64,
}

impl Figures {
    fn print(&self, listener: &str, name: &str) {
        let Self { rate, cpu, memory_bytes, memory_peak_bytes, first, again, own_cpu } = self;
        println!(
            "| {listener} | {name} | {:.0} | {cpu:.2} | {} / {} | {first:.0} / {again:.0} | {own_cpu:.2} |",
            rate / 1000.0,
            memory_bytes >> 20,
            memory_peak_bytes >> 20,
        );
    }
}

fn measure<D: Dial>(dial: &D, running: &Running, measured: Duration) -> io::Result<Figures> {
    let first = connects_per_second(dial, CLIENTS)?;
    let again = connects_per_second(dial, CONNECTS_AGAIN)?;
    let publishers = Publishers::start_by(dial, CLIENTS, WINDOW, None);
    std::thread::sleep(WARM_UP);
    let (begun, acked) = (now(), publishers.acked());
    let (own, start) = (meter::usage(std::process::id()), running.usage());
    std::thread::sleep(measured);
    let (seconds, events) = (begun.elapsed().as_secs_f64(), publishers.acked() - acked);
    let (own_end, end) = (meter::usage(std::process::id()), running.usage());
    publishers.finish()?;
    Ok(Figures {
        rate: events as f64 / seconds,
        cpu: micros(start, end, events),
        memory_bytes: end.resident_bytes,
        memory_peak_bytes: end.resident_peak_bytes,
        first,
        again,
        own_cpu: micros(own, own_end, events),
    })
}

/// Lets the clients in one after the other, each until its CONNACK, and says how many that were per
/// second.
fn connects_per_second<D: Dial>(dial: &D, connects: usize) -> io::Result<f64> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(CONNECTING_TASKS).enable_all().build()?;
    let begun = now();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..CONNECTING_TASKS {
            let dial = dial.clone();
            tasks.spawn(async move {
                for client in (task..connects).step_by(CONNECTING_TASKS) {
                    let mut stream = dial::connect(&dial, client % CLIENTS).await?;
                    stream.write_all(&GOODBYE).await?;
                    stream.flush().await?;
                }
                io::Result::Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        io::Result::Ok(())
    })?;
    Ok(connects as f64 / begun.elapsed().as_secs_f64())
}

/// Makes sure that the listener is no open one: a client without credentials must not come in.
fn refuses<D: Dial>(stranger: &D) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(dial::connect(stranger, 0)) {
        Ok(_) => {
            Err("a client without credentials was let in: what would be measured is another listener".into())
        }
        Err(_) => Ok(()),
    }
}

/// Keys, users and rules, as both programs read them.
struct Files {
    folder: TempDir,
    ca: Ca,
    clients: Vec<Pair>,
}

impl Files {
    fn make() -> Result<Self, Box<dyn Error>> {
        let ca = Ca::new()?;
        let clients = (0..CLIENTS).map(|client| ca.client(&dial::name(client))).collect::<Result<_, _>>()?;
        let folder = tempfile::Builder::new().prefix("listener-").tempdir_in(program::scratch())?;
        let files = Self { folder, ca, clients };
        files.ca.write(&files.path("ca.pem"))?;
        files.ca.server()?.write(&files.path("server.pem"), &files.path("server.key"))?;
        std::fs::write(files.path("acl"), "pattern write plant/%u/#\n")?;
        std::fs::write(
            files.path("acl.toml"),
            "[[rule]]\nwho = \"*\"\npublish = [\"plant/{identity}/#\"]\n",
        )?;
        make_users(&files.path("users"), &files.path("users.toml"), &files.path("password"))?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start(&self, contestant: Contestant, listener: Listener) -> Running {
        if contestant == Contestant::Mosquitto {
            return Running::Mosquitto(Mosquitto::start_with(|_| self.mosquitto(listener)));
        }
        let nowhere = Uplink::new("mqtt://127.0.0.1:9", Version::V311);
        let (access, listener) = self.tidegate(listener);
        Running::Tidegate(Box::new(Gateway::start(Setup {
            uplinks: vec![],
            // However long it is measured, the store is never full.
            store: "wear_budget = \"unlimited\"\nwhen_full = \"drop-oldest\"\n".into(),
            limits: "connections_per_second = 1000000\n".into(),
            access,
            listener,
            ..Setup::new(nowhere)
        })))
    }

    fn measure(
        &self,
        listener: Listener,
        running: &Running,
        measured: Duration,
    ) -> Result<Figures, Box<dyn Error>> {
        let stranger = Plain::new(running.address(), Login::Nobody);
        let plain = Plain::new(running.address(), listener.login());
        if !listener.is_tls() {
            if listener != Listener::Open {
                refuses(&stranger)?;
            }
            return Ok(measure(&plain, running, measured)?);
        }
        let own = if listener == Listener::TlsCertificates { &self.clients[..] } else { &[] };
        refuses(&Tls::new(stranger, &self.ca.der(), vec![])?)?;
        let tls = Tls::new(plain, &self.ca.der(), own.iter().map(Pair::der).collect())?;
        Ok(measure(&tls, running, measured)?)
    }

    /// Lines of mosquitto's configuration.
    fn mosquitto(&self, listener: Listener) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        let mut lines = "persistence false\nset_tcp_nodelay true\n".to_owned();
        if listener != Listener::Open {
            lines += &format!("allow_anonymous false\nacl_file {}\n", path("acl"));
        }
        if listener.login() == Login::Password {
            lines += &format!("password_file {}\n", path("users"));
        }
        if listener.is_tls() {
            lines += &format!(
                "tls_version tlsv1.3\ncafile {}\ncertfile {}\nkeyfile {}\n",
                path("ca.pem"),
                path("server.pem"),
                path("server.key")
            );
        }
        if listener == Listener::TlsCertificates {
            lines += "require_certificate true\nuse_identity_as_username true\n";
        }
        lines
    }

    /// Lines of Tidegate's `[access]` and `[[listener]]`.
    fn tidegate(&self, listener: Listener) -> (String, String) {
        let mut access = String::new();
        if listener != Listener::Open {
            access += &format!("acl = {:?}\n", self.path("acl.toml"));
        }
        if listener.login() == Login::Password {
            access += &format!("users = {:?}\n", self.path("users.toml"));
        }
        let mut lines = format!("anonymous = {}\n", listener == Listener::Open);
        if listener.is_tls() {
            let ca = match listener {
                Listener::TlsCertificates => format!(", client_ca = {:?}", self.path("ca.pem")),
                _ => String::new(),
            };
            let (cert, key) = (self.path("server.pem"), self.path("server.key"));
            lines += &format!("tls = {{ cert = {cert:?}, key = {key:?}{ca} }}\n");
        }
        (access, lines)
    }
}

/// Users with passwords for mosquitto and for Tidegate; `password` is a file for one at a time.
fn make_users(mosquitto: &Path, tidegate: &Path, password: &Path) -> Result<(), Box<dyn Error>> {
    let lines: String =
        (0..CLIENTS).map(|client| format!("{}:{}\n", dial::name(client), dial::password(client))).collect();
    std::fs::write(mosquitto, lines)?;
    let hashed = Command::new(tools::find("mosquitto_passwd")).arg("-U").arg(mosquitto).output()?;
    if !hashed.status.success() {
        return Err(String::from_utf8_lossy(&hashed.stderr).into());
    }
    for client in 0..CLIENTS {
        std::fs::write(password, dial::password(client))?;
        let name = dial::name(client);
        let added = program::run([
            "users".as_ref(),
            "add".as_ref(),
            name.as_ref(),
            "--password-file".as_ref(),
            password.as_os_str(),
            "--file".as_ref(),
            tidegate.as_os_str(),
        ]);
        if !added.status.success() {
            return Err(String::from_utf8_lossy(&added.stderr).into());
        }
    }
    Ok(())
}

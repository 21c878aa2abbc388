//! The certificate matrix: what becomes of a device whose certificate, or what stands behind it, is
//! no longer good. The gateway is the real program; the devices shake hands with its listener; the
//! files change under it.
//!
//! Each row of [`rows`] is one life: a gateway starts with good files, a device connects, and the
//! row's condition comes about.
//!
//! ```text
//!   live       what becomes of the device that is connected, by the time or by the load
//!   reload     what SIGHUP says
//!   handshake  what a device in this condition meets that comes then
//!   restart    what it meets after the gateway was started anew with these files
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ca;
mod careless;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use ca::{Ca, Pair, Wish, days};
use rcgen::CrlScope;
use rustls::{ClientConfig, ClientConnection, StreamOwned, crypto::ring, pki_types::ServerName};
use tempfile::TempDir;
use tidegate::clock;

const LIMIT: Duration = Duration::from_secs(60);
/// How long what ends by itself is good, in seconds: time for a handshake on a machine that does
/// much else.
const SHORT_S: u64 = 8;
/// Exit code of a gateway whose configuration is wrong.
const EXIT_CONFIG: i32 = 78;

/// What happens at one point of a row; words are those of the log.
#[derive(Clone, Copy)]
enum Outcome {
    /// It gets in, or stays.
    In,
    /// Its connection is ended with DISCONNECT 0x87, and the log says why, once.
    Ended(&'static str),
    /// The handshake is refused, and the log says why.
    Refused(&'static str),
    /// The files are loaded.
    Loaded,
    /// The files are loaded, and warned of.
    Warned(&'static str),
    /// The files are not loaded, and the old ones are used.
    Kept(&'static str),
    /// The gateway does not start, and says why.
    Down(&'static str),
    /// There is no such thing.
    Never,
}

use Outcome::{Down, Ended, In, Kept, Loaded, Never, Refused, Warned};

/// A device, and what makes its case.
struct Case {
    device: Device,
    change: Change,
}

/// How a condition comes about.
enum Change {
    /// It is there from the first.
    Nothing,
    /// By time alone: the last second in which it is good, since 1970.
    Time(u64),
    /// By other files.
    Files(fn(&World)),
}

/// A condition; then what happens live, at the reload, at a handshake, after a restart.
type Row = (&'static str, fn(&World) -> Case, Outcome, Outcome, Outcome, Outcome);

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let (no_list, forged) = ("no list of the CA CN=workshop, through which connected", "through which connected clients have their certificates, is not");
    vec![
        // expired
        ("device expired",           expired_device,         Ended("its certificate expired on"),      Loaded,                             Refused("its certificate expired on"),     Refused("its certificate expired on")),
        ("intermediate expired",     expired_intermediate,   Ended("CN=workshop between its own"),     Loaded,                             Refused("CN=workshop between its own"),    Refused("CN=workshop between its own")),
        ("CA expired",               expired_ca,             Ended("the CA CN=devices in client_ca"),  Warned("no CA in client_ca is"),    Refused("the CA CN=devices in client_ca"), Refused("the CA CN=devices in client_ca")),
        ("CA of another expired",    expired_other_ca,       In,                                       Warned("CN=old in client_ca exp"),  In,                                        In),
        ("file of an expired CA",    file_of_an_expired_ca,  In,                                       Kept("none of its CAs is valid"),   In,                                        Refused("the CA CN=devices in client_ca")),
        ("gateway expired",          expired_gateway,        In,                                       Kept("the certificate expired on"), In,                                        In),
        // not yet valid
        ("device not yet valid",     early_device,           Never,                                    Loaded,                             Refused("is not valid yet, only from"),    Refused("is not valid yet, only from")),
        ("CA not yet valid",         early_ca,               In,                                       Kept("none of its CAs is valid"),   In,                                        Refused("is not valid before")),
        // wrong CA
        ("CA replaced",              other_ca,               Ended("from a CA that is not in"),        Loaded,                             Refused("from a CA that is not in"),       Refused("from a CA that is not in")),
        ("stranger",                 stranger,               Never,                                    Loaded,                             Refused("from a CA that is not in"),       Refused("from a CA that is not in")),
        ("CA renewed with its key",  renewed_ca,             In,                                       Loaded,                             In,                                        In),
        // same-name CA
        ("same name in its place",   same_name,              Ended("its certificate is not good"),     Loaded,                             Refused("its certificate is not good"),    Refused("its certificate is not good")),
        ("same name beside it",      same_name_beside,       In,                                       Loaded,                             In,                                        In),
        // revoked
        ("device revoked",           revoked_device,         Ended("its certificate is revoked"),      Loaded,                             Refused("its certificate is revoked"),     Refused("its certificate is revoked")),
        ("device below revoked",     revoked_below,          Ended("its certificate is revoked"),      Loaded,                             Refused("its certificate is revoked"),     Refused("its certificate is revoked")),
        ("intermediate revoked",     revoked_intermediate,   Ended("the CA CN=workshop between its"),  Loaded,                             Refused("the CA CN=workshop between its"), Refused("the CA CN=workshop between its")),
        ("device on a part's list",  revoked_on_a_part,      Ended("its certificate is revoked"),      Loaded,                             Refused("its certificate is revoked"),     Refused("its certificate is revoked")),
        ("list of the other part",   list_of_the_other_part, In,                                       Kept("no list for the part of"),    In,                                        Refused("crl has no list that its issuer")),
        ("CA's second list",         revoked_on_the_second,  Ended("its certificate is revoked"),      Loaded,                             Refused("its certificate is revoked"),     Refused("its certificate is revoked")),
        // unsigned list, or none
        ("CA's list unsigned",       unsigned_list,          In,                                       Kept("is not signed by its key"),   In,                                        Down("is not signed by its key")),
        ("unsigned beside a good",   unsigned_beside,        In,                                       Warned("no CA in client_ca signed"), In,                                       In),
        ("below: unsigned",          unsigned_below,         In,                                       Kept(forged),                       In,                                        Refused("that this CA did not sign")),
        ("below: unsigned beside",   unsigned_beside_below,  In,                                       Loaded,                             In,                                        In),
        ("below: no list",           no_list_below,          In,                                       Kept(no_list),                      In,                                        Refused("crl has no list of the CA CN=workshop")),
        // expired list
        ("list expired",             expired_list,           In,                                       Warned("the old list is used on"),  In,                                        In),
        ("revoked by an old list",   revoked_by_an_old_list, Ended("its certificate is revoked"),      Warned("the old list is used on"),  Refused("its certificate is revoked"),     Refused("its certificate is revoked")),
    ]
}

fn expired_device(world: &World) -> Case {
    let end_s = soon_s();
    Device::new(&world.root.sign_until(Wish::client("stall-3", 7), end_s), None).ends(end_s)
}

fn expired_intermediate(world: &World) -> Case {
    let end_s = soon_s();
    let workshop = world.root.authorize("workshop", 70, end_s);
    world.put("revoked.pem", &(world.root.revoke(&[], 30) + &workshop.revoke(&[], 30)));
    world.reload();
    Device::new(&workshop.sign(Wish::client("stall-3", 7)), Some(&workshop)).ends(end_s)
}

fn expired_ca(world: &World) -> Case {
    let end_s = soon_s();
    world.put("ca.pem", &world.root.dated((days(-1), end_s)));
    world.reload();
    world.direct().ends(end_s)
}

fn expired_other_ca(world: &World) -> Case {
    world.direct().after(|world| {
        world.put("ca.pem", &(world.root.certificate.pem() + &Ca::new("old", (-20, -10)).certificate.pem()));
    })
}

fn file_of_an_expired_ca(world: &World) -> Case {
    world.direct().after(|world| world.put("ca.pem", &world.root.dated((days(-20), days(-10)))))
}

fn expired_gateway(world: &World) -> Case {
    world.direct().after(|world| {
        let expired = Wish { valid: (-20, -10), ..Wish::server(2) };
        world.servers.sign(expired).write(world.folder.path(), "server");
    })
}

fn early_device(world: &World) -> Case {
    let early = Wish { valid: (10, 20), ..Wish::client("stall-3", 7) };
    Device::new(&world.root.sign(early), None).at_once()
}

fn early_ca(world: &World) -> Case {
    world.direct().after(|world| world.put("ca.pem", &world.root.dated((days(10), days(20)))))
}

fn other_ca(world: &World) -> Case {
    world.direct().after(|world| world.replace_ca(&Ca::new("others", (-1, 900))))
}

fn renewed_ca(world: &World) -> Case {
    world.direct().after(|world| world.put("ca.pem", &world.root.dated((days(-1), days(2000)))))
}

fn stranger(_: &World) -> Case {
    Device::new(&Ca::new("others", (-1, 900)).sign(Wish::client("stall-3", 7)), None).at_once()
}

fn same_name(world: &World) -> Case {
    world.direct().after(|world| world.replace_ca(&Ca::new("devices", (-1, 900))))
}

fn same_name_beside(world: &World) -> Case {
    world.direct().after(|world| {
        let new = Ca::new("devices", (-1, 900));
        world.put("ca.pem", &(new.certificate.pem() + &world.root.certificate.pem()));
        // The same number is revoked, and it is another device's.
        world.put("revoked.pem", &(new.revoke(&[7], 30) + &world.lists()));
    })
}

fn revoked_device(world: &World) -> Case {
    world.direct().after(|world| world.put("revoked.pem", &world.root.revoke(&[7], 30)))
}

fn revoked_below(world: &World) -> Case {
    world.below().after(|world| {
        world.put("revoked.pem", &(world.root.revoke(&[], 30) + &world.workshop.revoke(&[7], 30)));
    })
}

fn revoked_intermediate(world: &World) -> Case {
    // Its own list need not be there any more.
    world.below().after(|world| world.put("revoked.pem", &world.root.revoke(&[World::WORKSHOP], 30)))
}

fn revoked_on_a_part(world: &World) -> Case {
    world.direct().after(|world| {
        world.put("revoked.pem", &world.root.revoke_of(&[7], 30, Some(CrlScope::UserCertsOnly)));
    })
}

fn list_of_the_other_part(world: &World) -> Case {
    world.direct().after(|world| {
        world.put("revoked.pem", &world.root.revoke_of(&[7], 30, Some(CrlScope::CaCertsOnly)));
    })
}

fn revoked_on_the_second(world: &World) -> Case {
    world.direct().after(|world| world.put("revoked.pem", &(world.lists() + &world.root.revoke(&[7], 30))))
}

fn unsigned_list(world: &World) -> Case {
    world.direct().after(|world| world.put("revoked.pem", &Ca::new("devices", (-1, 900)).revoke(&[7], 30)))
}

fn unsigned_beside(world: &World) -> Case {
    world.direct().after(|world| {
        world.put("revoked.pem", &(Ca::new("devices", (-1, 900)).revoke(&[7], 30) + &world.lists()));
    })
}

fn unsigned_below(world: &World) -> Case {
    world.below().after(|world| {
        let forged = Ca::new("workshop", (-1, 900)).revoke(&[7], 30);
        world.put("revoked.pem", &(world.root.revoke(&[], 30) + &forged));
    })
}

fn unsigned_beside_below(world: &World) -> Case {
    world.below().after(|world| {
        world.put("revoked.pem", &(Ca::new("workshop", (-1, 900)).revoke(&[7], 30) + &world.lists()));
    })
}

fn no_list_below(world: &World) -> Case {
    world.below().after(|world| world.put("revoked.pem", &world.root.revoke(&[], 30)))
}

fn expired_list(world: &World) -> Case {
    world.direct().after(|world| world.put("revoked.pem", &world.root.revoke(&[], -1)))
}

fn revoked_by_an_old_list(world: &World) -> Case {
    world.direct().after(|world| world.put("revoked.pem", &world.root.revoke(&[7], -1)))
}

fn soon_s() -> u64 {
    clock::wall_ms() / 1000 + SHORT_S
}

/// What a device is set up with.
struct Device(Arc<ClientConfig>);

impl Device {
    fn new(pair: &Pair, below: Option<&Ca>) -> Self {
        let (own, key) = pair.der();
        let chain = [own].into_iter().chain(below.map(|ca| ca.certificate.der().clone())).collect();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(careless::Anybody));
        Device(Arc::new(builder.with_client_auth_cert(chain, key).unwrap()))
    }

    fn at_once(self) -> Case {
        Case { device: self, change: Change::Nothing }
    }

    fn ends(self, end_s: u64) -> Case {
        Case { device: self, change: Change::Time(end_s) }
    }

    fn after(self, change: fn(&World)) -> Case {
        Case { device: self, change: Change::Files(change) }
    }

    /// Connects as `stall-3` by MQTT 5.
    fn connect(&self, port: u16) -> std::io::Result<Stream> {
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(Some(LIMIT))?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(self.0.clone(), name).unwrap(), tcp);
        stream.write_all(b"\x10\x14\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x07stall-3")?;
        let mut head = [0; 2];
        stream.read_exact(&mut head)?;
        let mut rest = vec![0; head[1].into()];
        stream.read_exact(&mut rest)?;
        assert_eq!((head[0], rest[1]), (0x20, 0), "{rest:02x?}");
        Ok(stream)
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A gateway, its files and its CAs.
struct World {
    folder: TempDir,
    servers: Ca,
    /// The CA in client_ca.
    root: Ca,
    /// One that it signed.
    workshop: Ca,
    gateway: Option<Child>,
}

impl World {
    /// The number of the intermediate's certificate.
    const WORKSHOP: u64 = 60;

    fn open() -> Self {
        let root = Ca::new("devices", (-1, 900));
        let workshop = root.authorize("workshop", Self::WORKSHOP, days(800));
        let servers = Ca::new("servers", (-1, 900));
        let mut world =
            World { folder: tempfile::tempdir().unwrap(), servers, root, workshop, gateway: None };
        world.servers.sign(Wish::server(1)).write(world.folder.path(), "server");
        world.put("ca.pem", &world.root.certificate.pem());
        world.put("revoked.pem", &world.lists());
        let config = "[gateway]\nid = \"a\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
            tls = { cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", crl = \"revoked.pem\" }\n\
            [http]\naddress = \"127.0.0.1:0\"\n";
        world.put("g.toml", config);
        world.start();
        world
    }

    fn direct(&self) -> Device {
        Device::new(&self.root.sign(Wish::client("stall-3", 7)), None)
    }

    fn below(&self) -> Device {
        Device::new(&self.workshop.sign(Wish::client("stall-3", 7)), Some(&self.workshop))
    }

    fn lists(&self) -> String {
        self.root.revoke(&[], 30) + &self.workshop.revoke(&[], 30)
    }

    fn replace_ca(&self, ca: &Ca) {
        self.put("ca.pem", &ca.certificate.pem());
        self.put("revoked.pem", &ca.revoke(&[], 30));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    fn start(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill().unwrap();
            gateway.wait().unwrap();
        }
        let mut program = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        program.args(["run", "--config"]).arg(self.path("g.toml")).stdin(Stdio::null()).stdout(Stdio::null());
        self.gateway = Some(program.stderr(fs::File::create(self.path("log")).unwrap()).spawn().unwrap());
    }

    fn port(&self) -> u16 {
        const WORDS: &str = "devices connect to 127.0.0.1:";
        self.wait_log(WORDS);
        let log = self.log();
        let digits = log.split_once(WORDS).unwrap().1;
        digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    }

    fn wait_log(&self, words: &str) {
        let until = clock::monotonic() + LIMIT;
        while !self.log().contains(words) {
            assert!(clock::monotonic() < until, "{words:?} is not in the log: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn hang_up(&self) {
        let pid = self.gateway.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    }

    /// Has changed files loaded.
    fn reload(&self) {
        let before = self.log().matches("were reloaded").count();
        self.port();
        self.hang_up();
        let until = clock::monotonic() + LIMIT;
        while self.log().matches("were reloaded").count() == before {
            assert!(clock::monotonic() < until, "it does not reload: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            let _ = gateway.kill();
            let _ = gateway.wait();
        }
    }
}

fn check_live(world: &World, stream: Option<Stream>, outcome: Outcome) {
    let is_told = || world.log().contains("connections ended: ");
    match (outcome, stream) {
        (Never, None) => {}
        (In, Some(mut stream)) => {
            stream.write_all(&[0xc0, 0]).unwrap();
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [0xd0, 0]);
            assert!(!is_told(), "{}", world.log());
        }
        (Ended(words), Some(mut stream)) => {
            let mut disconnect = vec![];
            stream.read_to_end(&mut disconnect).unwrap();
            assert_eq!((disconnect[0], disconnect[2]), (0xe0, 0x87), "{disconnect:02x?}");
            world.wait_log("connections ended: 1, of stall-3: ");
            let log = world.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains("connections ended: ")).collect();
            assert!(lines.len() == 1 && lines[0].contains(words), "{lines:?}");
        }
        _ => panic!("no outcome of a connection"),
    }
}

fn check_reload(world: &World, outcome: Outcome) {
    match outcome {
        Loaded => {
            world.reload();
            assert!(!world.log().contains("were not reloaded"), "{}", world.log());
        }
        Warned(words) => {
            world.reload();
            world.wait_log(words);
        }
        Kept(words) => {
            world.hang_up();
            world.wait_log("were not reloaded, the old ones are used: ");
            let log = world.log();
            let said = log.lines().find(|line| line.contains("were not reloaded")).unwrap();
            assert!(said.contains(words), "{said}");
        }
        _ => panic!("no outcome of a reload"),
    }
}

fn check_handshake(world: &World, device: &Device, outcome: Outcome) {
    match outcome {
        In => drop(device.connect(world.port()).unwrap()),
        Refused(words) => {
            assert!(device.connect(world.port()).is_err(), "it got in");
            let until = clock::monotonic() + LIMIT;
            let is_told = |line: &str| line.contains("no TLS connection: ") && line.contains(words);
            while !world.log().lines().any(is_told) {
                assert!(clock::monotonic() < until, "{words:?} is not in the log: {}", world.log());
                thread::sleep(Duration::from_millis(20));
            }
        }
        _ => panic!("no outcome of a handshake"),
    }
}

fn check_restart(world: &mut World, device: &Device, outcome: Outcome) {
    world.start();
    let Down(words) = outcome else { return check_handshake(world, device, outcome) };
    let status: ExitStatus = world.gateway.take().unwrap().wait().unwrap();
    assert_eq!(status.code(), Some(EXIT_CONFIG), "{}", world.log());
    assert!(world.log().contains(words), "{}", world.log());
}

fn live_one_row(&(name, condition, live, reload, handshake, restart): &Row) {
    let mut world = World::open();
    let Case { device, change } = condition(&world);
    let port = world.port();
    let connected = (!matches!(live, Never)).then(|| device.connect(port).unwrap());
    match change {
        // Nobody asks: the time is enough.
        Change::Time(end_s) => {
            check_live(&world, connected, live);
            let late_ms = clock::wall_ms().checked_sub((end_s + 1) * 1000);
            println!("{name}: told {} ms after the end", late_ms.expect("it ended too early"));
            check_reload(&world, reload);
        }
        Change::Files(change) => {
            change(&world);
            check_reload(&world, reload);
            check_live(&world, connected, live);
        }
        Change::Nothing => {
            check_reload(&world, reload);
            check_live(&world, connected, live);
        }
    }
    check_handshake(&world, &device, handshake);
    check_restart(&mut world, &device, restart);
}

#[test]
fn trust_ends_with_its_proof_live_at_a_reload_at_a_handshake_and_after_a_restart() {
    let rows = rows();
    let failed: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = rows.iter().map(|row| (row.0, scope.spawn(|| live_one_row(row)))).collect();
        running.into_iter().filter_map(|(name, row)| row.join().err().map(|_| name)).collect()
    });
    assert!(failed.is_empty(), "see above for what became of {failed:?}");
}

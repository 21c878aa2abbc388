//! What the gateway writes is its own: a program with a careless umask, in a folder where somebody
//! planted links, told to `run`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tidegate::clock;

const LIMIT: Duration = Duration::from_secs(60);
/// Every file that is made under another name first.
const NEW: [&str; 5] = [
    "dead_letters.redb.new",
    "fleet.redb.new",
    "sessions.redb.new",
    "commands.redb.new",
    "seg-00000000000000000000.redb.new",
];

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn data_files_are_the_gateways_alone_whatever_the_umask_and_no_planted_link_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("cloud.password"), "secret\n").unwrap();
    fs::set_permissions(at("cloud.password"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let config = "[gateway]\nid = \"a\"\ndata_dir = \"above/data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
        [http]\naddress = \"127.0.0.1:0\"\n[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:9\"\n\
        user = \"a\"\npassword_file = \"cloud.password\"\n";
    fs::write(at("g.toml"), config).unwrap();
    fs::write(at("victim"), "precious").unwrap();
    let data = at("above/data");
    let start = || {
        let log = fs::File::create(at("log")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "umask 000 && exec \"$0\" run --config \"$1\"", env!("CARGO_BIN_EXE_tidegate")]);
        shell.arg(at("g.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = Killed(shell.spawn().unwrap());
        let until = clock::monotonic() + LIMIT;
        let log = || fs::read_to_string(at("log")).unwrap();
        while !log().contains("devices connect to ") {
            assert!(clock::monotonic() < until, "it does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(child);
        log()
    };

    let log = start();
    assert!(mode(&at("above")) & 0o022 == 0 && mode(&data) & 0o022 == 0, "a folder that all may write in");
    assert_eq!(log.matches("others can ").count(), 1, "{log}");
    let told = format!("whose mode is 0644: chmod 600 {}", at("cloud.password").display());
    assert!(log.contains("others can read or change the password in ") && log.contains(&told), "{log}");
    assert!(!log.contains("secret"), "{log}");

    for name in NEW {
        let _ = fs::remove_file(data.join(name));
        symlink(at("victim"), data.join(name)).unwrap();
    }
    // Other names for what is not there yet.
    for name in ["fleet.redb", "sessions.redb", "dead_letters.redb"] {
        let _ = fs::remove_file(data.join(name));
    }
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let log = start();
    assert_eq!(fs::read_to_string(at("victim")).unwrap(), "precious", "a link was followed");
    let told = format!("chmod go-w {}", data.display());
    assert!(log.contains("others can write in data_dir") && log.contains(&told), "{log}");
    for entry in fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

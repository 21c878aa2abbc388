//! Passwords that end: a token in a file that somebody else replaces, is late with or leaves open
//! to others, and signatures that the gateway makes with a key. Before the stand-in of Azure IoT
//! Hub, which closes a connection when its token is over.
//!
//! How long the first one takes: `TEST_TOKEN_SECONDS`, 50 if it is not set.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::Duration,
};

use tempfile::TempDir;
use tidegate_tests::{
    clock::{now, unix_s, wait_for},
    cloud::{StandIn, platforms, sas::SharedAccess},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    program::{self, Build, scratch},
};

const LIMIT: Duration = Duration::from_secs(60);
/// How long a token holds.
const LIFE_S: u64 = 20;
/// A fresh one is written after so long.
const REPLACED_AFTER: Duration = Duration::from_secs(2);
/// Two connections do not follow on each other sooner: each is used until it has to be renewed.
const LEAST_LIFE: Duration = Duration::from_secs(8);
const DEVICE: &str = "gate-7";

/// A folder with a secret that others cannot read.
fn secret(folder: &Path, name: &str, text: &str) {
    let fresh = folder.join("fresh");
    fs::write(&fresh, text).expect("the folder is writable");
    fs::set_permissions(&fresh, Permissions::from_mode(0o600)).expect("the file is ours");
    fs::rename(&fresh, folder.join(name)).expect("a rename within a folder");
}

fn setup(cloud: &StandIn, access: &SharedAccess, lines: &str) -> Setup {
    let topic = format!("devices/{DEVICE}/messages/events/device={{device}}");
    let lines = format!("client_id = {DEVICE:?}\nuser = {:?}\n{lines}", access.user());
    Setup::new(Uplink { topic, lines, ..Uplink::new(&cloud.url(), Version::V311) })
}

fn devices() -> [Device; 3] {
    ["a", "b", "c"].map(|name| Device {
        per_second: Some(100),
        pause: Some(Duration::from_millis(50)),
        ..Device::new(name, Version::V5)
    })
}

/// Every connection came with a password of its own, and none was thrown out.
fn demand_fresh_passwords(cloud: &StandIn, connections_min: usize) {
    cloud.seen(|seen| {
        assert!(seen.breaches.is_empty(), "{:?}", seen.breaches);
        let count = seen.connections.len();
        assert!(count >= connections_min, "{count} connections");
        let passwords: BTreeSet<_> = seen.connections.iter().map(|one| &one.connect.password).collect();
        assert_eq!(passwords.len(), count, "each with a fresh one");
        for pair in seen.connections.windows(2) {
            let life = pair[1].at - pair[0].at;
            assert!(life >= LEAST_LIFE, "made anew after {life:?}");
        }
        eprintln!("{count} connections, {} messages", seen.messages.len());
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_ends_again_and_again_is_renewed_before_it_does_and_nothing_is_lost() {
    let seconds = std::env::var("TEST_TOKEN_SECONDS").map_or(50, |text| text.parse().expect("a number"));
    let access = SharedAccess::new("hub.azure-devices.example", DEVICE);
    let cloud = StandIn::start(platforms::azure_iot_hub(access.clone())).await;
    let folder = TempDir::with_prefix_in("token-", scratch()).expect("a folder");
    let write = || secret(folder.path(), "token", &access.token(unix_s() + LIFE_S));
    // A build takes longer than a token lives.
    let _built = program::gateway(Build::Shipped);
    write();
    let lines = format!("password_file = {:?}", folder.path().join("token"));
    let gateway = Gateway::start(setup(&cloud, &access, &lines));
    let fleet = Fleet::start(gateway.mqtt, devices());
    let end = now() + Duration::from_secs(seconds);
    while now() < end {
        // It is the pace of whoever writes tokens: nothing is waited for.
        tokio::time::sleep(REPLACED_AFTER).await;
        write();
    }
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("everything to arrive", LIMIT, || cloud.seen(|seen| seen.is_complete(&ledgers))).await;
    demand_fresh_passwords(&cloud, (seconds / LIFE_S) as usize);
    let verdict = cloud.seen(|seen| seen.demand(&ledgers));
    assert_eq!(verdict.copies, 0, "what is in flight is waited for before a connection is made anew");
    assert!(!gateway.log().contains("trying again"), "no connection failed: {}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn signatures_are_made_with_a_key_and_made_anew_when_it_was_said() {
    let access = SharedAccess::new("127.0.0.1", DEVICE);
    let cloud = StandIn::start(platforms::azure_iot_hub(access.clone())).await;
    let folder = TempDir::with_prefix_in("key-", scratch()).expect("a folder");
    secret(folder.path(), "key", &access.key_base64());
    let lines = format!("azure_key_file = {:?}\nrenew = \"10s\"", folder.path().join("key"));
    let gateway = Gateway::start(setup(&cloud, &access, &lines));
    let fleet = Fleet::start(gateway.mqtt, devices());
    wait_for("three connections", LIMIT, || cloud.seen(|seen| seen.connections.len() == 3)).await;
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("everything to arrive", LIMIT, || cloud.seen(|seen| seen.is_complete(&ledgers))).await;
    demand_fresh_passwords(&cloud, 3);
    cloud.seen(|seen| seen.demand(&ledgers));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wrong_password_is_mended_in_its_file_without_a_restart() {
    let access = SharedAccess::new("hub.azure-devices.example", DEVICE);
    let cloud = StandIn::start(platforms::azure_iot_hub(access.clone())).await;
    let folder = TempDir::with_prefix_in("token-", scratch()).expect("a folder");
    secret(folder.path(), "token", "not a token");
    let lines = format!("password_file = {:?}", folder.path().join("token"));
    let gateway = Gateway::start(setup(&cloud, &access, &lines));
    let fleet = Fleet::start(gateway.mqtt, devices());
    wait_for("a refusal", LIMIT, || cloud.seen(|seen| !seen.breaches.is_empty())).await;
    fs::remove_file(folder.path().join("token")).expect("it is there");
    wait_for("a word on the missing file", LIMIT, || {
        gateway.log().contains("no password: ") && gateway.log().contains("cannot be read")
    })
    .await;
    secret(folder.path(), "token", &access.token(unix_s() + 3600));
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("everything to arrive", LIMIT, || cloud.seen(|seen| seen.is_complete(&ledgers))).await;
    cloud.seen(|seen| seen.demand(&ledgers));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_is_missing_at_the_start_is_waited_for_and_one_that_is_open_or_over_is_told_once() {
    let access = SharedAccess::new("hub.azure-devices.example", DEVICE);
    let cloud = StandIn::start(platforms::azure_iot_hub(access.clone())).await;
    let folder = TempDir::with_prefix_in("token-", scratch()).expect("a folder");
    let token = folder.path().join("token");
    let lines = format!("password_file = {token:?}\nrenew = \"10s\"");
    let gateway = Gateway::start(setup(&cloud, &access, &lines));
    let fleet = Fleet::start(gateway.mqtt, devices());
    let told = |words: &str| gateway.log().matches(words).count();
    wait_for("a word on the missing file", LIMIT, || told("no password: ") > 0).await;
    let line = format!("[[uplink]] password_file: {} cannot be read: ", token.display());
    let log = gateway.log();
    assert!(
        log.lines().any(|said| said.contains(&line) && said.ends_with("; the uplink waits for it")),
        "{log}"
    );
    let check =
        Command::new(program::gateway(Build::Shipped)).arg("check").arg(gateway.config_path()).output();
    let check = check.expect("the program can be started");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.code() == Some(78) && said.contains(&line), "{said}");
    // It comes, and then others may read it.
    secret(folder.path(), "token", &access.token(unix_s() + 3600));
    let connections = || cloud.seen(|seen| seen.connections.len());
    wait_for("a connection", LIMIT, || connections() == 1).await;
    fs::set_permissions(&token, Permissions::from_mode(0o644)).expect("the file is ours");
    wait_for("two connections more", LIMIT, || connections() == 3).await;
    assert_eq!(told("others can read or change the password in "), 1, "{}", gateway.log());
    // One that nobody replaced.
    let end_s = unix_s() - 1;
    secret(folder.path(), "token", &access.token(end_s));
    wait_for("some refusals", LIMIT, || cloud.seen(|seen| seen.breaches.len() >= 3)).await;
    assert_eq!(told(" is a token that ended on "), 1, "{}", gateway.log());
    secret(folder.path(), "token", &access.token(unix_s() + 3600));
    let ledgers = fleet.finish(LIMIT).await;
    wait_for("everything to arrive", LIMIT, || cloud.seen(|seen| seen.is_complete(&ledgers))).await;
    cloud.seen(|seen| seen.demand(&ledgers));
}

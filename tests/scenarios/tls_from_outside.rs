//! TLS as an operator and a stranger see it: the manual's own commands make the certificates,
//! mosquitto's clients connect with them, sslscan looks for what is weak, and the log says why
//! somebody was refused.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tidegate_tests::{
    clock::wait_blocking,
    codec::Version,
    gateway::{Gateway, Setup, Uplink},
    program::{self, Build},
    tools,
};

const LIMIT: Duration = Duration::from_secs(30);
/// What no TLS listener may offer, as sslscan names it.
const WEAK: [&str; 9] = ["RC4", "3DES", "DES-CBC", "NULL", "EXP", "anon", "MD5", "CBC", "AES128-SHA"];

/// Runs the commands under a heading of docs/operating.md.
fn run_manual(heading: &str, folder: &Path) {
    let manual =
        std::fs::read_to_string(program::workspace().join("docs/operating.md")).expect("the manual is there");
    let section = manual.split_once(&format!("### {heading}\n")).expect("the heading is there").1;
    let commands =
        section.split("```sh\n").nth(1).expect("there are commands").split("```").next().unwrap_or_default();
    let output =
        Command::new("bash").arg("-euc").arg(commands).current_dir(folder).output().expect("bash is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A gateway with this `tls`, and the manual's certificates in its folder.
fn start(tls: &str) -> Gateway {
    let mut gateway = Gateway::prepare(Setup::new(Uplink::new("mqtt://127.0.0.1:9", Version::V5)));
    let folder = folder(&gateway);
    run_manual("Making the certificates", &folder);
    let text = format!(
        "[gateway]\nid = \"gate\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"{}\"\ntls = {tls}\n\
         [http]\naddress = \"{}\"\n[[route]]\nfilter = \"#\"\n",
        gateway.mqtt, gateway.http
    );
    std::fs::write(gateway.config_path(), text).expect("the folder is writable");
    gateway.restart();
    gateway
}

fn folder(gateway: &Gateway) -> PathBuf {
    gateway.config_path().parent().expect("the file lies in a folder").to_owned()
}

fn publish(gateway: &Gateway, arguments: &[&str]) -> Output {
    Command::new(tools::find("mosquitto_pub"))
        .current_dir(folder(gateway))
        .args([
            "-h",
            "localhost",
            "-p",
            &gateway.mqtt.port().to_string(),
            "-q",
            "1",
            "-t",
            "tg/stall-3/s",
            "-m",
            "hello",
        ])
        .args(arguments)
        .output()
        .expect("mosquitto_pub can be started")
}

fn wait_log(gateway: &Gateway, words: &str) {
    wait_blocking(words, LIMIT, || gateway.log().contains(words));
}

fn hang_up(gateway: &Gateway) {
    program::signal(gateway.pid(), "HUP");
}

const CERTIFIED: [&str; 6] = ["--cafile", "ca.pem", "--cert", "stall-3.pem", "--key", "stall-3.key"];

#[test]
fn the_manuals_certificates_let_mosquittos_client_in_until_they_are_revoked() {
    let mut gateway = start(
        "{ cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\", crl = \"revoked.pem\" }",
    );
    let with = |more: &[&str]| publish(&gateway, &[&CERTIFIED[..], more].concat());
    for more in [["--tls-version", "tlsv1.2", "-V", "mqttv311"], ["--tls-version", "tlsv1.3", "-V", "mqttv5"]]
    {
        let output = with(&more);
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(gateway.metric("tidegate_stored_events_total"), 2.0);
    assert!(gateway.metric("tidegate_certificate_expiry_timestamp_seconds") > 1.7e9);

    for (arguments, words) in
        [(&CERTIFIED[..2], "it has no certificate, and one is required"), (&[], "what it sends is no TLS")]
    {
        assert!(!publish(&gateway, arguments).status.success(), "{words}");
        wait_log(&gateway, words);
    }
    let old = Command::new(tools::find("openssl"))
        .args(["s_client", "-connect", &gateway.mqtt.to_string(), "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl can be started");
    assert!(!old.status.success());
    wait_log(&gateway, "it is too old");

    run_manual("Revoking a device", &folder(&gateway));
    hang_up(&gateway);
    wait_log(&gateway, "were reloaded");
    assert!(!with(&[]).status.success());
    wait_log(&gateway, "its certificate is revoked");
    assert_eq!(gateway.metric("tidegate_stored_events_total"), 2.0);
    gateway.terminate();
}

#[test]
fn a_bad_reload_is_told_everywhere_and_the_gateway_stays_ready_and_keeps_its_key_to_itself() {
    let mut gateway = start("{ cert = \"server.pem\", key = \"server.key\" }");
    let key = folder(&gateway).join("server.key");
    let secret = std::fs::read_to_string(&key).expect("the key is there");
    let broken = secret.replace("-----END", "?\n-----END");
    std::fs::write(&key, &broken).expect("the folder is writable");
    // Nobody asks: the change is found.
    wait_log(&gateway, "were not reloaded, the old ones are used");
    let (status, ready) = gateway.get("/readyz").expect("HTTP answers");
    assert!(status == 200 && ready.contains("warning: the TLS files of listener"), "{ready}");
    assert_eq!(gateway.metric("tidegate_reload_failing"), 1.0);
    assert!(publish(&gateway, &["--cafile", "ca.pem"]).status.success());

    // What is wrong for a reload is wrong for a start.
    let check =
        Command::new(program::gateway(Build::Shipped)).arg("check").arg(gateway.config_path()).output();
    let check = check.expect("the program can be started");
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.code() == Some(78) && said.contains("[[listener]] tls.key: "), "{said}");

    let status = gateway.get("/api/status").expect("HTTP answers").1;
    for line in secret.lines().filter(|line| !line.starts_with('-')) {
        for text in [&gateway.log(), &said.to_string(), &ready, &status] {
            assert!(!text.contains(line), "a line of the key in {text}");
        }
    }
    std::fs::write(&key, secret).expect("the folder is writable");
    wait_blocking("the good key", LIMIT, || gateway.metric("tidegate_reload_failing") == 0.0);
    gateway.terminate();
}

#[test]
fn sslscan_finds_nothing_weak() {
    let mut gateway = start("{ cert = \"server.pem\", key = \"server.key\" }");
    let output = Command::new(tools::find("sslscan"))
        .args(["--no-colour", &gateway.mqtt.to_string()])
        .output()
        .expect("sslscan can be started");
    let said = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for wanted in [
        "SSLv2 disabled",
        "SSLv3 disabled",
        "TLSv1.0 disabled",
        "TLSv1.1 disabled",
        "TLSv1.2 enabled",
        "TLSv1.3 enabled",
        "Session renegotiation not supported",
        "TLSv1.3 not vulnerable to heartbleed",
        "TLSv1.2 not vulnerable to heartbleed",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {said}");
    }
    let suites: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("Preferred ") || line.starts_with("Accepted ")).collect();
    assert!(suites.len() >= 4, "{said}");
    for suite in suites {
        let bits: u32 =
            suite.split(' ').nth(2).and_then(|bits| bits.parse().ok()).expect("the bits are told");
        assert!(bits >= 128 && !WEAK.iter().any(|weak| suite.contains(weak)), "{suite}");
    }
    // Debian's sslscan cannot look for compression; the library offers none.
    assert!(!said.contains("Compression enabled") && !said.to_lowercase().contains("insecure"), "{said}");
    gateway.terminate();
}

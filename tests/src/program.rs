//! Finding the programs under test, building them first if need be.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

/// As `tests/run` builds the tests: a test beside the program gives its dependencies the same
/// features, so that none of them is built again.
const AS_TESTED: [&str; 5] = ["--workspace", "--features", "tidegate/failpoints", "--test", "architecture"];

/// Which build of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// What is shipped: the release profile.
    Shipped,
    /// With named points at which it can be made to die, and with the development profile's
    /// assertions.
    WithFailpoints,
}

/// The top of the workspace.
///
/// # Panics
/// The package has no parent folder.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// Where the harness keeps what it makes: builds, data directories, tools.
///
/// # Panics
/// It cannot be made.
#[must_use]
pub fn scratch() -> PathBuf {
    let path = target().join("scenarios");
    std::fs::create_dir_all(&path).expect("the target folder is writable");
    path
}

/// Cargo's target folder.
#[must_use]
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The gateway's program.
///
/// `TIDEGATE` in the environment names another one to test in place of the shipped build.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn gateway(build: Build) -> PathBuf {
    static SHIPPED: OnceLock<PathBuf> = OnceLock::new();
    static WITH_FAILPOINTS: OnceLock<PathBuf> = OnceLock::new();
    match build {
        Build::Shipped => SHIPPED
            .get_or_init(|| match std::env::var_os("TIDEGATE") {
                Some(path) => path.into(),
                None => build_gateway("tidegate-shipped", &["--release", "-p", "tidegate"]),
            })
            .clone(),
        Build::WithFailpoints => {
            WITH_FAILPOINTS.get_or_init(|| build_gateway("tidegate-failpoints", &AS_TESTED)).clone()
        }
    }
}

/// Sends a process a signal: `TERM`, `HUP`, `STOP`.
///
/// # Panics
/// There is no such process, or it is somebody else's.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} can be sent");
}

/// Runs the shipped build to its end with `arguments`.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    let mut command = Command::new(gateway(Build::Shipped));
    command.args(arguments).stdin(Stdio::null()).output().expect("the program can be started")
}

/// The firmware's example of this name, built as the tests are.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    build(name, &[&["--example", name], &AS_TESTED[..]].concat())
}

/// Builds the gateway, and keeps it under a name of its own, which a later build does not take from
/// under a test. A link and no copy: a process that another thread starts in the meantime would
/// have the copy open for writing, and the kernel executes no such file.
fn build_gateway(name: &str, arguments: &[&str]) -> PathBuf {
    let built = build("tidegate", &[&["--bin", "tidegate"], arguments].concat());
    let kept = scratch().join(name);
    let fresh = scratch().join(format!("{name}.{}", std::process::id()));
    std::fs::hard_link(&built, &fresh).expect("a link within the target folder");
    std::fs::rename(&fresh, &kept).expect("a rename within a folder");
    kept
}

/// Builds with these arguments of cargo's, and gives the executable of this name.
fn build(name: &str, arguments: &[&str]) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells this test of its own package; `ring` is built anew when it finds that
    // changed, and all above it.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if of_this_package(&name) {
            command.env_remove(name);
        }
    }
    let output = command
        .current_dir(workspace())
        .args(["build", "--locked", "--message-format", "json-render-diagnostics"])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{name} does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .expect("cargo names the executable")
}

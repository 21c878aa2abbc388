//! Foreign programs that the scenarios use. `tests/run` installs them; a missing one is told by
//! name.

use std::path::PathBuf;

use crate::program;

/// The path of a program from Debian.
///
/// # Panics
/// It is not installed.
#[must_use]
pub fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps servers in sbin, which is not on everybody's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: tests/run installs what the scenarios need"))
}

/// The Python that has paho-mqtt and aiomqtt.
///
/// # Panics
/// It is not installed.
#[must_use]
pub fn python_with_paho() -> PathBuf {
    let python = program::target().join("tools/venv/bin/python");
    assert!(python.is_file(), "no {}: tests/run sets it up", python.display());
    python
}

/// The folder of what npm has installed.
///
/// # Panics
/// It is not there.
#[must_use]
pub fn node_modules() -> PathBuf {
    let folder = program::target().join("tools/node_modules");
    assert!(folder.join("mqtt").is_dir(), "no mqtt in {}: tests/run sets it up", folder.display());
    folder
}

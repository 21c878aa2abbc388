//! The configuration, in two steps: as written (`raw.rs`), then as it is understood
//! (`resolved.rs`). All of it is checked before a port is bound or a file is made.
//!
//! ```text
//! file ──toml──▶ raw: every key known, of the right type ──check──▶ Settings: what each room is told
//!                   └──────────── ConfigError: file, line, key, what to do ───────┘
//! ```
//!
//! Limits: a file to [`CONFIG_BYTES_MAX`], [`UPLINKS_MAX`] uplinks, [`LISTENERS_MAX`] listeners,
//! [`ROUTES_MAX`] routes. Secrets come from files or from the environment, never from the
//! configuration itself. It reads the configuration, the password files, certificates and keys, the
//! users file and the access file, and nothing else: whether the data directory can be written or a
//! port is free, starting shows.

mod access;
mod error;
mod limits;
mod listeners;
mod raw;
mod resolved;
mod routes;
mod uplinks;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use access::users_file;
pub use error::ConfigError;

pub use crate::keys::NAME_BYTES_MAX;
use crate::{http, ingest, keys::Surroundings, regular_file, store, uplink};

/// Longest configuration file, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Most uplinks.
pub const UPLINKS_MAX: usize = 16;
/// Most listeners.
pub const LISTENERS_MAX: usize = 16;
/// Most routes.
pub const ROUTES_MAX: usize = 256;

/// What each room is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The gateway's identity.
    pub gateway_id: String,
    /// How often it says how it is, as an event of its own; `None` if it says nothing of itself.
    pub health_interval: Option<Duration>,
    /// The store.
    pub store: store::Settings,
    /// Bytes that the disk or card is rated for, if that is known: for the projection of its life
    /// alone.
    pub endurance_bytes: Option<u64>,
    /// Where devices connect.
    pub listeners: Vec<ingest::ListenerSettings>,
    /// Who may connect, and what clients may cost.
    pub ingest: ingest::Settings,
    /// Where events go.
    pub uplinks: Vec<uplink::Settings>,
    /// Health, metrics and status.
    pub http: http::Settings,
    /// What is missing now and is waited for: the password file of an uplink.
    pub not_yet: Option<ConfigError>,
}

impl Settings {
    /// The same, if nothing is missing.
    ///
    /// # Errors
    /// [`ConfigError::Wrong`]: what is.
    pub fn complete(self) -> Result<Self, ConfigError> {
        match self.not_yet {
            Some(missing) => Err(missing),
            None => Ok(self),
        }
    }
}

/// Reads and checks a configuration file. `variable` looks up the environment. A gateway can start
/// with what it gives; see [`Settings::complete`].
///
/// # Errors
/// [`ConfigError`]: the file cannot be read, or what is wrong in it, all that can be told at once.
pub fn load(file: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Settings, ConfigError> {
    parse(&read(file)?, file, variable)
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |cause: std::io::Error| ConfigError::unreadable(file, &cause);
    regular_file::read_text(file, CONFIG_BYTES_MAX).map_err(unreadable)
}

fn read_raw(file: &Path) -> Result<(String, raw::File), ConfigError> {
    let text = read(file)?;
    let raw = as_raw(&text, file)?;
    Ok((text, raw))
}

fn as_raw(text: &str, file: &Path) -> Result<raw::File, ConfigError> {
    toml::from_str(text).map_err(|e| ConfigError::wrong(file, text, vec![error::from_toml(text, &e)]))
}

/// Checks the text of a configuration; `file` stands in the errors, and relative paths start at its
/// folder.
///
/// # Errors
/// [`ConfigError::Wrong`]
pub fn parse(
    text: &str,
    file: &Path,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    let wrong = |problems| ConfigError::wrong(file, text, problems);
    let raw = as_raw(text, file)?;
    let folder = file.parent().map(PathBuf::from).unwrap_or_default();
    let (settings, not_yet) = resolved::check(raw, &Surroundings { folder, variable }).map_err(wrong)?;
    let not_yet = (!not_yet.is_empty()).then(|| wrong(not_yet));
    Ok(Settings { not_yet, ..settings })
}

#[cfg(test)]
mod tests;

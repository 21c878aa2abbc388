//! What a JetStream upstream is told: where to, as whom, and which stream.
//!
//! The engine's own part of an uplink's settings: the configuration composes it, and
//! [`Settings::check`] says what cannot work before anything is started.

use std::time::Duration;

use super::stream;
use crate::uplink::{
    engine::{dial::Layers, password::PasswordSource},
    template::Template,
};

/// Longest name of a stream, in bytes. (JSMaxNameLen of nats-server)
pub const STREAM_BYTES_MAX: usize = 255;

/// The port of NATS without TLS.
pub const PORT_DEFAULT: u16 = 4222;

/// One JetStream upstream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server's host name or address.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// What lies between TCP and NATS.
    pub layers: Layers,
    /// The name that the server shows for this client.
    pub client_id: String,
    /// What its messages' ids begin with: the same after a change of its name, and for a replay's
    /// client.
    pub uplink: String,
    /// The user, if the server asks for one.
    pub user: Option<String>,
    /// Where the user's password comes from.
    pub password: Option<PasswordSource>,
    /// How long a connection lasts, at the most, before it is made anew.
    pub renew: Option<Duration>,
    /// The stream that is to take the events: no other stream's acknowledgement counts. Without it,
    /// whichever takes their subjects.
    pub stream: Option<String>,
    /// A ping goes out after this long without anything sent; zero is never.
    pub keep_alive: Duration,
    /// The subjects that events may have.
    pub subjects: String,
}

/// Settings cannot work. Nothing was started with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The host is empty.
    #[error("the upstream's host is empty: name the server")]
    NoHost,
    /// No stream can have this name.
    #[error("\"{0}\" is no name of a stream: 1 to {STREAM_BYTES_MAX} bytes without spaces and . * > / \\")]
    Stream(String),
}

impl Settings {
    /// To `host` on port 4222, for an uplink whose topics this template gives, all else at its
    /// default. The gateway's id stands in the template already.
    #[must_use]
    pub fn new(host: &str, client_id: String, template: &Template) -> Self {
        Self {
            host: host.to_owned(),
            port: PORT_DEFAULT,
            layers: Layers::default(),
            uplink: client_id.clone(),
            client_id,
            user: None,
            password: None,
            renew: None,
            stream: None,
            keep_alive: Duration::from_secs(30),
            subjects: stream::filter(template),
        }
    }

    /// Checks what can be checked without a server.
    ///
    /// # Errors
    /// [`SettingsError`] names the first thing that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.host.is_empty() {
            return Err(SettingsError::NoHost);
        }
        self.stream.as_deref().map_or(Ok(()), check_stream)
    }
}

/// Whether a stream can have this name.
pub(super) fn check_stream(name: &str) -> Result<(), SettingsError> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    let is_name = (1..=STREAM_BYTES_MAX).contains(&name.len()) && !name.contains(is_bad);
    is_name.then_some(()).ok_or_else(|| SettingsError::Stream(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_name_that_nats_takes() {
        let mut settings = Settings::new("localhost", "gate".to_owned(), &Template::default());
        assert_eq!(settings.check(), Ok(()));
        for name in ["EVENTS", "events_2", "ä"] {
            settings.stream = Some(name.to_owned());
            assert_eq!(settings.check(), Ok(()));
        }
        for name in ["", "a.b", "a b", "*", "a>", "a/b", "a\\b", "a\n", &"x".repeat(256)] {
            settings.stream = Some(name.to_owned());
            assert_eq!(settings.check(), Err(SettingsError::Stream(name.to_owned())));
        }
        settings.host.clear();
        assert_eq!(settings.check(), Err(SettingsError::NoHost));
    }
}

//! What the MQTT engine is told: which broker, as whom, and in which version.

use std::time::Duration;

pub use crate::mqtt::Version;
use crate::uplink::{
    engine::{
        dial::{Layers, Target},
        password::PasswordSource,
    },
    message::Will,
};

/// Longest client id or user name, in bytes.
pub const ID_BYTES_MAX: usize = 1024;
/// A ping goes out after this long without anything sent, unless told otherwise.
pub const KEEP_ALIVE_DEFAULT: Duration = Duration::from_secs(30);
/// Longest session expiry that CONNECT can carry: one second more is for ever. (MQTT 5.0 section
/// 3.1.2.11.2)
pub const SESSION_EXPIRY_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);
/// Longest keep-alive that CONNECT can carry. \[MQTT-3.1.2-23\]
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);
/// How long a broker keeps commands, unless told otherwise: as long as a command may wait.
pub const SESSION_EXPIRY_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);
/// The port of MQTT without TLS.
pub const PORT_DEFAULT: u16 = 1883;

/// What becomes of a publisher's wish that the broker keep an event as the state of its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retain {
    /// It is passed on.
    #[default]
    AsPublished,
    /// It is not: for brokers that refuse such events.
    Never,
}

/// One broker.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker's host name or address.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// What lies between TCP and MQTT.
    pub layers: Layers,
    /// The protocol to speak.
    pub version: Version,
    /// The MQTT client id. Two clients with the same one throw each other out.
    pub client_id: String,
    /// The user name, if the broker asks for one.
    pub user: Option<String>,
    /// Where the password comes from, if the broker asks for one.
    pub password: Option<PasswordSource>,
    /// How long a connection lasts, at the most, before it is made anew.
    pub renew: Option<Duration>,
    /// Longest packet that the broker takes, in bytes, where it does not say so itself.
    pub packet_bytes_max: Option<u32>,
    /// Whether events are to be retained there.
    pub retain: Retain,
    /// A ping goes out after this long without anything sent; zero is never.
    pub keep_alive: Duration,
    /// What the broker publishes once it has lost a connection for events.
    pub will: Option<Will>,
    /// How long the broker is to keep commands that come while there is no connection.
    pub session_expiry: Duration,
}

/// Settings cannot work. Nothing was started with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The host is empty.
    #[error("the upstream's host is empty: name the broker")]
    NoHost,
    /// A text is longer than its field can be.
    #[error("the {what} is {bytes} bytes long, more than {bytes_max}: shorten it")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A text holds what MQTT cannot carry. \[MQTT-1.5.3-2\]
    #[error("the {what} holds a NUL character: remove it")]
    Nul {
        /// Which text.
        what: &'static str,
    },
    /// MQTT 3.1.1 has no password without a user name. \[MQTT-3.1.2-22\]
    #[error("MQTT 3.1.1 takes no password without a user: set the user too")]
    PasswordWithoutUser,
    /// CONNECT has 16 bits for it.
    #[error("the keep-alive is longer than {} s: shorten it", KEEP_ALIVE_MAX.as_secs())]
    KeepAliveTooLong,
}

impl Settings {
    /// MQTT 3.1.1 to `host` on port 1883, all else at its default.
    #[must_use]
    pub fn new(host: &str, client_id: String) -> Self {
        Self {
            host: host.to_owned(),
            port: PORT_DEFAULT,
            layers: Layers::default(),
            version: Version::V311,
            client_id,
            user: None,
            password: None,
            renew: None,
            packet_bytes_max: None,
            retain: Retain::AsPublished,
            keep_alive: KEEP_ALIVE_DEFAULT,
            will: None,
            session_expiry: SESSION_EXPIRY_DEFAULT,
        }
    }

    /// Where the broker is, and through what.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        Target { host: &self.host, port: self.port, layers: &self.layers }
    }

    /// Checks what can be checked without a broker.
    ///
    /// # Errors
    /// [`SettingsError`] names the first thing that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.host.is_empty() {
            return Err(SettingsError::NoHost);
        }
        let user = self.user.as_deref().unwrap_or_default();
        for (what, text, bytes_max) in
            [("client id", self.client_id.as_bytes(), ID_BYTES_MAX), ("user", user.as_bytes(), ID_BYTES_MAX)]
        {
            if text.len() > bytes_max {
                return Err(SettingsError::TooLong { what, bytes: text.len(), bytes_max });
            }
            if text.contains(&0) {
                return Err(SettingsError::Nul { what });
            }
        }
        if self.version == Version::V311 && user.is_empty() && self.password.is_some() {
            return Err(SettingsError::PasswordWithoutUser);
        }
        if self.keep_alive > KEEP_ALIVE_MAX {
            return Err(SettingsError::KeepAliveTooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::Password;

    #[test]
    fn the_password_is_not_shown() {
        let mut settings = Settings::new("broker.example", "barn-7-cloud".to_owned());
        settings.password = Some(PasswordSource::Fixed(Password::new("hunter2")));
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("hidden") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_mqtt_cannot_carry_is_refused_with_its_reason() {
        let change = |change: fn(&mut Settings)| {
            let mut settings = Settings::new("broker.example", "barn-7-cloud".to_owned());
            change(&mut settings);
            settings.check()
        };
        assert_eq!(change(|_| ()), Ok(()));
        assert_eq!(change(|s| s.host.clear()), Err(SettingsError::NoHost));
        let nul = Err(SettingsError::Nul { what: "client id" });
        assert_eq!(change(|s| s.client_id.push('\0')), nul);
        let long = Err(SettingsError::TooLong { what: "user", bytes: 1025, bytes_max: 1024 });
        assert_eq!(change(|s| s.user = Some("u".repeat(1025))), long);
        let lone = |s: &mut Settings| s.password = Some(PasswordSource::Fixed(Password::new("p")));
        assert_eq!(change(lone), Err(SettingsError::PasswordWithoutUser));
        let keep_alive = |s: &mut Settings| s.keep_alive = Duration::from_secs(65_536);
        assert_eq!(change(keep_alive), Err(SettingsError::KeepAliveTooLong));
    }
}

//! What one uplink is told: where to, as whom, how much at once, and its time limits.
//!
//! The room's own type: the configuration composes it. [`Settings::check`] says what cannot work before anything is
//! started.

use std::{fmt, num::NonZeroU16, time::Duration};

use super::{commands::CommandTopic, format::FormatName, template::Template};
use crate::catalog::Values;

/// Publishes in flight, unless told otherwise.
pub const WINDOW_DEFAULT: NonZeroU16 = NonZeroU16::new(1000).expect("1000 is not 0");
/// Longest client id, user name or gateway id, in bytes.
pub const ID_BYTES_MAX: usize = 1024;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 16 * 1024;
/// Longest keep-alive that CONNECT can carry. \[MQTT-3.1.2-23\]
pub const KEEP_ALIVE_MAX: Duration = Duration::from_secs(65_535);

/// One uplink.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name: in the log, in metrics and in the store's cursor.
    pub name: String,
    /// The broker's host name or address.
    pub host: String,
    /// The broker's port.
    pub port: u16,
    /// The protocol to speak.
    pub version: Version,
    /// The MQTT client id. Two clients with the same one throw each other out.
    pub client_id: String,
    /// The user name, if the broker asks for one.
    pub user: Option<String>,
    /// The password, if the broker asks for one.
    pub password: Option<Password>,
    /// How events are written.
    pub format: FormatName,
    /// How numbers are written where events are described.
    pub values: Values,
    /// An event whose device has not said what it is waits this long for the birth; then it stays a dead letter.
    pub wait_for_birth: Duration,
    /// The topic under which events go out.
    pub topic: Template,
    /// The topics on which commands to devices come, if there are any.
    pub commands: Option<CommandTopic>,
    /// Publishes sent and not acknowledged, at most. A broker may allow less.
    pub window: NonZeroU16,
    /// Longest packet that the broker takes, in bytes, where it does not say so itself.
    pub packet_bytes_max: Option<u32>,
    /// A ping goes out after this long without anything sent; zero is never.
    pub keep_alive: Duration,
    /// From the first look-up of the name to the CONNACK, at most.
    pub connect_timeout: Duration,
    /// An event, or a ping, waits this long for its answer before the connection is given up.
    pub ack_timeout: Duration,
    /// Ceiling of the first wait between attempts.
    pub backoff_min: Duration,
    /// Ceiling of all waits between attempts.
    pub backoff_max: Duration,
    /// This gateway's id, part of the identity of events that have none of their own.
    pub gateway_id: String,
}

/// A version of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1.1 (OASIS, 2014).
    V311,
    /// MQTT 5.0 (OASIS, 2019).
    V5,
}

/// A password. Neither `Debug` nor anything else of this room shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

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
    /// The gateway's id stands in topics and cannot.
    #[error("the gateway's id holds # or +, which cannot stand in a topic: the template names {{gateway}}")]
    GatewayInTopic,
    /// Nothing says of what type an event is.
    #[error("the topic names {{type}}, which only the formats json and cloudevents know: set the format too")]
    TypeInRaw,
    /// MQTT 3.1.1 has no password without a user name. \[MQTT-3.1.2-22\]
    #[error("MQTT 3.1.1 takes no password without a user: set the user too")]
    PasswordWithoutUser,
    /// CONNECT has 16 bits for it.
    #[error("the keep-alive is longer than {} s: shorten it", KEEP_ALIVE_MAX.as_secs())]
    KeepAliveTooLong,
    /// A time limit of nothing lets nothing through.
    #[error("the {what} is zero: it would never be kept")]
    ZeroTimeout {
        /// Which one.
        what: &'static str,
    },
    /// The first wait is longer than the longest, or nothing.
    #[error("the back-off must rise from more than zero to its maximum")]
    Backoff,
}

impl Settings {
    /// MQTT 3.1.1 to `host` on port 1883, all else at its default.
    #[must_use]
    pub fn new(name: &str, host: &str, gateway_id: &str) -> Self {
        Self {
            name: name.to_owned(),
            host: host.to_owned(),
            port: 1883,
            version: Version::V311,
            client_id: format!("{gateway_id}-{name}"),
            user: None,
            password: None,
            format: FormatName::default(),
            values: Values::Scaled,
            wait_for_birth: Duration::from_secs(24 * 3600),
            topic: Template::default(),
            commands: None,
            window: WINDOW_DEFAULT,
            packet_bytes_max: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(30),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            gateway_id: gateway_id.to_owned(),
        }
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
        let password = self.password.as_ref().map_or("", Password::reveal);
        for (what, text, bytes_max) in [
            ("client id", self.client_id.as_str(), ID_BYTES_MAX),
            ("user", user, ID_BYTES_MAX),
            ("password", password, PASSWORD_BYTES_MAX),
            ("gateway's id", &self.gateway_id, ID_BYTES_MAX),
        ] {
            if text.len() > bytes_max {
                return Err(SettingsError::TooLong { what, bytes: text.len(), bytes_max });
            }
            if text.contains('\0') {
                return Err(SettingsError::Nul { what });
            }
        }
        if self.topic.names_gateway() && self.gateway_id.contains(['#', '+']) {
            return Err(SettingsError::GatewayInTopic);
        }
        if self.format == FormatName::Raw && self.topic.names_type() {
            return Err(SettingsError::TypeInRaw);
        }
        if self.version == Version::V311 && user.is_empty() && !password.is_empty() {
            return Err(SettingsError::PasswordWithoutUser);
        }
        if self.keep_alive > KEEP_ALIVE_MAX {
            return Err(SettingsError::KeepAliveTooLong);
        }
        for (what, limit) in [("connect time-out", self.connect_timeout), ("ack time-out", self.ack_timeout)]
        {
            if limit.is_zero() {
                return Err(SettingsError::ZeroTimeout { what });
            }
        }
        if self.backoff_min.is_zero() || self.backoff_min > self.backoff_max {
            return Err(SettingsError::Backoff);
        }
        Ok(())
    }
}

impl Password {
    /// Keeps `text` from being shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let mut settings = Settings::new("cloud", "broker.example", "barn-7");
        settings.password = Some(Password::new("hunter2".to_owned()));
        let shown = format!("{settings:?} {settings:#?}");
        assert!(shown.contains("hidden") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn what_can_not_work_is_refused_with_its_reason() {
        let change = |change: fn(&mut Settings)| {
            let mut settings = Settings::new("cloud", "broker.example", "barn-7");
            change(&mut settings);
            settings.check()
        };
        assert_eq!(change(|_| ()), Ok(()));
        assert_eq!(change(|s| s.host.clear()), Err(SettingsError::NoHost));
        let nul = Err(SettingsError::Nul { what: "client id" });
        assert_eq!(change(|s| s.client_id.push('\0')), nul);
        let long = Err(SettingsError::TooLong { what: "user", bytes: 1025, bytes_max: 1024 });
        assert_eq!(change(|s| s.user = Some("u".repeat(1025))), long);
        let lone = |s: &mut Settings| s.password = Some(Password::new("p".to_owned()));
        assert_eq!(change(lone), Err(SettingsError::PasswordWithoutUser));
        let wild = |s: &mut Settings| {
            s.gateway_id = "a+b".to_owned();
            s.topic = Template::parse("{gateway}/{topic}").unwrap();
        };
        assert_eq!(change(wild), Err(SettingsError::GatewayInTopic));
        assert_eq!(change(|s| s.gateway_id = "a+b".to_owned()), Ok(()));
        let typed = |s: &mut Settings| s.topic = Template::parse("{type}").unwrap();
        assert_eq!(change(typed), Err(SettingsError::TypeInRaw));
        let keep_alive = |s: &mut Settings| s.keep_alive = Duration::from_secs(65_536);
        assert_eq!(change(keep_alive), Err(SettingsError::KeepAliveTooLong));
        let zero = Err(SettingsError::ZeroTimeout { what: "ack time-out" });
        assert_eq!(change(|s| s.ack_timeout = Duration::ZERO), zero);
        let backoff = |s: &mut Settings| s.backoff_max = s.backoff_min / 2;
        assert_eq!(change(backoff), Err(SettingsError::Backoff));
    }
}

//! What one uplink is told: where to, how events are written, how much at once, and its time
//! limits.
//!
//! The room's own type: the configuration composes it. [`Settings::check`] says what cannot work
//! before anything is started. What an engine has to be told is in the engine's own settings; here
//! it is listed.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::{
    commands::topic::CommandTopic,
    delivery::hours::Hours,
    engine::{mqtt, upstream::Upstream},
    format::name::FormatName,
    platform::{Platform, UNKNOWN},
    template::Template,
};
use crate::catalog::Values;

/// Messages in flight, unless told otherwise.
pub const WINDOW_DEFAULT: NonZeroU16 = NonZeroU16::new(1000).expect("1000 is not 0");
/// The time for an acknowledgement, unless told otherwise.
pub const ACK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// What stands behind the client id of the connection for commands.
pub const OF_COMMANDS: &str = "-commands";
/// Longest gateway id, in bytes.
pub const GATEWAY_ID_BYTES_MAX: usize = 1024;

/// One uplink.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name: in the log, in metrics and in the store's cursor.
    pub name: String,
    /// Where events go.
    pub upstream: Upstream,
    /// What is known of the upstream's limits.
    pub platform: &'static Platform,
    /// How events are written.
    pub format: FormatName,
    /// How numbers are written where events are decoded.
    pub values: Values,
    /// An event whose device has not said what it is waits this long for the birth; then it stays a
    /// dead letter.
    pub wait_for_birth: Duration,
    /// The topic under which events go out.
    pub topic: Template,
    /// The topics on which commands to devices come, if there are any.
    pub commands: Option<CommandTopic>,
    /// Messages sent and not acknowledged, at most. An upstream may allow fewer.
    pub window: NonZeroU16,
    /// The upstream is handed a last will with each connection, if it can be.
    pub has_will: bool,
    /// How fast messages go, and how many bytes of them at once.
    pub pace: PaceLimits,
    /// The hours in which it sends what is not urgent, if not at any time.
    pub send: Option<Hours>,
    /// From reading the password to the end of the handshake, at most. Each step, and each address
    /// of the name, has half of it.
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

/// What an uplink is told about its pace. What is not set has no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PaceLimits {
    /// Messages in a second.
    pub events_per_s: Option<NonZeroU32>,
    /// Bytes of messages in a second.
    pub bytes_per_s: Option<NonZeroU64>,
    /// Bytes of messages that are sent and not acknowledged.
    pub inflight_bytes: Option<NonZeroU64>,
}

/// Settings cannot work. Nothing was started with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// What the engine is told cannot work, in its own words.
    #[error("{0}")]
    Engine(String),
    /// The gateway's id is longer than an event's id can hold.
    #[error("the gateway's id is {bytes} bytes long, more than {GATEWAY_ID_BYTES_MAX}: shorten it")]
    GatewayTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The gateway's id holds what no topic can carry.
    #[error("the gateway's id holds a NUL character: remove it")]
    GatewayNul,
    /// The gateway's id stands in topics and cannot.
    #[error("the gateway's id holds # or +, which cannot stand in a topic: the template names {{gateway}}")]
    GatewayInTopic,
    /// Nothing says of what type an event is.
    #[error("the topic names {{type}}, which the format raw does not know: set another format too")]
    TypeInRaw,
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
    /// To this upstream, all else at its default.
    #[must_use]
    pub fn new(name: &str, upstream: Upstream, gateway_id: &str) -> Self {
        Self {
            name: name.to_owned(),
            upstream,
            platform: &UNKNOWN,
            format: FormatName::default(),
            values: Values::Scaled,
            wait_for_birth: Duration::from_secs(24 * 3600),
            topic: Template::default(),
            commands: None,
            window: WINDOW_DEFAULT,
            has_will: false,
            pace: PaceLimits::default(),
            send: None,
            connect_timeout: Duration::from_secs(10),
            ack_timeout: ACK_TIMEOUT_DEFAULT,
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(60),
            gateway_id: gateway_id.to_owned(),
        }
    }

    /// To an MQTT broker, by MQTT 3.1.1 on port 1883, all else at its default.
    #[must_use]
    pub fn mqtt(name: &str, host: &str, gateway_id: &str) -> Self {
        let broker = mqtt::Settings::new(host, format!("{gateway_id}-{name}"));
        Self::new(name, Upstream::Mqtt(broker), gateway_id)
    }

    /// Those of the connection of a replay of this id, beside the uplink's own.
    #[must_use]
    pub fn of_replay(mut self, id: &str) -> Self {
        self.upstream.rename(&format!("-replay-{id}"));
        // Whoever asks for a replay does not wait for the night; and its end says nothing of the
        // gateway.
        (self.send, self.has_will) = (None, false);
        self.name += &format!(" (replay {id})");
        self
    }

    /// The client ids by which it connects for as long as it runs.
    #[must_use]
    pub fn client_ids(&self) -> Vec<String> {
        let own = self.upstream.credentials().client_id;
        let commands = self.commands.as_ref().map(|_| format!("{own}{OF_COMMANDS}"));
        std::iter::once(own.to_owned()).chain(commands).collect()
    }

    /// Checks what can be checked without an upstream.
    ///
    /// # Errors
    /// [`SettingsError`] names the first thing that cannot work.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.upstream.check().map_err(SettingsError::Engine)?;
        if self.gateway_id.len() > GATEWAY_ID_BYTES_MAX {
            return Err(SettingsError::GatewayTooLong { bytes: self.gateway_id.len() });
        }
        if self.gateway_id.contains('\0') {
            return Err(SettingsError::GatewayNul);
        }
        if self.topic.names_gateway() && self.gateway_id.contains(['#', '+']) {
            return Err(SettingsError::GatewayInTopic);
        }
        if self.format == FormatName::Raw && self.topic.names_type() {
            return Err(SettingsError::TypeInRaw);
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

#[cfg(test)]
impl Settings {
    /// The settings of its MQTT engine, to be changed.
    pub fn broker(&mut self) -> &mut mqtt::Settings {
        match &mut self.upstream {
            Upstream::Mqtt(settings) => settings,
            other => panic!("{other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_with_its_reason() {
        let change = |change: fn(&mut Settings)| {
            let mut settings = Settings::mqtt("cloud", "broker.example", "barn-7");
            change(&mut settings);
            settings.check()
        };
        assert_eq!(change(|_| ()), Ok(()));
        let no_host = mqtt::SettingsError::NoHost.to_string();
        assert_eq!(change(|s| s.broker().host.clear()), Err(SettingsError::Engine(no_host)));
        assert_eq!(change(|s| s.gateway_id.push('\0')), Err(SettingsError::GatewayNul));
        let long = Err(SettingsError::GatewayTooLong { bytes: 1025 });
        assert_eq!(change(|s| s.gateway_id = "g".repeat(1025)), long);
        let wild = |s: &mut Settings| {
            s.gateway_id = "a+b".to_owned();
            s.topic = Template::parse("{gateway}/{topic}").unwrap();
        };
        assert_eq!(change(wild), Err(SettingsError::GatewayInTopic));
        assert_eq!(change(|s| s.gateway_id = "a+b".to_owned()), Ok(()));
        let typed = |s: &mut Settings| s.topic = Template::parse("{type}").unwrap();
        assert_eq!(change(typed), Err(SettingsError::TypeInRaw));
        let zero = Err(SettingsError::ZeroTimeout { what: "ack time-out" });
        assert_eq!(change(|s| s.ack_timeout = Duration::ZERO), zero);
        let backoff = |s: &mut Settings| s.backoff_max = s.backoff_min / 2;
        assert_eq!(change(backoff), Err(SettingsError::Backoff));
    }
}

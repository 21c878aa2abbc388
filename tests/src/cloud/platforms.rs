//! The platforms that there are stand-ins for, each with its figures.
//!
//! Figures are those of the platforms' documents for one client or one connection. What a stand-in
//! leaves out: subscriptions are granted and nothing is ever delivered; quotas of an account.

use std::time::Duration;

use super::{
    limits::{Excess, Identity, Limits, Rate},
    sas::SharedAccess,
};
use crate::codec::Version;

/// The time an acknowledgement takes where nobody says otherwise: a way through a continent.
const ACK_AFTER: Duration = Duration::from_millis(20);

/// Nothing is limited that the standard does not limit.
fn unlimited(name: &'static str) -> Limits {
    Limits {
        name,
        versions: &[Version::V311, Version::V5],
        identity: Identity::Anyone,
        client_id_bytes_max: usize::from(u16::MAX),
        connect_spacing: Duration::ZERO,
        sessions_max: usize::MAX,
        keep_alive_s: 0..=u16::MAX,
        connect_user_properties: true,
        topic_bytes_max: usize::from(u16::MAX),
        topic_slashes_max: usize::MAX,
        topic_prefix: String::new(),
        payload_bytes_max: 256 << 20,
        retain: true,
        rate: None,
        unacked_max: u16::MAX,
        unacked_bytes_max: usize::MAX,
        topic_alias_max: 0,
        packet_bytes_max: 0,
        ack_after: ACK_AFTER,
    }
}

/// A broker without limits of its own.
#[must_use]
pub fn broker() -> Limits {
    unlimited("broker")
}

/// AWS IoT Core: what is over the rate is discarded, what is not allowed closes without a word.
#[must_use]
pub fn aws_iot() -> Limits {
    Limits {
        client_id_bytes_max: 128,
        connect_spacing: Duration::from_secs(1),
        keep_alive_s: 30..=1200,
        topic_bytes_max: 256,
        topic_slashes_max: 7,
        payload_bytes_max: 128 << 10,
        rate: Some(Rate { publishes_per_s: 100, bytes_per_s: 512 << 10, excess: Excess::Discard }),
        unacked_max: 100,
        topic_alias_max: 8,
        packet_bytes_max: 146 << 10,
        ..unlimited("aws-iot")
    }
}

/// Azure IoT Hub: MQTT 3.1.1, one device with a token that ends.
#[must_use]
pub fn azure_iot_hub(access: SharedAccess) -> Limits {
    Limits {
        versions: &[Version::V311],
        client_id_bytes_max: 128,
        keep_alive_s: 0..=1177,
        topic_prefix: format!("devices/{}/messages/events/", access.device),
        payload_bytes_max: 256 << 10,
        identity: Identity::SharedAccess(access),
        ..unlimited("azure-iot-hub")
    }
}

/// Azure Event Grid: `user` is the client's authentication name. What is over a quota closes.
#[must_use]
pub fn azure_event_grid(user: &str) -> Limits {
    Limits {
        identity: Identity::Named(user.into()),
        client_id_bytes_max: 128,
        sessions_max: 1,
        keep_alive_s: 0..=1160,
        connect_user_properties: false,
        topic_bytes_max: 256,
        payload_bytes_max: 512 << 10,
        retain: false,
        rate: Some(Rate { publishes_per_s: 1000, bytes_per_s: 1 << 20, excess: Excess::Close }),
        unacked_max: 1000,
        unacked_bytes_max: 64 << 10,
        topic_alias_max: 10,
        packet_bytes_max: 512 << 10,
        ..unlimited("azure-event-grid")
    }
}

/// EMQX Serverless: who is too fast is read from more slowly.
#[must_use]
pub fn emqx_serverless(user: &str, password: &str) -> Limits {
    Limits {
        identity: Identity::Password { user: user.into(), password: password.into() },
        payload_bytes_max: 1 << 20,
        rate: Some(Rate { publishes_per_s: 10, bytes_per_s: 1 << 20, excess: Excess::Pause }),
        unacked_max: 32,
        packet_bytes_max: 1 << 20,
        topic_alias_max: 65_535,
        ..unlimited("emqx-serverless")
    }
}

/// HiveMQ Cloud: a user and a password, and nothing that a gateway comes near.
#[must_use]
pub fn hivemq_cloud(user: &str, password: &str) -> Limits {
    Limits {
        identity: Identity::Password { user: user.into(), password: password.into() },
        payload_bytes_max: 5 << 20,
        packet_bytes_max: 5 << 20,
        ..unlimited("hivemq-cloud")
    }
}

/// ThingsBoard, as far as a backlog meets it: who is too fast is closed without a word.
#[must_use]
pub fn thingsboard(access_token: &str) -> Limits {
    Limits {
        identity: Identity::Named(access_token.into()),
        payload_bytes_max: 64 << 10,
        topic_prefix: "v1/".into(),
        rate: Some(Rate { publishes_per_s: 100, bytes_per_s: u32::MAX, excess: Excess::Close }),
        ..unlimited("thingsboard")
    }
}

//! The keys of an MQTT broker: how they are read.

use super::settings::{Settings, Version};
use crate::{
    keys::{Validator, quantity},
    uplink::{engine::Client, keys::Keys},
};

/// Least limit of an upstream's packets: the shortest that a real broker sets is 10 KiB.
const PACKET_BYTES_MAX_LEAST: u64 = 1024;
/// MQTT's own limit of a packet, in bytes: section 2.2.3 of 3.1.1, 2.1.4 of 5.
const PACKET_BYTES_MAX_MOST: u64 = 268_435_455;

impl Settings {
    /// What the keys say.
    pub(in crate::uplink) fn read(validator: &mut Validator<'_>, keys: &Keys, client: Client<'_>) -> Self {
        let versions = [("5", Version::V5), ("3.1.1", Version::V311)];
        Self {
            port: client.port,
            user: client.user,
            password: client.password,
            version: validator.one_of(keys.protocol.as_ref(), Version::V5, "protocol", &versions),
            packet_bytes_max: validator.value(keys.max_packet_bytes.as_ref(), None, |text| {
                let bytes = quantity::bytes(text)?;
                let fits = (PACKET_BYTES_MAX_LEAST..=PACKET_BYTES_MAX_MOST).contains(&bytes);
                fits.then_some(Some(bytes as u32)).ok_or_else(|| {
                    format!("\"{text}\" is not within 1 KiB and 268435455 bytes, MQTT's own limit")
                })
            }),
            ..Self::new(client.host, client.client_id)
        }
    }
}

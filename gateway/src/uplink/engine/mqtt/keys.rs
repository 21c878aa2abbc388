//! The keys of an MQTT broker: how they are read.

use std::time::Duration;

use super::settings::{
    KEEP_ALIVE_DEFAULT, KEEP_ALIVE_MAX, Retain, SESSION_EXPIRY_DEFAULT, SESSION_EXPIRY_MAX, Settings, Version,
};
use crate::{
    keys::{Spanned, Text, Validator, quantity},
    uplink::{
        engine::{
            Client,
            password::{PasswordSource, SecretFile},
        },
        keys::Keys,
        platform::Platform,
    },
};

/// Least limit of an upstream's packets: the shortest that a real broker sets is 10 KiB.
const PACKET_BYTES_MAX_LEAST: u64 = 1024;
/// MQTT's own limit of a packet, in bytes: section 2.2.3 of 3.1.1, 2.1.4 of 5.
const PACKET_BYTES_MAX_MOST: u64 = 268_435_455;

impl Settings {
    /// What the keys say.
    pub(in crate::uplink) fn read(validator: &mut Validator<'_>, keys: &Keys, client: Client<'_>) -> Self {
        let platform = client.platform;
        let versions = [("5", Version::V5), ("3.1.1", Version::V311)];
        let retain = [("as-published", Retain::AsPublished), ("never", Retain::Never)];
        qos(validator, keys.qos.as_ref());
        let version = validator.one_of(keys.protocol.as_ref(), Version::V5, "protocol", &versions);
        let retained = if platform.retains { Retain::AsPublished } else { Retain::Never };
        let keep_alive = seconds(validator, keys.keep_alive.as_ref(), KEEP_ALIVE_DEFAULT, KEEP_ALIVE_MAX);
        platform.check_keep_alive(validator, keys.keep_alive.as_ref(), keep_alive.as_secs());
        let password = azure_key(validator, keys, &client).or(client.password);
        Self {
            port: client.port,
            layers: client.layers,
            user: client.user,
            password,
            renew: client.renew,
            version: platform.version(validator, keys.protocol.as_ref(), version),
            packet_bytes_max: packet_bytes_max(validator, keys.max_packet_bytes.as_ref(), platform),
            retain: validator.one_of(keys.retain.as_ref(), retained, "retain", &retain),
            keep_alive,
            session_expiry: seconds(
                validator,
                keys.session_expiry.as_ref(),
                SESSION_EXPIRY_DEFAULT,
                SESSION_EXPIRY_MAX,
            ),
            ..Self::new(client.host, client.client_id)
        }
    }
}

/// The longest packet that the upstream takes, where it does not say so itself.
fn packet_bytes_max(validator: &mut Validator<'_>, raw: Option<&Text>, platform: &Platform) -> Option<u32> {
    let bytes = validator.value(raw, None, |text| {
        let bytes = quantity::bytes(text)?;
        let fits = (PACKET_BYTES_MAX_LEAST..=PACKET_BYTES_MAX_MOST).contains(&bytes);
        fits.then_some(Some(bytes))
            .ok_or_else(|| format!("\"{text}\" is not within 1 KiB and 268435455 bytes, MQTT's own limit"))
    });
    let asked = bytes.zip(raw.map(Spanned::span));
    let most = platform.settle(validator, platform.packet_bytes, asked, "bytes in a packet")?;
    u32::try_from(most).ok()
}

/// Signatures that let this device in to the hub by its key.
fn azure_key(validator: &mut Validator<'_>, keys: &Keys, client: &Client<'_>) -> Option<PasswordSource> {
    let key =
        keys.azure_key_file.as_ref().filter(|_| client.user.is_some() && keys.password_file.is_none())?;
    let named = keys.tls.as_ref().and_then(|tls| tls.get_ref().server_name());
    let resource = format!("{}/devices/{}", named.unwrap_or(client.host), client.client_id);
    let file = SecretFile::new(validator.around.folder.join(key.get_ref()));
    Some(PasswordSource::AzureKey { file, resource }.checked(validator, key))
}

/// MQTT counts these times in seconds.
fn seconds(validator: &mut Validator<'_>, raw: Option<&Text>, default: Duration, most: Duration) -> Duration {
    validator.value(raw, default, |text| {
        let time = quantity::at_most(text, most, &format!("{} s", most.as_secs()))?;
        let is_whole = time.subsec_nanos() == 0;
        is_whole.then_some(time).ok_or_else(|| format!("\"{text}\" is not a number of whole seconds"))
    })
}

/// Events go out with QoS 1 and no other: see
/// `docs/decisions/2026-11-30-events-go-out-with-qos-1.md`.
fn qos(validator: &mut Validator<'_>, raw: Option<&Spanned<i64>>) {
    let Some(raw) = raw else { return };
    let why = match raw.get_ref() {
        1 => return,
        0 => "0 acknowledges nothing, so that events could be lost without a word; leave it at 1",
        2 => {
            "2 is not spoken: every copy of an event has the same id, by which copies are told; leave it at 1"
        }
        _ => "there is 1 alone",
    };
    validator.wrong(&raw.span(), why);
}

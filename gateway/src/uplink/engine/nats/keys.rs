//! The keys of JetStream alone, as they are typed: the table `nats` of an uplink.

use serde::Deserialize;

use super::settings::{Settings, check_stream};
use crate::{
    keys::{Text, Validator},
    uplink::{engine::Client, template::Template},
};

/// `nats = { … }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    stream: Option<Text>,
}

impl Settings {
    /// What the keys say, for an uplink whose topics this template gives.
    pub(in crate::uplink) fn read(
        validator: &mut Validator<'_>,
        own: Option<&Keys>,
        client: Client<'_>,
        template: &Template,
    ) -> Self {
        let stream = own.and_then(|keys| keys.stream.as_ref());
        Self {
            port: client.port,
            layers: client.layers,
            uplink: client.uplink,
            user: client.user,
            password: client.password,
            renew: client.renew,
            stream: validator.value(stream, None, |name| {
                check_stream(name).map_err(|error| error.to_string())?;
                Ok(Some(name.to_owned()))
            }),
            ..Self::new(client.host, client.client_id, template)
        }
    }
}

//! The engines: a variant and a line of the table for each.

use std::sync::Arc;

use super::{
    Client, Credentials, Engine,
    dial::{Layers, tls::Tls},
    mqtt, nats,
    password::PasswordSource,
    url::{self, Scheme},
};
use crate::{
    keys::{Spanned, Validator},
    uplink::{keys::Keys, template::Template},
};

/// The engines: what an uplink may lead to.
#[derive(Debug, Clone)]
pub enum Upstream {
    /// An MQTT broker.
    Mqtt(mqtt::Settings),
    /// NATS JetStream.
    Nats(nats::Settings),
}

/// Does something with the settings of the engine that an [`Upstream`] is of, whichever it is.
macro_rules! with_engine {
    ($upstream:expr, $engine:ident => $body:expr) => {
        match $upstream {
            $crate::uplink::engine::upstream::Upstream::Mqtt($engine) => $body,
            $crate::uplink::engine::upstream::Upstream::Nats($engine) => $body,
        }
    };
}
pub(in crate::uplink) use with_engine;

/// Reads what an engine is told.
type Read = fn(&mut Validator<'_>, &Keys, Client<'_>, &Template) -> Upstream;

/// The engines: their schemes, and how each reads its keys.
const ENGINES: [(&[Scheme], Read); 2] = [
    (mqtt::Settings::SCHEMES, |validator, keys, client, _| {
        Upstream::Mqtt(mqtt::Settings::read(validator, keys, client))
    }),
    (nats::Settings::SCHEMES, |validator, keys, client, template| {
        Upstream::Nats(nats::Settings::read(
            validator,
            keys.nats.as_ref().map(Spanned::get_ref),
            client,
            template,
        ))
    }),
];

impl Upstream {
    /// Reads the URL and the keys of the engine that its scheme chooses; `client` gets the address.
    ///
    /// Without an address that can be read it is a broker without one.
    pub(in crate::uplink) fn read(
        validator: &mut Validator<'_>,
        keys: &Keys,
        client: Client<'_>,
        template: &Template,
    ) -> Self {
        let schemes: Vec<Scheme> = ENGINES.iter().flat_map(|(schemes, _)| *schemes).copied().collect();
        let url = validator.value(Some(&keys.url), None, |text| url::parse(text, &schemes).map(Some));
        let Some(url) = url else { return Self::Mqtt(mqtt::Settings::read(validator, keys, client)) };
        let of_scheme = |(schemes, _): &&(&[Scheme], Read)| schemes.contains(&url.scheme);
        let (schemes, read) = ENGINES.iter().find(of_scheme).unwrap_or(&ENGINES[0]);
        for (engine, span) in keys.of_one_engine() {
            if schemes.iter().all(|scheme| scheme.name != engine) {
                validator.wrong(&span, format!("for {engine}:// alone; remove it"));
            }
        }
        let (uplink, no_tls) = (keys.name.get_ref(), no_tls(url.scheme, schemes));
        let layers = Layers::read(validator, keys.layers(), uplink, &keys.url, url.path, no_tls);
        read(validator, keys, Client { host: &url.host, port: url.port, layers, ..client }, template)
    }

    /// Where it is, as the configuration writes it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = with_engine!(self, engine => engine.scheme());
        let path = self.layers().websocket.as_deref().unwrap_or_default();
        format!("{scheme}://{}{path}", self.authority())
    }

    /// Its TLS, if it has any: what is loaded from files.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.layers().tls.clone()
    }

    fn layers(&self) -> &Layers {
        with_engine!(self, engine => engine.layers())
    }

    /// As whom its client connects.
    #[must_use]
    pub fn credentials(&self) -> Credentials<'_> {
        with_engine!(self, engine => engine.credentials())
    }

    /// Where its passwords come from: its own, and its proxy's.
    pub fn passwords(&self) -> impl Iterator<Item = &PasswordSource> {
        let proxy = self.layers().proxy.as_ref();
        self.credentials().password.into_iter().chain(proxy.and_then(|proxy| proxy.password.as_ref()))
    }

    /// Its host and port.
    #[must_use]
    pub fn address(&self) -> (&str, u16) {
        with_engine!(self, engine => engine.address())
    }

    /// The same in one text.
    #[must_use]
    pub fn authority(&self) -> String {
        let (host, port) = self.address();
        url::authority(host, port)
    }

    /// Whether it throws a client out for another one of the same name.
    #[must_use]
    pub fn has_one_client_of_a_name(&self) -> bool {
        with_engine!(self, engine => has_one_client_of_a_name(engine))
    }

    /// Makes another client of it, see [`Engine::rename`](Engine::rename).
    pub(in crate::uplink) fn rename(&mut self, suffix: &str) {
        with_engine!(self, engine => engine.rename(suffix));
    }

    /// Checks what can be checked without an upstream, or says what cannot work.
    pub(in crate::uplink) fn check(&self) -> Result<(), String> {
        with_engine!(self, engine => engine.check().map_err(|error| error.to_string()))
    }
}

/// What is said of keys for TLS where the URL asks for none, which is one of an engine with these
/// schemes.
fn no_tls(scheme: Scheme, schemes: &[Scheme]) -> Option<String> {
    if scheme.has_tls {
        return None;
    }
    let same = schemes.iter().find(|other| other.has_tls && other.is_websocket == scheme.is_websocket);
    Some(match same {
        Some(same) => format!("the url has no TLS: write {}:// there, or remove this", same.name),
        None => format!("this version knows no TLS for {}://: remove this", scheme.name),
    })
}

fn has_one_client_of_a_name<E: Engine>(_: &E) -> bool {
    E::ONE_CLIENT_OF_A_NAME
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_shown_as_the_configuration_writes_it() {
        let broker = mqtt::Settings::new("broker.example", "barn-7-cloud".to_owned());
        let mut shown = broker.clone();
        shown.layers.websocket = Some("/mqtt".to_owned());
        assert_eq!(Upstream::Mqtt(shown).url(), "ws://broker.example:1883/mqtt");
        let upstream = Upstream::Mqtt(broker);
        assert_eq!(upstream.url(), "mqtt://broker.example:1883");
        assert_eq!(upstream.address(), ("broker.example", 1883));
        let upstream = Upstream::Mqtt(mqtt::Settings::new("::1", "barn-7-cloud".to_owned()));
        assert_eq!(upstream.url(), "mqtt://[::1]:1883");
    }
}

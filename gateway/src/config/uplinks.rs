//! The uplinks, resolved: where events go, by which engine, and how they are written. Passwords are
//! read from their files or from the environment.

use std::{num::NonZeroU16, time::Duration};

use toml::Spanned;

use super::{
    UPLINKS_MAX,
    quantity::{self, Scheme, UpstreamUrl},
    raw::{self, Text},
    resolved::{Validator, at_most},
};
use crate::{
    mqtt::Password,
    regular_file,
    uplink::{
        self,
        engine::{mqtt, nats},
    },
};

/// Longest password file that is read, in bytes: more than any password, so that one that is too
/// long is told by its length.
const PASSWORD_FILE_BYTES_MAX: u64 = 1 << 20;
/// Events whose device has not said what they are.
const WAIT_FOR_BIRTH_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const WAIT_FOR_BIRTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Least limit of an upstream's packets: the shortest that a real broker sets is 10 KiB.
const PACKET_BYTES_MAX_LEAST: u64 = 1024;
/// MQTT's own limit of a packet, in bytes: section 2.2.3 of 3.1.1, 2.1.4 of 5.
const PACKET_BYTES_MAX_MOST: u64 = 268_435_455;

/// What is the same for every engine: where to, and as whom.
struct Client<'a> {
    host: &'a str,
    port: u16,
    client_id: String,
    user: Option<String>,
    password: Option<Password>,
}

impl Validator<'_> {
    pub(super) fn uplinks(
        &mut self,
        raw: &[Spanned<raw::Uplink>],
        gateway_id: &str,
    ) -> Vec<uplink::Settings> {
        self.count(raw, UPLINKS_MAX, "uplinks");
        let mut uplinks: Vec<uplink::Settings> = Vec::new();
        for uplink in raw {
            let uplink = self.uplink(uplink.get_ref(), gateway_id);
            uplinks.push(uplink);
        }
        for (i, uplink) in raw.iter().enumerate() {
            let name = &uplink.get_ref().name;
            if uplinks[..i].iter().any(|other| other.name == *name.get_ref()) {
                self.wrong(
                    &name.span(),
                    format!("\"{}\" is the name of another uplink; choose one of its own", name.get_ref()),
                );
            }
        }
        uplinks
    }

    fn uplink(&mut self, raw: &raw::Uplink, gateway_id: &str) -> uplink::Settings {
        let name = self.name(&raw.name);
        let url = self.value(Some(&raw.url), None, |text| quantity::upstream(text).map(Some));
        let formats = [
            ("raw", uplink::FormatName::Raw),
            ("json", uplink::FormatName::Json),
            ("cloudevents", uplink::FormatName::CloudEvents),
        ];
        let values = [("scaled", uplink::Values::Scaled), ("raw", uplink::Values::Raw)];
        let client = format!("tidegate-{gateway_id}-{name}");
        let topic = self.topic(raw.topic.as_ref());
        let subjects = topic.clone().bound_to(gateway_id);
        let upstream = self.engine(raw, url.as_ref(), &name, client, &subjects);
        let settings = uplink::Settings {
            format: self.one_of(raw.format.as_ref(), uplink::FormatName::Raw, "format", &formats),
            values: self.one_of(raw.values.as_ref(), uplink::Values::Scaled, "values", &values),
            wait_for_birth: self.value(raw.wait_for_birth.as_ref(), WAIT_FOR_BIRTH_DEFAULT, |text| {
                at_most(text, WAIT_FOR_BIRTH_MAX, "366 days")
            }),
            topic,
            commands: self.value(raw.commands.as_ref(), None, |text| {
                uplink::CommandTopic::parse(text, gateway_id).map(Some).map_err(|error| error.to_string())
            }),
            window: self.window(raw.window.as_ref()),
            ..uplink::Settings::new(&name, upstream, gateway_id)
        };
        // An address that cannot be read was said already.
        if url.is_some()
            && let Err(error) = settings.check()
        {
            self.wrong(&raw.url.span(), error.to_string());
        }
        settings
    }

    /// What the engine of the address's scheme is told: an arm for each engine.
    fn engine(
        &mut self,
        raw: &raw::Uplink,
        url: Option<&UpstreamUrl>,
        name: &str,
        client_id: String,
        topic: &uplink::Template,
    ) -> uplink::Upstream {
        let (host, port) = url.map_or(("", 0), |url| (url.host.as_str(), url.port));
        let user = raw.user.as_ref().map(|user| user.get_ref().clone());
        let password = self.password(raw, name).map(Password::new);
        let client = Client { host, port, client_id, user, password };
        match url.map_or(Scheme::Mqtt, |url| url.scheme) {
            Scheme::Mqtt => uplink::Upstream::Mqtt(self.broker(raw, client)),
            Scheme::Nats => uplink::Upstream::Nats(self.jetstream(raw, client, topic)),
        }
    }

    fn broker(&mut self, raw: &raw::Uplink, client: Client<'_>) -> mqtt::Settings {
        if let Some(nats) = &raw.nats {
            self.wrong(&nats.span(), "for nats:// alone; remove it");
        }
        let versions = [("5", mqtt::Version::V5), ("3.1.1", mqtt::Version::V311)];
        mqtt::Settings {
            port: client.port,
            user: client.user,
            password: client.password,
            version: self.one_of(raw.protocol.as_ref(), mqtt::Version::V5, "protocol", &versions),
            packet_bytes_max: self.value(raw.max_packet_bytes.as_ref(), None, |text| {
                let bytes = quantity::bytes(text)?;
                let fits = (PACKET_BYTES_MAX_LEAST..=PACKET_BYTES_MAX_MOST).contains(&bytes);
                fits.then_some(Some(bytes as u32)).ok_or_else(|| {
                    format!("\"{text}\" is not within 1 KiB and 268435455 bytes, MQTT's own limit")
                })
            }),
            ..mqtt::Settings::new(client.host, client.client_id)
        }
    }

    fn jetstream(
        &mut self,
        raw: &raw::Uplink,
        client: Client<'_>,
        topic: &uplink::Template,
    ) -> nats::Settings {
        for of_mqtt in [&raw.protocol, &raw.commands, &raw.max_packet_bytes].into_iter().flatten() {
            self.wrong(&of_mqtt.span(), "for mqtt:// alone; remove it");
        }
        let stream = raw.nats.as_ref().and_then(|nats| nats.get_ref().stream.as_ref());
        nats::Settings {
            port: client.port,
            user: client.user,
            password: client.password,
            stream: stream.map(|stream| stream.get_ref().clone()),
            ..nats::Settings::new(client.host, client.client_id, topic)
        }
    }

    fn topic(&mut self, raw: Option<&Text>) -> uplink::Template {
        self.value(raw, uplink::Template::default(), |text| {
            uplink::Template::parse(text).map_err(|e| e.to_string())
        })
    }

    fn window(&mut self, raw: Option<&Spanned<i64>>) -> NonZeroU16 {
        let Some(raw) = raw else { return uplink::WINDOW_DEFAULT };
        match u16::try_from(*raw.get_ref()).ok().and_then(NonZeroU16::new) {
            Some(window) => window,
            None => {
                self.wrong(
                    &raw.span(),
                    format!("{} is not within 1 and 65535, MQTT's packet ids", raw.get_ref()),
                );
                uplink::WINDOW_DEFAULT
            }
        }
    }

    /// The password of an uplink with a user: from its file, else from its variable.
    fn password(&mut self, raw: &raw::Uplink, name: &str) -> Option<String> {
        let Some(user) = &raw.user else {
            if let Some(file) = &raw.password_file {
                self.wrong(&file.span(), "a password without a user; add \"user\"");
            }
            return None;
        };
        let Some(file) = &raw.password_file else {
            let variable = format!("TIDEGATE_PASSWORD_{}", name.to_uppercase().replace('-', "_"));
            let password = (self.around.variable)(&variable);
            if password.is_none() {
                self.wrong(
                    &user.span(),
                    format!("a user without a password; add \"password_file\" or set {variable}"),
                );
            }
            return password;
        };
        let path = self.around.folder.join(file.get_ref());
        self.password_files.push(path.clone());
        let read = regular_file::read_text(&path, PASSWORD_FILE_BYTES_MAX);
        match read.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()) {
            Ok(password) if (1..=mqtt::PASSWORD_BYTES_MAX).contains(&password.len()) => Some(password),
            Ok(password) => {
                self.wrong(
                    &file.span(),
                    format!(
                        "{} holds {} bytes; a password has 1 to {}",
                        path.display(),
                        password.len(),
                        mqtt::PASSWORD_BYTES_MAX
                    ),
                );
                None
            }
            Err(error) => {
                self.wrong(&file.span(), format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }
}

//! An uplink's settings, read from its keys. Passwords are read from their files or from the
//! environment.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::{
    commands::CommandTopic,
    delivery::hours::Hours,
    engine::{Client, dial::Layers, mqtt, upstream::Upstream},
    format::FormatName,
    keys::Keys,
    settings::{ACK_TIMEOUT_DEFAULT, PaceLimits, Settings, WINDOW_DEFAULT},
    template::Template,
};
use crate::{
    catalog::Values,
    clock::zone::Zone,
    keys::{Spanned, Text, Validator, quantity},
    mqtt::Password,
    regular_file,
};

/// Longest password file that is read, in bytes: more than any password, so that one that is too
/// long is told by its length.
const PASSWORD_FILE_BYTES_MAX: u64 = 1 << 20;
/// Events whose device has not said what they are.
const WAIT_FOR_BIRTH_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const WAIT_FOR_BIRTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest time for an acknowledgement.
const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(600);

impl Settings {
    /// What the keys say. What cannot be read is noted, and its default stands in its place.
    pub(crate) fn read(validator: &mut Validator<'_>, keys: &Keys, gateway_id: &str) -> Self {
        let formats =
            [("raw", FormatName::Raw), ("json", FormatName::Json), ("cloudevents", FormatName::CloudEvents)];
        let values = [("scaled", Values::Scaled), ("raw", Values::Raw)];
        let name = validator.name(&keys.name);
        let topic = topic(validator, keys.topic.as_ref());
        let client = Client {
            host: "",
            port: 0,
            layers: Layers::default(),
            client_id: format!("tidegate-{gateway_id}-{name}"),
            user: keys.user.as_ref().map(|user| user.get_ref().clone()),
            password: password(validator, keys, &name).map(Password::new),
        };
        let upstream = Upstream::read(validator, keys, client, &topic.clone().bound_to(gateway_id));
        let settings = Self {
            format: validator.one_of(keys.format.as_ref(), FormatName::Raw, "format", &formats),
            values: validator.one_of(keys.values.as_ref(), Values::Scaled, "values", &values),
            wait_for_birth: validator.value(keys.wait_for_birth.as_ref(), WAIT_FOR_BIRTH_DEFAULT, |text| {
                quantity::at_most(text, WAIT_FOR_BIRTH_MAX, "366 days")
            }),
            topic,
            commands: validator.value(keys.commands.as_ref(), None, |text| {
                CommandTopic::parse(text, gateway_id).map(Some).map_err(|error| error.to_string())
            }),
            window: window(validator, keys.window.as_ref()),
            pace: pace(validator, keys),
            send: validator.value(keys.send.as_ref(), None, |text| {
                Hours::parse(text, Zone::of_this_machine()).map(Some)
            }),
            ack_timeout: validator.value(keys.ack_timeout.as_ref(), ACK_TIMEOUT_DEFAULT, |text| {
                quantity::at_most(text, ACK_TIMEOUT_MAX, "10 minutes")
            }),
            ..Self::new(&name, upstream, gateway_id)
        };
        // Of an address that cannot be read all was said.
        if !settings.upstream.address().0.is_empty()
            && let Err(error) = settings.check()
        {
            validator.wrong(&keys.url.span(), error.to_string());
        }
        settings
    }
}

fn topic(validator: &mut Validator<'_>, raw: Option<&Text>) -> Template {
    validator.value(raw, Template::default(), |text| Template::parse(text).map_err(|e| e.to_string()))
}

fn window(validator: &mut Validator<'_>, raw: Option<&Spanned<i64>>) -> NonZeroU16 {
    let Some(raw) = raw else { return WINDOW_DEFAULT };
    match u16::try_from(*raw.get_ref()).ok().and_then(NonZeroU16::new) {
        Some(window) => window,
        None => {
            validator.wrong(
                &raw.span(),
                format!("{} is not within 1 and 65535, MQTT's packet ids", raw.get_ref()),
            );
            WINDOW_DEFAULT
        }
    }
}

fn pace(validator: &mut Validator<'_>, keys: &Keys) -> PaceLimits {
    let mut size = |raw: Option<&Text>| {
        validator.value(raw, None, |text| {
            let bytes = NonZeroU64::new(quantity::bytes(text)?);
            bytes
                .map(Some)
                .ok_or_else(|| format!("\"{text}\" lets nothing through; take the key out for no limit"))
        })
    };
    let (bytes_per_s, inflight_bytes) =
        (size(keys.bytes_per_second.as_ref()), size(keys.inflight_bytes.as_ref()));
    let events_per_s = keys.events_per_second.as_ref().and_then(|raw| {
        let number = u32::try_from(*raw.get_ref()).ok().and_then(NonZeroU32::new);
        if number.is_none() {
            let what =
                format!("{} is not within 1 and {}; take the key out for no limit", raw.get_ref(), u32::MAX);
            validator.wrong(&raw.span(), what);
        }
        number
    });
    PaceLimits { events_per_s, bytes_per_s, inflight_bytes }
}

/// The password of an uplink with a user: from its file, else from its variable.
fn password(validator: &mut Validator<'_>, raw: &Keys, name: &str) -> Option<String> {
    let Some(user) = &raw.user else {
        if let Some(file) = &raw.password_file {
            validator.wrong(&file.span(), "a password without a user; add \"user\"");
        }
        return None;
    };
    let Some(file) = &raw.password_file else {
        let variable = format!("TIDEGATE_PASSWORD_{}", name.to_uppercase().replace('-', "_"));
        let password = (validator.around.variable)(&variable);
        if password.is_none() {
            validator.wrong(
                &user.span(),
                format!("a user without a password; add \"password_file\" or set {variable}"),
            );
        }
        return password;
    };
    let path = validator.around.folder.join(file.get_ref());
    validator.password_files.push(path.clone());
    let read = regular_file::read_text(&path, PASSWORD_FILE_BYTES_MAX);
    match read.map(|text| text.trim_end_matches(['\r', '\n']).to_owned()) {
        Ok(password) if (1..=mqtt::PASSWORD_BYTES_MAX).contains(&password.len()) => Some(password),
        Ok(password) => {
            validator.wrong(
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
            validator.wrong(&file.span(), format!("{} cannot be read: {error}", path.display()));
            None
        }
    }
}

//! An uplink's settings, read from its keys.

use std::{num::NonZeroU16, time::Duration};

use super::{
    commands::CommandTopic,
    engine::upstream::Upstream,
    format::FormatName,
    identity,
    keys::Keys,
    settings::{Settings, WINDOW_DEFAULT},
    template::Template,
};
use crate::{
    catalog::Values,
    keys::{Spanned, Text, Validator, quantity},
};

/// Events whose device has not said what they are.
const WAIT_FOR_BIRTH_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const WAIT_FOR_BIRTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

impl Settings {
    /// What the keys say. What cannot be read is noted, and its default stands in its place.
    pub(crate) fn read(validator: &mut Validator<'_>, keys: &Keys, gateway_id: &str) -> Self {
        let formats =
            [("raw", FormatName::Raw), ("json", FormatName::Json), ("cloudevents", FormatName::CloudEvents)];
        let values = [("scaled", Values::Scaled), ("raw", Values::Raw)];
        let name = validator.name(&keys.name);
        let topic = topic(validator, keys.topic.as_ref());
        let client = identity::read(validator, keys, gateway_id, &name);
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

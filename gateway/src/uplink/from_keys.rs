//! An uplink's settings, read from its keys.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroU64},
    time::Duration,
};

use super::{
    commands::CommandTopic,
    delivery::hours::Hours,
    engine::{Client, upstream::Upstream},
    format::FormatName,
    identity,
    keys::Keys,
    platform::{Limit, Platform},
    settings::{ACK_TIMEOUT_DEFAULT, PaceLimits, Settings, WINDOW_DEFAULT},
    template::Template,
};
use crate::{
    catalog::Values,
    clock::zone::Zone,
    keys::{Spanned, Text, Validator, quantity},
};

/// Events whose device has not said what they are.
const WAIT_FOR_BIRTH_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const WAIT_FOR_BIRTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// The longest time for an acknowledgement.
const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(600);

impl Settings {
    /// What the keys say. What cannot be read is noted, and its default stands in its place.
    pub(crate) fn read(validator: &mut Validator<'_>, keys: &Keys, gateway_id: &str) -> Self {
        let formats = [
            ("raw", FormatName::Raw),
            ("json", FormatName::Json),
            ("cloudevents", FormatName::CloudEvents),
            ("thingsboard", FormatName::ThingsBoard),
        ];
        let values = [("scaled", Values::Scaled), ("raw", Values::Raw)];
        let name = validator.name(&keys.name);
        let client = identity::read(validator, keys, gateway_id, &name);
        let platform = client.platform;
        let topic = topic(validator, keys, &client, gateway_id);
        let upstream = Upstream::read(validator, keys, client, &topic);
        let settings = Self {
            format: validator.one_of(keys.format.as_ref(), FormatName::Raw, "format", &formats),
            values: validator.one_of(keys.values.as_ref(), Values::Scaled, "values", &values),
            wait_for_birth: validator.value(keys.wait_for_birth.as_ref(), WAIT_FOR_BIRTH_DEFAULT, |text| {
                quantity::at_most(text, WAIT_FOR_BIRTH_MAX, "366 days")
            }),
            topic,
            platform,
            commands: validator.value(keys.commands.as_ref(), None, |text| {
                CommandTopic::parse(text, gateway_id).map(Some).map_err(|error| error.to_string())
            }),
            window: window(validator, keys.window.as_ref(), platform),
            pace: pace(validator, keys, platform),
            send: validator.value(keys.send.as_ref(), None, |text| {
                Hours::parse(text, Zone::of_this_machine()).map(Some)
            }),
            ack_timeout: validator.value(keys.ack_timeout.as_ref(), ACK_TIMEOUT_DEFAULT, |text| {
                let time = quantity::at_most(text, ACK_TIMEOUT_MAX, "10 minutes")?;
                let never = || format!("\"{text}\" would never be kept; take the key out for 30 s");
                (!time.is_zero()).then_some(time).ok_or_else(never)
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

/// The topic, bound to this gateway, as the platform takes it.
fn topic(validator: &mut Validator<'_>, keys: &Keys, client: &Client<'_>, gateway: &str) -> Template {
    let raw = keys.topic.as_ref();
    let template =
        validator.value(raw, Template::default(), |text| Template::parse(text).map_err(|e| e.to_string()));
    let span = raw.or(keys.platform.as_ref()).unwrap_or(&keys.url).span();
    client.platform.topic(validator, &span, template.bound_to(gateway), &client.client_id)
}

fn window(validator: &mut Validator<'_>, raw: Option<&Spanned<i64>>, platform: &Platform) -> NonZeroU16 {
    let asked = raw.and_then(|raw| {
        let window = u16::try_from(*raw.get_ref()).ok().and_then(NonZeroU16::new);
        if window.is_none() {
            let what = format!("{} is not within 1 and 65535, MQTT's packet ids", raw.get_ref());
            validator.wrong(&raw.span(), what);
        }
        Some((window?.get().into(), raw.span()))
    });
    let window = platform.settle(validator, platform.window, asked, "messages in flight");
    window.and_then(|window| u16::try_from(window).ok()).and_then(NonZeroU16::new).unwrap_or(WINDOW_DEFAULT)
}

fn pace(validator: &mut Validator<'_>, keys: &Keys, platform: &Platform) -> PaceLimits {
    let mut size = |raw: Option<&Text>, limit: Option<Limit>, what: &str| {
        let bytes = validator.value(raw, None, |text| {
            let bytes = NonZeroU64::new(quantity::bytes(text)?);
            bytes
                .map(Some)
                .ok_or_else(|| format!("\"{text}\" lets nothing through; take the key out for no limit"))
        });
        let asked = bytes.zip(raw).map(|(bytes, raw)| (bytes.get(), raw.span()));
        platform.settle(validator, limit, asked, what).and_then(NonZeroU64::new)
    };
    let bytes_per_s = size(keys.bytes_per_second.as_ref(), platform.bytes_per_s, "bytes a second");
    let inflight_bytes = size(keys.inflight_bytes.as_ref(), platform.inflight_bytes, "bytes in flight");
    let asked = keys.events_per_second.as_ref().and_then(|raw| {
        let number = u32::try_from(*raw.get_ref()).ok().and_then(NonZeroU32::new);
        if number.is_none() {
            let what =
                format!("{} is not within 1 and {}; take the key out for no limit", raw.get_ref(), u32::MAX);
            validator.wrong(&raw.span(), what);
        }
        Some((number?.get().into(), raw.span()))
    });
    let events_per_s = platform.settle(validator, platform.events_per_s, asked, "events a second");
    let events_per_s = events_per_s.and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new);
    PaceLimits { events_per_s, bytes_per_s, inflight_bytes }
}

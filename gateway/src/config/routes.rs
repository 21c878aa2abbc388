//! The routes, resolved: which foreign topics are stored, what their payloads are, and whose their
//! events are.
//!
//! `device = "{2}"` names the second level of the topic. Levels count from 1; the first of `/a` is
//! empty. A level that no topic of the filter has is refused: every event would be its client's.

use std::num::NonZeroU8;

use toml::Spanned;

use super::{ROUTES_MAX, raw};
use crate::{ingest, keys::Validator, mqtt, store::record::LAST_DEVICE_LEVEL};

impl Validator<'_> {
    pub(super) fn routes(&mut self, raw: &[Spanned<raw::Route>]) -> Vec<ingest::Route> {
        self.count(raw, ROUTES_MAX, "routes");
        raw.iter().map(|route| self.route(route.get_ref())).collect()
    }

    fn route(&mut self, raw: &raw::Route) -> ingest::Route {
        let filter = raw.filter.get_ref();
        if let Err(reason) = mqtt::topics::check_filter(filter) {
            self.wrong(&raw.filter.span(), format!("\"{filter}\": {reason}"));
        }
        let payloads = [
            ("json", ingest::Payload::Json),
            ("text", ingest::Payload::Text),
            ("opaque", ingest::Payload::Opaque),
        ];
        ingest::Route {
            filter: filter.clone(),
            payload: self.one_of(raw.payload.as_ref(), ingest::Payload::Opaque, "payload", &payloads),
            urgent: self.one_of(raw.class.as_ref(), false, "class", &[("urgent", true)]),
            device_level: self.value(raw.device.as_ref(), None, |text| device_level(text, filter)),
        }
    }
}

/// Which level of the topic names the device: none for `{client}`.
fn device_level(text: &str, filter: &str) -> Result<Option<NonZeroU8>, String> {
    if text == "{client}" {
        return Ok(None);
    }
    let digits = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|digits| !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let level = digits.and_then(|digits| digits.parse().ok());
    let Some(level) = level.filter(|level: &NonZeroU8| level.get() <= LAST_DEVICE_LEVEL) else {
        return Err(format!(
            "\"{text}\" names no device; write the number of a topic level in braces, \"{{1}}\" to \
             \"{{{LAST_DEVICE_LEVEL}}}\", or \"{{client}}\" for the client id"
        ));
    };
    let levels = filter.split('/').count();
    if !filter.ends_with('#') && usize::from(level.get()) > levels {
        return Err(format!("no topic of \"{filter}\" has a level {level}; it has {levels}, counted from 1"));
    }
    Ok(Some(level))
}

//! The uplinks: how many, and each with a name of its own. What an uplink is told reads
//! [`uplink::Settings::read`].

use toml::Spanned;

use super::UPLINKS_MAX;
use crate::{keys::Validator, uplink};

impl Validator<'_> {
    pub(super) fn uplinks(
        &mut self,
        raw: &[Spanned<uplink::Keys>],
        gateway_id: &str,
    ) -> Vec<uplink::Settings> {
        self.count(raw, UPLINKS_MAX, "uplinks");
        let mut uplinks: Vec<uplink::Settings> = Vec::new();
        for uplink in raw {
            uplinks.push(uplink::Settings::read(self, uplink.get_ref(), gateway_id));
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
}

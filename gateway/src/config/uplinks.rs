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
        has_will: bool,
    ) -> Vec<uplink::Settings> {
        self.count(raw, UPLINKS_MAX, "uplinks");
        let mut uplinks: Vec<uplink::Settings> = Vec::new();
        for uplink in raw {
            let read = uplink::Settings::read(self, uplink.get_ref(), gateway_id);
            uplinks.push(uplink::Settings { has_will, ..read });
        }
        for (i, uplink) in raw.iter().enumerate() {
            let name = &uplink.get_ref().name;
            if uplinks[..i].iter().any(|other| other.name == *name.get_ref()) {
                self.wrong(
                    &name.span(),
                    format!("\"{}\" is the name of another uplink; choose one of its own", name.get_ref()),
                );
            }
            let taken = uplinks[..i].iter().filter(|other| other.name != *name.get_ref());
            let shared = taken.flat_map(|other| Some((other, shared_client(other, &uplinks[i])?))).next();
            if let Some((other, id)) = shared {
                let (upstream, other) = (uplinks[i].upstream.authority(), &other.name);
                let what = format!(
                    "uplink \"{other}\" is client \"{id}\" of {upstream} too, and each would throw the other out; give one of them a \"client_id\" of its own"
                );
                self.wrong(&name.span(), what);
            }
        }
        uplinks
    }
}

/// A client id by which both connect to one upstream that lets one client have it, if there is one.
fn shared_client(one: &uplink::Settings, other: &uplink::Settings) -> Option<String> {
    let is_one = one.upstream.address() == other.upstream.address();
    let matters = [one, other].iter().all(|uplink| uplink.upstream.has_one_client_of_a_name());
    let ids = one.client_ids();
    other.client_ids().into_iter().find(|id| is_one && matters && ids.contains(id))
}

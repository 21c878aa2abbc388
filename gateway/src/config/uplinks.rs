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
            let client = |uplink: &uplink::Settings| {
                let (host, port) = uplink.upstream.address();
                (host.to_owned(), port, uplink.upstream.credentials().client_id.to_owned())
            };
            let own = client(&uplinks[i]);
            if let Some(other) = uplinks[..i].iter().find(|other| client(other) == own)
                && other.name != *name.get_ref()
            {
                let ((host, port, id), other) = (own, &other.name);
                self.wrong(
                    &name.span(),
                    format!(
                        "uplink \"{other}\" is client \"{id}\" of {host}:{port} too, and each would throw the other out; give one of them a \"client_id\" of its own"
                    ),
                );
            }
        }
        uplinks
    }
}

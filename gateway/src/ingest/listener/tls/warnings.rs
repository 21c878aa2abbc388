//! What an operator should know of files that are used all the same: what has expired or soon will,
//! and lists without a use.

use super::{certificate::date, files::Loaded, settings::TlsSettings};
use crate::pki::{early, expiry};

/// What is wrong with the files in use, or will be before long.
pub(super) fn warnings(settings: &TlsSettings, loaded: &Loaded, wall_ms: u64) -> Vec<String> {
    let now_s = wall_ms / 1000;
    let mut said = Vec::new();
    let cert = settings.cert.display();
    said.extend(expiry(&format!("the certificate {cert}"), loaded.own.not_after_s, now_s));
    said.extend(early(&format!("the certificate {cert}"), loaded.own.not_before_s, now_s));
    if let Some(clients) = &loaded.clients {
        for ca in clients.trust.cas() {
            let what = format!("the CA {} in client_ca", ca.subject);
            said.extend(expiry(&what, ca.not_after_s, now_s));
            said.extend(early(&what, ca.not_before_s, now_s));
        }
        if !clients.trust.has_valid_ca(now_s) {
            said.push("no CA in client_ca is valid now: no client with a certificate gets in".into());
        }
        if let Some(due) = clients.next_update_s.filter(|due| *due < now_s) {
            said.push(format!("crl was to be renewed by {}: the old list is used on", date(due)));
        }
        for issuer in &clients.unsigned {
            said.push(format!("crl has a list of {issuer} that no CA in client_ca signed: it is not used"));
        }
    }
    if loaded.is_key_shared {
        said.push(format!("its group may read the key {}: chmod 600 it", settings.key.display()));
    }
    said
}

/// What cannot be known before a client comes: said by `tidegate check` only.
pub(super) fn notes(loaded: &Loaded) -> impl Iterator<Item = String> {
    loaded.clients.iter().flat_map(|clients| &clients.unknown).map(|issuer| {
        format!(
            "crl has a list of {issuer}, which is no CA in client_ca: it is used for devices that show this CA's certificate \
             beside theirs, and whether this CA signed it is seen then"
        )
    })
}

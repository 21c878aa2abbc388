//! What an operator should know of files that are used all the same: what has expired or soon will,
//! and lists without a use.

use super::{TlsSettings, certificate::date, files::Loaded};

/// From this many days before the end of a certificate on, it is warned of.
const EXPIRY_WARNING_DAYS: u64 = 30;
const DAY_S: u64 = 24 * 3600;

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

fn early(what: &str, not_before_s: u64, now_s: u64) -> Option<String> {
    let from = date(not_before_s);
    (not_before_s > now_s)
        .then(|| format!("{what} is not valid before {from}: is this machine's clock right?"))
}

/// The number of days is part of the words, so that they are new, and logged, every day.
pub(super) fn expiry(what: &str, not_after_s: u64, now_s: u64) -> Option<String> {
    let on = date(not_after_s);
    match not_after_s.checked_sub(now_s).map(|left_s| left_s / DAY_S) {
        None => Some(format!("{what} expired on {on}: renew it")),
        Some(days) if days < EXPIRY_WARNING_DAYS => {
            Some(format!("{what} expires in {days} days, on {on}: renew it"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_from_thirty_days_before_it_on() {
        let end = 100 * DAY_S;
        for (now_s, said) in [
            (end - 30 * DAY_S, None),
            (end - 30 * DAY_S + 1, Some("it expires in 29 days, on 1970-04-11T00:00:00Z: renew it")),
            (end - 6 * DAY_S, Some("it expires in 6 days, on 1970-04-11T00:00:00Z: renew it")),
            (end, Some("it expires in 0 days, on 1970-04-11T00:00:00Z: renew it")),
            (end + 1, Some("it expired on 1970-04-11T00:00:00Z: renew it")),
        ] {
            assert_eq!(expiry("it", end, now_s).as_deref(), said);
        }
    }
}

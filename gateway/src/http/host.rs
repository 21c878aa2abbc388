//! Whose request it is: a page in a browser may not reach this port under a name of its own (DNS
//! rebinding), nor change anything from another site. Pure.
//!
//! ```text
//!   Host    ─▶ loopback by name or address, or none ──────────────────┐ else 403
//!   Origin  ─▶ none, or the same as Host, for what changes something ─┴▶ the pages
//! ```
//! A browser always names both, and a page cannot choose them. Programs such as scrapers ask by
//! address, and some of HTTP/1.0 name no host: they go on.

use std::net::IpAddr;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority};

use super::answer::Refused;

/// Refuses a request that a page of another site may have made.
pub(super) fn judge(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
    let hosts = || {
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        uri.authority().map(Authority::as_str).into_iter().chain(named)
    };
    if let Some(foreign) = hosts().find(|host| !is_ours(host)) {
        return Err(refused(format!(
            "the request is for the host {foreign:?}, which is not this machine's loopback: ask for 127.0.0.1 or localhost (a page in \
             a browser could reach this port under a name of its own)"
        )));
    }
    let changes_nothing = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    let host = hosts().next().unwrap_or_default();
    let is_same = |origin: &str| {
        origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
    };
    let mut origins =
        headers.get_all(header::ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
    match origins.find(|origin| !changes_nothing && !is_same(origin)) {
        None => Ok(()),
        Some(foreign) => Err(refused(format!(
            "a page of {foreign:?} may change nothing here: send the request without the header Origin, or from this host"
        ))),
    }
}

fn refused(why: String) -> Refused {
    Refused { status: StatusCode::FORBIDDEN, why }
}

/// Whether `host`, with or without a port, is this machine by a name or an address that nobody else
/// can have.
fn is_ours(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if authority.as_str().contains('@') {
        return false;
    }
    match name.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(address) => address.is_loopback(),
        Err(_) => {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &Method, uri: &str, headers: &[(header::HeaderName, &str)]) -> Option<String> {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        judge(method, &uri.parse().unwrap(), &headers).err().map(|refused| {
            assert_eq!(refused.status, StatusCode::FORBIDDEN);
            refused.why
        })
    }

    #[test]
    fn a_host_is_loopback() {
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "localhost.",
            "tidegate.localhost:8080",
            "127.0.0.1",
            "127.8.0.1:9",
            "[::1]:8080",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(judged(&Method::POST, "/", &[(header::HOST, good)]), None, "{good}");
        }
        for bad in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "notlocalhost",
            "192.168.7.1:8080",
            "",
            "127.0.0.1.",
            "localhost@evil.example",
            "127.0.0.1:x:y",
            "0.0.0.0",
        ] {
            let why = judged(&Method::GET, "/metrics", &[(header::HOST, bad)]).unwrap_or_default();
            assert!(why.contains("ask for 127.0.0.1 or localhost"), "{bad}: {why}");
        }
        assert_eq!(judged(&Method::GET, "/healthz", &[]), None, "HTTP/1.0 names no host");
        let ours = (header::HOST, "127.0.0.1");
        assert!(judged(&Method::GET, "http://evil.example/healthz", &[ours]).is_some());
    }

    #[test]
    fn what_changes_something_comes_from_the_same_origin_or_from_no_page() {
        let host = (header::HOST, "127.0.0.1:8080");
        for (method, origin, is_taken) in [
            (Method::POST, "http://127.0.0.1:8080", true),
            (Method::DELETE, "http://127.0.0.1:8080", true),
            (Method::GET, "http://evil.example", true),
            (Method::POST, "http://evil.example", false),
            (Method::POST, "http://127.0.0.1:9999", false),
            (Method::DELETE, "null", false),
            (Method::POST, "", false),
        ] {
            let found = judged(&method, "/api/commands", &[host.clone(), (header::ORIGIN, origin)]);
            assert_eq!(found.is_none(), is_taken, "{method} {origin}: {found:?}");
        }
        assert_eq!(judged(&Method::POST, "/api/commands", &[host]), None);
    }
}

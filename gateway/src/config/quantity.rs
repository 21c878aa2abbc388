//! Quantities as a person writes them: sizes, rates of writing, times, addresses of upstreams.
//! Pure.
//!
//! An error is a sentence that says what was read and how it is written.

use std::time::Duration;

/// Schemes of upstreams that this version can reach, each with its port as registered with IANA.
const SCHEMES: [(&str, Scheme, u16); 2] = [("mqtt", Scheme::Mqtt, 1883), ("nats", Scheme::Nats, 4222)];

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `mqtt://`
    Mqtt,
    /// `nats://`
    Nats,
}

/// Where an upstream is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UpstreamUrl {
    /// What it speaks.
    pub scheme: Scheme,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// `64 MiB`, `1 GB`, `512`: bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    text.parse::<bytesize::ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| format!("\"{text}\" is no size; write a number and a unit, like \"64 MiB\""))
}

/// `24h`, `500ms`, `1day`: a time.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| format!("\"{text}\" is no time; write a number and a unit, like \"24h\" or \"500ms\""))
}

/// `20 GB/day` or `unlimited`: bytes per day, `None` without a limit.
pub(super) fn bytes_per_day(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let how =
        || format!("\"{text}\" is no budget; write a size per day, like \"20 GB/day\", or \"unlimited\"");
    let size = text.strip_suffix("/day").ok_or_else(how)?;
    bytes(size.trim_end()).map(Some).map_err(|_| how())
}

/// `mqtt://host` or `mqtt://host:port`.
pub(super) fn upstream(url: &str) -> Result<UpstreamUrl, String> {
    let how = "write it like \"mqtt://broker.example:1883\"";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("\"{url}\" is no address; {how}"))?;
    let Some((_, scheme, default_port)) = SCHEMES.into_iter().find(|(name, ..)| *name == scheme) else {
        let known = SCHEMES.map(|(name, ..)| name).join(", ");
        return Err(format!("this version does not know \"{scheme}://\"; it knows: {known}"));
    };
    if rest.contains('@') {
        return Err("no user or password in the address: name them by \"user\" and \"password_file\"".into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.rsplit_once(':') {
        // The last colon of a bare IPv6 address stands before no port.
        Some((host, port)) if !rest.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or_else(|| format!("\"{url}\" has no valid port; {how}"))?)
        }
        _ => (rest, default_port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c)) {
        return Err(format!("\"{url}\" has no valid host; {how}"));
    }
    Ok(UpstreamUrl { scheme, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        for (text, value) in [("64 MiB", 64 << 20), ("1GB", 1_000_000_000), ("512", 512), ("0.5 KiB", 512)] {
            assert_eq!(bytes(text), Ok(value), "{text}");
        }
        for (text, value) in
            [("20 GB/day", Some(20_000_000_000)), ("1MB /day", Some(1_000_000)), ("unlimited", None)]
        {
            assert_eq!(bytes_per_day(text), Ok(value), "{text}");
        }
        for (text, ms) in [("24h", 86_400_000), ("500ms", 500), ("1day 2h", 93_600_000), ("0s", 0)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "MiB", "-1 MB", "1 parsec", "20 GB/week", "20 GB"] {
            assert!(bytes_per_day(text).is_err(), "{text}");
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        for (url, host, port) in [
            ("mqtt://broker.example", "broker.example", 1883),
            ("mqtt://broker.example:1884/", "broker.example", 1884),
            ("mqtt://10.0.0.1:1", "10.0.0.1", 1),
            ("mqtt://[::1]:1885", "::1", 1885),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let expected = UpstreamUrl { scheme: Scheme::Mqtt, host: host.to_owned(), port };
            assert_eq!(upstream(url), Ok(expected), "{url}");
        }
        let nats = UpstreamUrl { scheme: Scheme::Nats, host: "a".into(), port: 4222 };
        assert_eq!(upstream("nats://a"), Ok(nats));
        for url in [
            "broker:1883",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:0",
            "mqtt://a:99999",
            "mqtt://a/b",
            "mqtt://a b",
        ] {
            assert!(upstream(url).is_err(), "{url}");
        }
    }
}

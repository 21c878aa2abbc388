//! The URL of an upstream. Pure.

/// A scheme without `://`, and the port that is registered for it with IANA.
pub type Scheme = (&'static str, u16);

/// Where an upstream is, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// What it speaks.
    pub scheme: &'static str,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Reads `scheme://host` or `scheme://host:port`, with one of these schemes and its default port.
///
/// An error is a sentence that says what was read and how it is written.
pub fn parse(url: &str, schemes: &[Scheme]) -> Result<Url, String> {
    let how = "write it like \"mqtt://broker.example:1883\"";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("\"{url}\" is no address; {how}"))?;
    let Some((scheme, port_default)) = schemes.iter().copied().find(|(name, _)| *name == scheme) else {
        let known: Vec<&str> = schemes.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
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
        _ => (rest, port_default),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c)) {
        return Err(format!("\"{url}\" has no valid host; {how}"));
    }
    Ok(Url { scheme, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [Scheme; 2] = [("mqtt", 1883), ("nats", 4222)];

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        for (url, host, port) in [
            ("mqtt://broker.example", "broker.example", 1883),
            ("mqtt://broker.example:1884/", "broker.example", 1884),
            ("mqtt://10.0.0.1:1", "10.0.0.1", 1),
            ("mqtt://[::1]:1885", "::1", 1885),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let expected = Url { scheme: "mqtt", host: host.to_owned(), port };
            assert_eq!(parse(url, &SCHEMES), Ok(expected), "{url}");
        }
        let nats = Url { scheme: "nats", host: "a".into(), port: 4222 };
        assert_eq!(parse("nats://a", &SCHEMES), Ok(nats));
        for url in [
            "broker:1883",
            "http://a",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:0",
            "mqtt://a:99999",
            "mqtt://a/b",
            "mqtt://a b",
        ] {
            assert!(parse(url, &SCHEMES).is_err(), "{url}");
        }
    }
}

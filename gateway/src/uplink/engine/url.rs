//! The URL of an upstream. Pure.

/// The path of a WebSocket, unless the URL has one: what brokers mostly listen on.
const PATH_DEFAULT: &str = "/mqtt";

/// A scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// Without `://`.
    pub name: &'static str,
    /// The port that is registered for it with IANA.
    pub port: u16,
    /// It is spoken in TLS.
    pub has_tls: bool,
    /// It is spoken in a WebSocket, which is at a path.
    pub is_websocket: bool,
}

/// Where an upstream is, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// What it speaks.
    pub scheme: Scheme,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path of its WebSocket, if one is spoken.
    pub path: Option<String>,
}

impl Scheme {
    /// One that is spoken over TCP as it is.
    #[must_use]
    pub const fn plain(name: &'static str, port: u16) -> Self {
        Self { name, port, has_tls: false, is_websocket: false }
    }

    /// The same in TLS.
    #[must_use]
    pub const fn in_tls(self) -> Self {
        Self { has_tls: true, ..self }
    }

    /// The same in a WebSocket.
    #[must_use]
    pub const fn in_websocket(self) -> Self {
        Self { is_websocket: true, ..self }
    }
}

/// Reads `scheme://host` or `scheme://host:port`, with one of these schemes and its default port;
/// for a WebSocket with a path behind it.
///
/// An error is a sentence that says what was read and how it is written.
pub fn parse(url: &str, schemes: &[Scheme]) -> Result<Url, String> {
    let how = "write it like \"mqtt://broker.example:1883\"";
    let (scheme, rest) = url.split_once("://").ok_or_else(|| format!("\"{url}\" is no address; {how}"))?;
    let Some(scheme) = schemes.iter().copied().find(|known| known.name == scheme) else {
        let known: Vec<&str> = schemes.iter().map(|known| known.name).collect();
        let known = known.join(", ");
        return Err(format!("this version does not know \"{scheme}://\"; it knows: {known}"));
    };
    if rest.contains('@') {
        return Err("no user or password in the address: name them by \"user\" and \"password_file\"".into());
    }
    let (rest, path) = match rest.find('/') {
        Some(at) if scheme.is_websocket => (&rest[..at], Some(&rest[at..])),
        _ => (rest.strip_suffix('/').unwrap_or(rest), scheme.is_websocket.then_some(PATH_DEFAULT)),
    };
    if path.is_some_and(|path| path.contains(|c: char| !c.is_ascii_graphic() || c == '#')) {
        return Err(format!("the path of \"{url}\" has what no path can have; write it percent-encoded"));
    }
    if rest.contains('/') {
        return Err(format!("\"{url}\" has a path, which ws:// and wss:// alone can have; {how}"));
    }
    let (host, port) = match rest.rsplit_once(':') {
        // The last colon of a bare IPv6 address stands before no port.
        Some((host, port)) if !rest.ends_with(']') => {
            let port = port.parse().ok().filter(|port| *port != 0);
            (host, port.ok_or_else(|| format!("\"{url}\" has no valid port; {how}"))?)
        }
        _ => (rest, scheme.port),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c)) {
        return Err(format!("\"{url}\" has no valid host; {how}"));
    }
    Ok(Url { scheme, host: host.to_owned(), port, path: path.map(str::to_owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MQTT: Scheme = Scheme::plain("mqtt", 1883);
    const NATS: Scheme = Scheme::plain("nats", 4222);
    const WSS: Scheme = Scheme::plain("wss", 443).in_tls().in_websocket();
    const SCHEMES: [Scheme; 3] = [MQTT, NATS, WSS];

    #[test]
    fn an_upstream_is_a_scheme_a_host_and_a_port() {
        for (url, host, port) in [
            ("mqtt://broker.example", "broker.example", 1883),
            ("mqtt://broker.example:1884/", "broker.example", 1884),
            ("mqtt://10.0.0.1:1", "10.0.0.1", 1),
            ("mqtt://[::1]:1885", "::1", 1885),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let expected = Url { scheme: MQTT, host: host.to_owned(), port, path: None };
            assert_eq!(parse(url, &SCHEMES), Ok(expected), "{url}");
        }
        let nats = Url { scheme: NATS, host: "a".into(), port: 4222, path: None };
        assert_eq!(parse("nats://a", &SCHEMES), Ok(nats));
        for url in [
            "broker:1883",
            "http://a",
            "mqtt://",
            "mqtt://:1883",
            "mqtt://a:0",
            "mqtt://a:99999",
            "mqtt://a/b",
            "wss://a/b c",
            "wss://a/b#c",
            "wss:///mqtt",
            "mqtt://a b",
        ] {
            assert!(parse(url, &SCHEMES).is_err(), "{url}");
        }
    }

    #[test]
    fn a_websocket_is_at_a_path() {
        for (url, port, path) in [
            ("wss://a", 443, "/mqtt"),
            ("wss://a:8084", 8084, "/mqtt"),
            ("wss://a/", 443, "/"),
            ("wss://a:1/b/c?d=%20:7", 1, "/b/c?d=%20:7"),
        ] {
            let expected = Url { scheme: WSS, host: "a".into(), port, path: Some(path.to_owned()) };
            assert_eq!(parse(url, &SCHEMES), Ok(expected), "{url}");
        }
    }
}

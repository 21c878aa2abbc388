//! The URL of an upstream, and host and port wherever they are written. Pure.

use std::net::Ipv6Addr;

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
    /// Its host, without the brackets of an address of IPv6.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path of its WebSocket, if one is spoken.
    pub path: Option<String>,
}

/// A text is no host with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// Its host is none.
    #[error("has no valid host")]
    Host,
    /// Its port is none.
    #[error("has no valid port")]
    Port,
    /// Nobody can tell its host from its port.
    #[error("has more than one colon: an address of IPv6 stands in brackets, like [::1] or [::1]:8883")]
    Brackets,
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
    let (host, port) =
        host_and_port(rest, scheme.port).map_err(|fault| format!("\"{url}\" {fault}; {how}"))?;
    Ok(Url { scheme, host: host.to_owned(), port, path: path.map(str::to_owned) })
}

/// Reads `host`, `host:port`, `[::1]` or `[::1]:port`. The host comes without brackets.
///
/// # Errors
/// [`NoAddress`] continues a sentence about the text.
pub fn host_and_port(text: &str, port_default: u16) -> Result<(&str, u16), NoAddress> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(NoAddress::Host)?;
            // What stands behind a % names an interface.
            let address = host.split('%').next().unwrap_or(host);
            address.parse::<Ipv6Addr>().map_err(|_| NoAddress::Host)?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(NoAddress::Host)?) };
            (host, port)
        }
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(NoAddress::Brackets),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || "/?#[]".contains(c)) {
        return Err(NoAddress::Host);
    }
    let Some(port) = port else { return Ok((host, port_default)) };
    let port = port.parse().ok().filter(|port| *port != 0);
    Ok((host, port.ok_or(NoAddress::Port)?))
}

/// Host and port in one text, with brackets around an address of IPv6: what [`host_and_port`]
/// reads.
#[must_use]
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
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
    fn an_address_of_ipv6_stands_in_brackets_and_is_shown_in_them() {
        for (text, host, port) in [
            ("[::1]:28883", "::1", 28883),
            ("[::1]", "::1", 7),
            ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
            ("a", "a", 7),
        ] {
            assert_eq!(host_and_port(text, 7), Ok((host, port)), "{text}");
            assert_eq!(host_and_port(&authority(host, port), 7), Ok((host, port)), "{text}");
        }
        for (text, fault) in [
            ("::1:28883", NoAddress::Brackets),
            ("::1", NoAddress::Brackets),
            ("fe80::a:b", NoAddress::Brackets),
            ("[::1", NoAddress::Host),
            ("[::1]8883", NoAddress::Host),
            ("[broker]:1", NoAddress::Host),
            ("[]:1", NoAddress::Host),
            ("a]:1", NoAddress::Host),
            ("[::1]:", NoAddress::Port),
            ("[::1]:0", NoAddress::Port),
            ("a:", NoAddress::Port),
        ] {
            assert_eq!(host_and_port(text, 7), Err(fault), "{text}");
        }
        let said = parse("mqtt://::1:28883", &SCHEMES).unwrap_err();
        assert!(said.starts_with("\"mqtt://::1:28883\" has more than one colon: "), "{said}");
        assert!(said.contains("stands in brackets, like [::1] or [::1]:8883"), "{said}");
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

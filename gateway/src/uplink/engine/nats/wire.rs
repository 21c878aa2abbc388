//! The NATS client protocol on the wire, as far as an uplink needs it. Pure.
//!
//! ```text
//!  out: CONNECT · SUB · PING · PONG · HPUB (a message with headers and a subject for its answer)
//!  in:  INFO · PING · PONG · +OK · -ERR · MSG · HMSG
//! ```
//! Each begins with a line of words that ends with CR LF; MSG, HMSG and HPUB name the length of
//! what follows it. What comes is read in place: nothing is copied or allocated for an
//! acknowledgement. Its source is the description of the client protocol at docs.nats.io.
//!
//! Limits: a line from the server to [`LINE_BYTES_MAX`], INFO and a whole message to
//! [`IN_BYTES_MAX`]. It holds no state and reads no socket.

use serde::{Deserialize, Serialize};

use crate::uplink::decimal::put_decimal;

/// Longest line from the server but INFO, in bytes.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Longest message or INFO from the server, in bytes: INFO names all servers of a cluster, and the
/// answer about a stream all its subjects. Acknowledgements are short.
pub const IN_BYTES_MAX: usize = 64 * 1024;
/// A ping.
pub const PING: &[u8] = b"PING\r\n";
/// The answer to a ping.
pub const PONG: &[u8] = b"PONG\r\n";
/// What a server takes that does not say it, in bytes.
const MAX_PAYLOAD_DEFAULT: u64 = 1024 * 1024;
/// What every block of headers begins with.
const HEADERS: &[u8] = b"NATS/1.0";

/// Bytes from the server are not what it may send. The connection cannot be read on: close it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It is no line of the protocol.
    #[error("the server sent something that is not NATS")]
    Malformed,
    /// It is longer than [`LINE_BYTES_MAX`] or [`IN_BYTES_MAX`].
    #[error("the server sent more than {IN_BYTES_MAX} bytes at once, or a line without an end")]
    TooLong,
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Inbound<'a> {
    /// What it says of itself: first of all, and again when that changes.
    Info(Info),
    /// It wants to be answered by [`PONG`].
    Ping,
    /// It answers [`PING`].
    Pong,
    /// It took something; only a verbose client is told.
    Ok,
    /// It refuses something, and mostly closes the connection then.
    Error(&'a [u8]),
    /// A message for us.
    Message(Delivered<'a>),
}

/// What a server says of itself, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// It takes messages with headers.
    #[serde(default)]
    pub headers: bool,
    /// It speaks nothing but TLS.
    #[serde(default)]
    pub tls_required: bool,
    /// Longest message that it takes, headers included, in bytes.
    #[serde(default = "max_payload_default")]
    pub max_payload: u64,
}

/// A message for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered<'a> {
    /// The subject that it was sent to: one of our inbox.
    pub subject: &'a [u8],
    /// The status among its headers, if there is one: 503 is "nobody listens".
    pub status: Option<u16>,
    /// The payload.
    pub payload: &'a [u8],
}

/// What a client says of itself.
#[derive(Debug, Serialize)]
pub struct Connect<'a> {
    /// Its name, for whoever looks at the server.
    pub name: &'a str,
    /// The user, if the server asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// The user's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<&'a str>,
    verbose: bool,
    pedantic: bool,
    headers: bool,
    no_responders: bool,
    echo: bool,
    protocol: u8,
    lang: &'static str,
    version: &'static str,
}

/// One message to write.
#[derive(Debug, Clone, Copy)]
pub struct Publish<'a> {
    /// Its subject, as [`put`](super::subject::put) writes it.
    pub subject: &'a [u8],
    /// The inbox to which the answer is to go.
    pub inbox: &'a [u8],
    /// What the answer is to name.
    pub token: u64,
    /// Headers, each as [`put_header`] writes it.
    pub headers: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Connect<'a> {
    /// A client of this name that wants headers, and to be told at once where nobody listens.
    #[must_use]
    pub fn new(name: &'a str, user: Option<&'a str>, pass: Option<&'a str>) -> Self {
        Self {
            name,
            user,
            pass,
            verbose: false,
            pedantic: false,
            headers: true,
            no_responders: true,
            echo: false,
            protocol: 1,
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// Appends CONNECT.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT ");
        serde_json::to_writer(&mut *out, self).expect("invariant: plain fields are written into memory");
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends SUB for all subjects of an inbox.
pub fn put_subscribe(inbox: &[u8], out: &mut Vec<u8>) {
    for part in [&b"SUB "[..], inbox, b".* 1\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends PUB without headers: a request whose answer goes to `inbox` and names `token`.
pub fn put_request(subject: &str, inbox: &[u8], token: &str, payload: &[u8], out: &mut Vec<u8>) {
    let bytes = payload.len().to_string();
    for part in [b"PUB ", subject.as_bytes(), b" ", inbox, b".", token.as_bytes(), b" ", bytes.as_bytes()] {
        out.extend_from_slice(part);
    }
    for part in [&b"\r\n"[..], payload, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends a header. All but printable ASCII is percent-encoded, with `"` and `%`, as CloudEvents
/// asks for in headers: a device chooses its own name, and must not write headers with it.
pub fn put_header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for byte in value.iter().copied() {
        match byte {
            b'!' | b'#' | b'$' | b'&'..=b'~' => out.push(byte),
            _ => super::subject::put_encoded(byte, out),
        }
    }
    out.extend_from_slice(b"\r\n");
}

impl Publish<'_> {
    /// What the server counts: headers and payload, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        (self.headers_bytes() + self.payload.len()) as u64
    }

    /// Appends HPUB.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.reserve(self.subject.len() + self.inbox.len() + self.headers_bytes() + self.payload.len() + 64);
        for part in [b"HPUB ", self.subject, b" ", self.inbox, b"."] {
            out.extend_from_slice(part);
        }
        put_decimal(out, self.token);
        out.push(b' ');
        put_decimal(out, self.headers_bytes() as u64);
        out.push(b' ');
        put_decimal(out, self.size());
        for part in [b"\r\n", HEADERS, b"\r\n", self.headers, b"\r\n", self.payload, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }

    fn headers_bytes(&self) -> usize {
        HEADERS.len() + 2 + self.headers.len() + 2
    }
}

/// Reads what stands at the start of `bytes`, and gives its length; `None` while it is not all
/// there.
///
/// # Errors
/// [`WireError`]: nothing after this point can be read.
pub fn inbound(bytes: &[u8]) -> Result<Option<(Inbound<'_>, usize)>, WireError> {
    let Some((line, size)) = line(bytes)? else { return Ok(None) };
    let space = line.iter().position(|byte| is_space(*byte)).unwrap_or(line.len());
    let (operation, rest) = line.split_at(space);
    let is = |name: &str| operation.eq_ignore_ascii_case(name.as_bytes());
    if is("HMSG") || is("MSG") {
        return message(bytes, size, rest, is("HMSG"));
    }
    let read = if is("PING") {
        Inbound::Ping
    } else if is("PONG") {
        Inbound::Pong
    } else if is("+OK") {
        Inbound::Ok
    } else if is("-ERR") {
        Inbound::Error(rest.trim_ascii())
    } else if is("INFO") {
        Inbound::Info(serde_json::from_slice(rest).map_err(|_| WireError::Malformed)?)
    } else {
        return Err(WireError::Malformed);
    };
    Ok(Some((read, size)))
}

/// The line at the start of `bytes`, and its length with CR LF.
fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, WireError> {
    let is_info = bytes.get(..4).is_some_and(|name| name.eq_ignore_ascii_case(b"INFO"));
    let bytes_max = if is_info { IN_BYTES_MAX } else { LINE_BYTES_MAX };
    let seen = &bytes[..bytes.len().min(bytes_max)];
    match seen.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = seen[..end].strip_suffix(b"\r").ok_or(WireError::Malformed)?;
            Ok(Some((line, end + 1)))
        }
        None if seen.len() < bytes_max => Ok(None),
        None => Err(WireError::TooLong),
    }
}

/// Reads `MSG subject sid [reply] bytes` or `HMSG subject sid [reply] header-bytes bytes`, whose
/// line ends at `begin`, and what follows it.
fn message<'a>(
    bytes: &'a [u8],
    begin: usize,
    words: &'a [u8],
    has_headers: bool,
) -> Result<Option<(Inbound<'a>, usize)>, WireError> {
    let mut words = words.split(|byte| is_space(*byte)).filter(|word| !word.is_empty());
    let subject = words.next().ok_or(WireError::Malformed)?;
    // The subscription: there is one only.
    words.next().ok_or(WireError::Malformed)?;
    let tail = (words.next(), words.next(), words.next(), words.next());
    let (headers, whole) = match (has_headers, tail) {
        (false, (Some(whole), None, ..) | (Some(_), Some(whole), None, _)) => (0, length(whole)?),
        (true, (Some(headers), Some(whole), None, _) | (Some(_), Some(headers), Some(whole), None)) => {
            (length(headers)?, length(whole)?)
        }
        _ => return Err(WireError::Malformed),
    };
    if headers > whole {
        return Err(WireError::Malformed);
    }
    let (end, size) = (begin + whole, begin + whole + 2);
    if size > IN_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    if bytes.len() < size {
        return Ok(None);
    }
    if &bytes[end..size] != b"\r\n" {
        return Err(WireError::Malformed);
    }
    let status = if has_headers { status(&bytes[begin..begin + headers])? } else { None };
    let delivered = Delivered { subject, status, payload: &bytes[begin + headers..end] };
    Ok(Some((Inbound::Message(delivered), size)))
}

/// The status that a block of headers begins with, if it has one.
fn status(headers: &[u8]) -> Result<Option<u16>, WireError> {
    let rest = headers.strip_prefix(HEADERS).ok_or(WireError::Malformed)?.trim_ascii_start();
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit));
    let is_status = headers.get(HEADERS.len()) == Some(&b' ');
    let digits = digits.filter(|_| is_status).and_then(|digits| std::str::from_utf8(digits).ok());
    Ok(digits.and_then(|digits| digits.parse().ok()))
}

/// A length in decimal digits.
fn length(word: &[u8]) -> Result<usize, WireError> {
    let digits = Some(word).filter(|word| word.len() <= 9 && word.iter().all(u8::is_ascii_digit));
    let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    text.and_then(|text| text.parse().ok()).ok_or(WireError::Malformed)
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn max_payload_default() -> u64 {
    MAX_PAYLOAD_DEFAULT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivered<'a>(subject: &'a str, status: Option<u16>, payload: &'a [u8]) -> Inbound<'a> {
        Inbound::Message(Delivered { subject: subject.as_bytes(), status, payload })
    }

    #[test]
    fn what_the_server_sends_is_read() {
        let info = Info { headers: true, tls_required: false, max_payload: 9000 };
        let old = Info { headers: false, tls_required: false, max_payload: MAX_PAYLOAD_DEFAULT };
        let cases: &[(&str, Inbound<'_>)] = &[
            (
                "INFO {\"server_id\":\"N\",\"headers\":true,\"max_payload\":9000,\"new\":[1]} \r\n",
                Inbound::Info(info),
            ),
            ("info {}\r\n", Inbound::Info(old)),
            ("PING\r\n", Inbound::Ping),
            ("PONG\r\n", Inbound::Pong),
            ("+OK\r\n", Inbound::Ok),
            ("-ERR 'Stale Connection'\r\n", Inbound::Error(b"'Stale Connection'")),
            ("MSG in.7 1 2\r\nab\r\n", delivered("in.7", None, b"ab")),
            ("MSG  in.7\t1 reply 0\r\n\r\n", delivered("in.7", None, b"")),
            ("HMSG in.7 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", delivered("in.7", Some(503), b"")),
            ("HMSG in.7 1 r 18 20\r\nNATS/1.0\r\na: 1\r\n\r\n{}\r\n", delivered("in.7", None, b"{}")),
            ("HMSG in.7 1 12 12\r\nNATS/1.0\r\n\r\n\r\n", delivered("in.7", None, b"")),
        ];
        for (text, expected) in cases {
            let bytes = [text.as_bytes(), b"PING"].concat();
            assert_eq!(inbound(&bytes), Ok(Some((expected.clone(), text.len()))), "{text}");
            for cut in 0..text.len() {
                assert_eq!(inbound(&bytes[..cut]), Ok(None), "{text} after {cut} bytes");
            }
        }
    }

    #[test]
    fn what_is_no_nats_is_refused() {
        for text in [
            "HTTP/1.1 400 Bad Request\r\n",
            "PING\n",
            "\r\n",
            "INFO {\r\n",
            "INFO {\"max_payload\":-1}\r\n",
            "MSG in.7 1\r\n",
            "MSG in.7 1 r s 1\r\n",
            "MSG in.7 1 -1\r\n",
            "MSG in.7 1 2\r\nabcd",
            "MSG in.7 1 9999999999\r\n",
            "HMSG in.7 1 2\r\n",
            "HMSG in.7 1 3 2\r\n",
            "HMSG in.7 1 2 2\r\nab\r\n",
        ] {
            assert_eq!(inbound(text.as_bytes()), Err(WireError::Malformed), "{text}");
        }
        let long = [b"MSG ".as_slice(), &[b'x'; LINE_BYTES_MAX]].concat();
        assert_eq!(inbound(&long), Err(WireError::TooLong));
        let long = [b"INFO ".as_slice(), &[b'x'; IN_BYTES_MAX]].concat();
        assert_eq!(inbound(&long), Err(WireError::TooLong));
        assert_eq!(inbound(b"MSG in.7 1 70000\r\n"), Err(WireError::TooLong));
    }

    #[test]
    fn what_goes_out_is_written_as_the_protocol_says() {
        let mut out = vec![];
        Connect::new("barn-7", Some("u"), Some("p\"w")).write(&mut out);
        put_subscribe(b"_INBOX.x", &mut out);
        put_request("$JS.API.STREAM.NAMES", b"_INBOX.x", "names", b"{}", &mut out);
        let text = String::from_utf8(out).unwrap();
        let (connect, rest) = text.split_once("\r\n").unwrap();
        let connect: serde_json::Value = serde_json::from_str(&connect["CONNECT ".len()..]).unwrap();
        assert_eq!((&connect["user"], &connect["pass"]), (&"u".into(), &"p\"w".into()));
        assert_eq!((&connect["headers"], &connect["no_responders"]), (&true.into(), &true.into()));
        assert_eq!((&connect["verbose"], &connect["name"]), (&false.into(), &"barn-7".into()));
        assert_eq!(rest, "SUB _INBOX.x.* 1\r\nPUB $JS.API.STREAM.NAMES _INBOX.x.names 2\r\n{}\r\n");
        let mut anonymous = vec![];
        Connect::new("barn-7", None, None).write(&mut anonymous);
        assert!(!String::from_utf8(anonymous).unwrap().contains("pass"));
    }

    #[test]
    fn a_device_writes_no_header_with_its_name() {
        let mut out = vec![];
        put_header("tidegate-device", "ä\r\nNats-Rollup: all\0 50%\u{7f}".as_bytes(), &mut out);
        let expected = "tidegate-device: %C3%A4%0D%0ANats-Rollup:%20all%00%2050%25%7F\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn a_message_names_its_own_lengths(
            subject in "[a-z.]{1,300}",
            token: u64,
            values in prop::collection::vec(".{0,40}", 0..5),
            payload in prop::collection::vec(any::<u8>(), 0..5_000),
        ) {
            let mut headers = vec![];
            values.iter().for_each(|value| put_header("h", value.as_bytes(), &mut headers));
            let (subject, inbox) = (subject.as_bytes(), &b"_INBOX.x"[..]);
            let publish = Publish { subject, inbox, token, headers: &headers, payload: &payload };
            let mut out = vec![];
            publish.write(&mut out);
            let end = out.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let line = String::from_utf8(out[..end].to_vec()).unwrap();
            let words: Vec<_> = line.split(' ').collect();
            prop_assert_eq!(&words[..2], &["HPUB", std::str::from_utf8(subject).unwrap()]);
            prop_assert_eq!(words[2], format!("_INBOX.x.{token}"));
            let (heads, whole): (usize, usize) = (words[3].parse().unwrap(), words[4].parse().unwrap());
            prop_assert_eq!(whole as u64, publish.size());
            let body = &out[end + 2..];
            prop_assert_eq!(body.len(), whole + 2);
            prop_assert_eq!(&body[heads..], &[&payload[..], b"\r\n"].concat()[..]);
            let block = std::str::from_utf8(&body[..heads]).unwrap();
            prop_assert!(block.starts_with("NATS/1.0\r\n") && block.ends_with("\r\n\r\n"));
            prop_assert_eq!(block.split("\r\n").count(), values.len() + 3);
            // As the server hands it on, with our reader.
            let mut sent = format!("HMSG in.7 1 {heads} {whole}\r\n").into_bytes();
            sent.extend_from_slice(body);
            prop_assert_eq!(inbound(&sent), Ok(Some((delivered("in.7", None, &payload), sent.len()))));
        }

        #[test]
        fn no_bytes_from_the_server_make_the_reader_panic_or_take_more_than_there_is(
            start in prop::sample::select(vec!["", "MSG ", "HMSG a 1 ", "INFO {", "-ERR ", "HMSG a 1 9 12\r\nNATS/1.0"]),
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\r\n 0123{}\"".to_vec())], 0..200),
        ) {
            let bytes = [start.as_bytes(), &bytes].concat();
            if let Ok(Some((_, size))) = inbound(&bytes) {
                prop_assert!(size > 0 && size <= bytes.len());
                for cut in 0..size {
                    prop_assert_eq!(inbound(&bytes[..cut]), Ok(None));
                }
            }
        }
    }
}

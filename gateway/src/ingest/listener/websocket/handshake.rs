//! The HTTP request that a WebSocket begins with: read within a size, judged, and answered in words
//! if it is none.
//!
//! What mosquitto takes is the guide, so that a client that is set up for it needs no change: any
//! path, any Origin, and the subprotocol `mqtt` or `mqttv3.1`, or none at all. No extension is
//! agreed on. What the peer sent is never repeated.
//!
//! Limits: [`HEAD_BYTES_MAX`]; the time is the caller's to limit.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tungstenite::{
    Error,
    error::ProtocolError,
    handshake::{
        machine::TryParse as _,
        server::{Request, Response, create_response, write_response},
    },
    http::{HeaderMap, HeaderValue},
};

/// Longest request, in bytes: as browsers send them, with cookies of a page on the same machine.
const HEAD_BYTES_MAX: usize = 8 * 1024;
/// What a read of it has room for at first, in bytes: most requests fit.
const HEAD_BYTES_FIRST: usize = 1024;
/// What a request begins with. WebSocket knows no other method: RFC 6455 section 4.1.
const GET: &[u8] = b"GET ";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// What is selected if a client offers it; the first of its own list.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// Why no connection came of a request. The client may try again; nothing was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it sends MQTT without WebSocket: connect it to a listener of protocol \"mqtt\"")]
    Mqtt,
    #[error(
        "it speaks TLS, and this listener does not: connect by ws:// in place of wss://, or give the listener tls"
    )]
    Tls,
    #[error("what it sends is no HTTP")]
    NotHttp,
    #[error("this is MQTT over WebSocket: only GET is answered")]
    Method,
    #[error("this is MQTT over WebSocket, and the request asks for no WebSocket: connect by ws:// or wss://")]
    NoUpgrade,
    #[error("only version 13 of WebSocket is spoken here")]
    Version,
    #[error("the request is no good: its Sec-WebSocket-Key is missing or not 16 bytes in base64")]
    Key,
    #[error("the request is no good HTTP")]
    Malformed,
    #[error("the request is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    #[error("the client offers subprotocols, and none of them is \"mqtt\" or \"mqttv3.1\"")]
    Subprotocol,
    #[error("it did not finish its request in time")]
    Timeout,
    #[error("it closed the connection before its request was read")]
    Closed,
}

impl Refusal {
    /// The label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::Mqtt => "mqtt",
            Refusal::Tls => "tls",
            Refusal::NotHttp => "not_http",
            Refusal::Method => "method",
            Refusal::NoUpgrade => "no_upgrade",
            Refusal::Version => "version",
            Refusal::Key => "key",
            Refusal::Malformed => "malformed",
            Refusal::TooLong => "too_long",
            Refusal::Subprotocol => "subprotocol",
            Refusal::Timeout => "timeout",
            Refusal::Closed => "closed",
        }
    }

    /// Whether it is worth a line: whoever only opens and closes a port, as a health check does, is
    /// only counted.
    pub fn is_told(self) -> bool {
        self != Refusal::Closed
    }

    /// The response, with the words as its body; `None` for one that does not speak HTTP.
    pub fn response(self) -> Option<String> {
        let status = match self {
            Refusal::Mqtt | Refusal::Tls | Refusal::NotHttp | Refusal::Closed => return None,
            Refusal::Method => "405 Method Not Allowed\r\nAllow: GET",
            Refusal::NoUpgrade => "426 Upgrade Required\r\nUpgrade: websocket",
            Refusal::Version => "426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
            Refusal::Key | Refusal::Malformed | Refusal::Subprotocol => "400 Bad Request",
            Refusal::TooLong => "431 Request Header Fields Too Large",
            Refusal::Timeout => "408 Request Timeout",
        };
        let body = format!("{self}\n");
        Some(format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// Reads a request and accepts it. Gives what was read behind it. Not cancel-safe.
pub(super) async fn shake<Io>(io: &mut Io) -> Result<Vec<u8>, Refusal>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut head = Vec::with_capacity(HEAD_BYTES_FIRST);
    let end = loop {
        let searched = head.len().saturating_sub(HEAD_END.len() - 1);
        let room = HEAD_BYTES_MAX - head.len();
        let read = (&mut *io).take(room as u64).read_buf(&mut head).await;
        if read.map_err(|_: io::Error| Refusal::Closed)? == 0 {
            return Err(if room == 0 { Refusal::TooLong } else { Refusal::Closed });
        }
        is_http(&head)?;
        // The request is parsed once, however slowly it comes.
        let found = head[searched..].windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END);
        if let Some(at) = found {
            break searched + at + HEAD_END.len();
        }
    };
    let response = judge(&head[..end])?;
    let mut answer = Vec::new();
    write_response(&mut answer, &response).map_err(|_| Refusal::Malformed)?;
    io.write_all(&answer).await.map_err(|_| Refusal::Closed)?;
    io.flush().await.map_err(|_| Refusal::Closed)?;
    Ok(head.split_off(end))
}

/// Tells from its first bytes what is no request, so that who waits for an answer to something else
/// does not wait.
fn is_http(head: &[u8]) -> Result<(), Refusal> {
    let seen = head.len().min(GET.len());
    match head {
        _ if head[..seen] == GET[..seen] => Ok(()),
        // CONNECT.
        [0x10, ..] => Err(Refusal::Mqtt),
        // A handshake record.
        [0x16, ..] => Err(Refusal::Tls),
        [b'A'..=b'Z', ..] => Err(Refusal::Method),
        _ => Err(Refusal::NotHttp),
    }
}

/// The response to a whole request.
fn judge(head: &[u8]) -> Result<Response, Refusal> {
    let request = match Request::try_parse(head) {
        Ok(Some((_, request))) => request,
        Ok(None) => return Err(Refusal::Malformed),
        Err(error) => return Err(refusal(&error)),
    };
    let mut response = create_response(&request).map_err(|error| refusal(&error))?;
    if let Some(selected) = select(request.headers())? {
        response.headers_mut().insert(SUBPROTOCOL, HeaderValue::from_static(selected));
    }
    Ok(response)
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Protocol(
            ProtocolError::WrongHttpVersion
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader,
        ) => Refusal::NoUpgrade,
        Error::Protocol(ProtocolError::WrongHttpMethod) => Refusal::Method,
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => Refusal::Version,
        Error::Protocol(ProtocolError::MissingSecWebSocketKey | ProtocolError::InvalidSecWebSocketKey) => {
            Refusal::Key
        }
        _ => Refusal::Malformed,
    }
}

/// The subprotocol of those that the client offers; `None` if it offers none.
fn select(headers: &HeaderMap) -> Result<Option<&'static str>, Refusal> {
    let mut offered = headers
        .get_all(SUBPROTOCOL)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    let known = |name: &[u8]| SUBPROTOCOLS.into_iter().find(|known| known.as_bytes() == name);
    offered.find_map(known).map(Some).ok_or(Refusal::Subprotocol)
}

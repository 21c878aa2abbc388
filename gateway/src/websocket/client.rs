//! The client's handshake: RFC 6455 section 4.1, MQTT 5 section 6.
//!
//! ```text
//!   GET path, Upgrade: websocket, subprotocol mqtt ─▶
//!   ◀─ 101 ─▶ stream            ◀─ anything else: told by its status, and never followed
//! ```
//! A redirection is not followed: the configuration says where events go, and who may read them.
//! Limits: those of [`read_head`]; the time is the caller's to limit.

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tungstenite::{
    handshake::{client::Response, client::generate_key, derive_accept_key, machine::TryParse as _},
    http::{HeaderMap, header},
};

use super::{
    head::{HeadError, read_head},
    stream::Stream,
};

/// What MQTT is called there. (MQTT 5 section 6)
const SUBPROTOCOL: &str = "mqtt";
/// Longest part of an answer that is repeated, in characters.
const SHOWN_CHARS: usize = 200;

/// The other end does not speak WebSocket here. Nothing was sent but the request.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no answer in HTTP.
    #[error("no WebSocket: {0}; check the port, and whether MQTT is to be spoken there without WebSocket")]
    Head(#[from] HeadError),
    /// The request could not be written.
    #[error("the request for a WebSocket could not be sent: {0}")]
    Write(std::io::Error),
    /// The answer cannot be read.
    #[error("no WebSocket: the answer is no good HTTP")]
    Malformed,
    /// It is elsewhere.
    #[error("no WebSocket: the server redirects to {0:?} (HTTP {1}); name that address in url")]
    Redirected(String, u16),
    /// Nobody is let in before MQTT.
    #[error(
        "no WebSocket: the server wants a login in HTTP already (HTTP {0}), and user and password are sent in MQTT"
    )]
    Login(u16),
    /// The path is wrong.
    #[error("no WebSocket: there is nothing at this path (HTTP 404); name the right one in url, often /mqtt")]
    NotFound,
    /// Any other answer.
    #[error("no WebSocket: the server answers HTTP {0}")]
    Status(u16),
    /// It answers 101 and something else.
    #[error("no WebSocket: the server switches to something else; check url, and what stands between")]
    NotWebSocket,
    /// It knows no MQTT there.
    #[error("no MQTT: the server chose the subprotocol {0:?}, and not \"mqtt\"")]
    Subprotocol(String),
    /// It does what was not agreed on.
    #[error("no WebSocket: the server uses the extension {0:?}, which was not asked for")]
    Extension(String),
}

/// Shakes hands over `io` with `host`, as the configuration writes it, for what is at `path`.
///
/// # Errors
/// [`Refused`]
pub async fn shake_hands<Io>(mut io: Io, host: &str, path: &str) -> Result<Stream<Io>, Refused>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let key = generate_key();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await.map_err(Refused::Write)?;
    io.flush().await.map_err(Refused::Write)?;
    let head = read_head(&mut io).await?;
    judge(&head, &key)?;
    Ok(Stream::client(io))
}

/// Whether this answers the request with `key`.
fn judge(head: &[u8], key: &str) -> Result<(), Refused> {
    let Ok(Some((_, response))) = Response::try_parse(head) else { return Err(Refused::Malformed) };
    let (status, headers) = (response.status().as_u16(), response.headers());
    match status {
        101 => {}
        300..=399 => return Err(Refused::Redirected(text(headers, "Location"), status)),
        401 | 403 | 407 => return Err(Refused::Login(status)),
        404 => return Err(Refused::NotFound),
        _ => return Err(Refused::Status(status)),
    }
    let has = |name: header::HeaderName, wanted: &str| {
        let values =
            headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
        values.into_iter().any(|value| value.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
    };
    let accept = headers.get(header::SEC_WEBSOCKET_ACCEPT).map(|value| value.as_bytes().trim_ascii());
    if !has(header::UPGRADE, "websocket")
        || !has(header::CONNECTION, "upgrade")
        || accept != Some(derive_accept_key(key.as_bytes()).as_bytes())
    {
        return Err(Refused::NotWebSocket);
    }
    if headers.contains_key(header::SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Refused::Extension(text(headers, "Sec-WebSocket-Extensions")));
    }
    // One that chooses none speaks MQTT all the same, where it is that what listens there.
    let chosen = text(headers, "Sec-WebSocket-Protocol");
    if chosen.is_empty() || chosen == SUBPROTOCOL { Ok(()) } else { Err(Refused::Subprotocol(chosen)) }
}

/// A header's value, as far as it may be shown.
fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
    value
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .take(SHOWN_CHARS)
        .map(|byte| char::from(*byte))
        .collect()
}

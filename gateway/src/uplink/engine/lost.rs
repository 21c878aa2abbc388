//! Why there is no connection, or no longer, and what an upstream says when it refuses something:
//! the same words for every engine.

use std::{error::Error, fmt, io, time::Duration};

use super::dial::{OpenError, WebSocketEnd, tls::TlsFailure};

/// Why the upstream refuses something: a code of its protocol, and what that protocol calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    name: &'static str,
    code: u16,
    /// The protocol writes its codes in hexadecimal digits.
    is_hex: bool,
    /// It was too much at once, and not what it was.
    is_of_a_rate: bool,
    /// What to do about it, where the code says that.
    advice: Option<&'static str>,
}

/// What an upstream says when it refuses a connection or ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The code.
    pub reason: Refusal,
    /// What it says beside the code, cut to what a line has room for.
    pub text: Option<String>,
}

/// A connection that the upstream ends within this time was of little use.
pub const SOON: Duration = Duration::from_secs(10);

/// How a connection ended of which the upstream said nothing: from this an engine makes a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// It was closed in the engine's handshake.
    ClosedInHandshake,
    /// There was no answer in the engine's handshake.
    NoHandshake,
    /// It was closed after the handshake.
    Closed {
        /// This long after it; [`SOON`] or less was of little use.
        lasted: Duration,
        /// At least a part of a message was written.
        sent: bool,
        /// A message was acknowledged.
        took: bool,
        /// So many in a row ended so, all of them soon.
        in_a_row: u32,
    },
}

/// Why there is no connection, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// There is no way to it, or it does not answer.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The upstream closed the connection.
    #[error("the upstream closed the connection")]
    Closed,
    /// The upstream said that it ends the connection.
    #[error("the upstream disconnected: {notice}")]
    Disconnected {
        /// Why.
        notice: Box<Notice>,
        /// What was sent last may be the reason. False for what would have come whatever was sent.
        blames_message: bool,
    },
    /// It ended the WebSocket below, or broke its rules.
    #[error(transparent)]
    WebSocket(WebSocketEnd),
    /// It ended TLS below, or broke its rules.
    #[error(transparent)]
    Tls(Box<TlsFailure>),
    /// The connection failed by itself.
    #[error("the connection failed: {0}")]
    Failed(io::Error),
    /// What came cannot be read, or is a refusal of the connection.
    #[error("{0}")]
    Protocol(Box<dyn Error + Send + Sync>),
}

impl Refusal {
    /// A refusal of a protocol that writes its codes in decimal digits; 0 is no code.
    #[must_use]
    pub const fn new(name: &'static str, code: u16) -> Self {
        Self { name, code, is_hex: false, is_of_a_rate: false, advice: None }
    }

    /// A refusal of a protocol that writes its codes in hexadecimal digits.
    #[must_use]
    pub const fn hex(name: &'static str, code: u16) -> Self {
        Self { name, code, is_hex: true, is_of_a_rate: false, advice: None }
    }

    /// The same, if it means that too much came at once.
    #[must_use]
    pub const fn of_a_rate(self, is_of_a_rate: bool) -> Self {
        Self { is_of_a_rate, ..self }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub const fn advised(self, advice: Option<&'static str>) -> Self {
        Self { advice, ..self }
    }

    /// It was too much at once, and not what it was: less at once may be taken.
    #[must_use]
    pub const fn is_of_a_rate(self) -> bool {
        self.is_of_a_rate
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_hex, self.code) {
            (true, code) => write!(f, "{} ({code:#04x})", self.name),
            (false, 0) => f.write_str(self.name),
            (false, code) => write!(f, "{} ({code})", self.name),
        }
    }
}

impl From<io::Error> for Lost {
    /// Tells a peer that closed, in words or without, from a connection that failed.
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let error = match error.downcast::<WebSocketEnd>() {
            Ok(end) => return Self::WebSocket(end),
            Err(error) => error,
        };
        match error.downcast::<TlsFailure>() {
            Ok(failure) => Self::Tls(Box::new(failure)),
            Err(error) => match error.kind() {
                BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Self::Closed,
                _ => Self::Failed(error),
            },
        }
    }
}

impl From<Refusal> for Notice {
    fn from(reason: Refusal) -> Self {
        Self { reason, text: None }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reason)?;
        if let Some(text) = &self.text {
            write!(f, ", \"{text}\"")?;
        }
        self.reason.advice.map_or(Ok(()), |advice| write!(f, ": {advice}"))
    }
}

impl Lost {
    /// The end of the connection may be the fault of the message that was sent last.
    #[must_use]
    pub fn blames_message(&self) -> bool {
        match self {
            Self::Closed | Self::Protocol(_) => true,
            Self::Disconnected { blames_message, .. } => *blames_message,
            Self::WebSocket(end) => end.blames_message(),
            Self::Open(_) | Self::Tls(_) | Self::Failed(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_leaves_blames_no_message_and_every_end_is_told_by_what_ended_it() {
        let websocket = |code| io::Error::other(WebSocketEnd::Closed(code));
        for (error, blames, words) in [
            (websocket(1001), false, "the upstream closed the WebSocket with code 1001, going away"),
            (websocket(1012), false, "the upstream closed the WebSocket with code 1012, service restart"),
            (websocket(1013), false, "the upstream closed the WebSocket with code 1013, try again later"),
            (websocket(1002), true, "the upstream closed the WebSocket with code 1002"),
            (websocket(1008), true, "the upstream closed the WebSocket with code 1008"),
            (websocket(1009), true, "the upstream closed the WebSocket with code 1009"),
            (websocket(1011), true, "the upstream closed the WebSocket with code 1011"),
            (
                io::Error::other(TlsFailure::NoProtocol),
                false,
                "the server speaks none of the protocols in tls.alpn",
            ),
            (io::ErrorKind::ConnectionReset.into(), true, "the upstream closed the connection"),
            (io::ErrorKind::TimedOut.into(), false, "the connection failed: timed out"),
        ] {
            let lost = Lost::from(error);
            assert_eq!((lost.blames_message(), lost.to_string().as_str()), (blames, words));
        }
    }
}

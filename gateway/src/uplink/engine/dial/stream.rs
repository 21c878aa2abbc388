//! One stream of bytes, whatever lies below it: TCP, TLS, or a WebSocket over either.
//!
//! ```text
//!   engine ─ Stream ─┬─ Tcp ───────────────▶ socket
//!                    ├─ Tls ───────────────▶ socket
//!                    └─ WebSocket ─┬─ Tcp ─▶ socket
//!                                  └─ Tls ─▶ socket
//! ```
//! It is chosen by a match, and nothing is copied for TCP. What is written may have to be flushed:
//! TLS and a WebSocket keep what the socket does not take. An alert of TLS, and the close of a
//! WebSocket, come as errors in words.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::tls::TlsFailure;
use crate::{
    clock,
    pki::Summary,
    websocket::{self, End, Violation},
};

/// What an engine reads from and writes to.
#[derive(Debug)]
pub enum Stream {
    /// Bare TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<Secure>),
    /// A WebSocket over one of them, which is never a WebSocket itself.
    WebSocket(Box<websocket::Stream<Stream>>),
}

/// TLS whose handshake is done.
#[derive(Debug)]
pub struct Secure {
    pub(super) stream: TlsStream<TcpStream>,
    /// Our own certificate, if we showed one: what the server says of it may come late.
    pub(super) own: Option<Arc<Summary>>,
}

/// The server ended the WebSocket, or broke its rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebSocketEnd {
    /// It said why.
    #[error("the upstream closed the WebSocket with code {0}{meaning}", meaning = meaning(*.0))]
    Closed(u16),
    /// It broke the rules.
    #[error("the upstream breaks the rules of WebSocket: {0}")]
    Violation(Violation),
}

/// A close without anything to say.
const NORMAL: u16 = 1000;
/// Codes of a server that ends all its connections, whatever came on them. (RFC 6455 section
/// 7.4.1, and IANA's registry of WebSocket close codes)
const LEAVING: [(u16, &str); 3] =
    [(1001, ", going away"), (1012, ", service restart"), (1013, ", try again later")];

/// What a code means, where it says that the server leaves.
fn meaning(code: u16) -> &'static str {
    LEAVING.iter().find(|(known, _)| *known == code).map_or("", |(_, meaning)| meaning)
}

impl WebSocketEnd {
    /// What was sent last may be the reason.
    #[must_use]
    pub fn blames_message(self) -> bool {
        !matches!(self, Self::Closed(code) if LEAVING.iter().any(|(known, _)| *known == code))
    }
}

impl Secure {
    /// What the server says in the midst of it, in words.
    fn explain(&self, error: io::Error) -> io::Error {
        match TlsFailure::of(&error, self.own.as_deref(), clock::wall_ms() / 1000) {
            Some(failure) => io::Error::other(failure),
            None => error,
        }
    }
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        Poll::Ready(read.map_err(|error| self.explain(error)))
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::WebSocket(stream) => {
                let had = buffer.filled().len();
                ready!(Pin::new(&mut **stream).poll_read(context, buffer))?;
                let end = (buffer.filled().len() == had).then(|| stream.ended()).flatten();
                Poll::Ready(match end {
                    Some(End::Violation(violation)) => {
                        Err(io::Error::other(WebSocketEnd::Violation(violation)))
                    }
                    Some(End::Closed(Some(code))) if u16::from(code) != NORMAL => {
                        Err(io::Error::other(WebSocketEnd::Closed(code.into())))
                    }
                    Some(End::Closed(_) | End::Lost) | None => Ok(()),
                })
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::WebSocket(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
            Stream::WebSocket(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::WebSocket(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

//! One connection to the upstream: its socket, its two buffers, and the handshake.
//!
//! ```text
//!  publishes ─▶ outbox ─▶ ┌────────┐
//!                         │ socket │   one wait moves both directions
//!  acks      ◀─ inbox  ◀─ └────────┘
//! ```
//! Limits: the outbox is filled to [`OUTBOX_BYTES`] and one packet more; the inbox holds one packet of the
//! greatest length and what came with it. It knows MQTT only as far as CONNACK and decides nothing.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    packets::{self, Limits, WireError},
    reason::Reason,
};
use crate::{store::ReadError, uplink::settings::Settings};

/// Bytes that are gathered for one write.
pub const OUTBOX_BYTES: usize = 64 * 1024;
/// Twice the longest packet, so that one always fits behind another that is cut.
const INBOX_BYTES: usize = 2 * packets::IN_BYTES_MAX;
/// An outbox that grew beyond this for one long packet is given back.
const OUTBOX_KEPT_BYTES: usize = 4 * OUTBOX_BYTES;

/// Why there is no connection, or no longer. What was in flight is to be sent again from the released offset.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// No connection could be made.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The connection was not made in time.
    #[error("no CONNACK within {0:?}")]
    ConnectTimeout(std::time::Duration),
    /// The upstream closed the connection.
    #[error("the upstream closed the connection")]
    Closed,
    /// The upstream said DISCONNECT.
    #[error("the upstream disconnected: {0}")]
    Disconnected(Reason),
    /// The connection failed by itself.
    #[error("the connection failed: {0}")]
    Link(io::Error),
    /// What came cannot be read, or is a refusal.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An event was not acknowledged in time.
    #[error("no acknowledgement within {0:?}")]
    AckTimeout(std::time::Duration),
    /// The event that is first in line was not acknowledged in time, though events behind it were.
    #[error("no acknowledgement of an event within {0:?}, while those behind it were acknowledged")]
    Overtaken(std::time::Duration),
    /// Nothing was acknowledged in time, though a ping behind the event that is first in line was answered.
    #[error("no acknowledgement within {0:?}, while a ping was answered")]
    Unanswered(std::time::Duration),
    /// The upstream said nothing at all while an event waited, and answered no ping.
    #[error("not a word from the upstream within {0:?}")]
    Silent(std::time::Duration),
    /// A ping was not answered in time.
    #[error("no answer to a ping within {0:?}")]
    PingTimeout(std::time::Duration),
    /// The upstream does not take an event now.
    #[error("the upstream does not take an event now: {0}")]
    NotNow(Reason),
    /// The store cannot be read, or cannot keep an event aside.
    #[error("the store: {0}")]
    Store(#[from] ReadError),
}

/// What a wait moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes came in.
    pub read: bool,
    /// Bytes went out.
    pub written: bool,
}

/// A connection after its handshake.
#[derive(Debug)]
pub struct Link<Io> {
    io: Io,
    inbox: Box<[u8]>,
    /// What of the inbox is filled and not taken.
    filled: std::ops::Range<usize>,
    outbox: Vec<u8>,
    written: usize,
    /// The peer takes no more: what it said before is still to be read.
    unheard: bool,
}

impl Link<TcpStream> {
    /// Connects and shakes hands, within the settings' time limit.
    ///
    /// # Errors
    /// [`Broken`]: there is no connection.
    pub async fn open(settings: &Settings) -> Result<(Self, Limits), Broken> {
        let open = async {
            let host = settings.host.as_str();
            let socket = TcpStream::connect((host, settings.port)).await.map_err(Broken::Connect)?;
            // The outbox gathers; waiting for more in the kernel would only add latency.
            socket.set_nodelay(true).map_err(Broken::Connect)?;
            Self::shake_hands(socket, settings).await
        };
        timeout(settings.connect_timeout, open)
            .await
            .unwrap_or(Err(Broken::ConnectTimeout(settings.connect_timeout)))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Link<Io> {
    async fn shake_hands(io: Io, settings: &Settings) -> Result<(Self, Limits), Broken> {
        let mut link = Self {
            io,
            inbox: vec![0; INBOX_BYTES].into(),
            filled: 0..0,
            outbox: packets::connect(settings)?.into(),
            written: 0,
            unheard: false,
        };
        loop {
            link.moved().await?;
            if let Some((limits, size)) = packets::connack(link.inbox(), settings.version)? {
                link.take(size);
                return Ok((link, limits));
            }
        }
    }

    /// Where packets are appended.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes that are not yet written.
    pub fn pending(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// Whether more may be appended before the next write.
    pub fn has_room(&self) -> bool {
        self.outbox.len() < OUTBOX_BYTES
    }

    /// Bytes that came and are not yet taken.
    pub fn inbox(&self) -> &[u8] {
        &self.inbox[self.filled.clone()]
    }

    /// Takes `bytes` from the front of the inbox.
    pub fn take(&mut self, bytes: usize) {
        self.filled.start += bytes;
    }

    /// Waits until bytes came in or went out, both if both can. Cancel-safe: what moved is in the buffers.
    ///
    /// # Errors
    /// [`Broken::Closed`] or [`Broken::Link`], after all that came before it was read.
    pub async fn moved(&mut self) -> Result<Moved, Broken> {
        poll_fn(|cx| self.poll_moved(cx)).await
    }

    /// Writes what is pending and closes the sending direction. To be called with a time limit.
    ///
    /// # Errors
    /// The connection failed meanwhile.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.io.write_all(&self.outbox[self.written..]).await?;
        self.io.shutdown().await
    }

    fn poll_moved(&mut self, cx: &mut Context<'_>) -> Poll<Result<Moved, Broken>> {
        let read = match self.poll_read(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
            Poll::Pending => false,
        };
        let written = match self.poll_write(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
            Poll::Pending => false,
        };
        if read || written { Poll::Ready(Ok(Moved { read, written })) } else { Poll::Pending }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.inbox.len() - self.filled.end < packets::IN_BYTES_MAX {
            self.inbox.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        let mut space = ReadBuf::new(&mut self.inbox[self.filled.end..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space)).map_err(ended)?;
        match space.filled().len() {
            0 => Poll::Ready(Err(Broken::Closed)),
            bytes => {
                self.filled.end += bytes;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.pending() == 0 || self.unheard {
            return Poll::Pending;
        }
        match ready!(Pin::new(&mut self.io).poll_write(cx, &self.outbox[self.written..])) {
            Ok(0) => self.unheard = true,
            Ok(bytes) => self.written += bytes,
            Err(error) => match ended(error) {
                // What the peer said before it closed is read first: then the read says that it is closed.
                Broken::Closed => self.unheard = true,
                broken => return Poll::Ready(Err(broken)),
            },
        }
        if self.unheard {
            return Poll::Pending;
        }
        if self.pending() == 0 {
            self.outbox.clear();
            self.outbox.shrink_to(OUTBOX_KEPT_BYTES);
            self.written = 0;
        }
        Poll::Ready(Ok(()))
    }
}

/// Tells a peer that closed from a link that failed.
fn ended(error: io::Error) -> Broken {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => Broken::Closed,
        _ => Broken::Link(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A peer that said something, closed, and takes no more.
    struct Closed(VecDeque<&'static [u8]>);

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            space: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            match self.0.pop_front() {
                // Not there yet: the write comes first.
                Some([]) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(bytes) => space.put_slice(bytes),
                None => {}
            }
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_peer_said_before_it_closed_is_heard_though_it_takes_no_more() {
        let settings = Settings::new("cloud", "localhost", "barn-7");
        let peer = Closed([&[][..], &[0x20, 2], &[0, 0, 0x40, 2, 0, 1]].into());
        let (mut link, _) = Link::shake_hands(peer, &settings).await.unwrap();
        assert_eq!(link.inbox(), [0x40, 2, 0, 1]);
        assert!(matches!(link.moved().await, Err(Broken::Closed)));
    }
}

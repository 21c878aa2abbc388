//! One connection's stream and its two buffers, for any engine over a stream of bytes.
//!
//! ```text
//!  packets  ─▶ outbox ─▶ ┌────────┐
//!                        │ socket │   one wait moves both directions
//!  answers  ◀─ inbox  ◀─ └────────┘
//! ```
//! Limits: the outbox is filled to [`OUTBOX_BYTES`] and one packet more; the inbox holds one packet
//! of the greatest length that the engine reads, and what came with it. It knows no packet and
//! decides nothing.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::{Lost, Progress};

/// Bytes that are gathered for one write.
pub const OUTBOX_BYTES: usize = 64 * 1024;
/// An outbox that grew beyond this for one long packet is given back.
const OUTBOX_KEPT_BYTES: usize = 4 * OUTBOX_BYTES;

/// A socket and its buffers.
#[derive(Debug)]
pub struct Transport<Io> {
    io: Io,
    inbox: Box<[u8]>,
    /// Longest packet that is read.
    in_bytes_max: usize,
    /// What of the inbox is filled and not taken.
    filled: std::ops::Range<usize>,
    outbox: Vec<u8>,
    written: usize,
    /// What was written may lie in the stream still.
    unflushed: bool,
    /// The peer takes no more: what it said before is still to be read.
    unheard: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Transport<Io> {
    /// Over a fresh connection, for packets in to `in_bytes_max`.
    pub fn new(io: Io, in_bytes_max: usize) -> Self {
        Self {
            io,
            // Twice the longest packet, so that one always fits behind another that is cut.
            inbox: vec![0; 2 * in_bytes_max].into(),
            in_bytes_max,
            filled: 0..0,
            outbox: Vec::new(),
            written: 0,
            unflushed: false,
            unheard: false,
        }
    }

    /// Where packets are appended.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Something is not yet written.
    pub fn has_unwritten(&self) -> bool {
        self.unflushed || self.written < self.outbox.len()
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

    /// Waits until bytes came in or went out, both if both can. Cancel-safe: what moved is in the
    /// buffers.
    ///
    /// # Errors
    /// [`Lost::Closed`] or [`Lost::Failed`], after all that came before it was read.
    pub async fn moved(&mut self) -> Result<Progress, Lost> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Writes what is pending and closes the sending direction. To be called with a time limit.
    ///
    /// # Errors
    /// The connection failed meanwhile.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.io.write_all(&self.outbox[self.written..]).await?;
        self.io.shutdown().await
    }

    /// The same, polled.
    ///
    /// # Errors
    /// As [`Transport::moved`].
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Progress, Lost>> {
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
        if read || written { Poll::Ready(Ok(Progress { read, written })) } else { Poll::Pending }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if self.filled.is_empty() {
            self.filled = 0..0;
        } else if self.inbox.len() - self.filled.end < self.in_bytes_max {
            self.inbox.copy_within(self.filled.clone(), 0);
            self.filled = 0..self.filled.len();
        }
        let mut space = ReadBuf::new(&mut self.inbox[self.filled.end..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space)).map_err(Lost::from)?;
        match space.filled().len() {
            0 => Poll::Ready(Err(Lost::Closed)),
            bytes => {
                self.filled.end += bytes;
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if !self.has_unwritten() || self.unheard {
            return Poll::Pending;
        }
        let wrote = if self.written < self.outbox.len() {
            self.poll_outbox(cx)
        } else {
            Pin::new(&mut self.io).poll_flush(cx).map_ok(|()| self.unflushed = false)
        };
        match ready!(wrote).map_err(Lost::from) {
            Ok(()) => {}
            // What the peer said before it closed is read first: then the read says that it is
            // closed.
            Err(Lost::Closed) => self.unheard = true,
            Err(broken) => return Poll::Ready(Err(broken)),
        }
        if self.unheard { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    /// Writes a part of the outbox. What TLS or a WebSocket keeps of it goes on its way with a
    /// flush, which costs TCP nothing.
    fn poll_outbox(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.io).poll_write(cx, &self.outbox[self.written..]))? {
            0 => self.unheard = true,
            bytes => {
                self.written += bytes;
                self.unflushed = true;
            }
        }
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.outbox.shrink_to(OUTBOX_KEPT_BYTES);
            self.written = 0;
            if let Poll::Ready(flushed) = Pin::new(&mut self.io).poll_flush(cx) {
                flushed?;
                self.unflushed = false;
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that keeps what is written until it is flushed, as TLS does when the socket is
    /// full.
    #[derive(Debug, Default)]
    struct Keeping {
        kept: Vec<u8>,
        sent: Vec<u8>,
        /// Flushes that the socket has no room for.
        full_for: u32,
    }

    impl AsyncRead for Keeping {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Keeping {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.kept.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.full_for > 0 {
                self.full_for -= 1;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let kept = std::mem::take(&mut self.kept);
            self.sent.extend(kept);
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_a_stream_keeps_counts_as_unwritten_until_it_is_flushed() {
        let mut transport = Transport::new(Keeping { full_for: 2, ..Keeping::default() }, 16);
        transport.outbox().extend_from_slice(b"event");
        assert_eq!(transport.moved().await.unwrap(), Progress { read: false, written: true });
        assert!(transport.has_unwritten() && transport.io.sent.is_empty());
        assert_eq!(transport.moved().await.unwrap(), Progress { read: false, written: true });
        assert!(!transport.has_unwritten() && transport.io.kept.is_empty());
        assert_eq!(transport.io.sent, b"event");
    }
}

//! The socket of a connection: one future that writes or reads, a lazy timer, and a close that is
//! heard.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::buffer::InputBuffer;

/// How many bytes of a refused client are still read, so that closing does not reset the connection
/// before it has read why.
const LINGER_BYTES_MAX: usize = 256 * 1024;
/// How long a client that is told why is still read from: see [`linger`].
pub(crate) const LINGER: Duration = Duration::from_millis(500);

/// What a connection reads from and writes to.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin {
    /// Has the system acknowledge at once what was read, where nothing will be written that the
    /// acknowledgement could ride on. It would wait some 40 ms for it, and a client that leaves
    /// Nagle's algorithm on waits with it before it sends the next small packet: Node-RED, and
    /// whatever else is built on npm's mqtt.
    fn acknowledge(&self);
}

impl Wire for TcpStream {
    fn acknowledge(&self) {
        // A failure only costs time.
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.set_quickack(true);
    }
}

impl<Io: Wire> Wire for &mut Io {
    fn acknowledge(&self) {
        (**self).acknowledge();
    }
}

impl<Io: Wire> Wire for Box<Io> {
    fn acknowledge(&self) {
        (**self).acknowledge();
    }
}

/// A timer that is set anew only for an earlier time: deadlines mostly move away, and then it fires
/// early and is asked again.
pub(super) struct Timer<'a> {
    pub sleep: Pin<&'a mut Sleep>,
    pub is_set: bool,
}

impl Timer<'_> {
    pub fn set(&mut self, deadline: Option<Instant>) -> bool {
        let Some(deadline) = deadline else { return false };
        let deadline = deadline.into();
        if !self.is_set || self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
            self.is_set = true;
        }
        true
    }
}

pub(super) enum Exchange {
    Read(usize),
    Wrote(usize),
    /// An error, or the other end closed.
    Broken,
}

pub(super) struct Socket<Io> {
    pub io: Io,
    /// Something was written and not flushed: a TLS stream may hold it back.
    pub unflushed: bool,
}

impl<Io: Wire> Socket<Io> {
    /// Writes some of `output`, or reads if `reads`, whichever can be done first. Cancel-safe.
    pub async fn exchange(&mut self, input: &mut InputBuffer, output: &[u8], reads: bool) -> Exchange {
        if reads {
            input.make_room();
        }
        poll_fn(|context| {
            if let Poll::Ready(wrote) = self.poll_write(context, output) {
                return Poll::Ready(wrote);
            }
            if !reads {
                return Poll::Pending;
            }
            let mut spare = ReadBuf::new(input.spare());
            Pin::new(&mut self.io).poll_read(context, &mut spare).map(|read| match read {
                Ok(()) if !spare.filled().is_empty() => Exchange::Read(spare.filled().len()),
                _ => Exchange::Broken,
            })
        })
        .await
    }

    fn poll_write(&mut self, context: &mut Context<'_>, output: &[u8]) -> Poll<Exchange> {
        let io = Pin::new(&mut self.io);
        if !output.is_empty() {
            self.unflushed = true;
            return io.poll_write(context, output).map(|wrote| match wrote {
                Ok(bytes) if bytes > 0 => Exchange::Wrote(bytes),
                _ => Exchange::Broken,
            });
        }
        if self.unflushed
            && let Poll::Ready(flushed) = io.poll_flush(context)
        {
            self.unflushed = false;
            if flushed.is_err() {
                return Poll::Ready(Exchange::Broken);
            }
        }
        Poll::Pending
    }
}

/// Reads and drops what still comes.
pub(crate) async fn linger<Io: AsyncRead + Unpin>(io: &mut Io) -> std::io::Result<()> {
    let mut dropped = [0; 512];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        match io.read(&mut dropped).await? {
            0 => return Ok(()),
            bytes => left = left.saturating_sub(bytes),
        }
    }
    Ok(())
}

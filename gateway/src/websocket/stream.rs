//! MQTT's bytes in both directions over WebSocket: what reads and writes for the connection, which
//! knows nothing of frames.
//!
//! ```text
//!   socket ─▶ the reader's own buffer ─▶ frames: taken apart there ─▶ connection
//!                                          └ ping ─▶ pong ─┐
//!   socket ◀────────────────── ahead: pong, head, close ◀──┴── payload, not copied ◀─ connection
//! ```
//! A read fills the reader's buffer, and a server's frame is a head before what the writer offers.
//! Hence a demand on the writer: bytes that were offered once are offered again until they are
//! taken, and more only behind them, as a connection's output is. A client has to mask what it
//! sends, and so copies it: `ahead` then holds a frame of [`MASKED_BYTES_MAX`], and a flush is what
//! sends it.
//!
//! Limits: `ahead` holds a pong, a head and a close frame at most beside that. Only the last ping
//! is answered, so pings do not pile up for one that does not read.
//!
//! What ends the input reads as the end of the stream, and [`Stream::ended`] says why; the close
//! frame that answers it goes out with the shutdown.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

use super::frames::{End, Frames, Role, apply_mask};

/// Reads without payload in a row, after which whatever else the connection waits for is looked at.
const READS_AT_ONCE: usize = 16;

/// Longest payload of a frame that a client sends, in bytes: it is copied.
const MASKED_BYTES_MAX: usize = 64 * 1024;

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Stream<Io> {
    io: Io,
    role: Role,
    frames: Frames,
    /// What came with the handshake, behind its head.
    early: Vec<u8>,
    ended: Option<End>,
    /// Goes out before anything else.
    ahead: Vec<u8>,
    /// Bytes of the frame under way that are not written.
    frame_left: usize,
    /// Something was written, or is ahead, and was not flushed.
    unflushed: bool,
    /// No frame follows any more.
    is_closing: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Stream<Io> {
    /// The server's end of `io`, from which `early` was read already.
    pub fn server(io: Io, early: Vec<u8>) -> Self {
        Self::new(io, Role::Server, early)
    }

    /// The client's end of `io`.
    pub fn client(io: Io) -> Self {
        Self::new(io, Role::Client, Vec::new())
    }

    fn new(io: Io, role: Role, early: Vec<u8>) -> Self {
        Stream {
            io,
            role,
            frames: Frames::new(role),
            early,
            ended: None,
            ahead: Vec::new(),
            frame_left: 0,
            unflushed: false,
            is_closing: false,
        }
    }

    /// Why nothing more is read, if so.
    pub fn ended(&self) -> Option<End> {
        self.ended
    }

    /// What it stands on.
    pub fn below(&self) -> &Io {
        &self.io
    }

    /// What it stands on.
    pub fn below_mut(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Puts a head ahead, and gives the mask of what follows it.
    fn put_head(&mut self, opcode: OpCode, payload_bytes: usize) -> io::Result<Option<[u8; 4]>> {
        let mask = match self.role {
            Role::Server => None,
            Role::Client => Some(new_mask()?),
        };
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        header.format(payload_bytes as u64, &mut self.ahead).map_err(io::Error::other)?;
        Ok(mask)
    }

    /// Puts a whole frame ahead.
    fn put_frame(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let mask = self.put_head(opcode, payload.len())?;
        let start = self.ahead.len();
        self.ahead.extend_from_slice(payload);
        if let Some(mut mask) = mask {
            apply_mask(&mut self.ahead[start..], &mut mask);
        }
        Ok(())
    }

    /// Puts a pong ahead, if one is due and no frame is under way.
    fn put_pong(&mut self) -> io::Result<()> {
        if self.frame_left == 0
            && !self.is_closing
            && let Some(payload) = self.frames.take_ping()
        {
            self.put_frame(OpCode::Control(Control::Pong), &payload)?;
        }
        Ok(())
    }

    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ahead.is_empty() {
            let wrote = ready!(Pin::new(&mut self.io).poll_write(context, &self.ahead))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.ahead.drain(..wrote);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Answers a ping, as far as that can be done now. An error is the reader's or the writer's to
    /// find.
    fn answer(&mut self, context: &mut Context<'_>) {
        // One that does not read is sent no more than fits.
        if self.ahead.is_empty() && self.put_pong().is_err() {
            return;
        }
        if self.poll_ahead(context).is_ready()
            && self.unflushed
            && Pin::new(&mut self.io).poll_flush(context).is_ready()
        {
            self.unflushed = false;
        }
    }

    /// Reads once and gives how many of MQTT's bytes came of it; 0 if it was only frames' heads, or
    /// the end.
    fn poll_some(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let start = buffer.filled().len();
        if self.early.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        } else {
            let here = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..here]);
            self.early = self.early.split_off(here);
        }
        let read = &mut buffer.filled_mut()[start..];
        if read.is_empty() {
            self.ended = Some(End::Lost);
            return Poll::Ready(Ok(0));
        }
        let (kept, ended) = self.frames.take(read);
        self.ended = ended;
        buffer.set_filled(start + kept);
        Poll::Ready(Ok(kept))
    }

    /// A client's write: what the socket does not take at once goes out with the flush.
    fn poll_masked(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ahead(context))?;
        self.put_pong()?;
        let payload = &bytes[..bytes.len().min(MASKED_BYTES_MAX)];
        self.put_frame(OpCode::Data(Data::Binary), payload)?;
        self.unflushed = true;
        if let Poll::Ready(Err(error)) = self.poll_ahead(context) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(payload.len()))
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncRead for Stream<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..READS_AT_ONCE {
            if stream.ended.is_some() {
                return Poll::Ready(Ok(()));
            }
            stream.answer(context);
            if ready!(stream.poll_some(context, buffer))? > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        // Frames without payload may come without end: the connection's time limits have their
        // turn.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<Io> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let stream = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if stream.is_closing {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if stream.role == Role::Client {
            return stream.poll_masked(context, bytes);
        }
        if stream.frame_left == 0 {
            stream.put_pong()?;
            stream.put_head(OpCode::Data(Data::Binary), bytes.len())?;
            stream.frame_left = bytes.len();
        }
        let payload = &bytes[..stream.frame_left.min(bytes.len())];
        loop {
            // Head and payload in one packet of TCP and one record of TLS.
            let slices = [IoSlice::new(&stream.ahead), IoSlice::new(payload)];
            let io = Pin::new(&mut stream.io);
            let wrote = if stream.ahead.is_empty() {
                ready!(io.poll_write(context, payload))?
            } else {
                ready!(io.poll_write_vectored(context, &slices))?
            };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_ahead = wrote.min(stream.ahead.len());
            stream.ahead.drain(..of_ahead);
            let of_payload = wrote - of_ahead;
            if of_payload > 0 {
                stream.frame_left -= of_payload;
                return Poll::Ready(Ok(of_payload));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        ready!(stream.poll_ahead(context))?;
        ready!(Pin::new(&mut stream.io).poll_flush(context))?;
        stream.unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Says why by a close frame, unless a frame is under way, whose payload that would be.
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        if !std::mem::replace(&mut stream.is_closing, true) && stream.frame_left == 0 {
            let code = match stream.ended {
                Some(End::Violation(violation)) => Some(violation.code()),
                Some(End::Closed(code)) => code,
                Some(End::Lost) | None => Some(CloseCode::Normal),
            };
            let code = code.map(|code| u16::from(code).to_be_bytes());
            let code = code.as_ref().map_or(&[][..], |code| &code[..]);
            stream.put_frame(OpCode::Control(Control::Close), code)?;
        }
        ready!(stream.poll_ahead(context))?;
        Pin::new(&mut stream.io).poll_shutdown(context)
    }
}

/// What nobody can foresee, so that no payload can be made to look like something else on its way:
/// section 5.3.
fn new_mask() -> io::Result<[u8; 4]> {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(mask)
}

//! What the tests of WebSocket share: frames as a client writes them, and a socket that does as the
//! test says.

mod client;
mod frames;
mod stream;

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const FIN: u8 = 0x80;
const CONTINUE: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A head of a client's frame, with the length in as few bytes as hold it.
fn head(first: u8, length: usize, mask: [u8; 4]) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend((length as u64).to_be_bytes());
        }
    }
    head.extend(mask);
    head
}

/// A client's frame: the byte with its opcode, and its payload.
fn frame_masked(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = head(first, payload.len(), mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_masked(first, payload, MASK)
}

/// A frame of the server, whose form is checked: its first byte, its payload and its length on the
/// wire.
fn server_frame(bytes: &[u8]) -> (u8, &[u8], usize) {
    let (start, length) = match bytes[1] {
        127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
        126 => (4, usize::from(u16::from_be_bytes(bytes[2..4].try_into().unwrap()))),
        short => (2, usize::from(short)),
    };
    assert_eq!(bytes[1] & 0x80, 0, "a server masks nothing");
    (bytes[0], &bytes[start..start + length], start + length)
}

/// All frames that a server wrote.
fn server_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = vec![];
    while !bytes.is_empty() {
        let (first, payload, length) = server_frame(bytes);
        frames.push((first, payload.to_vec()));
        bytes = &bytes[length..];
    }
    frames
}

/// A socket: reads give these pieces and then the end, and a write takes as many bytes as come
/// next; 0 is none now. When there is no number left, it takes all.
#[derive(Debug, Default)]
struct Script {
    reads: VecDeque<Vec<u8>>,
    takes: VecDeque<usize>,
    written: Vec<u8>,
    is_shut: bool,
}

impl Script {
    /// Reads of these sizes, over and over.
    fn reading(bytes: &[u8], sizes: &[usize]) -> Self {
        let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
        let mut reads = VecDeque::new();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
            reads.push_back(piece.to_vec());
            rest = left;
        }
        Script { reads, ..Script::default() }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(mut piece) = self.reads.pop_front() {
            let rest = piece.split_off(piece.len().min(buffer.remaining()));
            buffer.put_slice(&piece);
            if !rest.is_empty() {
                self.reads.push_front(rest);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        assert!(!self.is_shut, "written after the end");
        match self.takes.pop_front() {
            Some(0) => Poll::Pending,
            takes => {
                let taken = takes.unwrap_or(usize::MAX).min(bytes.len());
                self.written.extend_from_slice(&bytes[..taken]);
                Poll::Ready(Ok(taken))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.poll_write(context, &bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        Poll::Ready(Ok(()))
    }
}

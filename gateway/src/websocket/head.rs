//! The head of an HTTP response: what a WebSocket, and a tunnel through a proxy, begin with.
//!
//! It is read byte by byte, and nothing behind it is taken: what follows is another protocol's. So
//! a head costs some hundred reads, once for each connection. Limits: [`HEAD_BYTES_MAX`]; the time
//! is the caller's to limit.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Longest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
const START: &[u8] = b"HTTP/1.";
const END: &[u8] = b"\r\n\r\n";

/// There is no head. What was read of it is gone.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It is not HTTP.
    #[error("what it answers is not HTTP")]
    NotHttp,
    /// It goes on and on.
    #[error("its answer in HTTP is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// The other end closed.
    #[error("it closes the connection without an answer")]
    Closed,
    /// The connection failed.
    #[error("{0}")]
    Io(io::Error),
}

/// Reads a head with the empty line that ends it.
///
/// # Errors
/// [`HeadError`]
pub async fn read_head<Io: AsyncRead + Unpin>(io: &mut Io) -> Result<Vec<u8>, HeadError> {
    let mut head = Vec::new();
    while !head.ends_with(END) {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(HeadError::Closed),
            Err(error) => return Err(HeadError::Io(error)),
        }
        let seen = head.len().min(START.len());
        if head[..seen] != START[..seen] {
            return Err(HeadError::NotHttp);
        }
        if head.len() == HEAD_BYTES_MAX {
            return Err(HeadError::TooLong);
        }
    }
    Ok(head)
}

/// The status in the first line.
#[must_use]
pub fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let digits = line.split(|byte| *byte == b' ').nth(1)?;
    str::from_utf8(digits).ok()?.parse().ok().filter(|status| (100..1000).contains(status))
}

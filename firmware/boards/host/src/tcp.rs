//! tokio's TCP as the core's connection.
//!
//! Limits: one resolved address at a time; buffers of [`READ_BYTES`] and [`WRITE_BYTES`], so that a
//! frame is one segment and a packet's head not a system call per byte.
//!
//! What it does not do: no TLS.

use std::io;
use std::time::Duration;

use embedded_io_adapters::tokio_1::FromTokio;
use embedded_io_async::{ErrorType, Read, Write};
use tidegate_firmware::board::{Connection, Dialer};
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tracing::debug;

const READ_BYTES: usize = 64;
const WRITE_BYTES: usize = crate::FRAME_BYTES_MAX + 128;
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

pub(crate) struct TcpDialer {
    gateway: String,
}

impl TcpDialer {
    /// Dials `gateway`, given as `host:port`.
    pub(crate) fn new(gateway: String) -> Self {
        TcpDialer { gateway }
    }
}

impl Dialer for TcpDialer {
    type Connection<'d> = TcpConnection;

    async fn dial(&mut self) -> Option<TcpConnection> {
        let stream = match TcpStream::connect(&self.gateway).await {
            Ok(stream) => stream,
            Err(reason) => {
                debug!(gateway = self.gateway, %reason, "no connection");
                return None;
            }
        };
        // Without it a frame waits for the acknowledgement of the one before.
        if let Err(reason) = stream.set_nodelay(true) {
            debug!(%reason, "TCP_NODELAY not set");
        }
        let stream = BufStream::with_capacity(READ_BYTES, WRITE_BYTES, stream);
        Some(TcpConnection(FromTokio::new(stream)))
    }
}

pub(crate) struct TcpConnection(FromTokio<BufStream<TcpStream>>);

impl ErrorType for TcpConnection {
    type Error = io::Error;
}

impl Read for TcpConnection {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, io::Error> {
        self.0.read(out).await
    }
}

impl Write for TcpConnection {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, io::Error> {
        self.0.write(bytes).await
    }

    async fn flush(&mut self) -> Result<(), io::Error> {
        self.0.flush().await
    }
}

impl Connection for TcpConnection {
    async fn close(&mut self) {
        // Late or failed, the connection ends all the same when it is dropped.
        let _ = tokio::time::timeout(CLOSE_TIME_MAX, self.0.inner_mut().shutdown()).await;
    }
}

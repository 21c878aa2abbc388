//! embassy-net's TCP as the core's connection.
//!
//! Limits: one connection; buffers of [`BUFFER_BYTES`] each way. A peer that acknowledges nothing
//! for [`SILENT_MAX`] is gone.
//!
//! What it does not do: no name service, no TLS.

use embassy_net::tcp::{Error, TcpSocket};
use embassy_net::{IpEndpoint, Stack};
use embassy_time::{Duration, with_timeout};
use embedded_io_async::{ErrorType, Read, Write};
use tidegate_firmware::board::{Connection, Dialer};

const BUFFER_BYTES: usize = 1024;
const SILENT_MAX: Duration = Duration::from_secs(10);
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// Opens connections to one gateway.
pub struct TcpDialer {
    stack: Stack<'static>,
    gateway: IpEndpoint,
    receive: [u8; BUFFER_BYTES],
    transmit: [u8; BUFFER_BYTES],
}

impl TcpDialer {
    /// Dials `gateway` over `stack`.
    pub fn new(stack: Stack<'static>, gateway: IpEndpoint) -> Self {
        TcpDialer { stack, gateway, receive: [0; BUFFER_BYTES], transmit: [0; BUFFER_BYTES] }
    }
}

impl Dialer for TcpDialer {
    type Connection<'d> = TcpConnection<'d>;

    async fn dial(&mut self) -> Option<TcpConnection<'_>> {
        let mut socket = TcpSocket::new(self.stack, &mut self.receive, &mut self.transmit);
        socket.set_timeout(Some(SILENT_MAX));
        socket.connect(self.gateway).await.ok()?;
        Some(TcpConnection(socket))
    }
}

/// A TCP connection.
pub struct TcpConnection<'d>(TcpSocket<'d>);

impl ErrorType for TcpConnection<'_> {
    type Error = Error;
}

impl Read for TcpConnection<'_> {
    async fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        self.0.read(out).await
    }
}

impl Write for TcpConnection<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.0.write(bytes).await
    }

    /// The stack sends by itself. Its own flush would wait for the peer to acknowledge every byte.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl Connection for TcpConnection<'_> {
    async fn close(&mut self) {
        self.0.close();
        // Late or failed, the connection ends all the same when it is dropped.
        let _ = with_timeout(CLOSE_TIME_MAX, self.0.flush()).await;
    }
}

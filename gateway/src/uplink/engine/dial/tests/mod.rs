//! The way to an upstream over real sockets of this machine: addresses in turn, proxies, and TLS
//! with certificates of every kind.

pub mod certificates;
mod tls;
mod ways;

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;

/// Longest connect in tests that do not wait for its end.
const LIMIT: Duration = Duration::from_secs(20);

impl Dialer {
    /// One for which every name is at these addresses.
    fn with_names(limit: Duration, names: &[SocketAddr]) -> Self {
        Self { names: Some(names.to_vec()), ..Self::new(limit) }
    }

    /// A way to `localhost`, and an echo over it as the engine's handshake.
    async fn echo(&mut self, port: u16, layers: &Layers) -> Result<Stream, String> {
        let target = Target { host: "localhost", port, layers };
        let opened = Box::pin(self.open(&target)).await.map_err(|error| error.to_string())?;
        let shaken: Result<_, OpenError> = self.handshake(echo(opened)).await;
        shaken.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

/// Sends more than fits into any buffer, and has it back.
async fn echo(mut stream: Stream) -> Result<std::io::Result<Stream>, OpenError> {
    let sent: Vec<u8> = (0..300_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    let mut came = vec![0; sent.len()];
    let moved = {
        let (mut reading, mut writing) = tokio::io::split(&mut stream);
        let write = async {
            writing.write_all(&sent).await?;
            writing.flush().await
        };
        tokio::try_join!(write, reading.read_exact(&mut came)).map(drop)
    };
    Ok(moved.map(|()| {
        assert!(came == sent, "other bytes came back");
        stream
    }))
}

/// Gives back what comes, until the other end closes.
async fn give_back<Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(mut io: Io) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(bytes @ 1..) = io.read(&mut buffer).await {
        if io.write_all(&buffer[..bytes]).await.is_err() || io.flush().await.is_err() {
            return;
        }
    }
}

/// A server that does this with every connection, until the test ends.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    address: &str,
    each: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(each(stream));
        }
    });
    address
}

/// An address where nobody listens.
fn closed() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An address that answers nothing, not even to a connect, as long as the answer lives.
async fn black_hole() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = vec![];
    // The queue of those that nobody accepts takes one or two; then the kernel says nothing.
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream);
        assert!(queued.len() < 10, "the queue has no end");
    }
    (address, queued, listener)
}

//! From addresses to one TCP connection: RFC 8305 section 5.
//!
//! ```text
//!   1st ├───────────────────────✗ its limit
//!   2nd      ├──✗ refused: the next one starts at once
//!   3rd         ├────✓ the first to connect is taken, the others are dropped
//!       └─ STAGGER ─┘
//! ```
//! Cancel-safe: what is under way ends with it.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// The next address is tried this long after the one before it, if that has not answered.
/// (RFC 8305 section 8: Connection Attempt Delay)
const STAGGER: Duration = Duration::from_millis(250);

/// An address to which there is no connection, and why.
pub type Failed = (SocketAddr, io::Error);

/// The first of `addresses` that connects, each within `limit`, and those that failed before it.
///
/// # Errors
/// All of them failed.
pub async fn race(
    addresses: Vec<SocketAddr>,
    limit: Duration,
) -> Result<(TcpStream, SocketAddr, Vec<Failed>), Vec<Failed>> {
    let mut waiting = addresses.into_iter().peekable();
    let (mut tries, mut failed) = (JoinSet::new(), Vec::new());
    loop {
        if let Some(address) = waiting.next() {
            tries.spawn(async move { (address, connect(address, limit).await) });
        }
        // A turn for each that fails, and for each that takes its time while others wait.
        let ended = tokio::select! {
            ended = tries.join_next() => ended,
            () = tokio::time::sleep(STAGGER), if waiting.peek().is_some() => continue,
        };
        match ended {
            Some(Ok((address, Ok(stream)))) => return Ok((stream, address, failed)),
            Some(Ok((address, Err(error)))) => failed.push((address, error)),
            Some(Err(panicked)) if panicked.is_panic() => std::panic::resume_unwind(panicked.into_panic()),
            // The runtime ends.
            Some(Err(_)) => {}
            None if waiting.peek().is_none() => return Err(failed),
            None => {}
        }
    }
}

async fn connect(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    let connecting = timeout(limit, TcpStream::connect(address)).await;
    let stream = connecting.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}")))
    })?;
    // The outbox gathers; waiting for more in the kernel would only add latency.
    stream.set_nodelay(true)?;
    Ok(stream)
}

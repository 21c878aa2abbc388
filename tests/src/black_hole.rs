//! An address that answers nothing at all, as one behind a broken route does: packets to it are
//! dropped without a word.
//!
//! It is a listener that accepts nobody and whose queue is full: Linux drops what asks for a
//! connection then.

use std::{
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

/// A connection that is not there by now is not going to be.
const ANSWER_LIMIT: Duration = Duration::from_millis(300);
/// More than any queue of a listener that nobody asked for: `net.core.somaxconn` is 4096.
const QUEUE_MAX: usize = 5000;

/// The black hole, for as long as the value lives.
#[derive(Debug)]
pub struct BlackHole {
    /// Where it is.
    pub address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    /// On the loopback address of IPv6.
    ///
    /// # Panics
    /// There is no such address, or its queue has no end.
    #[must_use]
    pub fn on_ipv6() -> Self {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("loopback has IPv6");
        let address = listener.local_addr().expect("it is bound");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, ANSWER_LIMIT) {
            queue.push(stream);
            assert!(queue.len() <= QUEUE_MAX, "the queue of a listener has an end");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

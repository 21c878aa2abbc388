//! Free TCP ports on loopback for servers that must come back on the same port.
//!
//! They lie below the range from which the kernel takes ports for outgoing connections: otherwise a
//! client that reconnects while the server is down could be given the server's port, and even
//! connect to itself.
//!
//! A port is reserved for this process by holding its UDP twin, which TCP does not mind: two test
//! runs at once on one machine do not take each other's ports while a server is down.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;

const LOWEST: u32 = 10_000;
const COUNT: u32 = 20_000;

/// An address on 127.0.0.1 that nobody listens on, and that is this process's until it ends.
///
/// # Panics
/// No port is free.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    static RESERVED: Mutex<Vec<UdpSocket>> = Mutex::new(vec![]);
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = LOWEST + start.wrapping_add(step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if let Ok(twin) = UdpSocket::bind(address)
            && TcpListener::bind(address).is_ok()
        {
            RESERVED.lock().push(twin);
            return address;
        }
    }
    panic!("no free port from {LOWEST} to {}", LOWEST + COUNT);
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_address_is_given_twice() {
        let all: std::collections::HashSet<_> = (0..100).map(|_| super::free_address()).collect();
        assert_eq!(all.len(), 100);
    }
}

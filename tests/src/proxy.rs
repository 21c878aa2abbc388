//! A TCP proxy that can be cut: the network between the gateway and its upstream.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    sync::atomic::AtomicU64,
    sync::atomic::Ordering,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// What the link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Forwards.
    Open,
    /// Connections are closed, those that come as well. What was under way is lost.
    Cut,
    /// Connections stay, and nothing passes: a router that dropped its table.
    Silent,
}

/// A running proxy. Ends with the value.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    link: watch::Sender<Link>,
    cuts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one that leads to `target`.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (link, state) = watch::channel(Link::Open);
        let cuts = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, target, state, cuts.clone()));
        Self { address, link, cuts, task }
    }

    /// Changes what the link does.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }

    /// Connections that a cut has closed: how many faults really happened.
    #[must_use]
    pub fn cut_connections(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    state: watch::Receiver<Link>,
    cuts: Arc<AtomicU64>,
) {
    // Dropped with this task, and its connections with it.
    let mut connections = JoinSet::new();
    while let Ok((inner, _)) = listener.accept().await {
        if *state.borrow() != Link::Cut {
            connections.spawn(carry(inner, target, state.clone(), cuts.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(inner: TcpStream, target: SocketAddr, state: watch::Receiver<Link>, cuts: Arc<AtomicU64>) {
    let Ok(outer) = TcpStream::connect(target).await else { return };
    let _ = (inner.set_nodelay(true), outer.set_nodelay(true));
    let ((inner_read, inner_write), (outer_read, outer_write)) = (inner.into_split(), outer.into_split());
    let mut cut = state.clone();
    tokio::select! {
        () = pump(inner_read, outer_write, state.clone()) => {}
        () = pump(outer_read, inner_write, state) => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => { cuts.fetch_add(1, Ordering::Relaxed); }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Link>) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        if state.wait_for(|link| *link != Link::Silent).await.is_err() {
            return;
        }
        let Ok(size @ 1..) = from.read(&mut buffer).await else { return };
        if state.wait_for(|link| *link != Link::Silent).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..size]).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cut_closes_what_was_open_and_a_healed_link_carries_again() {
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(target.local_addr().unwrap()).await;
        let mut first = TcpStream::connect(proxy.address).await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        first.write_all(b"a").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        proxy.set(Link::Cut);
        assert!(first.read_u8().await.is_err());
        assert_eq!(proxy.cut_connections(), 1);
        proxy.set(Link::Open);
        let mut second = TcpStream::connect(proxy.address).await.unwrap();
        let (mut far, _) = target.accept().await.unwrap();
        far.write_all(b"b").await.unwrap();
        assert_eq!(second.read_u8().await.unwrap(), b'b');
    }
}

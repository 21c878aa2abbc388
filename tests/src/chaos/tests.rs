//! Each rule by itself, over real sockets.

use std::num::NonZeroU64;

use super::*;
use crate::{clock::within, rng::Rng};

const LIMIT: Duration = Duration::from_secs(20);

/// Both ends of a connection through a proxy.
async fn joined(target: &TcpListener, proxy: &Proxy) -> (TcpStream, TcpStream) {
    let near = TcpStream::connect(proxy.address).await.unwrap();
    let (far, _) = within("the proxy to connect", LIMIT, target.accept()).await.unwrap();
    (near, far)
}

async fn start() -> (TcpListener, Proxy) {
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(target.local_addr().unwrap()).await;
    (target, proxy)
}

/// Nothing comes for a moment: there is nothing to wait for.
async fn is_quiet(stream: &mut TcpStream) -> bool {
    tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn a_cut_closes_what_was_open_and_a_healed_link_carries_again() {
    let (target, proxy) = start().await;
    let (mut first, mut far) = joined(&target, &proxy).await;
    first.write_all(b"a").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'a');
    proxy.set(Link::Cut);
    assert!(first.read_u8().await.is_err());
    assert_eq!(proxy.cut_connections(), 1);
    let mut refused = TcpStream::connect(proxy.address).await.unwrap();
    assert!(refused.read_u8().await.is_err());
    assert_eq!((proxy.cut_connections(), proxy.turned_away()), (1, 1));
    proxy.set(Link::Open);
    let (mut second, mut far) = joined(&target, &proxy).await;
    far.write_all(b"b").await.unwrap();
    assert_eq!(second.read_u8().await.unwrap(), b'b');
}

#[tokio::test]
async fn a_reset_is_seen_at_both_ends() {
    let (target, proxy) = start().await;
    let (mut near, mut far) = joined(&target, &proxy).await;
    proxy.set(Link::Reset);
    for end in [&mut near, &mut far] {
        let error = within("the reset", LIMIT, end.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert_eq!(proxy.cut_connections(), 1);
}

#[tokio::test]
async fn a_half_open_link_holds_what_is_sent_and_closes_nothing() {
    let (target, proxy) = start().await;
    let (mut near, mut far) = joined(&target, &proxy).await;
    proxy.set(Link::HalfOpen);
    near.write_all(b"a").await.unwrap();
    far.write_all(b"b").await.unwrap();
    assert!(is_quiet(&mut near).await && is_quiet(&mut far).await);
    let mut late = TcpStream::connect(proxy.address).await.unwrap();
    late.write_all(b"c").await.unwrap();
    proxy.set(Link::Open);
    assert_eq!((near.read_u8().await.unwrap(), far.read_u8().await.unwrap()), (b'b', b'a'));
    let (mut later, _) = within("the late one", LIMIT, target.accept()).await.unwrap();
    assert_eq!(later.read_u8().await.unwrap(), b'c');
}

#[tokio::test]
async fn a_silent_link_takes_everything_and_its_connections_are_reset_when_it_ends() {
    let (target, proxy) = start().await;
    let (mut standing, _far) = joined(&target, &proxy).await;
    proxy.set(Link::Silent);
    let mut fresh = TcpStream::connect(proxy.address).await.unwrap();
    for end in [&mut standing, &mut fresh] {
        within("the bytes to be taken", LIMIT, end.write_all(&[0; 8 << 20])).await.unwrap();
        assert!(is_quiet(end).await);
    }
    proxy.set(Link::Open);
    for end in [&mut standing, &mut fresh] {
        let error = within("the reset", LIMIT, end.read_u8()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_delay_holds_each_direction_by_itself() {
    let (target, proxy) = start().await;
    let (mut near, mut far) = joined(&target, &proxy).await;
    let up = Way { delay: Duration::from_millis(300), bytes_per_s: None };
    proxy.set_rules(Rules { up, ..Rules::default() });
    let start = now();
    for byte in *b"abc" {
        near.write_all(&[byte]).await.unwrap();
    }
    far.write_all(b"x").await.unwrap();
    assert_eq!(near.read_u8().await.unwrap(), b'x');
    assert!(start.elapsed() < up.delay);
    let mut all = [0; 3];
    far.read_exact(&mut all).await.unwrap();
    assert_eq!(&all, b"abc");
    assert!((up.delay..up.delay * 5).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_throttled_direction_lets_so_many_bytes_pass_in_a_second() {
    let (target, proxy) = start().await;
    let (mut near, mut far) = joined(&target, &proxy).await;
    let down = Way { delay: Duration::ZERO, bytes_per_s: Some(20_000) };
    proxy.set_rules(Rules { down, ..Rules::default() });
    let start = now();
    far.write_all(&[7; 10_000]).await.unwrap();
    let mut all = vec![0; 10_000];
    near.read_exact(&mut all).await.unwrap();
    let took_ms = start.elapsed().as_millis();
    assert!((480..2000).contains(&took_ms), "{took_ms} ms for 10 kB at 20 kB/s");
}

#[tokio::test]
async fn lost_acknowledgements_are_those_of_the_rule() {
    let (target, proxy) = start().await;
    let (mut near, mut far) = joined(&target, &proxy).await;
    let two = NonZeroU64::new(2).unwrap();
    proxy.set_rules(Rules { acks: Acks::DropOneIn(two), ..Rules::default() });
    far.write_all(b"\x20\x02\0\0\x40\x02\0\x01\x40\x02\0\x02\x40\x02\0\x03").await.unwrap();
    let mut read = [0; 12];
    near.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"\x20\x02\0\0\x40\x02\0\x01\x40\x02\0\x03");
    proxy.set_rules(Rules { acks: Acks::DropAll, ..Rules::default() });
    far.write_all(b"\x40\x02\0\x04\xD0\0").await.unwrap();
    assert_eq!(near.read_u16().await.unwrap(), 0xD000);
    assert_eq!(proxy.dropped_acks(), 2);
}

#[tokio::test]
async fn a_connection_is_cut_after_so_many_bytes_to_the_client() {
    let (target, proxy) = start().await;
    proxy.set_rules(Rules { cut_after_bytes: Some(5), ..Rules::default() });
    let (mut near, mut far) = joined(&target, &proxy).await;
    far.write_all(b"\x16 hello, this is no MQTT").await.unwrap();
    let mut read = vec![];
    let _ = within("the cut", LIMIT, near.read_to_end(&mut read)).await;
    assert_eq!(read, b"\x16 hel");
    assert_eq!(proxy.cut_connections(), 1);
}

#[tokio::test]
async fn a_flapping_link_repeats_itself_from_its_seed_and_ends_open() {
    let (target, proxy) = start().await;
    let duration = Duration::from_millis(400);
    let mut counts = vec![];
    for _ in 0..2 {
        let mut rng = Rng::new(7);
        counts.push(flap(&proxy, &mut rng, &Fault::ALL, (1, 20), duration).await);
    }
    assert_eq!(counts[0], counts[1]);
    assert!(counts[0].len() == Fault::ALL.len(), "{counts:?}");
    let (mut near, mut far) = joined(&target, &proxy).await;
    near.write_all(b"a").await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), b'a');
}

//! Clients of the HTTP port that hold on, send slowly or do not read: each is cut off in time, and
//! the others are answered.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Bound, HttpLimits, Settings, bind, serving, turns};

const LIMIT: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);
/// More than the kernel takes for a client that does not read.
const LARGE: usize = 32 << 20;

async fn bound(limits: HttpLimits) -> Bound {
    bind(&Settings { limits, ..Settings::new("127.0.0.1:0".parse().unwrap()) }).await.unwrap()
}

/// `/healthz`, and `/large` that takes turns.
async fn serve(limits: HttpLimits) -> (SocketAddr, DropGuard) {
    let large = turns::take(Router::new().route("/large", get(|| async { vec![b'x'; LARGE] })));
    let pages = Router::new()
        .route("/healthz", get(|| async { "ok\n" }).post(|body: String| async { body }))
        .merge(large);
    let (bound, shutdown) = (bound(limits).await, CancellationToken::new());
    let address = bound.address();
    tokio::spawn(serving::serve(bound, pages, shutdown.clone()));
    (address, shutdown.drop_guard())
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// All that still comes, until the connection is closed.
async fn rest(mut stream: TcpStream) -> String {
    let mut text = vec![];
    let _ = timeout(LIMIT, stream.read_to_end(&mut text)).await.expect("the connection is closed in time");
    String::from_utf8_lossy(&text).into_owned()
}

async fn healthz(address: SocketAddr) -> bool {
    let answer =
        rest(send(address, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await)
            .await;
    answer.starts_with("HTTP/1.1 200") && answer.ends_with("ok\n")
}

fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn beyond_the_limit_the_connection_that_waits_longest_is_closed_and_a_scraper_is_answered() {
    let (address, _up) = serve(HttpLimits { connections_max: 4, ..HttpLimits::default() }).await;
    let mut idle = vec![];
    for _ in 0..30 {
        // Some of them have begun a request.
        idle.push(send(address, if idle.len() % 2 == 0 { "" } else { "GET /healthz HTT" }).await);
        if idle.len() % 10 == 0 {
            assert!(healthz(address).await);
        }
    }
    timeout(LIMIT, async {
        while idle.iter().filter(|stream| is_open(stream)).count() > 4 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("no more stay open than the limit says");
    assert!(!is_open(&idle[0]) && is_open(&idle[29]), "the oldest go first");
    assert!(healthz(address).await);
}

#[tokio::test]
async fn a_head_and_a_body_that_do_not_come_to_an_end_are_given_up() {
    let limits = HttpLimits { head_timeout: SHORT, body_timeout: SHORT, ..HttpLimits::default() };
    let (address, _up) = serve(limits).await;
    for head in ["", "GET /healthz HTTP/1.1\r\nHost:"] {
        assert!(!rest(send(address, head).await).await.contains("200"), "{head:?}");
    }
    let post =
        |length| format!("POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\nabc");
    let answer = rest(send(address, &post(4)).await).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let answer = rest(send(address, &post(serving::BODY_BYTES_MAX + 1)).await).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let whole = rest(send(address, &post(3)).await).await;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.contains("\r\n\r\nabc"), "{whole}");
    let long = format!("GET /healthz HTTP/1.1\r\nA: {}", "a".repeat(2 * serving::HEAD_BYTES_MAX));
    assert!(!rest(send(address, &long).await).await.contains("200"));
}

#[tokio::test]
async fn large_answers_take_turns_and_one_that_is_not_read_is_given_up() {
    let limits = HttpLimits { write_timeout: Duration::from_secs(2), ..HttpLimits::default() };
    let (address, _up) = serve(limits).await;
    let ask = "GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut deaf = vec![];
    for _ in 0..turns::ANSWERS_MAX {
        deaf.push(send(address, ask).await);
    }
    for stream in &deaf {
        timeout(LIMIT, stream.readable()).await.expect("each has its turn").unwrap();
    }
    let waiting = tokio::spawn(rest(send(address, ask).await));
    assert!(healthz(address).await, "what is small takes no turn");
    assert!(!waiting.is_finished(), "it waits for its turn");
    let whole = timeout(LIMIT, waiting).await.expect("a turn is passed on").unwrap();
    assert!(whole.starts_with("HTTP/1.1 200") && whole.len() > LARGE, "{} bytes", whole.len());
    let mut read = vec![];
    for stream in deaf {
        read.push(rest(stream).await.len());
    }
    assert!(read.iter().any(|bytes| *bytes < LARGE), "the one whose turn it was is cut off: {read:?}");
}

#[tokio::test]
async fn a_stop_waits_for_no_idle_connection() {
    let (bound, shutdown) = (bound(HttpLimits::default()).await, CancellationToken::new());
    let address = bound.address();
    let serving = tokio::spawn(serving::serve(bound, Router::new(), shutdown.clone()));
    let _silent = send(address, "").await;
    let served = send(address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    timeout(LIMIT, served.readable()).await.unwrap().unwrap();
    shutdown.cancel();
    timeout(LIMIT, serving).await.expect("it ends by itself").unwrap();
}

#[tokio::test]
async fn a_page_that_gave_its_own_name_our_address_is_refused_with_words() {
    let (address, _up) = serve(HttpLimits::default()).await;
    let ask = async |head: &str| {
        let text = format!("{head}Content-Length: 2\r\nConnection: close\r\n\r\n{{}}");
        rest(send(address, &text).await).await
    };
    let port = address.port();
    let answer = ask(&format!("POST /healthz HTTP/1.1\r\nHost: evil.example:{port}\r\n")).await;
    assert!(
        answer.starts_with("HTTP/1.1 403") && answer.contains("ask for 127.0.0.1 or localhost"),
        "{answer}"
    );
    let answer = ask(&format!(
        "POST /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://evil.example:{port}\r\n"
    ))
    .await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("may change nothing here"), "{answer}");
    for good in [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".into()] {
        let answer =
            ask(&format!("POST /healthz HTTP/1.1\r\nHost: {good}\r\nOrigin: http://{good}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{good}: {answer}");
    }
}

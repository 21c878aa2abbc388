//! Addresses in turn, tunnels through a proxy, and a WebSocket.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{
    super::super::password::{PasswordReader, SecretFile},
    *,
};

#[tokio::test]
async fn a_dead_and_a_black_holed_address_cost_a_moment_and_the_next_one_is_taken() {
    let (hole, _queued, _listener) = black_hole().await;
    let good = serve("127.0.0.1:0", give_back).await;
    let (dead, since) = (closed(), clock::monotonic());
    let mut dialer = Dialer::with_names(LIMIT, &[dead, hole, good]);
    dialer.echo(0, &Layers::default()).await.unwrap();
    assert_eq!(dialer.address(), Some(good));
    assert!(since.elapsed() < LIMIT / 2, "{:?}, the limit of one address", since.elapsed());
    let said: Vec<_> = dialer.done().iter().map(ToString::to_string).collect();
    assert_eq!(said[0], format!("localhost is at {dead}, {hole}, {good}"));
    assert!(said[1].starts_with(&format!("{dead} takes no connection: Connection refused")), "{said:?}");
    assert_eq!(said[2], format!("{good} takes the connection"));
    // What was refused goes last from then on.
    dialer.echo(0, &Layers::default()).await.unwrap();
    assert_eq!(dialer.done()[0].to_string(), format!("localhost is at {hole}, {good}, {dead}"));
}

#[tokio::test]
async fn an_address_that_takes_the_connection_and_never_answers_is_left_for_the_next_one() {
    let heard = Arc::new(Notify::new());
    let hears = heard.clone();
    let silent = serve("127.0.0.1:0", move |mut stream| {
        let hears = hears.clone();
        async move {
            let _ = stream.read_u8().await;
            hears.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let good = serve("127.0.0.1:0", give_back).await;
    let limit = Duration::from_secs(2);
    let mut dialer = Dialer::with_names(limit, &[silent, good]);
    let failed = dialer.echo(0, &Layers::default()).await.unwrap_err();
    assert_eq!(failed, format!("no answer within 1s from {silent}, which took the connection"));
    for _ in 0..3 {
        dialer.echo(0, &Layers::default()).await.unwrap();
        assert_eq!(dialer.address(), Some(good));
    }
    // Dropped in the middle, as delivery does it, it counts all the same.
    let mut dialer = Dialer::with_names(LIMIT, &[silent, good]);
    heard.notified().await;
    let layers = Layers::default();
    tokio::select! {
        ended = dialer.echo(0, &layers) => panic!("{:?}", ended.map(drop)),
        () = heard.notified() => {}
    }
    assert_eq!(dialer.step().to_string(), format!("from {silent}, which took the connection"));
    dialer.echo(0, &Layers::default()).await.unwrap();
    assert_eq!(dialer.address(), Some(good));
}

#[tokio::test]
async fn every_address_that_failed_is_told_with_its_reason() {
    let (hole, _queued, _listener) = black_hole().await;
    let dead = closed();
    let mut dialer = Dialer::with_names(Duration::from_millis(600), &[dead, hole]);
    let failed = dialer.echo(0, &Layers::default()).await.unwrap_err();
    let refused = format!("cannot connect: {dead}: Connection refused (os error 111); ");
    assert_eq!(failed, format!("{refused}{hole}: no answer within 300ms"));
    let layers = Layers::default();
    let target = Target { host: "no-such-host.invalid", port: 1, layers: &layers };
    let failed = Dialer::new(LIMIT).open(&target).await.unwrap_err().to_string();
    // A machine without DNS may wait for it.
    let is_told = failed.starts_with("cannot connect: no-such-host.invalid cannot be looked up: ")
        || failed.ends_with("from DNS about no-such-host.invalid");
    assert!(is_told, "{failed}");
}

/// A proxy that answers this, and then gives back what comes; and what it was asked.
async fn proxy(answer: &'static str) -> (Layers, Arc<parking_lot::Mutex<String>>) {
    let asked = Arc::new(parking_lot::Mutex::new(String::new()));
    let seen = asked.clone();
    let address = serve("127.0.0.1:0", move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut head = vec![];
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap_or(b'\n'));
                if head.len() > 8192 {
                    return;
                }
            }
            *seen.lock() = String::from_utf8(head).unwrap();
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                give_back(stream).await;
            }
        }
    })
    .await;
    let (host, port) = (address.ip().to_string(), address.port());
    let proxy = Some(Proxy { host, port, user: None, password: None });
    (Layers { proxy, ..Layers::default() }, asked)
}

#[tokio::test]
async fn a_tunnel_is_asked_for_by_name_with_a_login_that_is_read_anew_each_time() {
    let (mut layers, asked) = proxy("HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n").await;
    let mut dialer = Dialer::new(LIMIT);
    dialer.echo(8883, &layers).await.unwrap();
    assert_eq!(*asked.lock(), "CONNECT localhost:8883 HTTP/1.1\r\nHost: localhost:8883\r\n\r\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let proxy = layers.proxy.as_mut().unwrap();
    let source = PasswordSource::File(SecretFile::new(file.clone()));
    (proxy.user, proxy.password) = (Some("gate".into()), Some(source));
    let failed = dialer.echo(8883, &layers).await.unwrap_err();
    assert!(failed.starts_with("no password: ") && failed.contains("cannot be read"), "{failed}");
    for (password, login) in [("one", "Z2F0ZTpvbmU="), ("two", "Z2F0ZTp0d28=")] {
        std::fs::write(&file, format!("{password}\n")).unwrap();
        dialer.echo(8883, &layers).await.unwrap();
        assert!(
            asked.lock().contains(&format!("Proxy-Authorization: Basic {login}\r\n")),
            "{}",
            asked.lock()
        );
    }
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_is_told_by_its_cause() {
    for (answer, user, words) in [
        ("HTTP/1.1 407 Login\r\n\r\n", None, "it wants a login: set proxy_user and proxy_password_file"),
        (
            "HTTP/1.1 407 Login\r\n\r\n",
            Some("gate"),
            "it does not accept the user \"gate\" with this password",
        ),
        ("HTTP/1.0 403 Filtered\r\n\r\n", None, "it forbids connections to localhost:8883 (HTTP 403)"),
        ("HTTP/1.1 502 Bad\r\n\r\n", None, "it cannot reach localhost:8883 (HTTP 502)"),
        ("HTTP/1.1 418 Tea\r\n\r\n", None, "it answers HTTP 418 to CONNECT"),
        ("HTTP/1.1 what\r\n\r\n", None, "what it answers is not HTTP; is an HTTP proxy there?"),
        ("SSH-2.0-x\r\n", None, "what it answers is not HTTP; is an HTTP proxy there?"),
    ] {
        let (mut layers, _) = proxy(answer).await;
        layers.proxy.as_mut().unwrap().user = user.map(str::to_owned);
        let failed = Dialer::new(LIMIT).echo(8883, &layers).await.unwrap_err();
        assert!(failed.starts_with("cannot connect through the proxy 127.0.0.1:"), "{failed}");
        assert!(failed.contains(words), "{failed}");
    }
}

#[tokio::test]
async fn a_password_file_that_hangs_is_told_within_its_share_of_the_time_and_read_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "new").unwrap();
    let source = PasswordSource::File(SecretFile::new(file.clone()));
    let good = serve("127.0.0.1:0", give_back).await;
    let mut dialer = Dialer::with_names(LIMIT, &[good, closed()]);
    dialer.echo(0, &Layers::default()).await.unwrap();
    dialer.limit = Duration::from_millis(100);
    let (reader, release) = PasswordReader::that_hangs("old");
    dialer.reader = reader;
    for _ in 0..2 {
        let failed = dialer.password(Some(&source), None).await.unwrap_err();
        let words = format!("no answer within 50ms from the disk about the password in {}", file.display());
        assert_eq!(failed.to_string(), words);
        assert_eq!(dialer.step().to_string(), words["no answer within 50ms ".len()..]);
        // Nothing of the connect before this one.
        assert_eq!((dialer.address(), dialer.done()), (None, &[][..]));
    }
    release.send(()).unwrap();
    dialer.limit = LIMIT;
    let password = dialer.password(Some(&source), None).await.unwrap().unwrap();
    assert!([b"old", b"new"].contains(&password.expose().first_chunk().unwrap()));
    let password = dialer.password(Some(&source), None).await.unwrap();
    assert_eq!(password, Some(Password::new("new")));
    // A proxy's is read as well, before anything is sent.
    let (mut layers, asked) = proxy("HTTP/1.1 200 Connection established\r\n\r\n").await;
    let proxy = layers.proxy.as_mut().unwrap();
    (proxy.user, proxy.password) = (Some("gate".into()), Some(source));
    let mut dialer = Dialer::new(Duration::from_millis(100));
    let (reader, _release) = PasswordReader::that_hangs("old");
    dialer.proxy_reader = reader;
    let failed = dialer.echo(8883, &layers).await.unwrap_err();
    assert!(failed.starts_with("no answer within 50ms from the disk about the password in "), "{failed}");
    assert_eq!(*asked.lock(), "");
}

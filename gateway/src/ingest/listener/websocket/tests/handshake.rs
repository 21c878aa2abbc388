//! Requests and what they are answered with. RFC 6455 section 4.2, MQTT 5 section 6.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use crate::ingest::listener::websocket::handshake::{Refusal, shake};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const UPGRADE: &str = "Host: gate\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";

fn offer(names: &str) -> String {
    format!("Sec-WebSocket-Protocol: {names}\r\n")
}

/// A request with these headers.
fn get(headers: &[&str]) -> String {
    format!("GET /mqtt HTTP/1.1\r\n{}\r\n", headers.concat())
}

/// What a request gets in answer, when it comes in pieces of this size.
async fn ask(request: &[u8], size: usize) -> (Result<Vec<u8>, Refusal>, String) {
    let (mut client, mut server) = duplex(64 * 1024);
    let (request, mut answer) = (request.to_vec(), String::new());
    let asking = async {
        for piece in request.chunks(size) {
            let _ = client.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        client.shutdown().await.unwrap();
        client.read_to_string(&mut answer).await.unwrap();
    };
    let answering = async {
        let shaken = shake(&mut server).await;
        drop(server);
        shaken
    };
    let (_, shaken) = tokio::join!(asking, answering);
    (shaken, answer)
}

#[tokio::test]
async fn a_request_with_the_subprotocol_mqtt_or_with_none_is_accepted_at_any_path_and_from_any_page() {
    let accept = "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for (offered, selected) in [
        (offer("mqtt"), Some("mqtt")),
        (offer("mqttv3.1"), Some("mqttv3.1")),
        (offer("mqttv3.1, mqtt"), Some("mqttv3.1")),
        (offer("wamp,mqtt"), Some("mqtt")),
        (offer("wamp") + &offer("mqtt"), Some("mqtt")),
        (String::new(), None),
    ] {
        for path in ["/", "/mqtt", "/a/b?c=d"] {
            let origin = "Origin: https://page.example\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
            let request = get(&[UPGRADE, KEY, VERSION, &offered, origin])
                .replace("/mqtt HTTP", &format!("{path} HTTP"));
            for size in [1, 7, 4096] {
                let (shaken, answer) = ask((request.clone() + "early").as_bytes(), size).await;
                let early = shaken.unwrap();
                assert!(b"early".starts_with(&early), "{early:?}");
                assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\n"), "{answer}");
                assert!(answer.contains(accept), "{answer}");
                let line = selected.map(|name| format!("sec-websocket-protocol: {name}\r\n"));
                match &line {
                    Some(line) => assert!(answer.contains(line), "{offered}: {answer}"),
                    None => assert!(!answer.contains("sec-websocket-protocol"), "{answer}"),
                }
                assert!(!answer.contains("extensions"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_for_something_else_is_refused_by_its_cause_with_a_status_and_words() {
    let long = format!("Cookie: {}\r\n", "x".repeat(9000));
    let key = |key: &str| format!("Sec-WebSocket-Key: {key}\r\n");
    for (request, refusal, status) in [
        (get(&["Host: gate\r\n"]), Refusal::NoUpgrade, "426"),
        (get(&[KEY, VERSION]), Refusal::NoUpgrade, "426"),
        ("GET / HTTP/1.0\r\n\r\n".into(), Refusal::NoUpgrade, "426"),
        (get(&[UPGRADE, KEY]), Refusal::Version, "426"),
        (get(&[UPGRADE, KEY, "Sec-WebSocket-Version: 8\r\n"]), Refusal::Version, "426"),
        (get(&[UPGRADE, VERSION]), Refusal::Key, "400"),
        (get(&[UPGRADE, VERSION, &key("c2hvcnQ=")]), Refusal::Key, "400"),
        (get(&[UPGRADE, KEY, VERSION, &offer("foo")]), Refusal::Subprotocol, "400"),
        (get(&[UPGRADE, KEY, VERSION, &offer("MQTT, mqtt5")]), Refusal::Subprotocol, "400"),
        (get(&[UPGRADE, KEY, VERSION, "no header\r\n"]), Refusal::Malformed, "400"),
        ("GET / HTTP/2.0\r\n\r\n".into(), Refusal::Malformed, "400"),
        (get(&[UPGRADE, KEY, VERSION, &long]), Refusal::TooLong, "431"),
        ("POST /publish HTTP/1.1\r\n".into(), Refusal::Method, "405"),
        ("\x10\x13\0\x04MQTT".into(), Refusal::Mqtt, ""),
        ("\x16\x03\x01\x02\0\x01".into(), Refusal::Tls, ""),
        ("\0\0".into(), Refusal::NotHttp, ""),
        ("GEL".into(), Refusal::Method, "405"),
        ("GET / HTTP/1.1\r\nHost: ga".into(), Refusal::Closed, ""),
        (String::new(), Refusal::Closed, ""),
    ] {
        for size in [1, 4096] {
            assert_eq!(ask(request.as_bytes(), size).await.0, Err(refusal), "{request:?}");
        }
        let response = refusal.response().unwrap_or_default();
        assert_eq!(response.split(' ').nth(1).unwrap_or_default(), status, "{response}");
        assert!(status.is_empty() || response.ends_with(&format!("\r\n\r\n{refusal}\n")), "{response}");
    }
}

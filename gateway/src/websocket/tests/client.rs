//! The client's end: what it sends is masked and arrives whole, however it is cut, and an answer
//! that is no WebSocket is told by its cause.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;
use crate::websocket::{End, Refused, Stream, Violation, shake_hands};

/// Frames of a client, whose form is checked: the first byte and the payload without its mask.
fn client_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = vec![];
    while !bytes.is_empty() {
        assert_eq!(bytes[1] & 0x80, 0x80, "a client masks everything");
        let (start, length) = match bytes[1] & 0x7f {
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
            126 => (4, usize::from(u16::from_be_bytes(bytes[2..4].try_into().unwrap()))),
            short => (2, usize::from(short)),
        };
        let mask: [u8; 4] = bytes[start..start + 4].try_into().unwrap();
        let masked = &bytes[start + 4..start + 4 + length];
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        frames.push((bytes[0], payload));
        bytes = &bytes[start + 4 + length..];
    }
    frames
}

/// A frame of a server.
fn server_sent(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len(), [0; 4]);
    frame.truncate(frame.len() - 4);
    frame[1] &= 0x7f;
    frame.extend_from_slice(payload);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_writes_of_a_client_arrive_masked_and_whole_however_the_socket_takes_them(
        writes in prop::collection::vec((1..70_000usize, any::<bool>()), 1..8),
        takes in prop::collection::vec(0..5000usize, 0..100),
    ) {
        let io = Script { takes: takes.into(), ..Script::default() };
        let mut stream = Stream::client(io);
        let mut written = vec![];
        let pings = writes.iter().filter(|(_, is_pinged)| *is_pinged).count();
        for (bytes, is_pinged) in writes {
            if is_pinged {
                stream.below_mut().reads.push_back([server_sent(FIN | PING, b"?"), server_sent(FIN | BINARY, b"in")].concat());
                let mut memory = [0; 10];
                let mut buffer = ReadBuf::new(&mut memory);
                super::stream::drive(|context| Pin::new(&mut stream).poll_read(context, &mut buffer)).unwrap();
                prop_assert_eq!(buffer.filled(), b"in");
            }
            let start = written.len();
            written.extend((0..bytes).map(|at| (at * 7) as u8));
            let mut at = start;
            while at < written.len() {
                at += super::stream::drive(|context| Pin::new(&mut stream).poll_write(context, &written[at..])).unwrap();
            }
            super::stream::drive(|context| Pin::new(&mut stream).poll_flush(context)).unwrap();
        }
        super::stream::drive(|context| Pin::new(&mut stream).poll_shutdown(context)).unwrap();
        let mut frames = client_frames(&stream.below().written);
        prop_assert_eq!(frames.pop(), Some((FIN | CLOSE, 1000u16.to_be_bytes().to_vec())));
        let all = frames.len();
        frames.retain(|frame| *frame != (FIN | PONG, b"?".to_vec()));
        // Each ping had a write behind it, which takes its answer along.
        prop_assert_eq!(all - frames.len(), pings);
        prop_assert!(frames.iter().all(|(first, _)| *first == FIN | BINARY));
        prop_assert_eq!(frames.into_iter().flat_map(|(_, payload)| payload).collect::<Vec<_>>(), written);
    }
}

#[tokio::test]
async fn a_server_that_masks_breaks_the_rules_and_one_that_closes_is_told_by_its_code() {
    for (last, end) in [
        (frame(FIN | BINARY, b"masked"), End::Violation(Violation::Masked)),
        (server_sent(FIN | TEXT, b"x"), End::Violation(Violation::Text)),
        (server_sent(FIN | CLOSE, &1008u16.to_be_bytes()), End::Closed(Some(1008.into()))),
        (vec![], End::Lost),
    ] {
        let read = [server_sent(FIN | BINARY, b"before"), last].concat();
        let mut stream = Stream::client(Script::reading(&read, &[3]));
        let mut all = vec![];
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!((&*all, stream.ended()), (&b"before"[..], Some(end)));
    }
}

/// What a client makes of this answer, in which `{accept}` stands for what answers its key.
async fn ask(answer: &str) -> (Result<(), Refused>, String) {
    let (client, mut server) = duplex(64 * 1024);
    let answering = async {
        let mut request = vec![];
        while !request.ends_with(b"\r\n\r\n") {
            request.push(server.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split('\r').next().unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        server.write_all(answer.replace("{accept}", &accept).as_bytes()).await.unwrap();
        server.shutdown().await.unwrap();
        request
    };
    let (shaken, request) = tokio::join!(shake_hands(client, "cloud.example:8083", "/mqtt?a=b"), answering);
    (shaken.map(drop), request)
}

#[tokio::test]
async fn what_is_no_websocket_is_told_by_its_cause_and_a_redirection_is_not_followed() {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n";
    let good = format!("{switching}Sec-WebSocket-Accept: {{accept}}\r\n");
    let (shaken, request) = ask(&format!("{good}Sec-WebSocket-Protocol: mqtt\r\n\r\n")).await;
    shaken.unwrap();
    assert!(request.starts_with("GET /mqtt?a=b HTTP/1.1\r\nHost: cloud.example:8083\r\n"), "{request}");
    assert!(request.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{request}");
    for (answer, words) in [
        (format!("{good}\r\n"), ""),
        (format!("{good}Sec-WebSocket-Protocol: wamp\r\n\r\n"), "chose the subprotocol \"wamp\""),
        (format!("{good}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"), "permessage-deflate"),
        (format!("{switching}Sec-WebSocket-Accept: AAAA\r\n\r\n"), "switches to something else"),
        (format!("{switching}\r\n"), "switches to something else"),
        ("HTTP/1.1 301 Moved\r\nLocation: https://other.example/\u{1b}[1m\r\n\r\n".into(), "no good HTTP"),
        (
            "HTTP/1.1 302 Found\r\nLocation: https://other.example/\r\n\r\n".into(),
            "redirects to \"https://other.example/\" (HTTP 302)",
        ),
        ("HTTP/1.1 401 Unauthorized\r\n\r\n".into(), "wants a login in HTTP already (HTTP 401)"),
        ("HTTP/1.1 404 Not Found\r\n\r\n".into(), "nothing at this path"),
        ("HTTP/1.1 503 Busy\r\n\r\n".into(), "answers HTTP 503"),
        ("HTTP/1.1 200 OK\r\n\r\n".into(), "answers HTTP 200"),
        ("\x20\x02\0\x05".into(), "not HTTP"),
        ("HTTP/1.1 1".into(), "closes the connection without an answer"),
        (format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(9000)), "longer than 8192 bytes"),
    ] {
        let said = ask(&answer).await.0.map_or_else(|refused| refused.to_string(), |()| String::new());
        assert!(said.contains(words) && said.is_empty() == words.is_empty(), "{answer:?}: {said}");
    }
}

//! The handshake and a connection, against a server that says what a test wrote for it.

use std::{future::poll_fn, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{answer, connect::shake_hands, connection::Connection, settings::Settings, wire};
use crate::uplink::{
    engine::{Answer, Connection as _, Lost, Refusal, TokenRange, Verdict, transport::Transport},
    message::{CopyId, Headers, Message, Unsendable, put_header},
    template::Template,
};

const INFO: &str = "INFO {\"headers\":true,\"max_payload\":1000}\r\n";
const LIMIT: Duration = Duration::from_secs(10);

/// The server's end.
struct Server(DuplexStream);

impl Server {
    async fn say(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// What the client says up to `end`.
    async fn hear(&mut self, end: &str) -> String {
        let mut heard = Vec::new();
        while !heard.ends_with(end.as_bytes()) {
            let byte = tokio::time::timeout(LIMIT, self.0.read_u8()).await;
            heard.push(byte.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&heard))).unwrap());
        }
        String::from_utf8(heard).unwrap()
    }
}

fn settings(stream: Option<&str>) -> Settings {
    let template = Template::parse("up/{topic}").unwrap();
    Settings { stream: stream.map(Into::into), ..Settings::new("localhost", "gate".to_owned(), &template) }
}

fn transport(io: DuplexStream) -> Transport<DuplexStream> {
    Transport::new(io, wire::IN_BYTES_MAX)
}

/// A handshake with a server that, after it heard all of it, says what `answer` makes of the inbox.
async fn connect(
    settings: Settings,
    info: &str,
    answer: impl FnOnce(&str) -> String,
) -> (Result<Connection<DuplexStream>, Lost>, Server, String) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut server = Server(theirs);
    server.say(info).await;
    let serve = async {
        let heard = server.hear("PING\r\n").await;
        let (_, rest) = heard.split_once("SUB ").unwrap();
        let inbox = rest.split_once(".* 1\r\n").unwrap().0.to_owned();
        server.say(&answer(&inbox)).await;
        (server, heard, inbox)
    };
    let (connection, (server, heard, inbox)) =
        tokio::join!(shake_hands(transport(ours), &settings, None), serve);
    assert!(heard.starts_with("CONNECT {") && inbox.len() > 30, "{heard}");
    (connection, server, inbox)
}

/// The answer of JetStream to the question about a stream, and the server's pong.
fn said(inbox: &str, answer: &str) -> String {
    format!("MSG {inbox}.stream 1 {}\r\n{answer}\r\nPONG\r\n", answer.len())
}

/// A connection to a server that has the stream.
async fn connected(stream: Option<&str>) -> (Connection<DuplexStream>, Server, String) {
    let found = r#"{"streams":["EVENTS"],"config":{"name":"EVENTS"}}"#;
    let (connection, server, inbox) = connect(settings(stream), INFO, |inbox| said(inbox, found)).await;
    (connection.unwrap(), server, inbox)
}

/// Moves bytes until something was read, and gives all answers.
async fn answers(connection: &mut Connection<DuplexStream>) -> Vec<Answer> {
    let read = async { while !poll_fn(|context| connection.poll(context)).await.unwrap().read {} };
    tokio::time::timeout(LIMIT, read).await.unwrap();
    let mut found = vec![];
    while let Some(answer) = connection.answer().unwrap() {
        found.push(answer);
    }
    found
}

/// Moves bytes until all is written.
async fn flush(connection: &mut Connection<DuplexStream>) {
    while connection.has_unwritten() {
        poll_fn(|context| connection.poll(context)).await.unwrap();
    }
}

fn message<'a>(topic: &'a str, headers: &'a [u8], payload: &'a [u8]) -> Message<'a> {
    let copy_id = CopyId { store: "gate/s-", offset: 7, seq: None };
    Message { topic, copy_id, headers: Headers::new(headers), payload, ..Message::default() }
}

#[tokio::test]
async fn a_handshake_asks_for_the_stream_and_says_what_is_missing() {
    let no = r#"{"streams":null}"#;
    let off = |inbox: &str| format!("HMSG {inbox}.stream 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nPONG\r\n");
    let error = |connection: Result<Connection<DuplexStream>, Lost>| connection.unwrap_err().to_string();
    let (connection, ..) = connect(settings(None), INFO, |inbox| said(inbox, no)).await;
    let words = error(connection);
    assert!(words.contains("no stream takes up.>: create one"), "{words}");
    let missing = r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#;
    let (connection, ..) = connect(settings(Some("EVENTS")), INFO, |inbox| said(inbox, missing)).await;
    let words = error(connection);
    assert!(words.contains("there is no stream EVENTS: create it"), "{words}");
    let (connection, ..) = connect(settings(None), INFO, off).await;
    let words = error(connection);
    assert!(words.contains("JetStream is off"), "{words}");
    let refused = |_: &str| "-ERR 'Authorization Violation'\r\n".to_owned();
    let (connection, ..) = connect(settings(None), INFO, refused).await;
    let lost = connection.unwrap_err();
    assert!(lost.to_string().contains("refuses the connection: Authorization Violation"), "{lost}");
    let no_right = |_: &str| {
        "-ERR 'Permissions Violation for Publish to \"$JS.API.STREAM.NAMES\"'\r\nPING\r\nPONG\r\n".to_owned()
    };
    let (connection, mut server, _) = connect(settings(None), INFO, no_right).await;
    flush(&mut connection.unwrap()).await;
    assert_eq!(server.hear("\r\n").await, "PONG\r\n");
}

#[tokio::test]
async fn a_server_that_cannot_be_used_is_told_what_it_lacks() {
    for (info, words) in [
        ("INFO {}\r\n", "takes no headers"),
        ("INFO {\"headers\":true,\"tls_required\":true}\r\n", "wants TLS"),
        ("+OK\r\n", "not NATS"),
        ("-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded"),
    ] {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        Server(theirs).say(info).await;
        let lost = shake_hands(transport(ours), &settings(None), None).await.unwrap_err();
        assert!(lost.to_string().contains(words), "{lost}");
    }
}

#[tokio::test]
async fn a_message_goes_out_with_its_id_and_the_answer_names_its_token() {
    let (mut connection, mut server, inbox) = connected(Some("EVENTS")).await;
    let mut headers = vec![];
    for (name, value) in [
        ("tidegate-device", "press 7"),
        ("Nats-Rollup", "all"),
        ("nats-ttl", "1"),
        ("a\r\nb", "c"),
        ("", "x"),
    ] {
        put_header(&mut headers, "", name, |out| out.extend_from_slice(value.as_bytes()));
    }
    let sent = Message { content_type: Some("text/csv"), ..message("up/a b", &headers, b"\0\r\n") };
    connection.send(41, &sent).unwrap();
    flush(&mut connection).await;
    let block = "NATS/1.0\r\nNats-Msg-Id: gate/gate/s-7\r\nNats-Expected-Stream: EVENTS\r\n\
                 tidegate-device: press%207\r\nContent-Type: text/csv\r\n\r\n";
    let (heads, whole) = (block.len(), block.len() + 3);
    let expected = format!("HPUB up.a%20b {inbox}.41 {heads} {whole}\r\n{block}\0\r\n\r\n");
    assert_eq!(server.hear("\0\r\n\r\n").await, expected);

    let ack = r#"{"stream":"EVENTS","seq":9}"#;
    let other = r#"{"stream":"OTHER","seq":9}"#;
    let large =
        r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"}}"#;
    let say = |token: &str, text: &str| format!("MSG {inbox}.{token} 1 {}\r\n{text}\r\n", text.len());
    let nobody = format!("HMSG {inbox}.43 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    let text = [
        say("41", ack),
        say("42", large),
        nobody,
        say("44", other),
        say("stream", ack),
        say("-1", ack),
        "MSG elsewhere.5 1 0\r\n\r\n".to_owned(),
        "PONG\r\n".to_owned(),
    ];
    server.say(&text.concat()).await;
    let settled = |token, verdict| Answer::Settled(TokenRange::one(token), verdict);
    assert_eq!(
        answers(&mut connection).await,
        [
            settled(41, Verdict::Accepted),
            settled(42, Verdict::Rejected(Refusal::new("message size exceeds maximum allowed", 10_054))),
            settled(43, Verdict::Retry(answer::NO_RESPONDERS)),
            settled(44, Verdict::Retry(answer::OTHER_STREAM)),
            Answer::Pong,
        ]
    );
}

#[tokio::test]
async fn what_the_server_cannot_take_is_refused_before_anything_is_written() {
    let (mut connection, mut server, _) = connected(None).await;
    let long = vec![0; 2000];
    let too_long = connection.check(&message("up/a", &[], &long)).unwrap_err();
    assert!(matches!(too_long, Unsendable::TooLong { bytes_max: 1000, .. }), "{too_long}");
    assert_eq!(connection.send(1, &message("up/a", &[], &long)), Err(too_long));
    let topic = "x".repeat(4000);
    assert!(matches!(connection.send(1, &message(&topic, &[], b"")), Err(Unsendable::Unfit(_))));
    assert!(!connection.has_unwritten());
    server.say("INFO {\"headers\":true,\"max_payload\":9000}\r\n").await;
    assert_eq!(answers(&mut connection).await, []);
    assert_eq!(connection.check(&message("up/a", &[], &long)), Ok(()), "the server takes more now");
}

#[tokio::test]
async fn an_error_of_the_server_ends_the_connection_and_blames_a_message_where_it_may_be_one() {
    for (words, blames) in [
        ("Permissions Violation for Publish to \"up.a\"", true),
        ("Maximum Payload Violation", true),
        ("Stale Connection", false),
        ("Slow Consumer", false),
        ("Server Shutdown", false),
        ("User Authentication Expired", false),
        ("Something New", false),
    ] {
        let (mut connection, mut server, inbox) = connected(None).await;
        server
            .say(&format!("MSG {inbox}.3 1 22\r\n{{\"stream\":\"E\",\"seq\":1}}\r\n-ERR '{words}'\r\n"))
            .await;
        poll_fn(|context| connection.poll(context)).await.unwrap();
        let accepted = Answer::Settled(TokenRange::one(3), Verdict::Accepted);
        assert_eq!(connection.answer().unwrap(), Some(accepted), "what came before holds");
        let lost = connection.answer().unwrap_err();
        assert_eq!(lost.blames_message(), blames, "{lost}");
        let shown = lost.to_string();
        assert!(
            shown.contains("not name")
                || words.to_lowercase().contains(&shown["the upstream disconnected: ".len()..]),
            "{shown}"
        );
    }
}

//! The command against the very HTTP pages of a gateway, over a store of its own.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{super::main, *};
use crate::{
    http,
    store::{self, Batch, Kind, LetterReason, NewLetter, ReasonCode, Record, Store},
    uplink,
};

/// A store with dead letters behind its HTTP pages, and the runtime that serves them.
struct Served {
    store: Option<Store>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    _up: DropGuard,
    _runtime: tokio::runtime::Runtime,
}

impl Served {
    /// Six letters: 1, 3, 5 are frames of s3, 2, 4, 6 JSON of the client `barn`; received at 1 s, 2
    /// s …
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = store::Settings {
            segment_bytes: 1 << 20,
            dead_letters_max_bytes: 1 << 20,
            ..store::Settings::new(folder.path().join("data"))
        };
        let store = Store::open(settings, &["cloud".into()]).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(fill(&store));
        let shutdown = CancellationToken::new();
        let bound = runtime.block_on(http::bind(&http::Settings::new("127.0.0.1:0".parse().unwrap())));
        let bound = bound.unwrap();
        let address = bound.address();
        let replays = uplink::Replays::new(store.view(), vec![], uplink::EventContext::default());
        let rooms = http::Rooms {
            snapshot: Arc::new(http::Snapshot::default),
            store: store.view(),
            replays,
            outbox: store.outbox(),
            catalog: Default::default(),
            fleet: Default::default(),
        };
        runtime.spawn(http::run(bound, rooms, shutdown.clone()));
        Self { store: Some(store), address, folder, _up: shutdown.drop_guard(), _runtime: runtime }
    }

    fn at(&self) -> At {
        At { http: self.address.to_string() }
    }

    fn command(&self, words: &[&str]) -> u8 {
        let address = self.address.to_string();
        let all = ["tidegate", "dead-letters"].iter().chain(words).copied().chain(["--http", &address]);
        main(all.map(Into::into))
    }

    fn letters(&self) -> u64 {
        self.store.as_ref().unwrap().status().dead_letters
    }

    fn ids(&self, filters: &Filters) -> Vec<u64> {
        let mut ids = Vec::new();
        each(&self.at().gateway(), filters, false, 10_000, |item| {
            ids.push(item.id);
            Ok(())
        })
        .unwrap();
        ids
    }

    fn request(&self, method: &str, path: &str, kind: Option<&str>, body: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let mut answer = agent.run(request.body(body.to_owned()).unwrap()).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    }
}

async fn fill(store: &Store) {
    let reader = store.reader("cloud").unwrap();
    let mut batch = Batch::default();
    batch.push(&record(1));
    let first = store.intake().append(&mut batch).unwrap();
    let mut watermark = store.intake().watermark();
    watermark.wait_for(|watermark| watermark.committed > first).await.unwrap();
    for n in 1..=6 {
        let reason = if n < 4 { "its packet is too large" } else { "the upstream refused it" };
        let letter = NewLetter::new(n, &record(n), LetterReason::new(ReasonCode::Other, reason), 1);
        reader.add_dead_letters(Arc::new(vec![letter])).await.unwrap();
    }
}

fn record(n: u64) -> Record<'static> {
    let frame = n % 2 == 1;
    Record {
        kind: if frame { Kind::Frame } else { Kind::Json },
        events: 1,
        qos: 0,
        urgent: n == 6,
        received_ms: n * 1_000,
        client: "barn",
        topic: if frame { "tg/s3/e" } else { "zigbee2mqtt/door" },
        properties: &[1, 1],
        payload: if frame { &[0xFF, 0x01] } else { b"{\"contact\":true}" },
        ..Record::default()
    }
}

fn filters(change: impl FnOnce(&mut Filters)) -> Filters {
    let mut filters = Filters::default();
    change(&mut filters);
    filters
}

#[test]
fn letters_are_listed_by_every_filter() {
    let served = Served::new();
    for (filters, ids) in [
        (filters(|_| {}), vec![1, 2, 3, 4, 5, 6]),
        (filters(|f| f.reason = Some("TOO large".into())), vec![1, 2, 3]),
        (filters(|f| f.device = Some("s3".into())), vec![1, 3, 5]),
        (filters(|f| f.kind = Some("json".into())), vec![2, 4, 6]),
        (filters(|f| f.uplink = Some("lake".into())), vec![]),
        (filters(|f| f.from = Some("1970-01-01T00:00:05Z".into())), vec![5, 6]),
        // It is 10 s after 1970.
        (filters(|f| f.to = Some("8s".into())), vec![1]),
    ] {
        assert_eq!(served.ids(&filters), ids, "{filters:?}");
    }
    assert_eq!(served.command(&["list"]), 0);
    assert_eq!(served.command(&["list", "--json", "--kind", "json"]), 0);
    assert_eq!(served.command(&["list", "--kind", "jsn"]), 64);
    assert_eq!(served.command(&["list", "--from", "yesterday"]), 64);
}

#[test]
fn one_is_shown_whole_and_one_that_is_not_there_says_so() {
    let served = Served::new();
    let (status, json) = served.request("GET", "/api/dead-letters/2", None, "");
    let item: LetterItem = serde_json::from_str(&json).unwrap();
    assert_eq!((status, item.text.as_deref()), (200, Some("{\"contact\":true}")));
    assert_eq!(
        (item.payload_base64.as_deref(), item.properties_base64.as_deref()),
        (Some("eyJjb250YWN0Ijp0cnVlfQ=="), Some("AQE="))
    );
    let expected = "\
id         2
uplink     cloud
reason     its packet is too large
tries      1
set aside  1970-01-01T00:00:09Z
received   1970-01-01T00:00:02Z
topic      zigbee2mqtt/door
device     barn
client     barn
kind       json, events 1
offset     2
payload    16 B

{\"contact\":true}
";
    assert_eq!(sheet(&LetterItem { set_aside_ms: 9_000, ..item }), expected);
    let (_, json) = served.request("GET", "/api/dead-letters/1", None, "");
    let item: LetterItem = serde_json::from_str(&json).unwrap();
    assert_eq!((item.text.as_deref(), item.payload_base64.as_deref()), (None, Some("/wE=")));

    assert_eq!(served.command(&["show", "2"]), 0);
    assert_eq!(served.command(&["show", "99"]), 64);
    let gone = "there is no dead letter 99: it was dropped, or sent again\n".to_owned();
    assert_eq!(served.request("GET", "/api/dead-letters/99", None, ""), (404, gone));
    assert_eq!(served.request("GET", "/api/dead-letters/two", None, "").0, 400);
}

#[test]
fn an_export_holds_whole_events_and_never_replaces_a_file() {
    let served = Served::new();
    let file = served.folder.path().join("letters.ndjson");
    let words = ["export", "--device", "s3", "--out", file.to_str().unwrap()];
    assert_eq!(served.command(&words), 0);
    let text = std::fs::read_to_string(&file).unwrap();
    let items: Vec<LetterItem> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(items.iter().map(|item| item.id).collect::<Vec<_>>(), [1, 3, 5]);
    assert!(items.iter().all(|item| item.payload_base64.as_deref() == Some("/wE=")));
    assert_eq!(served.command(&words), 73);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert_eq!(served.command(&["export"]), 0);
}

#[test]
fn to_drop_takes_numbers_a_filter_or_the_word_all() {
    let served = Served::new();
    for (words, code, left) in [
        (&["drop"][..], 64, 6),
        (&["drop", "--all", "--device", "s3"], 64, 6),
        (&["drop", "3", "--all"], 64, 6),
        (&["drop", "--kind", "jsn"], 64, 6),
        (&["drop", "99"], 64, 6),
        (&["drop", "3", "4"], 0, 4),
        (&["drop", "--reason", "refused", "--from", "1970-01-01T00:00:06Z"], 0, 3),
        (&["drop", "--device", "s3", "--json"], 0, 1),
        (&["drop", "--all"], 0, 0),
    ] {
        assert_eq!((served.command(words), served.letters()), (code, left), "{words:?}");
    }
    assert_eq!(served.command(&["list"]), 0);
}

#[test]
fn what_changes_something_has_to_say_that_it_is_json() {
    let served = Served::new();
    let all = "{\"all\":true}";
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        assert_eq!(served.request("POST", "/api/dead-letters/drop", kind, all).0, 415);
        assert_eq!(served.request("DELETE", "/api/dead-letters/1", kind, "").0, 415);
    }
    assert_eq!(served.request("POST", "/api/dead-letters/drop", Some("application/json"), "{}").0, 400);
    assert_eq!(served.letters(), 6);
    let json = Some("application/json; charset=utf-8");
    assert_eq!(served.request("DELETE", "/api/dead-letters/1", json, ""), (200, "{\"dropped\":1}".into()));
    assert_eq!(served.request("POST", "/api/dead-letters/drop", json, all), (200, "{\"dropped\":5}".into()));
}

#[test]
fn a_closed_store_and_no_gateway_are_unavailable() {
    let mut served = Served::new();
    served.store.take().unwrap().close();
    assert_eq!(served.command(&["list"]), 69);
    assert_eq!(served.request("GET", "/api/dead-letters", None, "").0, 503);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(main(["tidegate", "dead-letters", "list", "--http", &free.to_string()].map(Into::into)), 69);
}

#[test]
fn a_row_says_what_and_why_and_nothing_that_a_terminal_obeys() {
    let item = LetterItem {
        id: 17,
        uplink: "cloud".into(),
        reason: "the upstream refused it: not authorized (0x87)".into(),
        received_ms: 1_795_507_200_000,
        tries: 1,
        device: "s3\u{1b}[2J".into(),
        kind: "frame".into(),
        payload_bytes: 1536,
        ..LetterItem::default()
    };
    let expected = "      17  2026-11-24T08:00:00Z  cloud         s3\\u001b[2J       frame       1     1.5 KiB  \
                    the upstream refused it: not authorized (0x87)";
    assert_eq!(row(&item), expected);
    assert_eq!(HEADING.find("reason"), expected.find("the upstream"));
}

proptest::proptest! {
    #![proptest_config(crate::printable::hostile::cases())]

    #[test]
    fn no_text_of_a_letter_adds_a_line(text in printable::hostile::text()) {
        let item = LetterItem {
            uplink: text.clone(),
            reason: text.clone(),
            topic: text.clone(),
            device: text.clone(),
            client: text.clone(),
            kind: text,
            ..LetterItem::default()
        };
        printable::hostile::assert_lines(&row(&item), 1);
        printable::hostile::assert_lines(&sheet(&item), 12);
    }
}

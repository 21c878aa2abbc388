//! A closer look at the store over HTTP.
//!
//! ```text
//! GET /api/store/stat     one JSON object: segments, uplinks, what the gateway does to the card
//! GET /api/store/verify   a line for each file as it is checked, and at last {"summary":…}
//! GET /api/store/cat?offset=&from_ms=&to_ms=&device=&kind=&limit=
//!                         a line for each record, {"unreadable":…} where there is none, and at last {"next":OFFSET or null}
//! ```
//! Lines are JSON (NDJSON). Where the store is closed meanwhile the last line is `{"error":…}`.
//! What cannot be meant is 400 with a sentence. They change no event; what a verification finds
//! damaged the gateway mends.
//!
//! Limits: a page of [`CAT_RECORDS_MAX`] records or about [`CAT_BYTES_MAX`] bytes looked through:
//! go on at `next`, until that is null. One verification at a time, for it reads every file; a
//! reader that stalls holds a thread and no more.

use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::{
    Rooms,
    answer::{Json, Refused, blocking},
};
use crate::{
    clock, printable,
    store::{
        Kind,
        inspect::{CatFilter, CatItem, CatLimits, FileReport, Inspector, Missing, Stat, Summary},
    },
};

/// Records of a page at the most.
pub const CAT_RECORDS_MAX: u64 = 10_000;
/// Bytes of rows that are looked through for a page, about.
pub const CAT_BYTES_MAX: u64 = 64 * 1024 * 1024;
const CAT_RECORDS_DEFAULT: u64 = 100;
const PARAMETERS: &str = "offset, from_ms, to_ms, device, kind, limit";
/// Bytes on their way to a client that reads slowly.
const STREAM_BYTES: usize = 64 * 1024;
const NDJSON: &str = "application/x-ndjson";

/// A line of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VerifyLine {
    /// The last one.
    Note(VerifyNote),
    /// A file.
    File(FileReport),
}

/// How a verification ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyNote {
    /// All files were looked at.
    Summary(Summary),
    /// It could not go on.
    Error(String),
}

/// A line between records that is none, or the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatNote {
    /// Records that cannot be read.
    Unreadable {
        /// Where.
        offsets: Missing,
        /// What is the matter.
        why: String,
    },
    /// Where to go on; `None` at the end of the log.
    Next(Option<u64>),
    /// It could not go on.
    Error(String),
}

/// One verification at a time.
#[derive(Clone)]
struct Turn(Arc<Semaphore>);

/// The paths below `/api/store`.
pub(super) fn router() -> Router<Rooms> {
    Router::new()
        .route("/api/store/stat", get(stat))
        .route("/api/store/verify", get(verify))
        .route("/api/store/cat", get(cat))
        .layer(Extension(Turn(Arc::new(Semaphore::new(1)))))
}

async fn stat(State(rooms): State<Rooms>) -> Result<Json<Stat>, Refused> {
    blocking(move || rooms.store.inspector().stat(clock::now())).await.map(Json)
}

async fn verify(State(rooms): State<Rooms>, Extension(turn): Extension<Turn>) -> Result<Response, Refused> {
    let Ok(turn) = turn.0.try_acquire_owned() else {
        let why = "a verification is under way: wait for it to end".to_owned();
        return Err(Refused { status: StatusCode::CONFLICT, why });
    };
    Ok(stream(move |out| {
        let _turn = turn;
        verify_lines(&rooms.store.inspector(), out)
    }))
}

async fn cat(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Result<Response, Refused> {
    let (filter, limits) = parse(query.as_deref().unwrap_or_default())?;
    Ok(stream(move |out| cat_lines(&rooms.store.inspector(), &filter, limits, out)))
}

fn verify_lines(inspector: &Inspector, out: &mut dyn Write) -> io::Result<()> {
    let mut summary = Summary::default();
    let mut checked = || -> Result<(), Ended> {
        for report in inspector.verify()? {
            let report = report?;
            summary.add(&report);
            line(out, &VerifyLine::File(report))?;
            out.flush()?;
        }
        Ok(())
    };
    let note = match checked() {
        Ok(()) => VerifyNote::Summary(summary),
        Err(Ended::Store(why)) => VerifyNote::Error(why),
        Err(Ended::Client(error)) => return Err(error),
    };
    line(out, &VerifyLine::Note(note))
}

fn cat_lines(
    inspector: &Inspector,
    filter: &CatFilter,
    limits: CatLimits,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut written = Ok(());
    let next = inspector.cat(filter, limits, &mut |item| {
        // A client that has gone away gets nothing more; the page's limits end the look.
        if written.is_ok() {
            written = match item {
                CatItem::Record(entry) => line(out, &entry),
                CatItem::Unreadable { offsets, why } => line(out, &CatNote::Unreadable { offsets, why }),
            };
        }
    });
    written?;
    line(out, &next.map_or_else(|error| CatNote::Error(error.to_string()), CatNote::Next))
}

/// Why lines end early.
enum Ended {
    Store(String),
    Client(io::Error),
}

impl From<crate::store::StoreError> for Ended {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Client(error)
    }
}

fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    writeln!(out, "{}", printable::page(&json))
}

/// An answer that is written on a thread that may block, and goes out as it is written.
fn stream(write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) -> Response {
    let (ours, theirs) = tokio::io::duplex(STREAM_BYTES);
    let ours = SyncIoBridge::new(ours);
    tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::new(ours);
        // An error means that the client has gone away.
        let _ = write(&mut out).and_then(|()| out.flush());
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(ReaderStream::new(theirs))).into_response()
}

fn parse(query: &str) -> Result<(CatFilter, CatLimits), Refused> {
    let mut filter = CatFilter::default();
    let mut limits = CatLimits { records: CAT_RECORDS_DEFAULT, bytes: CAT_BYTES_MAX };
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number =
            || value.parse::<u64>().map_err(|_| Refused::bad(format!("{name} is a number, not \"{value}\"")));
        match &*name {
            "offset" => filter.offset = number()?,
            "from_ms" => filter.from_ms = Some(number()?),
            "to_ms" => filter.to_ms = Some(number()?),
            "device" => filter.device = Some(value.into_owned()),
            "kind" => filter.kind = Some(kind(&value)?),
            "limit" => {
                limits.records = number()?;
                if !(1..=CAT_RECORDS_MAX).contains(&limits.records) {
                    return Err(Refused::bad(format!("limit is 1 to {CAT_RECORDS_MAX}, not {value}")));
                }
            }
            _ => return Err(Refused::bad(format!("\"{name}\" is unknown here; known: {PARAMETERS}"))),
        }
    }
    Ok((filter, limits))
}

fn kind(text: &str) -> Result<Kind, Refused> {
    Kind::from_name(text)
        .ok_or_else(|| Refused::bad(format!("kind is frame, json, text or opaque, not \"{text}\"")))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio_util::sync::{CancellationToken, DropGuard};

    use super::super::{Settings, Snapshot, bind, run};
    use super::*;
    use crate::store::{self, Batch, Record, Store};

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_sentence() {
        for (query, word) in [
            ("limit=0", "1 to 10000"),
            ("limit=10001", "1 to 10000"),
            ("offset=-1", "a number"),
            ("from_ms=yesterday", "a number"),
            ("kind=xml", "frame, json, text or opaque"),
            ("colour=red", "known: offset"),
        ] {
            let refused = parse(query).unwrap_err();
            assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
            assert!(refused.why.contains(word), "{query}: {}", refused.why);
        }
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let (filter, limits) =
            parse("offset=5&from_ms=1&to_ms=2&device=barn%2F7&kind=frame&limit=10000").unwrap();
        let expected = CatFilter {
            offset: 5,
            from_ms: Some(1),
            to_ms: Some(2),
            device: Some("barn/7".into()),
            kind: Some(Kind::Frame),
        };
        assert_eq!((filter, limits.records), (expected, CAT_RECORDS_MAX));
        assert_eq!(parse("").unwrap().1.records, CAT_RECORDS_DEFAULT);
    }

    #[test]
    fn lines_are_told_apart() {
        let summary = VerifyLine::Note(VerifyNote::Summary(Summary::default()));
        let json = serde_json::to_string(&summary).unwrap();
        assert!(json.starts_with("{\"summary\":{"), "{json}");
        assert_eq!(serde_json::from_str::<VerifyLine>(&json).unwrap(), summary);
        assert_eq!(serde_json::to_string(&CatNote::Next(None)).unwrap(), "{\"next\":null}");
        assert_eq!(serde_json::from_str::<CatNote>("{\"next\":7}").unwrap(), CatNote::Next(Some(7)));
    }

    /// A store with three hundred records, and where it is looked into.
    async fn serve() -> (Store, SocketAddr, DropGuard, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let settings = store::Settings { segment_bytes: 1 << 20, ..store::Settings::new(folder.path()) };
        let store = Store::open(settings, &["cloud".into()]).unwrap();
        let mut batch = Batch::default();
        for n in 0..300u32 {
            let (kind, topic) = (Kind::Json, if n % 3 == 0 { "tg/a/e" } else { "tg/b/e" });
            let (events, retain, urgent, received_ms, client) = (1, false, false, u64::from(n), "hub");
            let (properties, payload) = (&[][..], &b"{}"[..]);
            batch.push(&Record {
                kind,
                events,
                retain,
                qos: 1,
                local: false,
                device_level: None,
                urgent,
                received_ms,
                client,
                topic,
                properties,
                payload,
            });
        }
        let tickets = batch.tickets();
        let end = store.intake().append(&mut batch).unwrap() + tickets;
        store.intake().watermark().wait_for(|mark| mark.committed >= end).await.unwrap();
        let shutdown = CancellationToken::new();
        let bound = bind(&Settings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let address = bound.address();
        let view = store.view().of_gateway("barn-7", Some(30_000_000_000_000));
        let replays =
            crate::uplink::Replays::new(view.clone(), vec![], crate::uplink::EventContext::default());
        let outbox = store.outbox();
        let rooms = Rooms {
            snapshot: Arc::new(Snapshot::default),
            store: view,
            replays,
            outbox,
            catalog: Default::default(),
            fleet: Default::default(),
        };
        tokio::spawn(run(bound, rooms, shutdown.clone()));
        (store, address, shutdown.drop_guard(), folder)
    }

    async fn ask(address: SocketAddr, path: &str) -> (u16, Vec<String>) {
        let url = format!("http://{address}{path}");
        let ask = move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut answer = agent.get(&url).call().unwrap();
            let body = answer.body_mut().read_to_string().unwrap();
            (answer.status().as_u16(), body.lines().map(str::to_owned).collect())
        };
        tokio::task::spawn_blocking(ask).await.unwrap()
    }

    #[tokio::test]
    async fn the_store_is_counted_checked_and_shown_over_http() {
        let (store, address, _up, _folder) = serve().await;
        let (status, json) = ask(address, "/api/store/stat").await;
        let stat: Stat = serde_json::from_str(&json[0]).unwrap();
        assert_eq!((status, stat.events, stat.uplinks[0].lag_events), (200, 300, Some(300)));
        assert!(stat.run.unwrap().card.unwrap().is_early);

        let (status, lines) = ask(address, "/api/store/verify").await;
        let last = serde_json::from_str::<VerifyLine>(lines.last().unwrap()).unwrap();
        assert!(matches!(last, VerifyLine::Note(VerifyNote::Summary(summary)) if summary.records == 300));
        let first = serde_json::from_str::<VerifyLine>(&lines[0]).unwrap();
        assert!(matches!(first, VerifyLine::File(report) if report.records == 300));
        assert_eq!((status, lines.len()), (200, 4));

        let (status, lines) = ask(address, "/api/store/cat?device=a&limit=70&offset=3").await;
        assert_eq!((status, lines.len()), (200, 71));
        assert!(lines[0].starts_with("{\"offset\":3,\"id\":\"barn-7/"), "{}", lines[0]);
        assert_eq!(lines[70], "{\"next\":211}");
        let (_, lines) = ask(address, "/api/store/cat?from_ms=290").await;
        assert_eq!((lines.len(), lines[10].as_str()), (11, "{\"next\":null}"));

        let (status, sentence) = ask(address, "/api/store/cat?limit=0").await;
        assert_eq!((status, sentence[0].as_str()), (400, "limit is 1 to 10000, not 0"));
        store.close();
        assert_eq!(ask(address, "/api/store/stat").await.0, 503);
        let (_, lines) = ask(address, "/api/store/verify").await;
        assert_eq!(lines, ["{\"error\":\"the store is closed\"}"]);
    }
}

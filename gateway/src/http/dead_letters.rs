//! The dead letters over HTTP.
//!
//! ```text
//! GET    /api/dead-letters?reason=&device=&kind=&uplink=&from_ms=&to_ms=&after=&limit=&whole=
//!                                {"items":[…],"next":ID or null}; without what they carry, unless whole=true
//! GET    /api/dead-letters/ID    one, whole
//! DELETE /api/dead-letters/ID    {"dropped":1}
//! POST   /api/dead-letters/drop  {"reason":…,"device":…,"kind":…,"uplink":…,"from_ms":…,"to_ms":…} or {"all":true}
//!                                {"dropped":N}
//! ```
//! What cannot be meant is 400 with a sentence. A page may be empty although there are more: go on
//! until `next` is null.
//!
//! Limits: a page of [`PAGE_LETTERS_MAX`] letters or about 1 MiB of them.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::HeaderMap,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    Rooms,
    answer::{Json, Refused, blocking, demand_json},
    letter::{LetterItem, LetterPage},
};
use crate::store::{DEAD_LETTER_PAGE_MAX as PAGE_LETTERS_MAX, DeadLetterFilter, Kind};

const PAGE_LETTERS_DEFAULT: usize = 100;
const PARAMETERS: &str = "reason, device, kind, uplink, from_ms, to_ms, after, limit, whole";

/// The paths below `/api/dead-letters`.
pub(super) fn router() -> Router<Rooms> {
    Router::new()
        .route("/api/dead-letters", get(list))
        .route("/api/dead-letters/{id}", get(show).delete(remove))
        .route("/api/dead-letters/drop", post(drop_all))
}

/// How many letters were taken away.
#[derive(Debug, Serialize)]
struct DroppedAnswer {
    dropped: u64,
}

/// Which letters are to be taken away.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct DropRequest {
    all: bool,
    reason: Option<String>,
    device: Option<String>,
    kind: Option<String>,
    uplink: Option<String>,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
}

/// What a listing was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    filter: DeadLetterFilter,
    after: u64,
    limit: usize,
    whole: bool,
}

async fn list(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Result<Json<LetterPage>, Refused> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let page = blocking(move || {
        let page = rooms.store.dead_letters(&query.filter, query.after, query.limit)?;
        Ok(LetterPage::new(&page, query.whole))
    });
    Ok(Json(page.await?))
}

async fn show(State(rooms): State<Rooms>, Path(id): Path<String>) -> Result<Json<LetterItem>, Refused> {
    let id = number("the number of a dead letter", &id)?;
    let letter = blocking(move || Ok(rooms.store.dead_letter(id)?.as_ref().map(LetterItem::whole)));
    Ok(Json(letter.await?.ok_or_else(|| unknown(id))?))
}

async fn remove(
    State(rooms): State<Rooms>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<DroppedAnswer>, Refused> {
    demand_json(&headers)?;
    let id = number("the number of a dead letter", &id)?;
    match blocking(move || rooms.store.remove_dead_letter(id)).await? {
        true => Ok(Json(DroppedAnswer { dropped: 1 })),
        false => Err(unknown(id)),
    }
}

async fn drop_all(
    State(rooms): State<Rooms>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<DroppedAnswer>, Refused> {
    demand_json(&headers)?;
    let filter = filter_to_drop(&body)?;
    let dropped = blocking(move || rooms.store.remove_dead_letters(&filter)).await?;
    tracing::info!(dropped, "dead letters were dropped on request");
    Ok(Json(DroppedAnswer { dropped }))
}

impl Query {
    fn parse(query: &str) -> Result<Self, Refused> {
        let mut asked =
            Self { filter: DeadLetterFilter::default(), after: 0, limit: PAGE_LETTERS_DEFAULT, whole: false };
        let filter = &mut asked.filter;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "reason" => filter.reason = Some(value.into_owned()),
                "device" => filter.device = Some(value.into_owned()),
                "uplink" => filter.uplink = Some(value.into_owned()),
                "kind" => filter.kind = Some(kind(&value)?),
                "from_ms" => filter.from_ms = Some(number("from_ms, in milliseconds since 1970,", &value)?),
                "to_ms" => filter.to_ms = Some(number("to_ms, in milliseconds since 1970,", &value)?),
                "after" => asked.after = number("after, the number of a dead letter,", &value)?,
                "limit" => asked.limit = limit(&value)?,
                "whole" => {
                    let whole = value.parse();
                    asked.whole = whole
                        .map_err(|_| Refused::bad(format!("whole is true or false, not \"{value}\"")))?;
                }
                _ => return Err(Refused::bad(format!("\"{name}\" is unknown here; known: {PARAMETERS}"))),
            }
        }
        Ok(asked)
    }
}

fn filter_to_drop(body: &[u8]) -> Result<DeadLetterFilter, Refused> {
    let asked: DropRequest = serde_json::from_slice(body).map_err(|error| {
        Refused::bad(format!(
            "the body does not say what to drop: {error}; write for example {{\"device\":\"s3\"}} or {{\"all\":true}}"
        ))
    })?;
    let filter = DeadLetterFilter {
        code: None,
        reason: asked.reason,
        device: asked.device,
        kind: asked.kind.as_deref().map(kind).transpose()?,
        uplink: asked.uplink,
        from_ms: asked.from_ms,
        to_ms: asked.to_ms,
    };
    match (filter.is_empty(), asked.all) {
        (true, false) => Err(Refused::bad(
            "the body names nothing to drop; write for example {\"device\":\"s3\"}, or {\"all\":true} for all",
        )),
        (false, true) => Err(Refused::bad("\"all\" does not go with a filter; leave one of them out")),
        _ => Ok(filter),
    }
}

fn kind(name: &str) -> Result<Kind, Refused> {
    let names = Kind::ALL.map(Kind::name).join(", ");
    Kind::from_name(name).ok_or_else(|| Refused::bad(format!("kind is one of {names}, not \"{name}\"")))
}

fn limit(text: &str) -> Result<usize, Refused> {
    let limit = text.parse().ok().filter(|limit| (1..=PAGE_LETTERS_MAX).contains(limit));
    limit.ok_or_else(|| Refused::bad(format!("limit is 1 to {PAGE_LETTERS_MAX}, not \"{text}\"")))
}

fn number(what: &str, text: &str) -> Result<u64, Refused> {
    text.parse().map_err(|_| Refused::bad(format!("{what} is a whole number, not \"{text}\"")))
}

fn unknown(id: u64) -> Refused {
    Refused::missing(format!("there is no dead letter {id}: it was dropped, or sent again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_cannot_be_meant_says_what_is_allowed() {
        let asked = Query::parse(
            "reason=too+large&device=s%2F3&kind=json&uplink=cloud&from_ms=1&to_ms=2&after=9&limit=1000&whole=true",
        );
        let filter = DeadLetterFilter {
            code: None,
            reason: Some("too large".into()),
            device: Some("s/3".into()),
            kind: Some(Kind::Json),
            uplink: Some("cloud".into()),
            from_ms: Some(1),
            to_ms: Some(2),
        };
        assert_eq!(asked, Ok(Query { filter, after: 9, limit: 1000, whole: true }));
        assert_eq!(Query::parse("").unwrap().limit, PAGE_LETTERS_DEFAULT);
        for (query, why) in [
            ("kind=jsn", "kind is one of frame, json, text, opaque, not \"jsn\""),
            ("limit=0", "limit is 1 to 1000, not \"0\""),
            ("limit=1001", "limit is 1 to 1000, not \"1001\""),
            ("from_ms=2h", "from_ms, in milliseconds since 1970, is a whole number, not \"2h\""),
            ("after=-1", "after, the number of a dead letter, is a whole number, not \"-1\""),
            ("whole=yes", "whole is true or false, not \"yes\""),
            (
                "reson=x",
                "\"reson\" is unknown here; known: reason, device, kind, uplink, from_ms, to_ms, after, limit, whole",
            ),
        ] {
            assert_eq!(Query::parse(query), Err(Refused::bad(why)), "{query}");
        }
    }

    #[test]
    fn what_to_drop_has_to_be_named() {
        assert_eq!(filter_to_drop(b"{\"all\":true}").unwrap(), DeadLetterFilter::default());
        let device = filter_to_drop(b"{\"device\":\"s3\"}").unwrap();
        assert_eq!(device.device.as_deref(), Some("s3"));
        for (body, why) in [
            ("{}", "names nothing to drop"),
            ("", "does not say what to drop"),
            ("{\"dev\":\"s3\"}", "unknown field `dev`, expected one of"),
            ("{\"kind\":\"jsn\"}", "kind is one of frame, json, text, opaque"),
            ("{\"all\":true,\"kind\":\"json\"}", "leave one of them out"),
        ] {
            let refused = filter_to_drop(body.as_bytes()).unwrap_err();
            assert!(refused.why.contains(why), "{body}: {}", refused.why);
        }
    }
}

//! Commands to devices over HTTP.
//!
//! ```text
//! POST   /api/commands             {"device":…, "payload":… or "payload_base64":… or "json":…, "id":…, "expires_in":"2h"}
//!                                  201 with the command; 200 where it is known by its id
//! GET    /api/commands?device=&state=&limit=   {"items":[…]}, newest first, without what they carry
//! GET    /api/commands/ID?device=  one, whole
//! DELETE /api/commands/ID?device=  cancels one that waits; one
//! ```
//! An answer to POST means that the command is on disk. 400 for what cannot be read, 409 for an id
//! that stands for another command, or one that waits no more, 413 for a payload that is too long,
//! 422 for what cannot be meant, 507 where there is no room, each with a sentence.
//!
//! Limits: those of the outbox; a list of [`LIST_MAX`].

use std::time::Duration;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Rooms,
    answer::{Json, Refused, demand_json},
    command::{CommandItem, CommandList, CommandRequest},
};
use crate::{
    clock,
    store::{Change, CommandFilter, CommandState, NewCommand, NewId, Put, PutError, StoreError},
};

/// Commands of a list, at most.
const LIST_MAX: usize = 1000;
const LIST_DEFAULT: usize = 100;
/// What a command over HTTP says of where it comes from.
const ORIGIN: &str = "http";
const JSON: &str = "application/json";

/// The paths below `/api/commands`.
pub(super) fn router() -> Router<Rooms> {
    Router::new()
        .route("/api/commands", get(list).post(send))
        .route("/api/commands/{id}", get(show).delete(cancel))
}

/// What a listing was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    filter: CommandFilter,
    limit: usize,
}

async fn send(
    State(rooms): State<Rooms>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<CommandItem>), Refused> {
    demand_json(&headers)?;
    let request: CommandRequest = serde_json::from_slice(&body).map_err(|error| {
        Refused::bad(format!(
            "the body does not say what to send: {error}; write for example {{\"device\":\"stall-3\",\"payload\":\"on\"}}"
        ))
    })?;
    let (payload, content_type) = payload_of(&request)?;
    let now_ms = clock::wall_ms();
    let expires_ms = request.expires_in.as_deref().map(|text| expiry(text, now_ms)).transpose()?;
    let put = blocking(move || {
        let new = NewCommand {
            device: &request.device,
            id: request.id.as_deref().map_or(NewId::Made, NewId::Given),
            payload: &payload,
            content_type: content_type.as_deref(),
            expires_ms,
            origin: ORIGIN,
        };
        rooms.outbox.put(&new, now_ms)
    });
    Ok(match put.await?? {
        Put::Taken(command) => (StatusCode::CREATED, Json(CommandItem::whole(&command))),
        Put::Known(command) => (StatusCode::OK, Json(CommandItem::whole(&command))),
    })
}

async fn list(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Result<Json<CommandList>, Refused> {
    let query = Query::parse(query.as_deref().unwrap_or_default())?;
    let commands = rooms.outbox.list(&query.filter, query.limit);
    Ok(Json(CommandList { items: commands.iter().map(|command| CommandItem::head(command)).collect() }))
}

async fn show(
    State(rooms): State<Rooms>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<CommandItem>, Refused> {
    let device = device_of(query.as_deref().unwrap_or_default())?;
    let command = rooms.outbox.get(&device, &id).ok_or_else(|| unknown(&device, &id))?;
    Ok(Json(CommandItem::whole(&command)))
}

async fn cancel(
    State(rooms): State<Rooms>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<CommandItem>, Refused> {
    demand_json(&headers)?;
    let device = device_of(query.as_deref().unwrap_or_default())?;
    let now_ms = clock::wall_ms();
    let missing = unknown(&device, &id);
    let done = blocking(move || {
        rooms.outbox.apply(&[Change::Cancelled { device: &device, id: &id }], now_ms).map_err(PutError::Store)
    });
    let command = done.await??.pop().flatten().ok_or(missing)?;
    match command.state {
        CommandState::Cancelled => Ok(Json(CommandItem::whole(&command))),
        state => Err(Refused {
            status: StatusCode::CONFLICT,
            why: format!("the command {:?} waits no more: it is {}", command.id, state.name()),
        }),
    }
}

impl Query {
    fn parse(query: &str) -> Result<Self, Refused> {
        let mut asked = Self { filter: CommandFilter::default(), limit: LIST_DEFAULT };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "device" => asked.filter.device = Some(value.into_owned()),
                "state" => asked.filter.state = Some(state(&value)?),
                "limit" => asked.limit = limit(&value)?,
                _ => {
                    return Err(Refused::bad(format!(
                        "\"{name}\" is unknown here; known: device, state, limit"
                    )));
                }
            }
        }
        Ok(asked)
    }
}

fn state(name: &str) -> Result<CommandState, Refused> {
    let names = CommandState::ALL.map(CommandState::name).join(", ");
    CommandState::from_name(name)
        .ok_or_else(|| Refused::bad(format!("state is one of {names}, not \"{name}\"")))
}

fn limit(text: &str) -> Result<usize, Refused> {
    let limit = text.parse().ok().filter(|limit| (1..=LIST_MAX).contains(limit));
    limit.ok_or_else(|| Refused::bad(format!("limit is 1 to {LIST_MAX}, not \"{text}\"")))
}

/// The one parameter that a single command needs.
fn device_of(query: &str) -> Result<String, Refused> {
    let mut device = None;
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "device" => device = Some(value.into_owned()),
            _ => return Err(Refused::bad(format!("\"{name}\" is unknown here; known: device"))),
        }
    }
    device.ok_or_else(|| Refused::bad("an id is one device's: say which, like ?device=stall-3"))
}

/// The payload that a request carries, and what it is.
fn payload_of(request: &CommandRequest) -> Result<(Vec<u8>, Option<String>), Refused> {
    let kind = || request.content_type.clone();
    match (&request.payload, &request.payload_base64, &request.json) {
        (Some(text), None, None) => Ok((text.clone().into_bytes(), kind())),
        (None, Some(text), None) => {
            let bytes = STANDARD.decode(text);
            Ok((bytes.map_err(|error| unmeant(format!("payload_base64 is no base64: {error}")))?, kind()))
        }
        (None, None, Some(json)) => {
            Ok((json.to_string().into_bytes(), Some(kind().unwrap_or_else(|| JSON.to_owned()))))
        }
        _ => Err(unmeant("a command has one payload: one of \"payload\", \"payload_base64\" and \"json\"")),
    }
}

fn expiry(text: &str, now_ms: u64) -> Result<u64, Refused> {
    let wrong = || unmeant(format!("expires_in is \"{text}\"; write it like \"2h\" or \"3days\""));
    let wait: Duration = humantime::parse_duration(text).map_err(|_| wrong())?;
    Ok(now_ms.saturating_add(u64::try_from(wait.as_millis()).map_err(|_| wrong())?))
}

fn unmeant(why: impl Into<String>) -> Refused {
    Refused { status: StatusCode::UNPROCESSABLE_ENTITY, why: why.into() }
}

fn unknown(device: &str, id: &str) -> Refused {
    Refused::missing(format!("the device {device} has no command {id:?}: none that is known still"))
}

impl From<PutError> for Refused {
    fn from(error: PutError) -> Self {
        let status = match &error {
            PutError::Device(_) | PutError::Id { .. } | PutError::ContentType { .. } | PutError::Expiry => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            PutError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            PutError::Conflict { .. } => StatusCode::CONFLICT,
            PutError::Full(_) => StatusCode::INSUFFICIENT_STORAGE,
            PutError::Store(error) if error.is_no_space() => StatusCode::INSUFFICIENT_STORAGE,
            PutError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, why: error.to_string() }
    }
}

/// Asks the outbox on a thread that may block.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, PutError> + Send + 'static,
) -> Result<Result<T, PutError>, Refused> {
    super::answer::blocking(move || Ok::<_, StoreError>(ask())).await
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ask, serve},
        *,
    };
    use crate::http::Snapshot;

    const SAID: Option<&str> = Some(JSON);

    #[tokio::test]
    async fn a_command_is_sent_known_again_listed_shown_and_cancelled() {
        let (address, _up) = serve(Snapshot::default()).await;
        let body = r#"{"device":"stall-3","json":{"fan": "on"},"id":"f:1","expires_in":"2h"}"#;
        for status in [201, 200] {
            let (answered, said) = ask(address, "POST", "/api/commands", SAID, body).await;
            let item: CommandItem = serde_json::from_str(&said).unwrap();
            assert_eq!((answered, item.payload.as_deref()), (status, Some("{\"fan\":\"on\"}")));
            assert_eq!((item.id.as_str(), item.content_type.as_deref()), ("f:1", SAID));
            assert_eq!(item.expires_ms - item.created_ms, 2 * 3600 * 1000);
        }
        let made = r#"{"device":"stall-3","payload_base64":"/wA="}"#;
        let (_, said) = ask(address, "POST", "/api/commands", SAID, made).await;
        let made: CommandItem = serde_json::from_str(&said).unwrap();
        assert_eq!((made.payload, made.payload_bytes), (None, 2));
        let (_, said) = ask(address, "GET", "/api/commands?device=stall-3&state=pending", None, "").await;
        let list: CommandList = serde_json::from_str(&said).unwrap();
        let ids: Vec<_> = list.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, [made.id.as_str(), "f:1"]);
        let path = "/api/commands/f:1?device=stall-3";
        for (method, status, state) in
            [("DELETE", 200, "cancelled"), ("DELETE", 200, "cancelled"), ("GET", 200, "cancelled")]
        {
            let (answered, said) = ask(address, method, path, SAID, "").await;
            assert!(answered == status && said.contains(state), "{method}: {answered} {said}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_refused_with_a_sentence() {
        let (address, _up) = serve(Snapshot::default()).await;
        let first = r#"{"device":"a","payload":"on","id":"x"}"#;
        assert_eq!(ask(address, "POST", "/api/commands", SAID, first).await.0, 201);
        let large = format!(r#"{{"device":"a","payload":"{}"}}"#, "x".repeat(65_537));
        for (method, path, kind, body, status, sentence) in [
            ("POST", "", None, first, 415, "Content-Type: application/json"),
            ("POST", "", SAID, "{", 400, "does not say what to send"),
            ("POST", "", SAID, r#"{"devise":"a"}"#, 400, "unknown field `devise`"),
            ("POST", "", SAID, r#"{"device":"a"}"#, 422, "one of \"payload\""),
            ("POST", "", SAID, r#"{"device":"a","payload":"x","json":1}"#, 422, "one of \"payload\""),
            ("POST", "", SAID, r#"{"device":"a","payload_base64":"?"}"#, 422, "no base64"),
            ("POST", "", SAID, r#"{"device":"A","payload":"x"}"#, 422, "made of a-z, 0-9 and -"),
            ("POST", "", SAID, r#"{"device":"a","payload":"x","id":"?"}"#, 422, "an id is 1 to 64"),
            ("POST", "", SAID, r#"{"device":"a","payload":"x","expires_in":"soon"}"#, 422, "like \"2h\""),
            (
                "POST",
                "",
                SAID,
                r#"{"device":"a","payload":"x","expires_in":"31days"}"#,
                422,
                "within 30 days",
            ),
            ("POST", "", SAID, r#"{"device":"a","payload":"off","id":"x"}"#, 409, "choose another id"),
            ("POST", "", SAID, &large, 413, "at most 65536"),
            ("GET", "/x", None, "", 400, "say which, like ?device=stall-3"),
            ("GET", "/x?device=b", None, "", 404, "has no command \"x\""),
            ("GET", "?state=gone", None, "", 400, "state is one of pending, delivered"),
            ("GET", "?limit=0", None, "", 400, "limit is 1 to 1000"),
            ("GET", "?after=1", None, "", 400, "known: device, state, limit"),
            ("DELETE", "/x?device=a", None, "", 415, "Content-Type: application/json"),
            ("DELETE", "/y?device=a", SAID, "", 404, "has no command \"y\""),
        ] {
            let (answered, said) = ask(address, method, &format!("/api/commands{path}"), kind, body).await;
            assert!(
                answered == status && said.contains(sentence),
                "{method} {path} {body}: {answered} {said}"
            );
        }
    }

    #[tokio::test]
    async fn a_full_outbox_says_so() {
        let (address, _up) = serve(Snapshot::default()).await;
        let send = |n| async move {
            let body = format!(r#"{{"device":"a","payload":"x","id":"c{n}"}}"#);
            ask(address, "POST", "/api/commands", SAID, &body).await
        };
        for n in 0..crate::store::DEVICE_PENDING_MAX {
            assert_eq!(send(n).await.0, 201);
        }
        let (status, said) = send(1_000_000).await;
        assert!(status == 507 && said.contains("100 commands wait for this device"), "{status} {said}");
    }
}

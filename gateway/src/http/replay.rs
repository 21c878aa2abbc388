//! Replays over HTTP.
//!
//! ```text
//! POST   /api/replay     a ReplayRequest as JSON; 201 with its first Progress
//! GET    /api/replay     all that are known, oldest first: [Progress, …]
//! GET    /api/replay/ID  one Progress
//! DELETE /api/replay/ID  cancels it: it ends soon; one Progress
//! ```
//! 400 for what cannot be meant, 404 for an uplink or a replay that there is not, 409 where it
//! cannot be started now, each with a sentence.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::get,
};

use super::{
    Rooms,
    answer::{Json, Refused, demand_json},
};
use crate::uplink::{self, Progress, REMEMBERED_MAX, Request};

/// The paths below `/api/replay`.
pub(super) fn router() -> Router<Rooms> {
    Router::new()
        .route("/api/replay", get(list).post(start))
        .route("/api/replay/{id}", get(show).delete(cancel))
}

async fn list(State(rooms): State<Rooms>) -> Json<Vec<Progress>> {
    Json(rooms.replays.list())
}

async fn start(
    State(rooms): State<Rooms>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Progress>), Refused> {
    demand_json(&headers)?;
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        Refused::bad(format!(
            "the body does not say what to replay: {error}; write for example \
             {{\"uplink\":\"cloud\",\"what\":{{\"stored\":{{\"from_ms\":0,\"to_ms\":1000}}}}}}"
        ))
    })?;
    Ok((StatusCode::CREATED, Json(rooms.replays.start(request)?)))
}

async fn show(State(rooms): State<Rooms>, Path(id): Path<String>) -> Result<Json<Progress>, Refused> {
    rooms.replays.progress(&id).map(Json).ok_or_else(|| unknown(&id))
}

async fn cancel(
    State(rooms): State<Rooms>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Progress>, Refused> {
    demand_json(&headers)?;
    rooms.replays.cancel(&id).map(Json).ok_or_else(|| unknown(&id))
}

fn unknown(id: &str) -> Refused {
    Refused::missing(format!(
        "there is no replay {id:?}: a replay ends with the gateway that ran it, and the last {REMEMBERED_MAX} that ended are \
         remembered"
    ))
}

impl From<uplink::Refused> for Refused {
    fn from(refused: uplink::Refused) -> Self {
        let status = match refused {
            uplink::Refused::UnknownUplink { .. } => StatusCode::NOT_FOUND,
            uplink::Refused::EmptyRange | uplink::Refused::LongDevice { .. } => StatusCode::BAD_REQUEST,
            uplink::Refused::Paused { .. } | uplink::Refused::TooMany { .. } | uplink::Refused::Stopping => {
                StatusCode::CONFLICT
            }
        };
        Self { status, why: refused.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ask, serve},
        *,
    };
    use crate::http::Snapshot;

    const JSON: Option<&str> = Some("application/json");

    #[tokio::test]
    async fn what_cannot_be_replayed_is_refused_with_a_sentence() {
        let (address, _up) = serve(Snapshot::default()).await;
        let range = |uplink: &str, to: u64| {
            format!(r#"{{"uplink":"{uplink}","what":{{"stored":{{"from_ms":5,"to_ms":{to}}}}}}}"#)
        };
        for (method, path, kind, body, status, sentence) in [
            ("POST", "", None, range("cloud", 9), 415, "Content-Type: application/json"),
            ("POST", "", Some("text/plain"), range("cloud", 9), 415, "Content-Type: application/json"),
            ("POST", "", JSON, "{}".to_owned(), 400, "does not say what to replay"),
            ("POST", "", JSON, range("cloud", 5), 400, "nothing lies between them"),
            ("POST", "", JSON, range("clout", 9), 404, "this gateway has: cloud"),
            ("GET", "/none", None, String::new(), 404, "no replay \"none\""),
            ("DELETE", "/none", JSON, String::new(), 404, "no replay \"none\""),
            ("DELETE", "/none", None, String::new(), 415, "Content-Type: application/json"),
        ] {
            let (answered, said) = ask(address, method, &format!("/api/replay{path}"), kind, &body).await;
            assert!(
                answered == status && said.contains(sentence),
                "{method} {path} {body}: {answered} {said}"
            );
        }
        assert_eq!(ask(address, "GET", "/api/replay", None, "").await, (200, "[]".to_owned()));
    }

    #[tokio::test]
    async fn a_replay_is_started_followed_and_listed() {
        let (address, _up) = serve(Snapshot::default()).await;
        let body = r#"{"uplink":"cloud","dry_run":true,"what":{"stored":{"from_ms":5,"to_ms":6}}}"#;
        let (status, json) = ask(address, "POST", "/api/replay", JSON, body).await;
        let started: Progress = serde_json::from_str(&json).unwrap();
        assert_eq!(status, 201, "{json}");
        let path = format!("/api/replay/{}", started.id);
        let limit = crate::clock::monotonic() + std::time::Duration::from_secs(20);
        loop {
            let (status, json) = ask(address, "GET", &path, None, "").await;
            let progress: Progress = serde_json::from_str(&json).unwrap();
            assert_eq!((status, &progress.request), (200, &started.request));
            if progress.state == uplink::State::Complete {
                break;
            }
            assert!(crate::clock::monotonic() < limit, "{json}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let (_, json) = ask(address, "GET", "/api/replay", None, "").await;
        assert_eq!(serde_json::from_str::<Vec<Progress>>(&json).unwrap().len(), 1);
        assert_eq!(ask(address, "DELETE", &path, JSON, "").await.0, 200);
    }
}

//! Uplinks over HTTP: how each does, to pause and to resume one, and the places that are kept of
//! those that are not configured any more.
//!
//! ```text
//! GET  /api/uplinks              [UplinkView, …]: those of the configuration, then those that are not in it
//! POST /api/uplinks/NAME/pause   nothing is sent until it is resumed: a Paused, once that is durable
//! POST /api/uplinks/NAME/resume  it is sent again: a Paused, once that is durable
//! POST /api/uplinks/NAME/forget  forgets the place of one that is not configured: a Forgotten, once that is durable
//! ```
//! 404 for a name of which there is no uplink, or no place is kept, 409 to forget an uplink that is
//! configured, 503 where the store cannot save it.

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::{
    Rooms, UplinkView,
    answer::{Json, Refused, demand_json, failed},
    look::{look, set_backlog},
};
use crate::{
    clock,
    store::{ForgetError, PauseError},
};

/// An uplink's place that is forgotten, and what it will not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Its name.
    pub name: String,
    /// Events that waited for it.
    pub events: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// An uplink that is paused, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Its name.
    pub name: String,
    /// It is paused now.
    pub paused: bool,
    /// Since when it is, or was, wall clock, milliseconds since 1970; `null` if it was not.
    pub since_ms: Option<u64>,
}

/// The paths below `/api/uplinks`.
pub(super) fn router() -> Router<Rooms> {
    Router::new()
        .route("/api/uplinks", get(list))
        .route("/api/uplinks/{name}/pause", post(pause))
        .route("/api/uplinks/{name}/resume", post(resume))
        .route("/api/uplinks/{name}/forget", post(forget))
}

async fn list(State(rooms): State<Rooms>) -> Json<Vec<UplinkView>> {
    Json(look(rooms.snapshot).await.uplinks)
}

async fn forget(
    State(rooms): State<Rooms>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Forgotten>, Refused> {
    demand_json(&headers)?;
    let forgotten = tokio::task::spawn_blocking(move || rooms.store.forget_uplink(&name)).await;
    let backlog = forgotten.map_err(|error| failed(&error))??;
    let (name, events, bytes) = (backlog.uplink, backlog.events, backlog.bytes);
    set_backlog(&UplinkView { name: name.clone(), ..UplinkView::default() });
    tracing::warn!(uplink = %name, events, "forgotten on request: what waited for it alone may be deleted");
    Ok(Json(Forgotten { name, events, bytes }))
}

async fn pause(
    State(rooms): State<Rooms>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Paused>, Refused> {
    demand_json(&headers)?;
    let pausing = tokio::task::spawn_blocking(move || {
        let since_ms = rooms.store.pause_uplink(&name, clock::wall_ms())?;
        Ok::<_, PauseError>(Paused { name, paused: true, since_ms: Some(since_ms) })
    });
    Ok(Json(pausing.await.map_err(|error| failed(&error))??))
}

async fn resume(
    State(rooms): State<Rooms>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Paused>, Refused> {
    demand_json(&headers)?;
    let resuming = tokio::task::spawn_blocking(move || {
        let since_ms = rooms.store.resume_uplink(&name)?;
        Ok::<_, PauseError>(Paused { name, paused: false, since_ms })
    });
    Ok(Json(resuming.await.map_err(|error| failed(&error))??))
}

impl From<PauseError> for Refused {
    fn from(error: PauseError) -> Self {
        let status = match error {
            PauseError::Unknown { .. } => StatusCode::NOT_FOUND,
            PauseError::NotSaved(_) | PauseError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, why: error.to_string() }
    }
}

impl From<ForgetError> for Refused {
    fn from(error: ForgetError) -> Self {
        let status = match error {
            ForgetError::Unknown { .. } => StatusCode::NOT_FOUND,
            ForgetError::Configured { .. } => StatusCode::CONFLICT,
            ForgetError::NotSaved { .. } | ForgetError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{ask, serve},
        *,
    };
    use crate::http::Snapshot;

    #[tokio::test]
    async fn what_cannot_be_forgotten_or_paused_is_refused_with_a_sentence() {
        let (address, _up) = serve(Snapshot::default()).await;
        for (action, kind, status, sentence) in [
            ("forget", None, 415, "Content-Type: application/json"),
            ("forget", Some("application/json"), 404, "\"lake\" that is not configured; there are: none"),
            ("pause", None, 415, "Content-Type: application/json"),
            ("pause", Some("application/json"), 404, "no uplink \"lake\"; there are: none"),
            ("resume", None, 415, "Content-Type: application/json"),
            ("resume", Some("application/json"), 404, "no uplink \"lake\"; there are: none"),
        ] {
            let path = format!("/api/uplinks/lake/{action}");
            let (answered, said) = ask(address, "POST", &path, kind, "{}").await;
            assert!(answered == status && said.contains(sentence), "{answered} {said}");
        }
    }

    #[tokio::test]
    async fn the_list_is_that_of_the_status() {
        let uplinks = vec![UplinkView { name: "lake".into(), ..UplinkView::default() }];
        let (address, _up) = serve(Snapshot { uplinks: uplinks.clone(), ..Snapshot::default() }).await;
        let (status, json) = ask(address, "GET", "/api/uplinks", None, "").await;
        assert_eq!((status, serde_json::from_str::<Vec<UplinkView>>(&json).unwrap()), (200, uplinks));
    }
}

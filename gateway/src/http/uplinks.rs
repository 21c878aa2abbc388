//! Uplinks over HTTP: how each does, and the places that are kept of those that are not configured
//! any more.
//!
//! ```text
//! GET  /api/uplinks              [UplinkView, …]: those of the configuration, then those that are not in it
//! POST /api/uplinks/NAME/forget  forgets the place of one that is not configured: a Forgotten, once that is durable
//! ```
//! 404 for a name of which no place is kept, 409 for an uplink that is configured, 503 where the
//! store cannot save it.

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
use crate::store::ForgetError;

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

/// The paths below `/api/uplinks`.
pub(super) fn router() -> Router<Rooms> {
    Router::new().route("/api/uplinks", get(list)).route("/api/uplinks/{name}/forget", post(forget))
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
    async fn what_cannot_be_forgotten_is_refused_with_a_sentence() {
        let (address, _up) = serve(Snapshot::default()).await;
        for (kind, status, sentence) in [
            (None, 415, "Content-Type: application/json"),
            (Some("application/json"), 404, "\"lake\" that is not configured; there are: none"),
        ] {
            let (answered, said) = ask(address, "POST", "/api/uplinks/lake/forget", kind, "{}").await;
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

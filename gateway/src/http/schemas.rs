//! The kinds of event that this gateway has met, over HTTP.
//!
//! ```text
//! GET /api/schemas    {"format":1,"types":[…]}, as config/catalog.lock.json; a name and version may be there several times
//! ```
//!
//! Limits: those of the catalog.

use axum::{Json, Router, extract::State, routing::get};

use super::{Rooms, answer::Refused};
use crate::catalog::{Entry, Lock};

/// The path.
pub(super) fn router() -> Router<Rooms> {
    Router::new().route("/api/schemas", get(list))
}

async fn list(State(rooms): State<Rooms>) -> Result<Json<Lock>, Refused> {
    // Many kinds take a while to be written out.
    super::answer::blocking(move || {
        let entries = rooms.catalog.list().into_iter().filter_map(|kind| Entry::new(&kind.definition).ok());
        Ok(Json(Lock::new(entries.collect())))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::super::{
        Snapshot,
        tests::{ask, serve},
    };
    use crate::catalog::Lock;

    #[tokio::test]
    async fn the_kinds_that_were_met_are_listed_as_a_lock() {
        let (address, _up) = serve(Snapshot::default()).await;
        let (status, text) = ask(address, "GET", "/api/schemas", None, "").await;
        let lock = Lock::parse(&text).unwrap();
        assert_eq!((status, lock.types.len(), lock.types[0].title().as_str()), (200, 1, "loss@1"));
    }
}

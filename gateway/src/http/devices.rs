//! The devices over HTTP: who is there, and what is known of each.
//!
//! ```text
//! GET /api/devices         {"items":[…],"untracked_records":0}, by name
//! GET /api/devices/NAME    one, with its boots: 404 where nothing of it ever came
//! ```
//!
//! Limits: those of the fleet; a list of all devices is one answer.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};

use super::{Rooms, answer::Refused};
use crate::{
    clock,
    fleet::{DeviceList, DeviceSheet},
};

/// The paths below `/api/devices`.
pub(super) fn router() -> Router<Rooms> {
    Router::new().route("/api/devices", get(list)).route("/api/devices/{name}", get(show))
}

async fn list(State(rooms): State<Rooms>) -> Result<Json<DeviceList>, Refused> {
    // Many devices take a while to be counted.
    super::answer::blocking(move || Ok(Json(rooms.fleet.list(&clock::reading())))).await
}

async fn show(State(rooms): State<Rooms>, Path(name): Path<String>) -> Result<Json<DeviceSheet>, Refused> {
    let sheet = rooms.fleet.show(&name, &clock::reading());
    sheet.map(Json).ok_or_else(|| {
        Refused::missing(format!(
            "nothing ever came from a device {name:?}; \"tidegate devices list\" says from which"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Snapshot,
        tests::{ask, serve},
    };
    use crate::fleet::DeviceList;

    #[tokio::test]
    async fn devices_are_listed_and_one_that_is_not_known_is_not_there() {
        let (address, _up) = serve(Snapshot::default()).await;
        let (status, text) = ask(address, "GET", "/api/devices", None, "").await;
        assert_eq!((status, serde_json::from_str(&text).ok()), (200, Some(DeviceList::default())));
        let (status, text) = ask(address, "GET", "/api/devices/barn", None, "").await;
        assert!(status == 404 && text.contains("a device \"barn\""), "{status} {text}");
    }
}

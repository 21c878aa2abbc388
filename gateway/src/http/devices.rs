//! What is known of the devices, over HTTP.
//!
//! ```text
//! GET /api/devices         {"items":[…],"untracked_records":0}, by name
//! GET /api/devices/NAME    one of them, with its boots and its gaps
//! ```
//!
//! Limits: those of the fleet.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};

use super::{
    Rooms,
    answer::{Refused, blocking},
};
use crate::{
    clock,
    fleet::{DeviceList, DeviceSheet},
};

/// The paths.
pub(super) fn router() -> Router<Rooms> {
    Router::new().route("/api/devices", get(list)).route("/api/devices/{name}", get(show))
}

async fn list(State(rooms): State<Rooms>) -> Result<Json<DeviceList>, Refused> {
    // Thousands of devices take a while to be written out.
    blocking(move || Ok(Json(rooms.fleet.list(&clock::reading())))).await
}

async fn show(State(rooms): State<Rooms>, Path(name): Path<String>) -> Result<Json<DeviceSheet>, Refused> {
    let sheet = rooms.fleet.show(&name, &clock::reading());
    sheet.map(Json).ok_or_else(|| {
        Refused::missing(format!("nothing came from a device {name:?}; see \"tidegate devices list\""))
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
    async fn a_gateway_that_met_no_device_says_so() {
        let (address, _up) = serve(Snapshot::default()).await;
        let (status, text) = ask(address, "GET", "/api/devices", None, "").await;
        assert_eq!((status, serde_json::from_str(&text).unwrap()), (200, DeviceList::default()));
        let (status, text) = ask(address, "GET", "/api/devices/barn", None, "").await;
        assert_eq!(status, 404);
        assert!(text.contains("nothing came from a device \"barn\""), "{text}");
    }
}

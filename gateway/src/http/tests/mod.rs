//! What the tests of the pages share: pages over an empty store, and somebody who asks.

mod serving;

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Rooms, Settings, Snapshot, bind, run};
use crate::{
    store::{self, Outbox, View},
    uplink::Replays,
};

fn store() -> (View, Outbox) {
    let settings = store::Settings {
        segment_bytes: 1 << 20,
        ..store::Settings::new(tempfile::tempdir().unwrap().keep())
    };
    // Open for as long as the tests run: a view does not keep its store open.
    let store = Box::leak(Box::new(store::Store::open(settings, &[]).unwrap()));
    (store.view(), store.outbox())
}

pub async fn serve(snapshot: Snapshot) -> (SocketAddr, DropGuard) {
    let shutdown = CancellationToken::new();
    let bound = bind(&Settings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let address = bound.address();
    let (store, outbox) = store();
    let uplinks = vec![crate::uplink::Settings::mqtt("cloud", "127.0.0.1", "barn-7")];
    let replays = Replays::new(store.clone(), uplinks, crate::uplink::EventContext::default());
    let rooms = Rooms {
        snapshot: Arc::new(move || snapshot.clone()),
        store,
        replays,
        outbox,
        catalog: Default::default(),
        fleet: Default::default(),
    };
    tokio::spawn(run(bound, rooms, shutdown.clone()));
    (address, shutdown.drop_guard())
}

/// Status and body of the answer to a request; `kind` is what its body is said to be.
pub async fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    kind: Option<&str>,
    body: &str,
) -> (u16, String) {
    let mut request = ureq::http::Request::builder().method(method).uri(format!("http://{address}{path}"));
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let request = request.body(body.to_owned()).unwrap();
    tokio::task::spawn_blocking(move || {
        let config = ureq::Agent::config_builder().http_status_as_error(false);
        let agent: ureq::Agent = config.allow_non_standard_methods(true).build().into();
        let mut answer = agent.run(request).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    })
    .await
    .unwrap()
}

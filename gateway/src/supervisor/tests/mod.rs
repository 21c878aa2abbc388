//! A gateway starts, stops, is refused, and fails.

use std::path::Path;

use super::*;
use crate::{cli, config};

fn settings(folder: &Path) -> Settings {
    let text = "[gateway]\nid = \"a\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
                [[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:9\"\n[http]\naddress = \"127.0.0.1:0\"\n";
    config::parse(text, &folder.join("g.toml"), &|_| None).unwrap()
}

async fn refused(settings: Settings) -> (u8, String) {
    let failure = cli::Failure::from(Gateway::start(settings).await.expect_err("it started"));
    (failure.exit_code(), failure.to_string())
}

#[tokio::test]
async fn it_starts_looks_ready_and_stops_and_can_be_started_again() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let gateway = Gateway::start(settings(folder.path())).await.unwrap();
        let state = gateway.state.clone();
        let snapshot = gateway.snapshot();
        assert!(snapshot.ready, "{snapshot:?}");
        assert_eq!(snapshot.uplinks[0].name, "cloud");
        assert_ne!(snapshot.listeners[0].port(), 0);
        let began = clock::monotonic();
        gateway.stop().await;
        assert!(clock::monotonic().duration_since(began) < STOP_MAX);
        let expected = ["the gateway is stopping", "the store is closed"];
        assert_eq!(state.snapshot().not_ready, expected);
    }
}

#[tokio::test]
async fn a_crash_leaves_a_store_that_opens_again_and_ports_that_are_free() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    for _ in 0..3 {
        let gateway = Gateway::start(settings.clone()).await.unwrap();
        settings.http.address = gateway.http_address();
        settings.listeners[0].address = gateway.snapshot().listeners[0];
        gateway.crash().await;
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_data_is_refused_as_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let first = Gateway::start(settings(folder.path())).await.unwrap();
    let (code, text) = refused(settings(folder.path())).await;
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("in use by another gateway"), "{text}");
    first.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_refused_as_unavailable_and_the_store_is_closed_again() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut http_taken = settings(folder.path());
    http_taken.http.address = taken.local_addr().unwrap();
    let mut listener_taken = settings(folder.path());
    listener_taken.listeners[0].address = taken.local_addr().unwrap();
    for settings in [http_taken, listener_taken] {
        let (code, text) = refused(settings).await;
        assert_eq!(code, 69, "{text}");
        assert!(text.contains(&taken.local_addr().unwrap().to_string()), "{text}");
        assert!(text.contains("another"), "{text}");
    }
    Gateway::start(settings(folder.path())).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_or_is_not_ours_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let (code, text) = refused(settings(folder.path())).await;
    assert_eq!(code, 73, "{text}");

    std::fs::remove_file(folder.path().join("data")).unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/photo.jpg"), "not an event").unwrap();
    let (code, text) = refused(settings(folder.path())).await;
    assert_eq!(code, 78, "{text}");
    assert!(text.contains("photo.jpg"), "{text}");
    assert_eq!(std::fs::read_dir(folder.path().join("data")).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_that_ends_under_a_running_gateway_is_its_failure_and_a_stop_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(folder.path())).await.unwrap();
    let store = gateway.state.store.lock().take().unwrap();
    tokio::task::spawn_blocking(move || store.crash()).await.unwrap();
    let reason = tokio::time::timeout(STOP_MAX, gateway.failed()).await.unwrap();
    assert!(!reason.is_empty());
    assert_eq!(gateway.snapshot().not_ready, ["the store is closed"]);

    let again = Gateway::start(settings(folder.path())).await.unwrap();
    let failure = again.failure.clone();
    again.stop().await;
    assert_eq!(*failure.borrow(), None);
    gateway.stop().await;
}

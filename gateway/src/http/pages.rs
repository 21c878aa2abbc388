//! What each path answers. Every answer is made from one [`Snapshot`](super::Snapshot); gauges are
//! set when they are asked for.

use axum::{
    Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};

use super::{
    Rooms,
    answer::Json,
    commands, dead_letters,
    look::{look, set_gauges},
    replay, turns,
};
use crate::{clock, printable, telemetry};

/// The text format that Prometheus scrapes, by its own name.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All paths.
pub(super) fn router(rooms: Rooms) -> Router {
    let lists = Router::new()
        .merge(replay::router())
        .merge(commands::router())
        .merge(super::devices::router())
        .merge(super::schemas::router())
        .merge(super::store::router())
        .merge(dead_letters::router());
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route(
            "/api/status",
            get(|State(rooms): State<Rooms>| async move { Json(look(rooms.snapshot).await) }),
        )
        .merge(super::uplinks::router())
        .merge(turns::take(lists))
        .with_state(rooms)
}

async fn index() -> &'static str {
    "Tidegate\n\n/healthz     the process lives\n/readyz      events can be stored and taken in; ?verbose: and how each uplink does\n\
     /metrics     Prometheus\n/api/status  JSON\n\
     /api/uplinks, /api/dead-letters, /api/replay, /api/commands, /api/devices, /api/schemas  JSON\n\
     /api/store/stat, /api/store/verify, /api/store/cat  JSON, a line for each file or record\n"
}

async fn readyz(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let snapshot = look(rooms.snapshot).await;
    let (status, word) = match snapshot.ready {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    let is_verbose = query.is_some_and(|query| query.split('&').any(|part| part == "verbose"));
    let now_ms = clock::wall_ms();
    let uplinks = snapshot.uplinks.iter().filter(|_| is_verbose);
    let uplinks = uplinks.map(|uplink| {
        let (name, upstream, state) = (&uplink.name, &uplink.upstream, uplink.state(now_ms));
        format!("uplink {name} to {upstream}: {state}")
    });
    let lines = [word.to_owned()].into_iter();
    let lines = lines.chain(snapshot.not_ready.iter().cloned());
    let lines = lines.chain(snapshot.warnings.iter().map(|warning| format!("warning: {warning}")));
    // One line each, whatever is in it.
    (status, lines.chain(uplinks).map(|text| format!("{}\n", printable::line(&text))).collect())
}

async fn metrics(State(rooms): State<Rooms>) -> impl IntoResponse {
    set_gauges(&look(rooms.snapshot).await);
    match telemetry::recorder() {
        Some(recorder) => (StatusCode::OK, [(header::CONTENT_TYPE, PROMETHEUS_TEXT)], recorder.render()),
        None => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            "another metrics recorder is installed in this process\n".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::{
        super::{
            Snapshot, StoreView, UplinkView,
            tests::{ask, serve},
        },
        *,
    };
    use crate::uplink::Outage;

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, "GET", path, None, "").await
    }

    fn busy() -> Snapshot {
        Snapshot {
            id: "barn-7".into(),
            ready: true,
            store: Some(StoreView {
                events: 42,
                segments: 3,
                file_bytes: 4096,
                max_bytes: 8192,
                dead_letters: 5,
                dead_letter_bytes: 500,
                ..StoreView::default()
            }),
            uplinks: vec![UplinkView {
                name: "pages".into(),
                connected: true,
                backlog_events: 17,
                backlog_bytes: 1700,
                backlog_age_seconds: 2.5,
                ..UplinkView::default()
            }],
            ..Snapshot::default()
        }
    }

    #[tokio::test]
    async fn ready_says_200_and_not_ready_says_503_with_the_reasons() {
        let (address, _up) = serve(busy()).await;
        assert_eq!(get(address, "/readyz").await, (200, "ready\n".into()));
        assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));

        let warnings = vec!["the certificate runs out".to_owned()];
        let (address, _up) = serve(Snapshot { warnings: warnings.clone(), ..busy() }).await;
        let expected = "ready\nwarning: the certificate runs out\n";
        assert_eq!(get(address, "/readyz").await, (200, expected.into()));

        let not_ready = vec!["the store has failed: disk full".to_owned()];
        let (address, _up) = serve(Snapshot { ready: false, not_ready, warnings, ..busy() }).await;
        let expected = "not ready\nthe store has failed: disk full\nwarning: the certificate runs out\n";
        assert_eq!(get(address, "/readyz").await, (503, expected.into()));
        assert_eq!(get(address, "/healthz").await, (200, "ok\n".into()));
    }

    #[tokio::test]
    async fn verbose_has_a_line_for_each_uplink_whatever_the_upstream_said() {
        let outage = Outage::new("it says \"go\n\u{1b}[31maway\"".into(), 1_000, u64::MAX);
        let lake = UplinkView {
            name: "lake".into(),
            upstream: "mqtt://lake:1883".into(),
            outage: Some(outage),
            ..UplinkView::default()
        };
        let mut snapshot = busy();
        snapshot.uplinks.push(lake);
        let (address, _up) = serve(snapshot).await;
        for path in ["/readyz?verbose", "/readyz?verbose&x", "/readyz?x&verbose"] {
            let (status, text) = get(address, path).await;
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!((status, lines.len(), lines[0]), (200, 3, "ready"), "{path}: {text}");
            assert!(lines[1].starts_with("uplink pages to "), "{text}");
            let said =
                "uplink lake to mqtt://lake:1883: it says \"go\\n\\u001b[31maway\"; no connection for ";
            assert!(lines[2].starts_with(said) && lines[2].contains("; trying again in "), "{text}");
        }
        assert_eq!(get(address, "/readyz?verbos").await.1, "ready\n");
    }

    #[tokio::test]
    async fn metrics_show_the_backlog_as_it_is_when_asked() {
        telemetry::recorder().unwrap();
        let (address, _up) = serve(busy()).await;
        let (status, text) = get(address, "/metrics").await;
        assert_eq!(status, 200);
        for line in [
            "tidegate_backlog_events{uplink=\"pages\"} 17",
            "tidegate_backlog_bytes{uplink=\"pages\"} 1700",
            "tidegate_backlog_age_seconds{uplink=\"pages\"} 2.5",
            "tidegate_uplink_connected{uplink=\"pages\"} 1",
            "tidegate_store_bytes 4096",
            "tidegate_segments 3",
            "tidegate_store_max_bytes 8192",
            "tidegate_dead_letters 5",
            "tidegate_dead_letter_bytes 500",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing from\n{text}");
        }
    }

    #[tokio::test]
    async fn the_status_is_json_and_an_unknown_path_is_404() {
        let (address, _up) = serve(busy()).await;
        let (status, json) = get(address, "/api/status").await;
        assert_eq!((status, serde_json::from_str::<Snapshot>(&json).unwrap()), (200, busy()));
        assert_eq!(get(address, "/api/secrets").await.0, 404);
    }
}

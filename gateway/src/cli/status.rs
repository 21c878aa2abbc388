//! `tidegate status`: what the gateway on this machine is doing, asked over HTTP.

use std::time::Duration;

use super::{Failure, people};
use crate::{clock, http::Snapshot};

/// How long the gateway may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Show what a running gateway is doing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate status\n  tidegate status --json | jq '.uplinks[].backlog_events'"
)]
pub(super) struct Arguments {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    http: String,
    /// For scripts: JSON as /api/status gives it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let json = ask(&arguments.http).map_err(|cause| {
        let address = &arguments.http;
        Failure::Unavailable(format!(
            "no gateway answers at http://{address}: {cause}; start it, or name its [http] address by --http"
        ))
    })?;
    if arguments.json {
        say!("{json}");
        return Ok(());
    }
    let snapshot: Snapshot = serde_json::from_str(&json).map_err(|cause| {
        Failure::Unavailable(format!(
            "what answers at http://{} is no gateway of this version: {cause}",
            arguments.http
        ))
    })?;
    say!("{}", table(&snapshot, clock::wall_ms()).trim_end());
    Ok(())
}

fn ask(address: &str) -> Result<String, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_MAX)).build().into();
    agent.get(format!("http://{address}/api/status")).call()?.body_mut().read_to_string()
}

fn table(snapshot: &Snapshot, now_ms: u64) -> String {
    let up = people::age(now_ms.saturating_sub(snapshot.started_ms) as f64 / 1000.0);
    let state =
        if snapshot.ready { "ready".into() } else { format!("NOT READY: {}", snapshot.not_ready.join("; ")) };
    let mut text = format!("gateway  {}, tidegate {}, up {up}, {state}\n", snapshot.id, snapshot.version);
    if let Some(store) = &snapshot.store {
        text += &format!(
            "store    {}: {} events, {}, segments {}, set aside {}{}\n",
            snapshot.data_dir.display(),
            people::count(store.events),
            people::part(store.used_bytes, store.max_bytes),
            store.segments,
            people::count(store.set_aside),
            if store.dropped_events == 0 {
                String::new()
            } else {
                format!(", DROPPED {}", people::count(store.dropped_events))
            }
        );
    }
    text += "\nuplink                            connected   backlog events         bytes    oldest\n";
    for uplink in &snapshot.uplinks {
        text += &format!(
            "{:<32}  {:<9}  {:>15}  {:>12}  {:>8}\n",
            uplink.name,
            if uplink.connected { "yes" } else { "NO" },
            people::count(uplink.backlog_events),
            people::bytes(uplink.backlog_bytes),
            people::age(uplink.backlog_age_seconds)
        );
        if let Some(error) = uplink.last_error.as_ref().filter(|_| !uplink.connected) {
            text += &format!("  {}: {error}\n", uplink.upstream);
        }
    }
    if snapshot.uplinks.is_empty() {
        text += "none: events are stored and go nowhere\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{StoreView, UplinkView};

    #[test]
    fn the_table_shows_every_uplink_and_why_the_gateway_is_not_ready() {
        let snapshot = Snapshot {
            version: "1.2.3".into(),
            id: "barn-7".into(),
            data_dir: "/var/lib/tidegate".into(),
            started_ms: 1_000,
            not_ready: vec!["the gateway is stopping".into()],
            store: Some(StoreView {
                events: 1_234_567,
                segments: 3,
                used_bytes: 1536,
                max_bytes: 15_360,
                dropped_events: 1_200,
                ..StoreView::default()
            }),
            uplinks: vec![
                UplinkView { name: "cloud".into(), connected: true, ..UplinkView::default() },
                UplinkView {
                    name: "lake".into(),
                    upstream: "mqtt://lake:1883".into(),
                    backlog_events: 4_200,
                    backlog_bytes: 2048,
                    backlog_age_seconds: 75.0,
                    last_error: Some("connection refused".into()),
                    ..UplinkView::default()
                },
            ],
            ..Snapshot::default()
        };
        let expected = "\
gateway  barn-7, tidegate 1.2.3, up 4.0 s, NOT READY: the gateway is stopping
store    /var/lib/tidegate: 1,234,567 events, 1.5 KiB of 15.0 KiB (10 %), segments 3, set aside 0, DROPPED 1,200

uplink                            connected   backlog events         bytes    oldest
cloud                             yes                      0           0 B         -
lake                              NO                   4,200       2.0 KiB      75 s
  mqtt://lake:1883: connection refused
";
        assert_eq!(table(&snapshot, 5_000), expected);
    }

    #[test]
    fn no_gateway_at_the_address_is_unavailable() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = run(&Arguments { http: free.to_string(), json: true }).unwrap_err();
        assert_eq!(failure.exit_code(), 69, "{failure}");
    }
}

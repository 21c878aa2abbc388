//! `tidegate status`: what the gateway on this machine is doing, asked over HTTP.

use super::{
    Failure,
    ask::{ANSWER_MAX, Gateway, HTTP_DEFAULT},
    people,
};
use crate::{
    clock,
    http::{Snapshot, WearBudgetView},
    printable::line,
};

/// Show what a running gateway is doing
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tidegate status\n  tidegate status --json | jq '.uplinks[].backlog_events'"
)]
pub(super) struct Arguments {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    http: String,
    /// For scripts: JSON as /api/status gives it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let gateway = Gateway::at(&arguments.http, ANSWER_MAX);
    let json = gateway.get("/api/status")?;
    if arguments.json {
        say!("{json}");
        return Ok(());
    }
    let snapshot: Snapshot = gateway.parse(&json)?;
    say!("{}", table(&snapshot, clock::wall_ms()).trim_end());
    Ok(())
}

fn table(snapshot: &Snapshot, now_ms: u64) -> String {
    let up = people::age(now_ms.saturating_sub(snapshot.started_ms) as f64 / 1000.0);
    let state = if snapshot.ready {
        "ready".into()
    } else {
        format!("NOT READY: {}", line(&snapshot.not_ready.join("; ")))
    };
    let mut text =
        format!("gateway  {}, tidegate {}, up {up}, {state}\n", line(&snapshot.id), line(&snapshot.version));
    if let Some(store) = &snapshot.store {
        let dropped = match store.dropped_events {
            0 => String::new(),
            events => format!(", DROPPED {}", people::count(events)),
        };
        text += &format!(
            "store    {}: {} events, {}, segments {}, dead letters {}{}\n",
            snapshot.data_dir.display(),
            people::count(store.events),
            people::part(store.used_bytes, store.max_bytes),
            store.segments,
            people::count(store.dead_letters),
            dropped
        );
        text += &store.wear_budget.as_ref().map_or(String::new(), |budget| wear(budget, now_ms));
    }
    for warning in &snapshot.warnings {
        text += &format!("WARNING  {}\n", line(warning));
    }
    text += "\nuplink                            connected   backlog events         bytes    oldest\n";
    for uplink in &snapshot.uplinks {
        text += &format!(
            "{:<32}  {:<9}  {:>15}  {:>12}  {:>8}\n",
            line(&uplink.name),
            match (uplink.kept, uplink.paused_since_ms, uplink.connected) {
                (true, ..) => "KEPT",
                (false, Some(_), _) => "PAUSED",
                (false, None, true) => "yes",
                (false, None, false) => "NO",
            },
            people::count(uplink.backlog_events),
            people::bytes(uplink.backlog_bytes),
            people::age(uplink.backlog_age_seconds)
        );
        let is_well =
            uplink.connected && uplink.paused_since_ms.is_none() && uplink.commands_outage.is_none();
        if !is_well && !uplink.kept {
            text += &format!("  {}: {}\n", line(&uplink.upstream), line(&uplink.state(now_ms)));
        }
    }
    if snapshot.uplinks.iter().all(|uplink| uplink.kept) {
        text += "none: events are stored and go nowhere\n";
    }
    text
}

fn wear(budget: &WearBudgetView, now_ms: u64) -> String {
    let per_day = people::bytes(budget.bytes_per_day);
    let left = people::bytes(budget.left_bytes.unsigned_abs());
    let left = if budget.left_bytes < 0 { format!("{left} OVER") } else { format!("{left} left") };
    let linger = match budget.lingers_since_ms {
        None => "commits go at once".to_owned(),
        Some(since_ms) => {
            let since = people::age(now_ms.saturating_sub(since_ms) as f64 / 1000.0);
            format!("commits WAIT {} ms for company, for {since} now", budget.linger_ms)
        }
    };
    format!("wear     {per_day} per day: {left}, {linger}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::{StoreView, UplinkView},
        uplink::Outage,
    };

    #[test]
    fn the_table_shows_every_uplink_and_why_the_gateway_is_not_ready() {
        let snapshot = Snapshot {
            version: "1.2.3".into(),
            id: "barn-7".into(),
            data_dir: "/var/lib/tidegate".into(),
            started_ms: 1_000,
            not_ready: vec!["the gateway is stopping".into()],
            warnings: vec!["a certificate runs out".into()],
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
                    outage: Some(Outage::new("connection refused".into(), 2_000, 15_000)),
                    ..UplinkView::default()
                },
                UplinkView {
                    name: "hill".into(),
                    upstream: "mqtt://hill:1883".into(),
                    paused_since_ms: Some(1_000),
                    backlog_events: 3,
                    ..UplinkView::default()
                },
                UplinkView { name: "old".into(), kept: true, backlog_events: 7, ..UplinkView::default() },
            ],
            ..Snapshot::default()
        };
        let expected = "\
gateway  barn-7, tidegate 1.2.3, up 4.0 s, NOT READY: the gateway is stopping
store    /var/lib/tidegate: 1,234,567 events, 1.5 KiB of 15.0 KiB (10 %), segments 3, dead letters 0, DROPPED 1,200
WARNING  a certificate runs out

uplink                            connected   backlog events         bytes    oldest
cloud                             yes                      0           0 B         -
lake                              NO                   4,200       2.0 KiB      75 s
  mqtt://lake:1883: connection refused; no connection for 3 s, since 1970-01-01T00:00:02Z; trying again in 10 s
hill                              PAUSED                   3           0 B         -
  mqtt://hill:1883: paused for 4 s, since 1970-01-01T00:00:01Z: nothing is sent until \"tidegate uplinks resume hill\"
old                               KEPT                     7           0 B         -
";
        assert_eq!(table(&snapshot, 5_000), expected);
    }

    #[test]
    fn the_wear_budget_is_shown_with_what_is_left_and_since_when_commits_wait() {
        let budget =
            WearBudgetView { bytes_per_day: 20 << 30, left_bytes: 3 << 20, ..WearBudgetView::default() };
        assert_eq!(wear(&budget, 9), "wear     20.0 GiB per day: 3.0 MiB left, commits go at once\n");
        let spent = WearBudgetView {
            left_bytes: -(5 << 20),
            linger_ms: 287,
            lingers_since_ms: Some(1_000),
            ..budget
        };
        let expected =
            "wear     20.0 GiB per day: 5.0 MiB OVER, commits WAIT 287 ms for company, for 3 min now\n";
        assert_eq!(wear(&spent, 181_000), expected);
    }
}

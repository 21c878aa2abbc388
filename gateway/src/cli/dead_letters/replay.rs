//! `tidegate dead-letters replay`: sends dead letters again, one replay for each uplink that could
//! not deliver them.

use std::collections::BTreeMap;

use super::{
    super::{
        Failure,
        ask::Gateway,
        replay::{How, follow},
    },
    ANSWER_MAX, Filters, each,
};
use crate::http::{LetterItem, Letters, ReplayRequest, What};

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    /// Their numbers, as `list` shows them; or name them by filters
    #[arg(conflicts_with_all = ["all", "reason", "device", "kind", "uplink", "from", "to"])]
    ids: Vec<u64>,
    #[command(flatten)]
    filters: Filters,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Send them by this uplink; without it, each by the one that could not deliver it
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
    #[command(flatten)]
    how: How,
}

/// Starts a replay for each uplink, one after the other, and follows it to its end.
pub(super) fn run(arguments: &ReplayArguments, now_ms: u64) -> Result<(), Failure> {
    let gateway = Gateway::at(&arguments.how.http, ANSWER_MAX);
    let letters = letters(arguments, now_ms)?;
    let by_uplink = uplinks(&gateway, arguments, now_ms)?;
    if by_uplink.is_empty() && !arguments.how.json {
        say!("no dead letters");
    }
    let mut outcome = Ok(());
    for (of, ids) in by_uplink {
        let request = ReplayRequest {
            uplink: arguments.by.clone().unwrap_or_else(|| of.clone()),
            what: What::DeadLetters(Letters { of: Some(of), ids, ..letters.clone() }),
            dry_run: arguments.how.dry_run,
            events_per_s: arguments.how.rate,
        };
        // What one upstream does not take says nothing about the next.
        let followed = follow(&gateway, &request, arguments.how.json);
        outcome = outcome.and(followed);
    }
    outcome
}

/// The filters, as a replay takes them.
fn letters(arguments: &ReplayArguments, now_ms: u64) -> Result<Letters, Failure> {
    let mut members = arguments.filters.members(now_ms)?;
    match (arguments.ids.is_empty() && members.is_empty(), arguments.all) {
        (true, false) => {
            let how =
                "name which to send again, by their numbers or by filters like --device, or --all of them";
            return Err(Failure::Usage(how.into()));
        }
        (false, true) => {
            return Err(Failure::Usage("--all does not go with filters: leave one of them out".into()));
        }
        _ => {}
    }
    members.remove("uplink");
    serde_json::from_value(members.into())
        .map_err(|cause| Failure::Usage(format!("the filters cannot be meant: {cause}")))
}

/// The uplinks that could not deliver what is asked for, each with the numbers that were named.
fn uplinks(
    gateway: &Gateway,
    arguments: &ReplayArguments,
    now_ms: u64,
) -> Result<BTreeMap<String, Vec<u64>>, Failure> {
    let mut uplinks = BTreeMap::<String, Vec<u64>>::new();
    for id in &arguments.ids {
        let item: LetterItem = gateway.parse(&gateway.get(&format!("/api/dead-letters/{id}"))?)?;
        uplinks.entry(item.uplink).or_default().push(*id);
    }
    if arguments.ids.is_empty() {
        each(gateway, &arguments.filters, false, now_ms, |item| {
            uplinks.entry(item.uplink.clone()).or_default();
            Ok(())
        })?;
    }
    Ok(uplinks)
}

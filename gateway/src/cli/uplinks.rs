//! `tidegate uplinks`: what waits for each uplink, to pause and to resume one, an end to what waits
//! for one that will not be back, and whether its upstream can be reached. Asked of the running
//! gateway over HTTP, or done on the files of a stopped one; a test is made from here, by the
//! configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Failure,
    ask::{ANSWER_MAX, Gateway},
    people,
    process::runtime,
    store::{StoreLocation, failed, open, unopened},
};
use crate::{
    clock, config,
    http::{Forgotten, Paused, UplinkView},
    printable,
    store::{
        ForgetError, PauseError, forget_uplink_in, inspect::UplinkStat, pause_uplink_in, resume_uplink_in,
    },
    uplink,
};

/// A gateway answers once the store has saved it, which may take ten seconds.
const SAVED_WITHIN: Duration = Duration::from_secs(30);
const HEADING: &str = "uplink                            configured   backlog events         bytes    oldest";

/// See what waits for each uplink, test or pause one, and forget one that is not configured
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate uplinks list
  tidegate uplinks test cloud --config /etc/tidegate/gateway.toml   can it be reached, and what is wrong?
  tidegate uplinks pause cloud     nothing is sent, also after a restart, until: tidegate uplinks resume cloud
  tidegate uplinks forget old-cloud
  tidegate uplinks forget old-cloud --files /var/lib/tidegate   of a stopped gateway

When an uplink is taken out of the configuration, or renamed, what waits for it is kept, and takes up room: once it is
configured again, it goes on where it was. Forgotten, it is gone, and what waited for it alone is deleted.

A test connects as the uplink does, by its client id: a gateway that is connected makes its connection anew, and loses nothing.

While an uplink is paused there is no connection to its upstream, and what waits for it is kept.

Exit codes: 64 there is no such uplink, or one to forget is configured, 66 there is no store, 69 no gateway answers, or one holds the files,
or the upstream cannot be reached, 78 configuration.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them: those of the configuration, then those that are kept
    List(ListArguments),
    /// Connect to one, step by step, and say what is wrong
    Test(TestArguments),
    /// Send nothing by one until it is resumed, also after a restart; what waits for it is kept
    Pause(ChangeArguments),
    /// Send by one that is paused again
    Resume(ChangeArguments),
    /// Give up what waits for one that is not configured
    Forget(ChangeArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    place: StoreLocation,
    /// For scripts: JSON, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct TestArguments {
    /// The uplink's name
    name: String,
    /// The configuration
    #[arg(long)]
    config: PathBuf,
    /// Publish a probe on this topic, and wait until it is acknowledged
    #[arg(long, value_name = "TOPIC")]
    publish: Option<String>,
}

#[derive(Debug, clap::Args)]
struct ChangeArguments {
    /// The uplink's name
    name: String,
    #[command(flatten)]
    place: StoreLocation,
    /// For scripts: JSON as /api/uplinks/NAME/pause, resume and forget give it
    #[arg(long)]
    json: bool,
}

/// An uplink, as far as it is known from where it was looked at.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    /// Files do not say it.
    configured: Option<bool>,
    backlog_events: Option<u64>,
    backlog_bytes: Option<u64>,
    backlog_age_seconds: f64,
    /// Milliseconds since 1970.
    paused_since_ms: Option<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::List(list) => list_all(list),
        Action::Test(test) => test_one(test),
        Action::Pause(pause) => pause_or_resume(pause, true),
        Action::Resume(resume) => pause_or_resume(resume, false),
        Action::Forget(forget) => forget_one(forget),
    }
}

fn list_all(arguments: &ListArguments) -> Result<(), Failure> {
    let items: Vec<Item> = match &arguments.place.files {
        Some(folder) => {
            let stat = open(folder)?.stat(clock::now()).map_err(failed)?;
            stat.uplinks.into_iter().map(|uplink| Item::of_files(uplink, stat.at_ms)).collect()
        }
        None => {
            let gateway = Gateway::at(&arguments.place.http, ANSWER_MAX);
            let views: Vec<UplinkView> = gateway.parse(&gateway.get("/api/uplinks")?)?;
            views.into_iter().map(Item::of_gateway).collect()
        }
    };
    if arguments.json {
        return items.iter().try_for_each(json);
    }
    say!("{HEADING}");
    items.iter().for_each(|item| say!("{}", row(item)));
    if items.is_empty() {
        say!("none");
    }
    Ok(())
}

fn test_one(arguments: &TestArguments) -> Result<(), Failure> {
    let settings = config::load(&arguments.config, &|name| std::env::var(name).ok())?;
    let name = &arguments.name;
    let Some(uplink) = settings.uplinks.iter().find(|uplink| uplink.name == *name) else {
        let known: Vec<_> = settings.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Failure::Usage(format!("the configuration has no uplink {name:?}; it has: {known}")));
    };
    say!("{name} to {}", uplink.upstream.url());
    let diagnosis = runtime()?.block_on(uplink::diagnose(uplink, arguments.publish.as_deref()));
    for step in &diagnosis.found {
        let mark = if step.is_good { "good " } else { "tried" };
        say!("{mark}  {}", printable::line(&step.words));
    }
    match diagnosis.failure {
        Some(why) => {
            say!("WRONG  {}", printable::line(&why));
            Err(Failure::Unavailable(format!("{name} cannot be reached")))
        }
        None => Ok(()),
    }
}

fn pause_or_resume(arguments: &ChangeArguments, pause: bool) -> Result<(), Failure> {
    let name = &arguments.name;
    let paused: Paused = match &arguments.place.files {
        Some(folder) => {
            let since_ms = match pause {
                true => pause_uplink_in(folder, name, clock::wall_ms()).map(Some),
                false => resume_uplink_in(folder, name),
            };
            let since_ms = since_ms.map_err(|error| match error {
                PauseError::Store(error) => unopened(folder, &error),
                PauseError::NotSaved(_) => Failure::Io(error.to_string()),
                PauseError::Unknown { .. } => Failure::Usage(error.to_string()),
            })?;
            Paused { name: name.clone(), paused: pause, since_ms }
        }
        None => {
            let gateway = Gateway::at(&arguments.place.http, SAVED_WITHIN);
            let action = if pause { "pause" } else { "resume" };
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            gateway.parse(&gateway.post(&format!("/api/uplinks/{name}/{action}"), "{}")?)?
        }
    };
    if arguments.json {
        return json(&paused);
    }
    let name = printable::line(name);
    let lasting = paused.since_ms.map(|since_ms| uplink::lasting(since_ms, clock::wall_ms()));
    match (paused.paused, lasting) {
        (true, _) => {
            say!("{name} is paused: nothing is sent, and what waits for it is kept, until it is resumed")
        }
        (false, Some(lasting)) => say!("{name} is resumed: it was paused {lasting}"),
        (false, None) => say!("{name} was not paused"),
    }
    Ok(())
}

fn forget_one(arguments: &ChangeArguments) -> Result<(), Failure> {
    let name = &arguments.name;
    let forgotten: Forgotten = match &arguments.place.files {
        Some(folder) => forget_in(folder, name)?,
        None => {
            let gateway = Gateway::at(&arguments.place.http, SAVED_WITHIN);
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            gateway.parse(&gateway.post(&format!("/api/uplinks/{name}/forget"), "{}")?)?
        }
    };
    if arguments.json {
        return json(&forgotten);
    }
    let (events, bytes) = (people::count(forgotten.events), people::bytes(forgotten.bytes));
    say!("{} is forgotten: {events} events waited for it, {bytes}", printable::line(name));
    Ok(())
}

fn forget_in(folder: &Path, name: &str) -> Result<Forgotten, Failure> {
    let backlog = forget_uplink_in(folder, name).map_err(|error| match error {
        ForgetError::Store(error) => unopened(folder, &error),
        ForgetError::NotSaved { .. } => Failure::Io(error.to_string()),
        ForgetError::Unknown { .. } | ForgetError::Configured { .. } => Failure::Usage(error.to_string()),
    })?;
    Ok(Forgotten { name: backlog.uplink, events: backlog.events, bytes: backlog.bytes })
}

impl Item {
    fn of_gateway(view: UplinkView) -> Self {
        Self {
            name: view.name,
            configured: Some(!view.kept),
            backlog_events: Some(view.backlog_events),
            backlog_bytes: Some(view.backlog_bytes),
            backlog_age_seconds: view.backlog_age_seconds,
            paused_since_ms: view.paused_since_ms,
        }
    }

    fn of_files(stat: UplinkStat, at_ms: u64) -> Self {
        let age_ms = stat.oldest_ms.map_or(0, |oldest| at_ms.saturating_sub(oldest));
        Self {
            name: stat.name,
            configured: None,
            backlog_events: stat.lag_events,
            backlog_bytes: stat.lag_bytes,
            backlog_age_seconds: age_ms as f64 / 1000.0,
            paused_since_ms: stat.paused_since_ms,
        }
    }
}

fn json(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value);
    say!("{}", line.map_err(|cause| Failure::Io(format!("it cannot be written as JSON: {cause}")))?);
    Ok(())
}

fn row(item: &Item) -> String {
    let configured = match (item.configured, item.paused_since_ms) {
        (Some(false), _) => "NO: kept",
        (_, Some(_)) => "PAUSED",
        (Some(true), None) => "yes",
        (None, None) => "?",
    };
    format!(
        "{:<32}  {configured:<10}  {:>15}  {:>12}  {:>8}",
        printable::line(&item.name),
        item.backlog_events.map_or_else(|| "?".into(), people::count),
        item.backlog_bytes.map_or_else(|| "?".into(), people::bytes),
        people::age(item.backlog_age_seconds)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_who_is_configured_and_what_is_not_known() {
        let kept = UplinkView {
            name: "old".into(),
            kept: true,
            backlog_events: 4_200,
            backlog_bytes: 2048,
            backlog_age_seconds: 75.0,
            ..UplinkView::default()
        };
        let rows = [
            row(&Item::of_gateway(UplinkView { name: "cloud".into(), ..UplinkView::default() })),
            row(&Item::of_gateway(kept)),
            row(&Item::of_files(
                UplinkStat {
                    name: "lake".into(),
                    paused_since_ms: Some(1),
                    cursor: 7,
                    lag_events: None,
                    lag_bytes: None,
                    oldest_ms: None,
                },
                1,
            )),
        ];
        let expected = "\
uplink                            configured   backlog events         bytes    oldest
cloud                             yes                       0           0 B         -
old                               NO: kept              4,200       2.0 KiB      75 s
lake                              PAUSED                    ?             ?         -";
        assert_eq!(format!("{HEADING}\n{}", rows.join("\n")), expected);
    }
}

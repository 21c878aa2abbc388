//! `tidegate dead-letters`: what upstreams could not take, asked of a running gateway over HTTP.
//!
//! Everything goes page by page: neither this process nor the gateway holds more than a page at a
//! time.

mod replay;

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Failure,
    ask::{Gateway, HTTP_DEFAULT},
    people, when,
};
use crate::{
    clock,
    http::{LetterItem, LetterPage},
    printable,
};

/// How long an answer may take: to drop many letters takes many commits, each of some ten
/// milliseconds on a card.
const ANSWER_MAX: Duration = Duration::from_secs(300);
/// Letters asked for at once.
const PAGE_LETTERS: usize = 1000;
const HEADING: &str =
    "      id  received              uplink        device            kind    tries       bytes  reason";

/// Look at the events that an upstream could not take, export, drop or send them again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate dead-letters list --reason \"too large\" --from 2h
  tidegate dead-letters show 17
  tidegate dead-letters export --out letters.ndjson
  tidegate dead-letters replay --reason \"not authorized\"
  tidegate dead-letters drop --device s3 --to 2026-11-24T08:00:00Z")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them, oldest first
    List(ListArguments),
    /// Show one, whole
    Show(ShowArguments),
    /// Write them as JSON, one whole event a line
    Export(ExportArguments),
    /// Send them again; each that is acknowledged is taken away
    Replay(replay::ReplayArguments),
    /// Take them away for good
    Drop(DropArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// Its number, as `list` shows it
    id: u64,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON as /api/dead-letters/ID gives it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ExportArguments {
    #[command(flatten)]
    filters: Filters,
    #[command(flatten)]
    at: At,
    /// A file that is not there yet; standard output without it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct DropArguments {
    /// Their numbers, as `list` shows them; or name them by filters
    #[arg(conflicts_with_all = ["all", "reason", "device", "kind", "uplink", "from", "to"])]
    ids: Vec<u64>,
    #[command(flatten)]
    filters: Filters,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON as the gateway answers it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    http: String,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filters {
    /// What stands in the reason, in capitals or not
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// The device that the topic (tg/<device>/...) or its route names, or else the MQTT client id
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// frame, json, text or opaque
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The uplink that could not deliver them
    #[arg(long, value_name = "NAME")]
    uplink: Option<String>,
    /// Received at this time or later: RFC 3339, a day, or an age like 2h
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Received before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let now_ms = clock::wall_ms();
    match &arguments.action {
        Action::List(list) => list_all(list, now_ms),
        Action::Show(show) => show_one(show),
        Action::Export(export) => export_all(export, now_ms),
        Action::Replay(again) => replay::run(again, now_ms),
        Action::Drop(drop) => drop_some(drop, now_ms),
    }
}

impl At {
    pub(super) fn gateway(&self) -> Gateway {
        Gateway::at(&self.http, ANSWER_MAX)
    }
}

impl Filters {
    /// As the gateway's parameters: names and values.
    pub(super) fn parameters(&self, now_ms: u64) -> Result<Vec<(&'static str, String)>, Failure> {
        let time = |option: &str, text: &String| {
            let ms = when::parse(text, now_ms);
            ms.map(|ms| ms.to_string()).map_err(|why| Failure::Usage(format!("--{option}: {why}")))
        };
        let mut parameters = Vec::new();
        for (name, value) in [
            ("reason", &self.reason),
            ("device", &self.device),
            ("kind", &self.kind),
            ("uplink", &self.uplink),
        ] {
            parameters.extend(value.clone().map(|value| (name, value)));
        }
        for (name, option, value) in [("from_ms", "from", &self.from), ("to_ms", "to", &self.to)] {
            if let Some(text) = value {
                parameters.push((name, time(option, text)?));
            }
        }
        Ok(parameters)
    }

    /// The same as the members of a JSON object.
    fn members(&self, now_ms: u64) -> Result<serde_json::Map<String, serde_json::Value>, Failure> {
        let member = |(name, value): (&str, String)| {
            let number = name.ends_with("_ms").then(|| value.parse::<u64>().ok()).flatten();
            (name.to_owned(), number.map_or_else(|| value.into(), serde_json::Value::from))
        };
        Ok(self.parameters(now_ms)?.into_iter().map(member).collect())
    }
}

fn list_all(arguments: &ListArguments, now_ms: u64) -> Result<(), Failure> {
    let mut letters = 0;
    each(&arguments.at.gateway(), &arguments.filters, false, now_ms, |item| {
        match (arguments.json, letters) {
            (true, _) => say!("{}", json_of(item)?),
            (false, 0) => say!("{HEADING}\n{}", row(item)),
            (false, _) => say!("{}", row(item)),
        }
        letters += 1;
        Ok(())
    })?;
    if letters == 0 && !arguments.json {
        say!("no dead letters");
    }
    Ok(())
}

fn show_one(arguments: &ShowArguments) -> Result<(), Failure> {
    let gateway = arguments.at.gateway();
    let json = gateway.get(&format!("/api/dead-letters/{}", arguments.id))?;
    if arguments.json {
        say!("{json}");
    } else {
        say!("{}", sheet(&gateway.parse(&json)?).trim_end());
    }
    Ok(())
}

fn export_all(arguments: &ExportArguments, now_ms: u64) -> Result<(), Failure> {
    let Some(path) = &arguments.out else {
        let mut out = std::io::stdout().lock();
        let done = write_all(arguments, now_ms, &mut out, Path::new("standard output"));
        return done.map(|_| ());
    };
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|cause| {
        Failure::CantCreate(format!("{}: {cause}; name a file that is not there yet", path.display()))
    })?;
    let mut out = BufWriter::new(file);
    let letters = write_all(arguments, now_ms, &mut out, path)?;
    // Whoever exports may drop next: what was written has to be there.
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file: File| file.sync_all())
        .map_err(|cause| unwritten(path, &cause))?;
    say!("{} dead letters written to {}", people::count(letters), path.display());
    Ok(())
}

fn write_all(
    arguments: &ExportArguments,
    now_ms: u64,
    out: &mut dyn Write,
    path: &Path,
) -> Result<u64, Failure> {
    let mut letters = 0;
    each(&arguments.at.gateway(), &arguments.filters, true, now_ms, |item| {
        letters += 1;
        writeln!(out, "{}", json_of(item)?).map_err(|cause| unwritten(path, &cause))
    })?;
    Ok(letters)
}

fn drop_some(arguments: &DropArguments, now_ms: u64) -> Result<(), Failure> {
    let gateway = arguments.at.gateway();
    if !arguments.ids.is_empty() {
        for id in &arguments.ids {
            gateway.delete(&format!("/api/dead-letters/{id}"))?;
        }
        return said_dropped(arguments.json, arguments.ids.len() as u64);
    }
    let mut asked = arguments.filters.members(now_ms)?;
    match (asked.is_empty(), arguments.all) {
        (true, false) => {
            let how = "name which to drop, by their numbers or by filters like --device, or --all of them";
            return Err(Failure::Usage(how.into()));
        }
        (false, true) => {
            return Err(Failure::Usage("--all does not go with filters: leave one of them out".into()));
        }
        _ => {}
    }
    if arguments.all {
        asked.insert("all".into(), true.into());
    }
    let answer = gateway.post("/api/dead-letters/drop", &serde_json::Value::Object(asked).to_string())?;
    let answer: serde_json::Value = gateway.parse(&answer)?;
    said_dropped(arguments.json, answer["dropped"].as_u64().unwrap_or_default())
}

fn said_dropped(json: bool, dropped: u64) -> Result<(), Failure> {
    if json {
        say!("{}", serde_json::json!({ "dropped": dropped }));
    } else {
        say!("{} dead letters dropped", people::count(dropped));
    }
    Ok(())
}

/// Visits all letters that the filters take, in the order of their numbers.
fn each(
    gateway: &Gateway,
    filters: &Filters,
    whole: bool,
    now_ms: u64,
    mut visit: impl FnMut(&LetterItem) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(filters.parameters(now_ms)?);
    query.append_pair("limit", &PAGE_LETTERS.to_string()).append_pair("whole", &whole.to_string());
    let query = query.finish();
    let mut after = 0;
    loop {
        let page: LetterPage =
            gateway.parse(&gateway.get(&format!("/api/dead-letters?{query}&after={after}"))?)?;
        page.items.iter().try_for_each(&mut visit)?;
        match page.next.filter(|next| *next > after) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

fn row(item: &LetterItem) -> String {
    format!(
        "{:>8}  {:<20}  {:<12}  {:<16}  {:<6}  {:>5}  {:>10}  {}",
        item.id,
        when::show(item.received_ms),
        printable::line(&item.uplink),
        printable::line(&item.device),
        printable::line(&item.kind),
        item.tries,
        people::bytes(item.payload_bytes),
        printable::line(&item.reason)
    )
}

fn sheet(item: &LetterItem) -> String {
    let flags = [(item.retain, "retain"), (item.urgent, "urgent")];
    let flags: Vec<_> = flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
    let mut text = format!(
        "id         {}\nuplink     {}\nreason     {}\ntries      {}\nset aside  {}\nreceived   {}\ntopic      {}\n\
         device     {}\nclient     {}\nkind       {}, events {}{}{}\noffset     {}\npayload    {}\n",
        item.id,
        printable::line(&item.uplink),
        printable::line(&item.reason),
        item.tries,
        when::show(item.set_aside_ms),
        when::show(item.received_ms),
        printable::line(&item.topic),
        printable::line(&item.device),
        printable::line(&item.client),
        printable::line(&item.kind),
        item.events,
        if flags.is_empty() { "" } else { ", " },
        flags.join(", "),
        item.offset,
        people::bytes(item.payload_bytes)
    );
    match (&item.text, &item.payload_base64) {
        (Some(payload), _) => {
            text.push('\n');
            payload.lines().for_each(|line| text += &format!("{}\n", printable::line(line)));
        }
        (None, Some(payload)) => text += &format!("\nbase64 {payload}\n"),
        (None, None) => {}
    }
    text
}

fn json_of(item: &LetterItem) -> Result<String, Failure> {
    serde_json::to_string(item)
        .map(|json| printable::page(&json).into_owned())
        .map_err(|cause| Failure::Io(format!("a dead letter cannot be written as JSON: {cause}")))
}

fn unwritten(path: &Path, cause: &std::io::Error) -> Failure {
    Failure::Io(format!("{}: {cause}; nothing was dropped: make room and export again", path.display()))
}

#[cfg(test)]
mod tests;

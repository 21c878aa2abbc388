//! `tidegate store stat`: how much the store holds, how far each uplink is, and how long the card
//! lasts.

use std::time::Duration;

use super::{
    super::{Failure, ask, people, when},
    StoreLocation, failed, open,
};
use crate::{
    clock,
    printable::line,
    store::{
        WhenFull,
        inspect::{CardLife, Part, RunStat, Stat},
    },
};

const PATH: &str = "/api/store/stat";
/// A gateway looks at the ends of every segment.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Show what the store holds, how far each uplink is, and how long the card lasts
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: StoreLocation,
    /// For scripts: JSON as /api/store/stat gives it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let stat = match &arguments.place.files {
        Some(folder) => open(folder)?.stat(clock::now()).map_err(failed)?,
        None => {
            let gateway = ask::Gateway::at(&arguments.place.http, ANSWER_MAX);
            gateway.parse(&gateway.get(PATH)?)?
        }
    };
    if arguments.json {
        let json = serde_json::to_string(&stat).map_err(|error| Failure::Io(error.to_string()))?;
        say!("{json}");
    } else {
        say!("{}", table(&stat).trim_end());
    }
    Ok(())
}

fn table(stat: &Stat) -> String {
    let max_bytes = stat.run.as_ref().map_or(0, |run| run.max_bytes);
    let mut text = format!(
        "store    {}: {} events ever, next offset {}, {}\n",
        stat.store.as_deref().unwrap_or("of unknown identity"),
        people::count(stat.events),
        people::count(stat.next_offset),
        people::part(stat.file_bytes, max_bytes)
    );
    for id in stat.ids.iter().skip(1) {
        text += &format!("named    after {} from record {} on\n", id.id, people::count(id.from));
    }
    text += &format!("events   oldest {}, newest {}\n", time(stat.oldest_ms), time(stat.newest_ms));
    for missing in &stat.missing {
        let (from, to) = (missing.from, missing.to.saturating_sub(1));
        text += &format!("missing  records {} to {}\n", people::count(from), people::count(to));
    }
    for other in stat.others.iter().filter(|other| other.is_set_aside) {
        text += &format!("damaged  {}, {}, set aside\n", line(&other.file), people::bytes(other.file_bytes));
    }
    text += &stat.run.as_ref().map_or_else(String::new, run_lines);
    text + &uplinks(stat) + &segments(stat)
}

fn run_lines(run: &RunStat) -> String {
    let policy = match run.when_full {
        WhenFull::Reject => "takes nothing more when full",
        WhenFull::DropOldest => "drops the oldest when full",
    };
    let mut text = format!(
        "run      {}: {} commits ({:.2}/s, last minute {:.2}/s), {} syncs, {policy}\n",
        people::age(run.uptime_seconds),
        people::count(run.commits),
        run.commits_per_second,
        run.recent_commits_per_second,
        people::count(run.syncs)
    );
    let each = run
        .written_bytes_per_event
        .map_or_else(|| "-".into(), |bytes| people::bytes(bytes.round().max(0.0) as u64));
    text += &format!("written  {}, {each} for each event stored\n", people::bytes(run.written_bytes));
    if run.dropped_events > 0 {
        text += &format!("DROPPED  {} events: gap records say which\n", people::count(run.dropped_events));
    }
    text += &run.failure.as_ref().map_or_else(String::new, |why| format!("FAILING  {}\n", line(why)));
    text + &run.card.as_ref().map_or_else(String::new, card)
}

fn card(card: &CardLife) -> String {
    let endurance = people::bytes(card.endurance_bytes);
    match card.years {
        Some(years) if card.is_early => {
            format!(
                "card     rated for {endurance}: {} years at the rate of this run so far\n",
                rounded(years)
            )
        }
        Some(years) => {
            format!("card     rated for {endurance}: {} years at the rate of this run\n", rounded(years))
        }
        None => format!("card     rated for {endurance}: nothing was written yet\n"),
    }
}

fn rounded(years: f64) -> String {
    if years < 100.0 { format!("{years:.1}") } else { "more than 100".into() }
}

fn uplinks(stat: &Stat) -> String {
    let mut text =
        "\nuplink                                  cursor       lag events         bytes    oldest\n"
            .to_owned();
    for uplink in &stat.uplinks {
        let age_ms = uplink.oldest_ms.map_or(0, |oldest| stat.at_ms.saturating_sub(oldest));
        text += &format!(
            "{:<32}  {:>12}  {:>15}  {:>12}  {:>8}\n",
            line(&uplink.name),
            people::count(uplink.cursor),
            uplink.lag_events.map_or_else(|| "?".into(), people::count),
            uplink.lag_bytes.map_or_else(|| "?".into(), people::bytes),
            people::age(age_ms as f64 / 1000.0)
        );
    }
    if stat.uplinks.is_empty() {
        text += "none\n";
    }
    text
}

fn segments(stat: &Stat) -> String {
    let mut text = "\nsegment                              records       events      on disk  oldest                newest\n"
        .to_owned();
    for segment in &stat.segments {
        let part = match (segment.is_active, segment.part) {
            (true, _) => "  active",
            (false, Part::Whole) => "",
            (false, Part::Salvaged) => "  what was saved of a damaged one",
            (false, Part::Urgent) => "  urgent records of a dropped one",
        };
        text += &format!(
            "{:<30} {:>13} {:>12}  {:>11}  {:<20}  {:<20}{part}\n",
            segment.file,
            people::count(segment.records),
            people::count(segment.events),
            people::bytes(segment.file_bytes),
            time(segment.oldest_ms),
            time(segment.newest_ms)
        );
        if let Some(problem) = &segment.problem {
            text += &format!("  {}\n  -> tidegate store verify\n", line(problem));
        }
    }
    text
}

fn time(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".into(), when::show)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::inspect::{Missing, OtherFile, SegmentStat, UplinkStat};

    fn stat() -> Stat {
        let segment = |first: u64, is_active, part| SegmentStat {
            file: format!("seg-{first:020}.redb"),
            first,
            end: Some(first + 10),
            records: 10,
            events: 1_200,
            file_bytes: 1 << 20,
            oldest_ms: Some(1_000),
            newest_ms: Some(61_000),
            part,
            is_active,
            problem: None,
        };
        Stat {
            store: Some("00c0ffee".into()),
            ids: Vec::new(),
            at_ms: 66_000,
            next_offset: 30,
            events: 2_400,
            file_bytes: 2 << 20,
            oldest_ms: Some(1_000),
            newest_ms: Some(61_000),
            segments: vec![segment(0, false, Part::Salvaged), segment(20, true, Part::Whole)],
            uplinks: vec![UplinkStat {
                paused_since_ms: None,
                name: "cloud".into(),
                cursor: 25,
                lag_events: Some(600),
                lag_bytes: Some(2048),
                oldest_ms: Some(61_000),
            }],
            missing: vec![Missing { from: 10, to: 20 }],
            others: vec![OtherFile {
                file: "seg-00000000000000000000.redb.damaged".into(),
                file_bytes: 1 << 20,
                is_set_aside: true,
            }],
            run: Some(RunStat {
                uptime_seconds: 7_200.0,
                max_bytes: 8 << 20,
                when_full: WhenFull::DropOldest,
                commits: 3_600,
                commits_per_second: 0.5,
                recent_commits_per_second: 2.25,
                syncs: 3_700,
                stored_events: 2_400,
                written_bytes: 4 << 20,
                written_bytes_per_event: Some(1747.6),
                dropped_events: 7,
                failure: None,
                card: Some(CardLife { endurance_bytes: 30 << 40, years: Some(4.12), is_early: false }),
            }),
        }
    }

    #[test]
    fn the_table_shows_what_there_is() {
        let expected = "\
store    00c0ffee: 2,400 events ever, next offset 30, 2.0 MiB of 8.0 MiB (25 %)
events   oldest 1970-01-01T00:00:01Z, newest 1970-01-01T00:01:01Z
missing  records 10 to 19
damaged  seg-00000000000000000000.redb.damaged, 1.0 MiB, set aside
run      2 h: 3,600 commits (0.50/s, last minute 2.25/s), 3,700 syncs, drops the oldest when full
written  4.0 MiB, 1.7 KiB for each event stored
DROPPED  7 events: gap records say which
card     rated for 30.0 TiB: 4.1 years at the rate of this run

uplink                                  cursor       lag events         bytes    oldest
cloud                                       25              600       2.0 KiB     5.0 s

segment                              records       events      on disk  oldest                newest
seg-00000000000000000000.redb             10        1,200      1.0 MiB  1970-01-01T00:00:01Z  1970-01-01T00:01:01Z  what was saved of a damaged one
seg-00000000000000000020.redb             10        1,200      1.0 MiB  1970-01-01T00:00:01Z  1970-01-01T00:01:01Z  active
";
        assert_eq!(table(&stat()), expected);
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_a_figure() {
        let mut stat = stat();
        (stat.run, stat.store, stat.oldest_ms) = (None, None, None);
        stat.uplinks[0].lag_events = None;
        stat.segments[0].problem = Some("it is damaged".into());
        let table = table(&stat);
        for text in
            ["of unknown identity", "oldest -,", "  it is damaged\n  -> tidegate store verify\n", " ? "]
        {
            assert!(table.contains(text), "{text} is missing from\n{table}");
        }
        let early = CardLife { endurance_bytes: 1, years: Some(1e9), is_early: true };
        assert!(card(&early).contains("more than 100 years at the rate of this run so far"));
    }
}

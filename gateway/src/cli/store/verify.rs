//! `tidegate store verify`: each file as it is checked, what is wrong with it, and what to do.

use super::{
    super::{Failure, people},
    StoreLocation, failed, lines, open,
};
use crate::{
    http::{VerifyLine, VerifyNote},
    printable,
    store::inspect::{FileKind, FileReport, Summary, Verdict},
};

const PATH: &str = "/api/store/verify";
const HEAD: &str =
    "file                                        records          events      on disk  verdict";

/// Check every file of the store, and say what is damaged or missing
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    place: StoreLocation,
    /// For scripts: a line of JSON for each file as /api/store/verify gives it, the last one a
    /// summary
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    if !arguments.json {
        say!("{HEAD}");
    }
    let summary = match &arguments.place.files {
        Some(folder) => {
            let inspector = open(folder)?;
            let mut summary = Summary::default();
            for report in inspector.verify().map_err(failed)? {
                let report = report.map_err(failed)?;
                summary.add(&report);
                show(&VerifyLine::File(report), arguments.json)?;
            }
            show(&VerifyLine::Note(VerifyNote::Summary(summary)), arguments.json)?;
            summary
        }
        None => ask(&arguments.place.http, arguments.json)?,
    };
    match summary.verdict {
        Verdict::Good | Verdict::Noted => Ok(()),
        Verdict::Unchecked => Err(Failure::Io(format!("{} could not be checked", files(summary.unchecked)))),
        Verdict::Damaged => {
            Err(Failure::Damaged(format!("damage was found: {} damaged or missing", files(summary.damaged))))
        }
    }
}

fn ask(address: &str, as_json: bool) -> Result<Summary, Failure> {
    let mut summary = None;
    lines::each(address, PATH, |line| {
        let line: VerifyLine = serde_json::from_str(line).map_err(|cause| lines::foreign(address, &cause))?;
        if let VerifyLine::Note(note) = &line {
            match note {
                VerifyNote::Summary(found) => summary = Some(*found),
                VerifyNote::Error(why) => return Err(lines::broken(address, why)),
            }
        }
        show(&line, as_json)
    })?;
    summary.ok_or_else(|| lines::broken(address, "there is no summary"))
}

fn show(line: &VerifyLine, as_json: bool) -> Result<(), Failure> {
    if as_json {
        let json = serde_json::to_string(line).map_err(|error| Failure::Io(error.to_string()))?;
        say!("{json}");
        return Ok(());
    }
    match line {
        VerifyLine::File(report) => say!("{}", row(report).trim_end()),
        VerifyLine::Note(VerifyNote::Summary(summary)) => say!("\n{}", sum(summary)),
        VerifyLine::Note(VerifyNote::Error(_)) => {}
    }
    Ok(())
}

fn row(report: &FileReport) -> String {
    let has_records = report.kind == FileKind::Segment;
    let count = |n| if has_records { people::count(n) } else { "-".into() };
    let mut text = format!(
        "{:<38} {:>12}  {:>14}  {:>11}  {}\n",
        printable::line(&report.file),
        count(report.records),
        count(report.events),
        people::bytes(report.file_bytes),
        verdict(report.verdict)
    );
    let mut advice = "";
    for finding in &report.findings {
        text += &format!("  {}\n", printable::line(&finding.what));
        if !finding.advice.is_empty() && finding.advice != advice {
            text += &format!("  -> {}\n", printable::line(&finding.advice));
            advice = &finding.advice;
        }
    }
    if report.more_findings > 0 {
        text += &format!("  and {} more findings\n", people::count(report.more_findings));
    }
    text
}

fn sum(summary: &Summary) -> String {
    let state = match summary.verdict {
        Verdict::Good | Verdict::Noted => "nothing is damaged".to_owned(),
        Verdict::Unchecked => format!("NOT CHECKED: {}", files(summary.unchecked)),
        Verdict::Damaged => format!("DAMAGED or missing: {}", files(summary.damaged)),
    };
    let known = match summary.known_missing_records {
        0 => String::new(),
        n => format!(", known to be missing: at most {} records", people::count(n)),
    };
    format!(
        "{}, {} records, {} events, {}: {state}{known}",
        files(summary.files),
        people::count(summary.records),
        people::count(summary.events),
        people::bytes(summary.file_bytes)
    )
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Noted => "noted",
        Verdict::Unchecked => "NOT CHECKED",
        Verdict::Damaged => "DAMAGED",
    }
}

fn files(n: u64) -> String {
    if n == 1 { "1 file".into() } else { format!("{} files", people::count(n)) }
}

//! What a verification says: a report for each file, and a summary. Plain data, both ways.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::store::segment::Part;

/// Findings told of one file; the others are counted.
pub const FINDINGS_MAX: usize = 32;

/// How a file does, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All of it is as it was written.
    #[default]
    Good,
    /// Something to know, and nothing to do.
    Noted,
    /// It could not be checked.
    Unchecked,
    /// Something is damaged or missing, and nothing has said so yet.
    Damaged,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A piece of the log.
    Segment,
    /// A piece of the log that is not there.
    Missing,
    /// `dead_letters.redb`, or `state.redb` as earlier versions called it.
    State,
    /// `commands.redb`.
    Commands,
    /// `sessions.redb`.
    Sessions,
    /// `fleet.redb`.
    Fleet,
    /// `journal.log`.
    Journal,
    /// An empty file whose name says how far everything is delivered.
    Delivered,
    /// An empty file whose name says that an uplink is paused.
    Paused,
    /// One that was damaged, was repaired, and is kept under another name.
    SetAside,
    /// One that was being made.
    Unfinished,
    /// One that is not Tidegate's.
    Foreign,
}

/// Offsets of records that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The first one.
    pub from: u64,
    /// Behind the last one.
    pub to: u64,
}

impl From<Range<u64>> for Missing {
    fn from(range: Range<u64>) -> Self {
        Self { from: range.start, to: range.end }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is.
    pub what: String,
    /// The offsets that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offsets: Option<Missing>,
    /// What to do about it; empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub advice: String,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// Its name in the data folder.
    pub file: String,
    /// What it is.
    pub kind: FileKind,
    /// How it does: the worst of its findings.
    pub verdict: Verdict,
    /// Offset of its first record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<u64>,
    /// Offset behind its last record.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<u64>,
    /// Records that can be read.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// Bytes that it takes on the disk.
    pub file_bytes: u64,
    /// How much of its piece of the log it holds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub part: Option<Part>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Findings that are not told.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub more_findings: u64,
}

/// All files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// The worst of them.
    pub verdict: Verdict,
    /// Files looked at.
    pub files: u64,
    /// Segments among them.
    pub segments: u64,
    /// Records that can be read.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// Bytes that the files take on the disk.
    pub file_bytes: u64,
    /// Files, or pieces of the log, that are damaged or missing.
    pub damaged: u64,
    /// Files that could not be checked.
    pub unchecked: u64,
    /// Records that are missing, and known to be.
    pub known_missing_records: u64,
}

impl FileReport {
    /// Nothing was found so far.
    pub(super) fn new(file: String, kind: FileKind, file_bytes: u64) -> Self {
        Self {
            file,
            kind,
            verdict: Verdict::Good,
            first: None,
            end: None,
            records: 0,
            events: 0,
            file_bytes,
            part: None,
            findings: Vec::new(),
            more_findings: 0,
        }
    }

    /// Adds a finding.
    pub(super) fn find(
        &mut self,
        verdict: Verdict,
        what: String,
        offsets: Option<Range<u64>>,
        advice: impl Into<String>,
    ) {
        self.verdict = self.verdict.max(verdict);
        if self.findings.len() < FINDINGS_MAX {
            let (offsets, advice) = (offsets.map(Missing::from), advice.into());
            self.findings.push(Finding { verdict, what, offsets, advice });
        } else {
            self.more_findings += 1;
        }
    }
}

impl Summary {
    /// One more file.
    pub fn add(&mut self, report: &FileReport) {
        self.verdict = self.verdict.max(report.verdict);
        self.files += u64::from(report.kind != FileKind::Missing);
        self.segments += u64::from(report.kind == FileKind::Segment);
        self.records += report.records;
        self.events += report.events;
        self.file_bytes += report.file_bytes;
        self.damaged += u64::from(report.verdict == Verdict::Damaged);
        self.unchecked += u64::from(report.verdict == Verdict::Unchecked);
        let known = report.findings.iter().filter(|finding| finding.verdict == Verdict::Noted);
        let missing = known.filter_map(|finding| finding.offsets);
        self.known_missing_records += missing.map(|missing| missing.to - missing.from).sum::<u64>();
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_finding_and_tells_a_bounded_number() {
        let mut report = FileReport::new("seg".into(), FileKind::Segment, 7);
        (0..FINDINGS_MAX).for_each(|n| report.find(Verdict::Noted, n.to_string(), Some(0..2), ""));
        report.find(Verdict::Damaged, "bad".into(), None, "mend it");
        report.find(Verdict::Noted, "more".into(), None, "");
        assert_eq!((report.verdict, report.findings.len()), (Verdict::Damaged, FINDINGS_MAX));
        assert_eq!(report.more_findings, 2);
        let mut summary = Summary::default();
        summary.add(&report);
        summary.add(&FileReport::new("dead_letters.redb".into(), FileKind::State, 5));
        assert_eq!((summary.verdict, summary.files, summary.segments), (Verdict::Damaged, 2, 1));
        assert_eq!((summary.file_bytes, summary.damaged), (12, 1));
        assert_eq!(summary.known_missing_records, 2 * FINDINGS_MAX as u64);
    }

    #[test]
    fn a_report_survives_json() {
        let mut report = FileReport::new("seg".into(), FileKind::SetAside, 7);
        report.find(Verdict::Noted, "it was mended".into(), Some(3..9), "");
        report.part = Some(Part::Salvaged);
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.contains("\"verdict\":\"noted\"") && json.contains("\"kind\":\"set-aside\""), "{json}");
        assert_eq!(serde_json::from_str::<FileReport>(&json).unwrap(), report);
    }
}

//! Checking a store file by file: what is damaged or missing, where, and what to do about it.
//!
//! ```text
//!  segments, oldest first ──▶ opened checked ──▶ rows followed (walk.rs) ──▶ what is between it and the next
//!  dead_letters.redb and the other files beside the segments ──▶ checked, named (beside.rs)
//! ```
//! What a gap record says is missing is told as such; what nobody has said so far is damage. A file
//! is let go of by the system's memory first, so that what is checked is what the disk holds. In a
//! running store what is damaged is reported to the commit thread as well, and what the gateway
//! deletes meanwhile is passed over.
//!
//! Limits: as the inspector's; a file that is open in the running gateway (`dead_letters.redb`,
//! `commands.redb`) is not read.

use std::{collections::VecDeque, ops::Range};

use super::{
    beside::Beside,
    report::{FileKind, FileReport, Verdict},
    source::{InspectedStore, SegmentRange},
    state,
    walk::{Flaw, Walk},
};
use crate::store::{
    disk::lock::NOT_FOREIGN,
    error::StoreError,
    journal,
    log::Fault,
    record::{
        gaps::Gaps,
        position::{self, LogPosition},
    },
    segment::{
        self,
        salvage::{Damaged, Salvage},
    },
    side_file::dead_letters,
};

/// What becomes of damage once a gateway has the store open.
const REPAIRED: &str = "what can be read of it is kept, the file is set aside under the same name with .damaged, and \
                      a gap record says upstream what is missing";

/// The files of a store, each checked when it is asked for.
#[derive(Debug)]
pub struct Verify<'a> {
    source: &'a InspectedStore,
    names: Vec<String>,
    places: VecDeque<SegmentRange>,
    others: VecDeque<String>,
    ready: VecDeque<FileReport>,
    /// Where the next segment should begin; `None` where nobody can tell.
    expected: Option<u64>,
    /// The store holds records, or did.
    holds_records: bool,
}

impl<'a> Verify<'a> {
    pub(super) fn new(source: &'a InspectedStore) -> Result<Self, StoreError> {
        source.check_open()?;
        // In this order: a file is there before its segment is known.
        let places = source.places();
        let mut names = source.files().names()?;
        names.sort_unstable();
        let is_other = |name: &&String| {
            !NOT_FOREIGN.contains(&name.as_str())
                && segment::first_of(name).is_none_or(|first| places.iter().all(|place| place.first != first))
        };
        let mut others: VecDeque<String> = names.iter().filter(is_other).cloned().collect();
        let is_there = others.iter().any(|name| dead_letters::SIDE_FILE.is_named(name));
        if !is_there {
            others.push_back(dead_letters::FILE.to_owned());
        }
        if source.misses_journal(&names) {
            others.push_back(journal::FILE.to_owned());
        }
        let mut verify = Self {
            expected: source.cursors().iter().map(|(_, offset)| *offset).min(),
            holds_records: false,
            source,
            names,
            places: places.into(),
            others,
            ready: VecDeque::new(),
        };
        if verify.places.is_empty() {
            verify.ready.push_back(no_segments());
        }
        Ok(verify)
    }

    fn segment(&mut self, place: SegmentRange) -> Result<(), StoreError> {
        if let Some(gap) = self.expected.filter(|end| *end < place.first).map(|end| end..place.first) {
            self.missing(gap);
        }
        let name = segment::name_of(place.first);
        let mut report =
            FileReport::new(name.clone(), FileKind::Segment, self.source.files().used_bytes(&name));
        report.first = Some(place.first);
        self.expected = match self.rows(place, &mut report) {
            Ok(walk) => {
                (report.end, report.records, report.events) = (Some(walk.end()), walk.records, walk.events);
                Some(walk.end())
            }
            Err(StoreError::Closed) => return Err(StoreError::Closed),
            Err(_) if !self.source.has(place.first) => {
                self.expected = None;
                return Ok(());
            }
            Err(error) => {
                self.fault(place, &error, &mut report);
                None
            }
        };
        self.holds_records |= place.first > 0 || report.records > 0;
        self.ready.push_back(report);
        if let Some(gap) = self.expected.zip(place.end).map(|(from, to)| from..to)
            && place.is_last
            && !gap.is_empty()
        {
            self.missing(gap);
        }
        if place.is_last && self.source.running().is_none() {
            self.newest_missing(place.first);
        }
        Ok(())
    }

    /// Whether there was a segment behind the last one that is there.
    fn newest_missing(&mut self, last: u64) {
        let newest = state::read(self.source.files()).map_or(0, |says| says.newest_segment);
        if newest > last {
            let mut report = FileReport::new(segment::name_of(newest), FileKind::Missing, 0);
            report.first = Some(newest);
            let what = format!("it was made, and is not there: all records from {newest} on are missing");
            report.find(Verdict::Damaged, what, None, self.advice());
            self.ready.push_back(report);
        }
    }

    /// Follows the rows of a segment, and finds what is wrong with them.
    fn rows(&self, place: SegmentRange, report: &mut FileReport) -> Result<Walk, StoreError> {
        let files = self.source.files();
        if !self.names.contains(&report.file) {
            let gone = std::io::ErrorKind::NotFound.into();
            return Err(StoreError::io(&files.path_of(&report.file), gone));
        }
        if !self.source.is_written(place.first) {
            files.forget_cached(&report.file)?;
        }
        let opened = self.source.open(place.first)?;
        let head = opened.head()?;
        report.part = Some(head.part);
        let beginning = LogPosition {
            offset: place.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        };
        let (mut walk, gaps, mut unknown) = (Walk::new(beginning), self.source.gaps(), Vec::new());
        opened.for_each_row(|block| {
            // Rows behind the end are of a commit that failed: they are not there.
            if place.end.is_some_and(|end| block.first() >= end) {
                return Ok(());
            }
            for flaw in walk.row(&block) {
                match flaw {
                    Flaw::Gap(gap) => unknown.extend(find_missing(&gaps, &gap, report, &self.advice())),
                    Flaw::Wrong { what, offsets } => {
                        let advice =
                            "keep a copy of the file: the store never writes this, and it is a defect";
                        report.find(Verdict::Damaged, what, Some(offsets), advice);
                    }
                }
            }
            Ok(())
        })?;
        unknown.into_iter().for_each(|gap| self.report_missing(gap));
        Ok(walk)
    }

    /// A segment that cannot be read as a whole: what is the matter, and what of it cannot be read.
    fn fault(&self, place: SegmentRange, error: &StoreError, report: &mut FileReport) {
        let range = place.end.map(|end| place.first..end);
        if !error.is_damage() {
            report.find(Verdict::Unchecked, error.to_string(), range, "fix the cause and verify again");
            return;
        }
        self.report_damaged(place, &error.to_string());
        report.find(Verdict::Damaged, error.to_string(), range, self.advice());
        let (readable, missing) = self.readable(place, report);
        (report.end, report.records, report.events) = (place.end, readable.records, readable.events);
        for gap in missing {
            let what = format!("{} cannot be read", records(&gap));
            report.find(Verdict::Damaged, what, Some(gap), "");
        }
    }

    /// What can be had of a damaged segment, and which offsets cannot.
    fn readable(&self, place: SegmentRange, report: &mut FileReport) -> (Walk, Vec<Range<u64>>) {
        let mut walk = Walk::new(LogPosition { offset: place.first, ..LogPosition::default() });
        let mut missing = Vec::new();
        let damaged = self.damaged(place);
        let found = Salvage::look(self.source.files(), &damaged).and_then(|mut salvage| {
            salvage.for_each(|block| {
                let flaws = walk.row(&block);
                missing.extend(flaws.into_iter().filter_map(|flaw| match flaw {
                    Flaw::Gap(gap) => Some(gap),
                    Flaw::Wrong { .. } => None,
                }));
                Ok(())
            })?;
            Ok(salvage.doubts())
        });
        match found {
            Ok(doubts) => {
                doubts.into_iter().for_each(|doubts| report.find(Verdict::Damaged, doubts, None, ""));
            }
            Err(error) => report.find(Verdict::Unchecked, error.to_string(), None, ""),
        }
        if let Some(end) = place.end.filter(|end| *end > walk.end()) {
            missing.push(walk.end()..end);
        }
        (walk, missing)
    }

    /// What is known of a damaged segment from those beside it.
    fn damaged(&self, place: SegmentRange) -> Damaged {
        let places = self.source.places();
        let before = places.iter().find(|before| before.end == Some(place.first));
        let before = before.and_then(|before| self.source.open_quickly(before.first).ok()?.last().ok()?);
        let before = before.map(|block| position::end_of(&block)).filter(|mark| mark.offset == place.first);
        let behind = place.end.and_then(|end| self.source.open_quickly(end).ok()?.head().ok());
        let behind = behind.map(|head| LogPosition {
            offset: head.first,
            events: head.events_before,
            bytes: head.bytes_before,
            received_ms: None,
        });
        Damaged { first: place.first, end: place.end, store: self.source.store(), before, behind }
    }

    /// A stretch of the log that no file holds.
    fn missing(&mut self, gap: Range<u64>) {
        let mut report = FileReport::new(segment::name_of(gap.start), FileKind::Missing, 0);
        (report.first, report.end) = (Some(gap.start), Some(gap.end));
        let unknown = find_missing(&self.source.gaps(), &gap, &mut report, &self.advice());
        unknown.into_iter().for_each(|gap| self.report_missing(gap));
        self.ready.push_back(report);
    }

    fn report_missing(&self, gap: Range<u64>) {
        if let Some(log) = self.source.running() {
            log.report(Fault::Missing { range: gap });
        }
    }

    fn report_damaged(&self, place: SegmentRange, why: &str) {
        if let Some(log) = self.source.running() {
            log.report(Fault::Damaged { first: place.first, why: why.to_owned() });
        }
    }

    fn advice(&self) -> String {
        match self.source {
            InspectedStore::Running(_) => format!("nothing: the gateway was told; {REPAIRED}"),
            InspectedStore::Stopped(_) => format!("start the gateway: {REPAIRED}"),
        }
    }
}

impl Iterator for Verify<'_> {
    type Item = Result<FileReport, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(report) = self.ready.pop_front() {
                return Some(Ok(report));
            }
            if let Some(place) = self.places.pop_front() {
                if let Err(error) = self.segment(place) {
                    (self.places, self.others) = (VecDeque::new(), VecDeque::new());
                    return Some(Err(error));
                }
                continue;
            }
            let name = self.others.pop_front()?;
            let lookout =
                Beside { source: self.source, names: &self.names, holds_records: self.holds_records };
            return Some(Ok(lookout.report(&name)));
        }
    }
}

/// Finds what of a gap is known to be missing, and what is not: that is given.
fn find_missing(gaps: &Gaps, gap: &Range<u64>, report: &mut FileReport, advice: &str) -> Vec<Range<u64>> {
    let (mut at, mut found) = (gap.start, Vec::new());
    let mut unknown = |from: u64, to: u64, report: &mut FileReport| {
        if from < to {
            let what = format!("{} are missing, and no gap record says so", records(&(from..to)));
            report.find(Verdict::Damaged, what, Some(from..to), advice);
            found.push(from..to);
        }
    };
    for known in gaps.iter().filter(|known| known.start < gap.end && known.end > gap.start) {
        unknown(at, known.start, report);
        let known = known.start.max(gap.start)..known.end.min(gap.end);
        at = known.end;
        let what = format!("{} are missing, recorded: a gap record said so upstream", records(&known));
        report.find(Verdict::Noted, what, Some(known), "");
    }
    unknown(at, gap.end, report);
    found
}

fn records(range: &Range<u64>) -> String {
    format!("records {} to {}", range.start, range.end.saturating_sub(1))
}

fn no_segments() -> FileReport {
    let mut report = FileReport::new(segment::name_of(0), FileKind::Missing, 0);
    let advice = "put the seg-*.redb files back, or choose an empty folder as data_dir";
    report.find(Verdict::Damaged, "there is no segment".into(), None, advice);
    report
}

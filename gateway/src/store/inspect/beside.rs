//! The files beside the segments, as a verification finds them: each is named, and checked where
//! nobody has it open.
//!
//! ```text
//!  dead_letters.redb, commands.redb, sessions.redb, fleet.redb ──▶ pages, format, store, every row (state.rs) ──▶ damage, and what to do
//!  delivered-…, paused-…, ….damaged, ….new, foreign ones ─▶ what they are, and what becomes of them
//! ```
//! What a start loses with a damaged file is said with it. A file that is not there is told only
//! where the store cannot have been without it: the first command makes `commands.redb`, and one
//! that was taken away is not missed.

use super::{
    report::{FileKind, FileReport, Verdict},
    source::InspectedStore,
    state,
};
use crate::store::{
    error::StoreError,
    journal,
    log::{delivered::Delivered, paused::Paused},
    segment,
    side_file::{dead_letters, file::SideFile, fleet, outbox, sessions},
};

/// A file that the gateway keeps beside the segments: what it is, how it is checked, and what is
/// lost with it.
type SideFileEntry = (&'static SideFile, FileKind, &'static str);

const IS_OPEN: &str = "it is open: it was checked when the gateway opened it";
const KEPT: [SideFileEntry; 4] = [
    (&dead_letters::SIDE_FILE, FileKind::State, "the dead letters that were in it"),
    (&outbox::SIDE_FILE, FileKind::Commands, "the commands that waited in it"),
    (&sessions::SIDE_FILE, FileKind::Sessions, "the sessions and retained messages that were in it"),
    (&fleet::SIDE_FILE, FileKind::Fleet, "what was known of the devices, but for what the log still holds"),
];

/// What is known where a file is looked at.
pub struct Beside<'a> {
    pub source: &'a InspectedStore,
    /// All files of the folder.
    pub names: &'a [String],
    /// The store holds records, or did.
    pub holds_records: bool,
}

impl Beside<'_> {
    /// What a file is, and how it does.
    pub fn report(&self, name: &str) -> FileReport {
        let file_bytes = self.source.files().used_bytes(name);
        if let Some((file, kind, lost)) = KEPT.iter().find(|(file, ..)| file.is_named(name)) {
            return self.kept(file, FileReport::new(name.to_owned(), *kind, file_bytes), lost);
        }
        if name == journal::FILE {
            return self.journal(FileReport::new(name.to_owned(), FileKind::Journal, file_bytes));
        }
        let (kind, what, advice) = other(name);
        let mut report = FileReport::new(name.to_owned(), kind, file_bytes);
        report.find(Verdict::Noted, what.to_owned(), None, advice);
        report
    }

    /// Its rows count with the segment before them.
    fn journal(&self, mut report: FileReport) -> FileReport {
        let start = "start the gateway: it goes on with what can be read, and a gap record says upstream what is missing";
        match self.source.replayed() {
            None => report.find(Verdict::Noted, IS_OPEN.into(), None, ""),
            Some(Err(error)) => {
                report.find(Verdict::Unchecked, error.to_string(), None, "fix the cause and verify again");
            }
            Some(Ok(journal)) => {
                if !self.names.contains(&report.file) {
                    let what = "it is not there: what the last commits stored is lost";
                    report.find(Verdict::Damaged, what.into(), None, start);
                } else if journal.is_end_lost {
                    let what = "it is cut off, damaged or not the one that was written: what the last commits stored is lost";
                    report.find(Verdict::Damaged, what.into(), None, start);
                } else if journal.is_damaged {
                    report.find(Verdict::Damaged, "commits in it cannot be read".into(), None, start);
                }
                if let Some((first, last)) = journal.held.first().zip(journal.held.last()) {
                    let what = "it holds records of a segment that cannot be read";
                    let advice = "start the gateway: it repairs the segment with them";
                    report.find(Verdict::Noted, what.into(), Some(first.first()..last.end()), advice);
                }
            }
        }
        report
    }

    fn kept(&self, file: &SideFile, mut report: FileReport, lost: &str) -> FileReport {
        let lost = &format!(
            "put back a copy that was made with the rest of the folder, or start the gateway: it sets the file aside and goes on \
             without {lost}"
        );
        if !self.names.contains(&report.file) {
            let verdict = if self.holds_records { Verdict::Damaged } else { Verdict::Noted };
            report.find(verdict, "it is not there".into(), None, lost);
            return report;
        }
        if self.source.running().is_some() {
            report.find(Verdict::Noted, IS_OPEN.into(), None, "");
            return report;
        }
        match state::check(self.source.files(), file, &report.file) {
            Ok(says) if self.source.store().is_some_and(|store| store != says.store) => {
                let what = format!("it belongs to another store ({:08x})", says.store);
                let advice = "put the file that belongs here back, or take it away";
                report.find(Verdict::Damaged, what, None, advice);
            }
            Ok(_) => {}
            Err(error) if error.is_damage() => report.find(Verdict::Damaged, error.to_string(), None, lost),
            Err(error @ StoreError::Format { .. }) => {
                report.find(Verdict::Unchecked, error.to_string(), None, "verify with that version");
            }
            Err(error) => {
                report.find(Verdict::Unchecked, error.to_string(), None, "fix the cause and verify again");
            }
        }
        report
    }
}

/// What a file is that is not checked, and what to do about it.
fn other(name: &str) -> (FileKind, &'static str, &'static str) {
    let is_segments = |name: &str| segment::first_of(name).is_some();
    if segment::is_damaged(name) {
        let of_segment = name.strip_suffix(".damaged").is_some_and(is_segments);
        let what = match of_segment {
            true => {
                "it was damaged: it is never read again, and what could not be saved of it is in a gap record"
            }
            false => "it was damaged: it is never read again, and what was in it is gone",
        };
        (FileKind::SetAside, what, "delete it when nobody wants to examine it; a full store deletes it")
    } else if let Some(made) = name.strip_suffix(segment::NEW_SUFFIX) {
        let advice = match is_segments(made) {
            true => "nothing: the gateway finishes or deletes it at its next start",
            false => "nothing: the next one that is made takes its place",
        };
        (FileKind::Unfinished, "it was being made", advice)
    } else if Delivered::of(name).is_some() {
        let what = "it says how far everything is delivered, for a full disk";
        (FileKind::Delivered, what, "nothing: the gateway removes it when it has room")
    } else if Paused::of(name).is_some() {
        let what = "it says that an uplink is paused";
        (FileKind::Paused, what, "nothing: tidegate uplinks resume removes it")
    } else if is_segments(name) {
        let what = "a segment that the running gateway does not know";
        (FileKind::Segment, what, "if it was put there by hand, take it away before the next start")
    } else {
        let advice = "nothing: it is left alone, and counts against max_bytes";
        (FileKind::Foreign, "it is not Tidegate's", advice)
    }
}

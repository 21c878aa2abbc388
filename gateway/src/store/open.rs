//! Opening a store: which segments there are, and what the last one says.
//!
//! Reads the names in the folder, the last segment, and for each uplink the block at its cursor:
//! what a start costs does not grow with the backlog. It writes nothing into a file that is there:
//! the first write of the run begins a file of its own, which takes over the rows of the last one
//! if they are few ([`CARRIED_BYTES_MAX`]).

use std::sync::Arc;

use super::{
    commit::{Start, seen::Seen},
    disk::{Files, folder::Folder},
    error::StoreError,
    journal::{self, Replay},
    last::{Last, random_id},
    log::{Fault, Log, cursor::Cursor, delivered::Delivered, paused::Paused, segments::Segments},
    record::{
        self,
        epochs::Epochs,
        gaps::Gaps,
        ids::StoreIds,
        pending::Pending,
        position::{self, LogPosition},
    },
    segment::{self, Beginning, Found, Part, Segment},
    settings::UPLINKS_KEPT_MAX,
    side_file::dead_letters::{self, DeadLetters},
};

/// Bytes of a row that are read at once at a cursor.
const CURSOR_READ_BYTES: usize = 1;

/// How a start takes the places of uplinks that are not configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfigured {
    /// Each is named in a warning, and a store with more than [`UPLINKS_KEPT_MAX`] is not opened.
    Limited,
    /// There may be any number, and no warning: the store is opened to forget one of them.
    Any,
}

/// An opened store, before its thread runs.
pub struct Opened {
    pub log: Log,
    pub pending: Pending,
    pub start: Start,
}

/// Opens what is in the folder, or makes the first segment of a new store.
pub fn open(
    folder: Arc<dyn Folder>,
    uplinks: &[String],
    unconfigured: Unconfigured,
    letters_max_bytes: u64,
) -> Result<Opened, StoreError> {
    let files = Files::new(folder);
    let firsts = clear(&files)?;
    let last = match Delivered::find(&files.names()?, None) {
        _ if !firsts.is_empty() => Last::of(&files, &firsts)?,
        Some(delivered) => Last::behind(delivered),
        None => return open_new(files, uplinks, letters_max_bytes),
    };
    open_at(files, &firsts, last, uplinks, unconfigured, letters_max_bytes)
}

/// Opens a store of which it is known how things stood last.
fn open_at(
    files: Files,
    firsts: &[u64],
    mut last: Last,
    uplinks: &[String],
    unconfigured: Unconfigured,
    letters_max_bytes: u64,
) -> Result<Opened, StoreError> {
    let letters = DeadLetters::open(&files, last.found.head.store, last.end.events > 0, letters_max_bytes)?;
    // Where there is no segment, the log ends at the mark.
    last.miss_newest(letters.newest_segment(), firsts.last().copied().unwrap_or(last.end.offset));
    let segments = Segments::new(files.clone(), last.found.head.store, firsts);
    let segments_end = last.end;
    let replay = last.take_journal(&files, &segments)?;
    let names = files.names()?;
    let delivered = Delivered::find(&names, Some(last.found.head.store));
    if let Some(delivered) = delivered {
        delivered.raise(&mut last.found.cursors, uplinks, last.end.offset);
    }
    let oldest = firsts.first().copied().unwrap_or_default();
    let cursors: Vec<Cursor> = cursors(&segments, uplinks, &last, oldest)
        .into_iter()
        .map(|cursor| {
            let since_ms = Paused::find(&names, &cursor.uplink);
            cursor.paused(since_ms)
        })
        .collect();
    if unconfigured == Unconfigured::Limited {
        check_kept(&files, &cursors, last.end)?;
    }
    let ids = ids(&files, &last.found, last.end.offset);
    let mut log =
        Log::new(last.found.head.store, segments, letters, files, cursors, last.found.gaps, last.end);
    log.ids = ids;
    log.extend(replay.blocks.clone(), last.end);
    last.faults.into_iter().for_each(|fault| log.report(fault));
    for cursor in log.cursors.iter().map(|cursor| cursor.mark().offset).filter(|offset| *offset < oldest) {
        log.report(Fault::Missing { range: cursor..oldest });
    }
    let start = Start {
        active: None,
        carried: last.carried,
        jumped_to: last.jumped_to,
        is_marked: delivered.is_some(),
        seen: last.seen,
        segments_end,
        epochs: last.found.head.epochs,
        replay,
        saved_cursors: last.found.cursors,
    };
    Ok(Opened { log, pending: last.found.pending, start })
}

/// A store of which there is nothing yet. Its first segment is made at once, so that a folder that
/// takes none is told.
fn open_new(files: Files, uplinks: &[String], letters_max_bytes: u64) -> Result<Opened, StoreError> {
    if dead_letters::SIDE_FILE.name_in(&files.names()?).is_some() {
        return Err(StoreError::SegmentsMissing { path: files.path_of("") });
    }
    let store = random_id();
    // From the first event on each has a place that can be kept.
    let saved_cursors: Vec<(String, u64)> = uplinks.iter().map(|name| (name.clone(), 0)).collect();
    let beginning = Beginning {
        store,
        ids: &StoreIds::one(store),
        first: 0,
        events_before: 0,
        bytes_before: 0,
        part: Part::Whole,
        cursors: &saved_cursors,
        pending: &Pending::default(),
        seen: &[],
        gaps: &Gaps::default(),
        epochs: Epochs::default(),
    };
    let active = Arc::new(Segment::create(&files, &beginning, |_| Ok(()))?);
    let letters = DeadLetters::open(&files, store, false, letters_max_bytes)?;
    let segments = Segments::new(files.clone(), store, &[]);
    segments.begin(0, active.clone());
    let cursors = uplinks.iter().map(|name| Cursor::new(name.clone(), LogPosition::default())).collect();
    let log = Log::new(store, segments, letters, files, cursors, Gaps::default(), LogPosition::default());
    let start = Start {
        active: Some(active),
        carried: None,
        jumped_to: None,
        is_marked: false,
        seen: Seen::default(),
        segments_end: LogPosition::default(),
        epochs: Epochs::default(),
        replay: Replay::default(),
        saved_cursors,
    };
    Ok(Opened { log, pending: Pending::default(), start })
}

/// Whether a file of this name says that its folder is a store's.
pub fn is_ours(name: &str) -> bool {
    dead_letters::SIDE_FILE.is_named(name)
        || journal::is_named(name)
        || Delivered::of(name).is_some()
        || segment::first_of(name).is_some()
        || segment::is_unfinished(name).is_some()
        || segment::is_damaged(name)
}

/// Finishes or deletes what the run before left unfinished, and gives where the segments begin,
/// ascending.
fn clear(files: &Files) -> Result<Vec<u64>, StoreError> {
    let names = files.names()?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    for unfinished in &names {
        let Some(name) = segment::is_unfinished(unfinished) else { continue };
        // What was saved of a damaged segment, between the two renames.
        let is_saved = !names.iter().any(|other| other == name) && names.contains(&segment::damaged(name));
        let cleared = if is_saved { files.rename(unfinished, name) } else { files.remove(unfinished) };
        match cleared {
            Ok(()) if is_saved => firsts.extend(segment::first_of(name)),
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "an unfinished file is left where it is"),
        }
    }
    if names.contains(&journal::unfinished())
        && let Err(error) = files.remove(&journal::unfinished())
    {
        tracing::warn!(%error, "an unfinished journal is left where it is");
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// Where each uplink begins, and where those stand that are not configured any more. If no place
/// was saved, an uplink begins with the `oldest` record: those before it are not missing, they were
/// delivered to every uplink that there was.
fn cursors(segments: &Segments, uplinks: &[String], last: &Last, oldest: u64) -> Vec<Cursor> {
    let (saved, end) = (&last.found.cursors, last.end);
    let mark = |offset: u64| mark_of(segments, offset.min(end.offset), end);
    let behind = saved.iter().map(|(_, offset)| *offset).min();
    let start = |name: &String| {
        let known = saved.iter().find(|(saved, _)| saved == name).map(|(_, offset)| *offset);
        Cursor::new(name.clone(), mark(known.or(behind).unwrap_or(oldest)))
    };
    let kept = saved.iter().filter(|(name, _)| !uplinks.contains(name));
    let kept = kept.map(|(name, offset)| Cursor::kept(name.clone(), mark(*offset)));
    uplinks.iter().map(start).chain(kept).collect()
}

/// Warns of each uplink that is not configured any more; an error if there are too many of them.
fn check_kept(files: &Files, cursors: &[Cursor], end: LogPosition) -> Result<(), StoreError> {
    let kept: Vec<&Cursor> = cursors.iter().filter(|cursor| !cursor.is_configured).collect();
    if kept.len() > UPLINKS_KEPT_MAX {
        let names = kept.iter().map(|cursor| cursor.uplink.as_str()).collect::<Vec<_>>().join(", ");
        return Err(StoreError::TooManyUplinks { path: files.path_of(""), names });
    }
    for cursor in kept {
        let (uplink, events) = (&cursor.uplink, end.events.saturating_sub(cursor.mark().events));
        tracing::warn!(
            "the uplink {uplink} is not configured any more: {events} events wait for it, and all that come; they are kept until it \
             is configured again, or \"tidegate uplinks forget {uplink}\""
        );
    }
    Ok(())
}

/// What records are named after: new ones after an id of their own where the folder is not where it
/// last ran, for the one that it was copied from gives the same offsets.
fn ids(files: &Files, found: &Found, end: u64) -> StoreIds {
    let ids = StoreIds::restore(&found.ids, found.head.store);
    let home = files.home(&segment::name_of(found.head.first));
    let how = match found.head.format {
        // Nothing was read that knows.
        0 => Some("no segment says where that was"),
        _ => home.differs_from(&found.head.home),
    };
    let Some(how) = how else { return ids };
    let id = random_id();
    tracing::warn!(
        folder = %files.path_of("").display(),
        "the store is not where it last ran: {how}. From record {end} on, new events are named after the store id {id:08x}; the \
         events that are stored keep their ids"
    );
    ids.with(end, id)
}

/// The point of the log at `offset`. Where it cannot be read, as if each record behind it held one
/// event: the reader says what is the matter.
fn mark_of(segments: &Segments, offset: u64, end: LogPosition) -> LogPosition {
    let behind = end.offset - offset.min(end.offset);
    let events = end.events.saturating_sub(behind);
    let bytes = end.bytes.saturating_sub(behind * record::HEAD_BYTES as u64);
    let unknown = LogPosition { offset, events, bytes, received_ms: None };
    if offset == end.offset {
        return end;
    }
    match segments.read(offset..end.offset, CURSOR_READ_BYTES) {
        Ok(blocks) => blocks.first().map_or(unknown, |block| {
            let mark = position::at(block, offset);
            LogPosition { offset, ..mark }
        }),
        Err(_) => unknown,
    }
}

//! Opening a store: whose folder it is, which segments there are, and what the last one says.
//!
//! Reads the names in the folder, the last segment, and for each uplink the block at its cursor: what a
//! start costs does not grow with the backlog.

use std::{
    collections::hash_map::RandomState,
    fs::{File, OpenOptions, TryLockError},
    hash::{BuildHasher, Hasher},
    path::Path,
    sync::Arc,
};

use super::{
    Settings,
    commit::{Start, frame_of},
    dead_letters::{self, DeadLetters},
    disk::Files,
    error::StoreError,
    folder::OsFolder,
    log::{Cursor, Log, Mark},
    pending::Pending,
    reader,
    seen::Seen,
    segment::{self, Beginning, Segment},
    segments::Segments,
};

/// The file that a running gateway holds locked.
const LOCK_FILE: &str = "LOCK";
/// What a file system may put into a folder by itself.
const NOT_FOREIGN: [&str; 2] = [LOCK_FILE, "lost+found"];

/// An opened store, before its thread runs.
pub struct Opened {
    pub log: Log,
    pub pending: Pending,
    pub start: Start,
}

/// Makes the folder if need be, checks that it is ours or empty, and locks it.
pub fn lock(folder: &Path) -> Result<File, StoreError> {
    std::fs::create_dir_all(folder).map_err(|error| StoreError::io(folder, error))?;
    sync_above(folder)?;
    let names = names_in(folder)?;
    let ours = |name: &String| {
        name == dead_letters::FILE || segment::first_of(name).is_some() || segment::is_unfinished(name)
    };
    if let Some(example) = names.iter().find(|name| !NOT_FOREIGN.contains(&name.as_str()))
        && !names.iter().any(ours)
    {
        return Err(StoreError::Foreign { path: folder.to_owned(), example: example.clone() });
    }
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| StoreError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(&path, error)),
    }
}

/// A folder made just now has to be there after a power cut: what lies above it is synced as far as it may be read.
fn sync_above(folder: &Path) -> Result<(), StoreError> {
    let folder = folder.canonicalize().map_err(|error| StoreError::io(folder, error))?;
    for above in folder.ancestors().skip(1) {
        let synced = File::open(above).and_then(|opened| opened.sync_all());
        if let Err(error) = synced {
            tracing::debug!(folder = %above.display(), %error, "a folder above the store can not be synced");
        }
    }
    Ok(())
}

/// Opens what is in the folder, or makes the first segment of a new store.
pub fn open(settings: &Settings, uplinks: &[String]) -> Result<Opened, StoreError> {
    let folder = &settings.data_dir;
    let files = Files::new(Arc::new(OsFolder::new(folder.clone())));
    let mut firsts = Vec::new();
    for name in files.names()? {
        if segment::is_unfinished(&name) {
            files.remove(&name)?;
        }
        firsts.extend(segment::first_of(&name));
    }
    firsts.sort_unstable();
    let active = match firsts.last() {
        Some(last) => Segment::open_active(&files, &segment::name_of(*last))?,
        None if folder.join(dead_letters::FILE).exists() => {
            return Err(StoreError::SegmentsMissing { path: folder.clone() });
        }
        None => {
            firsts.push(0);
            Segment::create(&files, &first_beginning())?
        }
    };
    let first = firsts.last().copied().unwrap_or_default();
    let found = active.found()?;
    let mut end =
        Mark { offset: first, events: found.events_before, bytes: found.bytes_before, received_ms: None };
    let (mut seen, mut segment_bytes, mut newest_ms) = (Seen::default(), 0, 0);
    for piece in &found.seen {
        if !seen.restore(piece) {
            tracing::warn!("a list of stored frames can not be read: frames sent again may be stored twice");
        }
    }
    active.for_each_row(|block| {
        for frame in block.records_from(0).filter_map(|(_, record)| frame_of(&record)) {
            seen.is_copy(frame);
        }
        end = reader::end_of(&block);
        segment_bytes += block.row().len() as u64;
        newest_ms = block.head().base_ms;
    })?;
    let dead_letters =
        DeadLetters::open(&files, found.store, end.events > 0, settings.dead_letters_max_bytes)?;
    let active = Arc::new(active);
    let segments = Segments::new(files.clone(), &firsts, active.clone());
    let oldest = firsts.first().copied().unwrap_or_default();
    let cursors = starts(uplinks, &found.cursors, oldest, end.offset)
        .into_iter()
        .map(|(uplink, offset)| Ok(Cursor::new(uplink, mark_of(&segments, offset, end)?)))
        .collect::<Result<_, StoreError>>()?;
    let log = Log::new(found.store, segments, dead_letters, files, cursors, end);
    let start = Start { active, segment_bytes, newest_ms, seen, saved_cursors: found.cursors };
    Ok(Opened { log, pending: found.pending, start })
}

/// Where each uplink begins.
fn starts(uplinks: &[String], saved: &[(String, u64)], oldest: u64, end: u64) -> Vec<(String, u64)> {
    for (name, offset) in saved.iter().filter(|(name, offset)| !uplinks.contains(name) && *offset < end) {
        tracing::warn!(uplink = %name, behind = end - offset, "an uplink with a backlog is not configured any more");
    }
    let behind = saved.iter().map(|(_, offset)| *offset).min().unwrap_or(oldest);
    let start = |name: &String| {
        let known = saved.iter().find(|(saved, _)| saved == name).map(|(_, offset)| *offset);
        (name.clone(), known.unwrap_or(behind).max(oldest).min(end))
    };
    uplinks.iter().map(start).collect()
}

/// The point of the log at `offset`.
fn mark_of(segments: &Segments, offset: u64, end: Mark) -> Result<Mark, StoreError> {
    if offset == end.offset {
        return Ok(end);
    }
    let blocks = reader::read_from(segments, offset)?;
    Ok(blocks.first().map_or(end, |block| reader::mark_at(block, offset.max(block.first()))))
}

fn first_beginning() -> Beginning<'static> {
    static NOTHING: std::sync::LazyLock<Pending> = std::sync::LazyLock::new(Pending::default);
    Beginning {
        // Seeded by the operating system's randomness.
        store: RandomState::new().build_hasher().finish() as u32,
        first: 0,
        events_before: 0,
        bytes_before: 0,
        cursors: Vec::new(),
        pending: &NOTHING,
        seen: Vec::new(),
    }
}

fn names_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    let fail = |error| StoreError::io(folder, error);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

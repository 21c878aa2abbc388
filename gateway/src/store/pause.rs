//! Uplinks that are paused: what waits for them is kept, and nothing is sent until they are
//! resumed.
//!
//! ```text
//!  running ── pause ─▶ paused ── resume ─▶ running      durable each, before it is answered
//! ```
//! The place of a paused uplink holds what it has not delivered, as any uplink's does. Whoever
//! sends for it watches [`View::watch_pause`].
//!
//! Crash story: what was answered holds over every start; what was asked for and not answered may
//! hold or not.

use std::{path::Path, sync::Arc};

use super::{
    disk::{Files, folder::OsFolder, lock},
    error::StoreError,
    forget::listed,
    inspect::Inspector,
    log::{
        Log,
        cursor::{Cursor, PauseWatch},
        paused::Paused,
    },
    open,
    read::view::View,
};

/// An uplink is not paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// There is no such uplink. Nothing changed.
    #[error("there is no uplink {name:?}; there are: {}", listed(.known))]
    Unknown {
        /// The name that was given.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It could not be saved. The uplink goes on as it did; a start may find it the other way.
    #[error("the uplink goes on as it did, for that cannot be saved: {0}")]
    NotSaved(StoreError),
    /// The store cannot be opened. It is as it was.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl View {
    /// Pauses an uplink: durable when this returns. Gives since when it is paused. Blocking.
    ///
    /// # Errors
    /// [`PauseError`]
    pub fn pause_uplink(&self, name: &str, now_ms: u64) -> Result<u64, PauseError> {
        let cursor = find(&self.log, name)?;
        cursor.change_pause(|paused| {
            let since_ms = match *paused {
                Some(since_ms) => since_ms,
                None => pause(&self.log.files, name, now_ms)?,
            };
            *paused = Some(since_ms);
            Ok(since_ms)
        })
    }

    /// Resumes an uplink: durable when this returns. Gives since when it was paused, if it was.
    /// Blocking.
    ///
    /// # Errors
    /// [`PauseError`]
    pub fn resume_uplink(&self, name: &str) -> Result<Option<u64>, PauseError> {
        let cursor = find(&self.log, name)?;
        cursor.change_pause(|paused| {
            Paused::clear(&self.log.files, name).map_err(PauseError::NotSaved)?;
            Ok(paused.take())
        })
    }

    /// Tells whether a configured uplink is paused; `None` for one that there is not.
    #[must_use]
    pub fn watch_pause(&self, name: &str) -> Option<PauseWatch> {
        find(&self.log, name).ok().map(Cursor::watch_pause)
    }
}

/// Pauses an uplink of a gateway that does not run. Gives since when it is paused.
///
/// # Errors
/// [`PauseError`]
pub fn pause_uplink_in(folder: &Path, name: &str, now_ms: u64) -> Result<u64, PauseError> {
    let (files, _lock) = stopped(folder, name)?;
    match Paused::find(&files.names()?, name) {
        Some(since_ms) => Ok(since_ms),
        None => pause(&files, name, now_ms),
    }
}

/// Resumes an uplink of a gateway that does not run. Gives since when it was paused, if it was.
///
/// # Errors
/// [`PauseError`]
pub fn resume_uplink_in(folder: &Path, name: &str) -> Result<Option<u64>, PauseError> {
    let (files, _lock) = stopped(folder, name)?;
    let since_ms = Paused::find(&files.names()?, name);
    Paused::clear(&files, name).map_err(PauseError::NotSaved)?;
    Ok(since_ms)
}

fn pause(files: &Files, name: &str, now_ms: u64) -> Result<u64, PauseError> {
    let mark = Paused { since_ms: now_ms, uplink: name.to_owned() };
    mark.save(files).map_err(PauseError::NotSaved)?;
    Ok(now_ms)
}

/// The files of a gateway that does not run, which has a place of this uplink.
fn stopped(folder: &Path, name: &str) -> Result<(Files, lock::Lock), PauseError> {
    // Nothing is made where there is no store.
    let known = Inspector::of_files(folder)?.uplinks();
    if !known.iter().any(|known| known == name) {
        return Err(PauseError::Unknown { name: name.to_owned(), known });
    }
    let lock = lock::lock(folder, open::is_ours)?;
    Ok((Files::new(Arc::new(OsFolder::new(folder.to_owned()))), lock))
}

fn find<'a>(log: &'a Log, name: &str) -> Result<&'a Cursor, PauseError> {
    let configured = || log.live_cursors().map(|(_, cursor)| cursor).filter(|cursor| cursor.is_configured);
    configured().find(|cursor| cursor.uplink == name).ok_or_else(|| PauseError::Unknown {
        name: name.to_owned(),
        known: configured().map(|cursor| cursor.uplink.clone()).collect(),
    })
}

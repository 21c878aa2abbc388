//! Places of uplinks that are not configured any more.
//!
//! ```text
//!  an uplink leaves the configuration ─▶ kept ─┬─ configured again ─▶ it goes on from there
//!                                              └─ forgotten ────────▶ saved without it, then what it held may go
//! ```
//! A place that is kept holds what its uplink has not delivered, as any uplink's does: nobody but
//! the operator knows whether it will be back. It stays over any number of starts and segments.
//!
//! Limits: [`UPLINKS_KEPT_MAX`] places. A store with more is opened for nothing but to forget one
//! of them, because none may be given up unasked.
//!
//! Crash story: a place is forgotten once the cursors are saved without it; before that a start
//! finds it again.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    Store,
    disk::{folder::OsFolder, lock},
    error::StoreError,
    inspect::Inspector,
    log::{Log, cursor::Cursor, paused::Paused},
    open::{self, Unconfigured},
    read::view::View,
    settings::Settings,
    status::Backlog,
};
use crate::clock;

/// Longest wait for the commit thread to save the cursors.
const SAVED_WITHIN: Duration = Duration::from_secs(10);
const SAVED_LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

/// An uplink's place is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// There is no such place. Nothing changed.
    #[error("there is no place of an uplink {name:?} that is not configured; there are: {kept}", kept = listed(.kept))]
    Unknown {
        /// The name that was given.
        name: String,
        /// Those that there are.
        kept: Vec<String>,
    },
    /// The uplink runs. Nothing changed.
    #[error(
        "the uplink {name:?} is configured: take its [[uplink]] out of the configuration and restart the gateway, then forget it"
    )]
    Configured {
        /// Its name.
        name: String,
    },
    /// It is marked, and the store could not save that so far.
    #[error(
        "the uplink {name:?} will be forgotten as soon as the store can write; a restart before that finds it again: {why}"
    )]
    NotSaved {
        /// Its name.
        name: String,
        /// Why the store cannot write.
        why: String,
    },
    /// The store cannot be opened. It is as it was.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl View {
    /// Forgets the place of an uplink that is not configured: durable when this returns. Gives what
    /// the uplink will not get. Blocking, up to ten seconds.
    ///
    /// # Errors
    /// [`ForgetError`]
    pub fn forget_uplink(&self, name: &str) -> Result<Backlog, ForgetError> {
        let (cursor, backlog) = mark(&self.log, name)?;
        let limit = clock::monotonic() + SAVED_WITHIN;
        while !cursor.is_forgotten() {
            if clock::monotonic() >= limit || self.log.is_closed() {
                return Err(not_saved(&self.log, name));
            }
            std::thread::sleep(SAVED_LOOKED_AT_EVERY);
        }
        forget_pause(&self.log, name);
        Ok(backlog)
    }
}

/// The same in the folder of a gateway that does not run, where nothing says which uplinks are
/// configured.
///
/// # Errors
/// [`ForgetError`]
pub fn forget_uplink_in(folder: &Path, name: &str) -> Result<Backlog, ForgetError> {
    // Nothing is made where there is no store.
    drop(Inspector::of_files(folder)?);
    let _lock = lock::lock(folder, open::is_ours)?;
    // Limits that give up nothing: the real ones are the configuration's.
    let settings =
        Settings { retain: Duration::MAX, dead_letters_max_bytes: 1 << 40, ..Settings::new(folder) };
    let (now, disk) = (clock::now(), Arc::new(OsFolder::new(folder.to_owned())));
    let (store, mut committer) = Store::open_with(disk, settings, &[], Unconfigured::Any, now)?;
    let log = store.log.clone();
    let (cursor, backlog) = mark(&log, name)?;
    committer.step(now);
    committer.finish(now);
    store.close();
    if cursor.is_forgotten() {
        forget_pause(&log, name);
        Ok(backlog)
    } else {
        Err(not_saved(&log, name))
    }
}

/// Another uplink of this name begins as any does.
fn forget_pause(log: &Log, name: &str) {
    if let Err(error) = Paused::clear(&log.files, name) {
        tracing::warn!(uplink = name, %error, "a mark is left of its pause: another uplink of this name begins paused");
    }
}

fn mark<'a>(log: &'a Log, name: &str) -> Result<(&'a Cursor, Backlog), ForgetError> {
    let found = log.live_cursors().find(|(_, cursor)| cursor.uplink == name);
    let Some((_, cursor)) = found else {
        let kept = log.live_cursors().filter(|(_, cursor)| !cursor.is_configured);
        let kept = kept.map(|(_, cursor)| cursor.uplink.clone()).collect();
        return Err(ForgetError::Unknown { name: name.to_owned(), kept });
    };
    if cursor.is_configured {
        return Err(ForgetError::Configured { name: name.to_owned() });
    }
    let backlog = log.backlog(cursor);
    cursor.forget();
    Ok((cursor, backlog))
}

fn not_saved(log: &Log, name: &str) -> ForgetError {
    let why = log.failure().unwrap_or_else(|| "it is busy, or was closed".to_owned());
    ForgetError::NotSaved { name: name.to_owned(), why }
}

/// Names in a message.
pub fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

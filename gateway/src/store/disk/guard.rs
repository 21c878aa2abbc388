//! The panics that a damaged file leads redb to: caught, and made an error like any other, also
//! where a database is closed.

use std::path::Path;

use redb::Database;

use crate::{store::error::StoreError, telemetry};

/// Runs what reads a file that may be damaged. A panic means that the file at `path` cannot be
/// read, and is not printed.
///
/// # Errors
/// What `act` says, or [`StoreError::Unreadable`].
pub fn guarded<T>(path: &Path, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    telemetry::catch_panic(act).unwrap_or_else(|_| Err(StoreError::Unreadable { path: path.to_owned() }))
}

/// The same, for what speaks of redb's errors alone.
///
/// # Errors
/// What `act` says, or that the database gave up.
pub fn guarded_redb<T>(act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    telemetry::catch_panic(act)
        .unwrap_or_else(|_| Err(redb::Error::Corrupted("the database gave up on its contents".into())))
}

/// An open database. Closing writes, and over damage that may be more than redb can bear: whatever
/// it meets then, there is nothing left to do about it, and it ends nobody.
pub struct PanicSafeDb(Option<Database>);

impl PanicSafeDb {
    /// Of an open database.
    pub fn new(db: Database) -> Self {
        Self(Some(db))
    }

    /// The database.
    ///
    /// # Errors
    /// Never: it is there until this goes.
    pub fn get(&self) -> Result<&Database, redb::Error> {
        self.0.as_ref().ok_or(redb::Error::DatabaseClosed)
    }

    /// The database, for what nobody else may be in.
    ///
    /// # Errors
    /// Never: it is there until this goes.
    pub fn get_mut(&mut self) -> Result<&mut Database, redb::Error> {
        self.0.as_mut().ok_or(redb::Error::DatabaseClosed)
    }
}

impl Drop for PanicSafeDb {
    fn drop(&mut self) {
        let db = self.0.take();
        let _ = telemetry::catch_panic(|| drop(db));
    }
}

//! Damage that makes redb panic: caught, and an error like any other.

use std::path::Path;

use super::error::StoreError;
use crate::telemetry;

/// Runs what reads a file that may be damaged. A panic means that the file at `path` can not be read, and is not printed.
///
/// # Errors
/// What `act` says, or [`StoreError::Unreadable`].
pub fn guarded<T>(path: &Path, act: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    telemetry::catch_panic(act).unwrap_or_else(|_| Err(StoreError::Unreadable { path: path.to_owned() }))
}

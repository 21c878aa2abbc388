//! The mark that says durably that an uplink is paused: an empty file, whose name says it all.
//!
//! ```text
//!  pause ─▶ paused-MS-NAME made, durable ─▶ its cursor says so ─▶ the uplink closes its connection
//!  resume ─▶ the mark removed, durable ─▶ its cursor says so ─▶ the uplink connects
//! ```
//! It is no part of a segment, so that a pause holds while nothing can be committed, and so that
//! earlier versions open the folder: they pass the file over, and send.
//!
//! Limits: one file for each uplink, of no bytes. A mark of a name that has no cursor pauses
//! nothing.

use crate::store::{disk::Files, error::StoreError};

const PREFIX: &str = "paused-";

/// A mark that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// Since when, wall clock, milliseconds since 1970.
    pub since_ms: u64,
    /// The uplink's name.
    pub uplink: String,
}

impl Paused {
    /// What a name says; `None` if it is no mark's.
    pub fn of(name: &str) -> Option<Self> {
        let (since, uplink) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let is_number = since.bytes().all(|byte| byte.is_ascii_digit());
        let since_ms = since.parse().ok().filter(|_| is_number && !uplink.is_empty())?;
        Some(Self { since_ms, uplink: uplink.to_owned() })
    }

    /// Since when the uplink of this name is paused, by these names of files.
    pub fn find(names: &[String], uplink: &str) -> Option<u64> {
        let own = names.iter().filter_map(|name| Self::of(name)).filter(|mark| mark.uplink == uplink);
        own.map(|mark| mark.since_ms).min()
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError`]: a start may find it, or not.
    pub fn save(&self, files: &Files) -> Result<(), StoreError> {
        drop(files.create(&format!("{PREFIX}{}-{}", self.since_ms, self.uplink))?);
        files.sync()
    }

    /// Removes all marks of an uplink, durably.
    ///
    /// # Errors
    /// [`StoreError`]: a start may find one still.
    pub fn clear(files: &Files, uplink: &str) -> Result<(), StoreError> {
        let names = files.names()?;
        let is_own = |name: &&String| Self::of(name).is_some_and(|mark| mark.uplink == uplink);
        names.iter().filter(is_own).try_for_each(|name| files.remove(name))?;
        files.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_is_paused_and_since_when() {
        for (name, expected) in [
            ("paused-1796070662000-cloud", Some((1_796_070_662_000, "cloud"))),
            ("paused-0-7-lakes-2", Some((0, "7-lakes-2"))),
            ("paused-7-", None),
            ("paused-cloud", None),
            ("paused-+7-cloud", None),
            ("paused--cloud", None),
            ("paused-99999999999999999999-cloud", None),
            ("seg-1.redb", None),
        ] {
            let mark = Paused::of(name);
            assert_eq!(mark.as_ref().map(|mark| (mark.since_ms, mark.uplink.as_str())), expected, "{name}");
        }
        let names = ["paused-9-a".to_owned(), "paused-7-a".to_owned(), "paused-1-ab".to_owned()];
        assert_eq!(Paused::find(&names, "a"), Some(7));
        assert_eq!(Paused::find(&names, "b"), None);
    }
}

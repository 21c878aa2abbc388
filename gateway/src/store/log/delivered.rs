//! The mark that says durably how far everything is delivered, on a disk that has no room for
//! anything else: an empty file, whose name says it all.
//!
//! ```text
//!  full disk ─▶ mark, durable ─▶ delivered segments deleted ─▶ a new segment has the room ─▶ mark removed
//! ```
//! Cursors are saved in a segment, and on a full disk there is no room for one: only what is
//! deleted makes it. So that a deletion always rests on something durable, the mark is made first.
//! It also holds what the next segment goes on from, so that even the last one can be deleted: no
//! offset is given twice.
//!
//! Crash story: every start moves the uplinks' cursors up to the mark. Where it finds no segment it
//! goes on behind the mark; then frames and QoS 2 messages that a device sends again are not known
//! any more, and are stored a second time.
//!
//! Limits: one file, of no bytes.

use crate::store::{disk::Files, error::StoreError, record::position::LogPosition};

const PREFIX: &str = "delivered-";

/// A mark that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The store's identity.
    pub store: u32,
    /// Every uplink has all that lies before it. The counts are those of the log's end.
    pub mark: LogPosition,
}

impl Delivered {
    /// The name that says it.
    fn name(&self) -> String {
        let LogPosition { offset, events, bytes, .. } = self.mark;
        format!("{PREFIX}{offset:020}-{:08x}-{events:x}-{bytes:x}", self.store)
    }

    /// What a name says; `None` if it is no mark's.
    pub fn of(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix(PREFIX)?.split('-');
        let offset = parts.next()?.parse().ok()?;
        let store = u32::from_str_radix(parts.next()?, 16).ok()?;
        let mut count = || u64::from_str_radix(parts.next()?, 16).ok();
        let mark = LogPosition { offset, events: count()?, bytes: count()?, received_ms: None };
        Some(Self { store, mark })
    }

    /// The farthest of those in the folder that are of `store`, if that is known.
    pub fn find(names: &[String], store: Option<u32>) -> Option<Self> {
        let found = names.iter().filter_map(|name| Self::of(name));
        let own = found.filter(|found| store.is_none_or(|store| store == found.store));
        own.max_by_key(|found| found.mark.offset)
    }

    /// Moves saved cursors up to the mark, as far as the log goes that ends at `end`. Where none
    /// was saved, all uplinks stand there.
    pub fn raise(&self, saved: &mut Vec<(String, u64)>, uplinks: &[String], end: u64) {
        let offset = self.mark.offset.min(end);
        saved.iter_mut().for_each(|(_, saved)| *saved = offset.max(*saved));
        if saved.is_empty() {
            saved.extend(uplinks.iter().map(|name| (name.clone(), offset)));
        }
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// [`StoreError`]: nothing may rest on it.
    pub fn save(&self, files: &Files) -> Result<(), StoreError> {
        drop(files.create(&self.name())?);
        files.sync()
    }
}

/// Removes all marks: cursors are durable that say as much.
///
/// # Errors
/// [`StoreError`]: some may be left, which does no harm.
pub fn clear(files: &Files) -> Result<(), StoreError> {
    files.names()?.iter().filter(|name| Delivered::of(name).is_some()).try_for_each(|name| files.remove(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_all_of_a_mark_and_the_farthest_counts() {
        let at = |offset| Delivered {
            store: 0xab,
            mark: LogPosition { offset, events: offset / 2, bytes: u64::MAX, received_ms: None },
        };
        let other = Delivered { store: 1, ..at(99) };
        let names = [at(7).name(), at(u64::MAX).name(), at(9).name(), other.name(), "seg-1.redb".to_owned()];
        assert_eq!(Delivered::find(&names, None), Some(at(u64::MAX)));
        assert_eq!(Delivered::find(&names[2..], Some(0xab)), Some(at(9)));
        assert_eq!(Delivered::find(&names[4..], None), None);
        assert!(
            ["delivered-", "delivered-1-x-1-1", "delivered-1-1-1"]
                .iter()
                .all(|name| Delivered::of(name).is_none())
        );
    }
}

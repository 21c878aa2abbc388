//! What records are named after that have no name of their own: the id that the store had when each
//! was stored.
//!
//! ```text
//!  offset   0 ……………………… 4,711 ………………………………▶
//!  id       a1b2c3d4     00c0ffee          drawn when the folder was found where it had not run before
//! ```
//! A folder that was copied holds the same records under the same names as the one that it was
//! copied from, and gives the next offsets again: without an id of its own from there on, two
//! events would have one name, and whoever counts names would lose one.
//!
//! Limits: [`IDS_MAX`] ids; beyond that the oldest is given up, and records that are still named
//! after it get the next one's.

use std::sync::Arc;

/// Ids that are kept, the newest first of all.
const IDS_MAX: usize = 256;

/// The ids of a store, each from an offset on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreIds(Arc<[(u64, u32)]>);

impl StoreIds {
    /// Of a store that has always been where it is.
    #[must_use]
    pub fn one(id: u32) -> Self {
        Self(Arc::new([(0, id)]))
    }

    /// As they were saved; older formats saved none, and had the store's identity.
    pub(in crate::store) fn restore(saved: &[(u64, u32)], store: u32) -> Self {
        if saved.is_empty() { Self::one(store) } else { Self(saved.into()) }
    }

    /// From `from` on, records are named after `id`.
    pub(in crate::store) fn with(&self, from: u64, id: u32) -> Self {
        let before = self.0.iter().filter(|(first, _)| *first < from);
        let all: Vec<_> = before.copied().chain([(from, id)]).collect();
        Self(all[all.len().saturating_sub(IDS_MAX)..].into())
    }

    /// What the record at `offset` is named after.
    #[must_use]
    pub fn at(&self, offset: u64) -> u32 {
        let after = self.0.partition_point(|(from, _)| *from <= offset);
        self.0.get(after.saturating_sub(1)).map_or(0, |(_, id)| *id)
    }

    /// Where each begins, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> {
        self.0.iter().copied()
    }

    /// What names begin with, where `before` comes before the id.
    #[must_use]
    pub fn prefixes(&self, before: &str) -> Prefixes {
        let mut older: Vec<_> = self.iter().map(|(from, id)| (from, format!("{before}{id:08x}-"))).collect();
        let (from, newest) = older.pop().unwrap_or_default();
        Prefixes { from, newest, older }
    }
}

/// What the names of records begin with that have none of their own; the offset follows.
#[derive(Debug, Clone)]
pub struct Prefixes {
    /// Where the newest begins.
    from: u64,
    newest: String,
    older: Vec<(u64, String)>,
}

impl Prefixes {
    /// For the record at `offset`.
    #[must_use]
    pub fn at(&self, offset: u64) -> &str {
        if offset >= self.from || self.older.is_empty() {
            return &self.newest;
        }
        let after = self.older.partition_point(|(from, _)| *from <= offset);
        &self.older[after.saturating_sub(1)].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_named_after_the_id_of_its_time() {
        let ids = StoreIds::restore(&[], 0xa).with(10, 0xb).with(20, 0xc);
        let prefixes = ids.prefixes("gate/");
        for (offset, id) in [(0, 0xa), (9, 0xa), (10, 0xb), (19, 0xb), (20, 0xc), (u64::MAX, 0xc)] {
            assert_eq!(ids.at(offset), id, "{offset}");
            assert_eq!(prefixes.at(offset), format!("gate/{id:08x}-"), "{offset}");
        }
        let saved: Vec<_> = ids.iter().collect();
        assert_eq!(StoreIds::restore(&saved, 0xa), ids);
        assert_eq!(ids.with(20, 0xd).iter().count(), 3, "nothing was named after the one before");
        assert_eq!(StoreIds::one(7).prefixes("").at(3), "00000007-");
    }

    #[test]
    fn the_oldest_id_is_given_up_where_there_are_too_many() {
        let ids = (1..=IDS_MAX as u64).fold(StoreIds::one(0), |ids, n| ids.with(n, n as u32));
        assert_eq!(ids.iter().count(), IDS_MAX);
        assert_eq!((ids.at(0), ids.at(2), ids.at(1_000)), (1, 2, IDS_MAX as u32));
    }
}

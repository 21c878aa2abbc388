//! The tables of a segment. See the segment's head for what they hold.

use redb::TableDefinition;

pub const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// A name in [`META`].
pub const JOURNAL_EPOCH: &str = "journal_epoch";
/// Another one.
pub const JOURNAL_OPEN: &str = "journal_open";
pub const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
pub const CURSORS: TableDefinition<'_, &str, u64> = TableDefinition::new("cursors");
pub const PENDING: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("pending_ids");
/// Up to format 2.
pub const PENDING_EACH: TableDefinition<'_, (&str, u16), ()> = TableDefinition::new("pending");
pub const SEEN: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("seen");
pub const IDS: TableDefinition<'_, u64, u32> = TableDefinition::new("ids");
pub const GAPS: TableDefinition<'_, u64, u64> = TableDefinition::new("gaps");

//! What was dropped because there was no room, counted by uplink and device until a gap record of
//! it is durable.
//!
//! Limits: [`DROPPED_DEVICES_MAX`] devices of each uplink by name; the others count together, under
//! the empty name.

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::letter::Letter;

/// Devices of an uplink that are counted by name.
pub const DROPPED_DEVICES_MAX: usize = 256;

pub(super) const DROPPED: TableDefinition<'_, (&str, &str), (u64, u64, u64, u64)> =
    TableDefinition::new("dropped");

/// The table, open for writing.
pub(super) type Counts<'t> = Table<'t, (&'static str, &'static str), (u64, u64, u64, u64)>;

/// Dead letters that were dropped to make room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    /// By uplink and device, in that order.
    pub by: Vec<DroppedBy>,
}

/// Dropped dead letters of one uplink and device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedBy {
    /// The uplink that will not deliver them.
    pub uplink: String,
    /// The device; empty for all that are not counted by name.
    pub device: String,
    /// How many letters.
    pub letters: u64,
    /// How many events they held.
    pub events: u64,
    /// The first of their offsets.
    pub from: u64,
    /// The offset after the last of them.
    pub to: u64,
}

impl Dropped {
    /// Letters, in all.
    #[must_use]
    pub fn letters(&self) -> u64 {
        self.by.iter().map(|by| by.letters).sum()
    }

    /// Events, in all.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.by.iter().map(|by| by.events).sum()
    }
}

/// Everything that is counted.
pub(super) fn read(db: &Database) -> Result<Dropped, redb::Error> {
    let table = db.begin_read()?.open_table(DROPPED)?;
    let mut dropped = Dropped::default();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (uplink, device) = key.value();
        let (letters, events, from, to) = value.value();
        dropped.by.push(DroppedBy {
            uplink: uplink.to_owned(),
            device: device.to_owned(),
            letters,
            events,
            from,
            to,
        });
    }
    Ok(dropped)
}

/// Counts one more.
pub(super) fn add(counts: &mut Counts<'_>, letter: &Letter<'_>) -> Result<(), redb::Error> {
    let mut key = (letter.uplink, letter.record.device());
    let mut known = counts.get(key)?.map(|count| count.value());
    if known.is_none() && devices_of(counts, letter.uplink)? >= DROPPED_DEVICES_MAX {
        key.1 = "";
        known = counts.get(key)?.map(|count| count.value());
    }
    let (letters, events, from, to) = known.unwrap_or((0, 0, letter.offset, 0));
    let count = (
        letters + 1,
        events + u64::from(letter.record.events),
        from.min(letter.offset),
        to.max(letter.offset + 1),
    );
    counts.insert(key, count)?;
    Ok(())
}

/// Counts all of it as well.
pub(super) fn merge(counts: &mut Counts<'_>, dropped: &Dropped) -> Result<(), redb::Error> {
    for by in &dropped.by {
        let key = (by.uplink.as_str(), by.device.as_str());
        let known = counts.get(key)?.map(|count| count.value());
        let (letters, events, from, to) = known.unwrap_or((0, 0, by.from, by.to));
        let count = (letters + by.letters, events + by.events, from.min(by.from), to.max(by.to));
        counts.insert(key, count)?;
    }
    Ok(())
}

/// Counts what was confirmed no more.
pub(super) fn subtract(counts: &mut Counts<'_>, dropped: &Dropped) -> Result<(), redb::Error> {
    for by in &dropped.by {
        let key = (by.uplink.as_str(), by.device.as_str());
        let Some((letters, events, from, to)) = counts.get(key)?.map(|count| count.value()) else { continue };
        let left = letters.saturating_sub(by.letters);
        if left == 0 {
            counts.remove(key)?;
        } else {
            counts.insert(key, (left, events.saturating_sub(by.events), from, to))?;
        }
    }
    Ok(())
}

fn devices_of(counts: &Counts<'_>, uplink: &str) -> Result<usize, redb::Error> {
    let mut devices = 0;
    for entry in counts.range((uplink, "")..)? {
        if entry?.0.value().0 != uplink {
            break;
        }
        devices += 1;
    }
    Ok(devices)
}

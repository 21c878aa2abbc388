//! What is known of the devices, in `fleet.redb`: rows that the room `fleet` writes and reads, and
//! the position of the log that they belong to.
//!
//! ```text
//!   log ──followed──▶ fleet ──save, some seconds later──▶ fleet.redb: position, devices, machine boots, kinds
//!    ▲ hold: nothing behind the saved position is deleted    │ load at the start; the log behind `position` is followed again
//!    └───────────────────────────────────────────────────────┘
//! ```
//! The log is the truth and this file is a point from which to follow it: rows and position are one
//! transaction, so nothing is counted twice or left out, whenever the power goes. What a row says
//! is not known here.
//!
//! Limits: whoever writes bounds the rows. A damaged file gets another name and a new one is begun:
//! what the log holds no more is forgotten then, but for the events themselves, which are not
//! touched.

use redb::{
    Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError,
    WriteTransaction,
};

use super::{
    file::{CACHE_BYTES, META, SideFile, copy_table, number, row_bytes},
    lazy_db::LazyDb,
};
use crate::{
    clock::{Journal, Moment},
    store::{
        disk::{
            Files,
            guard::{PanicSafeDb, guarded},
            overlay::Overlay,
        },
        error::StoreError,
        record::retention::Retention,
    },
};

/// The file's name in the data folder.
pub const FILE: &str = "fleet.redb";
/// The name of one that is damaged.
pub const DAMAGED_FILE: &str = "fleet.redb.damaged";
/// The file. What a device's row says is not known here, and not checked.
pub const SIDE_FILE: SideFile = SideFile {
    what: "what is known of the devices and their clocks",
    name: FILE,
    old_name: None,
    new_name: "fleet.redb.new",
    damaged_name: DAMAGED_FILE,
    format: 2,
    format_oldest: 1,
    make_tables,
    copy_tables,
    check_rows: |db| read(db).and_then(|_| read_retention(db)).map(drop),
};

const DEVICES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("devices");
const MACHINE_BOOTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("machine-boots");
const DEFINITIONS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("definitions");
const SETS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("sets");
const ANNOUNCED: TableDefinition<'_, (&str, u32), [u8; 32]> = TableDefinition::new("announced");
const DELIVERED: TableDefinition<'_, u64, (u32, i64)> = TableDefinition::new("delivered");
const POSITION: &str = "position";
const HAS_PAST: &str = "has-past";
const REPLIES_FROM: &str = "replies-from";

/// A SHA-256.
pub type Hash = [u8; 32];

/// A change to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A device as it is now.
    Device(String, Vec<u8>),
    /// A boot of the gateway's machine, in the place of an older one with this key.
    MachineBoot(u32, Vec<u8>),
    /// A definition of a kind.
    Definition(Hash, Vec<u8>),
    /// A list of kinds, by their hashes.
    Set(Hash, Vec<Hash>),
    /// A device's frames with this fingerprint are of that list; of none any more.
    Announced(String, u32, Option<Hash>),
    /// Whether the log was followed from its first record on.
    HasPast(bool),
    /// From which offset on a reply may be to a command that is kept.
    RepliesFrom(u64),
}

/// All that the file holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeptFleet {
    /// The log up to this offset is in it.
    pub position: u64,
    /// The log was followed from its first record on.
    pub has_past: bool,
    /// From here on a reply may be to a command that is kept.
    pub replies_from: u64,
    /// Devices by name.
    pub devices: Vec<(String, Vec<u8>)>,
    /// Boots of the gateway's machine.
    pub machine_boots: Vec<(u32, Vec<u8>)>,
    /// Definitions by hash.
    pub definitions: Vec<(Hash, Vec<u8>)>,
    /// Lists of kinds by hash.
    pub sets: Vec<(Hash, Vec<Hash>)>,
    /// Device, fingerprint, list.
    pub announced: Vec<(String, u32, Hash)>,
}

/// The file, opened when it is needed.
#[derive(Debug)]
pub struct FleetFile {
    db: LazyDb,
}

impl FleetFile {
    /// The file of the store with this identity. Nothing is opened.
    pub fn new(files: Files, store: u32) -> Self {
        Self { db: LazyDb::new(SIDE_FILE, files, store) }
    }

    /// All that is kept; `None` where nothing ever was, or where it was damaged.
    ///
    /// # Errors
    /// [`StoreError`]: it cannot be read now, or a newer version wrote it. It is as it was.
    pub fn load(&self) -> Result<Option<KeptFleet>, StoreError> {
        let kept = self.db.read(read)?;
        if let Some(kept) = &kept {
            self.db.tidy(kept.row_bytes());
        }
        Ok(kept)
    }

    /// The position that is kept; `None` as with [`FleetFile::load`].
    ///
    /// # Errors
    /// As [`FleetFile::load`].
    pub fn position(&self) -> Result<Option<u64>, StoreError> {
        self.db.read(|db| number(db, POSITION)).map(Option::flatten)
    }

    /// Since when segments are delivered, as it is kept; `None` as with [`FleetFile::load`].
    ///
    /// # Errors
    /// As [`FleetFile::load`].
    pub fn retention(&self) -> Result<Option<Retention>, StoreError> {
        self.db.read(read_retention)
    }

    /// Makes `changes`, the position and since when segments are delivered durable, together.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it is kept. It can be tried again.
    pub fn save(&self, changes: &[Change], position: u64, retention: &Retention) -> Result<(), StoreError> {
        self.db.change(|transaction| {
            save_retention(transaction, retention)?;
            changes.iter().try_for_each(|change| make(transaction, change))?;
            let mut meta = transaction.open_table(META)?;
            meta.insert(POSITION, position)?;
            meta.insert("format", SIDE_FILE.format)?;
            Ok(())
        })
    }

    /// Closes the file, for good.
    pub fn close(&self) {
        self.db.close();
    }
}

impl KeptFleet {
    fn row_bytes(&self) -> u64 {
        let devices = self.devices.iter().map(|(_, bytes)| bytes.len());
        let boots = self.machine_boots.iter().map(|(_, bytes)| bytes.len());
        let definitions = self.definitions.iter().map(|(_, bytes)| bytes.len());
        let sets = self.sets.iter().map(|(_, kinds)| size_of_val(kinds.as_slice()));
        let announced = self.announced.iter().map(|_| size_of::<Hash>());
        devices.chain(boots).chain(definitions).chain(sets).chain(announced).map(row_bytes).sum()
    }
}

/// The gateway's clock as it is kept in the files of a store that nobody has open: read through an
/// overlay, so nothing is written. Where it cannot be read, nothing is known of it.
pub fn journal(files: &Files, store: Option<u32>) -> Journal {
    let open = || -> Result<Journal, StoreError> {
        let path = files.path_of(FILE);
        let overlay =
            Overlay::new(files.open_to_read(FILE)?).map_err(|error| StoreError::io(&path, error))?;
        let look = || -> Result<Journal, redb::Error> {
            let db =
                PanicSafeDb::new(Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(overlay)?);
            let owner = number(db.get()?, "store")?;
            if owner.is_none() || owner != store.map(u64::from) {
                return Ok(Journal::default());
            }
            let mut rows = Vec::new();
            for row in db.get()?.begin_read()?.open_table(MACHINE_BOOTS)?.iter()? {
                rows.push(row?.1.value().to_vec());
            }
            Ok(Journal::of_rows(rows).0)
        };
        guarded(&path, || look().map_err(|error| StoreError::disk(&path, error)))
    };
    open().unwrap_or_default()
}

fn copy_tables(old: &ReadTransaction, new: &WriteTransaction) -> Result<(), redb::Error> {
    copy_table(old, new, DEVICES)?;
    copy_table(old, new, MACHINE_BOOTS)?;
    copy_table(old, new, DEFINITIONS)?;
    copy_table(old, new, SETS)?;
    copy_table(old, new, ANNOUNCED)?;
    match old.open_table(DELIVERED) {
        // Format 1 had none.
        Err(TableError::TableDoesNotExist(_)) => Ok(()),
        _ => copy_table(old, new, DELIVERED),
    }
}

fn read_retention(db: &Database) -> Result<Retention, redb::Error> {
    let table = match db.begin_read()?.open_table(DELIVERED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Retention::default()),
        table => table?,
    };
    let mut kept = Vec::new();
    for row in table.iter()? {
        let (first, moment) = row?;
        let (axis, boot_ms) = moment.value();
        kept.push((first.value(), Moment { axis, boot_ms }));
    }
    Ok(Retention::new(kept))
}

/// Writes what is not there as it is.
fn save_retention(transaction: &WriteTransaction, retention: &Retention) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(DELIVERED)?;
    table.retain(|first, _| retention.delivered(first).is_some())?;
    for (first, Moment { axis, boot_ms }) in retention.entries() {
        let is_there = table.get(first)?.is_some_and(|kept| kept.value() == (axis, boot_ms));
        if !is_there {
            table.insert(first, (axis, boot_ms))?;
        }
    }
    Ok(())
}

/// Makes the tables of a new file.
fn make_tables(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.open_table(DEVICES)?;
    transaction.open_table(MACHINE_BOOTS)?;
    transaction.open_table(DEFINITIONS)?;
    transaction.open_table(SETS)?;
    transaction.open_table(ANNOUNCED)?;
    transaction.open_table(DELIVERED)?;
    Ok(())
}

fn read(db: &Database) -> Result<KeptFleet, redb::Error> {
    let transaction = db.begin_read()?;
    let mut kept = KeptFleet {
        position: number(db, POSITION)?.unwrap_or_default(),
        has_past: number(db, HAS_PAST)?.unwrap_or_default() != 0,
        replies_from: number(db, REPLIES_FROM)?.unwrap_or_default(),
        ..KeptFleet::default()
    };
    for row in transaction.open_table(DEVICES)?.iter()? {
        let (name, bytes) = row?;
        kept.devices.push((name.value().to_owned(), bytes.value().to_vec()));
    }
    for row in transaction.open_table(MACHINE_BOOTS)?.iter()? {
        let (number, bytes) = row?;
        kept.machine_boots.push((number.value(), bytes.value().to_vec()));
    }
    for row in transaction.open_table(DEFINITIONS)?.iter()? {
        let (hash, bytes) = row?;
        kept.definitions.push((hash.value(), bytes.value().to_vec()));
    }
    for row in transaction.open_table(SETS)?.iter()? {
        let (hash, bytes) = row?;
        let (hashes, rest) = bytes.value().as_chunks();
        if !rest.is_empty() {
            return Err(redb::Error::Corrupted("a list of kinds is cut short".into()));
        }
        kept.sets.push((hash.value(), hashes.to_vec()));
    }
    for row in transaction.open_table(ANNOUNCED)?.iter()? {
        let (key, set) = row?;
        let (device, schema_set) = key.value();
        kept.announced.push((device.to_owned(), schema_set, set.value()));
    }
    Ok(kept)
}

fn make(transaction: &WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Device(name, bytes) => {
            transaction.open_table(DEVICES)?.insert(name.as_str(), bytes.as_slice())?;
        }
        Change::MachineBoot(number, bytes) => {
            transaction.open_table(MACHINE_BOOTS)?.insert(number, bytes.as_slice())?;
        }
        Change::Definition(hash, bytes) => {
            transaction.open_table(DEFINITIONS)?.insert(hash, bytes.as_slice())?;
        }
        Change::Set(hash, kinds) => {
            transaction.open_table(SETS)?.insert(hash, kinds.concat().as_slice())?;
        }
        Change::Announced(device, schema_set, Some(set)) => {
            transaction.open_table(ANNOUNCED)?.insert((device.as_str(), *schema_set), set)?;
        }
        Change::Announced(device, schema_set, None) => {
            transaction.open_table(ANNOUNCED)?.remove((device.as_str(), *schema_set))?;
        }
        Change::RepliesFrom(offset) => {
            transaction.open_table(META)?.insert(REPLIES_FROM, *offset)?;
        }
        Change::HasPast(has_past) => {
            transaction.open_table(META)?.insert(HAS_PAST, u64::from(*has_past))?;
        }
    }
    Ok(())
}

//! The search of a file: rows anywhere in it, and what the database's pages say of them.
//!
//! ```text
//!  a page of rows:  | 1 | . | entries: u16 | end of each row: u32 … | key of each row: u64 … | row | row | …
//!  a page of meta:  | 1 | . | entries: u16 | end of each name: u32 … | name | name | … | number of each: u64 …
//! ```
//! These are redb's leaves, little-endian, with ends counted from the page's beginning. They are
//! taken as a hint and never believed alone: a row is proven by its checksum, and a key is one
//! voice of many.

use std::path::PathBuf;

use redb::StorageBackend;

use crate::store::{
    disk::{Disk, Files},
    error::StoreError,
    record::{
        self, RECORD_BYTES_MAX, Record,
        row::{Block, HEAD_BYTES, RowHead, VERSION},
    },
    segment::{FORMAT, FORMAT_OLDEST, Head},
};

/// Rows that are found in one file at most: a file of 64 MiB has as many of 64 bytes.
pub const ROWS_MAX: usize = 1024 * 1024;
/// Times the file's length that may be read in vain, for what looks like a row and is none.
pub const WASTE_FACTOR: u64 = 8;
/// Bytes of a file that are at hand.
const WINDOW_BYTES: usize = 1024 * 1024;
const PAGE_BYTES: u64 = 4096;
/// So many pages before the one in which a row begins, its leaf may begin: rows of 64 KiB lie
/// behind others.
const PAGES_BACK: u64 = 16;
/// A leaf of redb's.
const LEAF: u8 = 1;
/// What a row begins with.
const MAGIC: [u8; 4] = [VERSION, 0, 0, 0];
/// The longest row: a single record, or several within less.
const ROW_BYTES_LONGEST: usize = HEAD_BYTES + RECORD_BYTES_MAX;

/// A row that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Bytes of records ever stored before it.
    pub bytes_before: u64,
    /// The offset that its page says, if one does.
    pub key: Option<u64>,
    /// Its records.
    pub records: u32,
    len: u32,
    at: u64,
}

impl Found {
    /// Bytes of its records.
    pub fn records_bytes(&self) -> u64 {
        u64::from(self.len).saturating_sub(HEAD_BYTES as u64)
    }

    /// One with so many bytes of records, that lies nowhere.
    #[cfg(test)]
    pub fn new(bytes_before: u64, records: u32, records_bytes: usize, key: Option<u64>) -> Self {
        Self { bytes_before, key, records, len: (HEAD_BYTES + records_bytes) as u32, at: 0 }
    }
}

/// A file, with a piece of it at hand.
#[derive(Debug)]
pub struct File {
    disk: Disk,
    path: PathBuf,
    len: u64,
    from: u64,
    window: Vec<u8>,
    /// From the disk, so far.
    read_bytes: u64,
}

impl File {
    /// # Errors
    /// [`StoreError`]: it cannot be opened.
    pub fn open(files: &Files, name: &str) -> Result<Self, StoreError> {
        let (path, disk) = (files.path_of(name), files.open_to_read(name)?);
        let len = disk.len().map_err(|error| StoreError::io(&path, error))?;
        Ok(Self { disk, path, len, from: 0, window: Vec::new(), read_bytes: 0 })
    }

    /// All rows whose checksum holds, and whether the search ended at a limit.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer.
    pub fn rows(&mut self) -> Result<(Vec<Found>, bool), StoreError> {
        let (mut found, mut at) = (Vec::new(), 0);
        let mut waste = self.len.saturating_mul(WASTE_FACTOR);
        while let Some(begin) = self.next_magic(at)? {
            match self.row_at(begin)? {
                Ok(mut row) => {
                    row.key = self.key_of(&row)?;
                    at = begin + u64::from(row.len);
                    found.push(row);
                }
                Err(looked_at) => {
                    at = begin + 1;
                    waste = waste.saturating_sub(looked_at);
                }
            }
            if found.len() >= ROWS_MAX || waste == 0 {
                return Ok((found, true));
            }
        }
        Ok((found, false))
    }

    /// A row that was found, as the one of this offset.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer, or gives something else now.
    pub fn block(&mut self, offset: u64, found: &Found) -> Result<Block, StoreError> {
        let row = self.bytes(found.at, found.len as usize)?.to_vec();
        Block::new(offset, row).map_err(|cause| StoreError::Row { path: self.path.clone(), cause })
    }

    /// What the segment says of itself, in a page that is found by itself: one that says what it
    /// should, or the first.
    ///
    /// # Errors
    /// [`StoreError`]: the disk does not answer.
    pub fn head(&mut self, is_own: impl Fn(&Head) -> bool) -> Result<Option<Head>, StoreError> {
        let mut other = None;
        for page in 1..self.len.div_ceil(PAGE_BYTES) {
            let Some(head) = meta_in(self.bytes(page * PAGE_BYTES, PAGE_BYTES as usize)?) else { continue };
            if is_own(&head) {
                return Ok(Some(head));
            }
            other = other.or(Some(head));
        }
        Ok(other)
    }

    /// The next place from `at` on where a row may begin.
    fn next_magic(&mut self, mut at: u64) -> Result<Option<u64>, StoreError> {
        while at + HEAD_BYTES as u64 <= self.len {
            self.bytes(at, MAGIC.len())?;
            let here = &self.window[(at - self.from) as usize..];
            if let Some(found) = here.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                return Ok(Some(at + found as u64));
            }
            at += (here.len() - (MAGIC.len() - 1)) as u64;
        }
        Ok(None)
    }

    /// The row that begins at `at`; if there is none, how many bytes were looked at in vain.
    fn row_at(&mut self, at: u64) -> Result<Result<Found, u64>, StoreError> {
        let read_before = self.read_bytes;
        let head = self.bytes(at, HEAD_BYTES)?;
        let Some([records, events]) = head.get(8..16).map(|n| n.as_chunks().0).and_then(numbers) else {
            return Ok(Err(HEAD_BYTES as u64));
        };
        let (mut len, mut counted, mut looked_at) = (HEAD_BYTES, 0, HEAD_BYTES as u64);
        for _ in 0..records {
            let measured = Record::measure(self.bytes(at + len as u64, record::HEAD_BYTES)?);
            let (events, size) = measured.unwrap_or((0, ROW_BYTES_LONGEST));
            (len, counted) = (len + size, counted + u32::from(events));
            looked_at += record::HEAD_BYTES as u64;
            if len > ROW_BYTES_LONGEST || at + len as u64 > self.len {
                return Ok(Err(looked_at + self.read_bytes - read_before));
            }
        }
        let is_plausible = records > 0 && counted == events;
        let head = match is_plausible {
            true => RowHead::open(0, self.bytes(at, len)?).ok(),
            false => None,
        };
        looked_at += if is_plausible { len as u64 } else { 0 };
        let Some(head) = head else { return Ok(Err(looked_at + self.read_bytes - read_before)) };
        Ok(Ok(Found { bytes_before: head.bytes_before, key: None, records, len: len as u32, at }))
    }

    /// The key under which a leaf has the row.
    fn key_of(&mut self, row: &Found) -> Result<Option<u64>, StoreError> {
        let own = row.at / PAGE_BYTES;
        for page in (own.saturating_sub(PAGES_BACK).max(1)..=own).rev() {
            let begin = page * PAGE_BYTES;
            let mut bytes = vec![0; (self.len - begin).min(PAGE_BYTES) as usize];
            self.read(begin, &mut bytes)?;
            let from = (row.at - begin) as usize;
            if let Some(key) = key_in(&bytes, from..from + row.len as usize) {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// The bytes from `at` on: `count` of them, or fewer where the file ends.
    fn bytes(&mut self, at: u64, count: usize) -> Result<&[u8], StoreError> {
        let end = self.len.min(at.saturating_add(count as u64)).max(at);
        if at < self.from || end > self.from + self.window.len() as u64 {
            let size = self.len.saturating_sub(at).min(count.max(WINDOW_BYTES) as u64);
            let mut window = std::mem::take(&mut self.window);
            window.resize(size as usize, 0);
            self.read(at, &mut window)?;
            (self.from, self.window) = (at, window);
        }
        let from = (at - self.from) as usize;
        Ok(&self.window[from..from + (end - at) as usize])
    }

    fn read(&mut self, at: u64, bytes: &mut [u8]) -> Result<(), StoreError> {
        self.read_bytes += bytes.len() as u64;
        self.disk.read(at, bytes).map_err(|error| StoreError::io(&self.path, error))
    }
}

fn numbers(bytes: &[[u8; 4]]) -> Option<[u32; 2]> {
    let [first, second] = bytes else { return None };
    Some([u32::from_le_bytes(*first), u32::from_le_bytes(*second)])
}

/// The number of a leaf's entries, if a page may be one.
fn entries(page: &[u8]) -> Option<usize> {
    let [LEAF, _, low, high, ..] = page else { return None };
    Some(usize::from(u16::from_le_bytes([*low, *high]))).filter(|entries| *entries > 0)
}

/// The key of the row that lies there, in a leaf that begins with `page`.
fn key_in(page: &[u8], row: std::ops::Range<usize>) -> Option<u64> {
    let entries = entries(page)?;
    let (ends, keys) = (page.get(4..4 + 4 * entries)?, page.get(4 + 4 * entries..4 + 12 * entries)?);
    let mut begin = 4 + 12 * entries;
    for (end, key) in ends.as_chunks().0.iter().zip(keys.as_chunks().0) {
        let end = u32::from_le_bytes(*end) as usize;
        if (begin, end) == (row.start, row.end) {
            return Some(u64::from_le_bytes(*key));
        }
        begin = end;
    }
    None
}

/// What the table `meta` says, in a page that has all of it.
fn meta_in(page: &[u8]) -> Option<Head> {
    let entries = entries(page)?;
    let ends = page.get(4..4 + 4 * entries)?.as_chunks().0;
    let end_of = |end: &[u8; 4]| u32::from_le_bytes(*end) as usize;
    let numbers = page.get(end_of(ends.last()?)..)?.get(..8 * entries)?.as_chunks().0;
    let mut begin = 4 + 4 * entries;
    let mut named = Vec::new();
    for (end, number) in ends.iter().map(end_of).zip(numbers) {
        named.push((page.get(begin..end)?, u64::from_le_bytes(*number)));
        begin = end;
    }
    let number = |name: &str| named.iter().find(|(found, _)| *found == name.as_bytes()).map(|(_, n)| *n);
    Some(Head {
        format: number("format").filter(|format| (FORMAT_OLDEST..=FORMAT).contains(format))?,
        store: u32::try_from(number("store")?).ok()?,
        first: number("first")?,
        events_before: number("events_before")?,
        bytes_before: number("bytes_before")?,
        ..Head::default()
    })
}

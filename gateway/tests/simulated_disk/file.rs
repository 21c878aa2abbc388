//! A file: what is on the disk, what reads see, and what is between the two.
//!
//! ```text
//!  write ──▶ visible ──(a copy of each touched sector)──▶ unsynced ──sync──▶ durable
//!                                                             └────cut: a seeded subset
//! ```
//! A sector reaches the disk whole, as it was after one of the writes that touched it; of several
//! versions that survive a cut any one may be the last. A length survives or not whatever the data
//! does: what is behind the length that survived is lost, what is before it and did not survive
//! reads as it was, or as zeros where nothing was.
//!
//! After a failed sync the sectors of that moment are `clean`: reads show them, a later sync passes
//! them by (unless they are written again), and whether they are on the disk is decided when they
//! are forgotten or the power is cut. Lengths are not data, and the next sync that works makes them
//! durable.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    image::{Image, SECTOR_BYTES, sectors_of},
    random::{Random, Survival, Winner},
};

/// A file without its name.
#[derive(Debug, Default)]
pub struct File {
    durable: Image,
    visible: Image,
    unsynced: Vec<Unsynced>,
    /// The bytes of the unsynced sectors, one after the other.
    versions: Vec<u8>,
    /// Handles that are open.
    pub handles: u64,
}

/// What is not known to be on the disk, in the order in which it was done.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    /// A sector, `version` being its place in [`File::versions`].
    Sector { sector: u64, version: usize, clean: bool },
    /// The file's length, which was `before`.
    Len { len: u64, before: u64 },
}

impl File {
    /// A file whose bytes are durable.
    pub fn on_disk(bytes: Vec<u8>) -> Self {
        let image = Image::new(bytes);
        Self { durable: image.clone(), visible: image, ..Self::default() }
    }

    pub fn visible(&self) -> &Image {
        &self.visible
    }

    pub fn durable(&self) -> &Image {
        &self.durable
    }

    pub fn write(&mut self, offset: u64, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let (before, end) = (self.visible.len(), offset + data.len() as u64);
        self.visible.write(offset, data);
        if end > before {
            self.unsynced.push(Unsynced::Len { len: end, before });
        }
        self.keep_versions(sectors_of(offset..end));
    }

    pub fn set_len(&mut self, len: u64) {
        let before = self.visible.len();
        if len == before {
            return;
        }
        self.visible.set_len(len);
        self.unsynced.push(Unsynced::Len { len, before });
        if len < before {
            self.forsake_clean(cut_off(len, before));
            if !len.is_multiple_of(SECTOR_BYTES) {
                self.keep_versions(sectors_of(len..len + 1));
            }
        }
    }

    /// All of it is durable from now on, but for what an earlier sync failed to write.
    pub fn sync(&mut self) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut len = self.durable.len();
        for entry in &unsynced {
            match *entry {
                Unsynced::Len { .. } => len = self.visible.len(),
                Unsynced::Sector { sector, clean: false, .. } => {
                    len = len.max(((sector + 1) * SECTOR_BYTES).min(self.visible.len()));
                }
                Unsynced::Sector { .. } => {}
            }
        }
        self.durable.set_len(len);
        let mut settled = BTreeSet::new();
        for entry in &unsynced {
            match *entry {
                Unsynced::Sector { sector, clean: false, .. } => {
                    settled.insert(sector);
                }
                Unsynced::Sector { .. } => {}
                Unsynced::Len { len, before } => self.durable.punch(cut_off(len, before)),
            }
        }
        for sector in &settled {
            self.durable.set_sector(*sector, &self.visible.sector(*sector));
        }
        self.keep_unsynced(unsynced, |entry| match entry {
            Unsynced::Sector { sector, clean, .. } => clean && !settled.contains(&sector),
            Unsynced::Len { .. } => false,
        });
    }

    /// A sync that failed.
    pub fn fail_sync(&mut self) {
        for entry in &mut self.unsynced {
            if let Unsynced::Sector { clean, .. } = entry {
                *clean = true;
            }
        }
    }

    /// Decides which sectors of a failed sync are on the disk; reads show the disk's from now on.
    /// Sectors written after that sync stay as they are, as in a page cache.
    pub fn forget(&mut self, survival: Survival, random: &mut Random) {
        let dirty: BTreeSet<u64> = self
            .unsynced
            .iter()
            .filter_map(|entry| match *entry {
                Unsynced::Sector { sector, clean: false, .. } => Some(sector),
                _ => None,
            })
            .collect();
        let decided = |entry: Unsynced| match entry {
            Unsynced::Sector { sector, .. } => !dirty.contains(&sector),
            Unsynced::Len { .. } => false,
        };
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut winners = BTreeMap::new();
        for entry in unsynced.iter().filter(|entry| decided(**entry)) {
            if let Unsynced::Sector { sector, version, .. } = *entry {
                let newest = winners.entry(sector).or_insert(None);
                if survival.spares(random) {
                    match newest {
                        None => *newest = Some(Winner::first(version)),
                        Some(winner) => winner.join(version, survival, random),
                    }
                }
            }
        }
        for (sector, winner) in winners {
            if let Some(winner) = winner {
                // The length that it needs may not be durable yet, but the sector is on the disk.
                let end = ((sector + 1) * SECTOR_BYTES).min(self.visible.len());
                self.durable.set_len(self.durable.len().max(end));
                let whole = &self.versions[winner.value..winner.value + SECTOR_BYTES as usize];
                self.durable.set_sector(sector, whole);
            }
            self.visible.set_sector(sector, &self.durable.sector(sector));
        }
        self.keep_unsynced(unsynced, |entry| !decided(entry));
    }

    /// The pieces of this size, by number, of which a part is written and not synced.
    pub fn under_way(&self, piece_bytes: u64) -> BTreeSet<u64> {
        let piece = |entry: &Unsynced| match *entry {
            Unsynced::Sector { sector, .. } => Some(sector * SECTOR_BYTES / piece_bytes),
            Unsynced::Len { .. } => None,
        };
        self.unsynced.iter().filter_map(piece).collect()
    }

    /// The power is cut: what survives is all there is, and durable.
    pub fn cut(&mut self, survival: Survival, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let mut len: Option<Winner<u64>> = None;
        // A sector that was cut off with the file's end has no version: it is zeros.
        let mut winners: BTreeMap<u64, Winner<Option<usize>>> = BTreeMap::new();
        for entry in &unsynced {
            if !survival.spares(random) {
                continue;
            }
            let (sectors, version) = match *entry {
                Unsynced::Sector { sector, version, .. } => (sector..sector + 1, Some(version)),
                Unsynced::Len { len: survivor, before } => {
                    match &mut len {
                        None => len = Some(Winner::first(survivor)),
                        Some(winner) => winner.join(survivor, survival, random),
                    }
                    (cut_off(survivor, before), None)
                }
            };
            for sector in sectors {
                winners
                    .entry(sector)
                    .and_modify(|winner| winner.join(version, survival, random))
                    .or_insert(Winner::first(version));
            }
        }
        if let Some(len) = len {
            self.durable.set_len(len.value);
        }
        for (sector, winner) in winners {
            match winner.value {
                Some(at) => {
                    self.durable.set_sector(sector, &self.versions[at..at + SECTOR_BYTES as usize]);
                }
                None => self.durable.punch(sector..sector + 1),
            }
        }
        self.visible = self.durable.clone();
        self.versions.clear();
        self.handles = 0;
    }

    /// Changes bytes on the disk and in memory alike, and in what is between the two.
    pub fn damage(&mut self, range: Range<u64>, change: impl Fn(&mut u8) + Copy) {
        self.durable.damage(range.clone(), change);
        self.visible.damage(range.clone(), change);
        for entry in &self.unsynced {
            if let Unsynced::Sector { sector, version, .. } = *entry {
                for at in 0..SECTOR_BYTES {
                    if range.contains(&(sector * SECTOR_BYTES + at)) {
                        change(&mut self.versions[version + at as usize]);
                    }
                }
            }
        }
    }

    /// Cuts the file on the disk and in memory alike, and what is between the two.
    pub fn truncate(&mut self, len: u64) {
        if len >= self.visible.len() {
            return;
        }
        self.damage(len..u64::MAX, |byte| *byte = 0);
        self.durable.set_len(self.durable.len().min(len));
        self.visible.set_len(len);
        self.unsynced.retain_mut(|entry| match entry {
            Unsynced::Sector { sector, .. } => *sector * SECTOR_BYTES < len,
            Unsynced::Len { len: then, before } => {
                (*then, *before) = ((*then).min(len), (*before).min(len));
                true
            }
        });
    }

    fn keep_versions(&mut self, sectors: Range<u64>) {
        for sector in sectors {
            let version = self.versions.len();
            self.versions.extend_from_slice(&self.visible.sector(sector));
            self.unsynced.push(Unsynced::Sector { sector, version, clean: false });
        }
    }

    /// What a sync failed to write and was cut off after it does not come back.
    fn forsake_clean(&mut self, sectors: Range<u64>) {
        self.unsynced.retain(|entry| match entry {
            Unsynced::Sector { sector, clean, .. } => !(*clean && sectors.contains(sector)),
            Unsynced::Len { .. } => true,
        });
    }

    fn keep_unsynced(&mut self, mut unsynced: Vec<Unsynced>, keep: impl Fn(Unsynced) -> bool) {
        unsynced.retain(|entry| keep(*entry));
        self.unsynced = unsynced;
        if !self.unsynced.iter().any(|entry| matches!(entry, Unsynced::Sector { .. })) {
            self.versions.clear();
        }
    }
}

/// The whole sectors that a file loses that is cut to `len`.
fn cut_off(len: u64, before: u64) -> Range<u64> {
    len.div_ceil(SECTOR_BYTES)..before.div_ceil(SECTOR_BYTES).max(len.div_ceil(SECTOR_BYTES))
}

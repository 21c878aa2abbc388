//! Where a store's folder lives, as far as the system says it: whether it runs where it last ran,
//! or is a copy.
//!
//! ```text
//!  machine id   board's serial   disk's serial   folder: inode, time of birth   the last segment's file: the same
//! ```
//! A copy of a file or a folder is another inode with another time of birth, whatever tool makes
//! it; a cloned card has another serial, in another machine. Each segment notes this when it is
//! made (in its `meta`, as numbers), and a start compares what the last one notes with what is
//! found. What either of both does not know is not compared, so a system that says little raises no
//! alarm.
//!
//! It is not seen when older contents are written into the very files that are there, in place, on
//! the same machine and disk (`cp` over them, an image of the disk): restore into an empty folder.

use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use rustix::fs::{fstatfs, major, minor};

/// The marks, as `meta` names them, and what it means if one differs.
pub const MARKS: [(&str, &str); 7] = [
    ("home_machine", "the machine has another id"),
    ("home_board", "the machine is another one"),
    ("home_disk", "the disk or card is another one"),
    ("home_folder", "the folder is another one"),
    ("home_folder_born", "the folder is another one"),
    ("home_file", "its last file is a copy"),
    ("home_file_born", "its last file is a copy"),
];
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
/// Of a board with a device tree; of a PC, where root alone may read it.
const BOARD_IDS: [&str; 2] =
    ["/sys/firmware/devicetree/base/serial-number", "/sys/class/dmi/id/product_uuid"];
/// Below a disk's folder in sysfs: of SD cards and eMMC, NVMe and virtual disks, SCSI and ATA.
const DISK_IDS: [&str; 5] = ["device/cid", "serial", "wwid", "device/serial", "device/wwid"];
/// File systems that keep an inode's number over a mount: ext, XFS, Btrfs, F2FS, tmpfs, ZFS, UBIFS,
/// JFFS2, NFS.
const STABLE_INODES: [u32; 9] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994, 0x2fc1_2fc1, 0x2405_1905, 0x72b6, 0x6969];

/// Marks of a place; 0 where one is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Home(pub [u64; MARKS.len()]);

impl Home {
    /// Of an open folder, without any of its files.
    pub fn of_folder(folder: &File) -> Self {
        let first =
            |paths: &[&str]| paths.iter().find_map(|path| mark_in(Path::new(path))).unwrap_or_default();
        let disk = folder.metadata().ok().and_then(|found| disk(found.dev())).unwrap_or_default();
        let [inode, born] = marks_of(folder);
        Self([first(&MACHINE_IDS), first(&BOARD_IDS), disk, inode, born, 0, 0])
    }

    /// The same with one of the folder's files.
    pub fn with_file(self, file: &File) -> Self {
        let ([machine, board, disk, folder, folder_born, ..], [inode, born]) = (self.0, marks_of(file));
        Self([machine, board, disk, folder, folder_born, inode, born])
    }

    /// How this is another home than the one that was noted, if it is.
    pub fn differs_from(&self, noted: &Self) -> Option<&'static str> {
        let pairs = self.0.iter().zip(&noted.0).zip(MARKS);
        let mut differing = pairs.filter(|((here, noted), _)| **here != 0 && **noted != 0 && here != noted);
        differing.next().map(|(_, (_, what))| what)
    }
}

/// Inode and time of birth, in nanoseconds since 1970.
fn marks_of(file: &File) -> [u64; 2] {
    let Ok(found) = file.metadata() else { return [0, 0] };
    let is_stable = fstatfs(file).is_ok_and(|system| STABLE_INODES.contains(&(system.f_type as u32)));
    [if is_stable { found.ino() } else { 0 }, born(&found).unwrap_or_default()]
}

fn born(found: &Metadata) -> Option<u64> {
    let since = found.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

/// Of the disk that holds a device, or the whole disk of a partition. Network file systems have
/// none.
fn disk(device: u64) -> Option<u64> {
    let link = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
    let folder = link.canonicalize().ok()?;
    let folders = [Some(folder.as_path()), folder.parent()];
    folders.into_iter().flatten().find_map(|folder| DISK_IDS.iter().find_map(|id| mark_in(&folder.join(id))))
}

/// A number for what a file of the system says; `None` where it says nothing.
fn mark_in(path: &Path) -> Option<u64> {
    let text = std::fs::read(path).ok()?;
    let text = text.trim_ascii();
    if text.is_empty() || text == b"uninitialized" {
        return None;
    }
    // FNV-1a, for it stays the same in every version. 0 is what is not known.
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Some(text.iter().fold(0xcbf2_9ce4_8422_2325, add).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_another_home_where_both_know_a_mark_and_it_differs() {
        let noted = Home([1, 2, 3, 4, 5, 6, 7]);
        for (here, differs) in [
            ([1, 2, 3, 4, 5, 6, 7], None),
            ([0; 7], None),
            ([9, 2, 3, 4, 5, 6, 7], Some("machine")),
            ([0, 2, 9, 4, 5, 6, 7], Some("card")),
            ([1, 2, 3, 0, 9, 6, 7], Some("folder")),
            ([1, 2, 3, 4, 5, 6, 9], Some("copy")),
        ] {
            let found = Home(here).differs_from(&noted);
            assert_eq!(found.is_some(), differs.is_some(), "{here:?}");
            assert!(
                found.zip(differs).is_none_or(|(found, word)| found.contains(word)),
                "{here:?}: {found:?}"
            );
        }
        assert_eq!(noted.differs_from(&Home::default()), None, "an older version noted nothing");
    }

    #[test]
    fn a_copy_lives_elsewhere_and_what_is_only_renamed_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| {
            let open = |path: &Path| File::open(path).unwrap();
            Home::of_folder(&open(folder.path())).with_file(&open(&folder.path().join(name)))
        };
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let first = home("a");
        std::fs::copy(folder.path().join("a"), folder.path().join("b")).unwrap();
        assert!(home("b").differs_from(&first).is_some_and(|what| what.contains("copy")));
        std::fs::rename(folder.path().join("a"), folder.path().join("c")).unwrap();
        assert_eq!(home("c").differs_from(&first), None);
    }
}

//! What a process costs, from `/proc`, and what a folder takes on the disk.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Ticks per second of the times in `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;
/// `st_blocks` counts in these, whatever the file system's block size is.
const BLOCK_BYTES: u64 = 512;
/// How often a watched folder is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A process's use of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// The highest it ever was, in bytes.
    pub resident_peak_bytes: u64,
    /// Bytes that it caused to be sent to the disk.
    pub written_bytes: u64,
}

/// Reads it.
///
/// # Panics
/// There is no such process, or it belongs to somebody else.
#[must_use]
pub fn usage(pid: u32) -> Usage {
    let read = |name: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("the process runs and is ours")
    };
    let stat = read("stat");
    // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind
    // it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap_or(0)).sum();
    let status = read("status");
    Usage {
        cpu: Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND),
        resident_bytes: 1024 * field(&status, "VmRSS:"),
        resident_peak_bytes: 1024 * field(&status, "VmHWM:"),
        written_bytes: field(&read("io"), "write_bytes:"),
    }
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Bytes that the files in `folder` take on the disk. A file that goes away meanwhile takes none.
#[must_use]
pub fn folder_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * BLOCK_BYTES).sum()
}

/// Watches a folder, and remembers the most that it ever took.
#[derive(Debug)]
pub struct FolderPeak {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FolderPeak {
    /// Watches from now on.
    #[must_use]
    pub fn watch(folder: PathBuf) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (for_thread, stopped) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for_thread.fetch_max(folder_bytes(&folder), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// The most so far, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for FolderPeak {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        let usage = super::usage(std::process::id());
        assert!(usage.resident_bytes > 100_000);
        assert!(usage.resident_peak_bytes >= usage.resident_bytes);
    }

    #[test]
    fn the_peak_of_a_folder_stays_when_its_file_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let peak = super::FolderPeak::watch(folder.path().into());
        let file = folder.path().join("file");
        std::fs::write(&file, vec![1; 100_000]).unwrap();
        crate::clock::wait_blocking("a look", std::time::Duration::from_secs(10), || peak.bytes() >= 100_000);
        std::fs::remove_file(file).unwrap();
        assert!(super::folder_bytes(folder.path()) == 0 && peak.bytes() >= 100_000);
    }
}

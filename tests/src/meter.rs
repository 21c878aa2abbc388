//! What a process costs, from `/proc`.

use std::time::Duration;

/// Ticks per second of the times in `/proc/PID/stat`: fixed at 100 for user space on Linux.
const TICKS_PER_SECOND: u64 = 100;

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
    // The name in parentheses may hold blanks; utime and stime are the 12th and 13th field behind it.
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

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_uses_memory() {
        let usage = super::usage(std::process::id());
        assert!(usage.resident_bytes > 100_000);
        assert!(usage.resident_peak_bytes >= usage.resident_bytes);
    }
}

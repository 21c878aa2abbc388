//! strace on a running process: its system calls are held back, fail, or kill it, from outside, so
//! that nothing in the process's own code takes part in the proof.
//!
//! strace counts calls by thread and by call: `when=3` is a thread's third of that name. While it
//! is attached, every call of the process is slow.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::tools;

/// All calls that make something durable.
pub const SYNCS: &str = "fdatasync,fsync,sync_file_range,msync";

/// strace at work. Detached with the value.
#[derive(Debug)]
pub struct Strace {
    child: Child,
    injected: Arc<AtomicU64>,
}

impl Strace {
    /// Attaches to all threads of `pid`; does to each of `calls` what `fault` says, in strace's
    /// words.
    ///
    /// # Panics
    /// It cannot be started, or may not attach.
    #[must_use]
    pub fn attach(pid: u32, calls: &str, fault: &str) -> Self {
        let mut child = Command::new(tools::find("strace"))
            .args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")])
            .args(["-e", &format!("inject={calls}:{fault}")])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace can be started");
        let mut lines = BufReader::new(child.stderr.take().expect("standard error is a pipe")).lines();
        let said = lines.next().expect("strace says what it does").expect("it is text");
        assert!(said.contains("attached"), "{said}");
        let injected = Arc::new(AtomicU64::new(0));
        let counter = injected.clone();
        // Read on, or it would stop at a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                counter.fetch_add(u64::from(line.contains("INJECTED")), Ordering::Relaxed);
            }
        });
        Self { child, injected }
    }

    /// Calls so far that really had the fault.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // SIGTERM lets it detach; SIGKILL would take the process along.
        let _ =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

//! paho-mqtt, the most common foreign client, as a process: `tests/clients/paho_publisher.py`.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    clock::wait_blocking,
    codec::Version,
    fleet::Device,
    oracle::{self, Ledger},
    tools,
};

/// A running client. Killed with the value.
#[derive(Debug)]
pub struct Paho {
    child: Child,
    reader: Option<JoinHandle<Ledger>>,
    acked: Arc<AtomicU64>,
}

impl Paho {
    /// Starts one. It always sends again what was not acknowledged; a pause is not for it.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(gateway: SocketAddr, device: &Device) -> Self {
        let Device { name, version, qos, window, count_max, .. } = device;
        let version = if *version == Version::V5 { "5" } else { "3.1.1" };
        let ledger =
            Ledger { name: name.clone(), topic: oracle::topic_of(name), qos: *qos, ..Ledger::default() };
        let mut child = Command::new(tools::python_with_paho())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/paho_publisher.py"))
            .args([&gateway.port().to_string(), version, &qos.to_string(), name, &ledger.topic])
            .args([window.to_string(), count_max.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python can be started");
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let acked = Arc::new(AtomicU64::new(0));
        let counter = acked.clone();
        let reader = std::thread::spawn(move || read(lines.map_while(Result::ok), ledger, &counter));
        Self { child, reader: Some(reader), acked }
    }

    /// Events acknowledged so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Nothing new from now on; waits until all in flight is acknowledged.
    ///
    /// # Panics
    /// It did not end within `limit`, or failed.
    #[must_use]
    pub fn finish(mut self, limit: Duration) -> Ledger {
        // Its end of file is the word to stop.
        drop(self.child.stdin.take());
        self.all(limit)
    }

    /// Waits until it has sent all that it was to send.
    ///
    /// # Panics
    /// It did not end within `limit`, or failed.
    #[must_use]
    pub fn all(mut self, limit: Duration) -> Ledger {
        let mut ended = None;
        wait_blocking("paho-mqtt to finish", limit, || {
            ended = self.child.try_wait().expect("it is our child");
            ended.is_some()
        });
        assert!(ended.is_some_and(|status| status.success()), "paho-mqtt failed: {ended:?}");
        self.reader.take().expect("it is joined once").join().expect("the reader does not panic")
    }
}

impl Drop for Paho {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(lines: impl Iterator<Item = String>, mut ledger: Ledger, acked: &AtomicU64) -> Ledger {
    for line in lines {
        match line.split_once(' ') {
            Some(("ack", count)) => {
                let count: usize = count.parse().expect("the client writes numbers");
                ledger.acked.resize(ledger.acked.len().max(count + 1), false);
                ledger.acked[count] = true;
                acked.fetch_add(1, Ordering::Relaxed);
            }
            Some(("done", sent)) => {
                let sent = sent.parse().expect("the client writes numbers");
                ledger.acked.resize(sent, false);
                // How often it sent an event again is its own secret.
                ledger.sends = vec![u8::MAX; sent];
            }
            _ => ledger.strange.push(line),
        }
    }
    ledger
}

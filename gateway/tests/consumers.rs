//! Consumers of the log: each has a name, and what goes wrong with one is told under it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tidegate::store::{Batch, FLEET, LOCAL_SUBSCRIBERS, Record, Settings, Store, StoreError};
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;

const LIMIT: Duration = Duration::from_secs(60);
const UPLINK: &str = "cloud";
const RECORDS: u64 = 100;

fn settings(folder: &Path) -> Settings {
    Settings { segment_bytes: 1 << 16, ..Settings::new(folder) }
}

/// Stores records of 8 KiB, one commit each, which fill several segments.
async fn fill(folder: &Path) {
    let store = Store::open(settings(folder), &[UPLINK.to_owned()]).unwrap();
    let (intake, payload) = (store.intake(), [0; 8192]);
    for _ in 0..RECORDS {
        let mut batch = Batch::default();
        batch.push(&Record {
            events: 1,
            qos: 1,
            received_ms: 1,
            client: "c",
            topic: "t",
            payload: &payload,
            ..Record::default()
        });
        let ticket = intake.append(&mut batch).unwrap();
        let mut watermark = intake.watermark();
        let durable = watermark.wait_for(|watermark| watermark.committed > ticket);
        timeout(LIMIT, durable).await.unwrap().unwrap();
    }
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}

fn sealed(folder: &Path) -> Vec<PathBuf> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("seg-");
    let mut paths: Vec<_> = paths.filter(is_segment).collect();
    paths.sort();
    paths.pop();
    paths
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn what_a_consumer_misses_or_cannot_save_is_told_under_its_name_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    // A file that cannot be opened now, and of which nobody can say that it is damaged.
    let segment = sealed(folder.path()).remove(1);
    std::fs::remove_file(&segment).unwrap();
    std::os::unix::fs::symlink(&segment, &segment).unwrap();
    let store = Store::open(settings(folder.path()), &[UPLINK.to_owned()]).unwrap();
    for (name, other) in [(FLEET, LOCAL_SUBSCRIBERS), (LOCAL_SUBSCRIBERS, FLEET)] {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let mut consumer = store.view().consume(name, 0);
        while consumer.position() < RECORDS {
            timeout(LIMIT, consumer.follower.next()).await.unwrap().unwrap();
        }
        assert!(consumer.follower.passed_over() > 0);
        let text = lines.text();
        assert!(text.contains(&format!("{name}: a segment that cannot be read is missed")), "{name}: {text}");
        let path = folder.path().to_owned();
        consumer.begin_save(move |_, _| Err(StoreError::Io { path, cause: io::ErrorKind::Other.into() }));
        timeout(LIMIT, consumer.saves.ended()).await.unwrap().unwrap_err();
        let text = lines.text();
        assert!(text.contains(&format!("{name}: what is known cannot be saved")), "{name}: {text}");
        assert!(!text.contains(other), "{name}: {text}");
    }
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
}

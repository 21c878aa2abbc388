//! Files that may change under a running gateway: certificates, keys, lists of the revoked, users,
//! access rules.
//!
//! ```text
//!   every LOOK_INTERVAL ──▶ look: a file's content changed? ──settled──▶ load ──good──▶ the new set is used
//!   SIGHUP ──▶ ask ───────▶ all of them ───────────────────────────────▶ load ──bad───▶ the old set stays, and it is said
//! ```
//! A set of files is written one after the other, so a change is loaded once two looks have found
//! the same. What cannot be loaded is tried again at every look, and said once: in the log, in the
//! metrics, and by [`Reload::warnings`]. Files are read on a thread that may block. What else an
//! item has to warn of, such as a certificate that runs out, is asked for at every look, and logged
//! when the words are new.
//!
//! Limits: [`FILE_BYTES_MAX`] per file; whoever loads one reads it by [`read`], which holds it. It
//! knows nothing of what is in the files. A crash needs no repair: it writes nothing.

use std::{
    collections::HashSet,
    fmt,
    fs::Metadata,
    hash::{DefaultHasher, Hasher as _},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{clock, regular_file, telemetry};

/// Time between two looks at the files.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Time between the look that finds a change and the one that finds it settled.
pub const SETTLE_INTERVAL: Duration = Duration::from_secs(1);
/// Longest file that is loaded, in bytes: a list of 100,000 revoked certificates has 4 MB.
pub const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is made of files, and can be made anew.
pub trait Reloadable: Send + Sync {
    /// The label of the metrics: one word, the same for all of a kind.
    fn kind(&self) -> &'static str;
    /// What it is to the reader of the log, such as "the TLS files of listener 0.0.0.0:8883".
    fn name(&self) -> String;
    /// The files that it is made of.
    fn files(&self) -> Vec<PathBuf>;
    /// Makes it anew and uses it from then on. May block.
    ///
    /// # Errors
    /// What is wrong, in which file, and what to do. Everything is as it was.
    fn load(&self, wall_ms: u64) -> Result<(), String>;
    /// What will be wrong before long, if nobody does anything.
    fn warnings(&self, _wall_ms: u64) -> Vec<String> {
        Vec::new()
    }
}

/// Reads a regular file of at most [`FILE_BYTES_MAX`].
///
/// # Errors
/// The system's reason, or that it is too long.
pub fn read(file: &Path) -> io::Result<Vec<u8>> {
    regular_file::read(file, FILE_BYTES_MAX)
}

/// All that is loaded from files. Clones are one.
#[derive(Clone, Default)]
pub struct Reload(Arc<Inner>);

#[derive(Default)]
struct Inner {
    watched: Mutex<Vec<Watched>>,
    asked: Notify,
    warnings: Mutex<Vec<String>>,
}

struct Watched {
    item: Arc<dyn Reloadable>,
    /// The files as they were loaded last, or tried to be.
    loaded: Files,
    /// A change that has yet to settle.
    changing: Option<Files>,
    /// Why the last load failed.
    failure: Option<String>,
}

/// The files of an item, as a look found them.
#[derive(Clone, PartialEq, Eq)]
struct Files(Vec<Option<Stamp>>);

/// A file: its hash is made anew only if anything else of it differs.
#[derive(Clone, Copy)]
struct Stamp {
    outside: (u64, u64, i64, i64, i64, i64),
    hash: u64,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Stamp {}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").field("warnings", &*self.0.warnings.lock()).finish_non_exhaustive()
    }
}

impl Reload {
    /// Watches the files of `item`, which was loaded just now. Reads them: may block.
    pub fn add(&self, item: Arc<dyn Reloadable>) {
        let loaded = Files::look(&item.files(), None);
        self.0.watched.lock().push(Watched { item, loaded, changing: None, failure: None });
    }

    /// Asks for all to be loaded anew, whether a file has changed or not.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// What the last look found to be wrong, or going to be.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.warnings.lock().clone()
    }

    /// Looks after the files until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut pause = Duration::ZERO;
        loop {
            let is_asked = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = self.0.asked.notified() => true,
                () = sleep(pause) => false,
            };
            let reload = self.clone();
            let looked = spawn_blocking(move || reload.look(is_asked, clock::wall_ms())).await;
            let is_settled = looked.unwrap_or_else(|failed| {
                tracing::error!("a look at the files failed: {failed}: this is a defect, please report it");
                true
            });
            pause = if is_settled { LOOK_INTERVAL } else { SETTLE_INTERVAL };
        }
    }

    /// One look. Whether all that changed was loaded; if not, look again soon.
    fn look(&self, is_asked: bool, wall_ms: u64) -> bool {
        let mut watched = self.0.watched.lock();
        let mut is_settled = true;
        let mut warnings = Vec::new();
        for watched in &mut *watched {
            is_settled &= watched.look(is_asked, wall_ms);
            if let Some(reason) = &watched.failure {
                warnings.push(format!(
                    "{} were not reloaded, the old ones are used: {reason}",
                    watched.item.name()
                ));
            }
            warnings.extend(watched.item.warnings(wall_ms));
        }
        let failing = watched.iter().filter(|watched| watched.failure.is_some()).count();
        metrics::gauge!(telemetry::RELOAD_FAILING).set(failing as f64);
        let failures: HashSet<String> =
            watched.iter().filter_map(|watched| watched.failure.clone()).collect();
        drop(watched);
        let before = std::mem::replace(&mut *self.0.warnings.lock(), warnings.clone());
        // A failure was logged where it happened.
        let is_new =
            |warning: &&String| !before.contains(warning) && !failures.iter().any(|f| warning.ends_with(f));
        for warning in warnings.iter().filter(is_new) {
            tracing::warn!("{warning}");
        }
        is_settled
    }
}

impl Watched {
    fn look(&mut self, is_asked: bool, wall_ms: u64) -> bool {
        let last = self.changing.as_ref().unwrap_or(&self.loaded);
        let found = Files::look(&self.item.files(), Some(last));
        let has_changed = found != self.loaded;
        let is_settled = !has_changed || self.changing.as_ref() == Some(&found);
        if !is_asked && !is_settled {
            self.changing = Some(found);
            return false;
        }
        if is_asked || has_changed || self.failure.is_some() {
            self.load(found, is_asked || has_changed, wall_ms);
        } else {
            // Touched, or changed back.
            self.loaded = found;
        }
        self.changing = None;
        true
    }

    fn load(&mut self, found: Files, is_new: bool, wall_ms: u64) {
        let name = self.item.name();
        self.loaded = found;
        match self.item.load(wall_ms) {
            Ok(()) => {
                tracing::info!("{name} were reloaded");
                self.failure = None;
            }
            Err(reason) => {
                if is_new || self.failure.as_ref() != Some(&reason) {
                    metrics::counter!(telemetry::RELOAD_FAILURES, "what" => self.item.kind()).increment(1);
                    tracing::error!("{name} were not reloaded, the old ones are used: {reason}");
                }
                self.failure = Some(reason);
            }
        }
    }
}

impl Files {
    fn look(files: &[PathBuf], last: Option<&Files>) -> Self {
        let last = |at: usize| last.and_then(|last| *last.0.get(at)?);
        Files(files.iter().enumerate().map(|(at, file)| Stamp::take(file, last(at)).ok()).collect())
    }
}

impl Stamp {
    fn take(file: &Path, last: Option<Stamp>) -> io::Result<Self> {
        let outside = outside(&std::fs::metadata(file)?);
        if let Some(last) = last.filter(|last| last.outside == outside) {
            return Ok(last);
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(&read(file)?);
        Ok(Stamp { outside, hash: hasher.finish() })
    }
}

/// What tells a file that was written to or replaced, without its content: even a write within the
/// clock's grain that keeps the length mostly differs in one of these, and the next look after it
/// does.
fn outside(file: &Metadata) -> (u64, u64, i64, i64, i64, i64) {
    (file.ino(), file.len(), file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number in a file.
    struct Number {
        file: PathBuf,
        used: Mutex<u64>,
        loads: Mutex<u32>,
    }

    impl Reloadable for Number {
        fn kind(&self) -> &'static str {
            "number"
        }

        fn name(&self) -> String {
            "the numbers".into()
        }

        fn files(&self) -> Vec<PathBuf> {
            vec![self.file.clone()]
        }

        fn load(&self, _wall_ms: u64) -> Result<(), String> {
            *self.loads.lock() += 1;
            let text = std::fs::read_to_string(&self.file).map_err(|e| e.to_string())?;
            *self.used.lock() = text.parse().map_err(|_| format!("\"{text}\" is no number"))?;
            Ok(())
        }

        fn warnings(&self, wall_ms: u64) -> Vec<String> {
            (wall_ms > 100).then(|| "it is late".to_owned()).into_iter().collect()
        }
    }

    fn number(folder: &Path) -> (Arc<Number>, Reload) {
        let file = folder.join("n");
        std::fs::write(&file, "1").unwrap();
        let item = Arc::new(Number { file, used: Mutex::new(1), loads: Mutex::new(0) });
        let reload = Reload::default();
        reload.add(item.clone());
        (item, reload)
    }

    #[test]
    fn a_change_is_loaded_once_it_has_settled_and_a_touched_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (item, reload) = number(folder.path());
        assert!(reload.look(false, 0));
        std::fs::write(&item.file, "2").unwrap();
        assert!(!reload.look(false, 0));
        assert_eq!(*item.used.lock(), 1, "another file of the set may follow");
        std::fs::write(&item.file, "3").unwrap();
        assert!(!reload.look(false, 0));
        assert!(reload.look(false, 0));
        assert_eq!((*item.used.lock(), *item.loads.lock()), (3, 1));
        std::fs::write(&item.file, "3").unwrap();
        assert!(reload.look(false, 0));
        assert_eq!(*item.loads.lock(), 1);
    }

    #[test]
    fn what_is_asked_for_is_loaded_at_once_and_without_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (item, reload) = number(folder.path());
        assert!(reload.look(true, 0));
        std::fs::write(&item.file, "2").unwrap();
        assert!(reload.look(true, 0));
        assert_eq!((*item.used.lock(), *item.loads.lock()), (2, 2));
    }

    #[test]
    fn a_bad_file_keeps_the_old_set_warns_and_is_tried_until_it_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let (item, reload) = number(folder.path());
        for bad in [Some("two"), None] {
            match bad {
                Some(text) => std::fs::write(&item.file, text).unwrap(),
                None => std::fs::remove_file(&item.file).unwrap(),
            }
            reload.look(false, 0);
            assert!(reload.look(false, 0));
            assert_eq!(*item.used.lock(), 1);
            let warnings = reload.warnings();
            assert!(
                warnings[0].starts_with("the numbers were not reloaded, the old ones are used: "),
                "{warnings:?}"
            );
        }
        let tries = *item.loads.lock();
        assert!(reload.look(false, 0));
        assert_eq!(*item.loads.lock(), tries + 1);
        std::fs::write(&item.file, "2").unwrap();
        reload.look(false, 0);
        assert!(reload.look(false, 0));
        assert_eq!((*item.used.lock(), reload.warnings()), (2, vec![]));
        reload.look(false, 101);
        assert_eq!(reload.warnings(), ["it is late"]);
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("long");
        std::fs::File::create(&file).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("16777216 bytes"));
    }

    #[tokio::test]
    async fn it_looks_by_itself_and_when_asked_until_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let (item, reload) = number(folder.path());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(reload.clone().run(shutdown.clone()));
        std::fs::write(&item.file, "2").unwrap();
        reload.ask();
        let used = async {
            while *item.used.lock() != 2 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), used).await.unwrap();
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    }
}

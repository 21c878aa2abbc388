//! The outbox: commands to devices, kept in `commands.redb` until the device has acknowledged them,
//! and for a while after.
//!
//! ```text
//!  HTTP, uplinks ──put──▶ outbox ──pending──▶ whoever talks to the device
//!                           ▲ └──changed──▶       │
//!                           └──── apply ◀─────────┘ PUBACK, reply
//! ```
//! A command is durable when [`Outbox::put`] returns. It is taken out of what waits when the
//! device's PUBACK is durable, and not before: a device that sleeps gets it when it comes.
//!
//! Two books of the same commands: the writer's, which is ahead while it commits, and the one that
//! is shown, which holds only what is durable. Whoever asks what waits for a device reads memory
//! and never waits for a disk.
//!
//! Limits: those of `book.rs`; bytes to [`BYTES_MAX`] and to a [`STORE_PART`]th of the store's
//! `max_bytes`.
//!
//! Crash story: a crash between the device's PUBACK and [`Outbox::apply`] sends the command again,
//! with the same id: at least once. After any error the file is closed, and the next change opens
//! it again and reads it anew: meanwhile what is shown stays as it was. A damaged file is set
//! aside, and what waited in it is gone: the log says so.

mod age;
mod book;
mod command;
mod file;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use redb::Database;
use tokio::sync::watch;

use self::{age::Present, book::Book};
pub use self::{
    book::{DEVICE_PENDING_MAX, ENDED_KEPT_MS, ENDED_MAX, PENDING_MAX, RESENT_AMONG_MAX},
    command::{
        Change, Command, CommandState, EXPIRY_DEFAULT_MS, EXPIRY_MAX_MS, Full, ID_BYTES_MAX, NewCommand,
        NewId, PAYLOAD_BYTES_MAX, Put, PutError, REPLY_BYTES_MAX, Reply, is_id as is_command_id,
    },
    file::{DAMAGED_FILE, SIDE_FILE},
};
use super::{
    file::Budget,
    lazy_db::{Access, LazyDb, Opened},
};
use crate::{
    clock::Timeline,
    store::{disk::Files, error::StoreError},
    telemetry,
};

/// Bytes of all commands, at most.
pub const BYTES_MAX: u64 = 16 * 1024 * 1024;
/// They take this part of the store's `max_bytes` at the most.
pub const STORE_PART: u64 = 16;
/// Least room: the longest command with its reply.
const BYTES_MIN: u64 = 2 * (PAYLOAD_BYTES_MAX + REPLY_BYTES_MAX) as u64;
const BUDGET: Budget = Budget { store_part: STORE_PART, bytes_least: BYTES_MIN };

/// The commands of an open store. Cheap to clone; it does not keep the store open.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

struct Shared {
    file: LazyDb,
    /// What expiry counts by.
    timeline: Timeline,
    max_bytes: u64,
    /// The writer's. Locked before the file.
    book: Mutex<Book>,
    shown: RwLock<Book>,
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbox").field("file", &self.file).finish_non_exhaustive()
    }
}

/// Which commands are asked for; an empty filter takes all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandFilter {
    /// The device's name.
    pub device: Option<String>,
    /// How far they are.
    pub state: Option<CommandState>,
}

impl Outbox {
    /// Opens the file of the store with this identity, if there is one.
    ///
    /// A file that cannot be opened now is no error: see the top of this file.
    ///
    /// # Errors
    /// [`StoreError::Format`]: a newer version wrote the file. It was left as it is.
    pub(in crate::store) fn open(
        files: &Files,
        store: u32,
        store_max_bytes: u64,
        timeline: Timeline,
    ) -> Result<Self, StoreError> {
        let max_bytes = BUDGET.bytes(BYTES_MAX, store_max_bytes);
        let book = Book::new(max_bytes);
        let shared = Shared {
            file: LazyDb::new(SIDE_FILE, files.clone(), store),
            timeline,
            max_bytes,
            book: Mutex::new(book.clone()),
            shown: RwLock::new(book),
            changed: watch::Sender::new(0),
        };
        let outbox = Self { shared: Arc::new(shared) };
        let opened = outbox.reopen(&mut outbox.shared.book.lock(), &mut outbox.shared.file.lock());
        match opened {
            Err(error @ StoreError::Format { .. }) => return Err(error),
            Err(error) => {
                tracing::error!(%error, "the commands to devices cannot be opened: none is taken in or sent until they can");
            }
            Ok(()) => {}
        }
        Ok(outbox)
    }

    /// Takes a command in: durable when this returns. Blocking.
    ///
    /// # Errors
    /// [`PutError`]: it is not taken in. After [`PutError::Store`] it may be, though: put again,
    /// with the same id.
    pub fn put(&self, new: &NewCommand<'_>, now_ms: u64) -> Result<Put, PutError> {
        let now = self.present(now_ms);
        let put = self.change(|book| book.put(new, &now))?;
        if let Ok(Put::Taken(_)) = put {
            count(CommandState::Pending.name(), 1);
        }
        put
    }

    /// Notes what happened to commands, in one transaction: durable when this returns. Blocking.
    /// Gives for each change the command that it was about, `None` where there was none.
    ///
    /// # Errors
    /// [`StoreError`]: none of it is noted.
    pub fn apply(
        &self,
        changes: &[Change<'_>],
        now_ms: u64,
    ) -> Result<Vec<Option<Arc<Command>>>, StoreError> {
        let now = self.present(now_ms);
        self.change(|book| {
            book.tidy(&now);
            changes.iter().map(|change| book.apply(change, now_ms)).collect()
        })
    }

    /// Ends what has expired and drops what ended long ago. Writes only if there is any. Blocking.
    /// After a failure it also opens the file again.
    ///
    /// # Errors
    /// [`StoreError`]: tried again at the next call.
    pub fn expire(&self, now_ms: u64) -> Result<(), StoreError> {
        let is_shut = self.shared.file.lock().is_shut();
        let now = self.present(now_ms);
        if is_shut || self.shared.shown.read().is_untidy(&now) {
            self.change(|book| book.tidy(&now))?;
        }
        Ok(())
    }

    /// What waits for a device, oldest first. Reads memory only.
    #[must_use]
    pub fn pending(&self, device: &str, now_ms: u64) -> Vec<Arc<Command>> {
        let (shown, now) = (self.shared.shown.read(), self.present(now_ms));
        shown.pending(device).filter(|command| now.left_ms(command) > 0).cloned().collect()
    }

    /// How much longer a command may wait for its device, in milliseconds.
    #[must_use]
    pub fn left_ms(&self, command: &Command, now_ms: u64) -> u64 {
        self.present(now_ms).left_ms(command)
    }

    fn present(&self, now_ms: u64) -> Present {
        Present::of(&self.shared.timeline, now_ms)
    }

    /// Whether something waits for a device, or did until a moment ago. Reads memory only.
    #[must_use]
    pub fn has_pending(&self, device: &str) -> bool {
        self.shared.shown.read().pending(device).next().is_some()
    }

    /// The devices for which something waits. Reads memory only.
    #[must_use]
    pub fn waiting_devices(&self) -> Vec<String> {
        self.shared.shown.read().waiting_devices().map(str::to_owned).collect()
    }

    /// Says when something changed: a command came, or is another one now.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// A command of a device.
    #[must_use]
    pub fn get(&self, device: &str, id: &str) -> Option<Arc<Command>> {
        self.shared.shown.read().get(device, id).cloned()
    }

    /// Commands, newest first, `limit` of them at the most.
    #[must_use]
    pub fn list(&self, filter: &CommandFilter, limit: usize) -> Vec<Arc<Command>> {
        let shown = self.shared.shown.read();
        let takes = |command: &&Arc<Command>| {
            filter.device.as_ref().is_none_or(|device| *device == command.device)
                && filter.state.is_none_or(|state| state == command.state)
        };
        shown.newest_first().filter(takes).take(limit).cloned().collect()
    }

    /// How many wait.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.shared.shown.read().pending_count()
    }

    /// Closes the file, for good.
    pub(in crate::store) fn close(&self) {
        self.shared.file.close();
    }

    /// Changes the book, and makes it durable before anybody sees it.
    fn change<T>(&self, act: impl FnOnce(&mut Book) -> T) -> Result<T, StoreError> {
        let shared = &*self.shared;
        let (mut book, mut file) = (shared.book.lock(), shared.file.lock());
        self.reopen(&mut book, &mut file)?;
        let done = act(&mut book);
        let touched = book.take_touched();
        if touched.is_empty() {
            return Ok(done);
        }
        if !file.is_open() {
            file.make(|transaction| file::fill(transaction, book.next_number()))?;
        }
        file.write(|transaction| file::write(transaction, &book, &touched))?;
        self.show(&touched, &book);
        Ok(done)
    }

    /// Opens the file, at the start and after a failure: what it holds is what there is.
    fn reopen(&self, book: &mut Book, file: &mut Access<'_>) -> Result<(), StoreError> {
        let mut empty = Book::new(self.shared.max_bytes);
        // A number that was given is not given again, also where the file of it is gone.
        empty.skip_to(book.next_number());
        let take_up = |db: &Database| {
            let mut found = empty.clone();
            file::read(db, &mut found)?;
            Ok(found)
        };
        let found = match file.open(take_up)? {
            Opened::Already => return Ok(()),
            Opened::Whole(found) => {
                file.tidy_and_open(found.bytes())?;
                if file.is_open() { found } else { empty }
            }
            Opened::Missing | Opened::SetAside => empty,
        };
        *book = found.clone();
        *self.shared.shown.write() = found;
        self.report();
        Ok(())
    }

    /// Shows what is durable.
    fn show(&self, touched: &std::collections::BTreeSet<u64>, book: &Book) {
        let mut shown = self.shared.shown.write();
        for number in touched {
            let state = |book: &Book| book.numbered(*number).map(|command| command.state);
            let (before, after) = (state(&shown), state(book));
            if let (Some(_), Some(after)) = (before, after.filter(|after| before != Some(*after))) {
                count(after.name(), 1);
            }
            shown.copy(*number, book);
        }
        drop(shown);
        self.report();
    }

    fn report(&self) {
        metrics::gauge!(telemetry::COMMANDS_PENDING).set(self.pending_count() as f64);
        self.shared.changed.send_modify(|generation| *generation += 1);
    }
}

/// Counts a command that was not taken in, and was acknowledged all the same: there is no other way
/// to be rid of it.
pub fn count_refused() {
    count("refused", 1);
}

fn count(state: &'static str, commands: u64) {
    metrics::counter!(telemetry::COMMANDS, "state" => state).increment(commands);
}

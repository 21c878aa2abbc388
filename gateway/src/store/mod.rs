//! The memory of the gateway: an append-only log of records in bounded redb files, with receipts,
//! cursors, and nothing that grows in memory.
//!
//! ```text
//!            append          one commit           read behind a cursor
//!  connection ──▶ intake ──▶ commit thread ──▶ segments ──▶ reader ──▶ uplink
//!       ▲                         │                            │
//!       └──────── watermark ◀─────┘          cursors ◀─────────┘ release
//! ```
//!
//! The folders; each uses those above it, and none uses one below it:
//!
//! | | |
//! |---|---|
//! | `disk/` | the folder and its files, the lock, and what a damaged database does to who opens it |
//! | `record/` | what is stored, and no file: records, rows, positions, gaps, ids |
//! | `journal/` | the file in front of the segments: a small commit is a frame in it |
//! | `segment/` | one file of the log: written, read, and searched for rows when it is damaged |
//! | `intake/` | the way in: batches, tickets, who gets how much, when to commit |
//! | `side_file/` | the files beside the log: dead letters, commands, sessions, devices |
//! | `log/` | what all who have the store open share: segments, cursors, the newest blocks |
//! | `read/` | the way out: a reader for each uplink, and looks from elsewhere |
//! | `commit/` | the thread that writes: commits, repairs, makes room |
//! | `inspect/` | verify, stat and cat, of a running store and of a stopped one |
//!
//! Files in `data_dir`: `LOCK` (held by the running gateway), `dead_letters.redb`, `commands.redb`
//! (the commands to devices, once there was one), `sessions.redb` (local subscribers), `fleet.redb`
//! (what is known of the devices), `journal.log` (the last small commits), `seg-*.redb` (rows,
//! cursors, pending QoS 2 ids, seen frames; the last one is written, the others are sealed),
//! `*.damaged`.
//!
//! Limits: a segment to `segment_bytes` and one commit more; memory to the intake
//! ([`intake::INTAKE_BYTES_MAX`]), the newest blocks ([`log::TAIL_BYTES_MAX`]), redb's caches and
//! what is seen ([`commit::seen::FRAMES_MAX`]).
//!
//! Crash story: at opening the last segment is read once, which is bounded by its size; no other
//! file is read, and none that is there is written. See `commit/` for what a crash repeats, and for
//! what happens when a disk fails or fills up.

mod commit;
mod disk;
mod error;
mod forget;
pub mod inspect;
mod intake;
mod journal;
mod last;
mod log;
mod open;
mod pause;
mod read;
pub mod record;
mod segment;
mod settings;
mod side_file;
mod status;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

pub use commit::{Committer, Step};
pub use disk::{
    folder::{Folder, OsFolder},
    home::Home,
    lock::make as make_folder,
};
pub use error::StoreError;
pub use forget::{ForgetError, forget_uplink_in};
pub use intake::{
    AppendError, HURRIED_LINGER_MAX, INTAKE_BYTES_MAX, Intake, Watermark,
    attached::Attached,
    batch::{Batch, Fate, Refusal, Size},
    pace::{self, WearBudget},
};
pub use log::cursor::PauseWatch;
pub use log::hold::{FLEET, LOCAL_SUBSCRIBERS};
pub use pause::{PauseError, pause_uplink_in, resume_uplink_in};
pub use read::{
    checkpointed::Checkpointed,
    follow::Follower,
    reader::{ReadError, Reader},
    scan::{Point, Scan},
    view::View,
};
pub use record::{
    Kind, Record, gap,
    ids::{Prefixes, StoreIds},
    row::{BadRow, Block, Records, RowHead},
    times::{CLOCK_SLACK_MS, Times},
};
pub use settings::{JOURNAL_BYTES_MAX, Settings, UPLINKS_KEPT_MAX, WhenFull};
pub use side_file::{
    dead_letters::{
        DAMAGED_FILE as DAMAGED_DEAD_LETTERS_FILE, DROPPED_DEVICES_MAX, DeadLetter, DeadLetterFilter,
        DeadLetterPage, DeadLetters, Dropped, DroppedBy, Letter, NewLetter,
        PAGE_LETTERS_MAX as DEAD_LETTER_PAGE_MAX, Reason as LetterReason, ReasonCode,
    },
    fleet::{Change as FleetChange, DAMAGED_FILE as DAMAGED_FLEET_FILE, FILE as FLEET_FILE, KeptFleet},
    outbox::{
        Change, Command, CommandFilter, CommandState, DAMAGED_FILE as DAMAGED_COMMANDS_FILE,
        DEVICE_PENDING_MAX, ENDED_KEPT_MS, ENDED_MAX, EXPIRY_DEFAULT_MS, EXPIRY_MAX_MS, Full,
        ID_BYTES_MAX as COMMAND_ID_BYTES_MAX, NewCommand, NewId, Outbox,
        PAYLOAD_BYTES_MAX as COMMAND_BYTES_MAX, PENDING_MAX, Put, PutError, REPLY_BYTES_MAX,
        RESENT_AMONG_MAX, Reply, count_refused as count_refused_command, is_command_id,
    },
    sessions::{
        Change as SessionChange, DAMAGED_FILE as DAMAGED_SESSIONS_FILE, FILE as SESSIONS_FILE, KeptSessions,
        MessageRow, SessionRow, StandingWillRow, SubscriptionRow, UnackedRow, WillRow,
    },
};
pub use status::{Backlog, Status};

use self::{disk::lock, log::Log, open::Unconfigured, side_file::dead_letters};
use crate::clock::{self, Now};

/// The store, open. Dropping it closes it.
#[derive(Debug)]
pub struct Store {
    log: Arc<Log>,
    intake: Intake,
    outbox: Outbox,
    thread: Option<JoinHandle<()>>,
    /// Held for as long as the store is open.
    _lock: Option<lock::Lock>,
}

impl Store {
    /// Opens or makes the store, and starts the commit thread. Blocking, below a second.
    ///
    /// An uplink that is not known yet starts where the one that is farthest behind stands, also
    /// one that is not named any more: a renamed uplink loses nothing. Without any it starts with
    /// the oldest record. The place of one that is not named any more is kept: see
    /// [`View::forget_uplink`].
    ///
    /// # Errors
    /// [`StoreError`] says which file, what is wrong with it and what to do.
    pub fn open(settings: Settings, uplinks: &[String]) -> Result<Store, StoreError> {
        let lock = lock::lock(&settings.data_dir, open::is_ours)?;
        let folder = Arc::new(OsFolder::new(settings.data_dir.clone()));
        let (mut store, committer) = Self::open_stepwise(folder, settings, uplinks, clock::now())?;
        let thread = std::thread::Builder::new()
            .name("commit".into())
            .spawn(move || committer.run())
            .map_err(|cause| StoreError::Io { path: PathBuf::from("the commit thread"), cause })?;
        (store.thread, store._lock) = (Some(thread), Some(lock));
        Ok(store)
    }

    /// Opens or makes the store in `folder`, which nobody else uses, without a thread: whoever
    /// opens it makes every [`Committer::step`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_stepwise(
        folder: Arc<dyn Folder>,
        settings: Settings,
        uplinks: &[String],
        now: Now,
    ) -> Result<(Store, Committer), StoreError> {
        Self::open_with(folder, settings, uplinks, Unconfigured::Limited, now)
    }

    fn open_with(
        folder: Arc<dyn Folder>,
        settings: Settings,
        uplinks: &[String],
        unconfigured: Unconfigured,
        now: Now,
    ) -> Result<(Store, Committer), StoreError> {
        let letters_max_bytes = dead_letters::max_bytes(settings.dead_letters_max_bytes, settings.max_bytes);
        let opened = open::open(folder, uplinks, unconfigured, letters_max_bytes)?;
        let (of_log, max_bytes) = (&opened.log, settings.max_bytes);
        let outbox = Outbox::open(&of_log.files, of_log.store, max_bytes, of_log.timeline.clone())?;
        let log = Arc::new(opened.log);
        // Before the first deletion. One that cannot be read now is looked at again by who takes it
        // up, and says so.
        let places = [(FLEET, log.fleet.position()), (LOCAL_SUBSCRIBERS, log.sessions.position())];
        for (consumer, place) in places {
            if let Ok(Some(position)) = place {
                log.holds.set(consumer, position);
            }
        }
        if let Ok(Some(retention)) = log.fleet.retention() {
            *log.retention.lock() = retention;
        }
        let intake = Intake::new(opened.pending);
        let committer = Committer::new(log.clone(), intake.clone(), settings, opened.start, now);
        Ok((Store { log, intake, outbox, thread: None, _lock: None }, committer))
    }

    /// The way in.
    #[must_use]
    pub fn intake(&self) -> Intake {
        self.intake.clone()
    }

    /// The clients that have QoS 2 packet ids pending.
    #[must_use]
    pub fn pending_clients(&self) -> Vec<Box<str>> {
        self.intake.pending().clients().map(Into::into).collect()
    }

    /// The reader of an uplink named at [`Store::open`]; once each.
    #[must_use]
    pub fn reader(&self, uplink: &str) -> Option<Reader> {
        let index =
            self.log.cursors.iter().position(|cursor| cursor.is_configured && cursor.uplink == uplink)?;
        self.log.cursors[index].take().then(|| Reader::new(self.log.clone(), index))
    }

    /// Looks in from elsewhere, for as long as the store is open.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.log.clone())
    }

    /// The commands to devices.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// What it holds now. May read a block from the disk for each uplink: call it off the hot path.
    #[must_use]
    pub fn status(&self) -> Status {
        let totals = self.log.totals();
        let (segments, file_bytes) = self.log.segments.usage();
        Status {
            next_offset: totals.offset,
            events: totals.events,
            segments,
            file_bytes,
            used_bytes: self.log.used_bytes(),
            max_bytes: self.log.meter.max_bytes(),
            room_bytes: self.log.meter.room_bytes(),
            dropped_events: self.log.meter.lost_events(),
            written_bytes: self.log.files.power().written_bytes(),
            wear_budget: self.log.meter.wear_budget(),
            dead_letters: self.log.dead_letters.count(),
            dead_letter_bytes: self.log.dead_letters.bytes(),
            failure: self.log.failure(),
            is_full: self.intake.is_store_full(),
            backlogs: self.log.live_cursors().map(|(_, cursor)| self.log.backlog(cursor)).collect(),
        }
    }

    /// Resolves when the store was closed.
    pub async fn failed(&self) {
        let mut watermark = self.intake.watermark();
        // The sender lives in `self.intake`, so this cannot end in an error.
        let _ = watermark.wait_for(|watermark| watermark.closed).await;
    }

    /// Commits what the intake holds, saves the cursors, closes the files. Blocking. From now on
    /// every [`Intake`] answers [`AppendError::Closed`], every [`Reader`] [`ReadError::Closed`].
    pub fn close(mut self) {
        self.shut();
    }

    /// From now on nothing reaches the files, as after SIGKILL. For the demo and for tests.
    pub fn cut_power(&self) {
        self.log.files.power().cut();
    }

    /// Ends as SIGKILL would: nothing more reaches the files from now on. For the demo and for
    /// tests.
    pub fn crash(mut self) {
        self.cut_power();
        self.intake.end();
        self.shut();
    }

    fn shut(&mut self) {
        self.intake.close();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and there is nothing left to do about it.
            let _ = thread.join();
        }
        self.intake.end();
        self.log.close();
        self.outbox.close();
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shut();
    }
}

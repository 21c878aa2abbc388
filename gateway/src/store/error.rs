//! What can go wrong with the store, by cause; each says what state is left and what to do.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use super::{record::row::BadRow, settings::UPLINKS_KEPT_MAX};

/// A failure of the store's files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused an operation on a file or folder.
    #[error("{path}: {cause}; nothing that was acknowledged is lost, fix the cause and start again", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The database in a file refused an operation, or is not one.
    #[error("{path}: {cause}; the file was left as it is", path = path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// What redb said.
        cause: Box<redb::Error>,
    },
    /// The folder is not there any more, under an open store.
    #[error(
        "{path} was removed, moved or unmounted while the gateway used it ({cause}): nothing is acknowledged; put it back, or restart \
         the gateway to begin a new store there",
        path = path.display()
    )]
    FolderGone {
        /// Where it was.
        path: PathBuf,
        /// What is found there.
        cause: std::io::Error,
    },
    /// Another process has the store open.
    #[error("{path} is in use by another gateway: stop it, or give this one a data_dir of its own", path = path.display())]
    InUse {
        /// The folder, or the file `LOCK` in it.
        path: PathBuf,
    },
    /// The folder is somebody else's.
    #[error(
        "{path} holds files that are not Tidegate's (such as {example}): nothing was touched; choose an empty folder as data_dir",
        path = path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        example: String,
    },
    /// There is nothing to look into.
    #[error("there is no store in {path}: name the folder that data_dir names", path = path.display())]
    NoStore {
        /// The folder.
        path: PathBuf,
    },
    /// The folder says that there was a store, and its segments are gone.
    #[error(
        "{path} holds the state of a store and none of its segments: put the seg-*.redb files back, or choose an empty folder as data_dir",
        path = path.display()
    )]
    SegmentsMissing {
        /// The folder.
        path: PathBuf,
    },
    /// More places are kept than may be.
    #[error(
        "{path} keeps the places of more than {UPLINKS_KEPT_MAX} uplinks that are not configured: forget those that will not be back \
         with \"tidegate uplinks forget NAME --files {path}\": {names}",
        path = path.display()
    )]
    TooManyUplinks {
        /// The folder.
        path: PathBuf,
        /// The uplinks.
        names: String,
    },
    /// A segment of no bytes.
    #[error("{path} is empty: a segment was cut to nothing; nothing else was touched", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A damaged file that makes redb give up.
    #[error("{path} is damaged: it cannot be read as a database; the file was left as it is", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
    },
    /// A file of another store, or of another place in this one.
    #[error("{path} belongs to another store or to another place: it was not used", path = path.display())]
    Stray {
        /// The file.
        path: PathBuf,
    },
    /// A segment or state of a newer version.
    #[error(
        "{path} was written by a newer version (format {format}): use the version that wrote it, or a newer one; nothing was touched",
        path = path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What it says.
        format: u64,
    },
    /// A row is damaged.
    #[error("{path}: {cause}; the rest of the file was left as it is", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: BadRow,
    },
    /// A sealed segment takes no commit.
    #[error("{path} is sealed", path = path.display())]
    Sealed {
        /// The file.
        path: PathBuf,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the file itself is at fault, as opposed to a disk that does not answer or has no
    /// room: reading it again will not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Io { cause, .. } => is_damage(cause.kind()),
            Self::Disk { cause, .. } => match &**cause {
                redb::Error::Io(cause) => is_damage(cause.kind()),
                // The process, or another one, is at fault.
                redb::Error::PreviousIo
                | redb::Error::DatabaseClosed
                | redb::Error::DatabaseAlreadyOpen
                | redb::Error::LockProtocolMismatch
                | redb::Error::LockPoisoned(_)
                | redb::Error::TransactionInProgress
                | redb::Error::TransactionPoisoned
                | redb::Error::Backend(_)
                | redb::Error::Unsupported => false,
                _ => true,
            },
            Self::Empty { .. } | Self::Unreadable { .. } | Self::Stray { .. } | Self::Row { .. } => true,
            Self::FolderGone { .. }
            | Self::InUse { .. }
            | Self::Foreign { .. }
            | Self::SegmentsMissing { .. }
            | Self::NoStore { .. }
            | Self::TooManyUplinks { .. }
            | Self::Format { .. }
            | Self::Sealed { .. }
            | Self::Closed => false,
        }
    }

    /// Whether the disk is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        let kind = match self {
            Self::Io { cause, .. } => cause.kind(),
            Self::Disk { cause, .. } => match &**cause {
                redb::Error::Io(cause) => cause.kind(),
                _ => return false,
            },
            _ => return false,
        };
        matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
    }

    pub(super) fn io(path: &Path, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    pub(super) fn disk(path: &Path, cause: redb::Error) -> Self {
        Self::Disk { path: path.to_owned(), cause: Box::new(cause) }
    }
}

fn is_damage(kind: ErrorKind) -> bool {
    use ErrorKind::{InvalidData, IsADirectory, NotFound, UnexpectedEof};
    matches!(kind, InvalidData | IsADirectory | NotFound | UnexpectedEof)
}

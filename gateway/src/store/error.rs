//! What can go wrong with the store, by cause; each says what state is left and what to do.

use std::path::{Path, PathBuf};

use super::row::BadRow;

/// A failure of the store's files.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused an operation on a file or folder.
    #[error("{path}: {cause}; nothing that was acknowledged is lost, mend the cause and start again", path = path.display())]
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
    /// Another process has the store open.
    #[error("{path} is in use by another gateway: stop it, or give this one a data_dir of its own", path = path.display())]
    InUse {
        /// The lock file.
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
    /// The folder says that there was a store, and its segments are gone.
    #[error(
        "{path} holds the state of a store and none of its segments: put the seg-*.redb files back, or choose an empty folder as data_dir",
        path = path.display()
    )]
    SegmentsMissing {
        /// The folder.
        path: PathBuf,
    },
    /// A segment of no bytes.
    #[error("{path} is empty: a segment was cut to nothing; nothing else was touched", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A segment or state of another version.
    #[error("{path} was written in a format that this version does not know: use the version that wrote it", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
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
    pub(super) fn io(path: &Path, cause: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    pub(super) fn disk(path: &Path, cause: redb::Error) -> Self {
        Self::Disk { path: path.to_owned(), cause: Box::new(cause) }
    }
}

//! Why the gateway could not be started.

use std::{io, net::SocketAddr, path::PathBuf};

use crate::{ingest, store::StoreError};

/// The gateway could not be started. What was opened is closed again.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be made.
    #[error("data_dir {path}: {cause}; make it, or name another that this user may write to", path = path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The store cannot be opened; it is as it was.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A listener's port cannot be bound.
    #[error(transparent)]
    Listener(ingest::BindError),
    /// A listener's certificates cannot be used.
    #[error(transparent)]
    Tls(ingest::BindError),
    /// The HTTP port cannot be bound.
    #[error("http {address}: {cause}; stop what listens there, or set another [http] address")]
    Http {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
}

impl From<ingest::BindError> for StartError {
    fn from(error: ingest::BindError) -> Self {
        match error {
            ingest::BindError::Tls { .. } => Self::Tls(error),
            _ => Self::Listener(error),
        }
    }
}

//! Why a command failed, by exit code. The codes are those of BSD's `sysexits.h`, which service
//! managers know.

use crate::{config::ConfigError, store::StoreError, supervisor::StartError};

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line is wrong (64).
    #[error("{0}")]
    Usage(String),
    /// What was looked at is damaged (65).
    #[error("{0}")]
    Damaged(String),
    /// What was to be looked at is not there (66).
    #[error("{0}")]
    NoInput(String),
    /// What is needed is not there: a port in use, no gateway that answers (69).
    #[error("{0}")]
    Unavailable(String),
    /// The data directory cannot be made (73).
    #[error("{0}")]
    CantCreate(String),
    /// Input or output failed: the store is as it was at its last commit (74).
    #[error("{0}")]
    Io(String),
    /// The configuration is wrong, names a folder that is not Tidegate's, or has given up too many
    /// uplinks (78).
    #[error("{0}")]
    Config(String),
    /// Acknowledged events did not arrive (1).
    #[error("{0}")]
    Lost(String),
}

impl Failure {
    /// The exit code of a wrong command line.
    pub const USAGE: u8 = 64;

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Lost(_) => 1,
            Self::Usage(_) => Self::USAGE,
            Self::Damaged(_) => 65,
            Self::NoInput(_) => 66,
            Self::Unavailable(_) => 69,
            Self::CantCreate(_) => 73,
            Self::Io(_) => 74,
            Self::Config(_) => 78,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let text = error.to_string();
        match error {
            StartError::DataDir { .. } => Self::CantCreate(text),
            StartError::Store(StoreError::Foreign { .. } | StoreError::TooManyUplinks { .. }) => {
                Self::Config(text)
            }
            StartError::Store(StoreError::InUse { .. }) => Self::Unavailable(text),
            StartError::Store(_) => Self::Io(text),
            StartError::Tls(_) => Self::Config(text),
            StartError::Listener(_) | StartError::Http { .. } => Self::Unavailable(text),
        }
    }
}

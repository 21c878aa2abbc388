//! Why a connection is given up, by the upstream's doing or by ours.

use std::time::Duration;

use crate::{
    store::ReadError,
    uplink::engine::{Lost, Notice, Refusal, dial::Step},
};

/// Why there is no connection, or no longer. What was in flight is to be sent again from the
/// released offset.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// There is none by itself.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The connection was not made in time.
    #[error("no connection within {0:?}: no answer {1}")]
    ConnectTimeout(Duration, Step),
    /// An event was not acknowledged in time.
    #[error("no acknowledgement within {0:?}")]
    AckTimeout(Duration),
    /// The event that is first in line was not acknowledged in time, though events behind it were.
    #[error("no acknowledgement of an event within {0:?}, while those behind it were acknowledged")]
    Overtaken(Duration),
    /// Nothing was acknowledged in time, though a ping behind the event that is first in line was
    /// answered.
    #[error("no acknowledgement within {0:?}, while a ping was answered")]
    Unanswered(Duration),
    /// The upstream said nothing at all while an event waited, and answered no ping.
    #[error("not a word from the upstream within {0:?}")]
    Silent(Duration),
    /// A ping was not answered in time.
    #[error("no answer to a ping within {0:?}")]
    PingTimeout(Duration),
    /// The upstream does not take an event now.
    #[error("the upstream does not take an event now: {}", Notice::from(*.0))]
    NotNow(Refusal),
    /// The store cannot be read, or cannot keep a dead letter.
    #[error("the store: {0}")]
    Store(#[from] ReadError),
}

impl Broken {
    /// Said of a handshake: the upstream refuses this client, in words or without.
    #[must_use]
    pub fn refuses_client(&self) -> bool {
        matches!(self, Self::Lost(Lost::Closed | Lost::Protocol(_)))
    }
}

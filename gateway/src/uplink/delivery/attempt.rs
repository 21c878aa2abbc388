//! One attempt at a connection, and why it failed or ended, in words. Delivery and
//! [`diagnose`](crate::uplink::diagnose) have both from here.

use std::time::Duration;

use tokio::time::timeout;

use super::broken::Broken;
use crate::uplink::engine::{
    Capabilities, Engine, Lost, Silence,
    dial::{Dialer, OpenError, Step},
};

/// Makes the way and shakes hands, within `limit`.
pub async fn connect<E: Engine>(
    engine: &E,
    dialer: &mut Dialer,
    limit: Duration,
) -> Result<(E::Connection, Capabilities), Broken> {
    match timeout(limit, engine.connect(dialer)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Broken::ConnectTimeout(limit, dialer.step().clone())),
    }
}

/// Why there is no connection, or no longer: what is known of it, and what it may mean where the
/// upstream said nothing. `closed` is what is known of a connection that was made.
pub fn explain<E: Engine>(engine: &E, why: &Broken, closed: Option<Silence>) -> String {
    let in_handshake = |step: &Step| matches!(step, Step::Handshake(_));
    let (words, silence) = match why {
        Broken::Lost(Lost::Closed) if closed.is_none() => {
            (format!("{why} in the handshake, without a word"), Some(Silence::ClosedInHandshake))
        }
        Broken::Lost(Lost::Closed) => (why.to_string(), closed),
        Broken::Lost(Lost::Open(OpenError::Timeout { step, .. })) | Broken::ConnectTimeout(_, step)
            if in_handshake(step) =>
        {
            (why.to_string(), Some(Silence::NoHandshake))
        }
        _ => (why.to_string(), None),
    };
    match silence.and_then(|silence| engine.hint(silence)) {
        Some(hint) => format!("{words}; {hint}"),
        None => words,
    }
}

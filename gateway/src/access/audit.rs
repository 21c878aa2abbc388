//! The audit log: who came and went, what was refused and why, what was denied, what changed.
//! Target [`TARGET`].
//!
//! Never a password, a hash, a payload or a key. What clients chose (names, ids, topics) is shown
//! escaped and cut at [`SHOWN_CHARS_MAX`] characters, so that it cannot forge a line. Limits:
//! [`LINES_PER_S_MAX`] lines per second of what clients cause; how many more there were is said
//! afterwards, for a log that an attacker can fill is none. Clients of a listener without users are
//! nobody's secret and told at level debug.

use std::fmt;

use parking_lot::Mutex;

use super::{Admitted, origin::Origin, proof::Proof, refusal::Refusal};
use crate::{mqtt::Version, printable};

/// The target of every line, for the log filter: `TIDEGATE_LOG=warn,tidegate::audit=info`.
pub const TARGET: &str = "tidegate::audit";
/// Lines per second of what clients cause.
pub const LINES_PER_S_MAX: u32 = 200;
/// Characters of a client's text that are shown.
pub const SHOWN_CHARS_MAX: usize = 128;

/// What a client chose, escaped and cut.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.char_indices().nth(SHOWN_CHARS_MAX).map_or(self.0.len(), |(at, _)| at);
        f.write_str(&printable::line(&self.0[..end]))?;
        if end < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

/// What a client was denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
    /// To be sent a message on a topic it had subscribed to.
    Receive,
    /// Its will.
    Will,
}

impl Action {
    /// All of them, each at its own place.
    pub const ALL: [Action; 4] = [Action::Publish, Action::Subscribe, Action::Receive, Action::Will];

    /// A word for the log and a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Receive => "receive",
            Action::Will => "will",
        }
    }
}

/// Writes the audit log.
#[derive(Debug, Default)]
pub(crate) struct Audit(Mutex<Budget>);

#[derive(Debug, Default)]
struct Budget {
    second: u64,
    lines: u32,
    left_out: u64,
}

impl Budget {
    /// Whether a line may be written at `wall_ms`, and how many were not before it.
    fn take(&mut self, wall_ms: u64) -> Option<u64> {
        let second = wall_ms / 1000;
        let mut left_out = 0;
        if second != self.second {
            left_out = std::mem::take(&mut self.left_out);
            (self.second, self.lines) = (second, 0);
        }
        if self.lines >= LINES_PER_S_MAX {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(left_out)
    }
}

impl Audit {
    fn may_write(&self, wall_ms: u64) -> bool {
        match self.0.lock().take(wall_ms) {
            None => false,
            Some(left_out) => {
                if left_out > 0 {
                    tracing::warn!(target: TARGET, left_out, "more happened than is written here");
                }
                true
            }
        }
    }

    pub(crate) fn connected(
        &self,
        wall_ms: u64,
        origin: &Origin,
        admitted: &Admitted,
        client: &str,
        version: Version,
    ) {
        let (identity, client, by) = (Shown(&admitted.identity), Shown(client), admitted.proof.label());
        let protocol = protocol(version);
        if admitted.proof == Proof::Nothing {
            tracing::debug!(target: TARGET, %identity, %client, peer = %origin.peer, protocol, by, "connected");
        } else if self.may_write(wall_ms) {
            tracing::info!(target: TARGET, %identity, %client, peer = %origin.peer, protocol, by, "connected");
        }
    }

    pub(crate) fn disconnected(
        &self,
        wall_ms: u64,
        origin: &Origin,
        admitted: &Admitted,
        client: &str,
        cause: &str,
    ) {
        let (identity, client) = (Shown(&admitted.identity), Shown(client));
        if admitted.proof == Proof::Nothing {
            tracing::debug!(target: TARGET, %identity, %client, peer = %origin.peer, cause, "disconnected");
        } else if self.may_write(wall_ms) {
            tracing::info!(target: TARGET, %identity, %client, peer = %origin.peer, cause, "disconnected");
        }
    }

    pub(crate) fn refused(
        &self,
        wall_ms: u64,
        origin: &Origin,
        claimed: Option<&str>,
        client: &str,
        refusal: Refusal,
    ) {
        if self.may_write(wall_ms) {
            let (user, client) = (Shown(claimed.unwrap_or_default()), Shown(client));
            let reason = refusal.reason;
            tracing::warn!(target: TARGET, %user, %client, peer = %origin.peer, %reason, "refused");
        }
    }

    pub(super) fn denied(
        &self,
        wall_ms: u64,
        admitted: &Admitted,
        client: &str,
        action: Action,
        topic: &str,
        missing: impl fmt::Display,
    ) {
        if self.may_write(wall_ms) {
            let (identity, client, topic) = (Shown(&admitted.identity), Shown(client), Shown(topic));
            let action = action.label();
            tracing::warn!(
                target: TARGET, %identity, %client, action, %topic, %missing,
                "denied (the first of its kind on this connection; more are counted)"
            );
        }
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::V311 => "3.1.1",
        Version::V5 => "5",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_chose_cannot_forge_a_line() {
        assert_eq!(Shown("a\n2026-11-24 \u{1b}[31mx\"").to_string(), "a\\n2026-11-24 \\u001b[31mx\"");
        let long = "ä".repeat(SHOWN_CHARS_MAX + 1);
        assert_eq!(Shown(&long).to_string(), "ä".repeat(SHOWN_CHARS_MAX) + "...");
        assert_eq!(Shown(&long[2..]).to_string(), "ä".repeat(SHOWN_CHARS_MAX));
    }

    #[test]
    fn lines_are_bounded_and_what_is_left_out_is_counted() {
        let mut budget = Budget::default();
        let written = (0..LINES_PER_S_MAX + 7).filter(|_| budget.take(5_000).is_some()).count();
        assert_eq!(written, LINES_PER_S_MAX as usize);
        assert_eq!(budget.take(6_000), Some(7));
        assert_eq!(budget.take(6_001), Some(0));
    }
}

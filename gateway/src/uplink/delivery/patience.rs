//! How long an answer is waited for. Pure.
//!
//! ```text
//!  the whole time ── doubles while connections are fruitless ── twice the slowest that was seen
//!   └ shorter, where something shows a bad event: four times the slowest that was seen at least
//! ```
//! An upstream may be slower than the whole time allows. Where nothing at all was acknowledged
//! within it, the next connection has twice the time, up to [`FRUITLESS_MAX`] times; and whatever
//! was seen to be acknowledged in the end has twice that from then on.

use std::time::Duration;

/// The head may wait so long while events behind it are acknowledged.
const OVERTAKEN_MAX: Duration = Duration::from_secs(4);
/// The head may wait so long while nothing is acknowledged and a ping behind it was answered.
const UNANSWERED_MAX: Duration = Duration::from_secs(10);
/// The head may wait so long for an upstream that says nothing; a ping goes out after half of it.
const SILENCE_MAX: Duration = Duration::from_secs(8);
/// A head that is sent alone may wait so long.
const ALONE_MAX: Duration = Duration::from_secs(5);
/// All four, once the upstream is known to ignore an event in this way.
pub const KNOWN_MAX: Duration = Duration::from_millis(1500);
/// None of these is less than the slowest acknowledgement times this.
const SLOWEST_FACTOR: u32 = 4;
/// Something is missing among the acknowledgements once the head waits so long while events behind
/// it are acknowledged. Some brokers acknowledge a little out of order.
pub const GAP_MAX: Duration = Duration::from_millis(500);

/// The whole time is doubled so often at the most.
const FRUITLESS_MAX: u32 = 3;
/// And is never more than this, unless it is set longer.
pub const ACK_TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// How long an acknowledgement is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The whole time, where nothing shows that the upstream is slower.
    pub ack_timeout: Duration,
    /// The slowest acknowledgement that was seen lately.
    pub slowest_ack: Duration,
    /// Connections on which nothing was acknowledged in time, one after the other.
    pub fruitless: u32,
    /// The upstream has acknowledged something at some time.
    pub has_seen: bool,
    /// How often the time that an event has without others to compare it with is doubled.
    pub doublings: u32,
    /// An event was proven lately that the upstream never acknowledges, though it acknowledges
    /// others.
    pub knows_ignored: bool,
    /// An event was proven lately upon which the upstream falls silent.
    pub knows_silent: bool,
}

impl Patience {
    /// Without any time that was seen.
    #[must_use]
    pub fn new(ack_timeout: Duration) -> Self {
        Self {
            ack_timeout,
            slowest_ack: Duration::ZERO,
            fruitless: 0,
            has_seen: true,
            doublings: 0,
            knows_ignored: false,
            knows_silent: false,
        }
    }

    /// At most, whatever happens.
    #[must_use]
    pub fn whole(&self) -> Duration {
        let doubled = self.ack_timeout.saturating_mul(1 << self.fruitless.min(FRUITLESS_MAX));
        let seen = self.slowest_ack.saturating_mul(2);
        doubled.max(seen).min(self.ack_timeout.max(ACK_TIMEOUT_MAX))
    }

    fn limit(&self, usual: Duration, is_known: bool) -> Duration {
        let least = self.slowest_ack.saturating_mul(SLOWEST_FACTOR);
        (if is_known { KNOWN_MAX } else { usual }).max(least).min(self.whole())
    }

    /// The same where nothing shows that the upstream is not slow.
    fn growing(&self, usual: Duration, is_known: bool) -> Duration {
        // As long as nothing was ever acknowledged, that it is slow is the likeliest.
        let twice = if self.has_seen { 1 } else { 2 };
        let doublings = self.doublings.saturating_add(twice * self.fruitless);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.limit(usual, is_known).saturating_mul(factor).min(self.whole())
    }

    /// How long the head may wait while events behind it are acknowledged, before something is
    /// missing among the acknowledgements.
    #[must_use]
    pub fn gap(&self) -> Duration {
        self.limit(GAP_MAX, false)
    }

    /// The same, before the connection is given up.
    #[must_use]
    pub fn overtaken(&self) -> Duration {
        self.limit(OVERTAKEN_MAX, self.knows_ignored)
    }

    /// How long the head may wait while nothing is acknowledged and a ping was answered.
    #[must_use]
    pub fn unanswered(&self) -> Duration {
        self.growing(UNANSWERED_MAX, self.knows_ignored)
    }

    /// How long the head may wait while the upstream says nothing at all.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.limit(SILENCE_MAX, self.knows_silent)
    }

    /// How long the head may wait that is sent alone.
    #[must_use]
    pub fn alone(&self) -> Duration {
        self.growing(ALONE_MAX, self.knows_ignored || self.knows_silent)
    }
}

/// What connections that went by have shown of the time that acknowledgements take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Experience {
    /// The upstream has acknowledged something at some time.
    pub has_seen: bool,
    /// The slowest acknowledgement that was seen lately.
    pub slowest_ack: Duration,
    /// Connections on which nothing was acknowledged in time, one after the other.
    pub fruitless: u32,
}

impl Experience {
    /// With a connection more, on which an event was acknowledged, or none in time, or neither.
    #[must_use]
    pub fn after(self, took: bool, was_fruitless: bool) -> Self {
        let fruitless = match (took, was_fruitless) {
            (true, _) => 0,
            (false, true) => (self.fruitless + 1).min(FRUITLESS_MAX),
            (false, false) => self.fruitless,
        };
        Self { fruitless, has_seen: self.has_seen || took, ..self }
    }
}

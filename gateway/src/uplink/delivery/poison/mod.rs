//! Whether an event is what the upstream cannot stand: a pure judge over how connections ended.
//!
//! An upstream that cannot stand a message closes the connection, falls silent, never acknowledges
//! it or refuses it again and again, and one event would hold up all that are behind it. So:
//!
//! ```text
//!  stream ── failed over the head ──▶ alone: the head and a ping ── failed ──▶ probe: a control, then the head alone
//!    ▲                                   │                                       │              │
//!    │◀──────── the head moved ──────────┴───────────────────────────────────────┘              │ taken, failed
//!    │◀──────── set aside with its reason, its cause is remembered ◀────────────────────────────┘
//! ```
//! - *Failed* is said of a connection only where the upstream was sent the head and the head did
//!   not move. Refused connections, and ends for reasons of the upstream's own, say nothing about
//!   the event: they neither count nor clear.
//! - Nobody is blamed without a *control*: another event that the upstream acknowledged on the very
//!   connection on which it then failed over the head, sent alone. An upstream that fails over
//!   everything blames nobody, and the uplink waits.
//! - What became a dead letter is a proven cause ([`causes`]). While a fault that is found out by
//!   waiting is known, the next event that meets with the same one is probed at once; what is like
//!   a proven cause is sent alone in the first place.
//!
//! It keeps nothing on disk: after a restart it counts again. It reads no clock: `now` is an
//! argument.

pub mod causes;

use std::{fmt, time::Instant};

use self::causes::{Causes, Features};
use crate::{
    store::{LetterReason, ReasonCode},
    uplink::engine::Refusal,
};

/// Connections that failed over the same head, before a control is sent: the stream, and the head
/// alone. An upstream that says so at once is asked once more after a pause: it may have closed for
/// a rate that was too high, and then takes one event again.
const UNCONTROLLED_MAX: u32 = 2;
const UNCONTROLLED_AT_ONCE_MAX: u32 = 3;

/// After so many connections more that showed nothing, an event has twice the time.
const DOUBLED_AFTER: u32 = 4;

/// How the upstream failed over an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It closed the connection.
    Closed,
    /// It refused the event for now, with this reason.
    Refused(Refusal),
    /// It never acknowledged the event, though it answered what came after it.
    Ignored,
    /// It said nothing any more.
    Silent,
}

impl Fault {
    /// Connections that fail so before a control is sent.
    fn uncontrolled_max(self) -> u32 {
        match self {
            Self::Closed | Self::Refused(_) => UNCONTROLLED_AT_ONCE_MAX,
            Self::Ignored | Self::Silent => UNCONTROLLED_MAX,
        }
    }

    /// It is found out by waiting.
    fn is_slow(self) -> bool {
        matches!(self, Self::Ignored | Self::Silent)
    }

    /// The same in kind: reasons of refusals apart.
    pub fn is_like(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }
}

impl From<Fault> for LetterReason {
    fn from(fault: Fault) -> Self {
        let code = match fault {
            Fault::Closed => ReasonCode::Closed,
            Fault::Refused(_) => ReasonCode::Refused,
            Fault::Ignored => ReasonCode::Ignored,
            Fault::Silent => ReasonCode::Silent,
        };
        Self::new(code, fault.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the upstream closed the connection over it"),
            Self::Refused(reason) => write!(f, "the upstream refused it: {reason}"),
            Self::Ignored => f.write_str("the upstream never acknowledged it"),
            Self::Silent => f.write_str("the upstream fell silent over it"),
        }
    }
}

/// What the end of a connection says about the event that was its head by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// The upstream failed over it.
    Failed {
        /// In what way.
        fault: Fault,
        /// It had been sent alone, after the upstream had acknowledged another event on this
        /// connection.
        controlled: bool,
    },
    /// The upstream did not even acknowledge the control.
    ControlFailed,
    /// Anything else.
    #[default]
    Other,
}

/// What to do on the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Send as much as the window takes.
    Stream,
    /// Send the head alone.
    Alone {
        /// It was tried before: after a pause.
        is_second: bool,
    },
    /// Send a control, then the head alone.
    Probe {
        /// Controls that failed so far: the next one is to be another event.
        controls_failed: u32,
    },
    /// Set the head aside before connecting.
    DeadLetter {
        /// What the upstream does about it.
        fault: Fault,
        /// Connections on which it did.
        tries: u32,
    },
}

/// The case against the event at the head, and what was learnt from those before.
#[derive(Debug, Default)]
pub struct PoisonCase {
    head: u64,
    failed: u32,
    controls_failed: u32,
    fault: Option<Fault>,
    is_proven: bool,
    causes: Causes,
}

impl PoisonCase {
    /// Takes in that a connection whose first unreleased event was `head` in the end has ended so.
    pub fn ended(&mut self, head: u64, ending: Ending, now: Instant) {
        if head != self.head {
            *self = Self { head, causes: std::mem::take(&mut self.causes), ..Self::default() };
        }
        match ending {
            Ending::Failed { fault, controlled } => {
                self.failed += 1;
                self.fault = Some(fault);
                self.is_proven =
                    controlled && (self.failed > UNCONTROLLED_MAX || self.causes.knows(fault, now));
            }
            Ending::ControlFailed => self.controls_failed += 1,
            Ending::Other => {}
        }
    }

    /// The plan for the next connection, whose head is `head`.
    #[must_use]
    pub fn plan(&self, head: u64, now: Instant) -> Plan {
        let Some(fault) = self.fault.filter(|_| head == self.head) else { return Plan::Stream };
        match self.failed {
            tries if self.is_proven => Plan::DeadLetter { fault, tries },
            failed
                if failed >= fault.uncontrolled_max()
                    || (fault.is_slow() && self.causes.knows(fault, now)) =>
            {
                Plan::Probe { controls_failed: self.controls_failed }
            }
            failed => Plan::Alone { is_second: failed > 1 },
        }
    }

    /// The head has these features, and became a dead letter for `fault`.
    pub fn prove(&mut self, features: &Features<'_>, fault: Fault, now: Instant) {
        self.causes.prove(features, fault, now);
    }

    /// How often the time of an event that is sent alone, or of its control, is doubled: nothing
    /// shows that the upstream is not slow.
    #[must_use]
    pub fn doublings(&self) -> u32 {
        (self.failed.saturating_sub(UNCONTROLLED_AT_ONCE_MAX) + self.controls_failed) / DOUBLED_AFTER
    }

    /// An event is suspected, or one was the matter not long ago.
    #[must_use]
    pub fn is_wary(&self, now: Instant) -> bool {
        self.fault.is_some() || self.causes.is_recent(now)
    }

    /// What was learnt.
    #[must_use]
    pub fn causes(&self) -> &Causes {
        &self.causes
    }

    /// The same, to be corrected.
    pub fn causes_mut(&mut self) -> &mut Causes {
        &mut self.causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Kind;

    const REASON: Refusal = Refusal::hex("implementation specific error", 0x83);

    fn failed(fault: Fault, controlled: bool) -> Ending {
        Ending::Failed { fault, controlled }
    }

    #[test]
    fn the_table_of_endings_and_plans() {
        use Ending::{ControlFailed, Other};
        use Fault::{Closed, Ignored, Refused, Silent};
        let (closed, proof) = (failed(Closed, false), failed(Closed, true));
        let probe = |controls_failed| Plan::Probe { controls_failed };
        let (alone, again) = (Plan::Alone { is_second: false }, Plan::Alone { is_second: true });
        let silent = failed(Silent, false);
        type Case<'a> = (&'a [(u64, Ending)], u64, Plan, &'a str);
        let table: &[Case<'_>] = &[
            (&[], 0, Plan::Stream, "at the start"),
            (&[(0, closed)], 0, alone, "the first event of all"),
            (&[(5, closed)], 5, alone, "once is chance"),
            (&[(5, closed); 2], 5, again, "twice may be for a rate that is too high"),
            (&[(5, closed); 3], 5, probe(0), "three times is case"),
            (&[(5, silent)], 5, alone, "once is chance"),
            (&[(5, silent); 2], 5, probe(0), "what took long is asked less often"),
            (&[(5, closed); 50], 5, probe(0), "nobody is blamed without a control"),
            (
                &[(5, closed), (5, closed), (5, proof)],
                5,
                Plan::DeadLetter { fault: Closed, tries: 3 },
                "it takes others",
            ),
            (&[(5, proof)], 5, alone, "one failure is chance, with a control as well"),
            (&[(5, proof), (5, proof)], 5, again, "two are not yet a proof"),
            (
                &[(5, closed), (5, closed), (5, closed), (5, ControlFailed), (5, ControlFailed)],
                5,
                probe(2),
                "an upstream that fails over everything blames nobody, and the control is another one",
            ),
            (
                &[(5, closed), (5, closed), (5, ControlFailed), (5, proof)],
                5,
                Plan::DeadLetter { fault: Closed, tries: 3 },
                "the second control shows it",
            ),
            (&[(5, closed), (5, closed), (5, proof)], 6, Plan::Stream, "the head is another one by now"),
            (&[(5, Other); 50], 5, Plan::Stream, "what says nothing never counts"),
            (
                &[(5, closed), (5, Other), (5, Other), (5, closed)],
                5,
                again,
                "a broker that restarts after each crash is refused in between",
            ),
            (&[(5, closed), (5, closed), (7, closed)], 7, alone, "another head starts from nothing"),
            (&[(5, closed), (5, closed), (7, closed)], 5, Plan::Stream, "and the old one is forgotten"),
            (
                &[
                    (5, failed(Silent, false)),
                    (5, failed(Ignored, false)),
                    (5, failed(Refused(REASON), true)),
                ],
                5,
                Plan::DeadLetter { fault: Refused(REASON), tries: 3 },
                "every fault counts, and the last is told",
            ),
        ];
        let now = crate::clock::monotonic();
        for (endings, head, plan, why) in table {
            let mut case = PoisonCase::default();
            for (head, ending) in *endings {
                case.ended(*head, *ending, now);
            }
            assert_eq!(case.plan(*head, now), *plan, "{why}");
        }
    }

    #[test]
    fn what_is_tried_in_vain_again_and_again_has_more_time() {
        let now = crate::clock::monotonic();
        let mut case = PoisonCase::default();
        let doublings: Vec<u32> = (0..11)
            .map(|n| {
                let alone = failed(Fault::Ignored, false);
                case.ended(5, if n < 2 { alone } else { Ending::ControlFailed }, now);
                case.doublings()
            })
            .collect();
        assert_eq!(doublings, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]);
        case.ended(6, failed(Fault::Ignored, false), now);
        assert_eq!(case.doublings(), 0, "another head");
    }

    #[test]
    fn a_known_fault_is_probed_at_once_and_one_probe_proves_it() {
        let now = crate::clock::monotonic();
        let mut case = PoisonCase::default();
        let features = Features { topic: "t", retain: false, bytes: 9, kind: Kind::Opaque };
        case.prove(&features, Fault::Ignored, now);
        let (ignored, alone) = (Fault::Ignored, Plan::Alone { is_second: false });
        case.ended(5, failed(ignored, false), now);
        assert_eq!(case.plan(5, now), Plan::Probe { controls_failed: 0 });
        case.ended(5, failed(ignored, true), now);
        assert_eq!(case.plan(5, now), Plan::DeadLetter { fault: ignored, tries: 2 });
        case.ended(6, failed(ignored, true), now);
        let dead_letter = Plan::DeadLetter { fault: ignored, tries: 1 };
        assert_eq!(case.plan(6, now), dead_letter, "what was sent alone from the start needs one connection");
        case.ended(7, failed(Fault::Silent, true), now);
        assert_eq!(case.plan(7, now), alone, "another fault is not known");
    }
}

//! What was proven of events that an upstream cannot stand: remembered for a time, so that the next
//! one alike is judged by one probe. Pure.
//!
//! A dead letter gives a hypothesis for each of its features: its topic, the retain
//! flag if it has it, its size if it is large. An event that one of them foresees is sent alone,
//! which costs it little if it is sound; when it is acknowledged, the hypothesis is dropped. So a
//! wrong one costs one event its company, and never blames anybody.
//!
//! Limits: [`CAUSES_MAX`] hypotheses, each for [`REMEMBERED`]; the oldest makes room. It reads no
//! clock: `now` is an argument.

use std::time::{Duration, Instant};

use super::Fault;
use crate::store::{Kind, Record};

/// Hypotheses that are kept at the most.
const CAUSES_MAX: usize = 64;
/// How long one is kept after its last proof.
const REMEMBERED: Duration = Duration::from_secs(600);
/// A smaller event is not refused for its size.
const LARGE_BYTES_MIN: usize = 4 * 1024;
/// How many kinds of faults there are.
const FAULTS: usize = 4;

/// What may be the matter with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its retain flag.
    pub retain: bool,
    /// Length of its payload.
    pub bytes: usize,
    /// What it is.
    pub kind: Kind,
}

impl<'a> Features<'a> {
    /// Those of `record`.
    #[must_use]
    pub fn of(record: &Record<'a>) -> Self {
        Self { topic: record.topic, retain: record.retain, bytes: record.payload.len(), kind: record.kind }
    }
}

/// One hypothesis.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    Topic(Box<str>),
    Retain,
    /// Of this kind and at least so large.
    Large(Kind, usize),
}

impl Cause {
    fn foresees(&self, features: &Features<'_>) -> bool {
        match self {
            Self::Topic(topic) => **topic == *features.topic,
            Self::Retain => features.retain,
            Self::Large(kind, bytes) => *kind == features.kind && features.bytes >= *bytes,
        }
    }

    /// A proof of `other` is one of this.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Large(kind, bytes), Self::Large(other_kind, other_bytes)) => {
                kind == other_kind && bytes <= other_bytes
            }
            _ => self == other,
        }
    }
}

/// The hypotheses of one uplink, and the faults behind them.
#[derive(Debug, Default)]
pub struct Causes {
    /// The longest unproven first.
    known: Vec<(Cause, Instant)>,
    faults: [Option<(Fault, Instant)>; FAULTS],
}

impl Causes {
    /// An event with these features became a dead letter for `fault`.
    pub fn prove(&mut self, features: &Features<'_>, fault: Fault, now: Instant) {
        self.known.retain(|(_, at)| is_fresh(*at, now));
        let is_large = features.bytes >= LARGE_BYTES_MIN;
        let causes = [
            Some(Cause::Topic(features.topic.into())),
            features.retain.then_some(Cause::Retain),
            is_large.then_some(Cause::Large(features.kind, features.bytes)),
        ];
        for cause in causes.into_iter().flatten() {
            match self.known.iter().position(|(known, _)| known.covers(&cause)) {
                Some(at) => {
                    let (known, _) = self.known.remove(at);
                    self.known.push((known, now));
                }
                None => self.known.push((cause, now)),
            }
        }
        let excess = self.known.len().saturating_sub(CAUSES_MAX);
        self.known.drain(..excess);
        let alike =
            |known: &&mut Option<(Fault, Instant)>| known.is_none_or(|(known, _)| known.is_like(fault));
        if let Some(place) = self.faults.iter_mut().find(alike) {
            *place = Some((fault, now));
        }
    }

    /// Whether an event was proven to meet with `fault`, in kind, not long ago.
    #[must_use]
    pub fn knows(&self, fault: Fault, now: Instant) -> bool {
        self.faults.iter().flatten().any(|(known, at)| known.is_like(fault) && is_fresh(*at, now))
    }

    /// Whether any event was proven not long ago.
    #[must_use]
    pub fn is_recent(&self, now: Instant) -> bool {
        self.faults.iter().flatten().any(|(_, at)| is_fresh(*at, now))
    }

    /// Nothing is remembered.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether an event with these features is to be sent alone.
    #[must_use]
    pub fn foresees(&self, features: &Features<'_>, now: Instant) -> bool {
        self.known.iter().any(|(cause, at)| is_fresh(*at, now) && cause.foresees(features))
    }

    /// An event with these features was acknowledged: what foresaw it was wrong.
    pub fn refute(&mut self, features: &Features<'_>) {
        self.known.retain(|(cause, _)| !cause.foresees(features));
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Features<'_> = Features { topic: "a", retain: false, bytes: 9, kind: Kind::Opaque };
    const LARGE: Features<'_> = Features { bytes: 5000, ..PLAIN };

    #[test]
    fn an_event_is_foreseen_by_its_topic_its_retain_flag_or_its_size() {
        let now = crate::clock::monotonic();
        let retained = Features { retain: true, ..PLAIN };
        for (proven, next, is_foreseen, why) in [
            (PLAIN, Features { bytes: 1, ..PLAIN }, true, "the same topic"),
            (PLAIN, Features { topic: "b", ..PLAIN }, false, "another topic"),
            (PLAIN, Features { topic: "a/b", ..PLAIN }, false, "a topic below"),
            (retained, Features { topic: "b", ..retained }, true, "retained as well"),
            (retained, Features { topic: "b", ..PLAIN }, false, "another topic, not retained"),
            (LARGE, Features { topic: "b", ..LARGE }, true, "as large"),
            (LARGE, Features { topic: "b", bytes: 9999, ..LARGE }, true, "larger"),
            (LARGE, Features { topic: "b", bytes: 4999, ..LARGE }, false, "smaller"),
            (LARGE, Features { topic: "b", kind: Kind::Json, ..LARGE }, false, "of another kind"),
            (PLAIN, Features { topic: "b", ..PLAIN }, false, "what is small is not refused for its size"),
        ] {
            let mut causes = Causes::default();
            causes.prove(&proven, Fault::Closed, now);
            assert_eq!(causes.foresees(&next, now), is_foreseen, "{why}");
        }
    }

    #[test]
    fn what_is_acknowledged_refutes_what_foresaw_it_and_nothing_else() {
        let now = crate::clock::monotonic();
        let mut causes = Causes::default();
        causes.prove(&Features { retain: true, ..LARGE }, Fault::Closed, now);
        causes.refute(&Features { topic: "b", retain: true, ..PLAIN });
        assert!(causes.foresees(&PLAIN, now), "the topic");
        assert!(causes.foresees(&Features { topic: "b", ..LARGE }, now), "the size");
        assert!(
            !causes.foresees(&Features { topic: "b", retain: true, ..PLAIN }, now),
            "the flag is no cause"
        );
        causes.refute(&LARGE);
        assert!(causes.is_empty());
    }

    #[test]
    fn a_cause_is_forgotten_after_its_time_and_the_oldest_when_there_are_many() {
        let now = crate::clock::monotonic();
        let topics: Vec<String> = (0..=CAUSES_MAX).map(|n| n.to_string()).collect();
        let mut causes = Causes::default();
        for topic in &topics {
            causes.prove(&Features { topic, ..PLAIN }, Fault::Silent, now);
        }
        assert_eq!(causes.known.len(), CAUSES_MAX);
        assert!(!causes.foresees(&Features { topic: "0", ..PLAIN }, now));
        let known = Features { topic: "1", ..PLAIN };
        assert!(causes.foresees(&known, now) && causes.knows(Fault::Silent, now));
        assert!(!causes.knows(Fault::Ignored, now));
        let later = now + REMEMBERED;
        assert!(!causes.foresees(&known, later) && !causes.knows(Fault::Silent, later));
        causes.prove(&known, Fault::Silent, later);
        assert_eq!(causes.known.len(), 1, "what is out of date makes room");
    }
}

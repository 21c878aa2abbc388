//! Whether an event is what makes the upstream hang up: a pure judge over how connections ended.
//!
//! MQTT 3.1.1 has no negative acknowledgement: a broker that can not stand a PUBLISH closes the connection, and
//! one event would make the uplink reconnect for ever. So:
//!
//! ```text
//!  stream ──FRUITLESS_MAX connections closed over the same head──▶ probe: PINGREQ answered, then the head alone
//!    ▲                                                              │            │
//!    └──────────────── the head moved ◀────────────────────────────┘            │ PROBES_MAX closed over it
//!    └──────────────── set aside with its reason ◀──────────────────────────────┘
//! ```
//! Only a connection that the peer closed after it was sent the head counts. Time-outs, refused connections and a close for
//! reasons of the upstream's own say nothing about the event: they neither count nor clear.
//!
//! It keeps nothing on disk: after a restart it counts again.

/// Connections in a row that the peer closed over the same head, before the head is probed alone.
pub const FRUITLESS_MAX: u32 = 3;
/// Probes of the head alone that the peer closed, before the head is set aside.
pub const PROBES_MAX: u32 = 3;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The head moved: the upstream acknowledged something that was first in line.
    Progress,
    /// The peer closed it after it was sent at least part of the head, and the head did not move.
    ClosedByPeer,
    /// Anything else.
    Other,
}

/// What to do on the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Send as much as the window takes.
    Stream,
    /// Show that the upstream answers, then send the head alone.
    Probe,
    /// Set the head aside before connecting: the peer closed this many connections over it.
    SetAside {
        /// Connections closed over the head.
        closed: u32,
    },
}

/// The case against the event at the head.
#[derive(Debug, Default)]
pub struct Suspect {
    head: u64,
    closed: u32,
}

impl Suspect {
    /// Takes in that a connection which was planned for `head` ended so.
    pub fn ended(&mut self, head: u64, ending: Ending) {
        if head != self.head || ending == Ending::Progress {
            *self = Self { head, closed: 0 };
        }
        if ending == Ending::ClosedByPeer {
            self.closed += 1;
        }
    }

    /// The plan for the next connection, whose head is `head`.
    #[must_use]
    pub fn plan(&self, head: u64) -> Plan {
        match self.closed {
            _ if head != self.head => Plan::Stream,
            closed if closed >= FRUITLESS_MAX + PROBES_MAX => Plan::SetAside { closed },
            closed if closed >= FRUITLESS_MAX => Plan::Probe,
            _ => Plan::Stream,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Ending::{ClosedByPeer, Other, Progress},
        *,
    };

    #[test]
    fn the_table_of_endings_and_plans() {
        let set_aside = Plan::SetAside { closed: 6 };
        type Case<'a> = (&'a [(u64, Ending)], u64, Plan, &'a str);
        let table: &[Case<'_>] = &[
            (&[], 0, Plan::Stream, "at the start"),
            (&[(5, ClosedByPeer); 2], 5, Plan::Stream, "twice is chance"),
            (&[(5, ClosedByPeer); 3], 5, Plan::Probe, "three times is suspect"),
            (&[(5, ClosedByPeer); 5], 5, Plan::Probe, "two probes"),
            (&[(5, ClosedByPeer); 6], 5, set_aside, "three probes"),
            (&[(5, ClosedByPeer); 6], 6, Plan::Stream, "the head is another one by now"),
            (&[(5, Other); 50], 5, Plan::Stream, "time-outs never count"),
            (&[(0, ClosedByPeer); 3], 0, Plan::Probe, "the first event of all"),
            (
                &[(5, ClosedByPeer), (5, ClosedByPeer), (5, Other), (5, Other), (5, ClosedByPeer)],
                5,
                Plan::Probe,
                "a broker that restarts after each crash is refused in between",
            ),
            (
                &[(5, ClosedByPeer), (5, ClosedByPeer), (7, ClosedByPeer)],
                7,
                Plan::Stream,
                "another head starts from nothing",
            ),
            (
                &[(5, ClosedByPeer), (5, ClosedByPeer), (5, Progress), (5, ClosedByPeer)],
                5,
                Plan::Stream,
                "progress clears",
            ),
        ];
        for (endings, head, plan, why) in table {
            let mut suspect = Suspect::default();
            for (head, ending) in *endings {
                suspect.ended(*head, *ending);
            }
            assert_eq!(suspect.plan(*head), *plan, "{why}");
        }
    }
}

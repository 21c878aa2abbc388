//! What an uplink carries from one connection to the next: what needs not be sent again, and what a
//! probe may send first.
//!
//! ```text
//!   released │ head   acked  acked   …
//!   ─────────┼────┬───────┬───────┬───▶ offsets
//!  controls  │    └ waits └───────┴ carried: passed over on the next connection
//! ```
//! Limits: the offsets of a window twice, and [`CONTROLS_MAX`] records of at most
//! [`CONTROL_BYTES_MAX`] each. Nothing of it is on disk: after a restart the events behind the
//! released offset are sent again.

use std::collections::BTreeSet;

use super::window::LIMIT_MAX;
use crate::store::Record;

/// Controls that are kept at the most, each on a topic of its own.
const CONTROLS_MAX: usize = 4;
/// Controls that are found in the log, where those are not enough, at the most.
pub const FOUND_MAX: usize = 8;
/// Controls that are ahead of others of their device are not sent before each of the rest has
/// failed so often: an upstream that failed over everything for a while, and takes all of it again,
/// is to get them in their order.
const ROUNDS_IN_ORDER: usize = 2;
/// A longer record is no control.
const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// What is carried.
#[derive(Debug, Default)]
pub struct Carried {
    /// Behind the released offset, and acknowledged.
    acked: BTreeSet<u64>,
    /// The last of those that were in flight when none was acknowledged, or next to one that became
    /// a dead letter for it.
    unanswered_to: Option<u64>,
    /// Set aside and counted, not long ago.
    counted: BTreeSet<u64>,
    /// Acknowledged not long ago, the newest last.
    controls: Vec<Control>,
}

/// A record that an upstream has taken, or may be asked to take: sent, it shows that the upstream
/// takes events.
#[derive(Debug, Clone)]
pub struct Control {
    /// Its offset.
    pub offset: u64,
    topic: Box<str>,
    received_ms: u64,
    bytes: Vec<u8>,
    /// Others of its device wait before it.
    is_ahead: bool,
}

impl Control {
    /// A copy of `record`; `None` if it is too long.
    #[must_use]
    pub fn new(offset: u64, record: &Record<'_>) -> Option<Self> {
        let mut bytes = Vec::new();
        (record.size() <= CONTROL_BYTES_MAX).then(|| record.write(&mut bytes))?;
        Some(Self {
            offset,
            topic: record.topic.into(),
            received_ms: record.received_ms,
            bytes,
            is_ahead: false,
        })
    }

    /// The same, of a record before which others of its device wait: taken, it is out of order.
    #[must_use]
    pub fn ahead(self) -> Self {
        Self { is_ahead: true, ..self }
    }

    /// Copies of the last of `records` that go upstream, one for each topic, the newest first.
    pub fn newest<'r>(records: impl Iterator<Item = (u64, Record<'r>)>) -> Vec<Self> {
        let all: Vec<_> = records.filter(|(_, record)| !record.local).collect();
        let mut topics = BTreeSet::new();
        let newest = all.iter().rev().filter(|(_, record)| topics.insert(record.topic));
        newest.filter_map(|(offset, record)| Self::new(*offset, record)).take(FOUND_MAX).collect()
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> Option<Record<'_>> {
        Record::read(&self.bytes, 0, self.received_ms).ok().map(|(record, _)| record)
    }
}

impl Carried {
    /// Drops what a connection that begins at `head` cannot ask for.
    pub fn begin(&mut self, head: u64) {
        self.acked = self.acked.split_off(&head);
        self.counted = self.counted.split_off(&head);
    }

    /// Nothing is to be passed over.
    #[must_use]
    pub fn has_acked(&self) -> bool {
        !self.acked.is_empty()
    }

    /// Whether the record at `offset` needs not be sent again.
    #[must_use]
    pub fn is_acked(&self, offset: u64) -> bool {
        self.acked.contains(&offset)
    }

    /// Whether the record at `offset`, which is to be sent, may be one that the upstream never
    /// acknowledges: it was overtaken by one that is acknowledged, or was in flight when none was,
    /// or lies next to one that became a dead letter.
    #[must_use]
    pub fn is_unanswered(&self, offset: u64) -> bool {
        self.acked.last().is_some_and(|last| offset < *last)
            || self.unanswered_to.is_some_and(|last| offset <= last)
    }

    /// The records up to this one may be such; `None`: one of them was acknowledged.
    pub fn set_unanswered(&mut self, last: Option<u64>) {
        self.unanswered_to = last.and_then(|last| self.unanswered_to.max(Some(last)));
    }

    /// The records at these offsets are acknowledged.
    pub fn add_acked(&mut self, offsets: impl Iterator<Item = u64>) {
        self.acked.extend(offsets);
        while self.acked.len() > usize::from(LIMIT_MAX) {
            self.acked.pop_last();
        }
    }

    /// The record at `offset` becomes a dead letter. Says whether it is to be counted: it was not
    /// counted before.
    pub fn count(&mut self, offset: u64) -> bool {
        if self.counted.len() >= usize::from(LIMIT_MAX) {
            self.counted.pop_first();
        }
        self.counted.insert(offset)
    }

    /// Whether the record at `offset` became a dead letter not long ago.
    #[must_use]
    pub fn is_counted(&self, offset: u64) -> bool {
        self.counted.contains(&offset)
    }

    /// These records were acknowledged, the newest last: the newest on each topic are kept.
    pub fn add_controls(&mut self, records: &[(u64, Record<'_>)]) {
        let mut newest: Vec<Control> = Vec::new();
        for (offset, record) in records.iter().rev() {
            if newest.len() == CONTROLS_MAX {
                break;
            }
            if newest.iter().all(|control| *control.topic != *record.topic) {
                newest.extend(Control::new(*offset, record));
            }
        }
        newest.into_iter().rev().for_each(|control| self.keep(control));
    }

    /// This one was acknowledged.
    pub fn keep(&mut self, control: Control) {
        self.controls.retain(|known| known.topic != control.topic);
        self.controls.push(Control { is_ahead: false, ..control });
        let excess = self.controls.len().saturating_sub(CONTROLS_MAX);
        self.controls.drain(..excess);
    }

    /// The controls for an event on `topic` after so many that failed, the one to be sent first of
    /// all: those on other topics before those on its own, of these the carried ones before `more`,
    /// and again from the beginning when all have failed. Those ahead of others of their device
    /// wait for [`ROUNDS_IN_ORDER`] rounds of the rest.
    #[must_use]
    pub fn controls(&self, topic: &str, more: &[Control], failed: u32) -> Vec<Control> {
        let mut all: Vec<&Control> = self.controls.iter().rev().chain(more).collect();
        all.sort_by_key(|control| (control.is_ahead, *control.topic == *topic));
        let (failed, in_order) = (failed as usize, all.partition_point(|control| !control.is_ahead));
        let turning = if failed < in_order * ROUNDS_IN_ORDER { in_order } else { all.len() };
        if turning > 0 {
            all[..turning].rotate_left(failed % turning);
        }
        all.into_iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplink::tests::Owned;

    fn control(offset: u64, topic: &str) -> Control {
        Control::new(offset, &Owned::new(topic, b"x").borrow()).unwrap()
    }

    #[test]
    fn controls_of_other_topics_come_first_and_each_that_fails_makes_room_for_the_next() {
        let mut carried = Carried::default();
        assert!(carried.controls("a", &[], 0).is_empty());
        let records = ["a", "b", "c", "b"].map(|topic| Owned::new(topic, b"x"));
        let records: Vec<_> = (1..).zip(records.iter().map(Owned::borrow)).collect();
        carried.add_controls(&records);
        let offsets = |behind: Option<u64>| -> Vec<u64> {
            let more: Vec<_> = behind.map(|offset| control(offset, "z")).into_iter().collect();
            (0..5).map(|failed| carried.controls("a", &more, failed)[0].offset).collect()
        };
        assert_eq!(offsets(None), [4, 3, 1, 4, 3]);
        assert_eq!(offsets(Some(9)), [4, 3, 9, 1, 4]);
        assert!(Control::new(5, &Owned::new("a", &vec![b'x'; CONTROL_BYTES_MAX]).borrow()).is_none());
        assert_eq!(carried.controls("a", &[], 0)[0].record().unwrap().topic, "b");
    }

    #[test]
    fn what_is_ahead_of_others_of_its_device_comes_last_and_first_only_when_the_rest_has_failed_twice() {
        let mut carried = Carried::default();
        carried.keep(control(1, "b"));
        let more = [control(7, "c").ahead(), control(5, "d"), control(9, "e").ahead()];
        let first = |failed| carried.controls("a", &more, failed)[0].offset;
        assert_eq!(
            [0, 1, 2, 3].map(first),
            [1, 5, 1, 5],
            "an upstream that takes all again gets them in order"
        );
        assert_eq!(
            [4, 5, 6, 7].map(first),
            [1, 5, 7, 9],
            "and one that takes none of these is not stood at for ever"
        );
        let all: Vec<_> = carried.controls("a", &more, 1).iter().map(|control| control.offset).collect();
        assert_eq!(all, [5, 1, 7, 9], "one that cannot be sent gives way to the next");
        carried.keep(more[0].clone());
        assert_eq!(carried.controls("a", &[], 0)[0].offset, 7, "once taken it is like any other");
    }

    #[test]
    fn what_lies_before_the_head_is_dropped_and_a_record_is_counted_once() {
        let mut carried = Carried::default();
        carried.add_acked([4, 6, 9].into_iter());
        assert!(carried.count(4) && !carried.count(4) && carried.count(7));
        carried.begin(6);
        assert_eq!([4, 5, 6, 9].map(|offset| carried.is_acked(offset)), [false, false, true, true]);
        assert_eq!([8, 9, 10].map(|offset| carried.is_unanswered(offset)), [true, false, false]);
        carried.set_unanswered(Some(9));
        carried.set_unanswered(Some(8));
        assert_eq!([8, 9, 10].map(|offset| carried.is_unanswered(offset)), [true, true, false]);
        carried.set_unanswered(None);
        assert!(!carried.is_unanswered(9));
        assert!(!carried.is_counted(4) && carried.is_counted(7));
    }
}

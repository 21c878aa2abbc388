//! The journal of the gateway's own clock: what the wall clock was ahead of the time since the
//! machine booted, and from when on. Pure: whoever looks at the clocks passes the [`Reading`].
//!
//! ```text
//!  machine boots     number 1              number 2
//!  wall - boottime   ──1970──┐  ┌─right──  ──right──┐  ┌─a day on─
//!  records           0 … 399 │? │ 460 …    900 …    │? │ …          ?: judged one by one
//! ```
//! A record says when it was received by the wall clock as it was then. The journal turns that into
//! a [`Moment`], a time on the axis of one machine boot, which no step of the wall clock can move;
//! and a moment into wall-clock time by the latest that is known of that boot. So a gateway that
//! starts in 1970 and learns the time later has the right times for all that it took in before, as
//! long as the machine was not booted anew in between.
//!
//! Between two moments of one machine boot the time that passed is exact, whatever the wall clock
//! does meanwhile. Across machine boots it is what the wall clocks say where both were set, and
//! otherwise at least what the machine was seen to run: never more than has passed, so that in
//! doubt nothing expires early. A journal that is lost begins anew with number 1, at moments later
//! than any that had that number before: what was kept by it is taken for younger than it is, never
//! for older.
//!
//! A step is found within [`LOOK_EVERY_MS`]. Which clock a record around it was stamped with is
//! judged by what is plausible: its moment lies between the last look that saw the old clock, less
//! the time that a record may take from its receipt into the log, and the look that it was in the
//! log by. For a step of more than that span one clock alone is plausible; for a smaller one both
//! may be, and the moment carries the difference as a doubt.
//!
//! Limits: [`BOOTS_MAX`] machine boots with [`STEPS_MAX`] steps each; older ones are forgotten. A
//! wall clock before 2025 is one that was never set; any other is believed.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::Reading;

/// How often the clocks are looked at: a step is found so late at the most. In milliseconds.
pub const LOOK_EVERY_MS: u64 = 1_000;
/// Machine boots that are remembered.
pub const BOOTS_MAX: u32 = 1024;
/// Steps of one machine boot that are remembered.
pub const STEPS_MAX: usize = 64;
/// A change of the wall clock against the boot's by less is taken for the reading's own error, in
/// milliseconds.
pub const STEP_MS_MIN: i64 = 20;
/// The longest time from a record's receipt to its place in the log, in milliseconds.
pub const RECEIPT_LAG_MS_MAX: i64 = 60_000;
/// 2025-01-01: a wall clock before it was never set. Milliseconds since 1970.
pub const WALL_SET_MS_MIN: i64 = 1_735_689_600_000;

/// A point of time that no step of the wall clock moves; the earlier one is the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Moment {
    /// The machine boot whose axis this is: its number in the journal; 0 lies before all of them.
    pub axis: u32,
    /// Time since that boot, in milliseconds.
    pub boot_ms: i64,
}

/// A moment as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// When.
    pub moment: Moment,
    /// By how much it may be off, in milliseconds; `None`: no clock that is known makes it
    /// plausible.
    pub doubt_ms: Option<u64>,
}

/// A wall-clock time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wall {
    /// Milliseconds since 1970.
    pub ms: i64,
    /// The clock had been set by then, or later in the same machine boot.
    pub is_set: bool,
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing new.
    Same,
    /// The wall clock was set by so much, in milliseconds.
    Step(i64),
    /// Another boot of the machine.
    Boot,
}

/// A machine boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineBoot {
    id: [u8; 16],
    /// Records from this offset on were received in it.
    from_offset: u64,
    /// What the wall clock was ahead, first to last.
    clocks: Vec<Clock>,
    /// The last look.
    looked: Look,
}

/// The wall clock between two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    /// Wall clock less time since the boot, in milliseconds.
    ahead_ms: i64,
    /// The last look that saw the one before.
    before: Look,
    /// The look that found it.
    found: Look,
    /// The first look so long after that all that was stamped before it is in the log.
    settled: Option<Look>,
}

/// When a look was, and where the log ended then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    boot_ms: i64,
    offset: u64,
}

/// The gateway's clock as far back as it is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Journal {
    /// By ascending number.
    boots: Vec<(u32, MachineBoot)>,
    generation: u64,
}

impl Journal {
    /// The journal of these machine boots.
    #[must_use]
    pub fn of(mut boots: Vec<(u32, MachineBoot)>) -> Self {
        boots.sort_by_key(|(number, _)| *number);
        Self { boots, generation: 0 }
    }

    /// The journal of machine boots as they are kept, and how many of the rows cannot be read.
    #[must_use]
    pub fn of_rows<R: AsRef<[u8]>>(rows: impl IntoIterator<Item = R>) -> (Self, usize) {
        let (mut boots, mut unreadable) = (Vec::new(), 0);
        for row in rows {
            match postcard::from_bytes(row.as_ref()) {
                Ok(boot) => boots.push(boot),
                Err(_) => unreadable += 1,
            }
        }
        (Self::of(boots), unreadable)
    }

    /// Notes a look at the clocks while the log ends at `end`. To be made before the first record
    /// of a process is taken in, and regularly from then on.
    pub fn look(&mut self, reading: &Reading, end: u64) -> Seen {
        let look = Look { boot_ms: reading.boot_ms, offset: end };
        let ahead_ms = reading.wall_ms - reading.boot_ms;
        let Some((_, boot)) = self.boots.last_mut().filter(|(_, boot)| boot.id == reading.boot_id) else {
            let number = self.boots.last().map_or(1, |(number, _)| number.saturating_add(1));
            let first = Clock { ahead_ms, before: look, found: look, settled: Some(look) };
            let boot =
                MachineBoot { id: reading.boot_id, from_offset: end, clocks: vec![first], looked: look };
            self.boots.push((number, boot));
            if self.boots.len() > BOOTS_MAX as usize {
                self.boots.remove(0);
            }
            self.generation += 1;
            return Seen::Boot;
        };
        let before = std::mem::replace(&mut boot.looked, look);
        let Some(last) = boot.clocks.last_mut() else { return Seen::Same };
        if last.settled.is_none() && look.boot_ms - last.found.boot_ms >= RECEIPT_LAG_MS_MAX {
            last.settled = Some(look);
        }
        let step_ms = ahead_ms - last.ahead_ms;
        if step_ms.abs() < STEP_MS_MIN {
            return Seen::Same;
        }
        last.settled.get_or_insert(look);
        boot.clocks.push(Clock { ahead_ms, before, found: look, settled: None });
        if boot.clocks.len() > STEPS_MAX {
            boot.clocks.remove(0);
        }
        self.generation += 1;
        Seen::Step(step_ms)
    }

    /// Grows whenever times that were told before might be others now.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The machine boots that are remembered, the earliest first.
    pub fn boots(&self) -> impl Iterator<Item = &(u32, MachineBoot)> {
        self.boots.iter()
    }

    /// The machine boot that is running, to be kept.
    #[must_use]
    pub fn current(&self) -> Option<&(u32, MachineBoot)> {
        self.boots.last()
    }

    /// The moment of a look.
    #[must_use]
    pub fn now(&self, reading: &Reading) -> Option<Moment> {
        let (number, boot) = self.boots.last()?;
        (boot.id == reading.boot_id).then_some(Moment { axis: *number, boot_ms: reading.boot_ms })
    }

    /// The moment of the last look.
    #[must_use]
    pub fn latest(&self) -> Option<Moment> {
        let (axis, boot) = self.boots.last()?;
        Some(Moment { axis: *axis, boot_ms: boot.looked.boot_ms })
    }

    /// Milliseconds that have passed from `then` to `now` for certain; 0 where `then` is the later
    /// one.
    #[must_use]
    pub fn elapsed_ms(&self, then: Moment, now: Moment) -> u64 {
        // That it was says that its machine boot went on until then.
        let at_least_ms = if then.axis < now.axis { self.ran_ms(then.axis, now) } else { 0 };
        self.passed_ms(then, now).max(at_least_ms) as u64
    }

    /// The same of a moment that may lie ahead: then it is less than 0, or as much less as is in
    /// doubt.
    #[must_use]
    pub fn passed_ms(&self, then: Moment, now: Moment) -> i64 {
        if then.axis >= now.axis {
            return if then.axis == now.axis { now.boot_ms.saturating_sub(then.boot_ms) } else { 0 };
        }
        let own = self.boots.iter().find(|(axis, _)| *axis == then.axis);
        let own_ms = own.map_or(0, |(_, boot)| boot.looked.boot_ms.saturating_sub(then.boot_ms));
        let certain_ms = self.ran_ms(then.axis, now).saturating_add(own_ms);
        match (self.wall(then), self.wall(now)) {
            (Some(then), Some(now)) if then.is_set && now.is_set => {
                certain_ms.max(now.ms.saturating_sub(then.ms))
            }
            _ => certain_ms,
        }
    }

    /// What the machine was seen to run after the boot `axis` until now; where that is not known,
    /// since the journal began.
    fn ran_ms(&self, axis: u32, now: Moment) -> i64 {
        let began = self.began().filter(|began| began.axis > axis).unwrap_or_default();
        let from_ms = |axis: u32| if axis == began.axis { began.boot_ms } else { 0 };
        let between = self.boots.iter().filter(|(other, _)| (axis + 1..now.axis).contains(other));
        let ran = between.map(|(axis, boot)| boot.looked.boot_ms.saturating_sub(from_ms(*axis)).max(0));
        ran.chain([now.boot_ms.saturating_sub(from_ms(now.axis)).max(0)]).fold(0, i64::saturating_add)
    }

    /// How long the machine was off before this boot for certain, in milliseconds: more once the
    /// wall clock is set.
    #[must_use]
    pub fn off_ms(&self) -> u64 {
        let [.., (earlier, before), (axis, _)] = self.boots.as_slice() else { return 0 };
        let end = Moment { axis: *earlier, boot_ms: before.looked.boot_ms };
        self.elapsed_ms(end, Moment { axis: *axis, boot_ms: 0 })
    }

    /// The first look that is remembered.
    fn began(&self) -> Option<Moment> {
        let (axis, boot) = self.boots.first()?;
        Some(Moment { axis: *axis, boot_ms: boot.clocks.first()?.found.boot_ms })
    }

    /// When the record at `offset`, stamped with `received_ms`, was received, by a look at the
    /// clocks made since: where there is a doubt, the latest that it can have been.
    #[must_use]
    pub fn received(&self, offset: u64, received_ms: u64, reading: &Reading) -> Moment {
        let now = self.now(reading).unwrap_or(Moment { axis: 0, boot_ms: reading.boot_ms });
        let by_this_clock = Moment { boot_ms: received_ms as i64 - reading.ahead_ms(), ..now };
        let Some((axis, boot)) = self.boots.last() else { return by_this_clock.min(now) };
        let is_new = now.axis == *axis && boot.looked.offset <= offset;
        let is_step_unseen =
            boot.clocks.last().is_none_or(|clock| (clock.ahead_ms - reading.ahead_ms()).abs() >= STEP_MS_MIN);
        let earliest = Moment { axis: *axis, boot_ms: boot.looked.boot_ms - RECEIPT_LAG_MS_MAX };
        match self.locate(offset, received_ms) {
            _ if is_new && is_step_unseen => now,
            Some(Located { moment, .. }) if is_new && moment < earliest => now,
            Some(Located { moment, doubt_ms: Some(doubt_ms) }) => {
                Moment { boot_ms: moment.boot_ms.saturating_add_unsigned(doubt_ms), ..moment }.min(now)
            }
            Some(Located { moment, doubt_ms: None }) => self.end_of(moment.axis).unwrap_or(now).min(now),
            None => self.began().unwrap_or(now).min(now),
        }
    }

    /// The last moment of an earlier machine boot that is known.
    fn end_of(&self, axis: u32) -> Option<Moment> {
        let (earlier, boot) = self.boots.iter().rev().skip(1).find(|(number, _)| *number == axis)?;
        Some(Moment { axis: *earlier, boot_ms: boot.looked.boot_ms })
    }

    /// When the wall clock said `wall_ms`, the latest time that it can have; `now` where nothing
    /// tells.
    #[must_use]
    pub fn at_wall(&self, wall_ms: u64, now: Moment) -> Moment {
        let wall_ms = wall_ms as i64;
        for (axis, boot) in self.boots.iter().rev() {
            let mut end_ms = if *axis == now.axis { now.boot_ms } else { boot.looked.boot_ms };
            for clock in boot.clocks.iter().rev() {
                let boot_ms = wall_ms - clock.ahead_ms;
                if (clock.before.boot_ms..=end_ms).contains(&boot_ms) {
                    return Moment { axis: *axis, boot_ms };
                }
                end_ms = clock.found.boot_ms;
            }
        }
        match self.ahead(now.axis).filter(|ahead| ahead.is_set && wall_ms >= WALL_SET_MS_MIN) {
            Some(ahead) => Moment { boot_ms: wall_ms - ahead.ms, ..now }.min(now),
            None => now,
        }
    }

    /// When the record at `offset`, stamped with `received_ms`, was received; `None` where that was
    /// before the journal began.
    #[must_use]
    pub fn locate(&self, offset: u64, received_ms: u64) -> Option<Located> {
        let at = self.boots.partition_point(|(_, boot)| boot.from_offset <= offset);
        let (axis, boot) = self.boots.get(at.checked_sub(1)?)?;
        let (boot_ms, doubt_ms) = boot.locate(offset, received_ms as i64)?;
        Some(Located { moment: Moment { axis: *axis, boot_ms }, doubt_ms })
    }

    /// When the record at `offset`, stamped with `received_ms`, was received, by the wall clock as
    /// it is known now; as it was stamped where nothing more is known. Milliseconds since 1970.
    #[must_use]
    pub fn received_wall_ms(&self, offset: u64, received_ms: u64) -> u64 {
        let wall = self.locate(offset, received_ms).and_then(|located| self.wall(located.moment));
        wall.map_or(received_ms, |wall| wall.ms.max(0) as u64)
    }

    /// Whether all records at these offsets were stamped by one clock, as far as is known: then
    /// they lie apart as their stamps do.
    #[must_use]
    pub fn is_one_clock(&self, offsets: &Range<u64>) -> bool {
        let next = self.boots.partition_point(|(_, boot)| boot.from_offset <= offsets.start);
        if self.boots.get(next).is_some_and(|(_, boot)| boot.from_offset < offsets.end) {
            return false;
        }
        let own = next.checked_sub(1).and_then(|own| self.boots.get(own));
        let is_near = |clock: &Clock| {
            let is_behind = clock.settled.is_some_and(|settled| settled.offset <= offsets.start);
            clock.before.offset < offsets.end && !is_behind
        };
        own.is_none_or(|(_, boot)| !boot.clocks.iter().any(is_near))
    }

    /// A moment by the wall clock; `None` where its machine boot is forgotten.
    #[must_use]
    pub fn wall(&self, moment: Moment) -> Option<Wall> {
        let ahead_ms = self.ahead(moment.axis)?;
        Some(Wall { ms: moment.boot_ms + ahead_ms.ms, is_set: ahead_ms.is_set })
    }

    /// What the wall clock is ahead of the axis, as `ms` of the answer.
    #[must_use]
    pub fn ahead(&self, axis: u32) -> Option<Wall> {
        let at = self.boots.binary_search_by_key(&axis, |(number, _)| *number).ok()?;
        let boot = &self.boots[at].1;
        let ahead_ms = boot.clocks.last()?.ahead_ms;
        Some(Wall { ms: ahead_ms, is_set: ahead_ms + boot.looked.boot_ms >= WALL_SET_MS_MIN })
    }
}

impl MachineBoot {
    /// Time since the boot, and the doubt about it.
    fn locate(&self, offset: u64, received_ms: i64) -> Option<(i64, Option<u64>)> {
        let at = self.clocks.partition_point(|clock| clock.found.offset <= offset).max(1) - 1;
        let own = self.clocks.get(at)?;
        // Which step is near, if any: the one that began this clock, or the one that ended it.
        let next = self.clocks.get(at + 1).filter(|next| next.before.offset <= offset);
        let is_settled = own.settled.is_some_and(|settled| settled.offset <= offset);
        let before = at.checked_sub(1).and_then(|before| self.clocks.get(before)).filter(|_| !is_settled);
        let (low_ms, high_ms) = match (next, before) {
            (Some(next), _) => (next.before.boot_ms - RECEIPT_LAG_MS_MAX, next.found.boot_ms),
            (None, Some(_)) => {
                let by = own.settled.unwrap_or(self.looked).boot_ms.max(own.found.boot_ms);
                // What comes between two looks was not seen by the last one.
                let by = if own.settled.is_some() { by } else { by + RECEIPT_LAG_MS_MAX };
                (own.found.boot_ms - RECEIPT_LAG_MS_MAX, by)
            }
            (None, None) => return Some((received_ms - own.ahead_ms, Some(0))),
        };
        let plausible = |clock: &&Clock| {
            let boot_ms = received_ms - clock.ahead_ms;
            (low_ms - STEP_MS_MIN..=high_ms + STEP_MS_MIN).contains(&boot_ms)
        };
        let mut found = [Some(own), next, before].into_iter().flatten().filter(plausible);
        let Some(first) = found.next() else { return Some((received_ms - own.ahead_ms, None)) };
        let doubt_ms = found.map(|other| other.ahead_ms.abs_diff(first.ahead_ms)).max().unwrap_or(0);
        Some((received_ms - first.ahead_ms, Some(doubt_ms)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 86_400_000;
    const NOW_MS: i64 = 1_790_000_000_000;

    fn reading(boot: u8, boot_ms: i64, ahead_ms: i64) -> Reading {
        Reading { boot_id: [boot; 16], boot_ms, wall_ms: boot_ms + ahead_ms }
    }

    /// Where a record of that offset and that moment is found, if it was stamped with a clock so
    /// far ahead.
    fn found(journal: &Journal, offset: u64, boot_ms: i64, ahead_ms: i64) -> (i64, Option<u64>) {
        let located = journal.locate(offset, (boot_ms + ahead_ms) as u64).unwrap();
        (located.moment.boot_ms - boot_ms, located.doubt_ms)
    }

    #[test]
    fn a_gateway_that_starts_in_1970_has_right_times_once_it_learns_the_time() {
        let mut journal = Journal::default();
        assert_eq!(journal.look(&reading(1, 5_000, 0), 0), Seen::Boot);
        let before = journal.locate(7, 9_000).unwrap();
        assert_eq!(journal.wall(before.moment), Some(Wall { ms: 9_000, is_set: false }));
        assert_eq!(journal.look(&reading(1, 10_000, NOW_MS), 10), Seen::Step(NOW_MS));
        assert_eq!(journal.wall(before.moment), Some(Wall { ms: NOW_MS + 9_000, is_set: true }));
        let again = journal.locate(7, 9_000).unwrap();
        assert_eq!(again, before);
    }

    #[test]
    fn each_record_around_a_step_is_judged_by_the_clock_that_stamped_it() {
        for step_ms in [DAY_MS, -DAY_MS, NOW_MS] {
            let old = if step_ms == NOW_MS { 0 } else { NOW_MS };
            let new = old + step_ms;
            let mut journal = Journal::default();
            // Up for longer than the step, so that an old time is no oddity in itself.
            journal.look(&reading(1, 3 * DAY_MS, old), 0);
            journal.look(&reading(1, 5 * DAY_MS, old), 1_000);
            journal.look(&reading(1, 5 * DAY_MS + 1_000, new), 1_010);
            let check = |journal: &Journal| {
                for offset in [1_000, 1_005, 1_009, 1_010, 1_020] {
                    for (boot_ms, ahead_ms) in
                        [(5 * DAY_MS - 20, old), (5 * DAY_MS + 400, old), (5 * DAY_MS + 600, new)]
                    {
                        assert_eq!(
                            found(journal, offset, boot_ms, ahead_ms),
                            (0, Some(0)),
                            "{offset} {step_ms}"
                        );
                    }
                }
                assert_eq!(found(journal, 999, 5 * DAY_MS - 50, old), (0, Some(0)));
                assert_eq!(found(journal, 1_500, 5 * DAY_MS + 30_000, new), (0, Some(0)));
            };
            check(&journal);
            journal.look(&reading(1, 5 * DAY_MS + 70_000, new), 2_000);
            journal.look(&reading(1, 9 * DAY_MS, new), 9_000);
            check(&journal);
            assert_eq!(found(&journal, 8_000, 8 * DAY_MS, new), (0, Some(0)));
        }
    }

    #[test]
    fn a_small_step_leaves_a_doubt_of_its_own_size_around_it_and_none_elsewhere() {
        let mut journal = Journal::default();
        journal.look(&reading(1, 0, NOW_MS), 0);
        journal.look(&reading(1, 100_000, NOW_MS), 100);
        journal.look(&reading(1, 101_000, NOW_MS + 500), 110);
        journal.look(&reading(1, 200_000, NOW_MS + 500), 500);
        for (boot_ms, ahead_ms, doubt_ms) in
            [(100_200, NOW_MS, 500), (100_400, NOW_MS + 500, 500), (100_800, NOW_MS + 500, 0)]
        {
            let (error_ms, doubt) = found(&journal, 105, boot_ms, ahead_ms);
            assert_eq!(doubt, Some(doubt_ms));
            assert!(error_ms.unsigned_abs() <= doubt_ms);
        }
        assert_eq!(found(&journal, 50, 60_000, NOW_MS), (0, Some(0)));
        assert_eq!(found(&journal, 600, 201_000, NOW_MS + 500), (0, Some(0)));
    }

    #[test]
    fn a_boot_that_never_learned_the_time_says_so_for_ever() {
        let mut journal = Journal::default();
        journal.look(&reading(1, 0, 0), 0);
        journal.look(&reading(2, 0, NOW_MS), 50);
        assert_eq!(journal.generation(), 2);
        let (old, new) = (journal.locate(10, 4_000).unwrap(), journal.locate(50, NOW_MS as u64 + 9).unwrap());
        assert_eq!((old.moment.axis, new.moment.axis), (1, 2));
        assert!(!journal.wall(old.moment).unwrap().is_set && journal.wall(new.moment).unwrap().is_set);
        let kept = Journal::of(journal.boots.clone());
        assert_eq!(kept.locate(10, 4_000), Some(old));
    }

    #[test]
    fn records_are_of_one_clock_unless_a_boot_or_a_step_is_among_them_or_near() {
        let mut journal = Journal::default();
        assert!(journal.is_one_clock(&(0..u64::MAX)), "nothing is known");
        journal.look(&reading(1, 1_000, 0), 10);
        journal.look(&reading(1, 50_000, 0), 100);
        journal.look(&reading(1, 51_000, NOW_MS), 110);
        assert!(!journal.is_one_clock(&(500..501)), "the step is not long ago");
        journal.look(&reading(1, 51_000 + RECEIPT_LAG_MS_MAX, NOW_MS), 200);
        journal.look(&reading(2, 1_000, NOW_MS), 300);
        for (offsets, expected) in [
            (0..10, true),
            (9..11, false),
            (10..100, true),
            (99..101, false),
            (150..160, false),
            (199..201, false),
            (200..300, true),
            (299..301, false),
            (0..1000, false),
            (300..1000, true),
        ] {
            assert_eq!(journal.is_one_clock(&offsets), expected, "{offsets:?}");
        }
    }

    #[test]
    fn what_lies_before_the_journal_has_no_moment_and_old_boots_are_forgotten() {
        let mut journal = Journal::default();
        for boot in 0..=BOOTS_MAX {
            let mut reading = reading(0, 0, NOW_MS);
            reading.boot_id[..4].copy_from_slice(&boot.to_le_bytes());
            journal.look(&reading, 10 + u64::from(boot));
        }
        assert_eq!((journal.locate(9, 0), journal.locate(10, 0)), (None, None));
        assert_eq!(journal.wall(Moment { axis: 1, boot_ms: 0 }), None);
        assert!(journal.locate(11, NOW_MS as u64).is_some());
    }

    #[test]
    fn a_time_that_no_clock_explains_is_in_doubt_altogether() {
        let mut journal = Journal::default();
        journal.look(&reading(1, 0, NOW_MS), 0);
        journal.look(&reading(1, 100_000, NOW_MS + DAY_MS), 100);
        assert_eq!(journal.locate(100, 12).unwrap().doubt_ms, None);
    }
}

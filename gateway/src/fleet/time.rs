//! From a device's uptime to the time: what is known of one boot of a device. Pure.
//!
//! ```text
//!  live message at uptime u, received at b       b - 2 s ≤ time of u ≤ b
//!  frame whose last event is at uptime u                   time of u ≤ b       it may have waited for days
//!  the device's clock is set: w at u           w - 0.5 s ≤ time of u ≤ w + 0.5 s
//! ```
//! An [`Anchor`] holds what all messages together say of the offset (time less uptime) at one
//! uptime: a lower and an upper bound, and the best estimate, which is the lowest `received -
//! uptime`, as far as drift did not raise it. Away from the anchor the bounds widen by the drift
//! that a clock may have, [`DRIFT_PPM_MAX`]. A boot has two anchors: the latest, and the one before
//! the last silence of [`SPLIT_MS`], so that what a device stored during an outage lies between two
//! that are known, and its time is interpolated.
//!
//! The offsets are kept on the axis of the gateway's machine boot, so a step of the gateway's clock
//! moves them by itself.
//!
//! | quality | from | the uncertainty holds if |
//! |---|---|---|
//! | synced | the device's own clock, which agrees with the gateway's | a device that says its clock is set has it right to 0.5 s |
//! | mapped | live messages of the boot | a live message took at most 2 s; clocks drift by at most 200 ppm |
//! | bounded | frames alone, and the end of the boot before | boots in a row have numbers in a row |
//! | bounded | the receipt, for an uptime that is ahead of it: no clock does that | none is stated |
//! | received | nothing: it is when the gateway took the event in | none is stated |
//!
//! All of it is against the gateway's clock: where that was never set, no uncertainty is stated.
//!
//! **Order.** For one state of knowledge the time grows with the uptime. What is learned later
//! moves times, and those already given stay as they were: a later event is never given an earlier
//! time than the latest event that was given one, unless the gateway's own clock was set meanwhile;
//! an event that comes late is given none behind it.

use serde::{Deserialize, Serialize};

use crate::clock::journal::{Journal, Located, Moment, STEP_MS_MIN, WALL_SET_MS_MIN};

/// Longest that a message which is sent live takes to the gateway, in milliseconds.
pub const LIVE_LATENCY_MS_MAX: i64 = 2_000;
/// Most that a device's clock gains or loses against the gateway's, in millionths: twice the worst
/// crystal in use.
pub const DRIFT_PPM_MAX: u64 = 200;
/// Furthest that a clock is off of which the device says that it is set, in milliseconds.
pub const SET_CLOCK_MS_MAX: i64 = 500;
/// An uptime or a time of more is nonsense, in milliseconds: 35,000 years.
const TIME_MS_MAX: u64 = 1 << 50;
/// A silence of so much uptime begins an anchor of its own, in milliseconds.
pub const SPLIT_MS: u64 = 600_000;

/// How a time came about: see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// By the device's own clock.
    Synced,
    /// By live messages.
    Mapped,
    /// By when its frame came, and what came before.
    Bounded,
    /// When the gateway received it.
    Received,
}

impl Quality {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Mapped => "mapped",
            Self::Bounded => "bounded",
            Self::Received => "received",
        }
    }
}

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// The event was so close to it, in milliseconds; `None` where that is not known.
    pub uncertainty_ms: Option<u64>,
    /// How it came about.
    pub quality: Quality,
}

impl Stamp {
    /// Nothing is received before it was. What is ahead of its receipt by more than it may be off
    /// comes from an uptime that does not do what clocks do; a gateway whose clock was not set
    /// cannot tell.
    fn received_at(self, received_ms: u64) -> Self {
        let ahead_ms = self.time_ms.saturating_sub(received_ms);
        if ahead_ms == 0 || received_ms < WALL_SET_MS_MIN as u64 {
            return self;
        }
        let at_receipt = Self { time_ms: received_ms, ..self };
        match self.uncertainty_ms {
            Some(uncertainty_ms) if ahead_ms <= uncertainty_ms => at_receipt,
            _ => Self { uncertainty_ms: None, quality: Quality::Bounded, ..at_receipt },
        }
    }
}

/// What is known of the time of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BootTime {
    set: Option<SetClock>,
    latest: Option<Anchor>,
    before: Option<Anchor>,
    /// The latest event that was given a time, that time, and the journal's generation then.
    #[serde(skip)]
    given: Option<(u64, i64, u64)>,
}

/// What the device's own clock said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct SetClock {
    uptime_ms: u64,
    wall_ms: u64,
}

/// What is known of the offset at one uptime: milliseconds to be added to an uptime for a time on
/// the axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Anchor {
    axis: u32,
    uptime_ms: u64,
    /// `None` without a live message.
    low_ms: Option<i64>,
    high_ms: i64,
    best_ms: i64,
}

/// An estimate by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Estimate {
    ms: i64,
    low_ms: Option<i64>,
    high_ms: i64,
}

impl BootTime {
    /// A message that was sent at once came.
    pub fn note_live(&mut self, uptime_ms: u64, wall_ms: Option<u64>, received: Option<Located>) {
        if let Some(wall_ms) = wall_ms.filter(|ms| (*ms).max(uptime_ms) <= TIME_MS_MAX) {
            self.set = Some(SetClock { uptime_ms, wall_ms });
        }
        if let Some(heard) = Anchor::heard(uptime_ms, received, true) {
            self.add_live(heard);
        }
    }

    /// Something of this uptime came, whenever it was sent.
    pub fn note_bound(&mut self, uptime_ms: u64, received: Option<Located>) {
        let Some(heard) = Anchor::heard(uptime_ms, received, false) else { return };
        match &mut self.latest {
            Some(latest) if latest.axis == heard.axis => latest.bound(&heard),
            Some(latest) if latest.low_ms.is_some() => {
                // Nothing live of this machine boot of the gateway: what was known before it stays.
                self.before = self.latest.replace(heard);
            }
            _ => self.latest = Some(heard),
        }
    }

    /// The time of an event of this boot that was received at `received_ms`, in milliseconds since
    /// 1970; `None` where nothing is known but that. `end_before_ms` is a time by the wall clock
    /// before which the boot cannot have begun.
    pub fn stamp(
        &mut self,
        uptime_ms: u64,
        received_ms: u64,
        journal: &Journal,
        end_before_ms: Option<i64>,
    ) -> Option<Stamp> {
        if uptime_ms > TIME_MS_MAX {
            return None;
        }
        let mut stamp = self.judge(uptime_ms, journal, end_before_ms)?.received_at(received_ms);
        let time_ms = self.keep_order(uptime_ms, stamp.time_ms as i64, journal.generation());
        let moved_ms = stamp.time_ms.abs_diff(time_ms as u64);
        stamp.time_ms = time_ms as u64;
        stamp.uncertainty_ms = stamp.uncertainty_ms.map(|ms| ms + moved_ms);
        Some(stamp)
    }

    /// Times were given by a copy of this: later ones keep to their order.
    pub fn note_given(&mut self, copy: &Self) {
        let Some((uptime_ms, time_ms, generation)) = copy.given else { return };
        self.given = match self.given {
            Some((.., newer)) if newer > generation => self.given,
            Some((latest, latest_ms, of)) if of == generation => {
                Some((latest.max(uptime_ms), latest_ms.max(time_ms), generation))
            }
            _ => copy.given,
        };
    }

    /// The earliest that an event of this uptime can have been, by the wall clock.
    #[must_use]
    pub fn earliest_ms(&self, uptime_ms: u64, journal: &Journal) -> Option<i64> {
        let uptime_ms = uptime_ms.min(TIME_MS_MAX);
        self.estimate(uptime_ms, journal).and_then(|estimate| estimate.low_ms)
    }

    /// How times of this boot come about now.
    #[must_use]
    pub fn quality(&self, journal: &Journal) -> Quality {
        let at = self.latest.map_or(0, |latest| latest.uptime_ms);
        self.judge(at, journal, None).map_or(Quality::Received, |stamp| stamp.quality)
    }

    fn judge(&self, uptime_ms: u64, journal: &Journal, end_before_ms: Option<i64>) -> Option<Stamp> {
        let stamp = |ms: i64, uncertainty_ms: Option<i64>, quality| Stamp {
            time_ms: ms.max(0) as u64,
            uncertainty_ms: uncertainty_ms.map(|ms| (ms + STEP_MS_MIN) as u64),
            quality,
        };
        let estimate = self.estimate(uptime_ms, journal);
        if let Some(set) = &self.set {
            let own = set.at(uptime_ms);
            match self.estimate(set.uptime_ms, journal) {
                Some(ours) if ours.meets(&set.at(set.uptime_ms)) => {
                    // An upper bound alone is met by any clock that is slow.
                    let is_checked = ours.low_ms.is_some();
                    let off_ms = is_checked.then_some(own.high_ms - own.ms);
                    return Some(stamp(own.ms, off_ms, Quality::Synced));
                }
                // There is nothing to hold it against.
                None if own.ms >= WALL_SET_MS_MIN => return Some(stamp(own.ms, None, Quality::Synced)),
                _ => {}
            }
        }
        if let Some(Estimate { ms, low_ms, high_ms }) = estimate {
            if let Some(low_ms) = low_ms {
                return Some(stamp(ms, Some((high_ms - ms).max(ms - low_ms)), Quality::Mapped));
            }
            let began_ms = end_before_ms.map(|end| end + uptime_ms as i64 - drift_ms(uptime_ms, 0));
            let uncertainty_ms = began_ms.map(|low| (high_ms - ms).max(ms - low));
            return Some(stamp(ms, uncertainty_ms, Quality::Bounded));
        }
        // A gateway that does not know the time: the order is known all the same.
        let latest = self.latest.as_ref()?;
        let ahead = journal.ahead(latest.axis)?;
        Some(stamp(latest.at(uptime_ms, ahead.ms).ms, None, Quality::Received))
    }

    /// What the anchors say by a clock that is set.
    fn estimate(&self, uptime_ms: u64, journal: &Journal) -> Option<Estimate> {
        let usable = |anchor: &Option<Anchor>| -> Option<(Anchor, i64)> {
            let anchor = (*anchor)?;
            let ahead = journal.ahead(anchor.axis).filter(|ahead| ahead.is_set)?;
            Some((anchor, ahead.ms))
        };
        match (usable(&self.before), usable(&self.latest)) {
            (Some((before, first)), Some((latest, second))) => {
                Some(between(&before, first, &latest, second, uptime_ms))
            }
            (Some((anchor, ahead_ms)), None) | (None, Some((anchor, ahead_ms))) => {
                Some(anchor.at(uptime_ms, ahead_ms))
            }
            (None, None) => None,
        }
    }

    fn add_live(&mut self, heard: Anchor) {
        let Some(latest) = &mut self.latest else {
            self.latest = Some(heard);
            return;
        };
        let is_far = heard.uptime_ms > latest.uptime_ms.saturating_add(SPLIT_MS);
        if latest.axis != heard.axis || (is_far && latest.low_ms.is_some()) {
            // Of two machine boots, or from before and after a silence: both are kept.
            let joined = (latest.axis == heard.axis).then(|| latest.moved(&heard));
            self.before = self.latest.replace(joined.unwrap_or(heard));
        } else {
            *latest = latest.moved(&heard);
        }
    }

    /// Not before what was given to an earlier event, and not behind what was given to a later one.
    fn keep_order(&mut self, uptime_ms: u64, time_ms: i64, generation: u64) -> i64 {
        match self.given.filter(|(.., of)| *of == generation) {
            Some((latest, given_ms, _)) if uptime_ms < latest => time_ms.min(given_ms),
            before => {
                let time_ms = before.map_or(time_ms, |(_, given_ms, _)| time_ms.max(given_ms));
                self.given = Some((uptime_ms, time_ms, generation));
                time_ms
            }
        }
    }
}

impl Estimate {
    /// Whether both can be right.
    fn meets(&self, other: &Self) -> bool {
        self.low_ms.is_none_or(|low| low <= other.high_ms)
            && other.low_ms.is_none_or(|low| low <= self.high_ms)
    }
}

impl SetClock {
    fn at(&self, uptime_ms: u64) -> Estimate {
        let ms = self.wall_ms as i64 + uptime_ms as i64 - self.uptime_ms as i64;
        let off_ms = SET_CLOCK_MS_MAX + drift_ms(self.uptime_ms, uptime_ms);
        Estimate { ms, low_ms: Some(ms - off_ms), high_ms: ms + off_ms }
    }
}

impl Anchor {
    /// What one message says; nothing where its receipt is in doubt altogether.
    fn heard(uptime_ms: u64, received: Option<Located>, is_live: bool) -> Option<Self> {
        let Located { moment: Moment { axis, boot_ms }, doubt_ms } = received?;
        let doubt_ms = i64::try_from(doubt_ms?).ok()?;
        let best_ms = (uptime_ms <= TIME_MS_MAX).then(|| boot_ms - uptime_ms as i64)?;
        let low_ms = is_live.then_some(best_ms - LIVE_LATENCY_MS_MAX - doubt_ms);
        Some(Self { axis, uptime_ms, low_ms, high_ms: best_ms + doubt_ms, best_ms })
    }

    /// Moved to what was heard live, of the same axis; that alone where the two cannot both be.
    fn moved(&self, heard: &Self) -> Self {
        let wider = drift_ms(self.uptime_ms, heard.uptime_ms);
        let (own, theirs) = if heard.uptime_ms >= self.uptime_ms { (wider, 0) } else { (0, wider) };
        let low_ms = self.low_ms.map(|low| low - own).max(heard.low_ms.map(|low| low - theirs));
        let high_ms = (self.high_ms + own).min(heard.high_ms + theirs);
        if low_ms.is_some_and(|low| low > high_ms) {
            return *heard;
        }
        // What it is later than before is drift, as far as that can be, and beyond that a slow
        // message.
        let best_ms = heard.best_ms.min(self.best_ms + own).min(high_ms).max(low_ms.unwrap_or(i64::MIN));
        let uptime_ms = self.uptime_ms.max(heard.uptime_ms);
        Self { axis: self.axis, uptime_ms, low_ms, high_ms, best_ms }
    }

    /// Lowers the upper bound by something that may have waited.
    fn bound(&mut self, heard: &Self) {
        let wider = drift_ms(self.uptime_ms, heard.uptime_ms);
        if self.low_ms.is_none() && heard.uptime_ms > self.uptime_ms {
            // Without anything live the times of frames are all there is: those near by say most.
            let high_ms = heard.high_ms.min(self.high_ms + wider);
            let best_ms = self.best_ms.min(heard.best_ms).min(high_ms);
            *self = Self { best_ms, high_ms, ..*heard };
            return;
        }
        let high_ms = self.high_ms.min(heard.high_ms + wider);
        // Below the lower bound it is a clock that does not do what clocks do: live messages are
        // believed.
        if self.low_ms.is_none_or(|low| low <= high_ms) {
            self.high_ms = high_ms;
            self.best_ms = self.best_ms.min(high_ms);
        }
    }

    fn at(&self, uptime_ms: u64, ahead_ms: i64) -> Estimate {
        let to_wall_ms = uptime_ms as i64 + ahead_ms;
        let wider = drift_ms(self.uptime_ms, uptime_ms);
        Estimate {
            ms: to_wall_ms + self.best_ms,
            low_ms: self.low_ms.map(|low| to_wall_ms + low - wider),
            high_ms: to_wall_ms + self.high_ms + wider,
        }
    }
}

/// By two anchors: outside of them the nearer one, between them both. One that nothing live made
/// only bounds the other.
fn between(before: &Anchor, first: i64, latest: &Anchor, second: i64, uptime_ms: u64) -> Estimate {
    let start = before.at(before.uptime_ms, first);
    let end = latest.at(latest.uptime_ms, second);
    let (early, late) = (before.at(uptime_ms, first), latest.at(uptime_ms, second));
    if !start.meets(&latest.at(before.uptime_ms, second)) {
        return late;
    }
    let (low_ms, high_ms) = (early.low_ms.max(late.low_ms), early.high_ms.min(late.high_ms));
    let of = |ms: i64| Estimate { ms: ms.min(high_ms), low_ms, high_ms };
    if latest.low_ms.is_none() {
        return of(early.ms);
    }
    let is_apart = before.uptime_ms < latest.uptime_ms && start.ms <= end.ms;
    if before.low_ms.is_none() || !is_apart || uptime_ms >= latest.uptime_ms {
        return of(late.ms);
    }
    let Some(into_ms) = uptime_ms.checked_sub(before.uptime_ms) else { return of(early.ms) };
    let (span, all) = (i128::from(end.ms - start.ms), latest.uptime_ms - before.uptime_ms);
    of(start.ms + (span * i128::from(into_ms) / i128::from(all)) as i64)
}

/// What a clock may gain or lose between two uptimes, in milliseconds, rounded up.
fn drift_ms(one: u64, other: u64) -> i64 {
    (one.abs_diff(other) * DRIFT_PPM_MAX).div_ceil(1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Reading;

    const NOW_MS: i64 = 1_790_000_000_000;
    const HOUR_MS: u64 = 3_600_000;

    fn journal(ahead_ms: i64) -> Journal {
        let mut journal = Journal::default();
        journal.look(&Reading { boot_id: [1; 16], boot_ms: 0, wall_ms: ahead_ms }, 0);
        journal
    }

    fn at(boot_ms: i64) -> Option<Located> {
        Some(Located { moment: Moment { axis: 1, boot_ms }, doubt_ms: Some(0) })
    }

    fn stamp(time: &mut BootTime, uptime_ms: u64, journal: &Journal) -> (i64, Option<u64>, Quality) {
        let stamp = time.stamp(uptime_ms, u64::MAX, journal, None).unwrap();
        (stamp.time_ms as i64 - NOW_MS, stamp.uncertainty_ms, stamp.quality)
    }

    #[test]
    fn the_lowest_of_received_less_uptime_maps_and_its_uncertainty_grows_with_the_distance() {
        let (journal, mut time) = (journal(NOW_MS), BootTime::default());
        time.note_live(1_000, None, at(51_900));
        time.note_live(2_000, None, at(52_010));
        assert_eq!(stamp(&mut time, 2_000, &journal), (52_010, Some(2_000 - 890 + 1 + 20), Quality::Mapped));
        let (_, far, _) = stamp(&mut time, 2_000 + HOUR_MS, &journal);
        assert_eq!(far, Some(1_131 + 720));
    }

    #[test]
    fn a_set_clock_is_believed_if_it_agrees_with_the_gateways() {
        let (journal, unset) = (journal(NOW_MS), journal(0));
        for (off_ms, quality) in [(-300, Quality::Synced), (90_000, Quality::Mapped)] {
            let mut time = BootTime::default();
            time.note_live(1_000, Some((NOW_MS + 51_000 + off_ms) as u64), at(51_040));
            let (ms, uncertainty_ms, said) = stamp(&mut time, 1_000, &journal);
            assert_eq!(said, quality);
            if quality == Quality::Synced {
                assert_eq!((ms, uncertainty_ms), (51_000 + off_ms, Some(520)));
            }
            let (_, uncertainty_ms, said) = stamp(&mut time, 1_000, &unset);
            assert_eq!((uncertainty_ms, said), (None, Quality::Synced), "nothing to hold it against");
        }
    }

    #[test]
    fn frames_alone_bound_and_the_end_of_the_boot_before_says_how_much() {
        let (journal, mut time) = (journal(NOW_MS), BootTime::default());
        time.note_bound(5_000, at(100_000));
        assert_eq!(stamp(&mut time, 5_000, &journal), (100_000, None, Quality::Bounded));
        let bounded = time.stamp(5_000, u64::MAX, &journal, Some(NOW_MS + 60_000)).unwrap();
        assert_eq!(bounded.uncertainty_ms, Some(100_000 - 65_000 + 1 + 20));
    }

    #[test]
    fn what_was_stored_during_an_outage_lies_between_what_is_known_before_and_after() {
        let (journal, mut time) = (journal(NOW_MS), BootTime::default());
        // The device's clock is 100 ppm slow.
        let true_ms = |uptime_ms: u64| (uptime_ms + uptime_ms / 10_000) as i64;
        time.note_live(0, None, at(true_ms(0)));
        time.note_live(20 * HOUR_MS, None, at(true_ms(20 * HOUR_MS)));
        let uptime_ms = 10 * HOUR_MS;
        let (ms, uncertainty_ms, _) = stamp(&mut time, uptime_ms, &journal);
        assert!(ms.abs_diff(true_ms(uptime_ms)) <= 1);
        assert!(uncertainty_ms.unwrap() <= 7_200 + 2_020, "{uncertainty_ms:?}");
    }

    #[test]
    fn a_later_event_never_gets_an_earlier_time_than_one_that_was_given_before() {
        let (journal, mut time) = (journal(NOW_MS), BootTime::default());
        time.note_live(1_000, None, at(52_900));
        let first = stamp(&mut time, 1_100, &journal);
        time.note_live(2_000, None, at(52_010));
        let (second, late) = (stamp(&mut time, 1_200, &journal), stamp(&mut time, 1_050, &journal));
        assert!(second.0 >= first.0 && late.0 <= second.0, "{first:?} {second:?} {late:?}");
        assert!(second.1.unwrap() >= (first.0 - 50_010 - 1_200) as u64, "it says so");
    }

    #[test]
    fn no_event_is_later_than_its_receipt_and_an_uptime_that_runs_ahead_of_it_is_said_to_be_bounded_by_it() {
        let (journal, unset) = (journal(NOW_MS), journal(0));
        let live = |wall_ms| {
            let mut time = BootTime::default();
            time.note_live(1_000, wall_ms, at(51_000));
            time
        };
        let received_at = |mut time: BootTime, uptime_ms, journal: &Journal, received_ms: i64| {
            let stamp = time.stamp(uptime_ms, (NOW_MS + received_ms) as u64, journal, None).unwrap();
            (stamp.time_ms as i64 - NOW_MS, stamp.uncertainty_ms, stamp.quality)
        };
        let of_device = |wall_ms: i64| live(Some((NOW_MS + wall_ms) as u64));
        let early = received_at(live(None), 1_500, &journal, 52_000);
        assert_eq!(early, (51_500, Some(2_021), Quality::Mapped));
        let near = received_at(live(None), 2_500, &journal, 52_000);
        assert_eq!(near, (52_000, Some(2_021), Quality::Mapped), "within what it may be off");
        let ahead = received_at(live(None), 60_000, &journal, 52_000);
        assert_eq!(ahead, (52_000, None, Quality::Bounded), "58 s");
        let set = received_at(of_device(51_300), 1_000, &journal, 51_000);
        assert_eq!(set, (51_000, Some(520), Quality::Synced), "a set clock may be half a second off");
        let set_ahead = received_at(of_device(51_300), 9_000, &journal, 51_000);
        assert_eq!(set_ahead, (51_000, None, Quality::Bounded));
        let unknown = received_at(of_device(51_300), 1_000, &unset, 40_000 - NOW_MS);
        assert_eq!(unknown, (51_300, None, Quality::Synced), "a clock that was not set tells nothing");
    }

    #[test]
    fn times_move_with_the_gateways_clock_and_without_one_nothing_is_claimed() {
        let (mut journal, mut time) = (journal(0), BootTime::default());
        time.note_live(1_000, None, at(51_000));
        let unset = time.stamp(1_000, u64::MAX, &journal, None).unwrap();
        assert_eq!((unset.time_ms, unset.uncertainty_ms, unset.quality), (51_000, None, Quality::Received));
        journal.look(&Reading { boot_id: [1; 16], boot_ms: 60_000, wall_ms: NOW_MS + 60_000 }, 9);
        assert_eq!(stamp(&mut time, 1_000, &journal).0, 51_000);
        assert_eq!(time.stamp(u64::MAX, u64::MAX, &journal, None), None, "no uptime");
    }
}

//! How much a store holds, how old it is, how far each uplink is, and what a running one does to
//! its card.
//!
//! Of a sealed file its two ends are read, without the check of every page: a quick look, which is
//! not a verification. Plain data, both ways.

use serde::{Deserialize, Serialize};

use super::{
    report::Missing,
    source::{InspectedStore, Opened, SegmentRange},
};
use crate::{
    clock::Now,
    store::{
        disk::lock::NOT_FOREIGN,
        error::StoreError,
        log::{Log, paused::Paused},
        record::{
            position::{self, LogPosition},
            row::Block,
        },
        segment::{self, Part},
        settings::WhenFull,
    },
};

/// A projection from a shorter run is said to be one so far.
const RUN_SECONDS_MIN: f64 = 3_600.0;
const YEAR_SECONDS: f64 = 365.25 * 86_400.0;

/// A store at a closer look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stat {
    /// Its identity, eight hex digits; `None` where nothing says it.
    pub store: Option<String>,
    /// What its records are named after, each from an offset on.
    #[serde(default)]
    pub ids: Vec<IdStat>,
    /// When it was looked at, wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Offset that the next record gets, as far as it can be read.
    pub next_offset: u64,
    /// Events ever stored.
    pub events: u64,
    /// Bytes that all files take on the disk.
    pub file_bytes: u64,
    /// When the oldest record that is there was received, milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// And the newest one.
    pub newest_ms: Option<u64>,
    /// Its segments, oldest first.
    pub segments: Vec<SegmentStat>,
    /// How far each uplink is.
    pub uplinks: Vec<UplinkStat>,
    /// Offsets that are known to be missing.
    pub missing: Vec<Missing>,
    /// The other files.
    pub others: Vec<OtherFile>,
    /// What the running gateway does; `None` where none runs.
    pub run: Option<RunStat>,
}

/// What records are named after that have no name of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdStat {
    /// From this offset on.
    pub from: u64,
    /// Eight hex digits.
    pub id: String,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentStat {
    /// Its file.
    pub file: String,
    /// Offset of its first record.
    pub first: u64,
    /// Offset behind its last one; `None` where it cannot be read.
    pub end: Option<u64>,
    /// Records in it.
    pub records: u64,
    /// Their events.
    pub events: u64,
    /// Bytes that the file takes on the disk.
    pub file_bytes: u64,
    /// When its first record was received, milliseconds since 1970.
    pub oldest_ms: Option<u64>,
    /// And its last one.
    pub newest_ms: Option<u64>,
    /// How much of its piece of the log it holds.
    pub part: Part,
    /// It is being written.
    pub is_active: bool,
    /// Why it cannot be read, if so.
    pub problem: Option<String>,
}

/// An uplink's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UplinkStat {
    /// Its name.
    pub name: String,
    /// Since when it is paused, milliseconds since 1970; `None` while it is not.
    #[serde(default)]
    pub paused_since_ms: Option<u64>,
    /// Everything before this offset is delivered.
    pub cursor: u64,
    /// Events behind it; `None` where its place cannot be read.
    pub lag_events: Option<u64>,
    /// Bytes of their records.
    pub lag_bytes: Option<u64>,
    /// When the oldest of them was received, milliseconds since 1970; `None` without any.
    pub oldest_ms: Option<u64>,
}

/// A file that is no segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherFile {
    /// Its name.
    pub file: String,
    /// Bytes that it takes on the disk.
    pub file_bytes: u64,
    /// It was damaged, and is kept under this name.
    pub is_set_aside: bool,
}

/// What the running gateway has done since it opened the store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStat {
    /// For how long, in seconds.
    pub uptime_seconds: f64,
    /// Bytes that all files may take.
    pub max_bytes: u64,
    /// What happens when they do.
    pub when_full: WhenFull,
    /// Commits.
    pub commits: u64,
    /// Commits per second, of all this time.
    pub commits_per_second: f64,
    /// Commits per second over the last minute.
    pub recent_commits_per_second: f64,
    /// Syncs of files.
    pub syncs: u64,
    /// Events stored.
    pub stored_events: u64,
    /// Bytes written to the disk.
    pub written_bytes: u64,
    /// Bytes written for each event; `None` before the first.
    pub written_bytes_per_event: Option<f64>,
    /// Events that some uplink will not get: each is in a gap record.
    pub dropped_events: u64,
    /// Why nothing can be stored now, if so.
    pub failure: Option<String>,
    /// How long the card lasts, where `endurance` is configured.
    pub card: Option<CardLife>,
}

/// The projected life of the disk or card.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CardLife {
    /// Bytes that it is rated for.
    pub endurance_bytes: u64,
    /// Years that it lasts at the rate of this run; `None` before anything was written.
    pub years: Option<f64>,
    /// The run is too short for more than a first guess.
    pub is_early: bool,
}

pub fn stat(source: &InspectedStore, endurance_bytes: Option<u64>, now: Now) -> Result<Stat, StoreError> {
    source.check_open()?;
    let places = source.places();
    let segments: Vec<SegmentStat> = places.iter().map(|place| segment_stat(source, *place)).collect();
    let end = end_of_log(source, &places);
    let names = source.files().names()?;
    let uplinks: Vec<UplinkStat> = source
        .cursors()
        .into_iter()
        .map(|(name, cursor)| UplinkStat {
            paused_since_ms: Paused::find(&names, &name),
            ..uplink(source, &places, end, name, cursor)
        })
        .collect();
    let mut others: Vec<OtherFile> = names
        .into_iter()
        .filter(|name| segment::first_of(name).is_none() && !NOT_FOREIGN.contains(&name.as_str()))
        .map(|file| OtherFile {
            file_bytes: source.files().used_bytes(&file),
            is_set_aside: segment::is_damaged(&file),
            file,
        })
        .collect();
    others.sort_unstable_by(|a, b| a.file.cmp(&b.file));
    Ok(Stat {
        store: source.store().map(|store| format!("{store:08x}")),
        ids: source.ids().iter().map(|(from, id)| IdStat { from, id: format!("{id:08x}") }).collect(),
        at_ms: now.wall_ms,
        next_offset: end.offset,
        events: end.events,
        file_bytes: segments.iter().map(|segment| segment.file_bytes).sum::<u64>()
            + others.iter().map(|other| other.file_bytes).sum::<u64>(),
        oldest_ms: segments.iter().find_map(|segment| segment.oldest_ms),
        newest_ms: segments.iter().rev().find_map(|segment| segment.newest_ms),
        uplinks,
        missing: source.gaps().iter().cloned().map(Missing::from).collect(),
        others,
        run: source.running().and_then(|log| run(log, endurance_bytes, now)),
        segments,
    })
}

fn segment_stat(source: &InspectedStore, place: SegmentRange) -> SegmentStat {
    let file = segment::name_of(place.first);
    let mut stat = SegmentStat {
        first: place.first,
        end: None,
        records: 0,
        events: 0,
        file_bytes: source.files().used_bytes(&file),
        file,
        oldest_ms: None,
        newest_ms: None,
        part: Part::Whole,
        is_active: source.is_written(place.first) && place.is_last,
        problem: None,
    };
    let looked = source.open_quickly(place.first).and_then(|opened| look(&opened, place, &mut stat));
    if let Err(error) = looked {
        stat.problem = Some(error.to_string());
    }
    stat
}

fn look(opened: &Opened<'_>, place: SegmentRange, stat: &mut SegmentStat) -> Result<(), StoreError> {
    let head = opened.head()?;
    stat.part = head.part;
    let is_within = |block: &Block| place.end.is_none_or(|end| block.first() < end);
    let first = opened.read(place.first, 1)?.into_iter().next().filter(is_within);
    let (Some(first), Some(mut last)) = (first, opened.last()?) else {
        stat.end = Some(place.first);
        return Ok(());
    };
    if head.part != Part::Whole || !is_within(&last) {
        // Its rows are not all of them, or not all of them count: each has to be looked at.
        opened.for_each_row(|block| {
            if is_within(&block) {
                stat.records += u64::from(block.head().records);
                stat.events += u64::from(block.head().events);
                last = block;
            }
            Ok(())
        })?;
    } else {
        stat.records = last.end() - first.first();
        stat.events = position::end_of(&last).events.saturating_sub(first.head().events_before);
    }
    stat.end = Some(last.end());
    stat.oldest_ms = Some(first.head().base_ms);
    stat.newest_ms = last.records_from(0).map(|(_, record)| record.received_ms).max();
    Ok(())
}

/// The end of the log as it is committed, or as far as the files can be read.
fn end_of_log(source: &InspectedStore, places: &[SegmentRange]) -> LogPosition {
    if let Some(log) = source.running() {
        return log.totals();
    }
    let end = |place: &SegmentRange| {
        let opened = source.open_quickly(place.first).ok()?;
        let last = opened.last().ok()?;
        let beginning = || {
            let head = opened.head().ok()?;
            let (offset, events, bytes) = (head.first, head.events_before, head.bytes_before);
            Some(LogPosition { offset, events, bytes, received_ms: None })
        };
        last.map_or_else(beginning, |block| Some(position::end_of(&block)))
    };
    places.iter().rev().find_map(end).unwrap_or_default()
}

fn uplink(
    source: &InspectedStore,
    places: &[SegmentRange],
    end: LogPosition,
    name: String,
    cursor: u64,
) -> UplinkStat {
    let mark = if cursor >= end.offset { Some(end) } else { mark_of(source, places, cursor) };
    UplinkStat {
        name,
        paused_since_ms: None,
        cursor,
        lag_events: mark.map(|mark| end.events.saturating_sub(mark.events)),
        lag_bytes: mark.map(|mark| end.bytes.saturating_sub(mark.bytes)),
        oldest_ms: mark.and_then(|mark| mark.received_ms),
    }
}

/// The point of the log at `offset`, or at the first record behind it.
fn mark_of(source: &InspectedStore, places: &[SegmentRange], offset: u64) -> Option<LogPosition> {
    let at = places.partition_point(|place| place.first <= offset).saturating_sub(1);
    places[at.min(places.len())..].iter().find_map(|place| {
        let opened = source.open_quickly(place.first).ok()?;
        let blocks = opened.read(offset.max(place.first), 1).ok()?;
        let block = blocks.first().filter(|block| place.end.is_none_or(|end| block.first() < end))?;
        Some(position::at(block, offset))
    })
}

fn run(log: &Log, endurance_bytes: Option<u64>, now: Now) -> Option<RunStat> {
    let meter = &log.meter;
    let begun = meter.begun()?;
    let seconds = meter.uptime(now.at).as_secs_f64();
    let written_bytes = log.files.power().written_bytes();
    let per_second = |n: u64| if seconds > 0.0 { n as f64 / seconds } else { 0.0 };
    let events = meter.events();
    Some(RunStat {
        uptime_seconds: seconds,
        max_bytes: begun.max_bytes,
        when_full: begun.when_full,
        commits: meter.commits(),
        commits_per_second: per_second(meter.commits()),
        recent_commits_per_second: meter.recent_commits_per_second(now.at),
        syncs: log.files.power().syncs(),
        stored_events: events,
        written_bytes,
        written_bytes_per_event: (events > 0).then(|| written_bytes as f64 / events as f64),
        dropped_events: meter.lost_events(),
        failure: log.failure(),
        card: endurance_bytes.map(|endurance_bytes| card_life(endurance_bytes, written_bytes, seconds)),
    })
}

/// How long a card lasts that takes `endurance_bytes`, when `written_bytes` were written in so many
/// seconds.
fn card_life(endurance_bytes: u64, written_bytes: u64, seconds: f64) -> CardLife {
    let is_known = written_bytes > 0 && seconds > 0.0;
    let years = is_known.then(|| endurance_bytes as f64 / (written_bytes as f64 / seconds) / YEAR_SECONDS);
    CardLife { endurance_bytes, years, is_early: seconds < RUN_SECONDS_MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_lasts_as_long_as_its_endurance_at_the_rate_of_the_run() {
        // 20 GB a day is 7.3 TB a year.
        let life = card_life(30_000_000_000_000, 20_000_000_000, 86_400.0);
        assert!((life.years.unwrap() - 4.107).abs() < 0.01, "{life:?}");
        assert!(!life.is_early);
        assert!(card_life(1, 1, 3_599.0).is_early);
        assert_eq!(card_life(1, 0, 7_200.0).years, None);
    }
}

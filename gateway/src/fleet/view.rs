//! What is shown of the devices: JSON of these types over HTTP, read again by the command line.
//!
//! Times are milliseconds since 1970 by the gateway's clock as it is known now; a time is left out
//! where the gateway's machine was booted anew since and the old boot is forgotten. Limits:
//! [`RUNS_SHOWN_MAX`] runs of numbers for each boot and kind.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tidegate_protocol::ResetReason;

use super::{
    device::{Boot, Device},
    faults::Sent,
    presence::Presence,
    state::State,
    time::Quality,
};
use crate::clock::{Journal, Moment, Reading};

/// Runs of numbers that are shown of a boot: of those missing, and of those lost.
const RUNS_SHOWN_MAX: usize = 16;

/// Every device, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceList {
    /// The devices.
    pub items: Vec<DeviceItem>,
    /// Records of devices beyond the limit, which are not among them, since the gateway started.
    pub untracked_records: u64,
}

/// A device at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceItem {
    /// Its name.
    pub device: String,
    /// Whether it is there.
    pub presence: Presence,
    /// When anything of it came last.
    pub last_seen_ms: Option<u64>,
    /// While it sleeps: when it will be heard of again.
    pub next_contact_ms: Option<u64>,
    /// What its last birth says of its firmware.
    pub firmware: Option<String>,
    /// The firmware's version.
    pub version: Option<String>,
    /// Which build of it.
    pub build: Option<String>,
    /// Its boot that was heard of last.
    pub boot: Option<u32>,
    /// The connections of that boot.
    pub connection: Option<u32>,
    /// Boots ever.
    pub boots: u64,
    /// Events received, ever.
    pub events: u64,
    /// Events that it told as lost and that did not come, ever.
    pub lost_events: u64,
    /// Events whose numbers never came and that nobody spoke of, ever.
    pub missing_events: u64,
    /// Events that came behind a later one, ever.
    pub late_events: u64,
    /// What its battery has left, in percent.
    pub battery_percent: Option<u8>,
    /// The strength of its radio signal, in dBm.
    pub signal_dbm: Option<i8>,
    /// Births, statuses and frames that could not be read, ever.
    #[serde(default)]
    pub faults: u64,
    /// Events whose number another event has as well, ever.
    #[serde(default)]
    pub reused_identities: u64,
    /// How the times of its events come about.
    pub time_quality: Quality,
}

/// All that is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSheet {
    /// At a glance.
    #[serde(flatten)]
    pub item: DeviceItem,
    /// Kinds of event that its last birth announced.
    pub kinds: Option<u8>,
    /// The fingerprint of them.
    pub schema_set: Option<u32>,
    /// How often it began anew, by reason; reasons that never were are left out.
    pub resets: Vec<(String, u32)>,
    /// The last that could not be read.
    #[serde(default)]
    pub last_fault: Option<FaultItem>,
    /// When the last event came whose number another event has as well.
    #[serde(default)]
    pub last_reused_ms: Option<u64>,
    /// Its boots that are known each by itself, the latest first.
    pub latest_boots: Vec<BootItem>,
}

/// Something of a device that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultItem {
    /// What it should be.
    pub sent: Sent,
    /// What is wrong with it, and where.
    pub why: String,
    /// When it came.
    pub at_ms: Option<u64>,
}

/// A boot of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootItem {
    /// Its number.
    pub boot: u32,
    /// Why it began, once a birth said it.
    pub reset: Option<String>,
    /// Its connections.
    pub connections: u32,
    /// When the first of it came.
    pub first_ms: Option<u64>,
    /// When the last of it came.
    pub last_ms: Option<u64>,
    /// Frames.
    pub frames: u64,
    /// Events received.
    pub events: u64,
    /// The highest event number seen.
    pub highest_seq: Option<u32>,
    /// Events that the device told as lost and that did not come.
    pub lost_events: u64,
    /// Their numbers; the latest runs, where there are many.
    pub lost: Vec<Run>,
    /// Events whose numbers never came and that nobody spoke of.
    pub missing_events: u64,
    /// Their numbers; the latest runs, where there are many.
    pub missing: Vec<Run>,
    /// Events that came behind a later one.
    pub late_events: u64,
    /// Every number's state is known. Otherwise there were more runs than are kept, and the counts
    /// take for granted that nothing came twice.
    pub is_exact: bool,
    /// How the times of its events come about.
    pub time_quality: Quality,
}

/// Event numbers in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The first.
    pub first_seq: u32,
    /// How many.
    pub count: u32,
}

/// Every device at a glance, by name.
pub(super) fn list(state: &State, reading: &Reading) -> DeviceList {
    let now = state.journal().now(reading);
    let devices = state.devices().iter();
    let mut items: Vec<_> = devices.map(|(name, device)| item(name, device, state.journal(), now)).collect();
    items.sort_by(|a, b| a.device.cmp(&b.device));
    DeviceList { items, untracked_records: state.totals(reading).untracked }
}

/// All that is known of a device.
pub(super) fn show(state: &State, name: &str, reading: &Reading) -> Option<DeviceSheet> {
    let (device, journal) = (state.devices().get(name)?, state.journal());
    let reset = |(number, count): (usize, &u32)| (reason(number as u8), *count);
    Some(DeviceSheet {
        item: item(name, device, journal, journal.now(reading)),
        kinds: device.kinds.map(|(count, _)| count),
        schema_set: device.kinds.map(|(_, schema_set)| schema_set),
        resets: device.resets.iter().enumerate().map(reset).filter(|(_, count)| *count > 0).collect(),
        last_fault: device.faults.as_ref().map(|faults| FaultItem {
            sent: faults.sent,
            why: faults.why.to_string(),
            at_ms: wall_ms(journal, faults.at),
        }),
        last_reused_ms: device.reuse.as_ref().and_then(|reuse| wall_ms(journal, reuse.at)),
        latest_boots: device.boots.iter().rev().map(|boot| boot_item(boot, journal)).collect(),
    })
}

fn item(name: &str, device: &Device, journal: &Journal, now: Option<Moment>) -> DeviceItem {
    let sums = device.sums();
    let presence = device.presence(now);
    let is_born = device.kinds.is_some();
    let text = |at: usize| is_born.then(|| device.firmware[at].to_string());
    let is_asleep = presence == Presence::Sleeping;
    let contact = device.said.and_then(|said| said.next_contact()).filter(|_| is_asleep);
    DeviceItem {
        device: name.into(),
        presence,
        last_seen_ms: wall_ms(journal, device.heard),
        next_contact_ms: wall_ms(journal, contact),
        firmware: text(0),
        version: text(1),
        build: text(2),
        boot: device.boots.back().map(|boot| boot.boot),
        connection: device.boots.back().map(|boot| boot.connections),
        boots: sums.boots + device.boots.len() as u64,
        events: sums.events,
        lost_events: sums.lost,
        missing_events: sums.missing,
        late_events: sums.late,
        battery_percent: device.battery_percent,
        signal_dbm: device.signal_dbm,
        faults: device.faults.as_ref().map_or(0, |faults| faults.count),
        reused_identities: device.reuse.as_ref().map_or(0, |reuse| reuse.events),
        time_quality: device.boots.back().map_or(Quality::Received, |boot| boot.time.quality(journal)),
    }
}

fn boot_item(boot: &Boot, journal: &Journal) -> BootItem {
    BootItem {
        boot: boot.boot,
        reset: boot.reset.map(reason),
        connections: boot.connections,
        first_ms: wall_ms(journal, boot.first),
        last_ms: wall_ms(journal, boot.last),
        frames: boot.frames,
        events: boot.gaps.received(),
        highest_seq: boot.gaps.highest(),
        lost_events: boot.gaps.lost_count(),
        lost: latest(boot.gaps.lost().collect()),
        missing_events: boot.gaps.missing_count(),
        missing: latest(boot.gaps.missing().collect()),
        late_events: boot.gaps.late_count(),
        is_exact: boot.gaps.is_exact(),
        time_quality: boot.time.quality(journal),
    }
}

fn latest(runs: Vec<Range<u32>>) -> Vec<Run> {
    let shown = &runs[runs.len().saturating_sub(RUNS_SHOWN_MAX)..];
    shown.iter().map(|run| Run { first_seq: run.start, count: run.end - run.start }).collect()
}

fn wall_ms(journal: &Journal, moment: Option<Moment>) -> Option<u64> {
    Some(journal.wall(moment?)?.ms.max(0) as u64)
}

fn reason(number: u8) -> String {
    ResetReason::from_number(number).unwrap_or_default().as_str().into()
}

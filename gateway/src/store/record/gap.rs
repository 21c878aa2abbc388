//! The gap record: what is missing, and why, as an event that goes upstream like any other.
//!
//! It is a record of the log, published on [`TOPIC`], with a JSON payload, urgent, so that no full
//! store drops it:
//!
//! ```json
//! {"reason":"store-full","at_ms":1795000000000,"from":1200,"to":3400,"events":2200,"file":null,
//!  "uplinks":[{"uplink":"cloud","events":2100,"devices":{"barn-1":2100},"other_devices_events":0}]}
//! ```
//! `events` is what was stored and is not there any more, `null` where nobody can tell; by uplink,
//! only what it had not delivered. An uplink that had delivered all of it is not listed.
//!
//! Limits: [`DEVICES_MAX`] devices are named for each uplink, the ones that lost most; the others
//! are summed up.

use std::{collections::HashMap, ops::Range};

use serde::{Deserialize, Serialize};

use super::{Kind, Record};

/// Where gap records are published.
pub const TOPIC: &str = "tidegate/gap";
/// Who publishes them, where a device has its client id.
const CLIENT: &str = "tidegate";
/// Devices that are named for each uplink.
pub const DEVICES_MAX: usize = 256;

/// Why something is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The store was full, and its policy is to drop the oldest.
    StoreFull,
    /// A segment could not be read.
    Damaged,
    /// A segment was not there.
    Missing,
    /// The dead letters outgrew their room.
    DeadLettersFull,
    /// The dead letters could not be read.
    DeadLettersDamaged,
}

impl Reason {
    /// Its name in JSON and in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::StoreFull => "store-full",
            Reason::Damaged => "damaged",
            Reason::Missing => "missing",
            Reason::DeadLettersFull => "dead-letters-full",
            Reason::DeadLettersDamaged => "dead-letters-damaged",
        }
    }
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Why.
    pub reason: Reason,
    /// When it was noticed, wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// First offset of which something is missing.
    pub from: u64,
    /// The offset behind the last one.
    pub to: u64,
    /// Events that were stored there and are not any more; `None` where nobody can tell.
    pub events: Option<u64>,
    /// The damaged file, under the name that it has now.
    pub file: Option<String>,
    /// What is missing for whom.
    pub uplinks: Vec<Lost>,
}

/// What an uplink will not deliver.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The uplink's name.
    pub uplink: String,
    /// Events; `None` where nobody can tell.
    pub events: Option<u64>,
    /// Of which device how many, as far as it is known, see [`Record::device`].
    pub devices: HashMap<String, u64>,
    /// Events of devices that are not named.
    pub other_devices_events: u64,
}

impl Gap {
    /// The range of offsets.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.from..self.to
    }

    /// Appends the record to a row.
    pub(in crate::store) fn write(&self, row: &mut Vec<u8>) {
        // It is made of numbers, names and maps with string keys: nothing of it can fail.
        let payload = serde_json::to_vec(self).unwrap_or_default();
        let record = Record {
            kind: Kind::Json,
            events: 1,
            retain: false,
            qos: 0,
            local: false,
            device_level: None,
            urgent: true,
            received_ms: self.at_ms,
            client: CLIENT,
            topic: TOPIC,
            properties: &[],
            payload: &payload,
        };
        record.write(row);
    }
}

/// Counts what an uplink loses, by device.
#[derive(Debug, Default)]
pub struct Tally {
    events: u64,
    devices: HashMap<Box<str>, u64>,
}

impl Tally {
    /// One more record is lost.
    pub fn add(&mut self, record: &Record<'_>) {
        let events = u64::from(record.events);
        self.events += events;
        let device = record.device();
        match self.devices.get_mut(device) {
            Some(count) => *count += events,
            None => {
                self.devices.insert(device.into(), events);
            }
        }
    }

    /// What that makes; `None` if nothing is lost.
    #[must_use]
    pub fn lost(self, uplink: &str) -> Option<Lost> {
        if self.events == 0 {
            return None;
        }
        let mut devices: Vec<_> = self.devices.into_iter().collect();
        devices.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let others = devices.split_off(devices.len().min(DEVICES_MAX));
        Some(Lost {
            uplink: uplink.to_owned(),
            events: Some(self.events),
            devices: devices.into_iter().map(|(device, events)| (device.into(), events)).collect(),
            other_devices_events: others.iter().map(|(_, events)| events).sum(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>(topic: &'a str, client: &'a str, events: u8) -> Record<'a> {
        let kind = Kind::Opaque;
        Record { kind, events, qos: 0, received_ms: 1, client, topic, payload: b"", ..Record::default() }
    }

    #[test]
    fn what_is_lost_is_counted_by_device() {
        let mut tally = Tally::default();
        tally.add(&record("tg/barn-1/e", "c", 10));
        tally.add(&record("tg/barn-1/e", "d", 5));
        tally.add(&record("zigbee2mqtt/door", "hub", 1));
        let lost = tally.lost("cloud").unwrap();
        assert_eq!(lost.events, Some(16));
        assert_eq!(lost.devices, HashMap::from([("barn-1".into(), 15), ("hub".into(), 1)]));
        assert_eq!(Tally::default().lost("cloud"), None);
    }

    #[test]
    fn the_devices_that_lost_most_are_named_and_the_others_summed_up() {
        let mut tally = Tally::default();
        for n in 0..DEVICES_MAX + 10 {
            let client = format!("c{n}");
            tally.add(&record("t", &client, if n < 10 { 1 } else { 2 }));
        }
        let lost = tally.lost("cloud").unwrap();
        assert_eq!((lost.devices.len(), lost.other_devices_events), (DEVICES_MAX, 10));
    }

    #[test]
    fn the_record_is_json_on_its_own_topic() {
        let gap = Gap {
            reason: Reason::StoreFull,
            at_ms: 7,
            from: 1,
            to: 4,
            events: Some(3),
            file: None,
            uplinks: vec![],
        };
        let mut row = Vec::new();
        gap.write(&mut row);
        let (record, _) = Record::read(&row, 0, 7).unwrap();
        assert_eq!((record.topic, record.kind, record.urgent), (TOPIC, Kind::Json, true));
        let text = std::str::from_utf8(record.payload).unwrap();
        assert!(text.starts_with("{\"reason\":\"store-full\",\"at_ms\":7,\"from\":1,\"to\":4"), "{text}");
        assert_eq!(serde_json::from_str::<Gap>(text).unwrap(), gap);
    }
}

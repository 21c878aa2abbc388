//! Gap records as they arrive upstream: what the gateway says that it could not keep.
//!
//! Each is an event of its own on the topic `tidegate/gap`, with a JSON object as payload.

use std::collections::BTreeMap;

use serde_json::Value;

/// The topic, behind whatever the uplink puts before it.
pub const TOPIC: &str = "tidegate/gap";

/// What one gap record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why: `store-full`, `damaged`, `missing`, `dead-letters-full`, `dead-letters-damaged`.
    pub reason: String,
    /// Offset of the first record that may be missing.
    pub from: u64,
    /// Offset after the last.
    pub to: u64,
    /// Events, if they could be counted.
    pub events: Option<u64>,
    /// The file that they were in, if there is one.
    pub file: Option<String>,
    /// By uplink: those that it had not got yet.
    pub uplinks: Vec<Share>,
}

/// What an uplink will not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub uplink: String,
    /// Events, if they could be counted.
    pub events: Option<u64>,
    /// Of which devices.
    pub devices: BTreeMap<String, u64>,
    /// Of devices that are not named.
    pub other_devices_events: u64,
}

impl Gap {
    /// Reads a payload; `None` if a field is missing or of another type.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(payload).ok()?;
        value["at_ms"].as_u64()?;
        let optional = |key: &str| value.get(key);
        Some(Self {
            reason: value["reason"].as_str()?.into(),
            from: value["from"].as_u64()?,
            to: value["to"].as_u64()?,
            events: match optional("events")? {
                Value::Null => None,
                events => Some(events.as_u64()?),
            },
            file: match optional("file")? {
                Value::Null => None,
                file => Some(file.as_str()?.into()),
            },
            uplinks: value["uplinks"].as_array()?.iter().map(share).collect::<Option<_>>()?,
        })
    }

    /// The share of `uplink`.
    #[must_use]
    pub fn share(&self, uplink: &str) -> Option<&Share> {
        self.uplinks.iter().find(|share| share.uplink == uplink)
    }
}

fn share(value: &Value) -> Option<Share> {
    let devices = value["devices"].as_object()?.iter();
    let events = value.get("events")?;
    Some(Share {
        uplink: value["uplink"].as_str()?.into(),
        events: if events.is_null() { None } else { Some(events.as_u64()?) },
        devices: devices
            .map(|(name, events)| Some((name.clone(), events.as_u64()?)))
            .collect::<Option<_>>()?,
        other_devices_events: value["other_devices_events"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_record_is_read_and_one_that_lacks_a_field_is_not() {
        let whole = r#"{"reason":"store-full","at_ms":5,"from":10,"to":30,"events":20,"file":null,"uplinks":[
            {"uplink":"cloud","events":20,"devices":{"d0":15,"d1":5},"other_devices_events":0}]}"#;
        let gap = Gap::parse(whole.as_bytes()).unwrap();
        assert_eq!((gap.from, gap.to, gap.events, gap.file.clone()), (10, 30, Some(20), None));
        assert_eq!(gap.share("cloud").unwrap().devices["d0"], 15);
        assert_eq!(gap.share("lake"), None);
        for field in
            ["reason", "at_ms", "from", "to", "events", "file", "uplinks", "devices", "other_devices_events"]
        {
            assert_eq!(Gap::parse(whole.replace(field, "x").as_bytes()), None, "{field}");
        }
    }
}

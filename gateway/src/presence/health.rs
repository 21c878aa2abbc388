//! How the gateway is, at a glance: the payload of `tidegate/health`, as `docs/operating.md` shows
//! it.
//!
//! A later version may say more; what is here keeps its name and its meaning.
//!
//! Limits: [`TEXTS_MAX`] sentences of each kind, to [`TEXT_BYTES_MAX`]; as many uplinks as there
//! are.

use std::collections::BTreeMap;

use serde::Serialize;

/// Sentences of each kind.
pub const TEXTS_MAX: usize = 8;
/// Longest sentence, in bytes; the rest is cut off.
pub const TEXT_BYTES_MAX: usize = 256;

/// The gateway at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The program's version.
    pub version: String,
    /// Since when it runs, in seconds.
    pub uptime_s: u64,
    /// Events can be stored and taken in.
    pub ready: bool,
    /// Why not, if not.
    pub not_ready: Vec<String>,
    /// What somebody should see to.
    pub warnings: Vec<String>,
    /// Events that wait for the uplink for which most wait.
    pub backlog_events: u64,
    /// Bytes that wait for the uplink for which most do.
    pub backlog_bytes: u64,
    /// Age of the oldest event that waits for an uplink, in seconds.
    pub backlog_age_s: u64,
    /// Bytes of the store's files.
    pub store_used_bytes: u64,
    /// Bytes that they can take: less than they may where the disk is smaller.
    pub store_room_bytes: u64,
    /// Bytes written to the disk or card by this process.
    pub written_bytes: u64,
    /// Events ever stored.
    pub stored_events: u64,
    /// Events that some uplink will not get: each is in a gap record.
    pub dropped_events: u64,
    /// Dead letters that are kept.
    pub dead_letters: u64,
    /// By name.
    pub uplinks: BTreeMap<String, UplinkHealth>,
}

/// An uplink at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UplinkHealth {
    /// There is a connection.
    pub connected: bool,
    /// Since when there is one or none, wall clock, milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Somebody paused it.
    pub paused: bool,
    /// Events that wait for it.
    pub backlog_events: u64,
    /// Their bytes.
    pub backlog_bytes: u64,
    /// The age of the oldest, in seconds.
    pub backlog_age_s: u64,
}

impl Health {
    /// Fills in what the uplinks say together.
    #[must_use]
    pub fn with_uplinks(mut self, uplinks: BTreeMap<String, UplinkHealth>) -> Self {
        let most = |of: fn(&UplinkHealth) -> u64| uplinks.values().map(of).max().unwrap_or(0);
        self.backlog_events = most(|uplink| uplink.backlog_events);
        self.backlog_bytes = most(|uplink| uplink.backlog_bytes);
        self.backlog_age_s = most(|uplink| uplink.backlog_age_s);
        self.uplinks = uplinks;
        self
    }
}

/// Sentences as they are said: as many, and as long, as may be.
#[must_use]
pub fn texts(all: &[String]) -> Vec<String> {
    let cut = |text: &String| text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
    all.iter().take(TEXTS_MAX).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_health_says_what_it_is_documented_to_say() {
        let uplink = |backlog_events| UplinkHealth {
            connected: true,
            since_ms: Some(1_764_000_000_123),
            backlog_events,
            backlog_bytes: 150 * backlog_events,
            backlog_age_s: backlog_events / 4,
            ..UplinkHealth::default()
        };
        let uplinks = BTreeMap::from([("cloud".to_owned(), uplink(12)), ("lake".to_owned(), uplink(0))]);
        let health = Health { version: "0.1.0".into(), uptime_s: 3600, ready: true, ..Health::default() };
        let said = serde_json::to_value(health.with_uplinks(uplinks)).unwrap();
        let manual = include_str!("../../../docs/operating.md");
        let blocks = manual.split("```json\n").filter_map(|block| block.split("```").next());
        let documented = blocks.into_iter().find(|block| block.contains("\"uptime_s\"")).unwrap();
        let documented: serde_json::Value = serde_json::from_str(documented).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&said), keys(&documented));
        assert_eq!(said["uplinks"]["cloud"], documented["uplinks"]["cloud"]);
        for key in ["backlog_events", "backlog_bytes", "backlog_age_s", "uptime_s", "version"] {
            assert_eq!(said[key], documented[key], "{key}");
        }
    }

    #[test]
    fn sentences_are_cut_and_counted() {
        let long = vec!["ä".repeat(TEXT_BYTES_MAX); TEXTS_MAX + 1];
        let said = texts(&long);
        assert!(said.len() == TEXTS_MAX && said.iter().all(|text| text.len() <= TEXT_BYTES_MAX));
        assert_eq!(texts(&["all is well".to_owned()]), ["all is well"]);
    }
}

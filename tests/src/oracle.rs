//! The oracle: what the devices were promised against what the cloud got.
//!
//! A payload names its device and its count, and carries a checksum, so that a delivery can be
//! judged by itself. The oracle knows nothing of the gateway but MQTT and the name of one user
//! property, the event's id.
//!
//! It holds that: every acknowledged event arrives; none is invented, altered or put on another
//! topic; first deliveries of a device come in its order, unless it was refused some; a copy has
//! the id of the first delivery, unless the device itself sent the event again; a QoS 2 event has
//! one id for ever; and no two events share an id. What is missing by policy or by damage has to be
//! said in gap records, event by event; where nothing is missing, none may come.
//!
//! Limits: names of up to 18 bytes without `:`, payloads of at least 40 bytes, 2^26 events per
//! device.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{BuildHasher, RandomState},
};

use crate::{
    codec::Received,
    gaps::{self, Gap},
    upstream::{Cloud, Reply},
};

/// The user property that holds the event's id on MQTT 5.
pub const ID_PROPERTY: &str = "tidegate-id";

/// Size of the payloads that the load sends, in bytes: the size that the benchmarks promise for.
pub const PAYLOAD_BYTES: usize = 40;

/// Events of one device at most.
const COUNT_MAX: usize = 1 << 26;

/// Violations that are told in full; the others are counted.
const TOLD_MAX: usize = 20;

/// The payload of event `count` of the device `name`: `name:count:…:checksum`.
#[must_use]
pub fn payload(name: &str, count: u32) -> String {
    payload_of(name, count, PAYLOAD_BYTES)
}

/// The same, of another size.
#[must_use]
pub fn payload_of(name: &str, count: u32, bytes: usize) -> String {
    let head = format!("{name}:{count:010}:");
    let body = format!("{head}{}:", ".".repeat(bytes.saturating_sub(9 + head.len())));
    let checksum = crc32fast::hash(body.as_bytes());
    format!("{body}{checksum:08x}")
}

/// Device and count of a payload; `None` if it is not one that [`payload`] made.
#[must_use]
pub fn parse(payload: &[u8]) -> Option<(&str, u32)> {
    let text = std::str::from_utf8(payload).ok()?;
    let (body, checksum) = text.split_at_checked(text.len().checked_sub(8)?)?;
    if u32::from_str_radix(checksum, 16).ok()? != crc32fast::hash(body.as_bytes()) {
        return None;
    }
    let mut parts = body.split(':');
    Some((parts.next()?, parts.next()?.parse().ok()?))
}

/// What a device did and was told.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// The device's name, as in its payloads.
    pub name: String,
    /// Where it published.
    pub topic: String,
    /// With which QoS.
    pub qos: u8,
    /// How often each event was sent, by count.
    pub sends: Vec<u8>,
    /// Which of them were acknowledged, by count.
    pub acked: Vec<bool>,
    /// Connections that it had.
    pub connections: u32,
    /// Acknowledgements that said no, by reason code.
    pub refusals: BTreeMap<u8, u64>,
    /// What broke the protocol on the way.
    pub strange: Vec<String>,
}

impl Ledger {
    /// Events that were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.acked.iter().filter(|acked| **acked).count()
    }
}

#[derive(Debug, Clone, Copy)]
struct Delivery {
    device: u32,
    count: u32,
    /// Hash of the event's id; 0 where the upstream speaks 3.1.1 and gets none.
    id: u64,
}

/// The cloud's side: remembers each delivery in order.
#[derive(Debug, Default)]
pub struct Recorder {
    prefix: String,
    hasher: RandomState,
    topics: Vec<String>,
    devices: HashMap<String, u32>,
    /// By device and count: has arrived.
    seen: Vec<Vec<bool>>,
    deliveries: Vec<Delivery>,
    gaps: Vec<Gap>,
    gap_ids: HashSet<String>,
    strange: Vec<String>,
}

impl Recorder {
    /// `prefix` is what the uplink puts before a topic.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Deliveries so far, copies included.
    #[must_use]
    pub fn deliveries(&self) -> usize {
        self.deliveries.len()
    }

    /// What gap records have said so far; copies are left out.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    fn record_gap(&mut self, publish: &Received) {
        match (Gap::parse(&publish.payload), publish.user_property(ID_PROPERTY)) {
            (Some(gap), Some(id)) => {
                if self.gap_ids.insert(id) {
                    self.gaps.push(gap);
                }
            }
            _ => self.strange.push(format!("no gap record, or one without an id: {publish:?}")),
        }
    }

    /// Takes down one delivery, from whichever upstream.
    pub fn record(&mut self, publish: &Received) {
        if publish.topic == format!("{}{}", self.prefix, gaps::TOPIC) {
            return self.record_gap(publish);
        }
        let Some((name, count)) = parse(&publish.payload) else {
            self.strange.push(format!("altered or invented: {publish:?}"));
            return;
        };
        let device = match self.devices.get(name) {
            Some(device) => *device,
            None => {
                let device = self.topics.len() as u32;
                self.devices.insert(name.into(), device);
                self.topics.push(format!("{}{}", self.prefix, topic_of(name)));
                self.seen.push(vec![]);
                device
            }
        };
        if publish.topic != self.topics[device as usize] {
            self.strange.push(format!("on another topic: {publish:?}"));
        }
        let id = match publish.user_property(ID_PROPERTY) {
            Some(id) => self.hasher.hash_one(id).max(1),
            None => 0,
        };
        let seen = &mut self.seen[device as usize];
        // An invented count could be any: it is judged later, and must not take memory here.
        if (count as usize) < COUNT_MAX {
            seen.resize(seen.len().max(count as usize + 1), false);
            seen[count as usize] = true;
        }
        self.deliveries.push(Delivery { device, count, id });
    }
}

impl Cloud for Recorder {
    fn take(&mut self, publish: &Received) -> Reply {
        self.record(publish);
        Reply::Ack
    }
}

/// The topic of a device of the load.
#[must_use]
pub fn topic_of(name: &str) -> String {
    format!("plant/{name}/value")
}

/// The oracle's word.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that were acknowledged to devices.
    pub acknowledged: usize,
    /// Events that arrived, copies not counted.
    pub arrived: usize,
    /// Copies that the uplink sent: same event, same id.
    pub copies: usize,
    /// Events that were acknowledged and did not arrive, by device and count.
    pub lost: BTreeMap<String, Vec<u32>>,
    /// Broken promises, in words; all of them are counted in the last line.
    pub violations: Vec<String>,
}

impl Verdict {
    /// Panics unless all promises were held.
    ///
    /// # Panics
    /// There are violations; the message tells them.
    pub fn demand(&self) {
        assert!(self.violations.is_empty(), "{}", self.violations.join("\n"));
    }
}

/// Whether everything that was acknowledged is there: to wait for, before judging.
#[must_use]
pub fn is_complete(ledgers: &[Ledger], recorder: &Recorder) -> bool {
    ledgers.iter().all(|ledger| {
        let device = recorder.devices.get(&ledger.name);
        let seen = device.map_or(&[][..], |device| &recorder.seen[*device as usize]);
        ledger.acked.iter().enumerate().all(|(count, acked)| !acked || seen.get(count) == Some(&true))
    })
}

/// Compares both sides, where nothing may be missing.
#[must_use]
pub fn judge(ledgers: &[Ledger], recorder: &Recorder) -> Verdict {
    let (mut verdict, mut said) = weigh(ledgers, recorder);
    for (name, counts) in &verdict.lost {
        let ledger = ledgers.iter().find(|ledger| ledger.name == *name);
        if ledger.is_some_and(|ledger| ledger.acknowledged() == counts.len()) {
            said.note(|| format!("lost: all of {name}"));
        } else {
            counts
                .iter()
                .for_each(|count| said.note(|| format!("lost: {name} {count}, which was acknowledged")));
        }
    }
    for gap in recorder.gaps() {
        said.note(|| format!("said to be missing: {gap:?}"));
    }
    verdict.violations = said.finish();
    verdict
}

/// Compares both sides, where events may be missing: as many of each device as the gap records say.
#[must_use]
pub fn judge_with_gaps(ledgers: &[Ledger], recorder: &Recorder, uplink: &str) -> Verdict {
    let (mut verdict, mut said) = weigh(ledgers, recorder);
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    for gap in recorder.gaps() {
        let Some(share) = gap.share(uplink) else {
            said.note(|| format!("a gap record that does not speak of {uplink}: {gap:?}"));
            continue;
        };
        let by_device = share.devices.values().sum::<u64>() + share.other_devices_events;
        if share.events != Some(by_device) || gap.events < share.events {
            said.note(|| format!("a gap record that does not add up: {gap:?}"));
        }
        share.devices.iter().for_each(|(name, events)| *told.entry(name).or_default() += events);
    }
    for ledger in ledgers {
        let lost = verdict.lost.get(&ledger.name).map_or(0, Vec::len) as u64;
        let told = told.remove(ledger.name.as_str()).unwrap_or_default();
        if lost != told {
            said.note(|| format!("{}: {lost} events are missing, gap records say {told}", ledger.name));
        }
    }
    for (name, events) in told {
        said.note(|| {
            format!("gap records say that {events} events of {name} are missing; there is no such device")
        });
    }
    verdict.violations = said.finish();
    verdict
}

/// All but what is missing.
fn weigh(ledgers: &[Ledger], recorder: &Recorder) -> (Verdict, Complaints) {
    let mut said = Complaints::default();
    for text in recorder.strange.iter().chain(ledgers.iter().flat_map(|ledger| &ledger.strange)) {
        said.note(|| text.clone());
    }
    let mut verdict = Verdict::default();
    let mut known = HashSet::new();
    for ledger in ledgers {
        verdict.acknowledged += ledger.acknowledged();
        let device = recorder.devices.get(&ledger.name).copied();
        known.extend(device);
        judge_device(ledger, device, recorder, &mut verdict, &mut said);
    }
    for (name, device) in &recorder.devices {
        if !known.contains(device) {
            said.note(|| format!("invented: the device {name}"));
        }
    }
    judge_ids(recorder, &mut said);
    (verdict, said)
}

fn judge_device(
    ledger: &Ledger,
    device: Option<u32>,
    recorder: &Recorder,
    verdict: &mut Verdict,
    said: &mut Complaints,
) {
    let name = &ledger.name;
    let mut ids: Vec<Vec<u64>> = vec![vec![]; ledger.sends.len()];
    let mut highest = None;
    for delivery in recorder.deliveries.iter().filter(|delivery| Some(delivery.device) == device) {
        let count = delivery.count;
        let Some(seen) = ids.get_mut(count as usize) else {
            said.note(|| format!("invented: {name} {count}, which was never sent"));
            continue;
        };
        if seen.is_empty() {
            verdict.arrived += 1;
            // What was refused is sent again behind what was not.
            if ledger.refusals.is_empty() && highest.is_some_and(|highest| highest > count) {
                said.note(|| format!("out of order: {name} {count} after {highest:?}"));
            }
            highest = highest.max(Some(count));
        } else {
            verdict.copies += 1;
        }
        if !seen.contains(&delivery.id) {
            seen.push(delivery.id);
        }
    }
    for (count, seen) in ids.iter().enumerate() {
        let allowed = if ledger.qos == 2 { 1 } else { usize::from(ledger.sends[count]) };
        if seen.len() > allowed {
            said.note(|| format!("{name} {count} was sent {allowed} times and got {} ids", seen.len()));
        }
        if seen.is_empty() && ledger.acked[count] {
            verdict.lost.entry(name.clone()).or_default().push(count as u32);
        }
    }
}

fn judge_ids(recorder: &Recorder, said: &mut Complaints) {
    let mut all: Vec<_> = recorder.deliveries.iter().filter(|d| d.id != 0).collect();
    all.sort_unstable_by_key(|d| (d.id, d.device, d.count));
    for pair in all.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if a.id == b.id && (a.device, a.count) != (b.device, b.count) {
            said.note(|| format!("two events share an id: {a:?}, {b:?}"));
        }
    }
}

/// Violations, told up to a limit and counted beyond.
#[derive(Default)]
struct Complaints {
    texts: Vec<String>,
    count: usize,
}

impl Complaints {
    fn note(&mut self, text: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= TOLD_MAX {
            self.texts.push(text());
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.count > 0 {
            self.texts.push(format!("{} violations", self.count));
        }
        self.texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::{BufMut, Bytes, BytesMut};

    fn delivery(count: u32, id: &str) -> Received {
        let mut properties = BytesMut::new();
        for (tag, text) in [(Some(0x26), ID_PROPERTY), (None, id)] {
            properties.extend(tag);
            properties.put_u16(text.len() as u16);
            properties.put_slice(text.as_bytes());
        }
        Received {
            topic: Bytes::from(format!("up/{}", topic_of("d"))),
            payload: payload("d", count).into(),
            qos: 1,
            packet_id: 1,
            dup: false,
            retain: false,
            properties: properties.freeze(),
        }
    }

    fn ledger(qos: u8) -> Ledger {
        Ledger {
            name: "d".into(),
            topic: topic_of("d"),
            qos,
            sends: vec![1, 2, 1, 1],
            acked: vec![true, true, true, false],
            ..Ledger::default()
        }
    }

    fn judged(qos: u8, deliveries: &[(u32, &str)]) -> String {
        let mut recorder = Recorder::new("up/");
        for (count, id) in deliveries {
            recorder.record(&delivery(*count, id));
        }
        judge(&[ledger(qos)], &recorder).violations.concat()
    }

    #[test]
    fn a_payload_names_its_device_and_count_and_no_altered_one_passes() {
        let good = payload("press-7", 4_000_000_000);
        assert_eq!(good.len(), PAYLOAD_BYTES);
        assert_eq!(parse(good.as_bytes()), Some(("press-7", 4_000_000_000)));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert_eq!(parse(&bad), None);
        }
        assert_eq!(parse(b"x"), None);
    }

    #[test]
    fn every_broken_promise_is_found() {
        let table: [(&str, &[(u32, &str)]); 10] = [
            ("", &[(0, "a"), (1, "b"), (2, "c")]),
            ("", &[(0, "a"), (1, "b"), (2, "c"), (3, "d")]),
            ("", &[(0, "a"), (1, "b"), (0, "a"), (1, "b2"), (2, "c")]),
            ("lost: d 2", &[(0, "a"), (1, "b")]),
            ("lost: all of d", &[]),
            ("out of order: d 1", &[(0, "a"), (2, "c"), (1, "b")]),
            ("invented: d 4", &[(0, "a"), (1, "b"), (2, "c"), (4, "e")]),
            ("d 0 was sent 1 times and got 2 ids", &[(0, "a"), (0, "a2"), (1, "b"), (2, "c")]),
            ("share an id", &[(0, "a"), (1, "a"), (2, "c")]),
            ("share an id", &[(0, "a"), (1, "b"), (2, "c"), (3, "b")]),
        ];
        for (expected, deliveries) in table {
            let said = judged(1, deliveries);
            assert!(
                said.contains(expected) && said.is_empty() == expected.is_empty(),
                "{deliveries:?}: {said}"
            );
        }
    }

    #[test]
    fn a_qos_2_event_has_one_id_even_if_its_device_sent_it_twice() {
        assert_eq!(judged(2, &[(0, "a"), (1, "b"), (1, "b"), (2, "c")]), "");
        assert!(judged(2, &[(0, "a"), (1, "b"), (1, "b2"), (2, "c")]).contains("got 2 ids"));
    }

    #[test]
    fn altered_payloads_other_topics_and_unknown_devices_are_found() {
        let mut recorder = Recorder::new("up/");
        recorder.record(&Received { payload: Bytes::from_static(b"what is this"), ..delivery(0, "a") });
        recorder.record(&Received { topic: Bytes::from_static(b"up/other"), ..delivery(0, "a") });
        let said = judge(&[], &recorder).violations.concat();
        for expected in ["altered or invented", "on another topic", "invented: the device d"] {
            assert!(said.contains(expected), "{said}");
        }
    }

    fn gap(id: &str, events: u64, device: &str) -> Received {
        let payload = format!(
            r#"{{"reason":"store-full","at_ms":1,"from":0,"to":9,"events":{events},"file":null,"uplinks":[
            {{"uplink":"cloud","events":{events},"devices":{{"{device}":{events}}},"other_devices_events":0}}]}}"#
        );
        Received { topic: Bytes::from_static(b"up/tidegate/gap"), payload: payload.into(), ..delivery(0, id) }
    }

    #[test]
    fn what_is_missing_and_what_gap_records_say_must_be_the_same() {
        let said = |gaps: &[Received]| {
            let mut recorder = Recorder::new("up/");
            recorder.record(&delivery(0, "a"));
            gaps.iter().for_each(|gap| recorder.record(gap));
            judge_with_gaps(&[ledger(1)], &recorder, "cloud").violations.concat()
        };
        assert_eq!(said(&[gap("g", 2, "d")]), "");
        assert_eq!(said(&[gap("g", 1, "d"), gap("g", 1, "d"), gap("h", 1, "d")]), "", "a copy counts once");
        assert!(said(&[]).contains("2 events are missing, gap records say 0"));
        assert!(said(&[gap("g", 3, "d")]).contains("gap records say 3"));
        assert!(said(&[gap("g", 2, "d"), gap("h", 1, "e")]).contains("no such device"));
    }

    #[test]
    fn a_gap_record_where_nothing_may_be_missing_is_found() {
        let mut recorder = Recorder::new("up/");
        (0..3).for_each(|count| recorder.record(&delivery(count, &count.to_string())));
        assert_eq!(judge(&[ledger(1)], &recorder).violations.concat(), "");
        recorder.record(&gap("g", 1, "d"));
        assert!(judge(&[ledger(1)], &recorder).violations.concat().contains("said to be missing"));
    }
}

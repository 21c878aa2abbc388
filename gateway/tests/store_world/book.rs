//! The book: every record that was ever sent to the store, and what became of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use tidegate::store::{self, Batch, Record, gap};
use tidegate_protocol::{DeviceName, FrameWriter, Leaf, Topic};

use crate::simulated_disk::Random;

const DEVICES: u64 = 4;

/// How a record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A foreign device, QoS 1: sent once. Without an acknowledgement it may be lost.
    Plain,
    /// A frame: sent again until it is acknowledged, and known by its name.
    Frame,
    /// QoS 2: sent again under its packet id until it is acknowledged, and then released.
    ExactlyOnce(u16),
}

/// One record.
#[derive(Debug, Clone)]
pub struct Sent {
    pub kind: Kind,
    pub device: u64,
    pub urgent: bool,
    pub acknowledged: bool,
    topic: String,
    payload: Vec<u8>,
    events: u8,
}

#[derive(Debug, Default)]
pub struct Book {
    pub sent: BTreeMap<u64, Sent>,
    by_payload: HashMap<Vec<u8>, u64>,
    /// Appended to this run's intake, by the ticket behind the last one.
    waiting: VecDeque<(u64, Vec<u64>)>,
    /// What a reader was given, by offset.
    given: BTreeMap<u64, Vec<u8>>,
    delivered: BTreeSet<u64>,
    next_id: u64,
    /// No record made up is urgent.
    pub never_urgent: bool,
}

impl Book {
    /// Makes up a record.
    pub fn compose(&mut self, random: &mut Random) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let device = random.below(DEVICES);
        let kind = match random.below(4) {
            0 => Kind::Frame,
            1 => Kind::ExactlyOnce((id % 65_535) as u16 + 1),
            _ => Kind::Plain,
        };
        let urgent = random.below(12) == 0 && !self.never_urgent;
        let mut sent = Sent {
            kind,
            device,
            urgent,
            acknowledged: false,
            topic: format!("plant/{device}"),
            payload: vec![7; 8 + random.below(300) as usize],
            events: 1,
        };
        sent.payload[..8].copy_from_slice(&id.to_le_bytes());
        if kind == Kind::Frame {
            let name = format!("d{device}");
            let (mut topic, mut buffer) = ([0; 64], [0; 512]);
            let name = Topic { device: DeviceName::new(&name).unwrap(), leaf: Leaf::Events };
            sent.topic = name.write(&mut topic).unwrap().to_owned();
            let mut writer = FrameWriter::new(&mut buffer, 1, id as u32 * 4, 0, urgent);
            writer.push(id, 1, &id.to_le_bytes()).unwrap();
            writer.push(id + 1, 1, b"more").unwrap();
            (sent.payload, sent.events) = (writer.finish().to_vec(), 2);
        }
        self.by_payload.insert(sent.payload.clone(), id);
        self.sent.insert(id, sent);
        id
    }

    /// Puts a record into a batch, as the door does.
    pub fn push(&self, id: u64, received_ms: u64, batch: &mut Batch) {
        let sent = &self.sent[&id];
        let client = format!("c{}", sent.device);
        let record = Record {
            kind: if sent.kind == Kind::Frame { store::Kind::Frame } else { store::Kind::Opaque },
            events: sent.events,
            qos: 0,
            urgent: sent.urgent,
            received_ms,
            client: &client,
            topic: &sent.topic,
            payload: &sent.payload,
            ..Record::default()
        };
        match sent.kind {
            Kind::ExactlyOnce(packet_id) => batch.push_exactly_once(&record, packet_id),
            Kind::Plain | Kind::Frame => batch.push(&record),
        }
    }

    pub fn appended(&mut self, end_ticket: u64, ids: &[u64]) {
        self.waiting.push_back((end_ticket, ids.to_vec()));
    }

    /// The store refused them, and whoever sent them knows it.
    pub fn refused(&mut self, ids: &[u64]) {
        for id in ids {
            if !self.sent[id].acknowledged {
                self.sent.get_mut(id).unwrap().kind = Kind::Plain;
            }
        }
    }

    pub fn committed(&mut self, committed: u64) {
        while let Some((_, ids)) = self.waiting.pop_front_if(|(end_ticket, _)| *end_ticket <= committed) {
            for id in ids {
                self.sent.get_mut(&id).unwrap().acknowledged = true;
            }
        }
    }

    /// What waited in the intake is gone, and the uplink stands at `released`: behind nothing that
    /// it was not given, unless the store `may_drop` what lies before it. What it drops a gap
    /// record says, which [`World::check`](super::World::check) holds against the book.
    pub fn reopened(&mut self, released: u64, may_drop: bool) {
        self.waiting.clear();
        assert!(
            may_drop || self.given.keys().next_back().is_none_or(|last| released <= last + 1),
            "the cursor stands at {released}, and nothing behind {:?} was ever given",
            self.given.keys().next_back()
        );
    }

    /// What devices send again.
    pub fn unacknowledged(&self) -> Vec<u64> {
        let waits = self.sent.iter().filter(|(_, sent)| !sent.acknowledged && sent.kind != Kind::Plain);
        waits.map(|(id, _)| *id).collect()
    }

    /// A reader was given a record: which one, or none for a record of the store's own.
    pub fn given(&mut self, offset: u64, record: &Record<'_>) -> Option<(u64, u64)> {
        let known = self.given.entry(offset).or_insert_with(|| record.payload.to_vec());
        assert_eq!(known, record.payload, "offset {offset} was another record before");
        if record.topic == gap::TOPIC {
            return None;
        }
        let id = *self.by_payload.get(record.payload).expect("a record that nobody sent");
        let sent = &self.sent[&id];
        assert_eq!((record.topic, record.urgent), (sent.topic.as_str(), sent.urgent), "record {id}");
        Some((offset, id))
    }

    /// The uplink has delivered all that it was given before `offset`.
    pub fn delivered(&mut self, offset: u64) {
        for payload in self.given.range(..offset).map(|(_, payload)| payload) {
            self.delivered.extend(self.by_payload.get(payload));
        }
    }

    pub fn acknowledged(&self) -> usize {
        self.sent.values().filter(|sent| sent.acknowledged).count()
    }

    /// Holds all that is not delivered against what was promised.
    pub fn check(&self, found: &[(u64, u64)], gaps: &[gap::Gap]) {
        let mut last: HashMap<u64, u64> = HashMap::new();
        let mut there = BTreeSet::new();
        for (offset, id) in found {
            let sent = &self.sent[id];
            assert!(there.insert(*id), "record {id} ({:?}) is there twice, again at {offset}", sent.kind);
            if sent.kind == Kind::Plain {
                let before = last.insert(sent.device, *id);
                assert!(before.is_none_or(|before| before < *id), "record {id} comes after {before:?}");
            }
        }
        let missing = self
            .sent
            .iter()
            .filter(|(id, sent)| sent.acknowledged && !there.contains(id) && !self.delivered.contains(id));
        let missing: Vec<_> = missing.collect();
        let counted: Option<u64> = gaps.iter().flat_map(|gap| &gap.uplinks).map(|lost| lost.events).sum();
        let events: u64 = missing.iter().map(|(_, sent)| u64::from(sent.events)).sum();
        assert!(
            counted.is_none_or(|counted| events <= counted),
            "acknowledged and missing: {:?}; gap records count {counted:?} events",
            missing.iter().map(|(id, sent)| (id, sent.kind)).collect::<Vec<_>>()
        );
        for (id, sent) in missing {
            let of_full_store = gaps.iter().all(|gap| gap.reason == gap::Reason::StoreFull);
            assert!(!(sent.urgent && of_full_store), "the urgent record {id} was dropped");
        }
    }
}

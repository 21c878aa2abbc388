//! All devices together, and the gateway's clock: what following the log makes of it. Pure.
//!
//! Limits: [`DEVICES_MAX`] devices. Records of others are counted, and their devices are not known
//! here; nothing else depends on it. A topic outside of `tg/` is no device's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tidegate_protocol::{Birth, FrameHead, Leaf, Status, Topic};

use super::{
    device::{Device, Reused},
    faults::Sent,
    frame::FrameTimes,
    presence::Presence,
    time::Stamp,
};
use crate::{
    clock::{
        Journal, Reading, Timeline,
        journal::{Located, Seen},
    },
    store::{Kind, Record},
};

/// Devices that are known.
pub const DEVICES_MAX: usize = 12_000;

/// What following the log made of it.
#[derive(Debug, Default)]
pub struct State {
    devices: HashMap<Box<str>, Device>,
    timeline: Timeline,
    /// The timeline's, as of the last look: nothing is locked to use it.
    journal: Arc<Journal>,
    /// The log was followed from its first record on.
    has_past: bool,
    /// Records of devices beyond the limit.
    untracked: u64,
    changed: HashSet<Box<str>>,
    is_journal_changed: bool,
}

/// What a record was.
#[derive(Debug)]
pub enum Applied<'a> {
    /// Nothing that anybody has to look at.
    Nothing,
    /// A birth.
    Birth {
        /// Whose.
        device: &'a str,
        /// What it says.
        birth: Birth<'a>,
    },
    /// A frame.
    Frame {
        /// Whose.
        device: &'a str,
        /// The fingerprint of its kinds.
        schema_set: u32,
        /// Its boot.
        boot: u32,
        /// What it has of numbers that were used before.
        reused: Reused,
    },
    /// A reply, which may be to a command.
    Reply {
        /// Whose.
        device: &'a str,
    },
    /// Something that cannot be read.
    Malformed {
        /// Whose.
        device: &'a str,
        /// What it should be.
        sent: Sent,
        /// What is wrong with it, and where.
        why: String,
        /// How often that happened with this device; 0 of one beyond the limit.
        times: u64,
        /// It is the first of its kind since the start, or the 1st, 2nd, 4th, 8th of all.
        is_reported: bool,
    },
}

/// Sums over all devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Devices known.
    pub devices: u64,
    /// Of them, those that are online.
    pub online: u64,
    /// Events that devices told as lost.
    pub lost: u64,
    /// Events missing.
    pub missing: u64,
    /// Events that came late.
    pub late: u64,
    /// Records of devices beyond the limit, since this process began.
    pub untracked: u64,
}

impl State {
    /// The state that was kept, with the gateway's timeline.
    #[must_use]
    pub fn new(devices: HashMap<Box<str>, Device>, timeline: Timeline, has_past: bool) -> Self {
        Self { devices, journal: timeline.journal(), timeline, has_past, ..Self::default() }
    }

    /// Gives the timeline what was kept of it, by a first look at the clocks.
    pub fn begin(&mut self, journal: Journal, reading: &Reading, end: u64) {
        self.is_journal_changed = self.timeline.begin(journal, reading, end) != Seen::Same;
        self.journal = self.timeline.journal();
    }

    /// Notes a look at the clocks, while the log ends at `end`.
    pub fn look(&mut self, reading: &Reading, end: u64) -> Seen {
        // Let go of first: a look at what is shared copies it.
        self.journal = Arc::default();
        let seen = self.timeline.look(reading, end);
        self.journal = self.timeline.journal();
        self.is_journal_changed |= seen != Seen::Same;
        seen
    }

    /// Takes a record in.
    pub fn apply<'a>(&mut self, offset: u64, record: &Record<'a>) -> Applied<'a> {
        let Ok(Topic { device, leaf }) = Topic::parse(record.topic) else { return Applied::Nothing };
        let name = device.as_str();
        let received = self.journal.locate(offset, record.received_ms);
        let has_past = self.has_past;
        match leaf {
            Leaf::Birth => match Birth::parse(record.payload) {
                Ok(birth) => {
                    self.with_device(name, |device| device.note_birth(&birth, received));
                    Applied::Birth { device: name, birth }
                }
                // A retained message is taken away by an empty one.
                Err(_) if record.payload.is_empty() => Applied::Nothing,
                Err(why) => self.malformed(name, Sent::Birth, &why, received),
            },
            Leaf::Status => match Status::parse(record.payload) {
                Ok(status) => {
                    self.with_device(name, |device| device.note_status(&status, received));
                    Applied::Nothing
                }
                Err(_) if record.payload.is_empty() => Applied::Nothing,
                Err(why) => self.malformed(name, Sent::Status, &why, received),
            },
            Leaf::Events => match FrameHead::parse(record.payload) {
                Ok((head, _)) if record.kind == Kind::Frame => {
                    let mut reused = Reused::default();
                    self.with_device(name, |device| {
                        reused = device.note_frame(record.payload, offset, received, has_past);
                    });
                    Applied::Frame { device: name, schema_set: head.schema_set, boot: head.boot, reused }
                }
                Ok(_) => Applied::Nothing,
                Err(why) => self.malformed(name, Sent::Frame, &why, received),
            },
            Leaf::Reply => Applied::Reply { device: name },
            Leaf::Command => Applied::Nothing,
        }
    }

    fn malformed<'a>(
        &mut self,
        device: &'a str,
        sent: Sent,
        why: &dyn std::fmt::Display,
        received: Option<Located>,
    ) -> Applied<'a> {
        let (why, mut noted) = (why.to_string(), (0, false));
        self.with_device(device, |known| noted = known.note_fault(sent, why.clone(), received));
        let (times, is_reported) = noted;
        Applied::Malformed { device, sent, why, times, is_reported }
    }

    /// The time of an event.
    pub fn stamp(&mut self, device: &str, boot: u32, uptime_ms: u64, offset: u64, received_ms: u64) -> Stamp {
        let mut times = self.frame(device, boot, offset, received_ms);
        let stamp = times.stamp(uptime_ms);
        self.note_given(device, &times);
        stamp
    }

    /// What is known of the times of a frame, which is of a device's boot and in the record at
    /// `offset` that says it was received at `received_ms`.
    #[must_use]
    pub fn frame(&self, device: &str, boot: u32, offset: u64, received_ms: u64) -> FrameTimes {
        let device = self.devices.get(device);
        let reuse = device.and_then(|device| device.reuse.as_ref());
        let (time, end_before_ms) = device.and_then(|device| device.time_of(boot, &self.journal)).unzip();
        FrameTimes {
            time,
            boot,
            end_before_ms: end_before_ms.flatten(),
            journal: self.journal.clone(),
            received_ms: self.received(offset, received_ms),
            reused_below: reuse.map_or(0, |reuse| reuse.below(boot, offset)),
        }
    }

    /// Times were given to events of a frame of `device`.
    pub fn note_given(&mut self, device: &str, times: &FrameTimes) {
        if let (Some(device), Some(time)) = (self.devices.get_mut(device), &times.time) {
            device.note_given(times.boot, time);
        }
    }

    /// When a record was received, by what is known of the gateway's clock now.
    #[must_use]
    pub fn received(&self, offset: u64, received_ms: u64) -> u64 {
        self.journal.received_wall_ms(offset, received_ms)
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &HashMap<Box<str>, Device> {
        &self.devices
    }

    /// The gateway's clock.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Sums over all devices, at a look at the clocks.
    #[must_use]
    pub fn totals(&self, reading: &Reading) -> Totals {
        let now = self.journal.now(reading);
        let mut totals =
            Totals { devices: self.devices.len() as u64, untracked: self.untracked, ..Totals::default() };
        for device in self.devices.values() {
            let sums = device.sums();
            totals.lost += sums.lost;
            totals.missing += sums.missing;
            totals.late += sums.late;
            totals.online += u64::from(device.presence(now) == Presence::Online);
        }
        totals
    }

    /// Whether the log was followed from its first record on.
    #[must_use]
    pub fn has_past(&self) -> bool {
        self.has_past
    }

    /// What changed since the last time this was asked: devices, and whether the journal did.
    pub fn take_changed(&mut self) -> (HashSet<Box<str>>, bool) {
        (std::mem::take(&mut self.changed), std::mem::take(&mut self.is_journal_changed))
    }

    /// What could not be kept is changed still.
    pub fn put_back(&mut self, changed: HashSet<Box<str>>, is_journal_changed: bool) {
        self.changed.extend(changed);
        self.is_journal_changed |= is_journal_changed;
    }

    /// Whether the journal waits to be kept.
    #[must_use]
    pub fn is_journal_changed(&self) -> bool {
        self.is_journal_changed
    }

    fn with_device(&mut self, name: &str, note: impl FnOnce(&mut Device)) {
        if !self.devices.contains_key(name) {
            if self.devices.len() >= DEVICES_MAX {
                self.untracked += 1;
                return;
            }
            self.devices.insert(name.into(), Device::default());
        }
        if let Some(device) = self.devices.get_mut(name) {
            note(device);
        }
        if !self.changed.contains(name) {
            self.changed.insert(name.into());
        }
    }
}

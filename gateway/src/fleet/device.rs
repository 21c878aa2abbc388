//! What is known of one device: its boots, what it lost, whether it is there. Pure.
//!
//! ```text
//!  birth  ──▶ firmware, resets, presence ┐
//!  status ──▶ presence, battery, signal  ├─▶ the boot that it is of: numbers, times, connections
//!  frame  ──▶ numbers, losses            ┘
//! ```
//! Limits: [`BOOTS_MAX`] boots each with what is theirs; older ones are sums. Frames of a boot that
//! is among the sums are counted and not looked at: a device that kept them for so long is rare.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tidegate_protocol::{
    Birth, FrameReader, State, Status,
    events::{LOSS_KIND, Loss},
};

use super::{
    faults::{Faults, Sent},
    gaps::Gaps,
    presence::{Presence, Said},
    reuse::Reuse,
    time::BootTime,
};
use crate::clock::journal::{Journal, Located, Moment};

/// Boots that are known each by itself.
pub const BOOTS_MAX: usize = 8;
/// Reasons of a reset that are counted: one for each number on the wire.
pub const RESETS: usize = 9;

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Device {
    /// Firmware, its version, its build: as the last birth says.
    pub firmware: [Box<str>; 3],
    /// Kinds of event, and their fingerprint, as the last birth says.
    pub kinds: Option<(u8, u32)>,
    /// How often it began for which reason: by the number on the wire.
    pub resets: [u32; RESETS],
    /// What it said of itself last.
    pub said: Option<Said>,
    /// When anything of it came last.
    pub heard: Option<Moment>,
    /// In percent.
    pub battery_percent: Option<u8>,
    /// In dBm.
    pub signal_dbm: Option<i8>,
    /// By when they were first heard of.
    pub boots: VecDeque<Boot>,
    /// The boots before them.
    pub older: Older,
    /// What could not be read. A row of its own part: see `saved`.
    #[serde(skip)]
    pub faults: Option<Box<Faults>>,
    /// The kinds of such things that the log was told of since the start, a bit for each.
    #[serde(skip)]
    pub reported_faults: u8,
    /// What came under numbers that were used before. Of the row's own part as well.
    #[serde(skip)]
    pub reuse: Option<Box<Reuse>>,
}

/// One boot of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Boot {
    /// Its number.
    pub boot: u32,
    /// A birth or a status of it came.
    pub is_live: bool,
    /// Why it began, by the number on the wire, once a birth said it.
    pub reset: Option<u8>,
    /// The highest connection that was heard of.
    pub connections: u32,
    /// Frames that brought something new.
    pub frames: u64,
    /// Its numbers.
    pub gaps: Gaps,
    /// When the first of it came.
    pub first: Option<Moment>,
    /// When the last of it came.
    pub last: Option<Moment>,
    /// The highest uptime of an event, in milliseconds.
    pub uptime_ms: u64,
    /// Its times.
    pub time: BootTime,
}

/// What a frame has of numbers that were used before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reused {
    /// Events.
    pub events: u32,
    /// How often the device's numbers began again, if they have just done so; else 0.
    pub times: u64,
}

/// Sums over boots that are not known each by itself any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Older {
    /// How many.
    pub boots: u64,
    /// The highest of their numbers.
    pub highest: u32,
    /// Frames.
    pub frames: u64,
    /// Events received.
    pub events: u64,
    /// Events told lost.
    pub lost: u64,
    /// Events missing.
    pub missing: u64,
    /// Events that came late.
    pub late: u64,
}

impl Device {
    /// A birth came.
    pub fn note_birth(&mut self, birth: &Birth<'_>, received: Option<Located>) {
        self.hear(received);
        self.firmware = [birth.firmware, birth.version, birth.build].map(Into::into);
        self.kinds = Some((birth.kinds.len() as u8, birth.kinds.schema_set()));
        let said = Said::new((birth.boot, birth.connection), State::Online, None, moment(received));
        self.note_said(said, true);
        let boot = self.boot_mut(birth.boot, received, 0);
        boot.note_live(birth.connection, birth.uptime_ms, birth.wall_ms, received);
        if boot.reset.replace(birth.reset.number()).is_none() {
            self.resets[usize::from(birth.reset.number()) % RESETS] += 1;
        }
    }

    /// A status came. A last will is sent by the gateway, at the end of a connection.
    pub fn note_status(&mut self, status: &Status, received: Option<Located>) {
        let is_will = status.state == State::Offline;
        let named = (status.boot, status.connection);
        let said = Said::new(named, status.state, status.next_contact_s, moment(received));
        if self.note_said(said, false) && !is_will {
            self.battery_percent = status.battery_percent.or(self.battery_percent);
            self.signal_dbm = status.signal_dbm.or(self.signal_dbm);
        }
        if is_will && self.boot(status.boot).is_none() {
            return;
        }
        let boot = self.boot_mut(status.boot, received, 0);
        if is_will {
            boot.time.note_bound(status.uptime_ms, received);
        } else {
            boot.note_live(status.connection, status.uptime_ms, status.wall_ms, received);
            self.hear(received);
        }
    }

    /// Something came that cannot be read. Gives how often that happened by now.
    pub fn note_fault(&mut self, sent: Sent, why: String, received: Option<Located>) -> (u64, bool) {
        self.hear(received);
        let count = self.faults.as_ref().map_or(0, |faults| faults.count).saturating_add(1);
        self.faults = Some(Box::new(Faults { count, sent, why: why.into(), at: moment(received) }));
        let is_new = self.reported_faults & sent.bit() == 0;
        self.reported_faults |= sent.bit();
        (count, is_new || count.is_power_of_two())
    }

    /// A frame came, in the record at `offset`. `has_past`: whether its boot is known from its
    /// first number on. Gives what it has of numbers that were used before.
    pub fn note_frame(
        &mut self,
        frame: &[u8],
        offset: u64,
        received: Option<Located>,
        has_past: bool,
    ) -> Reused {
        let Ok(mut reader) = FrameReader::new(frame) else { return Reused::default() };
        self.hear(received);
        let head = reader.head();
        let numbers = head.first_seq..head.first_seq + u32::from(head.count);
        if self.boot(head.boot).is_none() && self.older.boots > 0 && head.boot <= self.older.highest {
            self.older.frames += 1;
            self.older.events += u64::from(head.count);
            return Reused::default();
        }
        let is_first = self.boots.is_empty() && !has_past;
        let from = if is_first { head.first_seq } else { 0 };
        let boot = self.boot_mut(head.boot, received, from);
        let before = boot.gaps.highest().map_or(0, |highest| highest + 1);
        let brought = boot.gaps.receive(numbers.clone());
        if brought.new > 0 {
            boot.note_events(&mut reader, received);
        }
        if brought.again == 0 {
            return Reused::default();
        }
        let reuse = self.reuse.get_or_insert_default();
        let began = reuse.note(head.boot, offset, before, numbers.end, brought.again, moment(received));
        Reused { events: brought.again, times: if began { reuse.times } else { 0 } }
    }

    /// What is known of the time of a boot, and a time by the wall clock before which it cannot
    /// have begun.
    #[must_use]
    pub fn time_of(&self, boot: u32, journal: &Journal) -> Option<(BootTime, Option<i64>)> {
        let before = boot.checked_sub(1).and_then(|number| self.boot(number));
        let end_before_ms = before.and_then(|before| before.time.earliest_ms(before.uptime_ms, journal));
        Some((self.boot(boot)?.time.clone(), end_before_ms))
    }

    /// Times of this boot were given by a copy of what is known of it.
    pub fn note_given(&mut self, boot: u32, copy: &BootTime) {
        if let Some(boot) = self.boots.iter_mut().find(|known| known.boot == boot) {
            boot.time.note_given(copy);
        }
    }

    /// Whether it is there.
    #[must_use]
    pub fn presence(&self, now: Option<Moment>) -> Presence {
        self.said.map_or(Presence::Unknown, |said| said.presence(self.heard, now))
    }

    /// A boot that is known by itself.
    #[must_use]
    pub fn boot(&self, boot: u32) -> Option<&Boot> {
        self.boots.iter().find(|known| known.boot == boot)
    }

    /// Sums over all boots.
    #[must_use]
    pub fn sums(&self) -> Older {
        self.boots.iter().fold(self.older, |sums, boot| sums.and(boot))
    }

    fn hear(&mut self, received: Option<Located>) {
        self.heard = moment(received).or(self.heard);
    }

    /// Whether it is of now.
    fn note_said(&mut self, said: Said, is_birth: bool) -> bool {
        let was_live = self.boot(said.boot).is_some_and(|boot| boot.is_live);
        let is_news = self.said.is_none_or(|before| before.is_before(&said, is_birth, was_live));
        if is_news {
            self.said = Some(said);
        }
        is_news
    }

    /// The boot of this number, a new one if need be: then the first of the others may become a
    /// sum.
    fn boot_mut(&mut self, number: u32, received: Option<Located>, from: u32) -> &mut Boot {
        let at = self.boots.iter().position(|known| known.boot == number);
        let at = at.unwrap_or_else(|| {
            if self.boots.len() >= BOOTS_MAX
                && let Some(oldest) = self.boots.pop_front()
            {
                self.older = self.older.and(&oldest);
                self.older.boots += 1;
                self.older.highest = self.older.highest.max(oldest.boot);
            }
            let (first, gaps) = (moment(received), Gaps::beginning_at(from));
            // A boot is large and most devices have few: no room for three more is taken with the
            // first.
            self.boots.reserve_exact(1);
            self.boots.push_back(Boot { boot: number, first, last: first, gaps, ..Boot::default() });
            self.boots.len() - 1
        });
        &mut self.boots[at]
    }
}

impl Boot {
    /// Something that is sent at once came; of a connection that another has followed, it was sent
    /// again.
    fn note_live(
        &mut self,
        connection: u32,
        uptime_ms: u64,
        wall_ms: Option<u64>,
        received: Option<Located>,
    ) {
        self.is_live = true;
        if connection < self.connections {
            self.time.note_bound(uptime_ms, received);
        } else {
            self.connections = connection;
            self.time.note_live(uptime_ms, wall_ms, received);
        }
    }

    /// Events of a frame that brought something new.
    fn note_events(&mut self, reader: &mut FrameReader<'_>, received: Option<Located>) {
        self.frames += 1;
        self.last = moment(received).or(self.last);
        let (mut losses, mut uptime_ms) = (Vec::new(), reader.head().base_ms);
        while let Some(event) = reader.next_event() {
            // What cannot be read to its end says nothing.
            let Ok(event) = event else { return };
            uptime_ms = uptime_ms.max(event.uptime_ms);
            if event.kind == LOSS_KIND
                && let Ok(loss) = event.decode::<Loss>()
            {
                losses.push((loss, event.id.seq));
            }
        }
        for (loss, told_by) in losses {
            self.gaps.lose(&loss, told_by);
        }
        self.uptime_ms = self.uptime_ms.max(uptime_ms);
        self.time.note_bound(uptime_ms, received);
    }
}

impl Older {
    fn and(self, boot: &Boot) -> Self {
        Self {
            frames: self.frames + boot.frames,
            events: self.events + boot.gaps.received(),
            lost: self.lost + boot.gaps.lost_count(),
            missing: self.missing + boot.gaps.missing_count(),
            late: self.late + boot.gaps.late_count(),
            ..self
        }
    }
}

fn moment(received: Option<Located>) -> Option<Moment> {
    received.map(|located| located.moment)
}

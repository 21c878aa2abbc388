//! Which frames are stored already: the last ones of each device, by identity and content. Pure.
//!
//! A frame is a copy when device, boot and first number are those of a frame that is remembered,
//! and its CRC-32 as well. Frames are sealed once, so a frame sent again is the same to the byte.
//! The content is looked at because the promise to the device stands above the one to the cloud: a
//! device whose boot number was lost gives names a second time, and what it sends is new and must
//! be kept. And a mark of the highest number would not do: an urgent frame may overtake the ones
//! before it, and these are no copies.
//!
//! Limits: [`FRAMES_PER_DEVICE_MAX`] frames of each device, far more than one has in flight;
//! [`FRAMES_MAX`] in all, about 13 MB, where a device costs as much as [`DEVICE_FRAMES`] of them,
//! so that names made up by the million cost no more. Beyond that, or a 4th of a segment, which
//! begins with all of it, the devices that were silent longest are forgotten. The segment is that
//! of the configured room; while a write waits for space, that of the room that there is. The worst
//! that forgetting does is to store a frame again, under the same identity.

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Frames remembered of each device.
pub const FRAMES_PER_DEVICE_MAX: usize = 256;
/// Frames remembered in all.
pub const FRAMES_MAX: usize = 1024 * 1024;
/// What a frame takes, in bytes.
pub const FRAME_BYTES: usize = size_of::<Frame>();
/// What a device costs beside its frames, in frames of 12 bytes: its name, its place in the table,
/// the beginning of its queue.
const DEVICE_FRAMES: usize = 24;
/// Devices in one piece of a snapshot, so that no stored value grows large.
const DEVICES_PER_PIECE: usize = 64;

/// What tells a frame from every other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameName<'a> {
    /// The device's name.
    pub device: &'a str,
    /// Its boot.
    pub boot: u32,
    /// Sequence number of the first event.
    pub first_seq: u32,
    /// Events in the frame, at least 1.
    pub count: u8,
    /// CRC-32 of the frame's bytes.
    pub crc: u32,
}

/// What is stored already.
#[derive(Debug, Default)]
pub struct Seen {
    devices: HashMap<Box<str>, Device>,
    /// What is remembered, in frames: those of all devices, and what each device costs.
    frames: usize,
    /// Counts looks, so that the device that was silent longest can be found.
    looks: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Device {
    /// In the order of their arrival.
    frames: VecDeque<Frame>,
    /// Above the boot and number of every frame so far.
    top: (u32, u32),
    #[serde(skip)]
    looked_at: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Frame {
    boot: u32,
    first_seq: u32,
    crc: u32,
}

impl Seen {
    /// Whether `name` was seen before; it is seen from now on.
    pub fn is_copy(&mut self, name: FrameName<'_>) -> bool {
        self.looks += 1;
        self.make_room();
        if !self.devices.contains_key(name.device) {
            self.devices.insert(name.device.into(), Device::default());
            self.frames += DEVICE_FRAMES;
        }
        let Some(device) = self.devices.get_mut(name.device) else { return false };
        device.looked_at = self.looks;
        let frame = Frame { boot: name.boot, first_seq: name.first_seq, crc: name.crc };
        if device.has(frame) {
            return true;
        }
        device.top = device.top.max((name.boot, name.first_seq.saturating_add(name.count.into())));
        device.frames.push_back(frame);
        if device.frames.len() > FRAMES_PER_DEVICE_MAX {
            device.frames.pop_front();
        } else {
            self.frames += 1;
        }
        false
    }

    /// All that is known, in pieces to store.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Vec<u8>> {
        let devices: Vec<_> = self.devices.iter().collect();
        devices.chunks(DEVICES_PER_PIECE).filter_map(|piece| postcard::to_allocvec(piece).ok()).collect()
    }

    /// Takes in one piece of a snapshot; false where it is none, and then nothing is taken.
    pub fn restore(&mut self, piece: &[u8]) -> bool {
        let Ok(devices) = postcard::from_bytes::<Vec<(Box<str>, Device)>>(piece) else { return false };
        self.frames += devices.iter().map(|(_, device)| device.cost()).sum::<usize>();
        self.devices.extend(devices);
        true
    }

    /// Forgets devices until no more than `frames_max` frames are remembered, or what takes as
    /// much. Whether there was any to forget.
    pub fn keep_within(&mut self, frames_max: usize) -> bool {
        let is_over = self.frames > frames_max;
        while self.frames > frames_max {
            self.forget_quarter();
        }
        is_over
    }

    fn make_room(&mut self) {
        if self.frames >= FRAMES_MAX {
            self.forget_quarter();
        }
    }

    /// Forgets the quarter of the devices that was silent longest.
    fn forget_quarter(&mut self) {
        let mut looks: Vec<u64> = self.devices.values().map(|device| device.looked_at).collect();
        let quarter = looks.len() / 4;
        let (_, &mut limit, _) = looks.select_nth_unstable(quarter);
        self.devices.retain(|_, device| device.looked_at > limit);
        self.frames = self.devices.values().map(Device::cost).sum();
    }
}

impl Device {
    /// What it takes, in frames.
    fn cost(&self) -> usize {
        DEVICE_FRAMES + self.frames.len()
    }

    fn has(&self, frame: Frame) -> bool {
        // The usual case, the next one in order, is told without looking through the others.
        (frame.boot, frame.first_seq) < self.top && self.frames.iter().rev().any(|known| *known == frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(device: &str, boot: u32, first_seq: u32, crc: u32) -> FrameName<'_> {
        FrameName { device, boot, first_seq, count: 10, crc }
    }

    #[test]
    fn a_frame_sent_again_is_a_copy_and_an_overtaken_one_is_not() {
        let mut seen = Seen::default();
        assert!(!seen.is_copy(name("a", 1, 0, 7)));
        assert!(!seen.is_copy(name("a", 1, 20, 7)), "an urgent one overtakes");
        assert!(!seen.is_copy(name("a", 1, 10, 7)), "the overtaken one comes late");
        for first_seq in [0, 10, 20] {
            assert!(seen.is_copy(name("a", 1, first_seq, 7)));
        }
        assert!(!seen.is_copy(name("a", 2, 0, 7)), "another boot");
        assert!(!seen.is_copy(name("b", 1, 0, 7)), "another device");
    }

    #[test]
    fn a_name_given_a_second_time_to_other_content_is_no_copy() {
        let mut seen = Seen::default();
        for boot_content in [1, 2] {
            for first_seq in (0..100).step_by(10) {
                assert!(!seen.is_copy(name("a", 1, first_seq, boot_content)));
            }
        }
    }

    #[test]
    fn a_snapshot_restores_all_that_was_seen() {
        let mut seen = Seen::default();
        let names: Vec<String> = (0..1_000).map(|n| format!("device-{n}")).collect();
        for device in &names {
            seen.is_copy(name(device, 7, 0, 1));
        }
        let mut restored = Seen::default();
        for piece in seen.snapshot() {
            assert!(restored.restore(&piece));
        }
        assert!(names.iter().all(|device| restored.is_copy(name(device, 7, 0, 1))));
        assert_eq!(restored.frames, 1_000 * (1 + DEVICE_FRAMES));
        assert!(!restored.restore(&[0xff; 40]));
    }

    #[test]
    fn memory_is_bounded_and_the_silent_are_forgotten_first() {
        let mut seen = Seen::default();
        for n in 0..2 * FRAMES_PER_DEVICE_MAX as u32 {
            seen.is_copy(name("busy", 1, n * 10, 1));
        }
        assert_eq!(seen.frames, DEVICE_FRAMES + FRAMES_PER_DEVICE_MAX);
        for n in 0..FRAMES_MAX as u32 {
            seen.is_copy(name(&format!("device-{}", n / 200), 1, n * 10, 1));
        }
        assert!(seen.frames <= FRAMES_MAX);
        let last = FRAMES_MAX as u32 - 1;
        assert!(seen.is_copy(name(&format!("device-{}", last / 200), 1, last * 10, 1)), "the last is known");
        assert!(!seen.is_copy(name("device-0", 1, 0, 1)), "the first is forgotten");
    }

    #[test]
    fn names_made_up_by_the_million_take_no_more_than_their_share() {
        let mut seen = Seen::default();
        for n in 0..200_000 {
            seen.is_copy(name(&format!("made-up-{n}"), 1, 0, 1));
        }
        assert!(seen.devices.len() <= FRAMES_MAX / DEVICE_FRAMES, "{} devices", seen.devices.len());
        assert!(seen.is_copy(name("made-up-199999", 1, 0, 1)), "the last is known");
        let written: usize = seen.snapshot().iter().map(Vec::len).sum();
        assert!(written < 4 << 20, "{written} bytes in each new segment");
    }

    #[test]
    fn what_is_remembered_can_be_held_to_less() {
        let mut seen = Seen::default();
        for n in 0..1_000 {
            seen.is_copy(name(&format!("device-{n}"), 1, 0, 1));
        }
        seen.keep_within(100 * (DEVICE_FRAMES + 1));
        assert!((1..=100).contains(&seen.devices.len()), "{}", seen.devices.len());
        assert!(seen.is_copy(name("device-999", 1, 0, 1)), "the last is known");
        seen.keep_within(0);
        assert!(seen.devices.is_empty());
    }

    proptest! {
        #[test]
        fn frames_in_any_order_with_any_resends_are_stored_once(
            steps in prop::collection::vec((0u32..2, 0u32..60, 0u32..3), 1..200),
        ) {
            let (mut seen, mut reference) = (Seen::default(), std::collections::HashSet::new());
            for (boot, frame, crc) in steps {
                let copy = !reference.insert((boot, frame, crc));
                prop_assert_eq!(seen.is_copy(name("d", boot, frame * 10, crc)), copy);
            }
        }
    }
}

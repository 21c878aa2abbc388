//! Which of the records taken in are new: copies leave the rows before they are written. Pure, but
//! for what it counts.
//!
//! A frame is known by its identity and content (`seen.rs`), a QoS 2 message by its packet id
//! (`pending.rs`). QoS 2 steps are carried out in the order of their tickets, between the records
//! that they came with.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use tidegate_protocol::{FrameHead, Topic};

use super::seen::{FrameName, Seen};
use crate::{
    store::{
        intake::{batch::Op, taken::Chunk},
        record::{
            Kind, Record,
            pending::Pending,
            row::{HEAD_BYTES, Records},
        },
    },
    telemetry,
};

/// Says of each record whether it is new, and carries out the QoS 2 steps in the order of their
/// tickets.
pub struct Judge<'a> {
    /// Ids that are pending.
    pub pending: &'a mut Pending,
    /// Frames that are stored.
    pub seen: &'a mut Seen,
    /// QoS 2 steps to carry out.
    pub ops: VecDeque<(u64, Op)>,
    /// Gets the clients whose pending ids changed.
    pub changed: &'a mut BTreeSet<Box<str>>,
}

impl Judge<'_> {
    /// Takes the records out of `chunk` that are stored already.
    pub fn judge(&mut self, chunk: &mut Chunk) {
        self.release_before(chunk.first_ticket);
        let end = chunk.first_ticket + u64::from(chunk.records);
        if chunk.frames == 0 && self.ops.front().is_none_or(|(ticket, _)| *ticket >= end) {
            return;
        }
        let (mut copies, mut copied_events) = (0, 0);
        let mut kept: Vec<Range<usize>> = Vec::new();
        let mut records = Records::of(&chunk.row, chunk.first_ticket, chunk.base_ms);
        while let Some(Ok((ticket, record, place))) = records.read_next() {
            if !self.is_new(ticket, &record) {
                copies += 1;
                copied_events += u32::from(record.events);
            } else if let Some(last) = kept.last_mut().filter(|last| last.end == place.start) {
                last.end = place.end;
            } else {
                kept.push(place);
            }
        }
        if copies == 0 {
            return;
        }
        chunk.records -= copies;
        chunk.events -= copied_events;
        metrics::counter!(telemetry::DUPLICATE_EVENTS).increment(copied_events.into());
        let mut end = HEAD_BYTES;
        for place in kept {
            let bytes = place.len();
            chunk.row.copy_within(place, end);
            end += bytes;
        }
        chunk.row.truncate(end);
    }

    /// Carries out what came after the last record.
    pub fn finish(mut self) {
        self.release_before(u64::MAX);
    }

    fn is_new(&mut self, ticket: u64, record: &Record<'_>) -> bool {
        if let Some((at, Op::Receive { packet_id, .. })) = self.ops.front()
            && *at == ticket
        {
            let packet_id = *packet_id;
            self.ops.pop_front();
            if !self.pending.add(record.client, packet_id) {
                return false;
            }
            self.note_changed(record.client);
        }
        record.kind != Kind::Frame || frame_of(record).is_none_or(|frame| !self.seen.is_copy(frame))
    }

    fn note_changed(&mut self, client: &str) {
        if !self.changed.contains(client) {
            self.changed.insert(client.into());
        }
    }

    /// Carries out the steps without a record whose ticket is below `ticket`.
    fn release_before(&mut self, ticket: u64) {
        while let Some((_, op)) = self.ops.pop_front_if(|(at, _)| *at < ticket) {
            match op {
                Op::Release { client, packet_id } => {
                    if self.pending.release(&client, packet_id) {
                        self.note_changed(&client);
                    }
                }
                Op::Forget { client } => {
                    if self.pending.forget(&client) {
                        self.note_changed(&client);
                    }
                }
                Op::Receive { .. } => debug_assert!(false, "a QoS 2 record lies in a chunk"),
            }
        }
    }
}

/// What a frame's record names.
pub fn frame_of<'a>(record: &Record<'a>) -> Option<FrameName<'a>> {
    let device = Topic::parse(record.topic).ok()?.device;
    let (head, _) = FrameHead::parse(record.payload).ok()?;
    Some(FrameName {
        device: device.as_str(),
        boot: head.boot,
        first_seq: head.first_seq,
        count: head.count,
        crc: crc32fast::hash(record.payload),
    })
}

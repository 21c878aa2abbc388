//! What waits in the intake: rows to be, made of the batches as they come, and steps of QoS 2.
//!
//! Limits: the intake's, which says what is taken in.

use std::collections::VecDeque;

use super::batch::{Batch, Op};
use crate::store::record::{Record, row};

/// A record's time is kept as its low 32 bits, in milliseconds: it has to be nearer to its row's
/// base than half of that.
const BASE_REACH_MS: u64 = 1 << 30;

/// What the commit thread takes out at once.
#[derive(Debug, Default)]
pub struct Taken {
    /// Rows to be, their heads not sealed, in order.
    pub chunks: VecDeque<Chunk>,
    /// QoS 2 steps by ticket, in order.
    pub ops: VecDeque<(u64, Op)>,
    /// The first ticket that none of this has.
    pub end_ticket: u64,
    /// What it weighs.
    pub bytes: usize,
    /// It never lingers.
    pub urgent: bool,
    /// It lingers for [`HURRIED_LINGER_MAX`](super::HURRIED_LINGER_MAX) at most.
    pub hurried: bool,
}

/// A row to be.
#[derive(Debug, Default)]
pub struct Chunk {
    /// Room for the head, then records.
    pub row: Vec<u8>,
    /// Received time of the first record, wall clock, milliseconds since 1970.
    pub base_ms: u64,
    pub records: u32,
    pub events: u32,
    /// Records that are frames, whose identity has to be looked at.
    pub frames: u32,
    /// Ticket of the first record.
    pub first_ticket: u64,
}

impl Chunk {
    /// Whether a record received at `ms` can be told from the row's base. Not across a clock that
    /// was just set.
    fn is_of_the_time(&self, ms: u64) -> bool {
        self.base_ms.abs_diff(ms) < BASE_REACH_MS
    }
}

impl Taken {
    /// Nothing in it.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.ops.is_empty()
    }

    /// Whether it is worth a commit by itself.
    pub fn is_full_row(&self) -> bool {
        self.bytes >= row::ROW_BYTES_MAX
    }

    /// Takes in all of a batch, whose first ticket this is.
    pub fn take_in(&mut self, batch: &mut Batch, first_ticket: u64, bytes: usize) {
        self.bytes += bytes;
        self.urgent |= batch.is_urgent();
        self.hurried |= batch.is_hurried();
        if batch.records > 0 {
            self.take_records(batch, first_ticket);
        }
        self.ops.extend(batch.ops.drain(..).map(|(ticket, op)| (first_ticket + ticket, op)));
    }

    fn take_records(&mut self, batch: &Batch, first_ticket: u64) {
        // A ticket without a record would shift the tickets of the records behind it.
        let plain = u64::from(batch.records) == batch.tickets;
        if let Some(chunk) = self.chunks.back_mut()
            && plain
            && chunk.first_ticket + u64::from(chunk.records) == first_ticket
            && chunk.row.len() + batch.bytes.len() <= row::ROW_BYTES_MAX
            && chunk.is_of_the_time(batch.base_ms)
        {
            chunk.row.extend_from_slice(&batch.bytes);
            chunk.records += batch.records;
            chunk.events += batch.events;
            chunk.frames += batch.frames;
            return;
        }
        let mut own = batch.ops.iter().filter(|(_, op)| !matches!(op, Op::Receive { .. })).map(|(at, _)| *at);
        let mut without_record = own.next();
        let (mut at, mut ticket) = (0, 0);
        while let Some((events, size)) = Record::peek(&batch.bytes, at) {
            while without_record == Some(ticket) {
                ticket += 1;
                without_record = own.next();
            }
            let record = &batch.bytes[at..at + size];
            self.take_record(record, events, batch.base_ms, first_ticket + ticket);
            at += size;
            ticket += 1;
        }
    }

    fn take_record(&mut self, record: &[u8], events: u8, base_ms: u64, ticket: u64) {
        let fits = self.chunks.back().is_some_and(|chunk| {
            chunk.first_ticket + u64::from(chunk.records) == ticket
                && chunk.row.len() + record.len() <= row::ROW_BYTES_MAX
                && chunk.is_of_the_time(base_ms)
        });
        if !fits {
            let mut row = Vec::with_capacity(row::ROW_BYTES_MAX.max(row::HEAD_BYTES + record.len()));
            row.resize(row::HEAD_BYTES, 0);
            self.chunks.push_back(Chunk { row, base_ms, first_ticket: ticket, ..Chunk::default() });
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.row.extend_from_slice(record);
            chunk.records += 1;
            chunk.events += u32::from(events);
            chunk.frames += u32::from(Record::is_frame(record));
        }
    }
}

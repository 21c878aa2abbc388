//! What an uplink needs of the store: a reader with a durable cursor. The store's own reader is
//! one; the tests have another that keeps its records in memory.
//!
//! Limits and guarantees are those of [`store::Reader`](crate::store::Reader). Nothing is buffered
//! here.

use std::{future::Future, sync::Arc};

use super::delivery::carried::Control;
use crate::store::{Block, NewLetter, ReadError, Reader, Record, StoreIds};

/// A reader of the log with a cursor that survives.
pub trait Source: Send + Sync {
    /// A run of records.
    type Block: Send + Sync;

    /// The first offset that is not yet released.
    fn released(&self) -> u64;
    /// The offset that [`Source::next`] reads from.
    fn position(&self) -> u64;
    /// Makes `offset` the next to read.
    fn seek(&mut self, offset: u64);
    /// The block that holds the next record; waits for one. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Result<Arc<Self::Block>, ReadError>> + Send;
    /// The records of `block` from `offset` on.
    fn records_from(block: &Self::Block, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send;
    /// The offset after the last record of `block`.
    fn end(block: &Self::Block) -> u64;
    /// Copies of some records that were settled before the one at `offset`, if they are at hand,
    /// the likeliest to be taken again first. It moves nothing.
    fn controls(&self, offset: u64) -> impl Future<Output = Vec<Control>> + Send;
    /// Everything before `offset` is settled.
    fn release(&mut self, offset: u64);
    /// Makes dead letters, all of them or none: durable when this returns.
    fn put_dead_letters(
        &self,
        letters: Arc<Vec<NewLetter>>,
    ) -> impl Future<Output = Result<(), ReadError>> + Send;
    /// What records are named after that have no name of their own.
    fn ids(&self) -> &StoreIds;
}

impl Source for Reader {
    type Block = Block;

    fn released(&self) -> u64 {
        Reader::released(self)
    }

    fn position(&self) -> u64 {
        Reader::position(self)
    }

    fn seek(&mut self, offset: u64) {
        Reader::seek(self, offset);
    }

    fn next(&mut self) -> impl Future<Output = Result<Arc<Block>, ReadError>> + Send {
        Reader::next(self)
    }

    fn records_from(block: &Block, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send {
        block.records_from(offset)
    }

    fn end(block: &Block) -> u64 {
        block.end()
    }

    async fn controls(&self, offset: u64) -> Vec<Control> {
        let blocks = Reader::before(self, offset).await;
        Control::newest(
            blocks.iter().flat_map(|block| block.records_from(0)).filter(|(found, _)| *found < offset),
        )
    }

    fn release(&mut self, offset: u64) {
        Reader::release(self, offset);
    }

    fn put_dead_letters(
        &self,
        letters: Arc<Vec<NewLetter>>,
    ) -> impl Future<Output = Result<(), ReadError>> + Send {
        Reader::add_dead_letters(self, letters)
    }

    fn ids(&self) -> &StoreIds {
        Reader::ids(self)
    }
}

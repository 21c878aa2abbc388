//! A source whose events are given only once the fleet knows them: an event is described by what
//! came before it.
//!
//! It waits for the fleet and for nothing else: the fleet reads the log as fast as it grows.

use std::{future::Future, sync::Arc};

use tokio::sync::watch;

use super::{delivery::carried::Control, source::Source};
use crate::store::{NewLetter, ReadError, Record, StoreIds};

/// A source behind the fleet.
pub struct FleetGate<S: Source> {
    source: S,
    /// Everything before it is known.
    known_to: watch::Receiver<u64>,
    /// Read, and not known yet.
    held: Option<Arc<S::Block>>,
}

impl<S: Source> FleetGate<S> {
    /// `source`, as far as everything before `known_to` goes.
    pub fn new(source: S, known_to: watch::Receiver<u64>) -> Self {
        Self { source, known_to, held: None }
    }
}

impl<S: Source> Source for FleetGate<S> {
    type Block = S::Block;

    fn released(&self) -> u64 {
        self.source.released()
    }

    fn position(&self) -> u64 {
        self.source.position()
    }

    fn seek(&mut self, offset: u64) {
        self.held = None;
        self.source.seek(offset);
    }

    async fn next(&mut self) -> Result<Arc<S::Block>, ReadError> {
        let block = match &self.held {
            Some(block) => block.clone(),
            None => {
                let block = self.source.next().await?;
                self.held = Some(block.clone());
                block
            }
        };
        let end = S::end(&block);
        self.known_to.wait_for(|known_to| *known_to >= end).await.map_err(|_| ReadError::Closed)?;
        self.held = None;
        Ok(block)
    }

    fn records_from(block: &S::Block, offset: u64) -> impl Iterator<Item = (u64, Record<'_>)> + Send {
        S::records_from(block, offset)
    }

    fn end(block: &S::Block) -> u64 {
        S::end(block)
    }

    fn controls(&self, offset: u64) -> impl Future<Output = Vec<Control>> + Send {
        self.source.controls(offset)
    }

    fn release(&mut self, offset: u64) {
        self.source.release(offset);
    }

    fn put_dead_letters(
        &self,
        letters: Arc<Vec<NewLetter>>,
    ) -> impl Future<Output = Result<(), ReadError>> + Send {
        self.source.put_dead_letters(letters)
    }

    fn ids(&self) -> &StoreIds {
        self.source.ids()
    }
}

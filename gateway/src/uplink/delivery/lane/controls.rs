//! Finds controls: events that may show whether the upstream takes any.
//!
//! Limits: [`LOOKED_AT_MAX`] events behind the head are looked at, and [`FOUND_BEHIND_MAX`] of them
//! taken; those before it are limited by their source.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::{
    super::{broken::Broken, carried::Control, poison::causes::Features},
    Duration, Lane,
};
use crate::uplink::{engine::Connection, source::Source};

/// How long to look for the next event behind the head.
const LOOK_BEHIND_MAX: Duration = Duration::from_millis(50);
/// Events behind the head that are looked at for a control.
const LOOKED_AT_MAX: usize = 1000;
/// Controls that are found behind the head at the most.
const FOUND_BEHIND_MAX: usize = 64;

impl<S: Source, C: Connection> Lane<'_, S, C> {
    /// Events that may show whether the upstream takes any: some of those before the head, the
    /// newest first, and some of those behind it.
    pub(super) async fn find_controls(&mut self) -> Result<Vec<Control>, Broken> {
        let head = self.shared.source.released();
        let mut found = self.shared.source.controls(head).await;
        found.retain(|control| !self.shared.carried.is_counted(control.offset));
        let mut before = found.into_iter();
        let mut behind = self.find_behind(head).await?.into_iter();
        let mut turns = Vec::new();
        // In turns: neither side may be all of what the upstream does not take.
        loop {
            match (before.next(), behind.next()) {
                (None, None) => break,
                (one, other) => turns.extend(one.into_iter().chain(other)),
            }
        }
        // What is like a proven cause comes last: it may be sound all the same.
        let (causes, now) = (self.shared.poison.causes(), self.now);
        turns.sort_by_key(|control| {
            control.record().is_none_or(|record| causes.foresees(&Features::of(&record), now))
        });
        Ok(turns)
    }

    /// Events behind the head, at most [`FOUND_BEHIND_MAX`]: the first of each other device, which
    /// keeps its order, then the first on each topic, then any. What the upstream takes of the
    /// latter is out of order if the head is sound after all.
    async fn find_behind(&mut self, head: u64) -> Result<Vec<Control>, Broken> {
        let (mut devices, mut topics, mut at, mut looked_at) = (BTreeSet::new(), BTreeSet::new(), head, 0);
        let (mut firsts, mut others, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        while looked_at < LOOKED_AT_MAX && firsts.len() < FOUND_BEHIND_MAX {
            let Ok(block) = timeout(LOOK_BEHIND_MAX, self.shared.source.next()).await else { break };
            let block = block?;
            let records = S::records_from(&block, at).filter(|(_, record)| !record.local);
            for (offset, record) in records.take(LOOKED_AT_MAX - looked_at) {
                looked_at += 1;
                let is_settled =
                    self.shared.carried.is_counted(offset) || self.shared.carried.is_acked(offset);
                // The head waits before all others of its device.
                if looked_at > 1 && is_settled {
                    continue;
                }
                let is_first = devices.insert(record.device().to_owned());
                let is_on_new_topic = topics.insert((record.device().to_owned(), record.topic.to_owned()));
                let list = match (is_first, is_on_new_topic) {
                    (true, _) => &mut firsts,
                    (false, true) => &mut others,
                    (false, false) => &mut rest,
                };
                if looked_at > 1 && list.len() < FOUND_BEHIND_MAX {
                    let control = Control::new(offset, &record);
                    list.extend(control.map(|control| if is_first { control } else { control.ahead() }));
                }
            }
            at = S::end(&block);
        }
        self.shared.source.seek(head);
        let mut found: Vec<_> = [firsts, others, rest].into_iter().flat_map(spread).collect();
        found.truncate(FOUND_BEHIND_MAX);
        Ok(found)
    }
}

/// The same controls, each second step twice as far as the one before: bad events often lie side by
/// side.
fn spread(controls: Vec<Control>) -> Vec<Control> {
    let (mut near, mut far, mut step) = (Vec::new(), Vec::new(), 1);
    for (index, control) in controls.into_iter().enumerate() {
        if index + 1 == step {
            step *= 2;
            near.push(control);
        } else {
            far.push(control);
        }
    }
    near.extend(far);
    near
}

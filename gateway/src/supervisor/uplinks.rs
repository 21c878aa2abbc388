//! Starts the uplinks: for each its task, one for the commands that come by it, and one for what
//! waits for births at any of them.

use std::sync::Arc;

use super::task::{Failure, Task};
use crate::{
    store::Store,
    uplink::{self, EventContext, Pause, Replays},
};

/// Starts the uplinks and what goes with them; gives their tasks, and where each leads and how it
/// does.
pub(super) fn spawn(
    settings: Vec<uplink::Settings>,
    store: &Store,
    knowledge: &EventContext,
    replays: &Replays,
    failure: &Failure,
) -> (Vec<Task>, Vec<(String, Arc<uplink::Health>)>) {
    let (view, outbox) = (store.view(), store.outbox());
    let retry_after_births = {
        let (settings, replays, knowledge) = (settings.clone(), replays.clone(), knowledge.clone());
        |stop| uplink::retry_after_births(settings, view, replays, knowledge, stop)
    };
    let mut tasks = vec![Task::spawn("what waits for births".into(), failure, retry_after_births)];
    let mut health = Vec::new();
    for uplink in settings {
        let reader = store.reader(&uplink.name).expect("invariant: the store was opened with this name");
        let name = format!("uplink {}", uplink.name);
        let (shared, pause) = (Arc::new(uplink::Health::default()), Pause::new(Some(reader.watch_pause())));
        health.push((uplink.upstream.url(), shared.clone()));
        if uplink.commands.is_some() {
            let (uplink, outbox, shared) = (uplink.clone(), outbox.clone(), shared.clone());
            let name = format!("the commands of {name}");
            tasks.push(Task::spawn(name, failure, |stop| {
                uplink::receive(uplink, outbox, shared, pause, stop)
            }));
        }
        let knowledge = knowledge.clone();
        tasks.push(Task::spawn(name, failure, |stop| uplink::run(uplink, reader, knowledge, shared, stop)));
    }
    (tasks, health)
}

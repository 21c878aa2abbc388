//! A room's task: it ends when it is told to, and if it ends otherwise, by a panic too, the gateway
//! has failed.
//!
//! It does not start a room again: what a room lost by ending is known to a new process only.

use std::time::Duration;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Why the gateway cannot go on; the first reason stays.
pub(super) type Failure = watch::Sender<Option<String>>;

/// A room's task, running.
#[derive(Debug)]
pub(super) struct Task {
    name: String,
    pub(super) stop: CancellationToken,
    handle: JoinHandle<()>,
}

impl Task {
    /// Starts a room, which gets the token that will stop it.
    pub(super) fn spawn<F>(name: String, failure: &Failure, run: impl FnOnce(CancellationToken) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = CancellationToken::new();
        let ended = Ended { name: name.clone(), stop: stop.clone(), failure: failure.clone() };
        let room = run(stop.clone());
        let handle = tokio::spawn(async move {
            let _ended = ended;
            room.await;
        });
        Self { name, stop, handle }
    }

    /// Stops the room; after `grace` it is cut off.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(grace, &mut self.handle).await.is_err() {
            tracing::warn!("{} did not stop within {grace:?}: it is cut off", self.name);
            self.handle.abort();
            let _ = self.handle.await;
        }
    }
}

/// Dropped when a task ends, by a panic too.
#[derive(Debug)]
struct Ended {
    name: String,
    stop: CancellationToken,
    failure: Failure,
}

impl Drop for Ended {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            fail(&self.failure, format!("{} ended by itself: this is a defect, please report it", self.name));
        }
    }
}

/// Keeps the first reason.
pub(super) fn fail(failure: &Failure, reason: String) {
    failure.send_if_modified(|current| {
        let first = current.is_none();
        current.get_or_insert(reason);
        first
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_by_itself_or_panics_is_a_failure_and_one_that_was_stopped_is_not() {
        for (panics, stops, reason) in [(false, true, false), (false, false, true), (true, false, true)] {
            let (failure, mut seen) = watch::channel(None);
            let task = Task::spawn("a room".into(), &failure, |stop| async move {
                assert!(!panics, "on purpose");
                if stops {
                    stop.cancelled().await;
                }
            });
            if stops {
                task.stop(Duration::from_secs(5)).await;
                assert_eq!(failure.borrow().is_some(), reason);
            } else {
                let said = tokio::time::timeout(Duration::from_secs(5), seen.wait_for(Option::is_some)).await;
                assert!(said.unwrap().unwrap().as_ref().unwrap().starts_with("a room ended by itself"));
            }
        }
    }
}

//! Replays: events that are sent again beside live traffic, on a connection of their own.
//!
//! ```text
//!  store ─┬─ Reader, durable cursor ───────▶ lane ─▶ upstream      live: is not touched
//!         └─ feed ─▶ ReplaySource ─▶ lane ─▶ upstream              client id with -replay-ID behind it
//!              └ short looks, picked by time, device, kind
//! ```
//! Every event goes out with the id that it had, and where the engine carries headers, with
//! `tidegate-replayed` and the replay's own id. MQTT 3.1.1 has no room for a mark. None is to be
//! retained: the upstream may have a newer state by now. An event that the upstream cannot take
//! becomes a dead letter, like any other. A connection that breaks is made again with the uplink's
//! back-off.
//!
//! Limits: [`REPLAYS_MAX`] at a time; the last [`REMEMBERED_MAX`] that ended can be asked for.
//! Crash story: a replay lives in memory. When the gateway stops it ends, and what was not
//! acknowledged by then was perhaps sent and perhaps not: starting it again sends copies with the
//! same ids.
//!
//! It never moves a live cursor and never writes an event, dead letters apart.

mod feed;
mod letters;
mod pace;
mod picked;
mod progress;
mod request;
mod source;

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    feed::{Feed, LogFeed},
    letters::LettersFeed,
    pace::Pace,
    progress::Counts,
    source::ReplaySource,
};
pub use self::{
    progress::{Counted, FOUND_MAX, Found, Progress, State},
    request::{KindName, Letters, Refused, Request, Stored, What},
};
use super::{
    delivery::forward,
    format::{EventContext, Format},
    health::{Health, Tally},
    pause::Pause,
    settings::Settings,
    source::Source as _,
};
use crate::{
    clock,
    store::{ReadError, View},
};

/// Replays at a time.
pub const REPLAYS_MAX: usize = 4;
/// Replays that ended and can still be asked for.
pub const REMEMBERED_MAX: usize = 16;

/// All replays of a gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Replays {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    view: View,
    uplinks: Vec<Settings>,
    context: EventContext,
    jobs: Mutex<Jobs>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Jobs {
    /// Oldest first.
    all: VecDeque<Arc<Job>>,
    last_id: u64,
}

/// One replay.
#[derive(Debug)]
struct Job {
    id: String,
    request: Request,
    started_ms: u64,
    counts: Arc<Counts>,
    health: Health,
    stop: CancellationToken,
    ended: Mutex<Option<Ended>>,
}

#[derive(Debug, Clone)]
struct Ended {
    at_ms: u64,
    state: State,
    failure: Option<String>,
}

impl Replays {
    /// None yet, over the store of `view` and by these uplinks.
    #[must_use]
    pub fn new(view: View, uplinks: Vec<Settings>, context: EventContext) -> Self {
        let (jobs, tasks, stop) = (Mutex::default(), TaskTracker::new(), CancellationToken::new());
        Self { inner: Arc::new(Inner { view, uplinks, context, jobs, tasks, stop }) }
    }

    /// Starts one, within the runtime, and gives its first progress.
    ///
    /// # Errors
    /// [`Refused`]: nothing was started.
    pub fn start(&self, request: Request) -> Result<Progress, Refused> {
        let inner = &self.inner;
        let uplink = inner.uplinks.iter().find(|uplink| uplink.name == request.uplink);
        let Some(uplink) = uplink else {
            let known = inner.uplinks.iter().map(|uplink| uplink.name.clone()).collect();
            return Err(Refused::UnknownUplink { name: request.uplink, known });
        };
        request.check()?;
        if !request.dry_run && Pause::new(inner.view.watch_pause(&uplink.name)).since_ms().is_some() {
            return Err(Refused::Paused { name: request.uplink });
        }
        let job = {
            let mut jobs = inner.jobs.lock();
            if inner.stop.is_cancelled() {
                return Err(Refused::Stopping);
            }
            let running = jobs.running();
            if running >= REPLAYS_MAX {
                return Err(Refused::TooMany { running });
            }
            jobs.add(request, inner.stop.child_token())
        };
        tracing::info!(uplink = %job.request.uplink, replay = %job.id, "a replay begins: {:?}", job.request.what);
        inner.tasks.spawn(job.clone().run(inner.view.clone(), uplink.clone(), inner.context.clone()));
        Ok(job.progress())
    }

    /// How far the replay of this id is; `None` if there is none, or not any more.
    #[must_use]
    pub fn progress(&self, id: &str) -> Option<Progress> {
        self.job(id).map(|job| job.progress())
    }

    /// All that are known, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Progress> {
        self.inner.jobs.lock().all.iter().map(|job| job.progress()).collect()
    }

    /// Ends a replay soon: what is in flight is waited for as in a shutdown. One that has ended
    /// stays as it is.
    #[must_use]
    pub fn cancel(&self, id: &str) -> Option<Progress> {
        let job = self.job(id)?;
        job.stop.cancel();
        Some(job.progress())
    }

    /// Ends all of them, and waits up to `grace`. Says whether all have ended.
    pub async fn stop(&self, grace: Duration) -> bool {
        {
            // Under the lock, so that none is started behind it.
            let _jobs = self.inner.jobs.lock();
            self.inner.stop.cancel();
        }
        self.inner.tasks.close();
        tokio::time::timeout(grace, self.inner.tasks.wait()).await.is_ok()
    }

    fn job(&self, id: &str) -> Option<Arc<Job>> {
        self.inner.jobs.lock().all.iter().find(|job| job.id == id).cloned()
    }
}

impl Jobs {
    fn running(&self) -> usize {
        self.all.iter().filter(|job| job.ended.lock().is_none()).count()
    }

    /// Adds one, and forgets the oldest of those that ended.
    fn add(&mut self, request: Request, stop: CancellationToken) -> Arc<Job> {
        let started_ms = clock::wall_ms();
        // Two in the same millisecond, or a clock that was set back, make no two of one name.
        self.last_id = started_ms.max(self.last_id + 1);
        let job = Arc::new(Job {
            id: format!("{:011x}", self.last_id),
            request,
            started_ms,
            counts: Arc::default(),
            health: Health::default(),
            stop,
            ended: Mutex::default(),
        });
        while self.all.len() - self.running() >= REMEMBERED_MAX {
            let oldest = self.all.iter().position(|job| job.ended.lock().is_some());
            let Some(oldest) = oldest else { break };
            self.all.remove(oldest);
        }
        self.all.push_back(job.clone());
        job
    }
}

impl Job {
    async fn run(self: Arc<Self>, view: View, settings: Settings, context: EventContext) {
        // By a panic too: a replay that nobody works on any more has ended.
        let _ending = EndGuard(self.clone());
        let by = settings.name.clone();
        let outcome = match self.request.what.clone() {
            What::Stored(stored) => {
                let opening = {
                    let view = view.clone();
                    move || LogFeed::open(view, by, stored)
                };
                self.work(opening, &view, settings, &context).await
            }
            What::DeadLetters(letters) => {
                let opening = {
                    let view = view.clone();
                    move || LettersFeed::open(view, by, &letters)
                };
                self.work(opening, &view, settings, &context).await
            }
        };
        let cancelled = self.stop.is_cancelled();
        let (state, failure) = match outcome {
            Ok(true) => (State::Complete, None),
            Ok(false) | Err(ReadError::Closed) if cancelled => (State::Cancelled, None),
            Ok(false) => (State::Failed, Some(ReadError::Closed.to_string())),
            Err(error) => (State::Failed, Some(error.to_string())),
        };
        self.end(state, failure);
    }

    /// Opens the feed and does with it what was asked for. Says whether all of it is done.
    async fn work<F: Feed>(
        &self,
        open: impl FnOnce() -> Result<F, ReadError> + Send + 'static,
        view: &View,
        settings: Settings,
        context: &EventContext,
    ) -> Result<bool, ReadError> {
        let feed = tokio::task::spawn_blocking(open).await.map_err(|_| ReadError::Closed)??;
        match self.request.dry_run {
            true => self.dry_run(feed).await,
            false => self.send(feed, view, settings, context).await,
        }
    }

    /// Sends what the feed holds. Says whether all of it is settled.
    async fn send<F: Feed>(
        &self,
        feed: F,
        view: &View,
        settings: Settings,
        context: &EventContext,
    ) -> Result<bool, ReadError> {
        let pace = self.request.events_per_s.map(Pace::new);
        let mut source =
            ReplaySource::new(feed, view.ids().clone(), self.counts.clone(), pace, self.stop.clone());
        let has_any = tokio::select! {
            () = self.stop.cancelled() => return Ok(false),
            has_any = source.has_any() => has_any?,
        };
        if has_any {
            let format = Format::new(&settings, source.ids(), context).marked(&self.id);
            let tally = Tally::replay(&settings.name, &self.health);
            let pause = Pause::new(view.watch_pause(&settings.name));
            let settings = settings.of_replay(&self.id);
            source = Box::pin(forward(settings, source, format, tally, pause, &self.stop)).await;
        }
        source.finish().await
    }

    /// Counts what the feed holds, by device and kind.
    async fn dry_run<F: Feed>(&self, feed: F) -> Result<bool, ReadError> {
        let (counts, stop) = (self.counts.clone(), self.stop.clone());
        let counting = tokio::task::spawn_blocking(move || {
            counts.total_bytes.store(feed.total_bytes(), Relaxed);
            let mut at = feed.begin();
            while !stop.is_cancelled() {
                let look = feed.look(at, u64::MAX)?;
                for (_, record) in look.picked.iter().flat_map(|picked| picked.records_from(0)) {
                    counts.matched_events.fetch_add(record.events.into(), Relaxed);
                    counts.found(record.device(), record.kind.into(), record.events.into());
                }
                counts.unreadable_segments.fetch_add(look.unreadable.into(), Relaxed);
                counts.gone_records.fetch_add(look.gone_records, Relaxed);
                if let Some(bytes) = look.scanned_bytes {
                    counts.scanned_bytes.fetch_max(bytes, Relaxed);
                }
                if look.ended {
                    return Ok(true);
                }
                at = look.next;
            }
            Ok(false)
        });
        counting.await.map_err(|_| ReadError::Closed)?
    }

    fn end(&self, state: State, failure: Option<String>) {
        let at_ms = clock::wall_ms();
        let mut ended = self.ended.lock();
        if ended.is_none() {
            let (uplink, replay) = (&self.request.uplink, &self.id);
            let why = failure.as_deref().unwrap_or("-");
            tracing::info!(%uplink, %replay, why, "a replay ended: {state:?}");
            *ended = Some(Ended { at_ms, state, failure });
        }
    }

    fn progress(&self) -> Progress {
        // First, so that what is said to have ended shows its last counts.
        let ended = self.ended.lock().clone();
        let health = self.health.view();
        Progress {
            id: self.id.clone(),
            request: self.request.clone(),
            started_ms: self.started_ms,
            ended_ms: ended.as_ref().map(|ended| ended.at_ms),
            state: ended.as_ref().map_or(State::Running, |ended| ended.state),
            failure: ended.and_then(|ended| ended.failure),
            connected: health.connected,
            last_error: health.last_error,
            counted: Counted {
                acknowledged_events: health.delivered_events,
                set_aside_events: health.set_aside_events,
                ..self.counts.view()
            },
        }
    }
}

/// Ends a job whose task ends.
struct EndGuard(Arc<Job>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end(State::Failed, Some("it ended by itself: this is a defect, please report it".to_owned()));
    }
}

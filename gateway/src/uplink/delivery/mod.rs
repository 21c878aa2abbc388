//! One uplink's connections, one after the other: attempts, waits, and what follows from how each
//! ended.
//!
//! ```text
//!  source ─▶ lane ─▶ engine's connection ─▶ upstream
//!     ▲        │
//!     └─ release on acknowledgement
//!
//!  mod.rs       what survives a connection; the plan and the wait before the next one
//!  ├ attempt.rs making a connection, and why there is none, in words
//!  ├ lane/      one connection at work
//!  ├ poison/    who is blamed for a connection that failed
//!  ├ pace/      how fast and how much at once; pure
//!  ├ hold.rs    what waits for the uplink's hours, or while it is paused ─ hours.rs
//!  └ pure: window.rs · deadlines.rs · patience.rs · retry.rs · carried.rs · will.rs
//! ```

pub mod attempt;
pub mod broken;
pub mod carried;
pub mod deadlines;
mod hold;
pub mod hours;
mod lane;
pub mod pace;
pub mod patience;
pub mod poison;
pub mod retry;
mod will;
mod window;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use self::{
    broken::Broken,
    carried::Carried,
    hold::Hold,
    lane::{Lane, Shared, Trace},
    pace::Pace,
    patience::Experience,
    poison::{Ending, Fault, Plan, PoisonCase, causes::Features},
    retry::Backoff,
    will::WillTrial,
};
use super::{
    engine::{Connection as _, Engine, Lost, SOON, Silence, dial::Dialer, upstream::with_engine},
    format::Format,
    health::{Failures, Tally},
    outage::Span,
    pause::Pause,
    settings::Settings,
    source::Source,
};
use crate::{
    clock, presence,
    store::{NewLetter, ReadError},
};

/// The least wait before a suspected event is sent alone once more: a limit of a rate has recovered
/// by then.
const SECOND_WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait before it is tried again at an upstream that answers.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(250);
/// The same where nothing behind it can show whose fault it is: what comes meanwhile waits no
/// longer.
const LONE_WAIT_MAX: Duration = Duration::from_secs(10);
/// So many controls are tried one soon after the other; an upstream that takes none of them is left
/// in peace.
const CONTROLS_SOON: u32 = 16;
const CONTROL_WAIT_MAX: Duration = Duration::from_secs(1);
/// So many attempts in a row are made sooner than the back-off says; then none is before a
/// connection was of use.
const HURRIED_MAX: u32 = 32;

/// Forwards what `source` gives, and gives it back when there is to be no more connection.
pub async fn forward<S: Source>(
    settings: Settings,
    source: S,
    format: Format,
    tally: Tally<'_>,
    pause: Pause,
    shutdown: &CancellationToken,
) -> S {
    with_engine!(settings.upstream.clone(), engine => {
        deliver(engine, settings, source, format, tally, pause, shutdown).await
    })
}

/// The same by one engine.
async fn deliver<E: Engine, S: Source>(
    engine: E,
    settings: Settings,
    source: S,
    format: Format,
    tally: Tally<'_>,
    pause: Pause,
    shutdown: &CancellationToken,
) -> S {
    let mut uplink = Uplink {
        engine,
        backoff: Backoff::new(settings.backoff_min, settings.backoff_max, retry::seed()),
        tally,
        poison: PoisonCase::default(),
        carried: Carried::default(),
        pace: Pace::new(&settings.pace),
        experience: Experience::default(),
        connect_ended: None,
        hurried: 0,
        hold: Hold::default(),
        pause,
        will: WillTrial::default(),
        closed_soon: 0,
        failures: Failures::new(),
        dialer: Dialer::new(settings.connect_timeout),
        settings,
        source,
        format,
    };
    while uplink.wait_while_paused(shutdown).await && uplink.wait_for_hours(shutdown).await {
        if uplink.is_paused() {
            continue;
        }
        // A pause may have cut the wait before this one short.
        let apart = uplink.apart(Duration::ZERO);
        if shutdown.run_until_cancelled(tokio::time::sleep(apart)).await.is_none() {
            break;
        }
        let Some(wait) = uplink.attempt(shutdown).await else { break };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
            () = uplink.pause.begun() => {}
        }
    }
    uplink.source
}

/// What survives a connection.
struct Uplink<'a, E, S> {
    engine: E,
    dialer: Dialer,
    settings: Settings,
    source: S,
    format: Format,
    tally: Tally<'a>,
    backoff: Backoff,
    poison: PoisonCase,
    carried: Carried,
    pace: Pace,
    /// What is known of the time that acknowledgements take.
    experience: Experience,
    /// When the last connect had succeeded or failed.
    connect_ended: Option<Instant>,
    /// Attempts that were made sooner than the back-off says, since a connection was of use.
    hurried: u32,
    hold: Hold,
    pause: Pause,
    will: WillTrial,
    /// Connections in a row that the upstream closed without a word, soon after they were made.
    closed_soon: u32,
    failures: Failures,
}

impl<E: Engine, S: Source> Uplink<'_, E, S> {
    /// One connection, from its first packet to its end. Gives the wait before the next one; `None`
    /// if there is to be none.
    async fn attempt(&mut self, shutdown: &CancellationToken) -> Option<Duration> {
        let (ended, trace) = self.connect_and_forward(shutdown).await;
        if trace.is_held && !shutdown.is_cancelled() {
            self.tally.disconnected(clock::wall_ms());
            return Some(self.apart(Duration::ZERO));
        }
        let why = match ended {
            _ if shutdown.is_cancelled() => None,
            Err(Broken::Store(ReadError::Closed)) => None,
            Err(why) => Some(why),
            Ok(()) => {
                self.tally.disconnected(clock::wall_ms());
                tracing::info!(uplink = %self.settings.name, "connecting anew: its TLS files were replaced, or it is time to renew its password");
                return Some(self.apart(Duration::ZERO));
            }
        };
        let Some(why) = why else {
            self.tally.disconnected(clock::wall_ms());
            tracing::info!(uplink = %self.settings.name, "stopped at offset {}", self.source.released());
            return None;
        };
        let closed = self.note_closed(&why, &trace);
        let wait = self.wait_after(trace);
        let wait = self.apart(wait);
        let now_ms = clock::wall_ms();
        let why = attempt::explain(&self.engine, self.settings.platform, &why, closed);
        let words = self.tally.failed(now_ms, why, now_ms + wait.as_millis() as u64);
        if self.failures.add() {
            let (host, port) = self.engine.address();
            let address = self.dialer.address().map(tracing::field::display);
            tracing::warn!(
                uplink = %self.settings.name, %host, port, address,
                "{words}, and then at intervals to {}", Span(self.settings.backoff_max)
            );
        }
        Some(wait)
    }

    /// What is known of a connection that was made and that the upstream closed without a word.
    fn note_closed(&mut self, why: &Broken, trace: &Trace) -> Option<Silence> {
        let lasted = trace.lasted?;
        let is_closed = matches!(why, Broken::Lost(Lost::Closed));
        self.closed_soon = if is_closed && lasted < SOON { self.closed_soon.saturating_add(1) } else { 0 };
        let Trace { sent, took, .. } = *trace;
        is_closed.then_some(Silence::Closed { lasted, sent, took, in_a_row: self.closed_soon })
    }

    /// No less than `wait`, and so long that the platform does not refuse the next connect for
    /// coming too soon.
    fn apart(&self, wait: Duration) -> Duration {
        let next = self.connect_ended.map(|ended| ended + self.settings.platform.connects_apart);
        wait.max(next.map_or(Duration::ZERO, |next| next.saturating_duration_since(clock::monotonic())))
    }

    /// How long to wait after a connection that came so far.
    fn wait_after(&mut self, trace: Trace) -> Duration {
        // The answer to a ping behind an event that is sent alone is not yet a sign that events go
        // through.
        let went_on = trace.released || (trace.answered && !trace.was_alone);
        if went_on && self.backoff.was_of_use(trace.of_use, trace.delivered_events) {
            self.hurried = 0;
            // What a single event does is told when that becomes a dead letter.
            if trace.ending == Ending::Other {
                self.failures.clear();
            }
        } else if went_on && self.hurried < HURRIED_MAX {
            // Little came of it, but that may be what a bad event leaves of a connection.
            self.hurried += 1;
            self.backoff.reset();
        }
        let wait = self.backoff.after_failure();
        let sooner = match self.poison.plan(self.source.released(), clock::monotonic()) {
            Plan::DeadLetter { .. } if trace.sent => return Duration::ZERO,
            Plan::Alone { is_second: true } => return wait.max(SECOND_WAIT_MIN),
            Plan::Alone { .. } | Plan::Probe { .. } if trace.took => wait.min(PROBE_WAIT_MAX),
            Plan::Probe { controls_failed: 0..CONTROLS_SOON } if trace.sent => wait.min(CONTROL_WAIT_MAX),
            Plan::Probe { .. } if matches!(trace.ending, Ending::Failed { .. }) => wait.min(LONE_WAIT_MAX),
            _ => return wait,
        };
        // What is suspected again and again, and was never at fault, is the upstream's manner.
        self.hurried = self.hurried.saturating_add(1);
        if self.hurried > HURRIED_MAX { wait } else { sooner }
    }

    async fn connect_and_forward(&mut self, shutdown: &CancellationToken) -> (Result<(), Broken>, Trace) {
        let mut plan = self.poison.plan(self.source.released(), clock::monotonic());
        if let Plan::DeadLetter { fault, tries } = plan {
            if let Err(broken) = self.put_head_into_dead_letters(fault, tries, shutdown).await {
                return (Err(broken), Trace::default());
            }
            self.backoff.reset();
            self.hurried = 0;
            plan = Plan::Stream;
        }
        let head = self.source.released();
        self.source.seek(head);
        self.carried.begin(head);
        self.set_will();
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return (Ok(()), Trace::default()),
            () = self.pause.begun() => return (Ok(()), Trace { is_held: true, ..Trace::default() }),
            opened = attempt::connect(&self.engine, &mut self.dialer, self.settings.connect_timeout) => opened,
        };
        self.connect_ended = Some(clock::monotonic());
        let (connection, can) = match opened {
            Ok(opened) => opened,
            Err(broken) => {
                if broken.refuses_client() {
                    self.will.refused();
                }
                return (Err(broken), Trace::default());
            }
        };
        self.note_will();
        self.tally.connected(clock::wall_ms());
        if self.failures.connected() {
            let (host, port) = self.engine.address();
            let address = self.dialer.address().map(tracing::field::display);
            tracing::info!(
                uplink = %self.settings.name, %host, port, address, granted = connection.granted(),
                "connected, going on from offset {head}"
            );
        }
        let stop = shutdown.child_token();
        let _stale = self.dialer.cancel_when_stale(&stop);
        let paused = self.pause.cancel_when_begun(&stop);
        let experience = self.experience;
        let lane = Lane::new(self.shared(&stop), connection, can, experience);
        let (ended, mut trace) = Box::pin(lane.run(plan)).await;
        trace.is_held |= ended.is_ok() && (paused.is_finished() || self.is_paused());
        self.experience = trace.experience.after(trace.took, trace.was_fruitless);
        let doublings = self.poison.doublings();
        self.poison.ended(self.source.released(), trace.ending, clock::monotonic());
        self.tell_of_standstill(doublings);
        (ended, trace)
    }

    fn set_will(&mut self) {
        if self.settings.has_will {
            let leaves = self.will.leaves();
            let will = leaves.then(|| self.format.will(&self.settings.gateway_id, clock::wall_ms()));
            self.engine.set_will(will.flatten());
        }
    }

    /// Says that the connection that was made leaves no will, though one was asked for.
    fn note_will(&mut self) {
        if self.settings.has_will && self.will.connected() {
            tracing::warn!(
                uplink = %self.settings.name,
                "the upstream takes this client only without a last will, and it goes on without one: allow it there to publish what {} becomes",
                presence::STATUS_TOPIC
            );
        }
    }

    /// Says that nothing goes on, at the 1st, 2nd, 4th … time that the head is given twice the
    /// time; it was given it `before` times.
    fn tell_of_standstill(&self, before: u32) {
        if before.checked_ilog2() < self.poison.doublings().checked_ilog2() {
            tracing::warn!(
                uplink = %self.settings.name, offset = self.source.released(),
                "the upstream fails over this event and over others as well: nothing is set aside, and the uplink waits until it takes one of them"
            );
        }
    }

    /// Sets the record at the head aside: the upstream failed over it on `tries` connections, in
    /// this way in the end.
    async fn put_head_into_dead_letters(
        &mut self,
        fault: Fault,
        tries: u32,
        shutdown: &CancellationToken,
    ) -> Result<(), Broken> {
        let head = self.source.released();
        self.source.seek(head);
        let block = self.source.next().await?;
        // The first that there is: it was the first to be sent.
        let Some((offset, record)) = S::records_from(&block, head).next() else { return Ok(()) };
        let letter = NewLetter::new(offset, &record, fault.into(), tries);
        lane::put_dead_letters(&mut self.shared(shutdown), vec![letter]).await?;
        self.source.release(offset + 1);
        self.pace.take_back();
        if fault == Fault::Ignored {
            // Bad events often lie side by side: the next one goes out alone.
            self.carried.set_unanswered(Some(offset + 1));
        }
        self.poison.prove(&Features::of(&record), fault, clock::monotonic());
        Ok(())
    }

    fn shared<'s>(&'s mut self, shutdown: &'s CancellationToken) -> Shared<'s, S> {
        Shared {
            settings: &self.settings,
            source: &mut self.source,
            format: &mut self.format,
            tally: &self.tally,
            poison: &mut self.poison,
            carried: &mut self.carried,
            pace: &mut self.pace,
            urgent_to: self.hold.urgent_to,
            shutdown,
        }
    }
}

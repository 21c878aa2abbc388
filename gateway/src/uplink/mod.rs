//! The way out: forwards what the store holds to a cloud MQTT broker, 3.1.1 or 5, at least once.
//!
//! ```text
//!  store::Reader ─▶ lane ─▶ MQTT broker         one `run` per uplink, any number side by side
//!        ▲           │
//!        └─ release ─┘ PUBACK
//!
//!  mod.rs       attempts, waits, and what follows from how a connection ended
//!  ├ lane.rs    one connection at work ─ link.rs the socket ─ wire.rs the packets
//!  ├ commands/  commands to devices, from the upstream into the outbox, on a connection of their own
//!  ├ awaited.rs what waits for a birth, sent when it comes
//!  ├ replay/    the same with what is to be sent again, beside live traffic
//!  ├ format/    how an event is written ─ template.rs the topic ─ timestamp.rs the time
//!  ├ informed.rs a source whose events the fleet knows already
//!  └ pure: window.rs · deadlines.rs · backoff.rs · suspect.rs · reason.rs
//! ```
//! - The log is the only truth: nothing of a connection survives it. After any error everything from the
//!   released offset on is sent again, so that an event may arrive twice and none is left out. First
//!   deliveries are in the order of the log.
//! - The cursor moves over the contiguous acknowledged prefix only.
//! - One bad event never stops the ones behind it: what the upstream can not take is set aside with its reason, durably.
//! - An outage costs no memory: between connections an uplink holds no event; on one, only the blocks of what
//!   is in flight.
//!
//! It does not limit the rate of live traffic or speak TLS.

mod awaited;
mod backoff;
mod commands;
mod deadlines;
mod format;
mod health;
mod informed;
mod lane;
mod link;
mod reason;
mod replay;
mod settings;
mod source;
mod suspect;
mod template;
#[cfg(test)]
mod tests;
mod timestamp;
mod window;
mod wire;

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

pub use self::{
    awaited::send_awaited,
    commands::{CommandTopic, CommandTopicError, receive},
    format::{FormatName, Knowledge},
    health::{Health, HealthView},
    replay::{
        Counted, FOUND_MAX, Found, KindName, Letters, Progress, REMEMBERED_MAX, REPLAYS_MAX, Refused,
        Replays, Request, State, Stored, What,
    },
    settings::{
        ID_BYTES_MAX, KEEP_ALIVE_MAX, PASSWORD_BYTES_MAX, Password, Settings, SettingsError, Version,
        WINDOW_DEFAULT,
    },
    template::{TEMPLATE_BYTES_MAX, Template, TemplateError},
};
use self::{
    backoff::Backoff,
    format::Format,
    health::{Failures, Tally},
    informed::Informed,
    lane::{Lane, Shared, Trace},
    link::{Broken, Link},
    source::Source,
    suspect::{Ending, Plan, Suspect},
};
/// How numbers are written where events are described.
pub use crate::catalog::Values;
use crate::{
    clock,
    store::{ReadError, Reader},
};

/// Forwards what `reader` gives until `shutdown`, or until the store is closed.
///
/// `settings` were checked. On shutdown nothing more is sent, what is in flight has [`DRAIN`](lane::DRAIN) to be
/// acknowledged, and the reader is left released as far as the acknowledgements went.
pub async fn run(
    settings: Settings,
    reader: Reader,
    knowledge: Knowledge,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let format = Format::new(&settings, reader.ids(), &knowledge);
    let tally = Tally::new(&settings.name, &health);
    match format {
        Format::Raw(_) => drop(forward(settings, reader, format, tally, &shutdown).await),
        Format::Described(_) => {
            let source = Informed::new(reader, knowledge.fleet.position());
            drop(forward(settings, source, format, tally, &shutdown).await);
        }
    }
}

/// Forwards what `source` gives, and gives it back when there is to be no more connection.
async fn forward<S: Source>(
    settings: Settings,
    source: S,
    format: Format,
    tally: Tally<'_>,
    shutdown: &CancellationToken,
) -> S {
    let mut uplink = Uplink {
        backoff: Backoff::new(settings.backoff_min, settings.backoff_max, backoff::seed()),
        tally,
        suspect: Suspect::default(),
        failures: Failures::new(),
        settings,
        source,
        format,
    };
    while let Some(wait) = uplink.attempt(shutdown).await {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    uplink.source
}

/// What survives a connection.
struct Uplink<'a, S> {
    settings: Settings,
    source: S,
    format: Format,
    tally: Tally<'a>,
    backoff: Backoff,
    suspect: Suspect,
    failures: Failures,
}

impl<S: Source> Uplink<'_, S> {
    /// One connection, from its first packet to its end. Gives the wait before the next one; `None` if there is to be none.
    async fn attempt(&mut self, shutdown: &CancellationToken) -> Option<Duration> {
        let (ended, trace) = self.connect_and_forward(shutdown).await;
        let why = match ended {
            _ if shutdown.is_cancelled() => None,
            Err(Broken::Store(ReadError::Closed)) => None,
            Err(why) => Some(why),
            Ok(()) => None,
        };
        let Some(why) = why else {
            self.tally.disconnected(clock::wall_ms(), None);
            tracing::info!(uplink = %self.settings.name, "stopped at offset {}", self.source.released());
            return None;
        };
        if trace.released || trace.answered {
            self.backoff.reset();
            self.failures.clear();
        }
        self.tally.disconnected(clock::wall_ms(), Some(&why.to_string()));
        let wait = self.backoff.after_failure();
        if self.failures.add() {
            tracing::warn!(
                uplink = %self.settings.name, host = %self.settings.host, port = self.settings.port,
                "{why}; trying again in {wait:?}, and then at intervals to {:?}", self.settings.backoff_max
            );
        }
        Some(wait)
    }

    async fn connect_and_forward(&mut self, shutdown: &CancellationToken) -> (Result<(), Broken>, Trace) {
        let mut plan = self.suspect.plan(self.source.released());
        if let Plan::SetAside { closed } = plan {
            if let Err(broken) = self.set_head_aside(closed, shutdown).await {
                return (Err(broken), Trace::default());
            }
            plan = Plan::Stream;
        }
        let head = self.source.released();
        self.source.seek(head);
        let opened = tokio::select! {
            biased;
            () = shutdown.cancelled() => return (Ok(()), Trace::default()),
            opened = Link::open(&self.settings) => opened,
        };
        let (link, limits) = match opened {
            Ok(opened) => opened,
            Err(broken) => return (Err(broken), Trace::default()),
        };
        self.tally.connected(clock::wall_ms());
        if self.failures.connected() {
            tracing::info!(
                uplink = %self.settings.name, host = %self.settings.host, port = self.settings.port,
                "connected, going on from offset {head}"
            );
        }
        let lane = Lane::new(self.shared(shutdown), link, limits);
        let (ended, mut trace) = Box::pin(lane.run(plan == Plan::Probe)).await;
        self.suspect.ended(head, ending(&ended, trace));
        // A probe's answer is not yet a sign that events go through.
        trace.answered &= plan == Plan::Stream;
        (ended, trace)
    }

    /// Sets the record at the head aside: the upstream closed `closed` connections over it.
    async fn set_head_aside(&mut self, closed: u32, shutdown: &CancellationToken) -> Result<(), Broken> {
        let head = self.source.released();
        self.source.seek(head);
        let block = self.source.next().await?;
        // The first that there is: it was the first to be sent.
        let Some((offset, record)) = S::records_from(&block, head).next() else { return Ok(()) };
        let why = format!("the upstream closed the connection {closed} times on it");
        lane::set_aside(&self.shared(shutdown), offset, &record, &why, closed).await?;
        self.source.release(offset + 1);
        Ok(())
    }

    fn shared<'s>(&'s mut self, shutdown: &'s CancellationToken) -> Shared<'s, S> {
        Shared {
            settings: &self.settings,
            source: &mut self.source,
            format: &mut self.format,
            tally: &self.tally,
            shutdown,
        }
    }
}

/// What the end of a connection says about the event at its head.
fn ending(ended: &Result<(), Broken>, trace: Trace) -> Ending {
    let by_peer = match ended {
        Err(Broken::Closed) => true,
        Err(Broken::Disconnected(reason)) => reason.blames_publish(),
        _ => false,
    };
    match trace {
        Trace { released: true, .. } => Ending::Progress,
        Trace { sent: true, .. } if by_peer => Ending::ClosedByPeer,
        _ => Ending::Other,
    }
}

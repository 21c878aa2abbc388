//! The way out: forwards what the store holds to upstreams, at least once.
//!
//! ```text
//!  store::Reader ─▶ delivery ─▶ engine ─▶ upstream     one `run` per uplink, any number side by side
//!        ▲             │
//!        └── release ──┘ acknowledgement
//!
//!  ├ delivery/      one connection after the other: what is sent, waited for, released, sent again
//!  ├ engine/        what the upstream speaks, a folder for each ─ message.rs what it is handed
//!  ├ format/        how an event is written ─ template.rs the topic ─ timestamp.rs the time
//!  ├ outage.rs      why there is no connection, for all who say so ─ pause.rs whether there is to be one
//!  ├ source.rs      where events come from ─ fleet_gate.rs once the fleet knows them
//!  ├ replay/        the same with what is to be sent again, beside live traffic
//!  ├ platform.rs    what the platforms take, for the keys: from_keys.rs identity.rs keys.rs
//!  ├ diagnosis.rs   whether an upstream can be reached, step by step
//!  ├ birth_retry.rs what waits for a birth, sent when it comes
//!  └ commands/      commands to devices, from the upstream into the outbox, on a connection of their own
//! ```
//! - The log is the only truth: nothing of a connection survives it. After any error everything
//!   from the released offset on is sent again, but for what is known to be acknowledged, so that
//!   an event may arrive twice and none is left out. First deliveries are in the order of the log,
//!   for each device.
//! - The cursor moves over the contiguous acknowledged prefix only.
//! - One bad event never stops the ones behind it: what the upstream cannot take becomes a dead
//!   letter with its reason, durably.
//! - An outage costs no memory: between connections an uplink holds no event; on one, only the
//!   blocks of what is in flight.

mod birth_retry;
mod commands;
mod decimal;
mod delivery;
mod diagnosis;
pub mod engine;
mod fleet_gate;
mod format;
mod from_keys;
mod health;
mod identity;
mod keys;
mod message;
mod outage;
mod pause;
mod platform;
mod replay;
mod settings;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod timestamp;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::{
    birth_retry::retry_after_births,
    commands::{CommandTopic, CommandTopicError, receive},
    diagnosis::{Diagnosis, Found as StepFound, diagnose},
    engine::Credentials,
    engine::upstream::Upstream,
    format::{EventContext, FormatName},
    health::{Health, HealthView},
    keys::Keys,
    outage::{Outage, lasting},
    pause::Pause,
    replay::{
        Counted, FOUND_MAX, Found, KindName, Letters, Progress, REMEMBERED_MAX, REPLAYS_MAX, Refused,
        Replays, Request, State, Stored, What,
    },
    settings::{GATEWAY_ID_BYTES_MAX, PaceLimits, Settings, SettingsError, WINDOW_DEFAULT},
    template::{TEMPLATE_BYTES_MAX, Template, TemplateError},
};
use self::{delivery::forward, fleet_gate::FleetGate, format::Format, health::Tally};
/// How numbers are written where events are described.
pub use crate::catalog::Values;
use crate::store::Reader;

/// Forwards what `reader` gives until `shutdown`, or until the store is closed.
///
/// `settings` were checked. On shutdown nothing more is sent, what is in flight has a bounded time
/// to be acknowledged, and the reader is left released as far as the acknowledgements went.
pub async fn run(
    settings: Settings,
    reader: Reader,
    context: EventContext,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let format = Format::new(&settings, reader.ids(), &context);
    let pause = Pause::new(Some(reader.watch_pause()));
    let tally = Tally::new(&settings.name, &health);
    match format {
        Format::Raw(_) => drop(forward(settings, reader, format, tally, pause, &shutdown).await),
        Format::Decoded(_) => {
            let source = FleetGate::new(reader, context.fleet.position());
            drop(forward(settings, source, format, tally, pause, &shutdown).await);
        }
    }
}

//! Sends what became a dead letter for want of a birth, once the birth is there.
//!
//! ```text
//!  catalog learns ─▶ dead letters that no birth explained ─▶ a replay for each device that is known by now
//! ```
//! What waits is a dead letter all the while: durable, seen by `tidegate dead-letters`, and it
//! stays one when the birth does not come within the uplink's `wait_for_birth`. An event that
//! waited arrives behind those that did not.
//!
//! Limits: one replay at a time for each uplink, and [`DEVICES_AT_ONCE_MAX`] devices looked for in
//! one go. A look reads the dead letters through, so it comes only with a birth, and every
//! [`LOOK_EVERY`]; then it rests for [`REST_FACTOR`] times as long as it took, so that births that
//! come one after the other, and many letters, keep nobody else from a core.

use std::{collections::BTreeSet, time::Duration};

use tidegate_protocol::FrameHead;
use tokio_util::sync::CancellationToken;

use super::{
    format::{EventContext, FormatName},
    pause::Pause,
    replay::{KindName, Letters, Replays, Request, State, What},
    settings::Settings,
};
use crate::{
    clock,
    store::{DEAD_LETTER_PAGE_MAX, DeadLetterFilter, Kind, ReasonCode, StoreError, View},
};

/// Devices that are found in one look at the most.
const DEVICES_AT_ONCE_MAX: usize = 256;
/// A letter that became a dead letter while the birth came is found after this long.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// How long to wait before a replay is asked for again that was refused or is under way, or whose
/// uplink is paused.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What a look takes, at the most one part in so many and one of all time.
const REST_FACTOR: u32 = 9;

/// Works for the uplinks of `uplinks` that decode events, until `stop`.
pub async fn retry_after_births(
    uplinks: Vec<Settings>,
    view: View,
    replays: Replays,
    context: EventContext,
    stop: CancellationToken,
) {
    let uplinks: Vec<Settings> =
        uplinks.into_iter().filter(|uplink| uplink.format != FormatName::Raw).collect();
    if uplinks.is_empty() {
        return stop.cancelled().await;
    }
    let mut learned = context.catalog.learned();
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = learned.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(wait) => {}
        }
        wait = LOOK_EVERY;
        let began = clock::monotonic();
        for uplink in &uplinks {
            if !send(uplink, &view, &replays, &context).await {
                wait = TRY_AGAIN_AFTER;
            }
        }
        let took = clock::monotonic().saturating_duration_since(began);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(took * REST_FACTOR) => {}
        }
    }
}

/// Sends what waits at this uplink and is explained by now. False if there is more to do.
async fn send(uplink: &Settings, view: &View, replays: &Replays, context: &EventContext) -> bool {
    if Pause::new(view.watch_pause(&uplink.name)).since_ms().is_some() {
        return false;
    }
    let since_ms = clock::wall_ms().saturating_sub(uplink.wait_for_birth.as_millis() as u64);
    let filter = DeadLetterFilter {
        code: Some(ReasonCode::NoBirth),
        kind: Some(Kind::Frame),
        uplink: Some(uplink.name.clone()),
        from_ms: Some(since_ms),
        ..DeadLetterFilter::default()
    };
    let (looking, context) = (view.clone(), context.clone());
    let found = tokio::task::spawn_blocking(move || explained(&looking, &filter, &context)).await;
    let devices = match found {
        Ok(Ok(devices)) => devices,
        Ok(Err(error)) => {
            tracing::warn!(uplink = %uplink.name, %error, "what waits for a birth cannot be looked for now");
            return false;
        }
        Err(_) => return false,
    };
    let Some(device) = devices.into_iter().next() else { return true };
    let is_busy = replays
        .list()
        .iter()
        .any(|replay| replay.state == State::Running && replay.request.uplink == uplink.name);
    if is_busy {
        return false;
    }
    let letters = Letters {
        code: Some(ReasonCode::NoBirth),
        device: Some(device),
        kind: Some(KindName::Frame),
        from_ms: Some(since_ms),
        ..Letters::default()
    };
    let request = Request {
        uplink: uplink.name.clone(),
        what: What::DeadLetters(letters),
        dry_run: false,
        events_per_s: None,
    };
    if let Err(refused) = replays.start(request) {
        tracing::debug!(uplink = %uplink.name, %refused, "what waited for a birth is sent later");
    }
    // Until nothing explained is left.
    false
}

/// Devices whose dead letters are explained by a birth. Blocking.
fn explained(
    view: &View,
    filter: &DeadLetterFilter,
    context: &EventContext,
) -> Result<BTreeSet<String>, StoreError> {
    let (mut devices, mut next) = (BTreeSet::new(), Some(0));
    while let Some(after) = next.filter(|_| devices.len() < DEVICES_AT_ONCE_MAX) {
        let page = view.dead_letters(filter, after, DEAD_LETTER_PAGE_MAX)?;
        for letter in &page.letters {
            let record = letter.record();
            let is_known = |(head, _): (FrameHead, usize)| {
                context.catalog.kinds(record.device(), head.schema_set).is_some()
            };
            if FrameHead::parse(record.payload).is_ok_and(is_known) {
                devices.insert(record.device().to_owned());
            }
        }
        next = page.next;
    }
    Ok(devices)
}

//! What the log and the metrics are told of a connection's end and of its limits: each thing once for each client, for one
//! client can cause any number of them, or the first time and whenever there are twice as many.

use std::sync::Arc;

use super::{
    connection::Shared, error::Fault, quota::Limit, session::End, settings::UNRELEASED_PER_INFLIGHT,
};

/// A connection ended; `had_seat` says that its client was accepted.
pub(super) fn end(shared: &Shared, client: &Arc<str>, had_seat: bool, end: End) {
    let End::Fault(fault) = end else {
        tracing::debug!(%client, ?end, "connection ended");
        return;
    };
    if had_seat {
        shared.meters.closed(fault);
    } else {
        shared.meters.refused(fault);
    }
    if let Fault::PacketTooLarge { .. } = fault {
        if let Some(times) = shared.told.more((client, fault.label())) {
            tracing::warn!(%client, times, "connection closed: {fault}; raise it in the configuration if such packets are meant");
        }
    } else if fault.breaks_rules() && shared.told.is_new((client, fault.label())) {
        tracing::warn!(%client, "connection closed: {fault} (said once for this client)");
    } else if matches!(fault, Fault::Busy | Fault::PushedOut) && shared.told.is_new(fault.label()) {
        tracing::warn!("a client was refused: {fault} (said once)");
    } else {
        tracing::debug!(%client, "connection closed: {fault}");
    }
}

/// A client has not released so many QoS 2 publishes as it may have.
pub(super) fn unreleased(shared: &Shared, client: &Arc<str>, unreleased_max: usize) {
    if shared.told.is_new(("unreleased", client)) {
        tracing::warn!(
            %client, unreleased_max,
            "the client did not release the QoS 2 publishes that were received, {UNRELEASED_PER_INFLIGHT} times [limits] inflight: its connection is closed, and what was not acknowledged is its to send again (said once for it)"
        );
    }
}

/// A client is above a limit per second.
pub(super) fn throttled(shared: &Shared, client: &Arc<str>, limit: Limit) {
    shared.meters.throttled(limit);
    if shared.told.is_new(("throttled", client)) {
        tracing::warn!(%client, "the client is above its {limit} per second: it is read from more slowly (said once for it)");
    }
}

//! What the log and the metrics are told of a connection's end and of its limits: each thing once for each client, for one
//! client can cause any number of them.

use std::sync::Arc;

use super::{connection::Shared, error::Fault, quota::Limit, session::End};

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
    if fault.breaks_rules() && shared.told.is_new((client, fault.label())) {
        tracing::warn!(%client, "connection closed: {fault} (said once for this client)");
    } else if matches!(fault, Fault::Busy | Fault::PushedOut) && shared.told.is_new(fault.label()) {
        tracing::warn!("a client was refused: {fault} (said once)");
    } else {
        tracing::debug!(%client, "connection closed: {fault}");
    }
}

/// A client is above a limit per second.
pub(super) fn throttled(shared: &Shared, client: &Arc<str>, limit: Limit) {
    shared.meters.throttled(limit);
    if shared.told.is_new(("throttled", client)) {
        tracing::warn!(%client, "the client is above its {limit} per second: it is read from more slowly (said once for it)");
    }
}

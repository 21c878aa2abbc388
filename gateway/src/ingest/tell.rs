//! What the log and the metrics are told of a connection's end and of its limits: each thing once for each client, for one
//! client can cause any number of them, or the first time and whenever there are twice as many.

use std::{net::SocketAddr, sync::Arc};

use super::{
    connection::Shared,
    error::Fault,
    quota::Limit,
    registry::{TURN_MAX, Turns},
    session::End,
    settings::UNRELEASED_PER_INFLIGHT,
};

/// A connection from `peer` ended; `had_seat` says that its client was accepted. One that ended before its client had said who it
/// is is known by its address.
pub(super) fn end(shared: &Shared, client: &Arc<str>, peer: SocketAddr, had_seat: bool, end: End) {
    let End::Fault(fault) = end else {
        tracing::debug!(%client, ?end, "connection ended");
        return;
    };
    if had_seat {
        shared.meters.closed(fault);
    } else {
        shared.meters.refused(fault);
    }
    let is_new = || match client.is_empty() {
        true => shared.told.is_new((peer.ip().to_canonical(), fault.label())),
        false => shared.told.is_new((client, fault.label())),
    };
    if let Fault::PacketTooLarge { .. } = fault {
        let times = match client.is_empty() {
            true => shared.told.more((peer.ip().to_canonical(), fault.label())),
            false => shared.told.more((client, fault.label())),
        };
        if let Some(times) = times {
            tracing::warn!(%client, %peer, times, "connection closed: {fault}; raise it in the configuration if such packets are meant");
        }
    } else if fault.breaks_rules() && is_new() {
        let whom = if client.is_empty() { "address" } else { "client" };
        tracing::warn!(%client, %peer, "connection closed: {fault} (said once for this {whom})");
    } else if matches!(fault, Fault::Busy | Fault::PushedOut) && shared.told.is_new(fault.label()) {
        tracing::warn!("a client was refused: {fault} (said once)");
    } else {
        tracing::debug!(%client, %peer, "connection closed: {fault}");
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

/// Connections of one client id take it from each other in quick turns: two clients have the same, or one does not wait for an
/// answer.
pub(super) fn turns(client: &Arc<str>, peer: SocketAddr, turns: Turns) {
    let Turns { before, count } = turns;
    tracing::warn!(
        %client, %peer, %before, count,
        "connections with this client id take it from each other, each within {TURN_MAX:?} of the one before: give every client an id of its own, or let it wait before it connects again (said again when there were twice as many)"
    );
}

//! What the log and the metrics are told of a connection's end and of its limits: each thing once
//! for each client, or for the address of one that was not let in, or the first time and whenever
//! there are twice as many: one of them can cause any number.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use metrics::counter;

use crate::{
    access::origin::Origin,
    ingest::{
        limiter::network,
        limits::{RateLimit, UNRELEASED_PER_INFLIGHT},
        metrics::Metrics,
        registry::{TURN_MAX, Turns},
        session::End,
    },
    mqtt::fault::Fault,
    telemetry::{self, repeats::LogOnce},
};

/// Of whom something is told once: a client by its id, and one that has not said it, or was not let
/// in, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whom<'a> {
    Client(&'a str),
    Address(IpAddr),
}

impl<'a> Whom<'a> {
    fn new(client: &'a str, peer: SocketAddr) -> Self {
        match client {
            "" => Whom::Address(network(peer.ip())),
            client => Whom::Client(client),
        }
    }
}

impl fmt::Display for Whom<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Whom::Client(_) => "client",
            Whom::Address(_) => "address",
        })
    }
}

/// A connection from `peer` ended; `was_accepted` says that its client was accepted.
pub(super) fn end(
    metrics: &Metrics,
    log_once: &LogOnce,
    client: &Arc<str>,
    peer: SocketAddr,
    was_accepted: bool,
    end: End,
) {
    let End::Fault(fault) = end else {
        tracing::debug!(%client, ?end, "connection ended");
        return;
    };
    if was_accepted {
        metrics.closed(fault);
    } else {
        metrics.refused(fault);
    }
    let whom = Whom::new(client, peer);
    if let Fault::PacketTooLarge { .. } = fault {
        if let Some(times) = log_once.more((whom, fault.label())) {
            tracing::warn!(%client, %peer, times, "connection closed: {fault}; raise it in the configuration if such packets are meant");
        }
    } else if fault.breaks_rules() && log_once.is_new((whom, fault.label())) {
        tracing::warn!(%client, %peer, "connection closed: {fault} (said once for this {whom})");
    } else if matches!(fault, Fault::Busy | Fault::PushedOut) && log_once.is_new(fault.label()) {
        tracing::warn!("a client was refused: {fault} (said once)");
    } else {
        tracing::debug!(%client, %peer, "connection closed: {fault}");
    }
}

/// A client has not released so many QoS 2 publishes as it may have.
pub(super) fn unreleased(log_once: &LogOnce, client: &Arc<str>, unreleased_max: usize) {
    if log_once.is_new(("unreleased", client)) {
        tracing::warn!(
            %client, unreleased_max,
            "the client did not release the QoS 2 publishes that were received, {UNRELEASED_PER_INFLIGHT} times [limits] inflight: its connection is closed, and what was not acknowledged is its to send again (said once for it)"
        );
    }
}

/// A client is above a limit per second.
pub(super) fn throttled(metrics: &Metrics, log_once: &LogOnce, client: &Arc<str>, limit: RateLimit) {
    metrics.throttled(limit);
    if log_once.is_new(("throttled", client)) {
        tracing::warn!(%client, "the client is above its {limit} per second: it is read from more slowly (said once for it)");
    }
}

/// A WebSocket did not come about or was closed, for what its client did: `why`, if that is worth a
/// line.
pub(crate) fn websocket(
    log_once: &LogOnce,
    origin: &Origin,
    label: &'static str,
    why: Option<&dyn fmt::Display>,
) {
    counter!(telemetry::WEBSOCKET_FAILURES, "reason" => label).increment(1);
    let Origin { peer, listener, .. } = origin;
    if let Some(why) = why
        && log_once.is_new(("websocket", network(peer.ip()), label))
    {
        tracing::warn!(%peer, %listener, "no WebSocket: {why} (said once for this address)");
    }
}

/// Connections of one client id take it from each other in quick turns: two clients have the same,
/// or one does not wait for an answer.
pub(super) fn turns(client: &Arc<str>, peer: SocketAddr, turns: Turns) {
    let Turns { before, count } = turns;
    tracing::warn!(
        %client, %peer, %before, count,
        "connections with this client id take it from each other, each within {TURN_MAX:?} of the one before: give every client an id of its own, or let it wait before it connects again (said again when there were twice as many)"
    );
}

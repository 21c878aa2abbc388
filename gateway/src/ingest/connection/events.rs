//! What a session has noticed goes into the log: each thing once for each client or topic, whatever
//! a client does.
//!
//! Limits: those of [`LogOnce`](crate::telemetry::repeats::LogOnce).

use super::{Connection, Wire};
use crate::ingest::session::SessionEvent;

impl<Io: Wire> Connection<Io> {
    /// Logs what the session has noticed since the last time.
    pub(super) fn report_events(&mut self) {
        let events = self.session.take_events();
        let client = self.session.client();
        for item in events {
            match item {
                SessionEvent::Unrouted(topic) if self.shared.log_once.is_new(("unrouted", &topic)) => {
                    tracing::warn!(%topic, %client, "no route takes this topic: its events are acknowledged and dropped");
                }
                SessionEvent::Denied(action, topic) => self.report_denied(action, &topic),
                SessionEvent::PacketIdReused(packet_id)
                    if self.shared.log_once.is_new(("reused", client)) =>
                {
                    tracing::warn!(
                        %client, packet_id,
                        "the client uses a packet id again before it was acknowledged: both publishes are stored"
                    );
                }
                SessionEvent::NoText(topic) if self.shared.log_once.is_new(("no text", client)) => {
                    tracing::warn!(
                        %topic, %client,
                        "what the client publishes is no UTF-8, and its route says text: it is stored as it came, and goes \
                         upstream in base64 where it cannot go as it is (said once for this client)"
                    );
                }
                SessionEvent::StoreFull if self.shared.log_once.is_new(("store full", client)) => {
                    tracing::warn!(
                        %client, can_refuse = self.session.can_refuse(),
                        "the store is full: what the client publishes is not stored and not acknowledged (said once for this client)"
                    );
                }
                _ => {}
            }
        }
    }
}

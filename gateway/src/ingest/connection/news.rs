//! What a session has to tell, in the log: each thing once for each client or topic, whatever a client
//! does.
//!
//! Limits: those of [`LogOnce`](crate::telemetry::repeats::LogOnce).

use super::{Connection, Wire};
use crate::ingest::session::News;

impl<Io: Wire> Connection<Io> {
    /// Tells what the session has found since the last time.
    pub(super) fn tell_news(&mut self) {
        let news = self.session.take_news();
        let client = self.session.client();
        for item in news {
            match item {
                News::Unrouted(topic) if self.shared.told.is_new(("unrouted", &topic)) => {
                    tracing::warn!(%topic, %client, "no route takes this topic: its events are acknowledged and dropped");
                }
                News::Denied(action, topic) => self.tell_denied(action, &topic),
                News::PacketIdReused(packet_id) if self.shared.told.is_new(("reused", client)) => {
                    tracing::warn!(
                        %client, packet_id,
                        "the client uses a packet id again before it was acknowledged: both publishes are stored"
                    );
                }
                News::NoText(topic) if self.shared.told.is_new(("no text", client)) => {
                    tracing::warn!(
                        %topic, %client,
                        "what the client publishes is no UTF-8, and its route says text: it is stored as it came, and goes \
                         upstream in base64 where it cannot go as it is (said once for this client)"
                    );
                }
                News::StoreFull if self.shared.told.is_new(("store full", client)) => {
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

//! How a session ends: by a stop, a broken connection or a fault, and what is done for a client
//! that is gone: its will, its packet ids, its place among local subscribers.

use super::{End, Ending, Phase, Session, Sink};
use crate::{
    access::audit::Action,
    clock::Now,
    mqtt::{disconnect, fault::Fault, version::Version},
};

impl Session {
    /// Reads nothing more; ends with [`Fault::Stopping`] as soon as nothing appended is owed.
    pub fn handle_stop(&mut self, now: Now) {
        match self.phase {
            Phase::Open if self.acks.awaits_commit() => self.phase = Phase::Draining,
            Phase::Ended(_) => {}
            _ => self.fail(now, Fault::Stopping),
        }
    }

    /// The connection broke, or its other end was closed.
    pub fn handle_lost(&mut self) {
        if !self.has_ended() {
            self.phase = Phase::Ended(End::Lost);
        }
        self.discard_output();
    }

    /// Ends the session with `fault`, and tells the client if its version can be told.
    pub fn fail(&mut self, now: Now, fault: Fault) {
        let disconnect = match self.phase {
            Phase::Open | Phase::Draining if self.version == Version::V5 => {
                disconnect::because(fault, self.packet_bytes_max)
            }
            Phase::Open | Phase::Draining | Phase::Fresh | Phase::Deciding(_) => None,
            Phase::Ended(_) => return,
        };
        if let Some(disconnect) = disconnect {
            self.emit(&disconnect);
        }
        self.phase = Phase::Ended(End::Fault(fault));
        self.note_output(now);
    }

    /// The last record of an ended session: its will, unless the client took its leave or the
    /// gateway stops. If it does not outlive the connection, its QoS 2 packet ids end as well;
    /// `pending` says that the store knows some.
    pub fn handle_end<S: Sink>(&mut self, now: Now, pending: bool, sink: &mut S) -> Ending {
        let Phase::Ended(end) = self.phase else { return Ending::default() };
        if self.client.is_empty() {
            return Ending::default();
        }
        let mut ending = Ending::default();
        if let Some(will) = self.will.take() {
            match end {
                // It stands, in the file, until its client is back or the gateway that is started
                // next publishes it.
                End::Fault(Fault::Stopping | Fault::StoreClosed) => {}
                End::Disconnect { with_will: false } => {
                    ending.save = self.broker.drop_will(&self.client, &will);
                }
                // It was allowed when it came, and may not be any more.
                _ if !self.permissions.may_publish(&will.topic) => {
                    self.note_denied(Action::Will, &will.topic);
                    self.broker.drop_will(&self.client, &will);
                }
                _ => ending.will = self.end_with_will(now, will, sink),
            }
        }
        if self.session_expiry_s == 0 && (pending || self.acks.has_exactly_once()) {
            self.broker.end_packet_ids(&self.client);
        }
        if let Some(mailbox) = &self.mailbox {
            let save = self.broker.detach(mailbox, self.session_expiry_s, now.steady_ms);
            ending.save = ending.save.max(save);
        }
        ending
    }

    /// How the session ended, if it has.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        if let Phase::Ended(end) = self.phase { Some(end) } else { None }
    }

    /// Whether nothing more will be read: what is left is output.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    pub(super) fn discard_output(&mut self) {
        self.out.clear();
        self.writing_since = None;
    }
}

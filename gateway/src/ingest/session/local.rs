//! The session as a local subscriber: SUBSCRIBE, what it is owed, and its acknowledgements.
//!
//! ```text
//!   SUBSCRIBE ─▶ broker ─▶ SUBACK, once the subscription is durable if the session outlives the connection; UNSUBSCRIBE alike
//!   ring ─▶ write: PUBLISH, PUBREL, as far as Receive Maximum and the output allow ─▶ PUBACK, PUBREC, PUBCOMP ─▶ broker
//! ```
//! Limits: [`DELIVER_BYTES_MAX`] of output are filled with deliveries, which leaves room for
//! answers: a client that reads slowly is read from all the same.

use std::{cell::Cell, sync::Arc};

use super::{Now, Phase, Session};
use crate::{
    access::audit::Action,
    broker::{Bound, Mailbox, Options, Peer, Received, Subscribed, Subscription, Unsubscribed},
    mqtt::{
        fault::Fault,
        packet::ClientAck,
        pubrel,
        reason::{FILTER_INVALID, NO_SUBSCRIPTION, NOT_AUTHORIZED, QUOTA_EXCEEDED},
        subscribe,
    },
};

/// Output pending, in bytes, at which nothing more is delivered.
const DELIVER_BYTES_MAX: usize = super::OUT_BYTES_MAX / 2;
/// SUBACKs and UNSUBACKs that wait for their save, at which no more input is taken.
pub(super) const SUBACKS_MAX: usize = 64;
/// PUBREL's reason "Packet Identifier not found", whole but for the packet id.
const PUBREL_UNKNOWN: [u8; 2] = [0x62, 3];
const PACKET_ID_NOT_FOUND: u8 = 0x92;

impl Session {
    pub(super) fn take_subscribe(&mut self, body: &[u8]) -> Result<(), Fault> {
        let request = subscribe::subscribe(self.version, body)?;
        let mut save = None;
        let mut codes = Vec::with_capacity(request.filters.len());
        for (filter, options) in &request.filters {
            let options =
                if self.dialect.is_bridge { Options(*options).of_bridge(filter) } else { Options(*options) };
            let subscription = Subscription { options, id: request.id };
            codes.push(match self.subscribe(filter, subscription) {
                Ok(number) => {
                    save = save.max(number);
                    subscription.options.qos()
                }
                Err(code) => code,
            });
        }
        let suback = subscribe::suback(self.version, request.packet_id, &codes);
        match save {
            Some(number) => self.subacks.push_back((number, suback)),
            None => self.emit(&suback),
        }
        Ok(())
    }

    /// Gives the save that makes it durable, or the code that refuses it.
    fn subscribe(&mut self, filter: &str, subscription: Subscription) -> Result<Option<u64>, u8> {
        if !subscribe::is_filter(filter, self.settings.topics) {
            self.broker.report_refused(&self.client, filter, Bound::Filter);
            return Err(FILTER_INVALID);
        }
        if !self.permissions.may_subscribe(filter) {
            self.note_denied(Action::Subscribe, filter);
            return Err(NOT_AUTHORIZED);
        }
        let subscribed = match self.mailbox_or_begin() {
            Some(mailbox) => self.broker.subscribe(&mailbox, filter, subscription),
            None => Subscribed::TooMany(Bound::Sessions),
        };
        match subscribed {
            Subscribed::Yes { save } => Ok(save),
            Subscribed::TooMany(bound) => {
                self.broker.report_refused(&self.client, filter, bound);
                Err(QUOTA_EXCEEDED)
            }
        }
    }

    fn mailbox_or_begin(&mut self) -> Option<Arc<Mailbox>> {
        if self.mailbox.is_none() {
            let mailbox = self.broker.begin(&self.client, &self.identity)?;
            // It ends with the connection: there is nothing to save.
            self.broker.attach(&mailbox, self.receive_max, self.session_expiry_s, 0);
            self.mailbox = Some(mailbox);
        }
        self.mailbox.clone()
    }

    pub(super) fn take_unsubscribe(&mut self, body: &[u8]) -> Result<(), Fault> {
        let request = subscribe::unsubscribe(self.version, body)?;
        let mut save = None;
        let mut codes = Vec::with_capacity(request.filters.len());
        for filter in &request.filters {
            let ended = self.mailbox.as_ref().map(|mailbox| self.broker.unsubscribe(mailbox, filter));
            codes.push(match ended {
                Some(Unsubscribed::Yes { save: number }) => {
                    save = save.max(number);
                    0
                }
                _ if subscribe::is_filter(filter, self.settings.topics) => NO_SUBSCRIPTION,
                _ => FILTER_INVALID,
            });
        }
        let unsuback = subscribe::unsuback(self.version, request.packet_id, &codes);
        match save {
            Some(number) => self.subacks.push_back((number, unsuback)),
            None => self.emit(&unsuback),
        }
        Ok(())
    }

    pub(super) fn take_puback(&mut self, body: &[u8]) -> Result<(), Fault> {
        let ack = ClientAck::parse(self.version, body)?;
        if let Some(mailbox) = &self.mailbox {
            self.broker.acknowledge(mailbox, ack.packet_id, ack.reason);
        }
        Ok(())
    }

    pub(super) fn take_pubrec(&mut self, body: &[u8]) -> Result<(), Fault> {
        let ack = ClientAck::parse(self.version, body)?;
        let received = self.mailbox.as_ref().map_or(Received::Unknown, |mailbox| {
            self.broker.receive(mailbox, ack.packet_id, ack.is_refused())
        });
        if received == Received::Unknown && !ack.is_refused() {
            let [high, low] = ack.packet_id.to_be_bytes();
            match self.version {
                super::Version::V311 => pubrel::put(ack.packet_id, self.out.buffer()),
                super::Version::V5 => {
                    self.out.buffer().extend_from_slice(&PUBREL_UNKNOWN);
                    self.out.buffer().extend_from_slice(&[high, low, PACKET_ID_NOT_FOUND]);
                }
            }
        }
        Ok(())
    }

    pub(super) fn take_pubcomp(&mut self, body: &[u8]) -> Result<(), Fault> {
        let ack = ClientAck::parse(self.version, body)?;
        if let Some(mailbox) = &self.mailbox {
            self.broker.complete(mailbox, ack.packet_id);
        }
        Ok(())
    }

    /// Whether there may be something to deliver, and room for it in the output.
    #[must_use]
    #[inline]
    pub fn may_deliver(&self) -> bool {
        self.mailbox.as_ref().is_some_and(|mailbox| mailbox.is_woken())
            && self.out.has_room(DELIVER_BYTES_MAX)
            && matches!(self.phase, Phase::Open)
    }

    /// Writes what the client is owed, as much as the output has room for.
    pub fn deliver(&mut self, now: Now) {
        let Some(mailbox) = self.mailbox.as_ref().filter(|_| self.may_deliver()) else { return };
        mailbox.clear_woken();
        if mailbox.is_revoked() {
            return self.fail(now, Fault::Unacknowledged);
        }
        let peer = Peer { version: self.version, packet_bytes_max: self.packet_bytes_max };
        let denied = Cell::new(None);
        let may_receive = |topic: &str| {
            let may = self.permissions.may_receive(topic);
            if !may {
                denied.set(Some(topic.to_owned()));
            }
            may
        };
        let written =
            self.broker.write(mailbox, peer, now.steady_ms, &mut self.out, DELIVER_BYTES_MAX, may_receive);
        if written.is_cut {
            mailbox.notify();
        }
        if let Some(topic) = denied.take() {
            self.note_denied(Action::Receive, &topic);
        }
        self.note_output(now);
    }

    /// The client may do less than before: what it may not subscribe to any more is gone.
    pub(super) fn review_subscriptions(&mut self) {
        if let Some(mailbox) = &self.mailbox {
            self.broker.unsubscribe_all(mailbox, |filter| !self.permissions.may_subscribe(filter));
        }
    }

    /// Resolves when there may be something to deliver; never for a client that does not subscribe.
    /// Cancel-safe.
    pub async fn woken(&self) {
        match &self.mailbox {
            Some(mailbox) if mailbox.is_subscriber() => mailbox.woken().await,
            _ => std::future::pending().await,
        }
    }

    /// Whether a SUBACK waits for a save.
    #[must_use]
    pub fn awaits_save(&self) -> bool {
        !self.subacks.is_empty()
    }

    /// The saves up to this number are durable.
    pub fn handle_saved(&mut self, now: Now, number: u64) {
        let wanted = self.wants_input();
        while let Some((_, suback)) = self.subacks.pop_front_if(|(save, _)| *save <= number) {
            self.emit(&suback);
        }
        if !wanted && self.wants_input() {
            self.heard = now.at;
        }
        self.note_output(now);
    }
}

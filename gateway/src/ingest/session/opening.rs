//! How a session is opened: the CONNECT goes out, the decision comes back as a CONNACK.

use std::{sync::Arc, time::Duration};

use super::{End, Now, Phase, Session, Sink};
use crate::ingest::{
    access::identity::ANONYMOUS,
    bus::Mailbox,
    codec::{self, Accepted, Connect, Refused},
    error::Fault,
    packet::Version,
};

/// What is known of the client that is accepted.
#[derive(Debug)]
pub struct Opening {
    /// The client id.
    pub client: Arc<str>,
    /// Who it is.
    pub identity: Arc<str>,
    /// A session is continued.
    pub present: bool,
    /// The store knows QoS 2 packet ids of a session that is not continued.
    pub forget: bool,
    /// The local session that is continued, if it has one.
    pub mailbox: Option<Arc<Mailbox>>,
}

impl Opening {
    /// An anonymous client of which nothing is known.
    #[must_use]
    pub fn fresh(client: Arc<str>) -> Self {
        Self { client, identity: ANONYMOUS.into(), present: false, forget: false, mailbox: None }
    }
}

impl Session {
    /// The CONNECT that was read, once: answer with [`Session::accept`] or [`Session::refuse`].
    pub fn take_connect(&mut self) -> Option<Box<Connect>> {
        if let Phase::Deciding(connect) = &mut self.phase { connect.take() } else { None }
    }

    /// Accepts the client.
    pub fn accept<S: Sink>(&mut self, now: Now, connect: Connect, opening: Opening, sink: &mut S) {
        let Opening { client, identity, present, forget, mailbox } = opening;
        if forget {
            sink.push_forget(&client);
            self.acks.pushed();
        }
        let wanted_s = connect.keep_alive_s;
        let max_s = self.settings.keep_alive_max_s;
        let lowered_s = (connect.version == Version::V5 && wanted_s > max_s).then_some(max_s);
        let granted_s = lowered_s.unwrap_or(wanted_s);
        let settings = self.settings.clone();
        let connack = codec::connack(&Accepted {
            version: connect.version,
            session_present: present,
            assigned_client_id: connect.client_id.is_empty().then_some(&*client),
            server_keep_alive_s: lowered_s,
            settings: &settings,
        });
        self.version = connect.version;
        self.client = client;
        self.identity = identity;
        self.session_expiry_s = connect.session_expiry_s;
        self.packet_bytes_max = connect.packet_bytes_max;
        self.receive_max = connect.receive_max.min(self.settings.inflight_max);
        if let Some(mailbox) = &mailbox {
            self.bus.attach(mailbox, self.receive_max, self.session_expiry_s);
        }
        self.mailbox = mailbox;
        self.review_subscriptions();
        self.keep_alive = (granted_s > 0).then(|| Duration::from_secs(granted_s.into()) * 3 / 2);
        self.will = connect.will.map(Box::new);
        self.heard = now.at;
        self.phase = Phase::Open;
        match connack {
            Some(connack) if connack.len() <= self.packet_bytes_max => self.emit(&connack),
            _ => {
                self.phase =
                    Phase::Ended(End::Fault(Fault::Protocol("a maximum packet size below CONNACK's")))
            }
        }
        self.note_output(now);
    }

    /// Refuses the CONNECT that was taken.
    pub fn refuse(&mut self, now: Now, refused: Refused) {
        if let Some(connack) = codec::refusal(refused) {
            self.emit(&connack);
        }
        self.phase = Phase::Ended(End::Fault(refused.fault));
        self.note_output(now);
    }
}

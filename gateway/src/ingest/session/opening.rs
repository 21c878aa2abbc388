//! How a session is opened: the CONNECT goes out, the decision comes back as a CONNACK.

use std::{sync::Arc, time::Duration};

use super::{End, Now, Phase, Session};
use crate::{
    access::name::ANONYMOUS,
    broker::Mailbox,
    mqtt::{
        connack::{self, Accepted},
        connect::{Connect, Refused, Will},
        fault::Fault,
        version::Version,
    },
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
    /// The session that is there for it.
    pub mailbox: Option<Arc<Mailbox>>,
}

impl Opening {
    /// An anonymous client of which nothing is known.
    #[must_use]
    pub fn fresh(client: Arc<str>) -> Self {
        Self { client, identity: ANONYMOUS.into(), present: false, mailbox: None }
    }
}

impl Session {
    /// The CONNECT that was read, once: answer with [`Session::accept`] or [`Session::refuse`].
    pub fn take_connect(&mut self) -> Option<Box<Connect>> {
        if let Phase::Deciding(connect) = &mut self.phase { connect.take() } else { None }
    }

    /// Accepts the client. Gives the save that has its session: CONNACK is in the output, to be
    /// written after that.
    pub fn accept(&mut self, now: Now, connect: Connect, opening: Opening) -> Option<u64> {
        let Opening { client, identity, present, mailbox } = opening;
        (self.version, self.dialect) = (connect.version, connect.dialect);
        self.client = client;
        self.identity = identity;
        self.packet_bytes_max = connect.packet_bytes_max;
        self.receive_max = connect.receive_max.min(self.settings.inflight_max);
        self.mailbox = mailbox;
        let wanted_s = connect.keep_alive_s;
        let max_s = self.settings.keep_alive_max_s;
        let lowered_s = (connect.version == Version::V5 && wanted_s > max_s).then_some(max_s);
        let granted_s = lowered_s.unwrap_or(wanted_s);
        let save = self.begin_session(now, connect.session_expiry_s);
        // Its delay ends with the session.
        let expiry_s = self.session_expiry_s;
        self.will = connect.will.map(|will| Arc::new(Will { delay_s: will.delay_s.min(expiry_s), ..will }));
        let save = save.max(self.broker.stand_will(&self.client, self.will.as_ref(), now.steady_ms));
        let ends = connect.session_expiry_s > 0 && self.session_expiry_s == 0;
        let connack = connack::accept(&Accepted {
            version: connect.version,
            // The byte is reserved on MQTT 3.1.
            session_present: present && !connect.dialect.is_v31,
            assigned_client_id: connect.client_id.is_empty().then_some(&*self.client),
            session_expiry_s: ends.then_some(0),
            server_keep_alive_s: lowered_s,
            receive_max: self.settings.inflight_max,
            packet_bytes_max: self.settings.packet_bytes_max as u32,
        });
        self.review_subscriptions();
        self.keep_alive = (granted_s > 0).then(|| Duration::from_secs(granted_s.into()) * 3 / 2);
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
        save
    }

    /// A session that outlives its connection is there from its CONNECT on. If there are as many as
    /// there may be, this one ends with its connection.
    fn begin_session(&mut self, now: Now, expiry_s: u32) -> Option<u64> {
        self.session_expiry_s = expiry_s;
        if self.mailbox.is_none() && expiry_s > 0 {
            self.mailbox = self.broker.begin(&self.client, &self.identity);
            if self.mailbox.is_none() {
                self.session_expiry_s = 0;
            }
        }
        let mailbox = self.mailbox.as_ref()?;
        self.broker.attach(mailbox, self.receive_max, self.session_expiry_s, now.steady_ms)
    }

    /// Refuses the CONNECT that was taken.
    pub fn refuse(&mut self, now: Now, refused: Refused) {
        if let Some(connack) = connack::refuse(refused) {
            self.emit(&connack);
        }
        self.phase = Phase::Ended(End::Fault(refused.fault));
        self.note_output(now);
    }
}

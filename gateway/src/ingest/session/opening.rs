//! How a session is opened: the CONNECT goes out, the decision comes back as a CONNACK.

use std::{sync::Arc, time::Duration};

use super::{End, Now, Phase, Session, Sink};
use crate::ingest::{
    codec::{self, Accepted, Connect, Refused},
    error::Fault,
    packet::Version,
};

impl Session {
    /// The CONNECT that was read, once: answer with [`Session::accept`] or [`Session::refuse`].
    pub fn take_connect(&mut self) -> Option<Box<Connect>> {
        if let Phase::Deciding(connect) = &mut self.phase { connect.take() } else { None }
    }

    /// Accepts the client under the id `client`. `present` says that a session is continued, `forget` that the store
    /// knows QoS 2 packet ids of a session that is not.
    pub fn accept<S: Sink>(
        &mut self,
        now: Now,
        connect: Connect,
        client: Arc<str>,
        present: bool,
        forget: bool,
        sink: &mut S,
    ) {
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
        self.session_expiry_s = connect.session_expiry_s;
        self.packet_bytes_max = connect.packet_bytes_max;
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

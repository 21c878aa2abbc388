//! What a session does with each packet. PUBLISH is in `publish`; everything else is rare.

use super::{End, Now, Phase, Session, Sink};
use crate::mqtt::{
    Fault,
    connect::{self, Connect, Refused},
    disconnect,
    limits::SMALL_PACKET_BYTES,
    packet::{self, Header, Reply},
    pubrel,
};

/// Longest CONNECT, in bytes.
pub const CONNECT_BYTES_MAX: usize = SMALL_PACKET_BYTES;

impl Session {
    /// Takes the packet at the start of `input`, and gives its length; 0 if its end is not there.
    #[inline]
    pub(super) fn take_packet<S: Sink>(
        &mut self,
        now: Now,
        input: &[u8],
        sink: &mut S,
    ) -> Result<usize, Fault> {
        self.incoming_bytes = 0;
        let Some(header) = Header::parse(input, self.incoming_bytes_max())? else { return Ok(0) };
        let Some(body) = input.get(header.bytes..header.packet_bytes()) else {
            // Said before its end is waited for: what does not speak MQTT need not send on.
            self.incoming_bytes = header.packet_bytes();
            return if self.may_come(header) { Ok(0) } else { Err(Fault::NotConnect) };
        };
        if header.kind() == packet::PUBLISH && matches!(self.phase, Phase::Open) {
            self.take_publish(now, header.first, body, sink)?;
        } else {
            self.take_other(now, header, body, sink)?;
        }
        Ok(header.packet_bytes())
    }

    /// The longest packet now: what a client may cost that is not known yet is less.
    #[inline]
    fn incoming_bytes_max(&self) -> usize {
        match self.phase {
            Phase::Open => self.settings.packet_bytes_max,
            _ => self.settings.packet_bytes_max.min(CONNECT_BYTES_MAX),
        }
    }

    fn may_come(&self, header: Header) -> bool {
        matches!(self.phase, Phase::Open) || header.kind() == packet::CONNECT
    }

    #[cold]
    fn take_other<S: Sink>(
        &mut self,
        now: Now,
        header: Header,
        body: &[u8],
        sink: &mut S,
    ) -> Result<(), Fault> {
        self.counts.other_packets += 1;
        if matches!(self.phase, Phase::Fresh) {
            return self.take_first(now, header, body);
        }
        header.check_flags(self.dialect)?;
        match header.kind() {
            packet::PUBREL => {
                let packet_id = pubrel::read(self.version, body)?;
                if self.acks.release(packet_id) {
                    sink.push_release(&self.client, packet_id);
                    self.acks.pushed();
                }
                self.acks.stage(packet_id, Reply::Pubcomp);
                Ok(())
            }
            packet::PINGREQ if body.is_empty() => {
                self.emit(&packet::PINGRESP);
                Ok(())
            }
            packet::SUBSCRIBE => self.take_subscribe(body),
            packet::UNSUBSCRIBE => self.take_unsubscribe(body),
            packet::PUBACK => self.take_puback(body),
            packet::PUBREC => self.take_pubrec(body),
            packet::PUBCOMP => self.take_pubcomp(body),
            packet::DISCONNECT => self.take_disconnect(body),
            packet::CONNECT => Err(Fault::Protocol("a second CONNECT")),
            packet::AUTH => Err(Fault::Protocol("AUTH without an authentication method")),
            _ => Err(Fault::Protocol("a packet that a client may not send here")),
        }
    }

    fn take_first(&mut self, now: Now, header: Header, body: &[u8]) -> Result<(), Fault> {
        if header.kind() != packet::CONNECT {
            return Err(Fault::NotConnect);
        }
        header.check_flags(self.dialect)?;
        match connect::read(body) {
            Ok(Connect { version, will: Some(will), packet_bytes_max, .. })
                if !self.settings.topics.allow(&will.topic) =>
            {
                self.refuse(now, Refused { version, fault: Fault::Topic, packet_bytes_max });
            }
            Ok(connect) => self.phase = Phase::Deciding(Some(Box::new(connect))),
            Err(refused) => self.refuse(now, refused),
        }
        Ok(())
    }

    fn take_disconnect(&mut self, body: &[u8]) -> Result<(), Fault> {
        let disconnect = disconnect::read(self.version, body)?;
        if let Some(seconds) = disconnect.session_expiry_s {
            if self.session_expiry_s == 0 && seconds > 0 {
                return Err(Fault::Protocol("a session expiry in DISCONNECT and none in CONNECT"));
            }
            self.session_expiry_s = seconds;
        }
        self.phase = Phase::Ended(End::Disconnect { with_will: disconnect.with_will });
        Ok(())
    }
}

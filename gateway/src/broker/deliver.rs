//! What a session's connection writes and hears back: deliveries and their acknowledgements.

use std::sync::{Arc, atomic::Ordering};

use super::{
    Broker,
    mailbox::Mailbox,
    outbound::{Peer, Received, Written},
};
use crate::mqtt::output::Output;

impl Broker {
    /// Writes what the session is owed.
    pub fn write(
        &self,
        mailbox: &Arc<Mailbox>,
        peer: Peer,
        now_ms: u64,
        out: &mut Output,
        out_bytes_max: usize,
        may_receive: impl Fn(&str) -> bool,
    ) -> Written {
        let mut written = Written::default();
        let keeps = loop {
            let keeps = {
                let mut state = mailbox.state();
                written.add(state.outbound.write(peer, now_ms, out, out_bytes_max, &may_receive));
                if written.is_cut || state.replays.is_empty() || state.outbound.queued() > 0 {
                    break state.outbound.keeps();
                }
                state.outbound.keeps()
            };
            if !self.replay(mailbox) {
                break keeps;
            }
        };
        let counts = &self.0.counts;
        for (count, n) in [
            (&counts.delivered, written.messages),
            (&counts.too_large, written.too_large),
            (&counts.expired, written.expired),
            (&counts.denied, written.denied),
        ] {
            if n > 0 {
                count.fetch_add(n, Ordering::Relaxed);
            }
        }
        if keeps && written != Written::default() {
            self.mark_dirty(mailbox, written.waits_for_file);
        }
        self.note_progress(mailbox);
        written
    }

    /// PUBACK came, with this reason code.
    pub fn acknowledge(&self, mailbox: &Arc<Mailbox>, packet_id: u16, reason: u8) {
        let (message, keeps) = {
            let mut state = mailbox.state();
            (state.outbound.acknowledge(packet_id), state.outbound.keeps())
        };
        if let Some(message) = message {
            self.note_acknowledged(&message, reason);
        }
        self.settled(mailbox, keeps, false);
    }

    /// PUBREC came.
    pub fn receive(&self, mailbox: &Arc<Mailbox>, packet_id: u16, is_refused: bool) -> Received {
        let (received, keeps) = {
            let mut state = mailbox.state();
            (state.outbound.receive(packet_id, is_refused), state.outbound.keeps())
        };
        self.settled(mailbox, keeps, !is_refused && received == Received::Known);
        received
    }

    /// PUBCOMP came.
    pub fn complete(&self, mailbox: &Arc<Mailbox>, packet_id: u16) {
        let keeps = {
            let mut state = mailbox.state();
            state.outbound.complete(packet_id);
            state.outbound.keeps()
        };
        self.settled(mailbox, keeps, false);
    }

    fn settled(&self, mailbox: &Arc<Mailbox>, keeps: bool, is_urgent: bool) {
        if keeps {
            self.mark_dirty(mailbox, is_urgent);
        }
        self.note_progress(mailbox);
        mailbox.notify();
    }
}

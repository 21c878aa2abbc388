//! Writing what is owed: first what is in flight and was not sent on this connection, then the
//! queue, as far as the client's Receive Maximum and the output allow. A large message is the last
//! for now: it is not copied into the output, and counts as owed until it is written.
//!
//! A step of QoS 2 of a session that is kept waits until the file says it. What the client does not
//! take for its size, may not have any more, or would get too late, is left out and counted.

use super::{InFlight, Keep, Outbound, Step, shrink};
use crate::mqtt::{output::Output, pubrel, version::Version};

/// The client's side of the connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its version.
    pub version: Version,
    /// Longest packet that it takes.
    pub packet_bytes_max: usize,
}

/// What a call to [`Outbound::write`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Messages written.
    pub messages: u64,
    /// Messages that the client does not take, by their size.
    pub too_large: u64,
    /// Messages whose time was over.
    pub expired: u64,
    /// Messages that the client may not have any more.
    pub denied: u64,
    /// There is more, and no room for it in the output.
    pub is_cut: bool,
    /// Something waits for the file to say it.
    pub waits_for_file: bool,
}

impl Written {
    /// What came to it by another call.
    pub fn add(&mut self, other: Written) {
        self.messages += other.messages;
        self.too_large += other.too_large;
        self.expired += other.expired;
        self.denied += other.denied;
        self.is_cut |= other.is_cut;
        self.waits_for_file |= other.waits_for_file;
    }
}

impl Outbound {
    /// Writes what can be sent, until `out` has `out_bytes_max` to be written or a large payload.
    pub fn write(
        &mut self,
        peer: Peer,
        now_ms: u64,
        out: &mut Output,
        out_bytes_max: usize,
        may_receive: impl Fn(&str) -> bool,
    ) -> Written {
        let mut written = Written::default();
        if !out.has_payload() {
            self.has_written();
        }
        if self.receive_max == 0 {
            return written;
        }
        if self.unsent > 0 {
            self.write_flight(peer, now_ms, out, out_bytes_max, &mut written);
        }
        while !written.is_cut && self.flight.len() < usize::from(self.receive_max) {
            let Some(pending) = self.queue.front() else { break };
            if !out.has_room(out_bytes_max) {
                written.is_cut = true;
                break;
            }
            let expires_in_s = pending.message.expires_in_s(now_ms);
            let is_over = expires_in_s == Some(0);
            let is_denied = !may_receive(&pending.message.topic);
            let Some(pending) = self.take_first() else { break };
            if is_over || is_denied {
                written.expired += u64::from(is_over);
                written.denied += u64::from(is_denied && !is_over);
                self.account.settle(&pending);
                continue;
            }
            let waits = pending.qos == 2 && self.keeps;
            let packet_id = if pending.qos > 0 { self.next_packet_id() } else { 0 };
            if !waits
                && !pending.delivery(packet_id, false, expires_in_s).write(
                    peer.version,
                    peer.packet_bytes_max,
                    out,
                )
            {
                written.too_large += 1;
                self.account.settle(&pending);
                continue;
            }
            written.messages += u64::from(!waits);
            written.waits_for_file |= waits;
            if pending.qos > 0 {
                self.unsent += usize::from(waits);
                self.flight.push_back(InFlight {
                    pending,
                    packet_id,
                    step: Step::Publish,
                    sent: !waits,
                    dup: !waits,
                    kept: Keep::No,
                });
            } else if out.has_payload() {
                self.writing = Some(pending);
            } else {
                self.account.settle(&pending);
            }
        }
        // Once it is written, what it takes is given back.
        written.is_cut |= out.has_payload();
        written
    }

    /// Sends what is in flight and was not sent on this connection.
    fn write_flight(
        &mut self,
        peer: Peer,
        now_ms: u64,
        out: &mut Output,
        out_bytes_max: usize,
        written: &mut Written,
    ) {
        let (keeps, account) = (self.keeps, &mut self.account);
        // On a new connection the client may take fewer at a time than on the one before
        // [MQTT-4.9.0-2].
        let is_open = |entry: &&InFlight| entry.sent || entry.step == Step::Release;
        let mut room =
            usize::from(self.receive_max).saturating_sub(self.flight.iter().filter(is_open).count());
        let mut unsent = 0;
        self.flight.retain_mut(|entry| {
            if entry.sent {
                return true;
            }
            if entry.pending.qos == 2 && keeps && entry.kept != Keep::Yes {
                // A save that is under way rings when it has ended.
                written.waits_for_file |= entry.kept == Keep::No;
                unsent += 1;
                return true;
            }
            if entry.step == Step::Publish && room == 0 {
                unsent += 1;
                return true;
            }
            if written.is_cut || !out.has_room(out_bytes_max) {
                written.is_cut = true;
                unsent += 1;
                return true;
            }
            match entry.step {
                Step::Release => pubrel::put(entry.packet_id, out.buffer()),
                Step::Publish => {
                    let expires_in_s = entry.pending.message.expires_in_s(now_ms);
                    if expires_in_s == Some(0) && !entry.dup {
                        written.expired += 1;
                        return account.settle(&entry.pending);
                    }
                    let delivery = entry.pending.delivery(entry.packet_id, entry.dup, expires_in_s);
                    if !delivery.write(peer.version, peer.packet_bytes_max, out) {
                        written.too_large += 1;
                        return account.settle(&entry.pending);
                    }
                    written.messages += 1;
                    room -= 1;
                }
            }
            (entry.sent, entry.dup) = (true, true);
            true
        });
        shrink(&mut self.flight);
        self.unsent = unsent;
    }
}

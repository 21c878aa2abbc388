//! Packet ids and tokens. Pure.
//!
//! Ids count up with the tokens, from 1 to 65,535, and begin again. As no more than that are in
//! flight, an id means the newest message that was sent under it.

/// Packet ids that MQTT has. \[MQTT-2.3.1-1\]
const IDS: u64 = u16::MAX as u64;

/// The ids of one connection.
#[derive(Debug, Clone, Copy)]
pub struct PacketIds {
    /// The token behind the last that was sent.
    next: u64,
    /// The id of that token.
    next_id: u16,
}

impl PacketIds {
    /// Nothing was sent.
    #[must_use]
    pub fn new() -> Self {
        Self { next: 0, next_id: id_of(0) }
    }

    /// The id of the message with this token, which is above all that were sent. Never 0.
    #[inline]
    #[must_use]
    pub fn id(&self, token: u64) -> u16 {
        // Nearly always: gaps are rare.
        if token == self.next { self.next_id } else { id_of(token) }
    }

    /// The message with this token and id was sent.
    #[inline]
    pub fn sent(&mut self, token: u64, id: u16) {
        self.next = token + 1;
        self.next_id = if id == u16::MAX { 1 } else { id + 1 };
    }

    /// The newest token that was sent and has this id.
    #[inline]
    #[must_use]
    pub fn token(&self, id: u16) -> Option<u64> {
        let (next, id) = (u64::from(self.next_id), u64::from(id));
        let back = if next > id { next - id } else { next + IDS - id };
        self.next.checked_sub(back).filter(|_| id != 0)
    }
}

fn id_of(token: u64) -> u16 {
    (token % IDS) as u16 + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_id_means_the_newest_message_that_was_sent_under_it() {
        for (sent, id, expected) in [
            (0, 1, None),
            (9, 0, None),
            (1, 1, Some(0)),
            (1, 2, None),
            (IDS, u16::MAX, Some(IDS - 1)),
            (IDS, 1, Some(0)),
            (IDS + 1, 1, Some(IDS)),
            (IDS + 1, 2, Some(1)),
        ] {
            let mut ids = PacketIds::new();
            (0..sent).for_each(|token| ids.sent(token, ids.id(token)));
            assert_eq!(ids.token(id), expected, "{id} of {sent}");
        }
    }

    proptest! {
        #[test]
        fn the_widest_window_uses_every_packet_id_once_and_never_0(
            first in 0_u64..1 << 40,
            gaps in prop::collection::vec(0_u64..9, 1..300),
        ) {
            let (mut ids, mut token, mut sent) = (PacketIds::new(), first, vec![]);
            for gap in gaps {
                token += gap;
                let id = ids.id(token);
                prop_assert!(id != 0 && sent.iter().all(|(_, other)| *other != id));
                ids.sent(token, id);
                sent.push((token, id));
                token += 1;
            }
            for (token, id) in sent {
                prop_assert_eq!(ids.token(id), Some(token));
            }
        }
    }
}

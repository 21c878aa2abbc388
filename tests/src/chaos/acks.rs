//! Takes PUBACKs out of what a server sends. Pure.
//!
//! It finds out by the first byte whether the server speaks MQTT: a CONNACK comes first. What is
//! something else (TLS, NATS) passes as it is.

use bytes::{Bytes, BytesMut};

use crate::codec;

const CONNACK: u8 = 0x20;
const PUBACK: u8 = 0x40;

/// What one connection's server sends.
#[derive(Debug, Default)]
pub struct AckFilter {
    /// Nothing has come yet, so it is not known.
    is_mqtt: Option<bool>,
    /// A packet that is not whole.
    rest: BytesMut,
}

impl AckFilter {
    /// What of `bytes` passes, and what came before it and has become whole. `drops` is asked for
    /// each PUBACK.
    pub fn pass(&mut self, bytes: Bytes, mut drops: impl FnMut() -> bool) -> Bytes {
        if !*self.is_mqtt.get_or_insert(bytes.first() == Some(&CONNACK)) {
            return bytes;
        }
        self.rest.extend_from_slice(&bytes);
        let mut passed = BytesMut::with_capacity(self.rest.len());
        while let Some((first, _, end)) = codec::frame(&self.rest) {
            let packet = self.rest.split_to(end);
            if first != PUBACK || !drops() {
                passed.extend_from_slice(&packet);
            }
        }
        passed.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pubacks_are_dropped_by_the_rule_and_nothing_else_is() {
        let mut filter = AckFilter::default();
        let all = b"\x20\x02\0\0\x40\x02\0\x01\xD0\0\x40\x02\0\x02\x40\x02\0\x03";
        let mut passed = vec![];
        let mut count = 0;
        // Byte by byte, so that every packet is cut.
        for byte in all {
            let drops = || {
                count += 1;
                count == 2
            };
            passed.extend_from_slice(&filter.pass(Bytes::copy_from_slice(&[*byte]), drops));
        }
        assert_eq!(passed, b"\x20\x02\0\0\x40\x02\0\x01\xD0\0\x40\x02\0\x03");
    }

    #[test]
    fn what_is_no_mqtt_passes_as_it_is() {
        let mut filter = AckFilter::default();
        for bytes in [&b"\x16\x03\x03"[..], b"\x40\x02\0\x01"] {
            assert_eq!(&filter.pass(Bytes::from_static(bytes), || true)[..], bytes);
        }
    }
}

//! The properties of an MQTT 5 PUBLISH: walked once, checked, and those to forward kept as they are on the wire.
//!
//! ```text
//!   forwarded   payload format 0x01, content type 0x03, response topic 0x08, correlation data 0x09,
//!               user property 0x26
//!   dropped     message expiry 0x02: an acknowledged event does not expire
//!   refused     topic alias 0x23 (the maximum is 0), subscription identifier 0x0b, all others
//! ```
//! Limits: [`PROPERTIES_BYTES_MAX`] bytes forwarded. Nothing is copied unless something has to be left out.

use super::{error::Fault, topics};
use crate::store::record::PROPERTIES_BYTES_MAX;

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;

/// The properties to forward out of `raw`, which is a PUBLISH's properties without their length. `scratch` is used
/// only if some are left out.
///
/// # Errors
/// [`Fault::TopicAlias`], [`Fault::Topic`] for a response topic with a wildcard `[MQTT-3.3.2-14]`, [`Fault::Quota`]
/// for more than can be stored, [`Fault::Protocol`] and [`Fault::Malformed`] for what section 3.3.2.3 forbids.
pub fn forwarded<'a>(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
    let mut rest = raw;
    // One bit per identifier: those that `value_bytes` knows are all below 64.
    let mut seen = 0u64;
    let mut dropped = false;
    scratch.clear();
    while let Some((&id, value)) = rest.split_first() {
        let bytes = value_bytes(id, value)?;
        if seen & (1 << id) != 0 && id != USER_PROPERTY {
            return Err(Fault::Protocol("a property is there twice"));
        }
        seen |= 1 << id;
        if id == MESSAGE_EXPIRY {
            if !dropped {
                scratch.extend_from_slice(&raw[..raw.len() - rest.len()]);
            }
            dropped = true;
        } else if dropped {
            scratch.extend_from_slice(&rest[..1 + bytes]);
        }
        rest = &value[bytes..];
    }
    let forwarded: &[u8] = if dropped { scratch } else { raw };
    if forwarded.len() > PROPERTIES_BYTES_MAX {
        return Err(Fault::Quota);
    }
    Ok(forwarded)
}

/// Bytes that the value of property `id` takes at the start of `value`.
fn value_bytes(id: u8, value: &[u8]) -> Result<usize, Fault> {
    let bytes = match id {
        PAYLOAD_FORMAT => {
            if value.first().is_some_and(|&format| format > 1) {
                return Err(Fault::Protocol("the payload format is neither 0 nor 1"));
            }
            1
        }
        MESSAGE_EXPIRY => 4,
        CONTENT_TYPE => text(value)?.len() + 2,
        RESPONSE_TOPIC => {
            let topic = binary(value)?;
            topics::name(topic).ok_or(Fault::Topic)?;
            topic.len() + 2
        }
        CORRELATION_DATA => binary(value)?.len() + 2,
        USER_PROPERTY => {
            let name = text(value)?.len() + 2;
            name + text(&value[name..])?.len() + 2
        }
        TOPIC_ALIAS => return Err(Fault::TopicAlias),
        _ => return Err(Fault::Protocol("a property that a PUBLISH from a client may not have")),
    };
    if value.len() < bytes { Err(CUT) } else { Ok(bytes) }
}

const CUT: Fault = Fault::Malformed("a property is cut short");

fn binary(value: &[u8]) -> Result<&[u8], Fault> {
    let (length, rest) = value.split_first_chunk::<2>().ok_or(CUT)?;
    rest.get(..u16::from_be_bytes(*length).into()).ok_or(CUT)
}

/// UTF-8 without NUL `[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`.
fn text(value: &[u8]) -> Result<&[u8], Fault> {
    let text = binary(value)?;
    if std::str::from_utf8(text).is_err() || text.contains(&0) {
        return Err(Fault::Malformed("a property is no text"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USER: [u8; 7] = [USER_PROPERTY, 0, 1, b'k', 0, 1, b'v'];

    fn run(raw: &[u8]) -> Result<Vec<u8>, Fault> {
        forwarded(raw, &mut vec![1, 2, 3]).map(<[u8]>::to_vec)
    }

    #[test]
    fn what_can_be_forwarded_stays_byte_for_byte() {
        let all: Vec<u8> =
            [&[1, 1, 3, 0, 1, b't', 8, 0, 1, b'r', 9, 0, 2, 0, 255][..], &USER, &USER].concat();
        assert_eq!(run(&all), Ok(all.clone()));
        assert_eq!(run(&[]), Ok(vec![]));
    }

    #[test]
    fn the_message_expiry_alone_is_left_out() {
        let expiry = [MESSAGE_EXPIRY, 0, 0, 0, 9];
        assert_eq!(
            run(&[&USER[..], &expiry, &[1, 0], &USER].concat()),
            Ok([&USER[..], &[1, 0], &USER].concat())
        );
        assert_eq!(run(&expiry), Ok(vec![]));
    }

    #[test]
    fn forbidden_properties_are_refused_by_cause() {
        let huge = [&[CORRELATION_DATA, 0x40, 0][..], &[0; 0x4000]].concat();
        let table: [(&[u8], Fault); 10] = [
            (&[TOPIC_ALIAS, 0, 1], Fault::TopicAlias),
            (&[0x0b, 1], Fault::Protocol("a property that a PUBLISH from a client may not have")),
            (&[0xff, 1], Fault::Protocol("a property that a PUBLISH from a client may not have")),
            (&[1, 2], Fault::Protocol("the payload format is neither 0 nor 1")),
            (&[1, 1, 1, 1], Fault::Protocol("a property is there twice")),
            (&[8, 0, 1, b'#'], Fault::Topic),
            (&[3, 0, 2, b'a'], CUT),
            (&[1], CUT),
            (&[3, 0, 1, 0], Fault::Malformed("a property is no text")),
            (&huge, Fault::Quota),
        ];
        for (raw, wanted) in table {
            assert_eq!(run(raw), Err(wanted));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_nothing_is_invented(raw in proptest::collection::vec(0u8..48, 0..60)) {
            if let Ok(kept) = run(&raw) {
                prop_assert!(kept.len() <= raw.len());
                prop_assert_eq!(run(&kept), Ok(kept));
            }
        }
    }
}

//! The properties of an MQTT 5 PUBLISH: walked once, checked, and those to forward kept as they are
//! on the wire.
//!
//! ```text
//!   forwarded   payload format 0x01, content type 0x03, response topic 0x08, correlation data 0x09,
//!               user property 0x26; message expiry 0x02 before all of them: only local subscribers are told of it
//!   taken out   topic alias 0x23
//!   refused     subscription identifier 0x0b, all others
//! ```
//! Limits: [`PROPERTIES_BYTES_MAX`] bytes forwarded. Nothing is copied unless something has to be
//! moved or left out.

use super::{
    fault::Fault,
    limits::{PROPERTIES_BYTES_MAX, TOPIC_ALIAS_MAX},
    topics,
};

/// The identifier of a message expiry interval.
pub const MESSAGE_EXPIRY: u8 = 0x02;
/// The identifier of correlation data.
pub const CORRELATION_DATA: u8 = 0x09;
const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
/// A message expiry interval with its identifier, in bytes.
const EXPIRY_BYTES: usize = 5;
/// A topic alias with its identifier, in bytes.
const ALIAS_BYTES: usize = 3;

/// What the properties of a PUBLISH say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked<'a> {
    /// To forward, a message expiry interval first.
    pub forwarded: &'a [u8],
    /// The topic alias, 1 to [`TOPIC_ALIAS_MAX`].
    pub alias: Option<u16>,
}

/// Walks `raw`, which is a PUBLISH's properties without their length. `scratch` is used only if
/// some are moved or left out.
///
/// # Errors
/// [`Fault::TopicAlias`], [`Fault::Topic`] for a response topic with a wildcard `[MQTT-3.3.2-14]`,
/// [`Fault::Quota`] for more than can be stored, [`Fault::Protocol`] and [`Fault::Malformed`] for
/// what section 3.3.2.3 forbids.
#[inline]
pub fn walk<'a>(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Walked<'a>, Fault> {
    if raw.is_empty() {
        return Ok(Walked { forwarded: raw, alias: None });
    }
    let (mut rest, mut alias) = (raw, None);
    // One bit per identifier: those that `value_bytes` knows are all below 64.
    let mut seen = 0u64;
    // Where the message expiry lies that is not first.
    let mut expiry_at = None;
    while let Some((&id, value)) = rest.split_first() {
        let bytes = value_bytes(id, value)?;
        if seen & (1 << id) != 0 && id != USER_PROPERTY {
            return Err(Fault::Protocol("a property is there twice"));
        }
        seen |= 1 << id;
        let at = raw.len() - rest.len();
        match id {
            TOPIC_ALIAS => alias = Some((at, alias_of(value)?)),
            MESSAGE_EXPIRY if at > 0 => expiry_at = Some(at),
            _ => {}
        }
        rest = &value[bytes..];
    }
    let forwarded: &[u8] = if alias.is_none() && expiry_at.is_none() {
        raw
    } else {
        scratch.clear();
        if let Some(at) = expiry_at {
            scratch.extend_from_slice(&raw[at..at + EXPIRY_BYTES]);
        }
        // What is cut out, and how long it is.
        let mut cuts = [alias.map(|(at, _)| (at, ALIAS_BYTES)), expiry_at.map(|at| (at, EXPIRY_BYTES))];
        cuts.sort_unstable();
        let mut from = 0;
        for (at, bytes) in cuts.into_iter().flatten() {
            scratch.extend_from_slice(&raw[from..at]);
            from = at + bytes;
        }
        scratch.extend_from_slice(&raw[from..]);
        scratch
    };
    if forwarded.len() > PROPERTIES_BYTES_MAX {
        return Err(Fault::Quota);
    }
    Ok(Walked { forwarded, alias: alias.map(|(_, alias)| alias) })
}

fn alias_of(value: &[u8]) -> Result<u16, Fault> {
    let alias = value.first_chunk::<2>().map_or(0, |alias| u16::from_be_bytes(*alias));
    if (1..=TOPIC_ALIAS_MAX).contains(&alias) { Ok(alias) } else { Err(Fault::TopicAlias) }
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
        TOPIC_ALIAS => 2,
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
        walk(raw, &mut vec![1, 2, 3]).map(|walked| walked.forwarded.to_vec())
    }

    #[test]
    fn what_can_be_forwarded_stays_byte_for_byte() {
        let all: Vec<u8> =
            [&[1, 1, 3, 0, 1, b't', 8, 0, 1, b'r', 9, 0, 2, 0, 255][..], &USER, &USER].concat();
        assert_eq!(run(&all), Ok(all.clone()));
        assert_eq!(run(&[]), Ok(vec![]));
    }

    #[test]
    fn a_message_expiry_comes_first_and_a_topic_alias_is_taken_out() {
        let (expiry, alias) = ([MESSAGE_EXPIRY, 0, 0, 0, 9], [TOPIC_ALIAS, 0, 3]);
        let table = [
            (
                [&USER[..], &expiry, &[1, 0], &USER].concat(),
                [&expiry[..], &USER, &[1, 0], &USER].concat(),
                None,
            ),
            ([&alias[..], &USER, &expiry].concat(), [&expiry[..], &USER].concat(), Some(3)),
            ([&USER[..], &expiry, &alias].concat(), [&expiry[..], &USER].concat(), Some(3)),
            ([&expiry[..], &alias].concat(), expiry.to_vec(), Some(3)),
            (expiry.to_vec(), expiry.to_vec(), None),
            (alias.to_vec(), vec![], Some(3)),
        ];
        for (raw, wanted, alias) in table {
            let mut scratch = vec![];
            assert_eq!(walk(&raw, &mut scratch), Ok(Walked { forwarded: &wanted, alias }), "{raw:02x?}");
        }
    }

    #[test]
    fn forbidden_properties_are_refused_by_cause() {
        let huge = [&[CORRELATION_DATA, 0x40, 0][..], &[0; 0x4000]].concat();
        let table: [(&[u8], Fault); 11] = [
            (&[TOPIC_ALIAS, 0, 0], Fault::TopicAlias),
            (&[TOPIC_ALIAS, 0, 17], Fault::TopicAlias),
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

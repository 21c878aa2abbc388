//! The protocol's name and level, with which a CONNECT begins. Pure.
//!
//! ```text
//!   | 0 4 M Q T T | 4 |       MQTT 3.1.1        | 0 6 M Q I s d p | 3 |       MQTT 3.1
//!   | 0 4 M Q T T | 4+0x80 |  as a bridge       | 0 6 M Q I s d p | 3+0x80 |  as a bridge
//!   | 0 4 M Q T T | 5 |       MQTT 5
//! ```
//! mosquitto's bridges set the highest bit by default (`try_private`). What MQTT 3.1 and bridges
//! send is in the packets of 3.1.1, so the rest of a CONNECT is read as one: see [`plain`].

use std::borrow::Cow;

use super::{
    fault::Fault,
    version::{Dialect, Version},
};

/// The bit of the level by which a bridge makes itself known.
const BRIDGE: u8 = 0x80;
/// Name and level of MQTT 3.1.1.
const V311_HEAD: &[u8] = b"\0\x04MQTT\x04";
/// Bytes of the name and level of MQTT 3.1.
const V31_HEAD_BYTES: usize = b"\0\x06MQIsdp\x03".len();

/// What the name and the level at the start of a CONNECT's body say.
///
/// # Errors
/// [`Fault::NotConnect`] for another name, [`Fault::Version`] for a level that is not served, with
/// the version in which to answer.
pub fn read(body: &[u8]) -> Result<(Version, Dialect), (Version, Fault)> {
    let name = body
        .split_first_chunk::<2>()
        .and_then(|(length, rest)| rest.split_at_checked(u16::from_be_bytes(*length).into()));
    let v311 = |is_v31, is_bridge| Ok((Version::V311, Dialect { is_v31, is_bridge }));
    match name {
        Some((b"MQTT", [4, ..])) => v311(false, false),
        Some((b"MQTT", [level, ..])) if *level == 4 | BRIDGE => v311(false, true),
        Some((b"MQTT", [5, ..])) => Ok((Version::V5, Dialect::default())),
        Some((b"MQIsdp", [3, ..])) => v311(true, false),
        Some((b"MQIsdp", [level, ..])) if *level == 3 | BRIDGE => v311(true, true),
        Some((b"MQTT", &[level, ..])) => {
            let version = if level > 5 { Version::V5 } else { Version::V311 };
            Err((version, Fault::Version(level)))
        }
        Some((b"MQIsdp", &[level, ..])) => Err((Version::V311, Fault::Version(level))),
        _ => Err((Version::V311, Fault::NotConnect)),
    }
}

/// The body of a CONNECT that [`read`] took, as a client of its [`Version`] without a dialect would
/// send it.
pub fn plain(dialect: Dialect, body: &[u8]) -> Cow<'_, [u8]> {
    match dialect {
        Dialect { is_v31: false, is_bridge: false } => Cow::Borrowed(body),
        Dialect { is_v31, .. } => {
            let head_bytes = if is_v31 { V31_HEAD_BYTES } else { V311_HEAD.len() };
            Cow::Owned([V311_HEAD, &body[head_bytes..]].concat())
        }
    }
}

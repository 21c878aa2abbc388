//! CONNECT with all that a server may judge: MQTT 3.1.1 and 5.0 section 3.1.

use bytes::{Buf, Bytes};

use super::{
    Version,
    read::{take, take_length, take_prefixed, take_text},
};

/// All of a CONNECT but what its will says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeConnect {
    /// 4 or 5.
    pub version: Version,
    /// As sent; may be empty.
    pub client_id: String,
    /// Clean session or clean start.
    pub clean: bool,
    /// 0 turns it off.
    pub keep_alive_s: u16,
    /// How long the session outlives its connection; 0 where a 3.1.1 client has a clean one or an
    /// MQTT 5 client says nothing, for ever where a 3.1.1 client wants it kept.
    pub session_expiry_s: u32,
    /// User properties; none in MQTT 3.1.1.
    pub user_properties: usize,
    /// It leaves a will.
    pub has_will: bool,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Bytes>,
}

/// Reads the body of a CONNECT; `None` if it is malformed.
#[must_use]
pub fn read_whole_connect(mut body: Bytes) -> Option<WholeConnect> {
    take_prefixed(&mut body)?;
    let version = match take(&mut body, 1)?[0] {
        4 | 0x84 => Version::V311,
        5 => Version::V5,
        _ => return None,
    };
    let flags = take(&mut body, 1)?[0];
    let keep_alive_s = take(&mut body, 2)?.get_u16();
    let clean = flags & 2 != 0;
    let (mut session_expiry_s, user_properties) = read_properties(&mut body, version)?;
    if version == Version::V311 && !clean {
        session_expiry_s = u32::MAX;
    }
    let client_id = take_text(&mut body)?;
    let has_will = flags & 4 != 0;
    if has_will {
        read_properties(&mut body, version)?;
        take_prefixed(&mut body)?;
        take_prefixed(&mut body)?;
    }
    let user = if flags & 0x80 != 0 { Some(take_text(&mut body)?) } else { None };
    let password = if flags & 0x40 != 0 { Some(take_prefixed(&mut body)?) } else { None };
    body.is_empty().then_some(WholeConnect {
        version,
        client_id,
        clean,
        keep_alive_s,
        session_expiry_s,
        user_properties,
        has_will,
        user,
        password,
    })
}

/// The Session Expiry Interval and the number of user properties, in the properties of CONNECT or
/// of its will: MQTT 5.0 sections 3.1.2.11 and 3.1.3.2.
fn read_properties(body: &mut Bytes, version: Version) -> Option<(u32, usize)> {
    let (mut expiry_s, mut user) = (0, 0);
    if version == Version::V311 {
        return Some((expiry_s, user));
    }
    let size = take_length(body)?;
    let mut rest = take(body, size)?;
    while rest.has_remaining() {
        match rest.get_u8() {
            0x01 | 0x17 | 0x19 => drop(take(&mut rest, 1)?),
            0x21 | 0x22 => drop(take(&mut rest, 2)?),
            0x02 | 0x18 | 0x27 => drop(take(&mut rest, 4)?),
            0x11 => expiry_s = take(&mut rest, 4)?.get_u32(),
            0x03 | 0x08 | 0x09 | 0x15 | 0x16 => drop(take_prefixed(&mut rest)?),
            0x26 => {
                take_text(&mut rest)?;
                take_text(&mut rest)?;
                user += 1;
            }
            _ => return None,
        }
    }
    Some((expiry_s, user))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{super::*, *};

    fn whole(packet: BytesMut) -> WholeConnect {
        let (_, start, end) = frame(&packet).unwrap();
        read_whole_connect(packet.freeze().slice(start..end)).unwrap()
    }

    #[test]
    fn all_of_a_connect_is_read_in_both_versions() {
        let mut out = BytesMut::new();
        let connect = Connect { version: Version::V311, client_id: "c", clean: false, keep_alive_s: 7 };
        put_connect_as(&mut out, &connect, Some(("u", "p")));
        let read = whole(out);
        assert_eq!((read.version, read.keep_alive_s, read.session_expiry_s), (Version::V311, 7, u32::MAX));
        assert_eq!((read.user.as_deref(), read.password.as_deref()), (Some("u"), Some(&b"p"[..])));
        let mut out = BytesMut::new();
        put_connect_with_will(&mut out, "d", "gone", "x", 3);
        let read = whole(out);
        assert_eq!((read.version, read.session_expiry_s, read.has_will), (Version::V5, 3600, true));
        assert_eq!((read.client_id.as_str(), read.user), ("d", None));
    }

    #[test]
    fn user_properties_of_a_connect_are_counted() {
        let body = b"\0\x04MQTT\x05\x02\0\x3C\x07\x26\0\x01a\0\x01b\0\x01c";
        let read = read_whole_connect(Bytes::from_static(body)).unwrap();
        assert_eq!((read.user_properties, read.clean, read.keep_alive_s), (1, true, 60));
        assert_eq!(read_whole_connect(Bytes::from_static(&body[..18])), None);
    }
}

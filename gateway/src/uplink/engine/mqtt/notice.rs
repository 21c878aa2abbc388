//! What a broker says when it refuses a connection or ends one, in words: the code by its name, its
//! own text, and which key of the configuration to look at. Pure.
//!
//! ```text
//!  CONNACK, DISCONNECT ─▶ Notice:  not authorized (0x87), "no such device": allow this client …
//!                                  └ mqtt::reason       └ the broker's     └ advise
//! ```
//! Limits: the broker's text to [`TEXT_BYTES_MAX`]. It is kept as it came: whoever shows it makes
//! it printable, as any text from outside.

use crate::{
    mqtt::{
        Version,
        reason::{Reason, connect_return_name},
    },
    uplink::engine::{Notice, Refusal},
};

/// Longest text of a broker that is repeated, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;

const CLIENT_ID: &str = "set client_id to one that it takes";
const LOGIN: &str = "check user, and the password in password_file or TIDEGATE_PASSWORD_<NAME>";
const NOT_CONNECT: &str =
    "allow this client there, by client_id, user or certificate, or set those that it knows";
const NOT_PUBLISH: &str = "allow this client there to publish, or set topic to what it may publish on";
const RATE: &str = "set events_per_second or bytes_per_second to what it allows";

/// When the broker said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// In CONNACK.
    Connect,
    /// In DISCONNECT, or in PUBACK.
    Later,
}

impl Notice {
    /// The notice of a client that connected by `version` and got this `code`. A broker that knows
    /// 3.1.1 alone answers in 3.1.1, whose codes are below 0x80, whatever it was asked in.
    #[must_use]
    pub fn of_broker(moment: Moment, code: u8, version: Version, text: Option<String>) -> Self {
        let is_old = moment == Moment::Connect && (version == Version::V311 || code < 0x80);
        let reason = match is_old {
            true => Refusal::new(connect_return_name(code), code.into()),
            false => Reason(code).into(),
        };
        let code = if is_old { modern(code) } else { code };
        Self { reason: reason.advised(advise(moment, code, version)), text: text.map(cut) }
    }
}

/// The reason code of MQTT 5 that says what a return code of 3.1.1 does.
fn modern(code: u8) -> u8 {
    match code {
        1 => 0x84,
        2 => 0x85,
        3 => 0x88,
        4 => 0x86,
        5 => 0x87,
        _ => 0x80,
    }
}

/// What to do about a reason code: which key to look at, or what to see to at the broker.
pub fn advise(moment: Moment, code: u8, version: Version) -> Option<&'static str> {
    Some(match (code, moment, version) {
        (0x81 | 0x82 | 0x84, Moment::Connect, Version::V5) => "set protocol = \"3.1.1\"",
        (0x84, Moment::Connect, Version::V311) => "set protocol = \"5\"",
        (0x85, ..) => CLIENT_ID,
        (0x86, ..) => LOGIN,
        (0x87, Moment::Connect, _) => NOT_CONNECT,
        (0x87, Moment::Later, _) => NOT_PUBLISH,
        (0x88 | 0x89 | 0x8B, ..) => "nothing to change here, it goes on by itself",
        (0x8A, ..) => "lift the ban there, of this client id, user or address",
        (0x8C, ..) => {
            "it wants another way to authenticate: allow user and password there, or a certificate in tls.cert"
        }
        (0x8D, ..) => "set keep_alive to less than it waits",
        (0x8E, ..) => "another client connects with this client id: give each a client_id of its own",
        (0x90, ..) => "set topic to one that it takes",
        (0x93, ..) => "set window to what it takes at a time",
        (0x95, ..) => "set max_packet_bytes to what it takes",
        (0x96, ..) => RATE,
        (0x97, ..) => "raise the quota there, or set events_per_second or bytes_per_second",
        (0x99, ..) => "set format to one that it takes",
        (0x9A, ..) => "set retain = \"never\"",
        (0x9B, ..) => "it has to take QoS 1: use another one",
        (0x9C | 0x9D, ..) => "set url to the server that it names",
        (0x9F, ..) => {
            "the next tries are farther apart by themselves; see that no other client uses this client_id"
        }
        (0xA0, ..) => "set renew to less than it allows",
        _ => return None,
    })
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text += "...";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_said_with_its_name_the_brokers_text_and_the_key_to_look_at() {
        use Moment::{Connect, Later};
        let (old, new) = (Version::V311, Version::V5);
        for (moment, code, version, text, said) in [
            (Connect, 1, old, "", "unacceptable protocol version (1): set protocol = \"5\""),
            (Connect, 1, new, "", "unacceptable protocol version (1): set protocol = \"3.1.1\""),
            (Connect, 2, old, "", "identifier rejected (2): set client_id to one that it takes"),
            (Connect, 4, old, "", "bad user name or password (4): check user, and the password in "),
            (Connect, 5, old, "", "not authorized (5): allow this client there, by client_id"),
            (Connect, 9, old, "", "a code that MQTT 3.1.1 does not name (9)"),
            (
                Connect,
                0x87,
                new,
                "no such device",
                "not authorized (0x87), \"no such device\": allow this client",
            ),
            (Connect, 0x85, new, "", "client identifier not valid (0x85): set client_id"),
            (Connect, 0x86, new, "", "bad user name or password (0x86): check user"),
            (Connect, 0x9D, new, "b.example", "server moved (0x9d), \"b.example\": set url to the server"),
            (Connect, 0x9F, new, "", "connection rate exceeded (0x9f): the next tries are farther apart"),
            (Later, 0x97, new, "", "quota exceeded (0x97): raise the quota there, or set events_per_second"),
            (Later, 0x87, new, "", "not authorized (0x87): allow this client there to publish"),
            (Later, 0x8E, new, "", "session taken over (0x8e): another client connects with this client id"),
            (Later, 0x82, new, "", "protocol error (0x82)"),
            (Later, 0x00, new, "", "success (0x00)"),
        ] {
            let text = (!text.is_empty()).then(|| text.to_owned());
            let notice = Notice::of_broker(moment, code, version, text).to_string();
            assert!(notice.starts_with(said), "{moment:?} {code} {version:?}: {notice}");
        }
    }

    #[test]
    fn a_brokers_text_is_cut_to_what_a_line_has_room_for() {
        let text = "ä".repeat(40_000);
        let notice = Notice::of_broker(Moment::Connect, 0x80, Version::V5, Some(text));
        let text = notice.text.unwrap();
        assert!(text.len() <= TEXT_BYTES_MAX + 3 && text.ends_with("ä..."), "{} bytes", text.len());
    }
}

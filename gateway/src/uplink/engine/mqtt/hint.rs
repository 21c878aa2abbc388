//! What it may mean that a broker ended a connection without a word: from what was seen to a hint.
//! Pure.
//!
//! The wire says nothing then, so a hint names what is likely and how to find out, the likeliest
//! first. What a broker says in words goes through `notice.rs`.

use crate::{
    mqtt::Version,
    uplink::engine::{SOON, Silence},
};

/// So many in a row that ended soon are no accident.
const OFTEN: u32 = 3;
/// Ports where MQTT is spoken in TLS.
const TLS_PORTS: [u16; 3] = [443, 8883, 8884];

/// What the configuration says of the way to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// The broker's port.
    pub port: u16,
    /// There is TLS.
    pub has_tls: bool,
    /// There is a WebSocket.
    pub has_websocket: bool,
    /// The version that was spoken.
    pub version: Version,
}

/// What may be the matter; `None` where nothing is likelier than that the broker was restarted.
#[must_use]
pub fn hint(way: Way, silence: Silence) -> Option<String> {
    match silence {
        Silence::ClosedInHandshake => Some(closed_in_handshake(way)),
        Silence::NoHandshake => Some(match way.has_tls || way.has_websocket {
            true => "is it an MQTT broker that answers there?".to_owned(),
            false => format!("is it an MQTT broker that answers there? If it wants TLS, {}", tls(way)),
        }),
        Silence::Closed { lasted, sent, took, in_a_row } if lasted < SOON => {
            let again = in_a_row >= OFTEN;
            let rule = sent && !took;
            let mut may = Vec::new();
            if rule {
                may.push("a rule (policy, ACL) there may forbid this client to publish on this topic, or to retain");
            }
            if again {
                may.push("another client may connect with this client id: give each a client_id of its own");
            }
            let often = if again {
                format!("{in_a_row} times in a row, soon after it was made; ")
            } else {
                String::new()
            };
            (!may.is_empty()).then(|| often + &may.join("; "))
        }
        Silence::Closed { .. } => None,
    }
}

fn closed_in_handshake(way: Way) -> String {
    let mut may = Vec::new();
    if !way.has_tls && !way.has_websocket {
        may.push(format!("TLS at this port: {}", tls(way)));
    }
    if way.version == Version::V5 {
        may.push("MQTT 3.1.1 alone: set protocol = \"3.1.1\"".to_owned());
    }
    may.push("another client_id or user, or a rule (policy) there that allows this client".to_owned());
    format!("it may want {}", may.join("; or "))
}

fn tls(way: Way) -> String {
    let port = way.port;
    match TLS_PORTS.contains(&port) {
        true => format!("write mqtts:// in url, as port {port} is mostly one of TLS"),
        false => "write mqtts:// in url".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_seen_leads_to_what_is_likely() {
        use Silence::{Closed, ClosedInHandshake, NoHandshake};
        let plain = Way { port: 1883, has_tls: false, has_websocket: false, version: Version::V5 };
        let old = Way { version: Version::V311, ..plain };
        let tls = Way { port: 8883, has_tls: true, ..plain };
        let tls_port = Way { port: 8883, ..plain };
        let after =
            |ms, sent, took, in_a_row| Closed { lasted: Duration::from_millis(ms), sent, took, in_a_row };
        let (wants_tls, wants_old) = ("TLS at this port", "protocol = \"3.1.1\"");
        let (rule, twin) = ("a rule (policy, ACL) there", "another client may connect with this client id");
        type Case<'a> = (Way, Silence, &'a [&'a str], &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            (plain, ClosedInHandshake, &[wants_tls, wants_old, "(policy)"], &["mostly one of TLS"]),
            (tls_port, ClosedInHandshake, &["port 8883 is mostly one of TLS"], &[]),
            (old, ClosedInHandshake, &[wants_tls, "another client_id"], &[wants_old]),
            (tls, ClosedInHandshake, &[wants_old, "(policy)"], &[wants_tls]),
            (plain, NoHandshake, &["is it an MQTT broker", "mqtts://"], &[]),
            (tls, NoHandshake, &["is it an MQTT broker"], &["mqtts://"]),
            (plain, after(50, true, false, 1), &[rule], &[twin, "in a row"]),
            (plain, after(50, true, false, 3), &["3 times in a row", rule, twin], &[]),
            (plain, after(900, true, true, 4), &["4 times in a row", twin], &[rule]),
            (plain, after(900, false, false, 3), &[twin], &[rule]),
        ];
        for (way, silence, words, others) in cases {
            let said = hint(*way, *silence).unwrap_or_default();
            assert!(words.iter().all(|words| said.contains(words)), "{way:?} {silence:?}: {said}");
            assert!(!others.iter().any(|words| said.contains(words)), "{way:?} {silence:?}: {said}");
        }
        for nothing in [after(50, false, false, 1), after(900, true, true, 2), after(10_000, true, false, 9)]
        {
            assert_eq!(hint(plain, nothing), None, "{nothing:?}");
        }
    }
}

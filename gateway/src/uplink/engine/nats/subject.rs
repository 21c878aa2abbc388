//! The subject under which an event goes to NATS. Pure.
//!
//! NATS separates the levels of a subject by `.` where MQTT has `/`, reserves some names for
//! itself, and gives a meaning to characters that a topic may hold. Nothing is refused for that:
//! what NATS cannot carry is percent-encoded, as in a URL, so that no two topics become one subject
//! and every subject leads back to its topic.
//!
//! ```text
//!  in the topic                                    in the subject
//!  /                                               .
//!  . * > % space, control characters               %2E %2A %3E %25 %20 ...
//!  a level without characters: a//b, /a, a/        %00, which no topic can hold
//!  $ or _ at the very beginning                    %24 %5F: `$SYS`, `$JS` and `_INBOX` are the server's
//! ```
//! Back: replace `.` by `/`, decode, and leave out the NUL characters.
//!
//! The mapping of the MQTT listener of nats-server is another one (`/.` and `//` stand for empty
//! levels and dots). It refuses a space, and its subjects are undone by no library.
//!
//! Limits: a subject to [`SUBJECT_BYTES_MAX`]. It does not know which stream takes a subject.

/// Longest subject, in bytes: with the rest of its line it stays below the 4 KiB that a server
/// takes unless told otherwise (`max_control_line`).
pub const SUBJECT_BYTES_MAX: usize = 3 * 1024;

/// What stands for a level without characters.
const EMPTY_LEVEL: &[u8] = b"%00";
const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The subject of an event would be too long. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its subject of {bytes} bytes is longer than {SUBJECT_BYTES_MAX} bytes, which NATS takes")]
pub struct SubjectTooLong {
    /// How long it would be.
    pub bytes: usize,
}

/// Appends the subject for `topic`, which is a topic: not empty, without wildcards and NUL.
///
/// # Errors
/// [`SubjectTooLong`]: `out` is as it was.
pub fn put(topic: &[u8], out: &mut Vec<u8>) -> Result<(), SubjectTooLong> {
    let begin = out.len();
    let mut level = begin;
    for (at, byte) in topic.iter().copied().enumerate() {
        match byte {
            b'/' => {
                if out.len() == level {
                    out.extend_from_slice(EMPTY_LEVEL);
                }
                out.push(b'.');
                level = out.len();
            }
            b'$' | b'_' if at == 0 => put_encoded(byte, out),
            0..=b' ' | b'.' | b'*' | b'>' | b'%' | 0x7F => put_encoded(byte, out),
            _ => out.push(byte),
        }
    }
    if out.len() == level {
        out.extend_from_slice(EMPTY_LEVEL);
    }
    let bytes = out.len() - begin;
    if bytes > SUBJECT_BYTES_MAX {
        out.truncate(begin);
        return Err(SubjectTooLong { bytes });
    }
    Ok(())
}

/// Appends a byte as URLs encode it.
pub fn put_encoded(byte: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn subject(topic: &str) -> String {
        let mut out = b"HPUB ".to_vec();
        put(topic.as_bytes(), &mut out).unwrap();
        String::from_utf8(out.split_off(5)).unwrap()
    }

    /// As the head of this file tells a consumer to do it.
    fn topic(subject: &str) -> String {
        let text = subject.replace('.', "/");
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend_from_slice(&part.as_bytes()[2..]);
        }
        String::from_utf8(bytes).unwrap().replace('\0', "")
    }

    #[test]
    fn a_topic_has_a_subject_of_its_own() {
        for (topic, expected) in [
            ("tg/stall-3/e", "tg.stall-3.e"),
            ("a", "a"),
            ("a_b/$c/_d", "a_b.$c._d"),
            ("Grüße/°C", "Grüße.°C"),
            ("1.5/x", "1%2E5.x"),
            ("a b\tc", "a%20b%09c"),
            ("*/a>/50%", "%2A.a%3E.50%25"),
            ("$SYS/x", "%24SYS.x"),
            ("_INBOX/x", "%5FINBOX.x"),
            ("/", "%00.%00"),
            ("/a//b/", "%00.a.%00.b.%00"),
            ("a\u{7f}\r\n", "a%7F%0D%0A"),
        ] {
            assert_eq!(subject(topic), expected);
            assert_eq!(self::topic(expected), topic);
        }
    }

    #[test]
    fn a_subject_beyond_the_limit_is_refused_and_nothing_is_written() {
        let mut out = b"HPUB ".to_vec();
        assert_eq!(put(&[b'x'; SUBJECT_BYTES_MAX], &mut out), Ok(()));
        out.truncate(5);
        let bytes = SUBJECT_BYTES_MAX + 1;
        assert_eq!(put(&[b'.'; 1025], &mut out), Err(SubjectTooLong { bytes: 3 * 1025 }));
        assert_eq!(put(&vec![b'x'; bytes], &mut out), Err(SubjectTooLong { bytes }));
        assert_eq!(out, b"HPUB ");
    }

    proptest! {
        #[test]
        fn every_topic_has_a_subject_that_nats_takes_and_that_leads_back(
            topics in prop::collection::btree_set("[ab/.*>%$_ \u{1}-\u{20}ä]{1,12}", 1..40),
        ) {
            let subjects: BTreeSet<String> = topics.iter().map(|topic| subject(topic)).collect();
            prop_assert_eq!(subjects.len(), topics.len());
            for (subject, topic) in topics.iter().map(|topic| (subject(topic), topic)) {
                prop_assert!(subject.split('.').all(|level| !level.is_empty()), "{}", subject);
                prop_assert!(!subject.contains(|c: char| c.is_ascii_control() || " *>".contains(c)));
                prop_assert!(!subject.starts_with(['$', '_']));
                prop_assert_eq!(&self::topic(&subject), topic);
            }
        }
    }
}

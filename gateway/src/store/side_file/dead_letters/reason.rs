//! Why an event is a dead letter: a code, which programs go by, and a text, which people read.
//!
//! A code is stored as its number, which never changes its meaning and is never given again.
//! Letters of before there were codes are known by how their texts begin.

/// What kind of reason it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ReasonCode {
    /// None of the others, or one of a newer version.
    #[default]
    Other = 0,
    /// No birth of its device says what it is: it is sent when one does.
    NoBirth = 1,
    /// It cannot be decoded, or a part of it.
    Undecodable = 2,
    /// It is longer than the upstream takes.
    TooLong = 3,
    /// There is no topic for it.
    NoTopic = 4,
    /// The upstream refused it.
    Refused = 5,
    /// The upstream closed the connection over it.
    Closed = 6,
    /// The upstream never acknowledged it.
    Ignored = 7,
    /// The upstream fell silent over it.
    Silent = 8,
}

/// A reason that is not stored yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind it is.
    pub code: ReasonCode,
    /// The whole of it, for people.
    pub text: String,
}

/// How the texts of versions without codes begin, the first that fits, or what stands in them
/// behind the event of a frame that they name.
const OLD_TEXTS: [(&str, ReasonCode); 9] = [
    ("no birth of its device", ReasonCode::NoBirth),
    ("the frame cannot be read", ReasonCode::Undecodable),
    ("its packet of", ReasonCode::TooLong),
    ("the topic for the upstream", ReasonCode::NoTopic),
    ("the upstream refused it", ReasonCode::Refused),
    ("the upstream closed the connection over it", ReasonCode::Closed),
    ("the upstream never acknowledged it", ReasonCode::Ignored),
    ("the upstream fell silent over it", ReasonCode::Silent),
    ("event ", ReasonCode::Undecodable),
];
/// What stands before the text of a letter that another uplink sent, and its name behind that.
const SENT_BY: &str = "sent by ";
/// What stands before the text of one event of a frame, and its number behind that.
const EVENT: &str = "event ";

impl ReasonCode {
    const ALL: [Self; 9] = [
        Self::Other,
        Self::NoBirth,
        Self::Undecodable,
        Self::TooLong,
        Self::NoTopic,
        Self::Refused,
        Self::Closed,
        Self::Ignored,
        Self::Silent,
    ];

    /// As it is stored.
    pub(super) fn number(self) -> u8 {
        self as u8
    }

    /// That of a stored number.
    pub(super) fn of_number(number: u8) -> Self {
        Self::ALL.into_iter().find(|code| code.number() == number).unwrap_or_default()
    }

    /// That of a text of before there were codes.
    #[must_use]
    pub fn of_old_text(text: &str) -> Self {
        let behind = |prefix| text.strip_prefix(prefix).and_then(|rest| rest.split_once(": "));
        if let Some((_, rest)) = behind(SENT_BY) {
            return Self::of_old_text(rest);
        }
        let of_event = behind(EVENT).map(|(_, rest)| rest);
        let fits = |(begins, _): &&(&str, Self)| {
            text.starts_with(begins) || of_event.is_some_and(|rest| rest.starts_with(begins))
        };
        OLD_TEXTS.iter().find(fits).map(|(_, code)| *code).unwrap_or_default()
    }
}

impl Reason {
    /// A reason of this kind.
    #[must_use]
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_and_an_unknown_one_is_another() {
        for (number, code) in (0..).zip(ReasonCode::ALL) {
            assert_eq!((code.number(), ReasonCode::of_number(number)), (number, code));
        }
        assert_eq!(ReasonCode::of_number(200), ReasonCode::Other);
    }

    #[test]
    fn the_texts_of_versions_without_codes_are_known() {
        for (text, code) in [
            (
                "no birth of its device says what its events are (schema set 00c0ffee; its last birth announced 0badcafe)",
                ReasonCode::NoBirth,
            ),
            ("the frame cannot be read: it is cut short", ReasonCode::Undecodable),
            ("event 17/300: its device's birth knows no kind 9", ReasonCode::Undecodable),
            ("event 17/300 is no climate 1: it is too short", ReasonCode::Undecodable),
            (
                "event 17/300: its packet of 308 bytes is longer than the 256 bytes that the upstream takes",
                ReasonCode::TooLong,
            ),
            (
                "its packet of 308 bytes is longer than the 256 bytes that the upstream takes",
                ReasonCode::TooLong,
            ),
            ("the topic for the upstream holds a wildcard or NUL", ReasonCode::NoTopic),
            ("the upstream refused it: not authorized (0x87)", ReasonCode::Refused),
            ("sent by lake: the upstream refused it: not authorized (0x87)", ReasonCode::Refused),
            ("the upstream closed the connection over it", ReasonCode::Closed),
            ("the upstream never acknowledged it", ReasonCode::Ignored),
            ("the upstream fell silent over it", ReasonCode::Silent),
            ("too large", ReasonCode::Other),
        ] {
            assert_eq!(ReasonCode::of_old_text(text), code, "{text}");
        }
    }
}

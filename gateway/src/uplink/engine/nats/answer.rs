//! What JetStream's answer to a message says of it: accepted, rejected, or to be sent
//! again. A pure judge.
//!
//! ```text
//!  {"stream":"EVENTS","seq":7}                       accepted
//!  {"stream":"EVENTS","seq":7,"duplicate":true}      a duplicate: the stream had it already, and
//!                                                    a full one says so as well
//!  {"error":{"code":400,"err_code":10054,...},...}   rejected: too large for this stream
//!  {"error":{...}}, any other                        again
//!  status 503, nobody listens                        again: there is no stream, or no JetStream
//!  anything else                                     again: it is not JetStream who answers
//! ```
//! The HTTP-like code says little: 400 stands for an account whose room is used up as well. So only
//! errors that speak of the message itself are final, and for everything else it is sent again; if
//! one message alone is refused for ever, the delivery finds that out as it does for every engine.
//! The codes are those of `server/errors.json` of nats-server.

use std::borrow::Cow;

use serde::Deserialize;

use super::super::{Refusal, Verdict};

/// The message is longer than the stream takes (`max_msg_size`).
const MESSAGE_TOO_LARGE: u16 = 10_054;
/// Its headers are longer than any stream takes, 64 KiB.
const HEADERS_TOO_LARGE: u16 = 10_097;
/// There is no stream of this name: an answer to a question, not to a message.
pub const STREAM_NOT_FOUND: u16 = 10_059;

/// Nobody listens: the status of an answer that the server gives then.
pub const NO_RESPONDERS: Refusal = Refusal::new("no stream takes its subject, or JetStream is off", 503);
/// What answers does not speak as JetStream does.
pub const STRANGER: Refusal = Refusal::new("what answers on its subject is not JetStream", 0);
/// A stream took it that is not the configured one.
pub const OTHER_STREAM: Refusal = Refusal::new("another stream took it than the configured one", 0);

/// What JetStream calls the errors that a message or a question may meet with.
const NAMES: [(u16, &str); 15] = [
    (10_002, "resource limits exceeded for account"),
    (10_008, "JetStream system temporarily unavailable"),
    (10_009, "JetStream cluster cannot handle request"),
    (10_023, "insufficient resources"),
    (10_028, "insufficient memory resources available"),
    (10_039, "JetStream not enabled for account"),
    (10_047, "insufficient storage resources available"),
    (MESSAGE_TOO_LARGE, "message size exceeds maximum allowed"),
    (STREAM_NOT_FOUND, "stream not found"),
    (10_060, "expected stream does not match"),
    (10_076, "JetStream not enabled"),
    (10_077, "the stream cannot store it: it is full, or its disk is"),
    (HEADERS_TOO_LARGE, "header size exceeds maximum allowed of 64k"),
    (10_109, "invalid operation on sealed stream"),
    (10_167, "too many requests"),
];

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    error: Option<Error>,
}

/// An error as JetStream writes it, in every answer of its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Error {
    /// Its own code.
    #[serde(default)]
    pub err_code: u16,
}

/// Judges the answer to a message that was meant for `stream`, if one is configured.
#[must_use]
pub fn judge(status: Option<u16>, payload: &[u8], stream: Option<&str>) -> Verdict {
    if status.is_some() {
        return Verdict::Retry(NO_RESPONDERS);
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(payload) else {
        return Verdict::Retry(STRANGER);
    };
    if let Some(error) = answer.error {
        let is_final = matches!(error.err_code, MESSAGE_TOO_LARGE | HEADERS_TOO_LARGE);
        return if is_final { Verdict::Rejected(error.into()) } else { Verdict::Retry(error.into()) };
    }
    if answer.stream.is_empty() || answer.seq == 0 {
        return Verdict::Retry(STRANGER);
    }
    match stream {
        Some(stream) if stream != answer.stream => Verdict::Retry(OTHER_STREAM),
        _ if answer.duplicate => Verdict::Duplicate,
        _ => Verdict::Accepted,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let known = NAMES.iter().find(|(code, _)| *code == error.err_code);
        Self::new(known.map_or("an error that this version does not name", |(_, name)| name), error.err_code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_answer_has_its_verdict() {
        let again = |name, code| Verdict::Retry(Refusal::new(name, code));
        let never = |name, code| Verdict::Rejected(Refusal::new(name, code));
        let error = |code: u32, words: &str| {
            format!(
                r#"{{"error":{{"code":400,"err_code":{code},"description":"{words}"}},"stream":"EVENTS","seq":0}}"#
            )
        };
        for (payload, verdict) in [
            (r#"{"stream":"EVENTS","seq":1}"#, Verdict::Accepted),
            (r#"{"stream":"EVENTS", "domain":"hub", "seq":9, "duplicate": true}"#, Verdict::Duplicate),
            (&error(10_054, "x"), never("message size exceeds maximum allowed", 10_054)),
            (&error(10_097, "x"), never("header size exceeds maximum allowed of 64k", 10_097)),
            (
                &error(10_077, "maximum bytes exceeded"),
                again("the stream cannot store it: it is full, or its disk is", 10_077),
            ),
            (&error(10_002, "x"), again("resource limits exceeded for account", 10_002)),
            (&error(10_060, "x"), again("expected stream does not match", 10_060)),
            (&error(10_999, "x"), again("an error that this version does not name", 10_999)),
            (r#"{"error":{}}"#, again("an error that this version does not name", 0)),
            (r#"{"stream":"OTHER","seq":1}"#, Verdict::Retry(OTHER_STREAM)),
            (r#"{"stream":"EVENTS","seq":0}"#, Verdict::Retry(STRANGER)),
            (r#"{"stream":"","seq":1}"#, Verdict::Retry(STRANGER)),
            (r#"{"stream":"EVENTS","seq":-1}"#, Verdict::Retry(STRANGER)),
            (&error(70_000, "x"), Verdict::Retry(STRANGER)),
            ("{}", Verdict::Retry(STRANGER)),
            ("[]", Verdict::Retry(STRANGER)),
            ("+OK", Verdict::Retry(STRANGER)),
            ("", Verdict::Retry(STRANGER)),
        ] {
            assert_eq!(judge(None, payload.as_bytes(), Some("EVENTS")), verdict, "{payload}");
        }
        assert_eq!(judge(Some(503), b"", None), Verdict::Retry(NO_RESPONDERS));
        assert_eq!(judge(None, br#"{"stream":"OTHER","seq":1}"#, None), Verdict::Accepted);
    }

    proptest! {
        #[test]
        fn nothing_but_a_stream_with_a_sequence_number_is_an_acknowledgement(
            stream in "[A-Z]{0,3}", seq: i8, has_error: bool, tail in "[ ,}\\]]{0,2}",
        ) {
            let error = if has_error { r#","error":{"err_code":10077}"# } else { "" };
            let text = format!(r#"{{"stream":"{stream}","seq":{seq}{error}}}{tail}"#);
            let is_taken = judge(None, text.as_bytes(), None) == Verdict::Accepted;
            prop_assert_eq!(is_taken, !stream.is_empty() && seq > 0 && !has_error && tail.trim().is_empty());
        }
    }
}

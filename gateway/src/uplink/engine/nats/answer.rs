//! What JetStream's answer to a message says of it: accepted, rejected, or to be sent
//! again. A pure judge.
//!
//! ```text
//!  {"stream":"EVENTS","seq":7}                       accepted
//!  {"stream":"EVENTS","seq":7,"duplicate":true}      accepted: the stream had it already
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
const MESSAGE_TOO_LARGE: u32 = 10_054;
/// There is no stream of this name: an answer to a question, not to a message.
pub const STREAM_NOT_FOUND: u32 = 10_059;
/// Its headers are longer than any stream takes, 64 KiB.
const HEADERS_TOO_LARGE: u32 = 10_097;
/// The status of an answer that the server gives where nobody listens.
const NO_RESPONDERS: u16 = 503;
/// Of what the server says in words, so much is kept.
const WORDS_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    error: Option<Error>,
}

/// An error as JetStream writes it, in every answer of its API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Error {
    /// Its own code.
    #[serde(default)]
    pub err_code: u32,
    /// In words.
    #[serde(default)]
    pub description: String,
}

/// Judges the answer to a message that was meant for `stream`, if one is configured.
#[must_use]
pub fn judge(status: Option<u16>, payload: &[u8], stream: Option<&str>) -> Verdict {
    if status == Some(NO_RESPONDERS) {
        return Verdict::Retry(no_responders());
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(payload) else {
        return Verdict::Retry(stranger());
    };
    if let Some(error) = answer.error {
        let is_final = matches!(error.err_code, MESSAGE_TOO_LARGE | HEADERS_TOO_LARGE);
        return if is_final { Verdict::Rejected(error.into()) } else { Verdict::Retry(error.into()) };
    }
    if answer.stream.is_empty() || answer.seq == 0 {
        return Verdict::Retry(stranger());
    }
    match stream {
        Some(stream) if stream != answer.stream => {
            let name = cut(&answer.stream);
            Verdict::Retry(Refusal::new(format_args!("the stream {name} took it, and not {stream}")))
        }
        _ => Verdict::Accepted,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::new(format_args!("{} ({})", cut(&error.description), error.err_code))
    }
}

/// Nobody listens.
#[must_use]
pub fn no_responders() -> Refusal {
    Refusal::new("no stream takes its subject, or JetStream is off (503)")
}

/// It is not JetStream who answers.
#[must_use]
pub fn stranger() -> Refusal {
    Refusal::new("what answers on its subject is not JetStream")
}

/// The beginning of a text from the server.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_answer_has_its_verdict() {
        let not_now = |words: &str| Verdict::Retry(Refusal::new(words));
        let never = |words: &str| Verdict::Rejected(Refusal::new(words));
        for (payload, verdict) in [
            (r#"{"stream":"EVENTS","seq":1}"#, Verdict::Accepted),
            (r#"{"stream":"EVENTS", "domain":"hub", "seq":9, "duplicate": true}"#, Verdict::Accepted),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS","seq":0}"#,
                never("message size exceeds maximum allowed (10054)"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10097,"description":"header size exceeds maximum allowed of 64k"},"stream":"EVENTS","seq":0}"#,
                never("header size exceeds maximum allowed of 64k (10097)"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"EVENTS","seq":0}"#,
                not_now("maximum bytes exceeded (10077)"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}"#,
                not_now("resource limits exceeded for account (10002)"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}"#,
                not_now("expected stream does not match (10060)"),
            ),
            (r#"{"error":{}}"#, not_now(" (0)")),
            (r#"{"stream":"OTHER","seq":1}"#, not_now("the stream OTHER took it, and not EVENTS")),
            (r#"{"stream":"EVENTS","seq":0}"#, Verdict::Retry(stranger())),
            (r#"{"stream":"","seq":1}"#, Verdict::Retry(stranger())),
            (r#"{"stream":"EVENTS","seq":-1}"#, Verdict::Retry(stranger())),
            ("{}", Verdict::Retry(stranger())),
            ("[]", Verdict::Retry(stranger())),
            ("+OK", Verdict::Retry(stranger())),
            ("", Verdict::Retry(stranger())),
        ] {
            assert_eq!(judge(None, payload.as_bytes(), Some("EVENTS")), verdict, "{payload}");
        }
        assert_eq!(judge(Some(503), b"", None), Verdict::Retry(no_responders()));
        assert_eq!(judge(None, br#"{"stream":"OTHER","seq":1}"#, None), Verdict::Accepted);
    }

    #[test]
    fn what_the_server_says_is_cut_to_a_length() {
        let long = "ä".repeat(5000);
        let payload = format!(r#"{{"error":{{"err_code":10077,"description":"{long}"}}}}"#);
        let verdict = judge(None, payload.as_bytes(), None);
        let words = format!("{} (10077)", "ä".repeat(WORDS_BYTES_MAX / 2));
        assert_eq!(verdict, Verdict::Retry(Refusal::new(words)));
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

//! What JetStream's answer to a message says of it: taken, never taken, or not now. A pure judge.
//!
//! ```text
//!  {"stream":"EVENTS","seq":7}                       taken
//!  {"stream":"EVENTS","seq":7,"duplicate":true}      taken: the stream had it already
//!  {"error":{"code":400,"err_code":10054,...},...}   too large for this stream: never taken
//!  {"error":{...}}, any other                        not now
//!  status 503, nobody listens                        not now: there is no stream, or no JetStream
//!  anything else                                     not now: it is not JetStream who answers
//! ```
//! The HTTP-like code says little: 400 stands for an account whose room is used up as well. So only
//! errors that speak of the message itself are final, and for everything else it is sent again; if
//! one message alone is refused for ever, the delivery finds that out as it does for every engine.
//! The codes are those of `server/errors.json` of nats-server.

use std::fmt;

use serde::Deserialize;

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

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The stream has it.
    Taken,
    /// The stream will never take it.
    NeverTaken(Refusal),
    /// The stream does not take it now.
    NotNow(Refusal),
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// JetStream says so.
    Error {
        /// Its own code (`err_code`), 0 where it gives none.
        code: u32,
        /// Its words, cut to 200 bytes.
        words: String,
    },
    /// Nobody listens on the subject.
    NoStream,
    /// Another stream took it than the one that is configured.
    OtherStream(String),
    /// What answered is not JetStream.
    Stranger,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default, borrow)]
    stream: std::borrow::Cow<'a, str>,
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
        return Verdict::NotNow(Refusal::NoStream);
    }
    let Ok(answer) = serde_json::from_slice::<Answer<'_>>(payload) else {
        return Verdict::NotNow(Refusal::Stranger);
    };
    if let Some(error) = answer.error {
        let is_final = matches!(error.err_code, MESSAGE_TOO_LARGE | HEADERS_TOO_LARGE);
        let refusal = error.into();
        return if is_final { Verdict::NeverTaken(refusal) } else { Verdict::NotNow(refusal) };
    }
    if answer.stream.is_empty() || answer.seq == 0 {
        return Verdict::NotNow(Refusal::Stranger);
    }
    match stream {
        Some(stream) if stream != answer.stream => {
            Verdict::NotNow(Refusal::OtherStream(cut(&answer.stream).to_owned()))
        }
        _ => Verdict::Taken,
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error { code: error.err_code, words: cut(&error.description).to_owned() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Error { code, words } => write!(f, "{words} ({code})"),
            Self::NoStream => f.write_str("no stream takes its subject, or JetStream is off"),
            Self::OtherStream(name) => write!(f, "the stream {name} took it, which is not the configured one"),
            Self::Stranger => f.write_str("what answers on its subject is not JetStream"),
        }
    }
}

/// The beginning of a text from the server.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(code: u32, words: &str) -> Refusal {
        Refusal::Error { code, words: words.to_owned() }
    }

    #[test]
    fn every_answer_has_its_verdict() {
        let not_now = |code, words| Verdict::NotNow(error(code, words));
        let never = |code, words| Verdict::NeverTaken(error(code, words));
        for (payload, verdict) in [
            (r#"{"stream":"EVENTS","seq":1}"#, Verdict::Taken),
            (r#"{"stream":"EVENTS", "domain":"hub", "seq":9, "duplicate": true}"#, Verdict::Taken),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds maximum allowed"},"stream":"EVENTS","seq":0}"#,
                never(10_054, "message size exceeds maximum allowed"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10097,"description":"header size exceeds maximum allowed of 64k"},"stream":"EVENTS","seq":0}"#,
                never(10_097, "header size exceeds maximum allowed of 64k"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"EVENTS","seq":0}"#,
                not_now(10_077, "maximum bytes exceeded"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}"#,
                not_now(10_002, "resource limits exceeded for account"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"}}"#,
                not_now(10_060, "expected stream does not match"),
            ),
            (r#"{"error":{}}"#, not_now(0, "")),
            (r#"{"stream":"OTHER","seq":1}"#, Verdict::NotNow(Refusal::OtherStream("OTHER".into()))),
            (r#"{"stream":"EVENTS","seq":0}"#, Verdict::NotNow(Refusal::Stranger)),
            (r#"{"stream":"","seq":1}"#, Verdict::NotNow(Refusal::Stranger)),
            (r#"{"stream":"EVENTS","seq":-1}"#, Verdict::NotNow(Refusal::Stranger)),
            ("{}", Verdict::NotNow(Refusal::Stranger)),
            ("[]", Verdict::NotNow(Refusal::Stranger)),
            ("+OK", Verdict::NotNow(Refusal::Stranger)),
            ("", Verdict::NotNow(Refusal::Stranger)),
        ] {
            assert_eq!(judge(None, payload.as_bytes(), Some("EVENTS")), verdict, "{payload}");
        }
        assert_eq!(judge(Some(503), b"", None), Verdict::NotNow(Refusal::NoStream));
        assert_eq!(judge(None, br#"{"stream":"OTHER","seq":1}"#, None), Verdict::Taken);
    }

    #[test]
    fn what_the_server_says_is_cut_to_a_length() {
        let long = "ä".repeat(5000);
        let payload = format!(r#"{{"error":{{"err_code":10077,"description":"{long}"}}}}"#);
        let verdict = judge(None, payload.as_bytes(), None);
        assert_eq!(verdict, Verdict::NotNow(error(10_077, &"ä".repeat(WORDS_BYTES_MAX / 2))));
    }

    proptest! {
        #[test]
        fn nothing_but_a_stream_with_a_sequence_number_is_an_acknowledgement(
            stream in "[A-Z]{0,3}", seq: i8, has_error: bool, tail in "[ ,}\\]]{0,2}",
        ) {
            let error = if has_error { r#","error":{"err_code":10077}"# } else { "" };
            let text = format!(r#"{{"stream":"{stream}","seq":{seq}{error}}}{tail}"#);
            let is_taken = judge(None, text.as_bytes(), None) == Verdict::Taken;
            prop_assert_eq!(is_taken, !stream.is_empty() && seq > 0 && !has_error && tail.trim().is_empty());
        }
    }
}

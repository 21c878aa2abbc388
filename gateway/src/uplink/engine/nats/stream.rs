//! Whether there is a stream for what is to be sent: asked once on every connection. Pure.
//!
//! Without a stream nothing acknowledges, and where somebody else listens on the subjects the
//! server does not even say so. So JetStream is asked before the first event goes out:
//!
//! ```text
//!  a stream is configured   $JS.API.STREAM.INFO.<stream>
//!  none is                  $JS.API.STREAM.NAMES {"subject": what all topics of this uplink begin with}
//! ```
//! A user may lack the right to ask. Then the uplink goes on without: every acknowledgement names
//! its stream, so nothing is taken for delivered that is not.

use serde::Deserialize;

use super::{
    super::Refusal,
    answer::{self, NO_RESPONDERS, STRANGER},
    subject,
};
use crate::uplink::template::{Names, Template};

/// Stands for what differs from event to event; no name of a gateway or device in a topic is this.
const VARIABLE: &str = "\u{1}";
/// All subjects that there are.
const ALL: &str = ">";

/// What JetStream says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is one.
    Stream,
    /// There is none.
    Nothing,
    /// It cannot say, or there is no JetStream.
    Unknown(Refusal),
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Option<Vec<String>>,
    #[serde(default)]
    config: Option<Config>,
    #[serde(default)]
    error: Option<answer::Error>,
}

#[derive(Deserialize)]
struct Config {
    name: String,
}

/// The subject to ask on, and what to ask, about the stream of this name or else one that takes
/// `subjects`.
#[must_use]
pub fn question(stream: Option<&str>, subjects: &str) -> (String, String) {
    match stream {
        Some(name) => (format!("$JS.API.STREAM.INFO.{name}"), String::new()),
        None => {
            let ask = serde_json::json!({ "subject": subjects });
            ("$JS.API.STREAM.NAMES".to_owned(), ask.to_string())
        }
    }
}

/// Judges the answer.
#[must_use]
pub fn judge(status: Option<u16>, payload: &[u8]) -> Found {
    if status.is_some() {
        return Found::Unknown(NO_RESPONDERS);
    }
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(error), .. }) if error.err_code == answer::STREAM_NOT_FOUND => Found::Nothing,
        Ok(Answer { error: Some(error), .. }) => Found::Unknown(error.into()),
        Ok(Answer { config: Some(config), .. }) if !config.name.is_empty() => Found::Stream,
        Ok(Answer { streams: Some(names), .. }) if !names.is_empty() => Found::Stream,
        Ok(_) => Found::Nothing,
        Err(_) => Found::Unknown(STRANGER),
    }
}

/// Whether an error of the server says that this user may not ask.
#[must_use]
pub fn is_no_right(words: &[u8]) -> bool {
    let words = String::from_utf8_lossy(words).to_ascii_lowercase();
    words.contains("permissions violation") && words.contains("$js.api.stream.")
}

/// The subjects that events of this uplink may have: what they all begin with, and `>`.
#[must_use]
pub fn filter(template: &Template) -> String {
    let names = Names { topic: VARIABLE, device: VARIABLE, kind: VARIABLE };
    let (mut scratch, mut subject) = (String::new(), Vec::new());
    let Ok(topic) = template.render(&names, &mut scratch) else { return ALL.to_owned() };
    let levels: Vec<_> = topic.split('/').collect();
    let fixed = levels.iter().position(|level| level.contains(VARIABLE)).unwrap_or(levels.len());
    if fixed == 0 || subject::put(levels[..fixed].join("/").as_bytes(), &mut subject).is_err() {
        return ALL.to_owned();
    }
    if fixed < levels.len() {
        subject.extend_from_slice(b".>");
    }
    String::from_utf8_lossy(&subject).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_subjects_of_an_uplink_begin_alike() {
        for (template, expected) in [
            ("{topic}", ">"),
            ("up/{topic}", "up.>"),
            ("up/x{device}/{topic}", "up.>"),
            ("sites/{gateway}/{topic}", "sites.barn-7.>"),
            ("a b/{type}/c", "a%20b.>"),
            ("/{topic}", "%00.>"),
            ("events", "events"),
            ("a/b", "a.b"),
        ] {
            let template = Template::parse(template).unwrap().bound_to("barn-7");
            assert_eq!(filter(&template), expected);
        }
    }

    #[test]
    fn a_question_is_about_the_configured_stream_or_about_the_subjects() {
        let named = question(Some("EVENTS"), "up.>");
        assert_eq!(named, ("$JS.API.STREAM.INFO.EVENTS".to_owned(), String::new()));
        let (subject, ask) = question(None, "up.>");
        assert_eq!((&*subject, &*ask), ("$JS.API.STREAM.NAMES", r#"{"subject":"up.>"}"#));
    }

    #[test]
    fn what_jetstream_says_of_its_streams_is_read() {
        for (payload, found) in [
            (r#"{"type":"t","total":1,"offset":0,"limit":1024,"streams":["EVENTS"]}"#, Found::Stream),
            (r#"{"type":"t","total":0,"offset":0,"limit":1024,"streams":null}"#, Found::Nothing),
            (r#"{"type":"t","total":0,"streams":[]}"#, Found::Nothing),
            (r#"{"type":"t","config":{"name":"EVENTS","subjects":["up.>"]},"state":{}}"#, Found::Stream),
            (r#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#, Found::Nothing),
            (
                r#"{"error":{"code":503,"err_code":10008,"description":"temporarily unavailable"}}"#,
                Found::Unknown(Refusal::new("JetStream system temporarily unavailable", 10_008)),
            ),
            ("+ACK", Found::Unknown(STRANGER)),
        ] {
            assert_eq!(judge(None, payload.as_bytes()), found, "{payload}");
        }
        assert!(is_no_right(b"'Permissions Violation for Publish to \"$JS.API.STREAM.NAMES\"'"));
        assert!(!is_no_right(b"'Permissions Violation for Subscription to \"_INBOX.a.*\"'"));
        assert_eq!(judge(Some(503), b""), Found::Unknown(NO_RESPONDERS));
    }
}

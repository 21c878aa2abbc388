//! The rule that would allow what was denied, in words: for the audit log, next to the denial.
//! Pure.
//!
//! What the client chose is shown escaped and cut, as everywhere in the audit log.

use std::{fmt, path::Path};

use super::audit::{Action, SHOWN_CHARS_MAX};
use crate::{mqtt::topics, printable};

/// The rule that is missing.
pub(super) struct Missing<'a> {
    /// Who was denied.
    pub identity: &'a str,
    /// What it tried.
    pub action: Action,
    /// The topic or filter.
    pub topic: &'a str,
    /// There is an access file; without one a user has its own topics alone.
    pub has_rules: bool,
    /// Where it is.
    pub file: Option<&'a Path>,
}

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let publishes = matches!(self.action, Action::Publish | Action::Will);
        if publishes && topics::is_reserved(self.topic) {
            let (own, system) = (topics::OWN, topics::SYSTEM);
            return write!(f, "no rule opens {own} and {system}: the gateway alone publishes there");
        }
        match (self.has_rules, self.file) {
            (false, _) => f.write_str(
                "[access] acl names no file, so a user has its own tg/ topics alone: name one, with",
            )?,
            (true, Some(file)) => write!(f, "{} has no", file.display())?,
            (true, None) => f.write_str("the access file has no")?,
        }
        let key = if publishes { "publish" } else { "subscribe" };
        write!(f, " [[rule]], who = {}, {key} = [{}]", quoted(self.identity), quoted(self.topic))
    }
}

/// A string of TOML, cut like all that a client chose: a quotation mark in it ends nothing.
fn quoted(text: &str) -> String {
    let end = text.char_indices().nth(SHOWN_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    let string = serde_json::Value::from(&text[..end]).to_string();
    let rest = if end < text.len() { "..." } else { "" };
    format!("{}{rest}", printable::line(&string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_missing_rule_is_told_with_its_file_or_with_the_key_that_names_none() {
        let missing = |action, has_rules, file| {
            Missing { identity: "plug-3", action, topic: "stat/plug-3", has_rules, file }.to_string()
        };
        let file = Some(Path::new("/etc/acl.toml"));
        for (said, wanted) in [
            (
                missing(Action::Will, false, None),
                "name one, with [[rule]], who = \"plug-3\", publish = [\"stat/plug-3\"]",
            ),
            (missing(Action::Publish, false, file), "[access] acl names no file"),
            (
                missing(Action::Subscribe, true, file),
                "/etc/acl.toml has no [[rule]], who = \"plug-3\", subscribe = ",
            ),
            (
                missing(Action::Receive, true, None),
                "the access file has no [[rule]], who = \"plug-3\", subscribe = ",
            ),
        ] {
            assert!(said.contains(wanted), "{said}");
        }
    }

    #[test]
    fn what_no_rule_opens_is_not_said_to_miss_one() {
        let missing = |action, topic| {
            Missing { identity: "plug-3", action, topic, has_rules: false, file: None }.to_string()
        };
        for (action, topic) in [(Action::Publish, "tidegate/gap"), (Action::Will, "$SYS/x")] {
            let said = missing(action, topic);
            assert!(said.starts_with("no rule opens tidegate/ and $SYS/") && !said.contains("acl"), "{said}");
        }
        assert!(missing(Action::Subscribe, "tidegate/gap").contains("subscribe = [\"tidegate/gap\"]"));
    }

    #[test]
    fn a_topic_writes_no_rule_of_its_own() {
        let topic = "x\", \"#\n\u{9b}";
        let missing =
            Missing { identity: "i\\", action: Action::Publish, topic, has_rules: true, file: None };
        let said = missing.to_string();
        assert!(said.ends_with(r##"who = "i\\", publish = ["x\", \"#\n\u009b"]"##), "{said}");
    }
}

//! The access file: who may publish and subscribe where. It allows and never denies, so the order
//! of its rules is of no matter, and what no rule allows is denied.
//!
//! ```toml
//! [[rule]]
//! who = "*"                          # every identity that was shown; or one name; or "anonymous"
//! publish = ["tg/{identity}/e"]      # topic filters; {identity} and {client_id} are filled in
//! subscribe = ["tg/{identity}/c"]
//!
//! [[rule]]
//! role = "viewer"                    # everybody whose entry in the users file has this role
//! subscribe = ["#"]
//! ```
//! Without a file each identity has what a device needs and nothing else ([`Acl::devices`]); an
//! empty file allows nothing (CVE-2018-12550). An identity has no wildcard and no slash. A client
//! id may have, and then the patterns with it in them are left out. Limits: [`FILE_BYTES_MAX`],
//! [`RULES_MAX`], [`PATTERNS_MAX`].

use std::{path::Path, sync::Arc};

use serde::Deserialize;
use toml::Spanned;

use super::{
    error::{LoadError, Problems},
    name::{ANONYMOUS, check_level, check_name},
    permissions::Permissions,
    read,
};
use crate::{mqtt::topics, regular_file};

/// Longest access file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most rules.
pub const RULES_MAX: usize = 1000;
/// Most patterns of all rules together: each publish may be compared with all that are for its
/// client.
pub const PATTERNS_MAX: usize = 10_000;

const IDENTITY: &str = "{identity}";
const CLIENT_ID: &str = "{client_id}";
const EVERYONE: &str = "*";

/// Rules, checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    who: Who,
    publish: Vec<Box<str>>,
    subscribe: Vec<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// Every identity but [`ANONYMOUS`].
    Everyone,
    Name(Box<str>),
    Role(Box<str>),
}

/// Whom permissions are for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Who it is.
    pub identity: &'a str,
    /// Its roles in the users file.
    pub roles: &'a [Arc<str>],
    /// Its client id.
    pub client_id: &'a str,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    rule: Vec<Spanned<RawRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    who: Option<Spanned<String>>,
    role: Option<Spanned<String>>,
    #[serde(default)]
    publish: Vec<Spanned<String>>,
    #[serde(default)]
    subscribe: Vec<Spanned<String>>,
}

impl Acl {
    /// What holds without a file: a device publishes its own events, birth, status and replies, and
    /// gets its own commands.
    #[must_use]
    pub fn devices() -> Self {
        let leaf = |leaf: &str| format!("tg/{IDENTITY}/{leaf}").into();
        let publish = ["e", "b", "s", "r"].map(leaf).into();
        Acl { rules: vec![Rule { who: Who::Everyone, publish, subscribe: vec![leaf("c")] }] }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        let opened = regular_file::open(file, std::fs::OpenOptions::new().read(true))
            .map_err(|cause| LoadError::unreadable(file, &cause))?;
        Self::parse(&read(&opened, file, FILE_BYTES_MAX)?, file)
    }

    /// Checks the text of a file; `file` stands in the errors.
    ///
    /// # Errors
    /// [`LoadError::Wrong`]
    pub fn parse(text: &str, file: &Path) -> Result<Self, LoadError> {
        let raw: RawFile = toml::from_str(text).map_err(|e| LoadError::from_toml(file, text, &e))?;
        let mut problems = Problems::default();
        if let Some(rule) = raw.rule.get(RULES_MAX) {
            problems.add(&rule.span(), format!("more than {RULES_MAX} rules; use * or roles"));
        }
        let mut patterns = 0;
        let mut rules = vec![];
        for rule in &raw.rule {
            let fields = rule.get_ref();
            patterns += fields.publish.len() + fields.subscribe.len();
            if patterns > PATTERNS_MAX {
                problems.add(&rule.span(), format!("more than {PATTERNS_MAX} topics in all"));
                break;
            }
            if fields.publish.is_empty() && fields.subscribe.is_empty() {
                problems.add(
                    &rule.span(),
                    "this rule allows nothing; add \"publish\" or \"subscribe\", or remove it",
                );
            }
            let who = who(rule, &mut problems);
            let publish = checked(&fields.publish, &mut problems);
            let subscribe = checked(&fields.subscribe, &mut problems);
            rules.extend(who.map(|who| Rule { who, publish, subscribe }));
        }
        if problems.is_empty() { Ok(Acl { rules }) } else { Err(problems.error(file, text)) }
    }

    /// What the rules allow one client.
    #[must_use]
    pub fn permissions(&self, subject: &Subject<'_>) -> Permissions {
        let (mut publish, mut subscribe) = (vec![], vec![]);
        for rule in self.rules.iter().filter(|rule| rule.who.is(subject)) {
            publish.extend(rule.publish.iter().filter_map(|pattern| fill_in(pattern, subject)));
            subscribe.extend(rule.subscribe.iter().filter_map(|pattern| fill_in(pattern, subject)));
        }
        Permissions::of(publish, subscribe)
    }
}

impl Who {
    fn is(&self, subject: &Subject<'_>) -> bool {
        match self {
            Who::Everyone => subject.identity != ANONYMOUS,
            Who::Name(name) => **name == *subject.identity,
            Who::Role(role) => subject.roles.iter().any(|other| **other == **role),
        }
    }
}

fn who(rule: &Spanned<RawRule>, problems: &mut Problems) -> Option<Who> {
    match (&rule.get_ref().who, &rule.get_ref().role) {
        (Some(who), None) if who.get_ref() == EVERYONE => Some(Who::Everyone),
        (Some(name), None) if name.get_ref() == ANONYMOUS => Some(Who::Name(ANONYMOUS.into())),
        (Some(name), None) => match check_name(name.get_ref()) {
            Ok(()) => Some(Who::Name(name.get_ref().as_str().into())),
            Err(cause) => {
                problems.add(&name.span(), format!("{cause}; write a name, \"*\" or \"{ANONYMOUS}\""));
                None
            }
        },
        (None, Some(role)) => match check_name(role.get_ref()) {
            Ok(()) => Some(Who::Role(role.get_ref().as_str().into())),
            Err(cause) => {
                problems.add(&role.span(), cause.to_string());
                None
            }
        },
        (Some(_), Some(_)) => {
            problems.add(&rule.span(), "both \"who\" and \"role\"; make two rules of it");
            None
        }
        (None, None) => {
            problems.add(&rule.span(), "nobody is named; add \"who\" or \"role\"");
            None
        }
    }
}

fn checked(raw: &[Spanned<String>], problems: &mut Problems) -> Vec<Box<str>> {
    let mut patterns = vec![];
    for pattern in raw {
        match check_pattern(pattern.get_ref()) {
            Ok(()) => patterns.push(pattern.get_ref().as_str().into()),
            Err(reason) => {
                problems.add(&pattern.span(), format!("\"{}\": {reason}", pattern.get_ref().escape_debug()))
            }
        }
    }
    patterns
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    if pattern.starts_with("$share/") {
        return Err("name the topics alone; a shared subscription is allowed where its topics are".into());
    }
    let filled = pattern.replace(IDENTITY, "i").replace(CLIENT_ID, "c");
    if filled.contains(['{', '}']) {
        return Err(format!("only {IDENTITY} and {CLIENT_ID} can stand in braces"));
    }
    topics::check_filter(&filled).map_err(|cause| cause.to_string())
}

/// The pattern for one client; `None` where the client id cannot stand in a pattern.
fn fill_in(pattern: &str, subject: &Subject<'_>) -> Option<Box<str>> {
    let mut out = String::with_capacity(pattern.len() + subject.identity.len());
    let mut rest = pattern;
    // One pass: what was filled in is not looked at again.
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (word, after) = after.split_once('}')?;
        let value = if word == "identity" { subject.identity } else { subject.client_id };
        check_level(value).ok()?;
        out.push_str(value);
        rest = after;
    }
    out.push_str(rest);
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(text: &str) -> Acl {
        Acl::parse(text, Path::new("acl.toml")).unwrap()
    }

    fn subject<'a>(identity: &'a str, client_id: &'a str) -> Subject<'a> {
        Subject { identity, roles: &[], client_id }
    }

    #[test]
    fn an_empty_file_allows_nothing_and_none_lets_a_device_be_itself() {
        let nobody = acl("# all is denied\n").permissions(&subject("a", "a"));
        assert!(!nobody.may_publish("tg/a/e") && !nobody.may_subscribe("tg/a/c"));
        let device = Acl::devices().permissions(&subject("a", "a"));
        for (topic, wanted) in [
            ("tg/a/e", true),
            ("tg/a/b", true),
            ("tg/a/s", true),
            ("tg/a/r", true),
            ("tg/a/c", false),
            ("tg/b/e", false),
            ("tg/a/e/x", false),
            ("other", false),
        ] {
            assert_eq!(device.may_publish(topic), wanted, "{topic}");
        }
        for (filter, wanted) in [("tg/a/c", true), ("$share/g/tg/a/c", true), ("tg/+/c", false), ("#", false)]
        {
            assert_eq!(device.may_subscribe(filter), wanted, "{filter}");
        }
        let anonymous = Acl::devices().permissions(&subject(ANONYMOUS, "a"));
        assert!(!anonymous.may_publish("tg/anonymous/e"));
    }

    #[test]
    fn rules_add_up_for_everyone_a_name_and_a_role() {
        let acl = acl("[[rule]]\nwho = \"*\"\npublish = [\"all/{identity}/#\"]\n\
                       [[rule]]\nwho = \"node-red\"\nsubscribe = [\"#\"]\n\
                       [[rule]]\nrole = \"viewer\"\nsubscribe = [\"tg/+/e\"]\n\
                       [[rule]]\nwho = \"anonymous\"\npublish = [\"open\"]\n");
        let roles = ["viewer".into()];
        let viewer = acl.permissions(&Subject { roles: &roles, ..subject("eve", "x") });
        assert!(viewer.may_publish("all/eve/1") && viewer.may_subscribe("tg/a/e"));
        assert!(
            !viewer.may_subscribe("#")
                && !viewer.may_publish("all/node-red/1")
                && !viewer.may_publish("open")
        );
        let node_red = acl.permissions(&subject("node-red", "x"));
        assert!(node_red.may_subscribe("#") && node_red.may_publish("all/node-red"));
        let anonymous = acl.permissions(&subject(ANONYMOUS, "x"));
        assert!(anonymous.may_publish("open") && !anonymous.may_publish("all/anonymous/1"));
    }

    #[test]
    fn a_client_id_with_wildcards_opens_no_topic() {
        let acl = acl("[[rule]]\nwho = \"*\"\npublish = [\"c/{client_id}/x\", \"i/{identity}\"]\n");
        for id in ["+", "#", "a/b", "$SYS", "", "a+b"] {
            let permissions = acl.permissions(&subject("me", id));
            for topic in ["c/a/x", "c/+/x", "c/a/b/x", "c/$SYS/x", "c//x"] {
                assert!(!permissions.may_publish(topic), "{id} {topic}");
            }
            assert!(permissions.may_publish("i/me"), "{id}: the other pattern stays");
        }
        assert!(acl.permissions(&subject("me", "a")).may_publish("c/a/x"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let table = [
            ("[[rule]]\nwho = \"a\"\n", "acl.toml:1: this rule allows nothing"),
            ("\n[[rule]]\npublish = [\"a\"]\n", "acl.toml:2: nobody is named"),
            ("[[rule]]\nwho = \"a\"\nrole = \"b\"\npublish = [\"a\"]\n", "acl.toml:1: both"),
            ("[[rule]]\nwho = \"a/b\"\npublish = [\"a\"]\n", "acl.toml:2: a name has no space"),
            ("[[rule]]\nwho = \"barn-*\"\npublish = [\"a\"]\n", "acl.toml:2: a name has no space"),
            ("[[rule]]\nwho = \"a\"\npublish = [\"a\", \"a/#/b\"]\n", "acl.toml:3: \"a/#/b\": '#' has to be"),
            (
                "[[rule]]\nwho = \"a\"\npublish = [\"a/{user}\"]\n",
                "acl.toml:3: \"a/{user}\": only {identity}",
            ),
            ("[[rule]]\nwho = \"a\"\npublish = [\"a/{identity\"]\n", "acl.toml:3: "),
            ("[[rule]]\nwho = \"a\"\nsubscribe = [\"$share/g/a\"]\n", "acl.toml:3: "),
            ("[[rule]]\nwho = \"a\"\nallow = \"all\"\n", "acl.toml:3: unknown key `allow`"),
            ("[[rule]]\nwho = \"a\"\npublish = \"a\"\n", "acl.toml:3: a value of the wrong type"),
            ("[[rules]]\nwho = \"a\"\n", "acl.toml:1: unknown key `rules`"),
        ];
        for (text, wanted) in table {
            let error = Acl::parse(text, Path::new("acl.toml")).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_identity_and_no_client_id_opens_more_than_its_own_level(
            identity in "[a+#/${}*]{0,5}|\\PC{0,6}",
            client_id in "[a+#/${}*]{0,5}|\\PC{0,6}",
            topic in "x/[ab]{1,2}(/y)?",
        ) {
            let acl = acl("[[rule]]\nwho = \"*\"\npublish = [\"x/{identity}/y\", \"x/{client_id}\"]\n");
            let permissions = acl.permissions(&Subject { identity: &identity, roles: &[], client_id: &client_id });
            let own = topic == format!("x/{identity}/y") || topic == format!("x/{client_id}");
            prop_assert_eq!(permissions.may_publish(&topic), own);
            prop_assert!(!permissions.may_subscribe(&topic));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,200}|(\\[\\[rule\\]\\]|who|role|publish|subscribe|[ =\"\\[\\]{}#+/\n]){0,40}") {
            let _ = Acl::parse(&text, Path::new("acl.toml"));
        }
    }
}

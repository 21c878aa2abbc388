//! What is wrong with a configuration, so that it can be put right: file, line, key, and what to
//! do.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use toml::de::{DeTable, DeValue};

use crate::keys::{Problem, unknown};

/// The configuration cannot be used. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The file's content is wrong: one line per problem.
    #[error("{}", Lines(lines))]
    Wrong {
        /// `FILE:LINE: KEY: what is wrong; what to do`, in the order of the file.
        lines: Vec<String>,
    },
}

impl ConfigError {
    /// What is wrong, a line for each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Unreadable { .. } => vec![self.to_string()],
            Self::Wrong { lines } => lines.clone(),
        }
    }

    pub(super) fn unreadable(file: &Path, cause: &std::io::Error) -> Self {
        let reason = match cause.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::InvalidData => cause.to_string(),
            _ => format!("the file cannot be read: {cause}"),
        };
        Self::Unreadable { file: file.to_owned(), reason }
    }

    pub(super) fn wrong(file: &Path, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at);
        let lines = problems.iter().map(|problem| line(problem, file, text)).collect();
        Self::Wrong { lines }
    }
}

struct Lines<'a>(&'a [String]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// From what the TOML reader found: syntax, an unknown or missing key, a wrong type.
pub(super) fn from_toml(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map_or(0, |span| span.start).min(text.len());
    Problem { at, message: explain(error.message()) }
}

fn line(problem: &Problem, file: &Path, text: &str) -> String {
    let line = text.as_bytes()[..problem.at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let key = key_at(text, problem.at).map(|key| format!("{key}: ")).unwrap_or_default();
    format!("{}:{line}: {key}{}", file.display(), problem.message)
}

/// Rewrites what serde says so that it says what to do. Whatever has another form is passed on as
/// it is.
fn explain(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((word, known)) if message.starts_with("unknown field") => unknown("key", word, known),
        Some((word, _)) if message.starts_with("missing field") => {
            format!("the key \"{word}\" is missing; add it")
        }
        _ if message.ends_with("expected a string") => format!("{message}; put the value in quotes"),
        _ if message.ends_with("expected i64") => message.replace("i64", "a whole number without quotes"),
        _ if message.ends_with("invalid type: map, expected a sequence") => {
            "there may be several of these; write its name in two brackets, like [[uplink]]".into()
        }
        _ => message.lines().collect::<Vec<_>>().join(", "),
    }
}

/// The key at a place in the text, such as `[store] retain` or `[[uplink]] url`. For a place in a
/// header, the header.
fn key_at(text: &str, at: usize) -> Option<String> {
    let (document, _) = DeTable::parse_recoverable(text);
    let mut path = Vec::new();
    find(document.get_ref(), at, &mut path).then_some(())?;
    let (table, keys) = path.split_first()?;
    Some(if keys.is_empty() { table.clone() } else { format!("{table} {}", keys.join(".")) })
}

fn find(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) -> bool {
    let top = path.is_empty();
    for (key, value) in table {
        let name = key.get_ref();
        path.push(match value.get_ref() {
            DeValue::Table(_) if top => format!("[{name}]"),
            DeValue::Array(_) if top => format!("[[{name}]]"),
            _ => name.to_string(),
        });
        let within = match value.get_ref() {
            DeValue::Table(inner) => find(inner, at, path),
            DeValue::Array(items) => items.iter().any(|item| {
                item.get_ref().as_table().is_some_and(|inner| find(inner, at, path))
                    || item.span().contains(&at)
            }),
            _ => false,
        };
        if within || key.span().contains(&at) || value.span().contains(&at) {
            return true;
        }
        path.pop();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_a_place_in_it_or_in_its_value() {
        let text = "[gateway]\nid = \"a\"\n[[uplink]]\nurl = \"u\"\n[[uplink]]\nurl = \"v\"\n";
        for (needle, key) in [
            ("id", "[gateway] id"),
            ("\"a\"", "[gateway] id"),
            ("[gateway]", "[gateway]"),
            ("\"v\"", "[[uplink]] url"),
            ("[[uplink]]", "[[uplink]]"),
        ] {
            assert_eq!(key_at(text, text.find(needle).unwrap()).as_deref(), Some(key), "{needle}");
        }
        assert_eq!(key_at("", 0), None);
    }
}

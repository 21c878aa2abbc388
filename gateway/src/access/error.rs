//! What is wrong with a users file or an access file, so that it can be put right: file, line, what
//! to do.
//!
//! It quotes names and topics, and never a value of another type or a password, for these lines go
//! into logs.

use std::{
    fmt::Write as _,
    ops::Range,
    path::{Path, PathBuf},
};

/// A file of users or access rules cannot be used. Whoever had an older one goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// Other users of this machine can read the password hashes.
    #[error("{0}: its mode {mode:04o} lets others read or change it; run: chmod 600 {0}", file.display())]
    Exposed {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file's content is wrong: one line per problem.
    #[error("{}", lines.join("\n"))]
    Wrong {
        /// `FILE:LINE: what is wrong; what to do`, in the order of the file.
        lines: Vec<String>,
    },
}

impl LoadError {
    pub(super) fn unreadable(file: &Path, cause: &std::io::Error) -> Self {
        let reason = match cause.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            std::io::ErrorKind::InvalidData if cause.get_ref().is_none() => {
                "the file is not UTF-8 text".to_owned()
            }
            std::io::ErrorKind::InvalidData => cause.to_string(),
            _ => format!("the file cannot be read: {cause}"),
        };
        Self::Unreadable { file: file.to_owned(), reason }
    }

    pub(super) fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let mut problems = Problems::default();
        problems.add(&error.span().unwrap_or(0..0), explain(error.message()));
        problems.error(file, text)
    }
}

/// What is wrong in one file.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<(usize, String)>);

impl Problems {
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.0.push((span.start, message.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn error(mut self, file: &Path, text: &str) -> LoadError {
        self.0.sort_by_key(|(at, _)| *at);
        let line =
            |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        let lines = self.0.iter().map(|(at, message)| format!("{}:{}: {message}", file.display(), line(*at)));
        LoadError::Wrong { lines: lines.collect() }
    }
}

/// What the TOML reader says, without the values that it quotes.
fn explain(message: &str) -> String {
    if let Some((what, expected)) = message.split_once(", expected ")
        && (what.starts_with("invalid type") || what.starts_with("invalid value"))
    {
        return format!("a value of the wrong type; {expected} is expected here");
    }
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("the key {field} is missing; add it");
    }
    if message.starts_with("unknown field") {
        return message.replacen("unknown field", "unknown key", 1);
    }
    let mut text = String::new();
    for line in message.lines() {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{separator}{line}");
    }
    text
}

//! Every version of every kind that was ever released, as a file: what the code says today is
//! compared with it.
//!
//! ```text
//! config/catalog.lock.json ──▶ Lock ─┐
//! the types in this program ─────────┴──▶ complaints: which change it is, and what it does to readers
//! ```
//!
//! A kind is immutable under its name and version. Entries are added, never changed: [`Lock::add`]
//! can do no other.
//!
//! Limits: [`ENTRIES_MAX`]. What it does not do: read or write files.

use serde::{Deserialize, Serialize};

use super::{
    definition::{BadDefinition, Definition},
    diff::{Change, diff},
    entry::Entry,
};

/// Most entries of a file.
pub const ENTRIES_MAX: usize = 100_000;
/// The only format of the file.
const FORMAT: u32 = 1;

/// Kinds in every version that was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    format: u32,
    /// The kinds, in the order in which they were released.
    pub types: Vec<Entry>,
}

impl Default for Lock {
    fn default() -> Self {
        Self::new(vec![])
    }
}

/// A file that is no lock.
#[derive(Debug, thiserror::Error)]
pub enum BadLock {
    /// It is not JSON, or other JSON.
    #[error("it is no list of kinds: {0}")]
    Json(#[from] serde_json::Error),
    /// A format that is not known.
    #[error("format {0} is not known, only format {FORMAT}")]
    Format(u32),
    /// There are too many entries.
    #[error("{0} kinds; {ENTRIES_MAX} are allowed")]
    TooMany(usize),
    /// An entry has a definition that is none.
    #[error("{title}: {cause}")]
    Definition {
        /// Whose.
        title: String,
        /// What is wrong with it.
        cause: BadDefinition,
    },
    /// An entry says something else than its definition.
    #[error("{title}: {what} is not that of its definition")]
    Differs {
        /// Whose.
        title: String,
        /// What differs.
        what: &'static str,
    },
    /// A name and version are there twice.
    #[error("{title} is there twice")]
    Twice {
        /// Which.
        title: String,
    },
}

impl Lock {
    /// A list of these.
    #[must_use]
    pub fn new(types: Vec<Entry>) -> Self {
        Self { format: FORMAT, types }
    }

    /// Reads a list. The same name and version may be there with several definitions, as in a
    /// gateway that knows many devices.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, BadLock> {
        let lock: Self = serde_json::from_str(text)?;
        if lock.format != FORMAT {
            return Err(BadLock::Format(lock.format));
        }
        if lock.types.len() > ENTRIES_MAX {
            return Err(BadLock::TooMany(lock.types.len()));
        }
        lock.types.iter().try_for_each(check)?;
        Ok(lock)
    }

    /// Reads a list in which a name and version stand for one definition, as that of what was
    /// released.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse_released(text: &str) -> Result<Self, BadLock> {
        let lock = Self::parse(text)?;
        for (at, entry) in lock.types.iter().enumerate() {
            if lock.types[..at]
                .iter()
                .any(|other| (&other.name, other.version) == (&entry.name, entry.version))
            {
                return Err(BadLock::Twice { title: entry.title() });
            }
        }
        Ok(lock)
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("invariant: texts, numbers and lists of them are JSON") + "\n"
    }

    /// The kind that was released under this name and version.
    #[must_use]
    pub fn released(&self, name: &str, version: u8) -> Option<&Entry> {
        self.types.iter().find(|entry| (entry.name.as_str(), entry.version) == (name, version))
    }

    /// Adds those that are new, by name and version. Returns how many; what is there stays as it
    /// is.
    pub fn add(&mut self, entries: &[Entry]) -> usize {
        let before = self.types.len();
        for entry in entries {
            if self.released(&entry.name, entry.version).is_none() {
                self.types.push(entry.clone());
            }
        }
        self.types.len() - before
    }

    /// What is wrong with `code` beside what was released: nothing if nothing changed.
    #[must_use]
    pub fn complaints(&self, code: &[Entry]) -> Vec<String> {
        let mut found: Vec<String> = code.iter().filter_map(|entry| self.complaint(entry)).collect();
        for released in &self.types {
            if !code.iter().any(|entry| (&entry.name, entry.version) == (&released.name, released.version)) {
                found.push(format!(
                    "{} was released and is gone: old events can be stored still",
                    released.title()
                ));
            }
        }
        found
    }

    fn complaint(&self, entry: &Entry) -> Option<String> {
        let title = entry.title();
        if let Some(released) = self.released(&entry.name, entry.version) {
            let same = released.definition == entry.definition;
            return (!same).then(|| {
                let changes = sentences(&entry_diff(released, entry));
                format!("{title} changed since it was released: make it another version\n{changes}")
            });
        }
        let before =
            self.types.iter().filter(|other| other.name == entry.name).max_by_key(|other| other.version);
        Some(match before {
            None => format!("{title} is new and not in the lock: add it"),
            Some(before) => {
                let changes = sentences(&entry_diff(before, entry));
                format!("{title} is new and not in the lock: add it. From {}:\n{changes}", before.title())
            }
        })
    }
}

/// What changed between two entries; nothing if either has no definition that can be read.
#[must_use]
pub fn entry_diff(old: &Entry, new: &Entry) -> Vec<Change> {
    let read = |entry: &Entry| entry.bytes().and_then(|bytes| Definition::parse(&bytes).ok());
    read(old).zip(read(new)).map_or(vec![], |(old, new)| diff(&old, &new))
}

/// A line for each change.
#[must_use]
pub fn sentences(changes: &[Change]) -> String {
    let line = |change: &Change| match change.place.as_str() {
        "" => format!("  {}", change.kind.sentence()),
        place => format!("  {place}: {}", change.kind.sentence()),
    };
    changes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Whether an entry says what its definition says.
fn check(entry: &Entry) -> Result<(), BadLock> {
    let title = entry.title();
    let differs = |what| BadLock::Differs { title: title.clone(), what };
    let bytes = entry.bytes().ok_or_else(|| differs("the hexadecimal"))?;
    let read = Entry::new(&bytes).map_err(|cause| BadLock::Definition { title: title.clone(), cause })?;
    for (what, same) in [
        ("the name", entry.name == read.name),
        ("the version", entry.version == read.version),
        ("the hash", entry.hash == read.hash),
        ("the body", entry.body.without_descriptions() == read.body.without_descriptions()),
    ] {
        if !same {
            return Err(differs(what));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, version: u8, tags: &[u8]) -> Entry {
        let fields = tags.iter().zip(b'a'..).flat_map(|(tag, name)| [1, name, 0, 0, *tag]);
        let head = [&[1, name.len() as u8][..], name.as_bytes(), &[version, 17, tags.len() as u8]].concat();
        Entry::new(&head.into_iter().chain(fields).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_change_of_what_was_released_is_told_by_its_kind() {
        let mut lock = Lock::new(vec![entry("x", 1, &[1]), entry("y", 1, &[1])]);
        assert_eq!(lock.complaints(&lock.types.clone()), Vec::<String>::new());
        let code = [entry("x", 1, &[1, 1]), entry("z", 1, &[1]), entry("x", 2, &[3])];
        let found = lock.complaints(&code).join("\n");
        for part in [
            "x@1 changed since it was released: make it another version\n  b: appended at the end",
            "z@1 is new and not in the lock",
            "x@2 is new and not in the lock: add it. From x@1:\n  version 1 became 2\n  a: another type",
            "y@1 was released and is gone",
        ] {
            assert!(found.contains(part), "{part} is not in\n{found}");
        }
        assert_eq!(lock.add(&code), 2, "what is there is not changed");
        assert_eq!(lock.released("x", 1), Some(&entry("x", 1, &[1])));
    }

    #[test]
    fn a_file_that_says_something_else_than_its_definitions_is_refused() {
        let good = Lock::new(vec![entry("x", 1, &[1])]);
        assert_eq!(Lock::parse_released(&good.to_text()).unwrap(), good);
        let text = good.to_text();
        for (from, to, expected) in [
            ("\"format\": 1", "\"format\": 2", "format 2"),
            ("\"name\": \"x\"", "\"name\": \"y\"", "the name"),
            ("\"version\": 1", "\"version\": 2", "the version"),
            ("\"type\": \"u8\"", "\"type\": \"u16\"", "the body"),
            ("\"definition\": \"01", "\"definition\": \"02", "format 2"),
            ("\"definition\": \"01", "\"definition\": \"0", "the hexadecimal"),
            ("\"types\"", "\"kinds\"", "no list"),
        ] {
            let error = Lock::parse(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let twice = Lock::new(vec![entry("x", 1, &[1]), entry("x", 1, &[3])]);
        assert!(Lock::parse(&twice.to_text()).is_ok());
        assert!(matches!(Lock::parse_released(&twice.to_text()), Err(BadLock::Twice { .. })));
    }
}

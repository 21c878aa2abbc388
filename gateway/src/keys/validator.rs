//! The validator: reads values as they are typed, and collects all that is wrong with them, so that
//! one look mends a file.
//!
//! The configuration passes it to each of its sections. A section that belongs to a room reads its
//! keys by it as well, and so no room has to know the configuration.

use std::{net::SocketAddr, ops::Range, path::PathBuf};

use toml::Spanned;

use super::{Text, words::unknown};

/// Longest gateway id or uplink name, in bytes of `[a-z0-9-]`.
pub const NAME_BYTES_MAX: usize = 32;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes from the start of the text.
    pub at: usize,
    /// What is wrong; what to do.
    pub message: String,
}

/// What surrounds the file.
pub(crate) struct Surroundings<'a> {
    /// Relative paths start here.
    pub folder: PathBuf,
    /// Looks up the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

pub(crate) struct Validator<'a> {
    /// What is wrong so far.
    pub(crate) problems: Vec<Problem>,
    /// What is missing now and may come while the gateway runs.
    pub(crate) not_yet: Vec<Problem>,
    /// What surrounds the file.
    pub(crate) around: &'a Surroundings<'a>,
}

impl<'a> Validator<'a> {
    /// Nothing was read yet.
    pub(crate) fn new(around: &'a Surroundings<'a>) -> Self {
        Self { problems: Vec::new(), not_yet: Vec::new(), around }
    }

    pub(crate) fn address(&mut self, raw: Option<&Text>, default: SocketAddr) -> SocketAddr {
        self.value(raw, default, |text| {
            text.parse().map_err(|_| {
                format!("\"{text}\" is no address; write an IP address and a port, like \"{default}\"")
            })
        })
    }

    pub(crate) fn name(&mut self, raw: &Text) -> String {
        let name = raw.get_ref();
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !fits {
            self.wrong(
                &raw.span(),
                format!("\"{name}\" is no name; use 1 to {NAME_BYTES_MAX} of a-z, 0-9 and -"),
            );
        }
        name.clone()
    }

    pub(crate) fn value<T>(
        &mut self,
        raw: Option<&Text>,
        default: T,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let Some(raw) = raw else { return default };
        read(raw.get_ref()).unwrap_or_else(|reason| {
            self.wrong(&raw.span(), reason);
            default
        })
    }

    pub(crate) fn one_of<T: Copy>(
        &mut self,
        raw: Option<&Text>,
        default: T,
        thing: &str,
        known: &[(&str, T)],
    ) -> T {
        self.value(raw, default, |text| {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            known
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| unknown(thing, text, &words))
        })
    }

    pub(crate) fn count<T>(&mut self, items: &[Spanned<T>], most: usize, things: &str) {
        if let Some(item) = items.get(most) {
            self.wrong(&item.span(), format!("{} {things} are too many; {most} at most", items.len()));
        }
    }

    pub(crate) fn wrong(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.problems.push(Problem { at: span.start, message: message.into() });
    }

    /// Notes what is missing now, and is waited for where it is needed.
    pub(crate) fn not_yet(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.not_yet.push(Problem { at: span.start, message: message.into() });
    }
}

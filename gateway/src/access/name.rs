//! Names of users, roles and certificates: what may be an identity. Pure.
//!
//! A name stands in topics as one level and in log lines, so it has no wildcard, no slash and
//! nothing that cannot be seen: CVE-2017-7650 was a client called `#`. Limits: [`NAME_BYTES_MAX`]
//! bytes.

use crate::printable::is_unprintable;

/// Longest name of a user or role, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// The identity of clients that show nothing.
pub const ANONYMOUS: &str = "anonymous";
/// What a name may not contain: MQTT's wildcards and separator, and what quotes or substitutes in
/// files.
const FORBIDDEN: [char; 9] = ['+', '#', '/', '*', '{', '}', '"', '\'', '\\'];

/// A text that is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It has no character.
    #[error("the name is empty")]
    Empty,
    /// It is longer than [`NAME_BYTES_MAX`].
    #[error("the name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// It holds a character that would change what a topic or a file says, or that cannot be seen.
    #[error(
        "a name has no space, control character or one of + # / * {{ }} \" ' \\, and does not begin with $"
    )]
    Character,
    /// It is [`ANONYMOUS`].
    #[error("the name \"{ANONYMOUS}\" stands for clients without one")]
    Reserved,
}

/// Checks the name of a user, a role or a certificate.
///
/// # Errors
/// [`BadName`]
pub fn check_name(name: &str) -> Result<(), BadName> {
    if name == ANONYMOUS {
        return Err(BadName::Reserved);
    }
    check_level(name)
}

/// Whether `name` can stand in a pattern as one topic level.
pub(super) fn check_level(name: &str) -> Result<(), BadName> {
    if name.is_empty() {
        return Err(BadName::Empty);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(BadName::TooLong);
    }
    let bad = |c: char| c.is_whitespace() || is_unprintable(c) || FORBIDDEN.contains(&c);
    if name.starts_with('$') || name.chars().any(bad) { Err(BadName::Character) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_could_change_a_topic_or_a_log_line_are_none() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let table =
            [("", BadName::Empty), (long.as_str(), BadName::TooLong), ("anonymous", BadName::Reserved)];
        for (name, wanted) in table {
            assert_eq!(check_name(name), Err(wanted), "{name:?}");
        }
        for bad in
            ["+", "#", "a/b", "*", "a b", "a\0", "a\nb", "$SYS", "{identity}", "a\"b", "a\u{202e}b", "a\\"]
        {
            assert_eq!(check_name(bad), Err(BadName::Character), "{bad:?}");
        }
        for good in ["barn-3", "büro", "a.example.org", "device_7", "a$"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_level_without_wildcards(name in "\\PC{0,12}") {
            if check_name(&name).is_ok() {
                let has_separator = name.contains(['/', '+', '#', '\0']);
                prop_assert!(!has_separator);
                prop_assert_eq!(crate::mqtt::topics::name(name.as_bytes()), Some(name.as_str()));
            }
        }
    }
}

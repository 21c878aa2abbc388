//! Keys of the configuration as they are typed: how a value is read, and what is said of one that
//! cannot be. It knows no key: those are the configuration's, and an uplink's and its engine's.

pub(crate) mod quantity;
mod validator;
mod words;

pub use self::validator::{NAME_BYTES_MAX, Problem};
pub(crate) use self::{
    validator::{Surroundings, Validator},
    words::unknown,
};

pub use toml::Spanned;

/// A value as text, with its place in the file.
pub(crate) type Text = Spanned<String>;

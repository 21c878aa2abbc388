//! A password, as a client sent it or as the gateway shows it to a server: it shows nothing, and is
//! wiped when it is dropped.
//!
//! What it does not do: the bytes are in a read buffer, a file or a codec beside it, which wipe
//! nothing.

use std::fmt;

use zeroize::Zeroizing;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes a copy of `bytes`.
    #[must_use]
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        Password(Zeroizing::new(bytes.as_ref().to_vec()))
    }

    /// The bytes: to be hashed, or shown to a server.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        assert_eq!(format!("{:?}", Password::new(b"secret")), "Password(hidden)");
    }
}

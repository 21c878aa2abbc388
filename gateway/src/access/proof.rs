//! How a client showed who it is.

/// How an identity was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By a certificate, which the TLS handshake checked.
    Certificate,
    /// By user name and password.
    Password,
    /// Not at all.
    Nothing,
}

impl Proof {
    /// One word for the log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Proof::Certificate => "certificate",
            Proof::Password => "password",
            Proof::Nothing => "nothing",
        }
    }
}

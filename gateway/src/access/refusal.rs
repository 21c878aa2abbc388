//! Why a client was not let in: the fault that it is told, and the reason that only the log and the
//! metrics know.

use std::fmt;

use crate::mqtt::fault::Fault;

/// A client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub fault: Fault,
    /// What is not its business.
    pub reason: Reason,
}

impl Refusal {
    pub(super) fn new(fault: Fault, reason: Reason) -> Self {
        Refusal { fault, reason }
    }
}

/// The reason in detail. A client is not told which of user and password was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Neither certificate nor user and password, where one is needed; or half of them.
    NoCredentials,
    /// No user of this name.
    UnknownUser,
    /// The user has no password: only its certificate lets it in.
    CertificateOnly,
    /// The user has another password.
    WrongPassword,
    /// The user name is not the one in the certificate.
    NotTheCertificates,
    /// The certificate's name cannot be an identity.
    CertificateName,
    /// The identity may not use this client id.
    ClientId,
    /// The client id's session belongs to another identity.
    SessionOfAnother,
    /// The will's topic is not allowed.
    Will,
    /// Too many passwords wait to be checked.
    Busy,
}

impl Reason {
    /// A word for a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Reason::NoCredentials => "no_credentials",
            Reason::UnknownUser => "unknown_user",
            Reason::CertificateOnly => "certificate_only",
            Reason::WrongPassword => "wrong_password",
            Reason::NotTheCertificates => "not_the_certificates",
            Reason::CertificateName => "certificate_name",
            Reason::ClientId => "client_id",
            Reason::SessionOfAnother => "session_of_another",
            Reason::Will => "will",
            Reason::Busy => "busy",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::NoCredentials => "it shows no certificate and no user with a password",
            Reason::UnknownUser => "there is no such user",
            Reason::CertificateOnly => "the user has no password, only its certificate lets it in",
            Reason::WrongPassword => "the password is wrong",
            Reason::NotTheCertificates => "the user name is not the certificate's name",
            Reason::CertificateName => "the certificate's name cannot be an identity",
            Reason::ClientId => "this identity may not use this client id",
            Reason::SessionOfAnother => "the client id's session belongs to another identity",
            Reason::Will => "the will's topic is not allowed to it",
            Reason::Busy => "too many passwords wait to be checked",
        })
    }
}

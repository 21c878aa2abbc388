//! What is wrong with a TLS file, and what to do. Nothing of a key is in an error.

use std::path::PathBuf;

use super::settings::TlsSettings;
use crate::pki::FileFault;

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// `cert`
    Cert,
    /// `key`
    Key,
    /// `client_ca`
    ClientCa,
    /// `crl`
    Crl,
}

/// A listener's TLS files cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub struct TlsError {
    /// Which one is wrong.
    pub file: TlsFile,
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong with it, and what to do.
    pub cause: TlsCause,
}

/// What is wrong with a file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsCause {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileFault),
    /// Clients would refuse it, and the one before it is good.
    #[error("the certificate expired on {0}; renew it, see \"TLS\" in docs/operating.md")]
    Expired(String),
    /// Clients would refuse it.
    #[error(
        "the certificate is not for servers: its extended key usage lacks serverAuth; make one that has it"
    )]
    Usage,
    /// They do not belong together.
    #[error("the key does not belong to the certificate in {}; name the key that it was made with", .0.display())]
    Mismatch(PathBuf),
    /// The TLS library does not take it.
    #[error("it cannot be used: {0}")]
    Rejected(String),
    /// A device's certificate, for example.
    #[error("the certificate of {0} is no CA's; name the certificate of the CA that signs the clients'")]
    NoCa(String),
    /// Nobody could connect, and by the ones before it devices can.
    #[error("none of its CAs is valid now; renew the CA, or look whether this machine's clock is right")]
    NoValidCa,
    /// Every client of this CA would be refused.
    #[error("no list of the CA {0}; every CA of client_ca needs its list here, one after the other")]
    NoList(String),
    /// It may be anybody's, and no device of this CA would get in with it.
    #[error("the list of the CA {0} is not signed by its key in client_ca; get the list anew from this CA")]
    ForgedList(String),
    /// Whether they are revoked would not be known, and they are connected.
    #[error(
        "no list of the CA {0}, through which connected clients have their certificates; put its list beside the others, or \
         revoke this CA"
    )]
    NoListBetween(String),
    /// As above.
    #[error(
        "no list for the part of the certificates that connected clients have; put the lists of all parts beside each other"
    )]
    NoListOfPart,
    /// As above.
    #[error(
        "the list of the CA {0}, through which connected clients have their certificates, is not signed by its key; get the \
         list anew from this CA"
    )]
    ForgedListBetween(String),
}

impl TlsSettings {
    pub(super) fn error(&self, file: TlsFile, cause: TlsCause) -> TlsError {
        let path = match file {
            TlsFile::Cert => Some(&self.cert),
            TlsFile::Key => Some(&self.key),
            TlsFile::ClientCa => self.client_ca.as_ref(),
            TlsFile::Crl => self.crl.as_ref(),
        };
        TlsError { file, path: path.cloned().unwrap_or_default(), cause }
    }
}

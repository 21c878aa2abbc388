//! Which certificates an uplink believes, and which it shows.

use std::path::PathBuf;

/// So many protocols may be offered.
pub const ALPN_MOST: usize = 8;
/// Longest name of one, in bytes: RFC 7301 section 3.1.
pub const ALPN_BYTES_MOST: usize = 255;

/// The files and names of an uplink with TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The CAs that are believed; without it, the system's.
    pub ca: Option<PathBuf>,
    /// What we show if we are asked.
    pub client: Option<KeyPair>,
    /// The name that the server's certificate has to be for, and that it is told (SNI), in place of
    /// the host.
    pub server_name: Option<String>,
    /// The protocols that are offered (ALPN), the best first.
    pub alpn: Vec<String>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl TlsSettings {
    /// Where the CAs come from, for people.
    pub(super) fn roots(&self) -> String {
        match &self.ca {
            Some(file) => file.display().to_string(),
            None => "this machine's list".to_owned(),
        }
    }
}

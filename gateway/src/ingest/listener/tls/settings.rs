//! The TLS files of a port, and whether its clients show certificates.

use std::path::PathBuf;

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCert {
    /// They are not asked.
    #[default]
    None,
    /// Those that have one are known by it.
    Optional,
    /// Those that have none are refused.
    Required,
}

/// The files of a listener with TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// The listener's certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// The private key of it.
    pub key: PathBuf,
    /// The CAs whose clients are believed.
    pub client_ca: Option<PathBuf>,
    /// Whether clients show a certificate; all but [`ClientCert::None`] need `client_ca`.
    pub client_cert: ClientCert,
    /// What these CAs have revoked.
    pub crl: Option<PathBuf>,
    /// Longest record that is sent, in bytes of what is encrypted in it; `None`:
    /// [`RECORD_BYTES_MOST`].
    pub max_record_bytes: Option<usize>,
}

/// The shortest that the longest record may be, in bytes: with less, heads and tags are most of
/// what is sent.
pub const RECORD_BYTES_LEAST: usize = 64;
/// The longest record that TLS knows, in bytes: RFC 8446 section 5.1.
pub const RECORD_BYTES_MOST: usize = 16 * 1024;

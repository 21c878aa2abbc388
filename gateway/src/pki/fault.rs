//! What is wrong with a file, and what to do. Nothing of a key is in it.

use std::io;

/// A file of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// The system's reason.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::Error),
    /// Something else than was wanted.
    #[error("the file holds {found} and no {wanted}; a PEM file with a {wanted} is needed here")]
    Kind {
        /// In words.
        wanted: &'static str,
        /// In words.
        found: String,
    },
    /// Broken PEM. Nothing of it is repeated: it may be a key.
    #[error("the file is damaged: between its BEGIN and END lines is no base64 text; make it anew")]
    Pem,
    /// Broken DER.
    #[error("its {0} cannot be read: {1}; make it anew")]
    Der(&'static str, String),
    /// It would have to be typed at every start.
    #[error("the key is encrypted; decrypt it by `openssl pkey -in KEY -out NEW`, and chmod 600 NEW")]
    Encrypted,
    /// It is no secret any more.
    #[error("everybody on this machine may read the key (mode {0:04o}); chmod 600 it")]
    Open(u32),
}

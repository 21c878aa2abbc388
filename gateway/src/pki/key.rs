//! A private key in a file that is nobody else's to read.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _, path::Path};

use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};

use super::{fault::FileFault, pem::sections};
use crate::reload;

/// Read by others than owner and group.
const MODE_OTHERS_READ: u32 = 0o004;
/// Read by the group.
const MODE_GROUP_READ: u32 = 0o040;

/// A key, and who may read it.
#[derive(Debug)]
pub struct PrivateKey {
    /// The key.
    pub der: PrivateKeyDer<'static>,
    /// The group may read it.
    pub is_shared: bool,
}

/// Reads the first private key of a file.
///
/// # Errors
/// [`FileFault`], also for one that everybody may read.
pub fn private_key(file: &Path) -> Result<PrivateKey, FileFault> {
    let metadata = std::fs::metadata(file).map_err(FileFault::Unreadable)?;
    if metadata.mode() & MODE_OTHERS_READ != 0 {
        return Err(FileFault::Open(metadata.mode() & 0o7777));
    }
    let bytes = reload::read(file).map_err(FileFault::Unreadable)?;
    let keys = sections(&bytes, "private key", PrivateKeyDer::from_pem).map_err(|fault| {
        let is_encrypted = bytes.windows(9).any(|word| word == b"ENCRYPTED");
        if is_encrypted { FileFault::Encrypted } else { fault }
    })?;
    let der = keys.into_iter().next().expect("invariant: sections gives one at least");
    Ok(PrivateKey { der, is_shared: is_shared(&metadata) })
}

/// Root gives a service its key by a group, and so does systemd; of a key of the service's own the
/// group is no part.
fn is_shared(key: &Metadata) -> bool {
    key.mode() & MODE_GROUP_READ != 0 && key.uid() != 0
}

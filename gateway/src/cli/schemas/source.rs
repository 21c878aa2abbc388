//! Where the types come from: this program, a file, or a running gateway.
//!
//! Limits: a file of [`FILE_BYTES_MAX`].

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use super::super::{
    Failure,
    ask::{ANSWER_MAX, Gateway},
};
use crate::catalog::{Entry, Lock, lint_birth};

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// One source; without any, what every device may use.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
pub(super) struct TypeSource {
    /// A list of types, as config/catalog.lock.json
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// The bytes of a birth message
    #[arg(long, value_name = "FILE")]
    birth: Option<PathBuf>,
    /// A running gateway: its [http] address
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
}

impl TypeSource {
    /// The types, those of a name together, oldest version first.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Failure> {
        let mut entries = self.read()?;
        entries.sort_by(|a, b| (&a.name, a.version, &a.hash).cmp(&(&b.name, b.version, &b.hash)));
        Ok(entries)
    }

    fn read(&self) -> Result<Vec<Entry>, Failure> {
        if let Some(file) = &self.lock {
            return Ok(lock(file)?.types);
        }
        if let Some(file) = &self.birth {
            let birth = lint_birth(&read(file)?, &Lock::default());
            let (_, entries) = birth.map_err(|cause| damaged(file, &format!("no birth message: {cause}")))?;
            return Ok(entries);
        }
        let Some(address) = &self.http else { return Ok(Entry::built_in()) };
        let text = Gateway::at(address, ANSWER_MAX).get("/api/schemas")?;
        let lock = Lock::parse(&text).map_err(|cause| {
            Failure::Unavailable(format!(
                "what answers at http://{address} is no gateway of this version: {cause}"
            ))
        })?;
        Ok(lock.types)
    }
}

/// Reads a list of types.
pub(super) fn lock(file: &Path) -> Result<Lock, Failure> {
    let text = String::from_utf8(read(file)?).map_err(|_| damaged(file, "it is not UTF-8"))?;
    Lock::parse(&text).map_err(|cause| damaged(file, &cause.to_string()))
}

/// Reads a file.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |cause| Failure::NoInput(format!("{}: {cause}", file.display()));
    let mut bytes = vec![];
    let opened = std::fs::File::open(file).map_err(failed)?;
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(damaged(file, "it is too long for a list of types"));
    }
    Ok(bytes)
}

pub(super) fn damaged(file: &Path, why: &str) -> Failure {
    Failure::Damaged(format!("{}: {why}", file.display()))
}

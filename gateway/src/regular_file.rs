//! Opening what is to be a file, where something else may have been put: a pipe would hold its
//! reader up for ever, a device may have no end, a folder gives an error that says nothing.
//!
//! Limits: [`read`] takes the most that it reads. A link is followed, for secrets are often given
//! by one.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, ErrorKind, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

/// Opens a regular file as `options` say. Does not block, whatever is there.
///
/// # Errors
/// The system's reason; or it is no regular file, of the kind [`ErrorKind::InvalidData`], and
/// nothing was read or written.
pub fn open(file: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without this, to open a pipe is to wait for its other end. To a regular file it means
    // nothing.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let opened = options.custom_flags(flags).open(file).map_err(|cause| match cause.kind() {
        ErrorKind::IsADirectory => foreign("folder"),
        _ => cause,
    })?;
    match opened.metadata()?.file_type() {
        kind if kind.is_file() => Ok(opened),
        kind => Err(foreign(name_of(kind))),
    }
}

/// Reads a regular file of at most `bytes_max`.
///
/// # Errors
/// As [`open`]; or it is too long.
pub fn read(file: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(file, OpenOptions::new().read(true))?.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The same, as text.
///
/// # Errors
/// As [`read`]; or it is not UTF-8.
pub fn read_text(file: &Path, bytes_max: u64) -> io::Result<String> {
    String::from_utf8(read(file, bytes_max)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the file is not UTF-8 text"))
}

fn foreign(what: &str) -> io::Error {
    let why = format!("a {what} is in its place: it has to be a regular file");
    io::Error::new(ErrorKind::InvalidData, why)
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "folder",
        kind if kind.is_fifo() => "pipe",
        kind if kind.is_socket() => "socket",
        _ => "device",
    }
}

/// What is put in a file's place, for the tests of whoever reads one.
#[cfg(test)]
pub(crate) mod impostors {
    use std::path::{Path, PathBuf};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    /// A path for each, and what an error has to say of it.
    pub fn all(folder: &Path) -> Vec<(PathBuf, &'static str)> {
        let (pipe, inner) = (folder.join("pipe"), folder.join("folder"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("a pipe can be made");
        std::fs::create_dir(&inner).expect("a folder can be made");
        vec![
            (pipe, "a pipe is in its place: it has to be a regular file"),
            (inner, "a folder is in its place: it has to be a regular file"),
            ("/dev/zero".into(), "a device is in its place: it has to be a regular file"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_with_words_and_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        for (path, why) in impostors::all(folder.path()) {
            assert_eq!(read(&path, 9).unwrap_err().to_string(), why);
            if !path.is_absolute() || path.starts_with(folder.path()) {
                let written = open(&path, OpenOptions::new().read(true).write(true));
                assert_eq!(written.unwrap_err().to_string(), why);
            }
        }
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_text(&link, 4).unwrap(), "text");
        assert_eq!(read(&file, 3).unwrap_err().to_string(), "it has more than 3 bytes");
    }
}

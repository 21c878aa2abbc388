//! What others on this machine could read or change that is the gateway's alone: told once, with
//! the command that puts it right.
//!
//! The users file and the TLS keys are refused where they are open to others; see `access/` and
//! `ingest/listener/tls/`. What is looked at here works all the same, so the gateway starts: files
//! with passwords of uplinks, which are looked at before every connect as well, the store's folder,
//! and files in it that an earlier version made as the umask said.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::config;

/// Written to by anybody but the owner.
const WRITE: u32 = 0o022;
/// Entered by anybody but the owner.
const ENTER: u32 = 0o011;
/// Anything that anybody but the owner may do.
const ANYTHING: u32 = 0o077;

/// All that is to be told. What cannot be looked at is nothing: whoever needs it says so.
pub(super) fn look(settings: &config::Settings) -> Vec<String> {
    let passwords = settings.uplinks.iter().flat_map(|uplink| uplink.upstream.passwords());
    let secrets = passwords.flat_map(|password| password.news(None));
    secrets.chain(look_at_folder(&settings.store.data_dir)).collect()
}

fn look_at_folder(folder: &Path) -> Vec<String> {
    let Ok(found) = std::fs::metadata(folder) else { return Vec::new() };
    let (mode, shown) = (found.mode(), folder.display());
    let mut said = Vec::new();
    if mode & WRITE != 0 {
        said.push(format!(
            "others can write in data_dir {shown}, whose mode is {:04o}, and so remove or replace what is stored: \
             chmod go-w {shown}",
            mode & 0o7777
        ));
    }
    let mut open = if mode & ENTER == 0 { Vec::new() } else { open_files(folder) };
    open.sort();
    if let Some(example) = open.first() {
        said.push(format!(
            "others can read or change {} files in data_dir, such as {}: chmod go= {shown}/*",
            open.len(),
            example.display()
        ));
    }
    said
}

fn open_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let is_open = |found: Metadata| found.is_file() && found.mode() & ANYTHING != 0;
    let files = entries.flatten().map(|entry| entry.path());
    files.filter(|file| std::fs::symlink_metadata(file).is_ok_and(is_open)).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_folder_that_others_can_write_and_files_that_they_can_read_are_told_with_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("data");
        assert_eq!(look_at_folder(&folder), [""; 0], "it is not there yet");
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("seg-0");
        std::fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for (folder_mode, file_mode, told) in [
            (0o755, 0o600, &[][..]),
            (0o700, 0o644, &[]),
            (0o775, 0o600, &["chmod go-w "]),
            (0o1777, 0o600, &["chmod go-w "]),
            (0o755, 0o644, &["such as "]),
            (0o757, 0o640, &["chmod go-w ", "chmod go= "]),
        ] {
            set(&folder, folder_mode);
            set(&file, file_mode);
            let said = look_at_folder(&folder);
            assert_eq!(said.len(), told.len(), "{folder_mode:o} {file_mode:o}: {said:?}");
            assert!(said.iter().zip(told).all(|(said, told)| said.contains(told)), "{said:?}");
        }
    }
}

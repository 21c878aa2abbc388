//! Users and access rules, resolved: both files are read and checked with the configuration, and
//! what is wrong in them is told with their own line.

use std::{path::Path, sync::Arc};

use super::{ConfigError, raw, read_raw};
use crate::{
    access::{Access, Acl, Files, LoadError, Policy, Users},
    keys::{Text, Validator},
};

impl Validator<'_> {
    pub(super) fn access(&mut self, raw: &raw::Access) -> Arc<Access> {
        let path = |text: &Text| self.around.folder.join(text.get_ref());
        let files = Files { users: raw.users.as_ref().map(path), acl: raw.acl.as_ref().map(path) };
        let users = self.read(raw.users.as_ref(), files.users.as_deref(), Users::load, ADD_USER);
        let acl = self.read(raw.acl.as_ref(), files.acl.as_deref(), Acl::load, "");
        Arc::new(Access::of(files, Policy { users, acl }))
    }

    fn read<T>(
        &mut self,
        raw: Option<&Text>,
        file: Option<&Path>,
        load: impl Fn(&Path) -> Result<T, LoadError>,
        if_missing: &str,
    ) -> Option<T> {
        let (raw, file) = raw.zip(file)?;
        load(file)
            .map_err(|error| {
                let advice = if file.exists() { "" } else { if_missing };
                for line in error.to_string().lines() {
                    self.wrong(&raw.span(), format!("{line}{advice}"));
                }
            })
            .ok()
    }
}

const ADD_USER: &str = "; `tidegate users add NAME --config FILE` makes it";

/// The users file that a configuration names, without looking into it: it may have to be made
/// first.
///
/// # Errors
/// [`ConfigError`]
pub fn users_file(file: &Path) -> Result<Option<std::path::PathBuf>, ConfigError> {
    let (_, raw) = read_raw(file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(raw.access.users.map(|users| folder.join(users.get_ref())))
}

//! Users and access rules as meant: both files are read and checked with the configuration, and what is wrong in them is told
//! with their own line.

use std::{path::Path, sync::Arc};

use super::{
    ConfigError,
    meant::Judge,
    read_typed,
    typed::{self, Text},
};
use crate::access::{Access, Acl, Files, LoadError, Policy, Users};

impl Judge<'_> {
    pub(super) fn access(&mut self, typed: &typed::Access) -> Arc<Access> {
        let path = |text: &Text| self.around.folder.join(text.get_ref());
        let files = Files { users: typed.users.as_ref().map(path), acl: typed.acl.as_ref().map(path) };
        let users = self.read(typed.users.as_ref(), files.users.as_deref(), Users::load, ADD_USER);
        let acl = self.read(typed.acl.as_ref(), files.acl.as_deref(), Acl::load, "");
        Arc::new(Access::of(files, Policy { users, acl }))
    }

    fn read<T>(
        &mut self,
        typed: Option<&Text>,
        file: Option<&Path>,
        load: impl Fn(&Path) -> Result<T, LoadError>,
        if_missing: &str,
    ) -> Option<T> {
        let (typed, file) = typed.zip(file)?;
        load(file)
            .map_err(|error| {
                let advice = if file.exists() { "" } else { if_missing };
                for line in error.to_string().lines() {
                    self.wrong(&typed.span(), format!("{line}{advice}"));
                }
            })
            .ok()
    }
}

const ADD_USER: &str = "; `tidegate users add NAME --config FILE` makes it";

/// The users file that a configuration names, without looking into it: it may have to be made first.
///
/// # Errors
/// [`ConfigError`]
pub fn users_file(file: &Path) -> Result<Option<std::path::PathBuf>, ConfigError> {
    let (_, typed) = read_typed(file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(typed.access.users.map(|users| folder.join(users.get_ref())))
}

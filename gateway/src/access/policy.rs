//! The users and rules that hold at a time, and the files that they are read from.

use std::path::PathBuf;

use super::{
    acl::{Acl, Subject},
    error::LoadError,
    permissions::Permissions,
    proof::Proof,
    users::Users,
};

/// Where users and rules are read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Files {
    /// The users file.
    pub users: Option<PathBuf>,
    /// The access file.
    pub acl: Option<PathBuf>,
}

/// The users and rules that hold at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Known users; `None`: there is no users file.
    pub users: Option<Users>,
    /// What they may do; `None`: there is no access file.
    pub acl: Option<Acl>,
}

impl Policy {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`LoadError`]: the first file that cannot be used.
    pub fn load(files: &Files) -> Result<Self, LoadError> {
        let users = files.users.as_deref().map(Users::load).transpose()?;
        let acl = files.acl.as_deref().map(Acl::load).transpose()?;
        Ok(Policy { users, acl })
    }

    pub(super) fn has_user(&self, name: &str) -> bool {
        self.users.as_ref().is_some_and(|users| users.get(name).is_some())
    }

    /// What one client may do.
    pub(super) fn permissions(&self, identity: &str, proof: Proof, client_id: &str) -> Permissions {
        let user = self.users.as_ref().and_then(|users| users.get(identity));
        let subject = Subject { identity, roles: user.map_or(&[], |user| &user.roles), client_id };
        match &self.acl {
            Some(acl) => acl.permissions(&subject),
            None if proof == Proof::Nothing => Permissions::all(),
            None => Acl::devices().permissions(&subject),
        }
    }
}

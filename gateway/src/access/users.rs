//! The users file: names, password hashes, which client ids, which roles.
//!
//! ```toml
//! [[user]]
//! name = "barn-3"
//! password = "$argon2id$v=19$…"      # set by `tidegate users`; never a password itself
//! client_id = "own"                  # its name and no other; or "any" that is not another user's name
//! roles = ["viewer"]                 # for the access file
//! ```
//! A user without a password is one only if it says `certificate_only = true`: a blank line must
//! not let anybody in (CVE-2018-12551). Limits: [`FILE_BYTES_MAX`], [`USERS_MAX`], [`ROLES_MAX`].
//! The file has to be its owner's alone; see [`edit`](mod@super::edit) for writing it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{File, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::Arc,
};

use serde::Deserialize;
use toml::Spanned;

use super::{
    error::{LoadError, Problems},
    hash::Stored,
    name::check_name,
    read,
};
use crate::regular_file;

/// Longest users file, in bytes.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// Most users.
pub const USERS_MAX: usize = 20_000;
/// Most roles of one user.
pub const ROLES_MAX: usize = 16;
/// Permission bits that nobody but the owner may have.
const OTHERS: u32 = 0o077;

const HEAD: &str = "# The users of this gateway. `tidegate users` writes it; comments are not kept.\n";

/// Which client ids a user may connect with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientIds {
    /// Its name alone.
    Own,
    /// Any that is not the name of another user.
    Any,
}

impl ClientIds {
    /// The word in the file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            ClientIds::Own => "own",
            ClientIds::Any => "any",
        }
    }
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name: the identity.
    pub name: Arc<str>,
    /// Its password's hash; `None`: only a certificate lets it in.
    pub password: Option<Stored>,
    /// Which client ids it may use.
    pub client_ids: ClientIds,
    /// Its roles.
    pub roles: Vec<Arc<str>>,
}

/// All users, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users(BTreeMap<Arc<str>, User>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    user: Vec<Spanned<RawUser>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: Spanned<String>,
    password: Option<Spanned<String>>,
    client_id: Option<Spanned<String>>,
    #[serde(default)]
    roles: Vec<Spanned<String>>,
    #[serde(default)]
    certificate_only: bool,
}

impl Users {
    /// Reads and checks a file, its permission bits included.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        let opened = regular_file::open(file, OpenOptions::new().read(true))
            .map_err(|cause| LoadError::unreadable(file, &cause))?;
        Self::load_opened(&opened, file)
    }

    /// The same, of a file that is open; `file` stands in the errors.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load_opened(opened: &File, file: &Path) -> Result<Self, LoadError> {
        let unreadable = |cause: std::io::Error| LoadError::unreadable(file, &cause);
        let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & OTHERS != 0 {
            return Err(LoadError::Exposed { file: file.to_owned(), mode });
        }
        Self::parse(&read(opened, file, FILE_BYTES_MAX)?, file)
    }

    /// Checks the text of a file; `file` stands in the errors.
    ///
    /// # Errors
    /// [`LoadError::Wrong`]
    pub fn parse(text: &str, file: &Path) -> Result<Self, LoadError> {
        let raw: RawFile = toml::from_str(text).map_err(|e| LoadError::from_toml(file, text, &e))?;
        let mut problems = Problems::default();
        if let Some(user) = raw.user.get(USERS_MAX) {
            problems.add(&user.span(), format!("more than {USERS_MAX} users"));
        }
        let mut users = Users::default();
        for user in raw.user.iter().take(USERS_MAX) {
            let name = &user.get_ref().name;
            if let Some(user) = checked(user, &mut problems)
                && !users.add(user)
            {
                problems.add(
                    &name.span(),
                    format!("the user \"{}\" is there already; remove one", name.get_ref()),
                );
            }
        }
        if problems.is_empty() { Ok(users) } else { Err(problems.error(file, text)) }
    }

    /// The user called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.0.get(name)
    }

    /// The user called `name`, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut User> {
        self.0.get_mut(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.0.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a user. `false`, and nothing changes, if there is one of this name.
    pub fn add(&mut self, user: User) -> bool {
        match self.0.entry(user.name.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(vacant) => {
                vacant.insert(user);
                true
            }
        }
    }

    /// Removes a user; whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// The file's text. Names, roles and hashes hold nothing that would have to be quoted.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::from(HEAD);
        for user in self.iter() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n[[user]]\nname = \"{}\"\n", user.name);
            let _ = match &user.password {
                Some(stored) => writeln!(text, "password = \"{}\"", stored.expose()),
                None => writeln!(text, "certificate_only = true"),
            };
            let _ = writeln!(text, "client_id = \"{}\"", user.client_ids.word());
            if !user.roles.is_empty() {
                let roles: Vec<String> = user.roles.iter().map(|role| format!("\"{role}\"")).collect();
                let _ = writeln!(text, "roles = [{}]", roles.join(", "));
            }
        }
        text
    }
}

fn checked(raw: &Spanned<RawUser>, problems: &mut Problems) -> Option<User> {
    let fields = raw.get_ref();
    let name = &fields.name;
    let mut is_good = true;
    let mut wrong = |span: std::ops::Range<usize>, message: String| {
        is_good = false;
        problems.add(&span, message);
    };
    if let Err(cause) = check_name(name.get_ref()) {
        wrong(name.span(), format!("{cause}; choose another name"));
    }
    let password = match (&fields.password, fields.certificate_only) {
        (None, true) => None,
        (None, false) => {
            wrong(
                raw.span(),
                "a user without a password; set one with `tidegate users passwd`, or certificate_only = true"
                    .into(),
            );
            None
        }
        (Some(password), true) => {
            wrong(password.span(), "a password beside certificate_only = true; remove one of them".into());
            None
        }
        (Some(password), false) => {
            Stored::parse(password.get_ref()).map_err(|cause| wrong(password.span(), cause.to_string())).ok()
        }
    };
    let client_ids = match fields.client_id.as_ref().map(|word| word.get_ref().as_str()) {
        None | Some("own") => ClientIds::Own,
        Some("any") => ClientIds::Any,
        Some(_) => {
            let span = fields.client_id.as_ref().map_or(0..0, Spanned::span);
            wrong(span, "client_id is \"own\" or \"any\"".into());
            ClientIds::Own
        }
    };
    if let Some(role) = fields.roles.get(ROLES_MAX) {
        wrong(role.span(), format!("more than {ROLES_MAX} roles"));
    }
    for role in &fields.roles {
        if let Err(cause) = check_name(role.get_ref()) {
            wrong(role.span(), format!("a role: {cause}"));
        }
    }
    let roles = fields.roles.iter().map(|role| role.get_ref().as_str().into()).collect();
    is_good.then(|| User { name: name.get_ref().as_str().into(), password, client_ids, roles })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PHC: &str =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn parse(text: &str) -> Result<Users, LoadError> {
        Users::parse(text, Path::new("users.toml"))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut users = Users::default();
        let user = |name: &str, password, client_ids, roles: &[&str]| User {
            name: name.into(),
            password,
            client_ids,
            roles: roles.iter().map(|role| (*role).into()).collect(),
        };
        assert!(users.add(user("b", Some(Stored::parse(PHC).unwrap()), ClientIds::Any, &["x", "y"])));
        assert!(users.add(user("a", None, ClientIds::Own, &[])));
        assert!(!users.add(user("a", None, ClientIds::Any, &[])));
        assert_eq!(parse(&users.render()), Ok(users.clone()));
        assert_eq!(users.iter().map(|user| &*user.name).collect::<Vec<_>>(), ["a", "b"]);
        assert!(users.remove("a") && !users.remove("a"));
        assert_eq!(parse(&Users::default().render()), Ok(Users::default()));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_no_password_is_repeated() {
        let good = format!("password = \"{PHC}\"\n");
        let table = [
            ("name = \"a\"\n".to_owned(), "users.toml:1: a user without a password"),
            ("name = \"a\"\npassword = \"\"\n".into(), "users.toml:3: a blank password lets nobody in"),
            ("name = \"a\"\npassword = \"hunter2\"\n".into(), "users.toml:3: this is no argon2id hash"),
            ("name = \"a\"\npassword = 7141922\n".into(), "users.toml:3: a value of the wrong type"),
            (format!("name = \"\"\n{good}"), "users.toml:2: the name is empty"),
            (format!("name = \"a/b\"\n{good}"), "users.toml:2: a name has no space"),
            (format!("name = \"#\"\n{good}"), "users.toml:2: a name has no space"),
            (format!("name = \"a\\u0000\"\n{good}"), "users.toml:2: a name has no space"),
            (format!("name = \"a b\"\n{good}"), "users.toml:2: a name has no space"),
            (format!("name = \"{}\"\n{good}", "a".repeat(65)), "users.toml:2: the name is longer than 64"),
            (format!("name = \"anonymous\"\n{good}"), "users.toml:2: the name \"anonymous\" stands for"),
            (format!("name = \"a\"\n{good}certificate_only = true\n"), "users.toml:3: a password beside"),
            (format!("name = \"a\"\n{good}client_id = \"hunter2\"\n"), "users.toml:4: client_id is"),
            (format!("name = \"a\"\n{good}roles = [\"a b\"]\n"), "users.toml:4: a role: "),
            (format!("name = \"a\"\n{good}admin = true\n"), "users.toml:4: unknown key `admin`"),
            (
                format!("name = \"a\"\n{good}\n[[user]]\nname = \"a\"\n{good}"),
                "users.toml:6: the user \"a\" is there",
            ),
            (good.clone(), "users.toml:1: the key `name` is missing"),
        ];
        for (text, wanted) in table {
            let error = parse(&format!("[[user]]\n{text}")).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
            assert!(
                !error.contains("hunter2") && !error.contains("7141922") && !error.contains("argon2id$"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_says_what_to_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::fs::write(&file, "").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            match Users::load(&file) {
                Ok(_) => assert!(good, "{mode:o}"),
                Err(error) => {
                    assert!(!good, "{error}");
                    assert!(error.to_string().contains(&format!("chmod 600 {}", file.display())), "{error}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}|(\\[\\[user\\]\\]|name|password|roles|[ =\"\\[\\]$a\n]){0,40}") {
            let _ = parse(&text);
        }
    }
}

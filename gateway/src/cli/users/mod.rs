//! `tidegate users`: who may connect. It writes the users file and asks no gateway: one that runs
//! reads the file again.
//!
//! A password comes from a prompt, from standard input, from a file or from the system's random
//! numbers, never from the command line, which other users of the machine can see. What it does not
//! do: show a password or a hash again.

mod secret;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

#[cfg(feature = "sim")]
pub(super) use secret::from_file;
pub(super) use secret::random;

use super::Failure;
use crate::{
    access::{ClientIds, EditError, LoadError, Stored, User, Users, edit, name},
    config,
    mqtt::password::Password,
};

/// Add, list and remove those who may connect, and set their passwords
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate users add node-red --client-id any --role viewer --config /etc/tidegate/gateway.toml
  tidegate users add barn-3 --random --file users.toml
  tidegate users passwd node-red --password-file new.txt --config /etc/tidegate/gateway.toml
  tidegate users list --json --config /etc/tidegate/gateway.toml

The password is asked for on a terminal, else it is the first line of standard input.
For a device, `tidegate devices add` does it in one step. A gateway that runs reads the file again by itself.

Exit codes: 64 usage, or the user exists already; 66 no such user; 73 cannot write; 78 the users file or configuration is wrong.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(Add),
    List(List),
    Remove(Remove),
    Passwd(Passwd),
}

/// Add a user
#[derive(Debug, clap::Args)]
struct Add {
    /// Its name, 1 to 64 bytes: the identity in access rules and the audit log
    name: String,
    /// Which MQTT client ids it may use: its own name, or any that is not another user's name
    #[arg(long, value_name = "own|any", default_value = "own", value_parser = client_ids)]
    client_id: ClientIds,
    /// A role that access rules name; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// No password: only a certificate of this name lets it in
    #[arg(long, conflicts_with_all = ["random", "password_file"])]
    certificate_only: bool,
    #[command(flatten)]
    password: secret::PasswordSource,
    #[command(flatten)]
    place: UsersLocation,
}

/// List the users; never a password or a hash
#[derive(Debug, clap::Args)]
struct List {
    /// For scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: UsersLocation,
}

/// Remove a user: a gateway that runs ends its connection
#[derive(Debug, clap::Args)]
struct Remove {
    /// Its name
    name: String,
    #[command(flatten)]
    place: UsersLocation,
}

/// Set a user's password
#[derive(Debug, clap::Args)]
struct Passwd {
    /// Its name
    name: String,
    #[command(flatten)]
    password: secret::PasswordSource,
    #[command(flatten)]
    place: UsersLocation,
}

/// Where the users file is.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct UsersLocation {
    /// The gateway's configuration, which names the users file
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The users file itself
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

impl UsersLocation {
    pub(super) fn users_file(&self) -> Result<PathBuf, Failure> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let config =
            self.config.as_ref().ok_or_else(|| Failure::Usage("--config or --file is needed".into()))?;
        config::users_file(config)?.ok_or_else(|| {
            Failure::Config(format!(
                "{}: no users file is named; add to it:\n[access]\nusers = \"users.toml\"",
                config.display()
            ))
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add(arguments) => run_add(arguments),
        Command::List(arguments) => run_list(arguments),
        Command::Remove(arguments) => run_remove(arguments),
        Command::Passwd(arguments) => run_passwd(arguments),
    }
}

fn run_add(arguments: &Add) -> Result<(), Failure> {
    for name in arguments.roles.iter().chain([&arguments.name]) {
        check_name(name)?;
    }
    let file = arguments.place.users_file()?;
    let (password, shown) = match arguments.certificate_only {
        true => (None, None),
        false => arguments.password.read(&arguments.name).map(|(password, shown)| (Some(password), shown))?,
    };
    add(
        &file,
        User {
            name: arguments.name.as_str().into(),
            password: password.as_ref().map(hash).transpose()?,
            client_ids: arguments.client_id,
            roles: arguments.roles.iter().map(|role| role.as_str().into()).collect(),
        },
    )?;
    said(&format!("{} was added to {}", arguments.name, file.display()), shown.as_deref());
    Ok(())
}

/// Adds a user to the file.
pub(super) fn add(file: &std::path::Path, user: User) -> Result<(), Failure> {
    let name = user.name.clone();
    let exists = || {
        Failure::Usage(format!(
            "{name} is a user already; `tidegate users passwd {name}` changes its password"
        ))
    };
    edit(file, |users| if users.add(user) { Ok(()) } else { Err(exists()) }).map_err(failed)
}

/// Hashes a password for the file.
pub(super) fn hash(password: &Password) -> Result<Stored, Failure> {
    Stored::make(password).map_err(|error| Failure::Usage(error.to_string()))
}

fn run_list(arguments: &List) -> Result<(), Failure> {
    let users = Users::load(&arguments.place.users_file()?).map_err(unusable)?;
    if arguments.json {
        say!("{}", json(&users));
        return Ok(());
    }
    say!("{:<32} {:<12} {:<10} roles", "name", "lets it in", "client id");
    for user in users.iter() {
        let by = if user.password.is_some() { "password" } else { "certificate" };
        say!("{:<32} {by:<12} {:<10} {}", user.name, user.client_ids.word(), user.roles.join(", "));
    }
    Ok(())
}

fn json(users: &Users) -> serde_json::Value {
    users
        .iter()
        .map(|user| {
            serde_json::json!({
                "name": &*user.name,
                "has_password": user.password.is_some(),
                "client_id": user.client_ids.word(),
                "roles": user.roles.iter().map(|role| &**role).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn run_remove(arguments: &Remove) -> Result<(), Failure> {
    let (name, file) = (&arguments.name, arguments.place.users_file()?);
    let mut by_certificate = false;
    let remove = |users: &mut Users| {
        by_certificate = users.get(name).is_some_and(|user| user.password.is_none());
        users.remove(name).then_some(())
    };
    change(&file, remove, name)?;
    let still = if by_certificate { "; its certificate lets it in until that is revoked" } else { "" };
    said(&format!("{name} was removed from {}{still}", file.display()), None);
    Ok(())
}

fn run_passwd(arguments: &Passwd) -> Result<(), Failure> {
    let (name, file) = (&arguments.name, arguments.place.users_file()?);
    // Asked before the prompt, so that nobody types a password for a name that is misspelled.
    if Users::load(&file).map_err(unusable)?.get(name).is_none() {
        return Err(no_such_user(name));
    }
    let (password, shown) = arguments.password.read(name)?;
    let stored = hash(&password)?;
    change(&file, |users| users.get_mut(name).map(|user| user.password = Some(stored)), name)?;
    said(&format!("{name} has a new password"), shown.as_deref());
    Ok(())
}

fn change(
    file: &std::path::Path,
    change: impl FnOnce(&mut Users) -> Option<()>,
    name: &str,
) -> Result<(), Failure> {
    if !file.exists() {
        return Err(no_such_user(name));
    }
    edit(file, |users| change(users).ok_or_else(|| no_such_user(name))).map_err(failed)
}

/// A password that was made here is the result: alone on standard output, for a script. All else is
/// a remark.
fn said(what: &str, password: Option<&str>) {
    match password {
        Some(password) => {
            remark!("{what}; its password, which is shown this once:");
            say!("{password}");
        }
        None => say!("{what}"),
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    name::check_name(name).map_err(|cause| Failure::Usage(format!("\"{}\": {cause}", name.escape_debug())))
}

fn no_such_user(name: &str) -> Failure {
    Failure::NoInput(format!(
        "there is no user \"{}\"; `tidegate users list` shows them",
        name.escape_debug()
    ))
}

fn unusable(error: LoadError) -> Failure {
    match error {
        LoadError::Unreadable { .. } => Failure::NoInput(error.to_string()),
        error => Failure::Config(error.to_string()),
    }
}

fn failed(error: EditError<Failure>) -> Failure {
    match error {
        EditError::Load(error) => unusable(error),
        EditError::Unchanged(failure) => failure,
        EditError::Write { .. } => Failure::CantCreate(error.to_string()),
    }
}

fn client_ids(word: &str) -> Result<ClientIds, String> {
    [ClientIds::Own, ClientIds::Any]
        .into_iter()
        .find(|ids| ids.word() == word)
        .ok_or_else(|| "write \"own\" or \"any\"".into())
}

//! `tidegate store`: looking into the store, through the running gateway or on the files of a
//! stopped one.

mod cat;
mod lines;
mod stat;
mod verify;

use std::path::{Path, PathBuf};

use super::{Failure, ask};
use crate::store::{StoreError, inspect::Inspector};

/// Look into the store: check it, count it, show what is in it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate store verify                             of the running gateway
  tidegate store verify --files /var/lib/tidegate   of a stopped one
  tidegate store stat --json | jq .run.commits
  tidegate store cat --device barn-1 --from 2h

Exit codes: 65 damage was found, 66 there is no store, 69 no gateway answers, or one holds the files.
Nothing is written; what a running gateway is found to suffer from, it mends.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Verify(verify::Arguments),
    Stat(stat::Arguments),
    Cat(cat::Arguments),
}

/// Where to look.
#[derive(Debug, clap::Args)]
pub(super) struct StoreLocation {
    /// The running gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = ask::HTTP_DEFAULT, conflicts_with = "files")]
    pub(super) http: String,
    /// The folder of a stopped gateway, its data_dir
    #[arg(long, value_name = "DIR")]
    pub(super) files: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Verify(arguments) => verify::run(arguments),
        Command::Stat(arguments) => stat::run(arguments),
        Command::Cat(arguments) => cat::run(arguments),
    }
}

pub(super) fn open(folder: &Path) -> Result<Inspector, Failure> {
    Inspector::of_files(folder).map_err(|error| unopened(folder, &error))
}

/// Why the store in a folder cannot be opened by a command.
pub(super) fn unopened(folder: &Path, error: &StoreError) -> Failure {
    match error {
        StoreError::NoStore { .. } => Failure::NoInput(error.to_string()),
        StoreError::InUse { .. } => Failure::Unavailable(format!(
            "a gateway has the store in {} open: ask it, with --http ADDRESS instead of --files",
            folder.display()
        )),
        error => Failure::Io(error.to_string()),
    }
}

pub(super) fn failed(error: StoreError) -> Failure {
    Failure::Io(error.to_string())
}

#[cfg(test)]
mod tests;

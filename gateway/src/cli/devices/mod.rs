//! `tidegate devices`: a device's credentials, and what a running gateway knows of its devices.

mod add;
mod look;

use super::Failure;

/// Make a device's credentials, and see what is known of devices
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(add::Arguments),
    List(look::ListArguments),
    Show(look::ShowArguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add(arguments) => add::run(arguments),
        Command::List(arguments) => look::list(arguments),
        Command::Show(arguments) => look::show(arguments),
    }
}

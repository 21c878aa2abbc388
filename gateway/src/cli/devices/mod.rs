//! `tidegate devices`: a device's credentials, and what the gateway knows of its devices.

mod add;
mod look;

use super::Failure;

/// Make a device's credentials, and see what is known of devices
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate devices add barn-3 --config /etc/tidegate/gateway.toml
  tidegate devices list
  tidegate devices show barn-3
  tidegate devices list --json | jq -r 'select(.presence == \"silent\") | .device'")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Add(add::Add),
    List(look::List),
    Show(look::Show),
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add(add) => add::run(add),
        Command::List(list) => look::list(list),
        Command::Show(show) => look::show(show),
    }
}

//! The command line: one file per command. Results go to standard output, errors to standard error
//! in a plain line or two, and the exit code says of which kind it was ([`Failure`]).

/// Prints a line, or several. A reader that has gone away (`tidegate demo | head`) is no error: the
/// command goes on.
///
/// Nothing that a terminal obeys comes out, whoever chose it. Only a newline is left, so a name
/// within a row goes through [`line`](crate::printable::line) by itself.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), "{}", crate::printable::page(&format!($($words)*)));
    }};
}

/// The same beside the results, to standard error.
macro_rules! remark {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "{}", crate::printable::page(&format!($($words)*)));
    }};
}

mod ask;
mod check;
mod commands;
mod dead_letters;
#[cfg(feature = "demo")]
mod demo;
mod devices;
mod exposed;
mod failure;
mod files;
#[cfg(feature = "sim")]
mod fleet;
mod people;
mod process;
mod replay;
mod run;
mod schemas;
#[cfg(feature = "sim")]
mod sim;
mod status;
mod store;
mod uplinks;
mod users;
mod when;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use failure::Failure;

use crate::telemetry;
use process::{runtime, stop_signal};

const DEMO_EXAMPLE: &str = if cfg!(feature = "demo") {
    "\n  tidegate demo                                     see it work: a minute, nothing to install"
} else {
    ""
};
const EXAMPLES: &str = "
  tidegate check /etc/tidegate/gateway.toml         say what is wrong with a configuration
  tidegate run --config /etc/tidegate/gateway.toml  run the gateway
  tidegate status                                   what the gateway on this machine is doing
  tidegate replay --uplink cloud --from 2h          send the events of two hours again
  tidegate store verify                             is everything that is stored whole
  tidegate uplinks list                             what waits for each uplink
  tidegate dead-letters list                        what an upstream could not take, and why
  tidegate devices add barn-3 --config gateway.toml make a device's credentials, and say what to flash
  tidegate commands send stall-3 \"fan on\"            a command to a device, also to one that sleeps
  tidegate schemas lint birth.bin                   check the event types of one's own firmware

Exit codes: 0 well, 1 events were lost or not taken, or a check found errors, 64 usage, 65 the store is damaged, 66 no store, no user there,
69 unavailable (a port in use, no gateway there), 73 cannot create the data directory, 74 input or output failed, 78 configuration.
TIDEGATE_LOG sets the log filter, such as \"debug\" or \"tidegate=debug\".";

/// An edge event gateway: acknowledges an event only when it is on disk, forwards it at least once.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = format!("Examples:{DEMO_EXAMPLE}{EXAMPLES}"), arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
    #[cfg(feature = "sim")]
    Sim(sim::Arguments),
    Status(status::Arguments),
    Replay(replay::Arguments),
    Store(store::Arguments),
    Uplinks(uplinks::Arguments),
    DeadLetters(dead_letters::Arguments),
    Users(users::Arguments),
    Devices(devices::Arguments),
    Commands(commands::Arguments),
    Schemas(schemas::Arguments),
}

/// Runs the program with `arguments`, the program's name first, and gives its exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    telemetry::hush_caught_panics();
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help that was asked for is a result; everything else is an error.
            let _ = usage.print();
            return if usage.use_stderr() { Failure::USAGE } else { 0 };
        }
    };
    match command(arguments.command) {
        Ok(()) => 0,
        Err(failure) => {
            remark!("{failure}");
            failure.exit_code()
        }
    }
}

fn command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => {
            log(None)?;
            run::run(&arguments)
        }
        Command::Check(arguments) => check::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => {
            log(Some(demo::LOG_FILTER))?;
            demo::run(&arguments)
        }
        #[cfg(feature = "sim")]
        Command::Sim(arguments) => {
            log(None)?;
            sim::run(&arguments)
        }
        Command::Status(arguments) => status::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Store(arguments) => store::run(&arguments),
        Command::Uplinks(arguments) => uplinks::run(&arguments),
        Command::DeadLetters(arguments) => dead_letters::run(&arguments),
        Command::Users(arguments) => users::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Commands(arguments) => commands::run(&arguments),
        Command::Schemas(arguments) => schemas::run(&arguments),
    }
}

/// Sets the log up; `quieter` is the filter where the environment names none.
fn log(quieter: Option<&str>) -> Result<(), Failure> {
    let filter = std::env::var(telemetry::LOG_VARIABLE).ok();
    telemetry::log_to_stderr(filter.as_deref().or(quieter)).map_err(Failure::Usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn usage_is_64_and_help_is_0() {
        let code = |words: &[&str]| main(words.iter().map(OsString::from));
        assert_eq!(code(&["tidegate", "rum"]), 64);
        assert_eq!(code(&["tidegate", "run"]), 64);
        assert_eq!(code(&["tidegate"]), 64);
        assert_eq!(code(&["tidegate", "--help"]), 0);
        assert_eq!(code(&["tidegate", "--version"]), 0);
    }

    #[test]
    fn a_configuration_that_is_wrong_or_missing_is_78() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("g.toml");
        let code = || main(["tidegate", "check", file.to_str().unwrap()].map(OsString::from));
        assert_eq!(code(), 78);
        std::fs::write(&file, "[gateway]\nidd = \"a\"\n").unwrap();
        assert_eq!(code(), 78);
        std::fs::write(&file, "[gateway]\nid = \"a\"\n").unwrap();
        assert_eq!(code(), 0);
    }
}

//! The program: parse, run, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // The tests name in FAILPOINTS where the process is to die.
    #[cfg(feature = "failpoints")]
    let _points = fail::FailScenario::setup();
    ExitCode::from(tidegate::cli::main(std::env::args_os()))
}

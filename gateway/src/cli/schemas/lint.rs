//! `tidegate schemas lint`: is what a device is about to announce good?
//!
//! 0 without errors, 1 with errors (with `--deny-warnings` also with warnings), 65 for a file that
//! is neither a birth message nor a list of types, 66 for one that is not there.

use std::path::{Path, PathBuf};

use super::{
    super::Failure,
    source::{damaged, lock, read},
};
use crate::{
    catalog::{Entry, Finding, Lock, Severity, lint_birth, lint_entries},
    printable::line,
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate schemas lint birth.bin
  tidegate schemas lint birth.bin --lock types.lock.json --deny-warnings
  tidegate schemas lint types.lock.json --json

A file is the bytes of a birth message, or a list as config/catalog.lock.json. A type is compared with the one that was
released under its name and version: in --lock, and among those that every device may use.")]
pub(super) struct LintArguments {
    /// Births or lists
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What was released
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Warnings are errors
    #[arg(long)]
    deny_warnings: bool,
    /// For scripts: JSON, a finding a line
    #[arg(long)]
    json: bool,
}

/// A finding for scripts.
#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a Path,
    #[serde(flatten)]
    finding: &'a Finding,
}

pub(super) fn run(arguments: &LintArguments) -> Result<(), Failure> {
    let mut released = Lock::new(Entry::built_in());
    if let Some(file) = &arguments.lock {
        released.add(&lock(file)?.types);
    }
    let mut counts = [0, 0];
    for file in &arguments.files {
        let findings = lint(file, &released)?;
        for finding in &findings {
            counts[usize::from(finding.severity == Severity::Error)] += 1;
            show(file, finding, arguments.json);
        }
        if findings.is_empty() && !arguments.json {
            say!("{}: good", file.display());
        }
    }
    let [warnings, errors] = counts;
    if errors > 0 || arguments.deny_warnings && warnings > 0 {
        return Err(Failure::Lost(format!("{errors} errors, {warnings} warnings")));
    }
    Ok(())
}

/// What a file begins with says what it is: no birth message begins as JSON does.
fn lint(file: &Path, released: &Lock) -> Result<Vec<Finding>, Failure> {
    let bytes = read(file)?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(lint_entries(&lock(file)?.types, released));
    }
    let (findings, _) = lint_birth(&bytes, released)
        .map_err(|cause| damaged(file, &format!("neither a birth message nor a list of types: {cause}")))?;
    Ok(findings)
}

fn show(file: &Path, finding: &Finding, json: bool) {
    if json {
        // Texts, and a path that may have been shortened, always are JSON.
        say!("{}", serde_json::to_string(&Line { file, finding }).unwrap_or_default());
        return;
    }
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    say!("{}: {severity}: {}: {}", file.display(), line(&finding.place), line(&finding.text));
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn errors_are_1_warnings_are_0_and_other_files_65() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let lint = |words: &[&str]| {
            let all = ["tidegate", "schemas", "lint"].iter().chain(words).map(OsString::from);
            crate::cli::main(all)
        };
        let list = |definition: &[u8]| Lock::new(vec![Entry::new(definition).unwrap()]).to_text();
        let good = file("good", Lock::new(Entry::built_in()).to_text().as_bytes());
        let warned = file("warned", list(b"\x01\x01a\x01\x11\x01\x01b\x00\x00\x09").as_bytes());
        let wrong = file("wrong", list(b"\x01\x01a\x01\x11\x01\x01b\x01?\x00\x03").as_bytes());
        assert_eq!(lint(&[&good]), 0);
        assert_eq!(lint(&[&good, &warned, "--json"]), 0);
        assert_eq!(lint(&[&good, &warned, "--deny-warnings"]), 1);
        assert_eq!(lint(&[&good, &wrong]), 1);
        assert_eq!(lint(&[&warned, "--lock", &wrong]), 1, "another definition was released");
        assert_eq!(lint(&[&file("bytes", b"\x12\x00\x01")]), 65);
        assert_eq!(lint(&[&file("json", b"{}")]), 65);
        assert_eq!(lint(&["/not/there"]), 66);
        assert_eq!(lint(&[]), 64);
    }
}

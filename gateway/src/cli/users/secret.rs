//! Where a password comes from: a file, random numbers, a prompt without echo, or the first line of
//! standard input.

use std::{
    fmt::Write as _,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{access::hash::PASSWORD_BYTES_MAX, cli::Failure, mqtt::password::Password};

/// Random bytes in a password that is made here: 128 bits cannot be guessed.
const RANDOM_BYTES: usize = 16;

/// Where the password comes from.
#[derive(Debug, Default, clap::Args)]
pub(super) struct PasswordSource {
    /// Make a password of 128 random bits, and show it once
    #[arg(long)]
    pub random: bool,
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "random")]
    pub password_file: Option<PathBuf>,
}

impl PasswordSource {
    /// The password for `name`, and its text if it has to be shown because it was made here.
    pub(super) fn read(&self, name: &str) -> Result<(Password, Option<String>), Failure> {
        if self.random {
            let text = random()?;
            return Ok((Password::new(text.as_bytes()), Some(text)));
        }
        let password = match &self.password_file {
            Some(file) => read_file(file)?,
            None if io::stdin().is_terminal() => prompt_twice(name)?,
            None => {
                first_line(io::stdin()).map_err(|cause| Failure::Io(format!("standard input: {cause}")))?
            }
        };
        match password.expose().len() {
            0 => Err(Failure::Usage("the password is blank; nothing was changed".into())),
            1..=PASSWORD_BYTES_MAX => Ok((password, None)),
            _ => Err(Failure::Usage(format!("the password is longer than {PASSWORD_BYTES_MAX} bytes"))),
        }
    }
}

/// A password of [`RANDOM_BYTES`] random bytes, in hexadecimal digits.
pub(in crate::cli) fn random() -> Result<String, Failure> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|cause| Failure::Io(format!("no random numbers: {cause}")))?;
    let mut text = String::with_capacity(2 * RANDOM_BYTES);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}

/// The password in `file`, as text.
#[cfg(feature = "sim")]
pub(in crate::cli) fn from_file(file: &Path) -> Result<String, Failure> {
    String::from_utf8(read_file(file)?.expose().to_vec())
        .map_err(|_| Failure::NoInput(format!("{}: the password is not UTF-8 text", file.display())))
}

fn read_file(file: &Path) -> Result<Password, Failure> {
    std::fs::File::open(file)
        .and_then(first_line)
        .map_err(|cause| Failure::NoInput(format!("{}: {cause}", file.display())))
}

/// The first line without its end, one byte more than the limit at the most.
fn first_line(input: impl io::Read) -> io::Result<Password> {
    let mut line = Vec::new();
    io::BufReader::new(input.take(PASSWORD_BYTES_MAX as u64 + 2)).read_until(b'\n', &mut line)?;
    let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |at| at + 1);
    Ok(Password::new(&line[..end]))
}

fn prompt_twice(name: &str) -> Result<Password, Failure> {
    let failed = |cause: io::Error| Failure::Io(format!("the terminal: {cause}"));
    let first = prompt(&format!("Password for {name}: ")).map_err(failed)?;
    if first == prompt("Once more: ").map_err(failed)? {
        Ok(first)
    } else {
        Err(Failure::Usage("the two passwords differ; nothing was changed".into()))
    }
}

fn prompt(text: &str) -> io::Result<Password> {
    io::stderr().write_all(text.as_bytes())?;
    let password = {
        let _quiet = Quiet::new()?;
        // Not by `first_line`: a buffer of its own would take the second line as well.
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        Password::new(line.trim_end_matches(['\r', '\n']).as_bytes())
    };
    io::stderr().write_all(b"\n")?;
    Ok(password)
}

/// The terminal does not show what is typed, until this is dropped.
struct Quiet(Termios);

impl Quiet {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // What could be done about a terminal that is gone?
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_without_its_end_is_the_password() {
        for (input, wanted) in [("a b\r\nc\n", "a b"), ("a", "a"), ("", ""), ("\n", ""), (" a \n", " a ")] {
            assert_eq!(first_line(input.as_bytes()).unwrap(), Password::new(wanted.as_bytes()), "{input:?}");
        }
        let long = "a".repeat(PASSWORD_BYTES_MAX + 9);
        assert!(first_line(long.as_bytes()).unwrap().expose().len() > PASSWORD_BYTES_MAX);
    }

    #[test]
    fn random_passwords_have_128_bits_and_differ() {
        let (a, b) = (random().unwrap(), random().unwrap());
        assert_eq!(a.len(), 32);
        assert_ne!(a, b);
    }
}

//! A network of its own for programs that listen on more than loopback, whatever they are told.
//!
//! It is a network namespace that has a loopback interface and nothing else: what listens in it can
//! be reached from in it only. Programs in it see the same files and the same processes as those
//! outside.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{clock::wait_blocking, tools};

/// Longest wait until a program listens.
const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// A socket that listens, in the kernel's table.
const LISTENS: &str = "0A";

/// The network, for as long as the value lives. Programs in it end when whoever started them says
/// so.
#[derive(Debug)]
pub struct Network {
    holder: Child,
}

impl Network {
    /// Makes one.
    ///
    /// # Panics
    /// The system does not allow it.
    #[must_use]
    pub fn make() -> Self {
        let mut holder = Command::new(tools::find("unshare"))
            .args(["--net", "--map-root-user", "sh", "-c"])
            .arg("ip link set lo up && echo up && exec sleep infinity")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare can be started");
        let mut said = String::new();
        let stdout = holder.stdout.take().expect("standard output is a pipe");
        let read = BufReader::new(stdout).read_line(&mut said);
        let network = Self { holder };
        // Whoever enters before that would stay outside.
        assert!(read.is_ok() && said == "up\n", "a network namespace can be made: {read:?}, {said:?}");
        network
    }

    /// A command in it.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(tools::find("nsenter"));
        let target = self.holder.id().to_string();
        command.args(["--preserve-credentials", "--user", "--net", "--target", &target]).arg(program);
        command
    }

    /// Waits until something in it listens on `port`.
    ///
    /// # Panics
    /// Nothing does within ten seconds.
    pub fn wait_listening(&self, port: u16) {
        let wanted = format!(":{port:04X}");
        let listens = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some(LISTENS)
        };
        wait_blocking("a program to listen", LISTEN_LIMIT, || {
            ["tcp", "tcp6"].iter().any(|table| {
                let path = format!("/proc/{}/net/{table}", self.holder.id());
                std::fs::read_to_string(path).is_ok_and(|text| text.lines().any(listens))
            })
        });
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

//! The gateway as a process: configured, started, killed, started again, and looked at from
//! outside.

use std::{
    fmt::Write as _,
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    clock::{now, wait_blocking},
    codec::Version,
    meter, ports,
    program::{self, Build},
};

/// Longest wait for readiness after a start.
pub const READY_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for the end after SIGTERM; the gateway promises 10 s.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);

/// One `[[uplink]]` of the configuration.
#[derive(Debug, Clone)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Where to.
    pub url: String,
    /// Which MQTT.
    pub version: Version,
    /// Topic template.
    pub topic: String,
    /// Unacknowledged at most.
    pub window: u32,
    /// How events are written.
    pub format: String,
    /// More lines of its table.
    pub lines: String,
}

impl Uplink {
    /// One named `cloud` that puts `up/` before each topic.
    #[must_use]
    pub fn new(url: &str, version: Version) -> Self {
        Self {
            name: "cloud".into(),
            url: url.into(),
            version,
            topic: "up/{topic}".into(),
            window: 1000,
            format: "raw".into(),
            lines: String::new(),
        }
    }
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which build.
    pub build: Build,
    /// `[[uplink]]`s.
    pub uplinks: Vec<Uplink>,
    /// `[[route]]`s: filter and payload. Everything but Tidegate's own topics needs one.
    pub routes: Vec<(String, String)>,
    /// Whole tables, which go before the routes: such as routes with other keys.
    pub tables: String,
    /// Filters of topics whose events are urgent; they go before the routes.
    pub urgent: Vec<String>,
    /// Where the store lies, if not in the gateway's own folder.
    pub data_dir: Option<PathBuf>,
    /// Where its log goes, if not into the gateway's own folder: nobody reads it there.
    pub log: Option<PathBuf>,
    /// Lines of `[gateway]`, without its id and its folder.
    pub gateway: String,
    /// Lines of `[store]`.
    pub store: String,
    /// Lines of `[limits]`.
    pub limits: String,
    /// Lines of `[access]`.
    pub access: String,
    /// Lines of the `[[listener]]`, without its address.
    pub listener: String,
    /// Names and values for the environment.
    pub environment: Vec<(String, String)>,
    /// File descriptors that the system lets it have, if fewer than it lets the test have.
    pub files_max: Option<u32>,
    /// Largest file that the system lets it write, in blocks of 512 bytes, if there is a limit.
    pub file_blocks_max: Option<u32>,
}

impl Setup {
    /// The shipped build with one uplink, that takes whatever comes, without a wear budget.
    #[must_use]
    pub fn new(uplink: Uplink) -> Self {
        Self {
            build: Build::Shipped,
            uplinks: vec![uplink],
            routes: vec![("#".into(), "opaque".into())],
            tables: String::new(),
            urgent: vec![],
            data_dir: None,
            log: None,
            gateway: String::new(),
            store: "wear_budget = \"unlimited\"\n".into(),
            limits: String::new(),
            access: String::new(),
            listener: "anonymous = true\n".into(),
            environment: vec![],
            files_max: None,
            file_blocks_max: None,
        }
    }

    fn toml(&self, data_dir: &Path, mqtt: SocketAddr, http: SocketAddr) -> String {
        let mut text = format!("[gateway]\nid = \"gate\"\ndata_dir = {data_dir:?}\n{}\n", self.gateway);
        let mut line = |part: String| text.write_str(&part).expect("writing to a string");
        line(format!("[store]\n{}\n", self.store));
        line(format!("[limits]\n{}\n", self.limits));
        line(format!("[access]\n{}\n", self.access));
        line(format!("[[listener]]\naddress = \"{mqtt}\"\n{}\n", self.listener));
        line(format!("[http]\naddress = \"{http}\"\n\n"));
        line(format!("{}\n", self.tables));
        for filter in &self.urgent {
            line(format!("[[route]]\nfilter = {filter:?}\nclass = \"urgent\"\n\n"));
        }
        for (filter, payload) in &self.routes {
            line(format!("[[route]]\nfilter = {filter:?}\npayload = {payload:?}\n\n"));
        }
        for Uplink { name, url, version, topic, window, format, lines } in &self.uplinks {
            let protocol = if *version == Version::V5 { "5" } else { "3.1.1" };
            line(format!("[[uplink]]\nname = {name:?}\nurl = {url:?}\ntopic = {topic:?}\n"));
            line(format!("format = {format:?}\nwindow = {window}\nprotocol = \"{protocol}\"\n{lines}\n\n"));
        }
        text
    }
}

/// A gateway with its folder and its ports, running or not. Killed with the value.
#[derive(Debug)]
pub struct Gateway {
    /// How it is started; a change holds from the next start.
    pub setup: Setup,
    /// The MQTT listener.
    pub mqtt: SocketAddr,
    /// The HTTP server.
    pub http: SocketAddr,
    folder: TempDir,
    child: Option<Child>,
    starts: u32,
}

impl Gateway {
    /// Makes a folder on disk, starts, and waits until it is ready.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let mut gateway = Self::prepare(setup);
        gateway.restart();
        gateway
    }

    /// Makes the folder and chooses the ports, and starts nothing.
    ///
    /// # Panics
    /// There is no place for the folder.
    #[must_use]
    pub fn prepare(setup: Setup) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("gateway-")
            .tempdir_in(program::scratch())
            .expect("the scratch folder is writable");
        let (mqtt, http) = (ports::free_address(), ports::free_address());
        Self { setup, mqtt, http, folder, child: None, starts: 0 }
    }

    /// Starts it on what is in its folder, and waits until it is ready. Says how long that took.
    ///
    /// # Panics
    /// It ended, or was not ready within [`READY_LIMIT`].
    pub fn restart(&mut self) -> Duration {
        let start = now();
        self.spawn();
        wait_blocking("the gateway to be ready", READY_LIMIT, || {
            assert!(self.is_running(), "the gateway ended: {}", self.log());
            self.is_ready()
        });
        start.elapsed()
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// It runs already, or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.starts += 1;
        let log = File::create(self.log_path()).expect("the folder is writable");
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("the program can be started"));
    }

    /// Runs it to its end and gives its output: for a start that must fail.
    ///
    /// # Panics
    /// It did not end within [`READY_LIMIT`].
    #[must_use]
    pub fn run_to_end(&mut self) -> Output {
        let child = self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        self.child = Some(child.expect("the program can be started"));
        wait_blocking("the gateway to refuse", READY_LIMIT, || !self.is_running());
        self.child.take().expect("it was just started").wait_with_output().expect("it has ended")
    }

    fn command(&self) -> Command {
        let config = self.config_path();
        if !config.exists() {
            let text = self.setup.toml(&self.data_dir(), self.mqtt, self.http);
            std::fs::write(&config, text).expect("the folder is writable");
        }
        let program = program::gateway(self.setup.build);
        let limits = [("-n", self.setup.files_max), ("-f", self.setup.file_blocks_max)];
        let mut script = String::new();
        for (option, most) in limits {
            if let Some(most) = most {
                script += &format!("ulimit {option} {most} && ");
            }
        }
        let mut command = if script.is_empty() {
            Command::new(program)
        } else {
            let mut shell = Command::new("sh");
            shell.args(["-c", &(script + "exec \"$0\" \"$@\"")]).arg(program);
            shell
        };
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null());
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The folder of the store.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.setup.data_dir.clone().unwrap_or_else(|| self.folder.path().join("data"))
    }

    /// The configuration's file: written at the first start, from then on the test's to change.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    fn log_path(&self) -> PathBuf {
        let own = || self.folder.path().join(format!("run-{}.log", self.starts));
        self.setup.log.clone().unwrap_or_else(own)
    }

    /// What the last run has said on standard error.
    #[must_use]
    pub fn log(&self) -> String {
        if self.setup.log.is_some() {
            return String::new();
        }
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts so far.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process id.
    ///
    /// # Panics
    /// It does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the gateway runs").id()
    }

    /// What it costs.
    #[must_use]
    pub fn usage(&self) -> meter::Usage {
        meter::usage(self.pid())
    }

    /// Descriptors that the process has open.
    ///
    /// # Panics
    /// It does not run.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the gateway runs").count()
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Panics
    /// It does not run, or had panicked before.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the gateway runs");
        child.kill().expect("it is ours to kill");
        child.wait().expect("it is our child");
        self.demand_no_panic();
    }

    /// Waits for an end that it comes to by itself.
    ///
    /// # Panics
    /// It did not within `limit`.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        wait_blocking("the gateway to end", limit, || !self.is_running());
        self.child.take().expect("it was running").wait().expect("it has ended")
    }

    /// SIGTERM. Says how it ended and how long that took.
    ///
    /// # Panics
    /// It did not end within [`STOP_LIMIT`].
    pub fn terminate(&mut self) -> (ExitStatus, Duration) {
        let start = now();
        program::signal(self.pid(), "TERM");
        let status = self.wait_end(STOP_LIMIT);
        self.demand_no_panic();
        (status, start.elapsed())
    }

    fn demand_no_panic(&self) {
        let log = self.log();
        assert!(!log.contains("panicked at"), "the gateway panicked: {log}");
    }

    /// `/readyz` says yes.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.get("/readyz").is_ok_and(|(status, _)| status == 200)
    }

    /// What `/readyz` says when it does not say yes; `None` if it does, or says nothing.
    #[must_use]
    pub fn not_ready(&self) -> Option<String> {
        self.get("/readyz").ok().filter(|(status, _)| *status == 503).map(|(_, body)| body)
    }

    /// An HTTP GET: status and body.
    ///
    /// # Errors
    /// The server is not there.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let mut answer = agent.get(format!("http://{}{path}", self.http)).call().map_err(io::Error::other)?;
        let body = answer.body_mut().read_to_string().map_err(io::Error::other)?;
        Ok((answer.status().as_u16(), body))
    }

    /// The value of a metric, summed over its labels; 0 if it is not shown.
    ///
    /// # Panics
    /// The HTTP server is not there.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let (_, body) = self.get("/metrics").expect("the HTTP server is there");
        let values = body.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            (rest.starts_with([' ', '{'])).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
        });
        values.sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(30).collect();
            eprintln!("the gateway's last words, newest first:\n{}", tail.join("\n"));
        }
    }
}

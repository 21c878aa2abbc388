//! `tidegate check`: says what is wrong with a configuration, or what it means.

use std::path::PathBuf;

use super::{Failure, exposed, files};
use crate::{
    clock, config,
    ingest::{
        ClientCert,
        listener::settings::{OPEN_TO_PAGES, transport},
    },
    uplink::{self, Credentials},
};

/// Check a configuration and say what it means
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tidegate check /etc/tidegate/gateway.toml")]
pub(super) struct Arguments {
    /// The configuration
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let settings = config::load(&arguments.file, &|name| std::env::var(name).ok())?.complete()?;
    say!("{}: good", arguments.file.display());
    say!("gateway   {}, data in {}", settings.gateway_id, settings.store.data_dir.display());
    for listener in &settings.listeners {
        let over = transport(listener.protocol, listener.tls.is_some());
        say!("listener  {} over {over}", listener.address);
        if listener.is_overheard() {
            say!("          without TLS, passwords and events travel in the clear: give it tls");
        }
        if listener.is_open_to_pages() {
            say!("          {OPEN_TO_PAGES}");
        }
        // What is wrong with the files was said already.
        let looked = listener.tls.as_ref().and_then(|tls| tls.check(clock::wall_ms()).ok());
        for warning in looked.into_iter().flatten() {
            say!("          {warning}");
        }
    }
    let files = settings.ingest.access.files();
    for (thing, file) in [("users", &files.users), ("rules", &files.acl)] {
        if let Some(file) = file {
            say!("{thing:<9} {}", file.display());
        }
    }
    for line in missing_rules(&settings) {
        say!("{line}");
    }
    for uplink in &settings.uplinks {
        say!("uplink    {} to {}", uplink.name, uplink.upstream.url());
        say!("          {}", credentials(&uplink.upstream.credentials()));
        if let Some(pace) = pace(uplink) {
            say!("          {pace}");
        }
        if let Some(hours) = &uplink.send {
            say!("          sends within {hours}, {}", hours.clocks(clock::wall_ms()));
        }
        // What is wrong with the files was said already.
        let looked = uplink.upstream.tls().and_then(|tls| tls.check(clock::wall_ms()).ok());
        let read = uplink.upstream.passwords().filter_map(|password| password.read(clock::wall_ms()).ok());
        for warning in looked.into_iter().flatten().chain(read.filter_map(|fresh| fresh.over)) {
            say!("          {warning}");
        }
    }
    if settings.uplinks.is_empty() {
        say!("uplink    none: events are stored and go nowhere");
    }
    say!("http      {}", settings.http.address);
    if let Some(why) = files::look(&settings) {
        say!("files     {why}");
    }
    for why in exposed::look(&settings) {
        say!("exposed   {why}");
    }
    Ok(())
}

/// How fast and how much at once an uplink may send, if that was set or its platform is known.
fn pace(uplink: &uplink::Settings) -> Option<String> {
    let (pace, title) = (&uplink.pace, uplink.platform.title());
    let limits = [
        pace.events_per_s.map(|events| format!("{events} events a second")),
        pace.bytes_per_s.map(|bytes| format!("{bytes} bytes a second")),
        Some(format!("{} messages in flight", uplink.window)),
        pace.inflight_bytes.map(|bytes| format!("{bytes} bytes in flight")),
    ];
    let limits = limits.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let is_set = *pace != uplink::PaceLimits::default();
    (is_set || !title.is_empty()).then(|| match title {
        "" => format!("no more than {limits}"),
        title => format!("no more than {limits}, for {title}"),
    })
}

/// As whom an uplink connects.
fn credentials(credentials: &Credentials<'_>) -> String {
    let client = format!("as client {}", credentials.client_id);
    match (credentials.user, credentials.password) {
        (None, _) => client,
        (Some(user), None) => format!("{client}, user {user}, without a password"),
        (Some(user), Some(password)) => format!("{client}, user {user}, {password}"),
    }
}

/// What users cannot do for want of an access file, and the rule that lets them reach the routes.
fn missing_rules(settings: &config::Settings) -> Vec<String> {
    let files = settings.ingest.access.files();
    let knows_clients = files.users.is_some()
        || settings
            .listeners
            .iter()
            .any(|listener| listener.tls.as_ref().is_some_and(|tls| tls.client_cert != ClientCert::None));
    if files.acl.is_some() || !knows_clients {
        return Vec::new();
    }
    let mut lines = vec![
        "rules     none: [access] acl names no file, so a user NAME may publish on tg/NAME/e, b, s and r, subscribe to \
         tg/NAME/c, and nothing else"
            .to_owned(),
    ];
    let filters: Vec<_> = settings.ingest.routes.iter().map(|route| format!("{:?}", route.filter)).collect();
    if !filters.is_empty() {
        lines.push(format!(
            "          no user reaches the routes: name a file in [access] acl, with [[rule]], who = \"*\", publish = [{}]",
            filters.join(", ")
        ));
    }
    lines
}

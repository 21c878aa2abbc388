//! File descriptors: as many as the system lets this process have, shared out so that the store
//! always has its own.
//!
//! ```text
//!   store, runtime, replays │ uplinks, listeners │ HTTP │ listeners: clients, those that wait, those that are being closed
//!   reserved first          │ each its own       │      │ what is left
//! ```
//! A gateway without file descriptors can accept nothing, which is bearable, and cannot open a
//! segment either, which is not: so clients never get more of them than are left over. Where the
//! system allows too few, fewer clients are let in, and the log says what to raise.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config;

/// Descriptors of the store: the lock, side files and those that replace them, the segment that is
/// written and the next one, a segment for each reader that follows the log and for each answer
/// over HTTP that reads it, folders that are synced.
const STORE_FILES: usize = 48;
/// Of the runtime: standard streams, event queues, signals, certificates and users that are read
/// anew.
const RUNTIME_FILES: usize = 32;
/// Of the replays, four at most: a connection, a segment and a name look-up each.
const REPLAY_FILES: usize = 12;
/// Of an uplink: its connection, that of its commands, a segment, a name look-up.
const UPLINK_FILES: usize = 4;
/// Of the listeners, however few there are: below it, nobody gets in.
const LISTENER_FILES_MIN: usize = 16;
/// HTTP has this part of all descriptors at the most.
const HTTP_PART: usize = 8;

/// Descriptors that clients may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shares {
    http: usize,
    clients: usize,
    waiting: usize,
    closing: usize,
}

impl Shares {
    /// What these settings ask for.
    fn wanted(settings: &config::Settings) -> Self {
        Self {
            http: settings.http.limits.connections_max,
            clients: settings.ingest.connections_max,
            waiting: settings.ingest.waiting_max,
            closing: settings.ingest.closing_max,
        }
    }

    /// What is wanted as far as `files` go, of which `reserved` are not for clients. Those of HTTP
    /// and of the listeners that come and go keep a part each, so that neither shuts the others
    /// out.
    fn of(files: usize, reserved: usize, wanted: Self) -> Self {
        // One more at HTTP than there may be: it is accepted before another one leaves.
        let http = wanted.http.min((files / HTTP_PART).max(2)) - 1;
        let http = if files >= reserved + wanted.all() { wanted.http } else { http };
        let listeners = files.saturating_sub(reserved + http + 1).max(LISTENER_FILES_MIN);
        let closing = wanted.closing.min(listeners / 16);
        let left = listeners.saturating_sub(wanted.clients + closing);
        let waiting = wanted.waiting.min(left.max(listeners / 4));
        let clients = wanted.clients.min(listeners - waiting - closing);
        Self { http, clients, waiting, closing: wanted.closing.min(listeners - waiting - clients) }
    }

    fn all(self) -> usize {
        self.http + 1 + self.clients + self.waiting + self.closing
    }
}

/// Descriptors that are not for clients.
fn reserved(settings: &config::Settings) -> usize {
    STORE_FILES
        + RUNTIME_FILES
        + REPLAY_FILES
        + settings.uplinks.len() * UPLINK_FILES
        + settings.listeners.len()
        + 1
}

/// Raises the limit to what the system allows, and lets in as many clients as that is enough for.
pub(super) fn prepare(settings: &mut config::Settings) {
    let files = raise();
    if let Some(why) = shortage(settings, files) {
        tracing::warn!("{why}");
    }
    let shares = Shares::of(files, reserved(settings), Shares::wanted(settings));
    settings.http.limits.connections_max = shares.http;
    let listeners = &mut settings.ingest;
    (listeners.connections_max, listeners.waiting_max, listeners.closing_max) =
        (shares.clients, shares.waiting, shares.closing);
}

/// What `tidegate check` says of file descriptors: nothing where this process may have enough.
pub(super) fn look(settings: &config::Settings) -> Option<String> {
    shortage(settings, allowed(getrlimit(Resource::Nofile).maximum))
}

/// What to do if `files` descriptors are too few, and what becomes of the clients until then.
fn shortage(settings: &config::Settings, files: usize) -> Option<String> {
    let (reserved, wanted) = (reserved(settings), Shares::wanted(settings));
    let (needed, shares) = (reserved + wanted.all(), Shares::of(files, reserved, wanted));
    if files >= needed {
        return None;
    }
    let short = if files < reserved + shares.all() { ", and even the store may run out of them" } else { "" };
    Some(format!(
        "[limits] connections = {} needs {needed} file descriptors, and the system allows {files}: at most {} clients are let \
         in, {} that have not sent CONNECT, and {} over HTTP{short}; raise the hard limit (LimitNOFILE= in the service, ulimit -Hn \
         in a shell), or lower [limits] connections",
        wanted.clients, shares.clients, shares.waiting, shares.http
    ))
}

/// The limit as it is afterwards. Raising it may be forbidden: then it stays.
fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let limit = if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        raised
    } else {
        limit
    };
    allowed(limit.current)
}

/// A limit as a number of files; none is as good as the greatest.
fn allowed(limit: Option<u64>) -> usize {
    limit.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVED: usize = 100;
    const WANTED: Shares = Shares { http: 32, clients: 10_000, waiting: 2048, closing: 512 };

    #[test]
    fn clients_leave_the_store_its_files_however_few_there_are() {
        let few = Shares { clients: 3, ..WANTED };
        let share = |http, clients, waiting, closing| Shares { http, clients, waiting, closing };
        for (files, wanted, shares) in [
            (usize::MAX, WANTED, WANTED),
            (RESERVED + WANTED.all(), WANTED, WANTED),
            (RESERVED + WANTED.all() - 1, WANTED, share(31, 10_000, 2048, 512)),
            (4096, WANTED, share(31, 2726, 991, 247)),
            (1024, WANTED, share(31, 614, 223, 55)),
            (256, WANTED, share(31, 86, 31, 7)),
            (256, few, share(31, 3, 114, 7)),
            (1 << 20, few, few),
        ] {
            let got = Shares::of(files, RESERVED, wanted);
            assert_eq!(got, shares, "{files} {wanted:?}");
            assert!(files >= RESERVED + got.all(), "{files} {got:?}");
        }
    }

    #[test]
    fn a_few_clients_get_in_where_there_is_not_enough_for_the_store() {
        for files in [0, 10, RESERVED, RESERVED + LISTENER_FILES_MIN] {
            let got = Shares::of(files, RESERVED, WANTED);
            assert!(
                got.http >= 1 && got.clients >= 8 && got.waiting >= 4 && got.closing >= 1,
                "{files} {got:?}"
            );
        }
    }

    #[test]
    fn the_limit_can_be_asked_for_and_raised() {
        assert!(raise() > 16);
    }
}

//! File descriptors: as many as the system lets this process have, and no more clients than these are enough for.
//!
//! A gateway without file descriptors can accept nothing, which is bearable, and can not open a segment either, which is not:
//! so [`RESERVED`] of them are kept from the clients. Where the system allows too few, fewer clients are let in, and the log
//! says what to raise.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config;

/// File descriptors for everything but the clients: segments, uplinks, replays, HTTP, the runtime.
const RESERVED: usize = 512;

/// Raises the limit to what the system allows, and lets in as many clients as that is enough for.
pub(super) fn prepare(settings: &mut config::Settings) {
    let limit = raise();
    let wanted = settings.ingest.connections_max;
    let needed = settings.ingest.open_max() + RESERVED;
    let allowed = clients_allowed(limit, wanted, needed - wanted);
    if allowed < wanted {
        tracing::warn!(
            "[limits] connections = {wanted} needs {needed} file descriptors, and the system allows {limit}: at most \
             {allowed} clients are let in; raise the hard limit (LimitNOFILE= in the service, ulimit -Hn in a shell)"
        );
        settings.ingest.connections_max = allowed;
    }
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
    limit.current.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX)
}

/// Of `wanted` clients, as many as `files` descriptors are enough for, but a quarter of them at least: where there are very few,
/// an attack takes those of the store, and nothing else does.
fn clients_allowed(files: usize, wanted: usize, needed_besides: usize) -> usize {
    files.saturating_sub(needed_besides).max(files / 4).clamp(1, wanted.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_the_store_its_files() {
        for (files, wanted, allowed) in [
            (usize::MAX, 10_000, 10_000),
            (12_000, 10_000, 10_000),
            (11_999, 10_000, 9_999),
            (4096, 10_000, 2096),
            (1024, 10_000, 256),
            (1 << 20, 3, 3),
        ] {
            assert_eq!(clients_allowed(files, wanted, 2000), allowed, "{files} {wanted}");
        }
    }

    #[test]
    fn the_limit_can_be_asked_for_and_raised() {
        assert!(raise() > 16);
    }
}

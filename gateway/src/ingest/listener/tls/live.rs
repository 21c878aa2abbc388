//! Connections whose clients showed a certificate, and when their chains are to be judged again.
//!
//! ```text
//!   handshake ─▶ enter ─▶ kept with its chain ─▶ judged again at every load: all of them
//!                                                when one of its certificates ends: it
//!                                                when a CA ends: all of them
//!                                                └ not good: told to leave, logged by cause
//! ```
//! Trust ends with its proof: a chain that a handshake would refuse now holds no connection up. The
//! next end is waited for by the clock on the wall, which is looked at every
//! [`CLOCK_LOOK_INTERVAL`], as it may be set meanwhile.
//!
//! Limits: a chain of [`CHAIN_BYTES_MAX`](super::certificate::CHAIN_BYTES_MAX) for each connection.
//! It reads no file and no clock.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use super::{certificate, failure::Failure};
use crate::{ingest::registry::DisconnectHandle, mqtt::fault::Fault, pki::expiry};

/// How often the clock on the wall is looked at.
const CLOCK_LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// So many clients are named in one line of the log.
const NAMES_TOLD: usize = 5;
/// What runs out is looked for so often, so that a client that comes and goes is not said each
/// time.
const SOON_LOOK_INTERVAL_S: u64 = 3600;

/// What a client showed.
#[derive(Debug)]
pub(super) struct Chain {
    /// Its own.
    pub own: CertificateDer<'static>,
    /// Those that it showed beside it.
    pub between: Box<[CertificateDer<'static>]>,
    /// Until when each of them is good, in seconds since 1970; its own first.
    ends_s: Box<[u64]>,
}

impl Chain {
    /// `None`: it showed nothing.
    pub fn new(certificates: &[CertificateDer<'_>]) -> Option<Self> {
        let (own, between) = certificates.split_first()?;
        let ends_s =
            certificates.iter().filter_map(|der| certificate::facts(der).ok()).map(|facts| facts.not_after_s);
        Some(Chain {
            own: own.clone().into_owned(),
            between: between.iter().map(|der| der.clone().into_owned()).collect(),
            ends_s: ends_s.collect(),
        })
    }
}

/// A connection with a certificate.
#[derive(Debug)]
pub(super) struct Connection {
    pub identity: Arc<str>,
    pub chain: Chain,
    pub disconnect: DisconnectHandle,
}

/// By a number of their own.
pub(super) type Connections = Vec<(u64, Arc<Connection>)>;

/// All connections with a certificate of a listener.
#[derive(Debug, Default)]
pub(super) struct Live {
    state: Mutex<State>,
    /// One came that ends before the next look.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    connections: HashMap<u64, Judged>,
    /// When it was looked for what runs out, and what was found.
    soon: (u64, Option<String>),
}

#[derive(Debug)]
struct Judged {
    connection: Arc<Connection>,
    /// When ends were looked for last, in seconds since 1970.
    at_s: u64,
}

impl Live {
    /// Keeps a connection whose handshake began at `at_s` until it is removed by the number that
    /// this gives.
    pub fn add(&self, connection: Arc<Connection>, at_s: u64) -> u64 {
        let is_sooner = next(connection.chain.ends_s.iter().copied(), at_s)
            .is_some_and(|end_s| end_s - at_s <= CLOCK_LOOK_INTERVAL.as_secs());
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        state.connections.insert(number, Judged { connection, at_s });
        drop(state);
        if is_sooner {
            self.sooner.notify_one();
        }
        number
    }

    pub fn remove(&self, number: u64) {
        self.state.lock().connections.remove(&number);
    }

    pub fn all(&self) -> Connections {
        let state = self.state.lock();
        state.connections.iter().map(|(number, judged)| (*number, judged.connection.clone())).collect()
    }

    /// Those that time makes to be judged again: one of their own certificates or a CA has ended
    /// since the last look.
    pub fn due(&self, cas_end_s: &[u64], now_s: u64) -> Connections {
        let mut due = Vec::new();
        for (number, Judged { connection, at_s }) in &mut self.state.lock().connections {
            // A clock that was set back comes to the same ends again.
            let since_s = std::mem::replace(at_s, now_s).min(now_s);
            let mut ends_s = connection.chain.ends_s.iter().chain(cas_end_s);
            if ends_s.any(|end_s| (since_s..now_s).contains(end_s)) {
                due.push((*number, connection.clone()));
            }
        }
        due
    }

    /// What is to be said of clients whose own certificates run out, and their connections with
    /// them.
    pub fn soon(&self, now_s: u64) -> Option<String> {
        let mut state = self.state.lock();
        let State { connections, soon: (looked_s, said), .. } = &mut *state;
        if now_s.abs_diff(*looked_s) >= SOON_LOOK_INTERVAL_S {
            let connections = connections.values().map(|judged| &judged.connection);
            let own = connections.filter_map(|one| Some((*one.chain.ends_s.first()?, &*one.identity)));
            (*looked_s, *said) = (now_s, running_out(own, now_s));
        }
        said.clone()
    }

    /// Waits until a certificate or a CA ends, or the clock is to be looked at again.
    pub async fn wait(&self, cas_end_s: &[u64], wall_ms: u64) {
        let now_s = wall_ms / 1000;
        let next_s = {
            let state = self.state.lock();
            let own = state.connections.values().flat_map(|judged| judged.connection.chain.ends_s.iter());
            next(own.chain(cas_end_s).copied(), now_s)
        };
        // The last second is good to its end.
        let until_next = next_s.map(|end_s| Duration::from_millis((end_s + 1) * 1000 - wall_ms));
        let pause = until_next.unwrap_or(CLOCK_LOOK_INTERVAL).min(CLOCK_LOOK_INTERVAL);
        tokio::select! {
            () = self.sooner.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The next end that is not over.
fn next(ends_s: impl Iterator<Item = u64>, now_s: u64) -> Option<u64> {
    ends_s.filter(|end_s| *end_s >= now_s).min()
}

/// Tells connections to leave, and the log once for each cause.
pub(super) fn end(listener: &str, ended: &[(Arc<Connection>, Failure)]) {
    for (connection, _) in ended {
        connection.disconnect.leave(Fault::Certificate);
    }
    for line in lines(ended.iter().map(|(connection, failure)| (&*connection.identity, failure))) {
        tracing::warn!(%listener, "{line}");
    }
}

/// What is said of identities whose connections ended: a line for each cause.
fn lines<'a>(ended: impl Iterator<Item = (&'a str, &'a Failure)>) -> Vec<String> {
    let mut causes: BTreeMap<&'static str, (&Failure, Vec<&str>)> = BTreeMap::new();
    for (identity, failure) in ended {
        causes.entry(failure.label()).or_insert_with(|| (failure, Vec::new())).1.push(identity);
    }
    let line = |(cause, names): (&Failure, Vec<&str>)| {
        format!("connections ended: {}, of {}: {cause}", names.len(), some(names))
    };
    causes.into_values().map(line).collect()
}

/// The words for those of clients with these ends that are near.
fn running_out<'a>(ends: impl Iterator<Item = (u64, &'a str)>, now_s: u64) -> Option<String> {
    let near: Vec<_> = ends.filter(|(end_s, _)| expiry("", *end_s, now_s).is_some()).collect();
    let first_s = near.iter().map(|(end_s, _)| *end_s).min()?;
    let names = some(near.into_iter().map(|(_, name)| name).collect());
    expiry(&format!("of the certificates of connected clients ({names}), the first"), first_s, now_s)
}

/// Some of these names, and how many more there are.
fn some(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    let rest = names.len().saturating_sub(NAMES_TOLD);
    names.truncate(NAMES_TOLD);
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    names.join(", ") + &rest
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn connection(ends_s: &[u64]) -> Arc<Connection> {
        let chain = Chain { own: vec![].into(), between: [].into(), ends_s: ends_s.into() };
        Arc::new(Connection {
            identity: "a".into(),
            chain,
            disconnect: DisconnectHandle::new(&CancellationToken::new()),
        })
    }

    #[test]
    fn a_chain_is_judged_again_when_one_of_its_certificates_or_any_ca_has_ended_and_only_then() {
        let live = Live::default();
        let (near, far) = (live.add(connection(&[80, 100, 500]), 95), live.add(connection(&[300]), 95));
        for (now_s, due) in [
            // In its last second a certificate is good.
            (100, vec![]),
            (101, vec![near]),
            (101, vec![]),
            (301, vec![far]),
            (400, vec![]),
            // A CA.
            (402, vec![near, far]),
            // The clock was set back, and comes to it again.
            (399, vec![]),
            (401, vec![near, far]),
            (402, vec![]),
        ] {
            let mut found: Vec<_> = live.due(&[400], now_s).iter().map(|(number, _)| *number).collect();
            found.sort_unstable();
            assert_eq!(found, due, "at {now_s}");
        }
        live.remove(near);
        assert_eq!(live.due(&[400], 600).len(), 0);
        assert_eq!(live.all().len(), 1);
    }

    #[test]
    fn connections_that_end_for_one_cause_are_told_in_one_line() {
        let ended = (0..7).map(|at| (format!("stall-{at}"), Failure::Revoked));
        let mut ended: Vec<_> = ended.collect();
        ended.push(("stall-0".into(), Failure::Revoked));
        ended.push(("pump".into(), Failure::UnknownCa));
        let lines = lines(ended.iter().map(|(name, failure)| (name.as_str(), failure)));
        let revoked = Failure::Revoked;
        let of = "stall-0, stall-1, stall-2, stall-3, stall-4 and 2 more";
        let wanted = [
            format!("connections ended: 8, of {of}: {revoked}"),
            format!("connections ended: 1, of pump: {}", Failure::UnknownCa),
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn what_runs_out_of_connected_clients_is_said_beforehand_and_looked_for_once_an_hour() {
        let live = Live::default();
        let day_s = 24 * 3600;
        let far = live.add(connection(&[100 * day_s]), day_s);
        assert_eq!(live.soon(day_s), None);
        live.add(connection(&[10 * day_s, 2 * day_s]), day_s);
        assert_eq!(live.soon(day_s + SOON_LOOK_INTERVAL_S - 1), None);
        let words = |days, date| {
            let first = format!("the first expires in {days} days, on {date}T00:00:00Z: renew it");
            Some(format!("of the certificates of connected clients (a), {first}"))
        };
        assert_eq!(live.soon(day_s + SOON_LOOK_INTERVAL_S), words(8, "1970-01-11"));
        live.remove(far);
        assert_eq!(live.soon(9 * day_s), words(1, "1970-01-11"));
    }

    #[test]
    fn the_next_end_is_the_nearest_that_is_not_over() {
        for (now_s, wanted) in [(0, Some(5)), (5, Some(5)), (6, Some(8)), (9, None)] {
            assert_eq!(next([8, 5].into_iter(), now_s), wanted, "{now_s}");
        }
    }
}

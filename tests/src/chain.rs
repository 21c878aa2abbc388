//! The whole way: a gateway between its devices and a recording cloud, behind a link that can be
//! cut.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use crate::{
    chaos::Proxy,
    clock::{now, wait_for},
    codec::Version,
    fleet::{Device, Fleet},
    gateway::{Gateway, Setup, Uplink},
    oracle::{self, Ledger, Recorder, Verdict},
    upstream::Upstream,
};

/// Longest wait for events to flow again after a fault.
pub const RECOVERY_LIMIT: Duration = Duration::from_secs(30);
/// How often it is looked whether something has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Longest time at the end in which nothing arrives, although something is missing.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// What the uplink puts before each topic.
const PREFIX: &str = "up/";

/// A gateway with all that surrounds it.
#[derive(Debug)]
pub struct Chain {
    /// The gateway's process.
    pub gateway: Gateway,
    /// What the cloud got.
    pub recorder: Arc<Mutex<Recorder>>,
    /// The link between both.
    pub proxy: Proxy,
    _upstream: Upstream,
}

impl Chain {
    /// Starts all of it, with what `change` makes of the usual set-up.
    pub async fn start(change: impl FnOnce(&mut Setup)) -> Self {
        let mut chain = Self::prepare(change).await;
        chain.gateway.restart();
        chain
    }

    /// Starts all but the gateway.
    pub async fn prepare(change: impl FnOnce(&mut Setup)) -> Self {
        let recorder = Arc::new(Mutex::new(Recorder::new(PREFIX)));
        let upstream = Upstream::start(recorder.clone()).await;
        let proxy = Proxy::start(upstream.address).await;
        let mut setup = Setup::new(Uplink::new(&format!("mqtt://{}", proxy.address), Version::V5));
        change(&mut setup);
        Self { gateway: Gateway::prepare(setup), recorder, proxy, _upstream: upstream }
    }

    /// Waits until everything acknowledged is there, and has the oracle speak.
    pub async fn judge(&self, ledgers: &[Ledger]) -> Verdict {
        let (mut deliveries, mut moved_at) = (0, now());
        // What never comes is the oracle's to tell, event by event. To look through all of them
        // holds the cloud up, so that is done only when nothing has come for a while.
        while moved_at.elapsed() < DRAIN_LIMIT {
            tokio::time::sleep(LOOK_EVERY).await;
            let seen = self.recorder.lock().deliveries();
            if seen != deliveries {
                (deliveries, moved_at) = (seen, now());
            } else if oracle::is_complete(ledgers, &self.recorder.lock()) {
                break;
            }
        }
        let verdict = oracle::judge(ledgers, &self.recorder.lock());
        print_verdict(&verdict);
        verdict.demand();
        verdict
    }

    /// Waits until there is no backlog, and has the oracle hold what is missing against what gap
    /// records say.
    pub async fn judge_with_gaps(&self, ledgers: &[Ledger]) -> Verdict {
        self.wait_drained().await;
        let recorder = self.recorder.lock();
        let verdict = oracle::judge_with_gaps(ledgers, &recorder, &self.gateway.setup.uplinks[0].name);
        print_verdict(&verdict);
        verdict.demand();
        verdict
    }

    /// Waits until there is no backlog.
    pub async fn wait_drained(&self) {
        wait_for("the backlog to be gone", DRAIN_LIMIT, || {
            self.gateway.is_ready() && self.gateway.metric("tidegate_backlog_events") == 0.0
        })
        .await;
    }

    /// Waits until there is no backlog, whether the gateway is ready or not.
    pub async fn wait_delivered(&self) {
        let is_delivered = || self.gateway.metric("tidegate_backlog_events") == 0.0;
        wait_for("the backlog to be delivered", DRAIN_LIMIT, is_delivered).await;
    }

    /// Demands that a new event is taken in and arrives.
    pub async fn demand_fresh_event(&self) {
        let before = self.recorder.lock().deliveries();
        let device = Device { count_max: 1, ..Device::new("late", Version::V311) };
        Fleet::start(self.gateway.mqtt, [device]).all(RECOVERY_LIMIT).await;
        wait_for("a fresh event to arrive", RECOVERY_LIMIT, || self.recorder.lock().deliveries() > before)
            .await;
    }
}

fn print_verdict(verdict: &Verdict) {
    let Verdict { acknowledged, arrived, copies, .. } = verdict;
    let lost: usize = verdict.lost.values().map(Vec::len).sum();
    eprintln!(
        "{acknowledged} acknowledged, {arrived} arrived, {lost} did not, {copies} copies with the same id"
    );
}

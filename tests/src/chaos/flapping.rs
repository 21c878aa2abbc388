//! A link that goes up and down, and does something else each time: from a seed, so that it can be
//! repeated.

use std::{collections::BTreeMap, num::NonZeroU64, time::Duration};

use tokio::time::sleep;

use super::{Acks, Link, Proxy, Rules, Way};
use crate::rng::Rng;

/// What a link may do for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// [`Link::Cut`].
    Cut,
    /// [`Link::Reset`].
    Reset,
    /// [`Link::HalfOpen`].
    HalfOpen,
    /// [`Link::Silent`].
    Silent,
    /// One PUBACK in five is lost.
    LostAcks,
    /// Half a second each way.
    Delay,
    /// 20 kB/s each way.
    Slow,
    /// Connections are cut after 1 to 3,000 bytes to the client.
    CutEarly,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Cut,
        Self::Reset,
        Self::HalfOpen,
        Self::Silent,
        Self::LostAcks,
        Self::Delay,
        Self::Slow,
        Self::CutEarly,
    ];

    fn rules(self, rng: &mut Rng) -> Rules {
        let link = |link| Rules { link, ..Rules::default() };
        let both = |way| Rules { up: way, down: way, ..Rules::default() };
        match self {
            Self::Cut => link(Link::Cut),
            Self::Reset => link(Link::Reset),
            Self::HalfOpen => link(Link::HalfOpen),
            Self::Silent => link(Link::Silent),
            Self::LostAcks => {
                let acks = Acks::DropOneIn(NonZeroU64::new(5).expect("5 is not 0"));
                Rules { acks, ..Rules::default() }
            }
            Self::Delay => both(Way { delay: Duration::from_millis(500), bytes_per_s: None }),
            Self::Slow => both(Way { delay: Duration::ZERO, bytes_per_s: Some(20_000) }),
            Self::CutEarly => Rules { cut_after_bytes: Some(rng.between(1, 3000)), ..Rules::default() },
        }
    }
}

/// Has `proxy` go up and down for `duration`, each for `low_ms` to `high_ms`, and leaves it open.
/// Each of `faults` comes in turn, in an order of chance; gives how often each did.
///
/// # Panics
/// There are no faults.
pub async fn flap(
    proxy: &Proxy,
    rng: &mut Rng,
    faults: &[Fault],
    (low_ms, high_ms): (u64, u64),
    duration: Duration,
) -> BTreeMap<Fault, u32> {
    let mut counts = BTreeMap::new();
    let mut left = duration;
    let mut round = vec![];
    while !left.is_zero() {
        if round.is_empty() {
            round = faults.to_vec();
        }
        assert!(!round.is_empty(), "there is some fault");
        let fault = round.swap_remove(rng.between(0, round.len() as u64 - 1) as usize);
        *counts.entry(fault).or_default() += 1;
        for rules in [Rules::default(), fault.rules(rng)] {
            proxy.set_rules(rules);
            let step = Duration::from_millis(rng.between(low_ms, high_ms)).min(left);
            left -= step;
            sleep(step).await;
        }
    }
    proxy.set_rules(Rules::default());
    counts
}

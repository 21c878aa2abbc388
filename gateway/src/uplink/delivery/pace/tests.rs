//! A model of an uplink and of upstreams that limit what they take, with time as an argument.

use std::{
    collections::{BTreeSet, VecDeque},
    num::NonZeroU16,
    time::{Duration, Instant},
};

use super::{super::window::Window, *};
use crate::uplink::delivery::retry::Backoff;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// An upstream that acknowledges so many in a second, and discards the rest without a word.
struct Upstream {
    per_s: f64,
    burst: f64,
    tokens: f64,
    at: Instant,
}

impl Upstream {
    fn takes(&mut self, now: Instant) -> bool {
        self.tokens = (self.tokens + self.per_s * (now - self.at).as_secs_f64()).min(self.burst);
        self.at = now;
        let takes = self.tokens >= 1.0;
        if takes {
            self.tokens -= 1.0;
        }
        takes
    }
}

struct Outcome {
    seconds: f64,
    sent: u64,
    connections: u32,
}

/// The manner of an upstream over its limit.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Over {
    Discards,
    Refuses,
}

/// Sends `events` as a lane does: what is acknowledged behind the head is not sent again.
fn deliver(limits: &PaceLimits, per_s: f64, burst: f64, way: Duration, over: Over, events: u64) -> Outcome {
    let t0 = crate::clock::monotonic();
    let mut upstream = Upstream { per_s, burst, tokens: burst, at: t0 };
    let mut pace = Pace::new(limits);
    let mut backoff = Backoff::new(ms(500), ms(60_000), 1);
    let (mut now, mut sent, mut connections, mut head) = (t0, 0, 0, 0_u64);
    let mut acked = BTreeSet::new();
    while head < events {
        connections += 1;
        assert!(now - t0 < Duration::from_secs(600), "{head} of {events} after ten minutes");
        pace.connected();
        let limit = NonZeroU16::new(1000).unwrap();
        let opening = if connections > 1 { pace.opening.wary() } else { pace.opening };
        let mut window = Window::new(limit, opening);
        let mut answers: VecDeque<(Instant, u64, bool)> = VecDeque::new();
        let (mut next, began) = (head, now);
        let (mut overtaken_at, mut moved_at, mut refused_at, mut full_at) = (None, now, None, now);
        loop {
            while next < events
                && refused_at.is_none()
                && window.room() > 0
                && pace.next_at().is_none_or(|at| at <= now)
            {
                let token = window.push(next, 1, now).unwrap();
                if acked.contains(&next) {
                    window.acknowledge(token);
                } else {
                    pace.sent(100, now);
                    sent += 1;
                    let takes = upstream.takes(now + way);
                    if takes || over == Over::Refuses {
                        answers.push_back((now + way * 2, token, takes));
                    }
                }
                next += 1;
                if window.room() == 0 {
                    window.filled();
                    full_at = now;
                }
            }
            if next == events {
                pace.starved(now);
            }
            now += ms(1);
            let mut count = 0;
            while answers.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, token, takes) = answers.pop_front().unwrap();
                if takes {
                    acked.insert(window.waiting_offset(token).unwrap());
                    window.acknowledge(token);
                    count += 1;
                } else {
                    refused_at.get_or_insert(now);
                }
            }
            if count > 0 {
                pace.acked(count, now);
            }
            if let Some(released) = window.advance() {
                (head, moved_at, overtaken_at, full_at) = (released.next_offset, now, None, now);
            }
            if count > 0 && window.is_overtaken() {
                overtaken_at.get_or_insert(now);
            }
            if head == events {
                break;
            }
            if overtaken_at.is_none() && window.room() == 0 && now - full_at >= OPENS_AFTER {
                window.open_with_time();
                full_at = now;
            }
            let since = |at: Option<Instant>, limit| at.is_some_and(|at| now - at >= limit);
            if since(overtaken_at, ms(500)) && pace.too_much(window.opening()) {
                window.halve();
            }
            let is_unanswered =
                overtaken_at.is_none() && !window.is_empty() && now - moved_at > ms(10_000);
            if since(overtaken_at, ms(4_000)) || is_unanswered || since(refused_at, ms(100)) {
                pace.too_much(window.opening());
                break;
            }
        }
        pace.opening = window.opening();
        if now - began > ms(500) {
            backoff.reset();
        }
        now += backoff.after_failure();
    }
    Outcome { seconds: (now - t0).as_secs_f64(), sent, connections }
}

#[test]
fn show() {
    for over in [Over::Discards, Over::Refuses] {
        for (per_s, burst, events) in [(100.0, 100.0, 5000), (100.0, 1.0, 5000), (100.0, 1000.0, 5000), (100.0, 200.0, 5000),(10.0, 10.0, 500),(10.0, 1.0, 500),(1000.0,1000.0,20000), (100.0,100.0,15000)] {
            for way in [0, 1, 10, 50, 100] {
                let o = deliver(&PaceLimits::default(), per_s, burst, ms(way), over, events);
                println!("{over:?} {per_s}/{burst} way {way}: {:.1}s (floor {:.1}) twice {:.2}% connections {}", o.seconds,
                  (events as f64 - burst)/per_s, (o.sent - events) as f64 * 100.0/ events as f64, o.connections);
            }
        }
    }
}

//! A model of an uplink and of upstreams that limit what they take, with time as an argument.

use std::{
    collections::{BTreeSet, VecDeque},
    num::{NonZeroU16, NonZeroU32},
    time::{Duration, Instant},
};

use super::{super::window::Window, *};
use crate::uplink::{delivery::retry::Backoff, engine::TokenRange};

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
                if acked.contains(&next) {
                    assert!(window.skip(next, 1, true, now));
                } else {
                    let token = window.push(next, 1, now).unwrap();
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
                    window.acknowledge(TokenRange::one(token));
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
            if window.is_overtaken() {
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
            let is_unanswered = overtaken_at.is_none() && !window.is_empty() && now - moved_at > ms(10_000);
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
fn what_an_upstream_takes_in_a_second_is_found_and_kept_to() {
    use Over::{Discards, Refuses};
    // Events a second, how many at once, events; seconds and parts sent twice at the most.
    for (over, per_s, burst, events, seconds, twice) in [
        (Discards, 100.0, 100.0, 5_000, 75.0, 0.05),
        (Refuses, 100.0, 100.0, 5_000, 60.0, 0.05),
        (Discards, 10.0, 10.0, 500, 65.0, 0.1),
        (Refuses, 10.0, 10.0, 500, 55.0, 0.02),
        (Discards, 1_000.0, 1_000.0, 20_000, 45.0, 0.06),
        (Refuses, 1_000.0, 1_000.0, 20_000, 30.0, 0.06),
        // Servers that allow several seconds' worth at once, or nothing: it takes longer, or more
        // goes twice, and it goes on.
        (Discards, 100.0, 200.0, 5_000, 75.0, 0.1),
        (Discards, 100.0, 1_000.0, 5_000, 60.0, 0.3),
        (Discards, 100.0, 1.0, 5_000, 400.0, 0.05),
        (Refuses, 100.0, 1.0, 5_000, 400.0, 0.05),
    ] {
        for way_ms in [0, 1, 10, 50, 100] {
            let outcome = deliver(&PaceLimits::default(), per_s, burst, ms(way_ms), over, events);
            let again = (outcome.sent - events) as f64 / events as f64;
            let what = format!("{over:?} over {per_s}/s, {burst} at once, {way_ms} ms away");
            let Outcome { seconds: took, connections, .. } = outcome;
            println!("{what}: {took:.1} s, {:.1} % twice, {connections} connections", again * 100.0);
            assert!(took <= seconds && again <= twice, "{what}: {took:.1} s, {again:.3} twice");
        }
    }
}

#[test]
fn what_is_set_below_the_limit_is_kept_to_and_nothing_is_sent_twice() {
    let limits = PaceLimits { events_per_s: NonZeroU32::new(90), ..PaceLimits::default() };
    let outcome = deliver(&limits, 100.0, 100.0, ms(10), Over::Discards, 5_000);
    assert_eq!((outcome.sent, outcome.connections), (5_000, 1));
    assert!((55.0..57.0).contains(&outcome.seconds), "{}", outcome.seconds);
}

#[test]
fn where_there_is_no_limit_nothing_is_held_back() {
    let outcome = deliver(&PaceLimits::default(), 1e9, 1e9, ms(10), Over::Discards, 200_000);
    assert_eq!((outcome.sent, outcome.connections), (200_000, 1));
    assert!(outcome.seconds < 5.0, "{}: a thousand for each way there and back", outcome.seconds);
}

#[test]
fn a_gap_that_heals_limits_no_rate_and_undoes_its_own_conclusion_alone() {
    let now = crate::clock::monotonic();
    let mut pace = Pace::new(&PaceLimits::default());
    let wide = Opening::WIDE;
    pace.connected();
    pace.acked(100, now);
    assert_eq!(pace.recovered(), None, "there was none");
    assert!(pace.too_much(wide));
    assert_eq!((pace.found_per_s(), pace.is_free()), (Some(85.0), false));
    assert_eq!(pace.recovered(), Some(wide));
    assert_eq!((pace.found_per_s(), pace.is_free()), (None, true));
    assert!(pace.too_much(wide), "another one counts");
    pace.connected();
    assert_eq!(pace.recovered(), None, "what ended a connection did not heal");
    pace.acked(40, now);
    assert!(pace.too_much(wide.halved()));
    assert_eq!(pace.recovered(), Some(wide.halved()));
    assert_eq!(pace.found_per_s(), Some(85.0), "what was known before");
    pace.take_back();
    assert_eq!((pace.found_per_s(), pace.opening), (None, wide), "that was an event's fault");
}

#[test]
fn what_a_proven_event_was_the_matter_of_is_undone_and_what_was_confirmed_is_not() {
    let now = crate::clock::monotonic();
    let mut pace = Pace::new(&PaceLimits::default());
    let wide = Opening::WIDE;
    for (is_confirmed, found) in [(false, None), (true, Some(85.0))] {
        pace.connected();
        pace.acked(100, now);
        assert!(pace.too_much(wide) && !pace.too_much(wide), "once on a connection");
        pace.opening = wide.halved();
        assert_eq!(pace.found_per_s(), Some(85.0));
        if is_confirmed {
            pace.confirm();
        }
        pace.take_back();
        assert_eq!((pace.found_per_s(), pace.opening == wide), (found, !is_confirmed));
    }
    pace.connected();
    assert!(pace.too_much(wide), "nothing was acknowledged on this connection");
    assert_eq!(pace.found_per_s(), Some(85.0), "so nothing is learnt of a rate");
}

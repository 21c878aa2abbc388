//! A simulated climate sensor: a random walk that stays within what a room can have.
//!
//! Purpose: simulated and emulated boards sample something that looks like a room. The same seed
//! gives the same walk.
//!
//! Limits: -10 to 40 degrees Celsius, 20 to 90 %, 950 to 1050 hPa.
//!
//! What it does not do: it never fails and never waits.

use tidegate_protocol::events::Climate;

use super::{Body, Fault, Reading, Sensor};
use crate::random::SplitMix;

/// A climate sensor that is not there.
#[derive(Debug)]
pub struct SimulatedClimate {
    random: SplitMix,
    now: Climate,
    kind: u8,
}

impl SimulatedClimate {
    /// A walk from `seed`, whose events have the device's `kind` index.
    #[must_use]
    pub fn new(seed: u64, kind: u8) -> Self {
        let mut random = SplitMix::new(seed);
        let now = Climate {
            temperature: 1500 + random.below(1000) as i16,
            humidity: 4000 + random.below(2000) as u16,
            pressure: 100_000 + random.below(2000),
        };
        SimulatedClimate { random, now, kind }
    }

    /// From -`reach` to `reach`.
    fn step(&mut self, reach: u32) -> i32 {
        self.random.below(2 * reach + 1) as i32 - reach as i32
    }
}

impl Sensor for SimulatedClimate {
    async fn read(&mut self, body: &mut Body) -> Result<Reading, Fault> {
        let temperature = (i32::from(self.now.temperature) + self.step(5)).clamp(-1000, 4000);
        let humidity = (i32::from(self.now.humidity) + self.step(10)).clamp(2000, 9000);
        let pressure = (self.now.pressure as i32 + self.step(3)).clamp(95_000, 105_000);
        self.now =
            Climate { temperature: temperature as i16, humidity: humidity as u16, pressure: pressure as u32 };
        Reading::new(self.kind, &self.now, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Poll, Waker};
    use std::vec::Vec;

    use crate::sensor::BODY_BYTES_MAX;

    fn walk(seed: u64, steps: usize) -> Vec<Climate> {
        let mut sensor = SimulatedClimate::new(seed, 1);
        let mut readings = Vec::new();
        for _ in 0..steps {
            let mut body = [0; BODY_BYTES_MAX];
            let read = pin!(sensor.read(&mut body)).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Ok(reading)) = read else { panic!("it never waits and never fails") };
            readings.push(postcard::from_bytes(&body[..reading.len]).unwrap());
        }
        readings
    }

    #[test]
    fn the_same_seed_gives_the_same_walk_and_another_seed_another() {
        assert_eq!(walk(7, 100), walk(7, 100));
        assert_ne!(walk(7, 100), walk(8, 100));
    }

    #[test]
    fn the_walk_moves_and_stays_within_a_room() {
        let readings = walk(1, 20_000);
        assert_ne!(readings.first(), readings.last());
        for reading in readings {
            assert!((-1000..=4000).contains(&reading.temperature));
            assert!((2000..=9000).contains(&reading.humidity));
            assert!((95_000..=105_000).contains(&reading.pressure));
        }
    }
}

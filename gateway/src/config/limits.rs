//! The limits, resolved: what clients may cost. Each key has a default and bounds, and an error
//! names both ends.
//!
//! A number stands without quotes, a size or a time with its unit in quotes. A key without a
//! default is without a limit until it is set. What happens at each limit, `docs/operating.md`
//! tells.

use std::{ops::RangeInclusive, time::Duration};

use toml::Spanned;

use super::raw;
use crate::{
    ingest::{self, connection::large, limits as ingest_limits},
    keys::{Text, Validator, quantity},
    mqtt::{limits::SMALL_PACKET_BYTES, topics},
};

/// More than one machine has file descriptors for.
const CONNECTIONS_MOST: i64 = 1_000_000;
/// A rate that no machine comes to.
const PER_SECOND_MOST: i64 = 10_000_000;
const BYTES_PER_SECOND_MOST: u64 = 1 << 40;
/// Bounds of all time limits: below, a slow link is cut off; above, it is none.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(600);
/// Bounds of the keep-alive: MQTT counts it in 16 bits, in seconds.
const KEEP_ALIVES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(65_535);
/// A million of anything kept in memory is a mistake.
const KEPT_MOST: i64 = 1_000_000;
/// Most bytes kept for one session, or of retained messages: a quarter of the least machine's
/// memory.
const KEPT_BYTES_MOST: u64 = 256 << 20;

impl Validator<'_> {
    /// The limits, with no route.
    pub(super) fn limits(&mut self, raw: &raw::Limits) -> ingest::Settings {
        let base = ingest::Settings::default();
        let topics = topics::TopicLimits {
            bytes: self.size(raw.topic_bytes.as_ref(), base.topics.bytes, 1..=base.topics.bytes as u64),
            levels: self.number(raw.topic_levels.as_ref(), base.topics.levels, 1..=base.topics.levels as i64),
        };
        let keep_alive_max = Duration::from_secs(base.keep_alive_max_s.into());
        let keep_alive_max = self.time(raw.keep_alive_max.as_ref(), keep_alive_max, KEEP_ALIVES);
        let least = i64::from(ingest_limits::PUBLISHES_PER_S_LEAST);
        let connections_per_s = i64::from(base.connections_per_s_max);
        ingest::Settings {
            connections_max: self.number(
                raw.connections.as_ref(),
                base.connections_max,
                1..=CONNECTIONS_MOST,
            ),
            connections_per_s_max: self.number(
                raw.connections_per_second.as_ref(),
                connections_per_s,
                1..=PER_SECOND_MOST,
            ) as u32,
            connections_per_address_max: self
                .given(raw.connections_per_address.as_ref(), 1..=CONNECTIONS_MOST),
            connect_timeout: self.time(raw.connect_timeout.as_ref(), base.connect_timeout, TIMES),
            tls_timeout: self.time(raw.tls_timeout.as_ref(), base.tls_timeout, TIMES),
            write_timeout: self.time(raw.write_timeout.as_ref(), base.write_timeout, TIMES),
            keep_alive_max_s: keep_alive_max.as_secs() as u16,
            packet_bytes_max: self.packet_bytes(raw, base.packet_bytes_max),
            inflight_max: self.number(raw.inflight.as_ref(), i64::from(base.inflight_max), 1..=65_535) as u16,
            publishes_per_s_max: self
                .given(raw.publishes_per_second.as_ref(), least..=PER_SECOND_MOST)
                .map(|rate: i64| rate as u32),
            bytes_per_s_max: raw.bytes_per_second.as_ref().map(|text| {
                self.size(
                    Some(text),
                    BYTES_PER_SECOND_MOST,
                    ingest_limits::BYTES_PER_S_LEAST..=BYTES_PER_SECOND_MOST,
                )
            }),
            ..self.kept(raw, ingest::Settings { topics, ..base })
        }
    }

    /// The longest packet. More of a large one has to come in time, so a client that is read from
    /// slowly has none.
    fn packet_bytes(&mut self, raw: &raw::Limits, default: usize) -> usize {
        let slow =
            |text: &Text| quantity::bytes(text.get_ref()).is_ok_and(|rate| rate < large::BYTES_PER_S_LEAST);
        let is_slow = raw.bytes_per_second.as_ref().is_some_and(slow);
        let default = if is_slow { SMALL_PACKET_BYTES } else { default };
        let bounds = ingest_limits::PACKET_BYTES_LEAST as u64..=ingest_limits::PACKET_BYTES_LIMIT as u64;
        let bytes = self.size(raw.packet_bytes.as_ref(), default, bounds);
        if let Some(text) = raw.packet_bytes.as_ref().filter(|_| is_slow && bytes > SMALL_PACKET_BYTES) {
            let why = "is above 256 KiB, and bytes_per_second below 26 KiB is too slow for such packets: change one of them";
            self.wrong(&text.span(), format!("{:?} {why}", text.get_ref()));
        }
        bytes
    }

    /// What is kept for clients beside their events.
    fn kept(&mut self, raw: &raw::Limits, base: ingest::Settings) -> ingest::Settings {
        let most = 0..=KEPT_MOST;
        ingest::Settings {
            subscriptions_max: self.number(raw.subscriptions.as_ref(), base.subscriptions_max, most.clone()),
            sessions_max: self.number(raw.sessions.as_ref(), base.sessions_max, 1..=KEPT_MOST),
            queued_messages_max: self.number(
                raw.queued_messages.as_ref(),
                base.queued_messages_max,
                most.clone(),
            ),
            queued_bytes_max: self.size(
                raw.queued_bytes.as_ref(),
                base.queued_bytes_max,
                0..=KEPT_BYTES_MOST,
            ),
            retained_messages_max: self.number(
                raw.retained_messages.as_ref(),
                base.retained_messages_max,
                most,
            ),
            retained_bytes_max: self.size(
                raw.retained_bytes.as_ref(),
                base.retained_bytes_max,
                0..=KEPT_BYTES_MOST,
            ),
            ..base
        }
    }

    /// A number that has a default.
    fn number<T: TryFrom<i64>>(
        &mut self,
        raw: Option<&Spanned<i64>>,
        default: T,
        bounds: RangeInclusive<i64>,
    ) -> T {
        self.given(raw, bounds).unwrap_or(default)
    }

    /// A number that has none.
    pub(super) fn given<T: TryFrom<i64>>(
        &mut self,
        raw: Option<&Spanned<i64>>,
        bounds: RangeInclusive<i64>,
    ) -> Option<T> {
        let raw = raw?;
        let number = *raw.get_ref();
        if bounds.contains(&number) {
            return T::try_from(number).ok();
        }
        self.wrong(&raw.span(), format!("{number} is not within {} and {}", bounds.start(), bounds.end()));
        None
    }

    fn size<T: TryFrom<u64>>(&mut self, raw: Option<&Text>, default: T, bounds: RangeInclusive<u64>) -> T {
        let size = self.value(raw, None, |text| {
            let bytes = quantity::bytes(text)?;
            let outside =
                || format!("\"{text}\" is not within {} and {} bytes", bounds.start(), bounds.end());
            bounds.contains(&bytes).then_some(Some(bytes)).ok_or_else(outside)
        });
        size.and_then(|bytes| T::try_from(bytes).ok()).unwrap_or(default)
    }

    fn time(&mut self, raw: Option<&Text>, default: Duration, bounds: RangeInclusive<Duration>) -> Duration {
        self.value(raw, default, |text| {
            let time = quantity::duration(text)?;
            let outside = || format!("\"{text}\" is not within {:?} and {:?}", bounds.start(), bounds.end());
            bounds.contains(&time).then_some(time).ok_or_else(outside)
        })
    }
}

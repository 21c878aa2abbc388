//! The configuration, resolved: each value judged, defaults filled in, secrets fetched. It collects
//! all that is wrong, so that one look mends a file.

use std::{net::SocketAddr, time::Duration};

use super::{Settings, raw};
use crate::{
    http, ingest,
    keys::{Problem, Surroundings, Validator, quantity},
    store,
};

const DATA_DIR_DEFAULT: &str = "/var/lib/tidegate";
const SEGMENT_BYTES_DEFAULT: u64 = 64 << 20;
/// Bounds of a segment: below, sealing costs more than storing; above, restart time and damage
/// grow.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(1 << 30);
const RETAIN_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const RETAIN_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
const MAX_BYTES_DEFAULT: u64 = 8 << 30;
/// Least size of a store: below, a device's burst fills it.
const MAX_BYTES_MIN: u64 = 8 << 20;
/// A store holds so many segments at least, or dropping one would drop too much of it.
const SEGMENTS_MIN: u64 = 4;
/// 20 GB a day is 7 TB a year: a card that is rated for 30 TB written lasts four years.
const WEAR_BUDGET_DEFAULT: Option<u64> = Some(20_000_000_000);
/// Least budget: about one commit in 30 s.
const WEAR_BUDGET_BYTES_PER_DAY_MIN: u64 = 100_000_000;
const LINGER_MAX_DEFAULT: Duration = Duration::from_secs(1);
/// A device waits for its acknowledgement this long at the most.
const LINGER_MAX_MAX: Duration = Duration::from_secs(10);
/// What wears out sooner than this is no disk.
const ENDURANCE_BYTES_MIN: u64 = 1_000_000_000;
const DEAD_LETTERS_MAX_BYTES_DEFAULT: u64 = 64 << 20;
/// Least room: below, a few large events would push all others out.
const DEAD_LETTERS_MAX_BYTES_MIN: u64 = 1 << 20;
const HTTP_ADDRESS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);

/// Judges all of it, and gives what is missing yet beside it.
pub(super) fn check(
    raw: raw::File,
    around: &Surroundings<'_>,
) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    let mut validator = Validator::new(around);
    let gateway_id = validator.name(&raw.gateway.id);
    let settings = Settings {
        store: validator.store(&raw.gateway, &raw.store),
        endurance_bytes: validator.endurance(&raw.store),
        listeners: validator.listeners(&raw.listener),
        ingest: ingest::Settings {
            routes: validator.routes(&raw.route),
            access: validator.access(&raw.access),
            ..validator.limits(&raw.limits)
        },
        uplinks: validator.uplinks(&raw.uplink, &gateway_id),
        http: validator.http(&raw.http),
        gateway_id,
        not_yet: None,
    };
    let Validator { mut problems, not_yet, .. } = validator;
    if problems.is_empty() {
        return Ok((settings, not_yet));
    }
    problems.extend(not_yet);
    Err(problems)
}

impl Validator<'_> {
    fn store(&mut self, gateway: &raw::Gateway, store: &raw::Store) -> store::Settings {
        let data_dir = gateway.data_dir.as_ref().map_or(DATA_DIR_DEFAULT, |dir| dir.get_ref());
        if let Some(dir) = gateway.data_dir.as_ref().filter(|dir| dir.get_ref().is_empty()) {
            self.wrong(&dir.span(), "an empty path; name a folder, like \"/var/lib/tidegate\"");
        }
        let segment_bytes = self.value(store.segment_bytes.as_ref(), SEGMENT_BYTES_DEFAULT, |text| {
            let bytes = quantity::bytes(text)?;
            let fits = SEGMENT_BYTES.contains(&bytes);
            fits.then_some(bytes).ok_or_else(|| format!("\"{text}\" is not within 1 MiB and 1 GiB"))
        });
        let when_full = [("reject", store::WhenFull::Reject), ("drop-oldest", store::WhenFull::DropOldest)];
        store::Settings {
            data_dir: self.around.folder.join(data_dir),
            segment_bytes,
            max_bytes: self.value(store.max_bytes.as_ref(), MAX_BYTES_DEFAULT, |text| {
                let bytes = quantity::bytes(text)?;
                let least = MAX_BYTES_MIN.max(segment_bytes * SEGMENTS_MIN);
                let too_little = || {
                    format!(
                        "\"{text}\" is too little; at least 8 MiB, and {SEGMENTS_MIN} times segment_bytes"
                    )
                };
                (bytes >= least).then_some(bytes).ok_or_else(too_little)
            }),
            when_full: self.one_of(
                store.when_full.as_ref(),
                store::WhenFull::Reject,
                "when_full",
                &when_full,
            ),
            retain: self.value(store.retain.as_ref(), RETAIN_DEFAULT, |text| {
                quantity::at_most(text, RETAIN_MAX, "366 days")
            }),
            wear_budget_bytes_per_day: self.value(store.wear_budget.as_ref(), WEAR_BUDGET_DEFAULT, |text| {
                let budget = quantity::bytes_per_day(text)?;
                let fits = budget.is_none_or(|bytes| bytes >= WEAR_BUDGET_BYTES_PER_DAY_MIN);
                fits.then_some(budget)
                    .ok_or_else(|| format!("\"{text}\" is too little to work with; at least \"100 MB/day\""))
            }),
            journal_bytes: store::JOURNAL_BYTES_MAX,
            linger_max: self.value(store.linger_max.as_ref(), LINGER_MAX_DEFAULT, |text| {
                quantity::at_most(text, LINGER_MAX_MAX, "10 s")
            }),
            dead_letters_max_bytes: self.value(
                store.dead_letters_max_bytes.as_ref(),
                DEAD_LETTERS_MAX_BYTES_DEFAULT,
                |text| {
                    let bytes = quantity::bytes(text)?;
                    let fits = bytes >= DEAD_LETTERS_MAX_BYTES_MIN;
                    fits.then_some(bytes)
                        .ok_or_else(|| format!("\"{text}\" is too little; at least \"1 MiB\""))
                },
            ),
        }
    }

    fn endurance(&mut self, store: &raw::Store) -> Option<u64> {
        self.value(store.endurance.as_ref(), None, |text| {
            let bytes = quantity::bytes(text)?;
            let too_little = || format!("\"{text}\" is too little for a disk or a card; at least \"1 GB\"");
            (bytes >= ENDURANCE_BYTES_MIN).then_some(Some(bytes)).ok_or_else(too_little)
        })
    }

    fn http(&mut self, raw: &raw::Http) -> http::Settings {
        let address = self.address(raw.address.as_ref(), HTTP_ADDRESS_DEFAULT);
        if let Some(raw) = raw.address.as_ref().filter(|_| !address.ip().is_loopback()) {
            self.wrong(&raw.span(), format!("{address} can be reached by others, and HTTP has no users; use a loopback address, like \"127.0.0.1:8080\""));
        }
        http::Settings::new(address)
    }
}

//! `tidegate replay`: sends stored events again, by the running gateway, and shows how far it is.

mod follow;
mod show;

use std::num::NonZeroU32;

pub(super) use follow::follow;

use super::{
    Failure,
    ask::{ANSWER_MAX, Gateway, HTTP_DEFAULT},
    when,
};
use crate::{
    clock,
    http::{KindName, ReplayRequest, Stored, What},
};

/// Send stored events again beside live traffic, marked, with their old ids
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate replay --uplink cloud --from 2h --dry-run
  tidegate replay --uplink cloud --from 2026-11-24T08:00:00Z --to 2026-11-24T09:30:00Z --device stall-3
  tidegate replay --uplink cloud --from 3days --to 2days --rate 500

Ctrl-C cancels it; so does a restart of the gateway. Exit code 0 only if every event was acknowledged.")]
pub(super) struct Arguments {
    /// The uplink to send them by
    #[arg(long, value_name = "NAME")]
    uplink: String,
    /// Received at this time or later: RFC 3339, a day, or an age like 2h
    #[arg(long, value_name = "TIME")]
    from: String,
    /// Received before this time; without it, until now
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The device that the topic (tg/<device>/...) or its route names, or else the MQTT client id
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// frame, json, text or opaque
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<KindName>,
    #[command(flatten)]
    how: How,
}

/// How events are sent again.
#[derive(Debug, clap::Args)]
pub(super) struct How {
    /// Count them and send nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Events a second at most, so that live traffic need not suffer
    #[arg(long, value_name = "EVENTS_PER_S")]
    pub(super) rate: Option<NonZeroU32>,
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    pub(super) http: String,
    /// For scripts: nothing but JSON at the end, as /api/replay/ID gives it
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let how = &arguments.how;
    let gateway = Gateway::at(&how.http, ANSWER_MAX);
    follow(&gateway, &request(arguments, clock::wall_ms())?, how.json)
}

fn request(arguments: &Arguments, now_ms: u64) -> Result<ReplayRequest, Failure> {
    let time = |option: &str, text: &str| {
        when::parse(text, now_ms).map_err(|why| Failure::Usage(format!("--{option}: {why}")))
    };
    let stored = Stored {
        from_ms: time("from", &arguments.from)?,
        to_ms: arguments.to.as_deref().map_or(Ok(now_ms), |text| time("to", text))?,
        device: arguments.device.clone(),
        kind: arguments.kind,
    };
    Ok(ReplayRequest {
        uplink: arguments.uplink.clone(),
        what: What::Stored(stored),
        dry_run: arguments.how.dry_run,
        events_per_s: arguments.how.rate,
    })
}

/// A kind by its name.
pub(super) fn kind(text: &str) -> Result<KindName, String> {
    match text {
        "frame" => Ok(KindName::Frame),
        "json" => Ok(KindName::Json),
        "text" => Ok(KindName::Text),
        "opaque" => Ok(KindName::Opaque),
        _ => Err("use frame, json, text or opaque".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn asked(words: &str, now_ms: u64) -> Result<ReplayRequest, Failure> {
        let words = ["tidegate"].into_iter().chain(words.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| Failure::Usage(error.to_string()))?;
        request(&line.arguments, now_ms)
    }

    #[test]
    fn the_words_become_a_request() {
        let stored = |from_ms, to_ms| What::Stored(Stored { from_ms, to_ms, device: None, kind: None });
        let plain = asked("--uplink cloud --from 2h", 10_000_000).unwrap();
        assert_eq!(plain.what, stored(2_800_000, 10_000_000));
        assert_eq!((plain.uplink.as_str(), plain.dry_run, plain.events_per_s), ("cloud", false, None));
        let all = asked(
            "--uplink a --from 1970-01-01T00:00:01Z --to 1970-01-02 --device d --kind json --rate 50 --dry-run",
            0,
        )
        .unwrap();
        let device = Some("d".to_owned());
        let stored = Stored { from_ms: 1000, to_ms: 86_400_000, device, kind: Some(KindName::Json) };
        assert_eq!((all.what, all.dry_run), (What::Stored(stored), true));
        assert_eq!(all.events_per_s, NonZeroU32::new(50));
        for words in
            ["--uplink a --from soon", "--uplink a --from 2h --kind xml", "--uplink a --from 2h --rate 0"]
        {
            assert_eq!(asked(words, 0).unwrap_err().exit_code(), 64, "{words}");
        }
    }
}

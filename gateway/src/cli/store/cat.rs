//! `tidegate store cat`: records as lines of JSON, a page at a time.
//!
//! Lines go to standard output as they come; what cannot be read, and where to go on, to standard
//! error.

use clap::ValueEnum;

use super::{
    super::{Failure, when},
    StoreLocation, failed, lines, open,
};
use crate::{
    clock,
    http::{CAT_RECORDS_MAX, CatNote},
    printable,
    store::{
        Kind,
        inspect::{CatFilter, CatItem, CatLimits},
    },
};

/// What every record's line begins with.
const RECORD: &str = "{\"offset\":";

/// Show records as lines of JSON, oldest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate store cat --from 2h --device barn-1
  tidegate store cat --offset 120000 --limit 0 | jq -r .topic | sort | uniq -c

A payload is \"payload\" where it is JSON, \"payload_text\" where it is other text, else \"payload_base64\".")]
pub(super) struct Arguments {
    #[command(flatten)]
    place: StoreLocation,
    /// From this offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    offset: u64,
    /// Received then or later: RFC 3339, a day, or an age like 2h
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Received before then
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Of this device: the one that the topic or its route names, else the MQTT client
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Of this kind
    #[arg(long)]
    kind: Option<KindName>,
    /// So many at the most; 0 is all
    #[arg(long, value_name = "RECORDS", default_value_t = 100)]
    limit: u64,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    Frame,
    Json,
    Text,
    Opaque,
}

impl KindName {
    fn label(self) -> &'static str {
        match self {
            Self::Frame => "frame",
            Self::Json => "json",
            Self::Text => "text",
            Self::Opaque => "opaque",
        }
    }
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::Frame => Self::Frame,
            KindName::Json => Self::Json,
            KindName::Text => Self::Text,
            KindName::Opaque => Self::Opaque,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let now_ms = clock::wall_ms();
    let time = |text: &Option<String>| {
        text.as_ref().map(|text| when::parse(text, now_ms)).transpose().map_err(Failure::Usage)
    };
    let filter = CatFilter {
        offset: arguments.offset,
        from_ms: time(&arguments.from)?,
        to_ms: time(&arguments.to)?,
        device: arguments.device.clone(),
        kind: arguments.kind.map(Kind::from),
    };
    let records = if arguments.limit == 0 { u64::MAX } else { arguments.limit };
    let mut unreadable = 0;
    let next = match &arguments.place.files {
        Some(folder) => {
            let limits = CatLimits { records, bytes: u64::MAX };
            open(folder)?
                .cat(&filter, limits, &mut |item| match item {
                    CatItem::Record(entry) => {
                        // It is made of text and numbers: nothing of it can fail.
                        say!("{}", serde_json::to_string(&entry).unwrap_or_default());
                    }
                    CatItem::Unreadable { offsets, why } => {
                        print_note(&CatNote::Unreadable { offsets, why }, &mut unreadable);
                    }
                })
                .map_err(failed)?
        }
        None => pages(&arguments.place.http, filter, arguments.kind, records, &mut unreadable)?,
    };
    if let Some(next) = next {
        remark!("there may be more: go on with --offset {next}");
    }
    match unreadable {
        0 => Ok(()),
        _ => Err(Failure::Damaged("some records cannot be read: see tidegate store verify".into())),
    }
}

/// Asks for page after page.
fn pages(
    address: &str,
    mut filter: CatFilter,
    kind: Option<KindName>,
    mut records: u64,
    unreadable: &mut u64,
) -> Result<Option<u64>, Failure> {
    loop {
        let path = path(&filter, kind, records.min(CAT_RECORDS_MAX));
        let mut next = None;
        lines::each(address, &path, |line| {
            if line.starts_with(RECORD) {
                say!("{line}");
                records = records.saturating_sub(1);
                return Ok(());
            }
            match serde_json::from_str(line).map_err(|cause| lines::foreign(address, &cause))? {
                CatNote::Next(offset) => next = Some(offset),
                CatNote::Error(why) => return Err(lines::broken(address, &why)),
                note @ CatNote::Unreadable { .. } => print_note(&note, unreadable),
            }
            Ok(())
        })?;
        match next {
            None => return Err(lines::broken(address, "the last line is missing")),
            Some(Some(offset)) if records > 0 => filter.offset = offset,
            Some(next) => return Ok(next),
        }
    }
}

fn path(filter: &CatFilter, kind: Option<KindName>, limit: u64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("offset", &filter.offset.to_string()).append_pair("limit", &limit.to_string());
    for (name, ms) in [("from_ms", filter.from_ms), ("to_ms", filter.to_ms)] {
        if let Some(ms) = ms {
            query.append_pair(name, &ms.to_string());
        }
    }
    if let Some(device) = &filter.device {
        query.append_pair("device", device);
    }
    if let Some(kind) = kind {
        query.append_pair("kind", kind.label());
    }
    format!("/api/store/cat?{}", query.finish())
}

fn print_note(note: &CatNote, unreadable: &mut u64) {
    if let CatNote::Unreadable { offsets, why } = note {
        *unreadable += 1;
        remark!("records from {} on cannot be read: {}", offsets.from, printable::line(why));
    }
}

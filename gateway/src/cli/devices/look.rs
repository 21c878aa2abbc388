//! `tidegate devices list` and `show`: what a running gateway knows of its devices, asked over HTTP.

use super::super::{
    Failure,
    ask::{ANSWER_MAX, Gateway, HTTP_DEFAULT},
    dead_letters::printable,
    people, when,
};
use crate::{
    clock,
    http::{BootItem, DeviceItem, DeviceList, DeviceSheet, Presence, Quality, Run},
};

const HEADING: &str = "device                            presence  last seen   firmware                     boots        events      lost   missing      late  time";

/// List the devices: who is there, and what each has lost
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    at: At,
    /// For scripts: JSON, one a line
    #[arg(long)]
    json: bool,
}

/// Show all that is known of a device: its boots, what it lost, what is missing
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// The device's name
    device: String,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON as /api/devices/NAME gives it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct At {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    http: String,
}

pub(super) fn list(arguments: &List) -> Result<(), Failure> {
    let gateway = Gateway::at(&arguments.at.http, ANSWER_MAX);
    let list: DeviceList = gateway.parse(&gateway.get("/api/devices")?)?;
    if arguments.json {
        for item in &list.items {
            // Text and numbers always are JSON.
            say!("{}", serde_json::to_string(item).unwrap_or_default());
        }
        return Ok(());
    }
    say!("{}", table(&list, clock::wall_ms()).trim_end());
    Ok(())
}

pub(super) fn show(arguments: &Show) -> Result<(), Failure> {
    let gateway = Gateway::at(&arguments.at.http, ANSWER_MAX);
    let device: String = form_urlencoded::byte_serialize(arguments.device.as_bytes()).collect();
    let json = gateway.get(&format!("/api/devices/{}", device.replace('+', "%20")))?;
    if arguments.json {
        say!("{json}");
        return Ok(());
    }
    say!("{}", sheet(&gateway.parse(&json)?, clock::wall_ms()).trim_end());
    Ok(())
}

fn table(list: &DeviceList, now_ms: u64) -> String {
    let mut text = format!("{HEADING}\n");
    for item in &list.items {
        text += &format!(
            "{:<32}  {:<8}  {:>9}   {:<27}  {:>5}  {:>12}  {:>8}  {:>8}  {:>8}  {}\n",
            item.device,
            presence(item.presence),
            ago(item.last_seen_ms, now_ms),
            firmware(item),
            item.boots,
            people::count(item.events),
            people::count(item.lost_events),
            people::count(item.missing_events),
            people::count(item.late_events),
            item.time_quality.as_str()
        );
    }
    if list.items.is_empty() {
        text += "none: no birth, no status and no frame came on a topic tg/DEVICE/…\n";
    }
    if list.untracked_records > 0 {
        let records = people::count(list.untracked_records);
        text += &format!(
            "{records} records of devices beyond the limit came: they are forwarded, and not listed\n"
        );
    }
    text
}

fn sheet(sheet: &DeviceSheet, now_ms: u64) -> String {
    let item = &sheet.item;
    let contact = item.next_contact_ms.map(|ms| format!(", next contact {}", when::show(ms)));
    let seen = item.last_seen_ms.map_or("never".into(), |ms| {
        format!("{} ({} ago)", when::show(ms), people::age(now_ms.saturating_sub(ms) as f64 / 1000.0))
    });
    let kinds = sheet.kinds.zip(sheet.schema_set);
    let kinds = kinds.map_or("no birth came".into(), |(count, set)| format!("{count}, as {set:08x}"));
    let resets: Vec<String> =
        sheet.resets.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let or_none = |text: String| if text.is_empty() { "-".into() } else { text };
    let mut text = format!(
        "device     {}\npresence   {}{}\nlast seen  {seen}\nfirmware   {}\nkinds      {kinds}\nboots      {}\nresets     {}\n\
         events     {}, lost {}, missing {}, late {}\nbattery    {}\nsignal     {}\ntime       {}\n",
        item.device,
        presence(item.presence),
        contact.unwrap_or_default(),
        or_none(
            [firmware(item), item.build.as_deref().map(printable).unwrap_or_default()]
                .join(" ")
                .trim()
                .into()
        ),
        people::count(item.boots),
        or_none(resets.join(", ")),
        people::count(item.events),
        people::count(item.lost_events),
        people::count(item.missing_events),
        people::count(item.late_events),
        item.battery_percent.map_or("-".into(), |percent| format!("{percent} %")),
        item.signal_dbm.map_or("-".into(), |dbm| format!("{dbm} dBm")),
        quality(item.time_quality),
    );
    for item in &sheet.latest_boots {
        text += &boot(item);
    }
    text
}

fn boot(item: &BootItem) -> String {
    let at = |ms: Option<u64>| ms.map_or("-".into(), when::show);
    let mut text = format!(
        "\nboot {}: {}, {} to {}, connections {}\n  events   {} in {} frames, to number {}, late {}; time {}\n",
        item.boot,
        item.reset.as_deref().map_or("reset unknown".into(), printable),
        at(item.first_ms),
        at(item.last_ms),
        item.connections,
        people::count(item.events),
        people::count(item.frames),
        item.highest_seq.map_or("-".into(), |seq| people::count(seq.into())),
        people::count(item.late_events),
        item.time_quality.as_str(),
    );
    for (what, events, shown) in
        [("lost", item.lost_events, &item.lost), ("missing", item.missing_events, &item.missing)]
    {
        if events > 0 {
            text += &format!("  {what:<7}  {}: {}\n", people::count(events), runs(shown, events));
        }
    }
    if !item.is_exact {
        text += "  There were more gaps at a time than are kept: the counts take for granted that nothing came twice.\n";
    }
    text
}

/// `17-20, 33`; what is not shown goes before it.
fn runs(shown: &[Run], events: u64) -> String {
    let one = |run: &Run| match run.count {
        1 => run.first_seq.to_string(),
        count => format!("{}-{}", run.first_seq, u64::from(run.first_seq) + u64::from(count) - 1),
    };
    let known: u64 = shown.iter().map(|run| u64::from(run.count)).sum();
    let others = events.saturating_sub(known);
    let others = (others > 0).then(|| format!("{} in lower ones", people::count(others)));
    others.into_iter().chain(shown.iter().map(one)).collect::<Vec<_>>().join(", ")
}

fn firmware(item: &DeviceItem) -> String {
    let texts =
        [&item.firmware, &item.version].map(|text| text.as_deref().map(printable).unwrap_or_default());
    texts.join(" ").trim().to_owned()
}

fn ago(ms: Option<u64>, now_ms: u64) -> String {
    ms.map_or("-".into(), |ms| people::age(now_ms.saturating_sub(ms) as f64 / 1000.0))
}

const fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Unknown => "unknown",
        Presence::Online => "online",
        Presence::Sleeping => "sleeping",
        Presence::Offline => "offline",
        Presence::Silent => "SILENT",
    }
}

const fn quality(quality: Quality) -> &'static str {
    match quality {
        Quality::Synced => "synced: by the device's own clock",
        Quality::Mapped => "mapped: by what it sent live",
        Quality::Bounded => "bounded: nothing came live, only when its frames came is known",
        Quality::Received => "received: when the gateway took it in",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceSheet {
        let json = r#"{"device":"barn-3","presence":"sleeping","last_seen_ms":1000,"next_contact_ms":61000,
            "firmware":"soil\u001b","version":"1.2","build":"abc","boot":7,"connection":2,"boots":9,"events":12345,
            "lost_events":14,"missing_events":1,"late_events":0,"battery_percent":81,"signal_dbm":-70,"time_quality":"mapped",
            "kinds":4,"schema_set":171,"resets":[["power-on",8],["watchdog",1]],
            "latest_boots":[{"boot":7,"reset":"watchdog","connections":2,"first_ms":0,"last_ms":1000,"frames":3,"events":30,
            "highest_seq":44,"lost_events":14,"lost":[{"first_seq":17,"count":4}],"missing_events":1,
            "missing":[{"first_seq":33,"count":1}],"late_events":0,"is_exact":false,"time_quality":"mapped"}]}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_device_is_shown_with_its_gaps_and_nothing_that_a_terminal_obeys() {
        let text = sheet(&device(), 5_000);
        for line in [
            "presence   sleeping, next contact 1970-01-01T00:01:01Z",
            "last seen  1970-01-01T00:00:01Z (4.0 s ago)",
            "firmware   soil\\u{1b} 1.2 abc",
            "kinds      4, as 000000ab",
            "resets     power-on 8, watchdog 1",
            "events     12,345, lost 14, missing 1, late 0",
            "battery    81 %",
            "signal     -70 dBm",
            "boot 7: watchdog, 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z, connections 2",
            "  lost     14: 10 in lower ones, 17-20",
            "  missing  1: 33",
        ] {
            assert!(text.lines().any(|said| said == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains("more gaps at a time"));
    }

    #[test]
    fn the_table_has_a_line_for_each_device_under_its_heading() {
        let list = DeviceList { items: vec![device().item], untracked_records: 3 };
        let text = table(&list, 5_000);
        let lines: Vec<&str> = text.lines().collect();
        let column = |name: &str| lines[0].find(name).unwrap() + name.len();
        for (name, value) in [("events", "12,345"), ("lost", "14"), ("missing", "1"), ("last seen", "4.0 s")]
        {
            assert!(lines[1][..column(name)].ends_with(value), "{name}\n{text}");
        }
        assert!(lines[2].starts_with("3 records of devices beyond the limit"));
        assert!(table(&DeviceList::default(), 0).contains("none: no birth"));
    }
}

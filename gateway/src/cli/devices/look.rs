//! `tidegate devices list` and `show`: what a running gateway knows of its devices, asked over
//! HTTP.

use super::super::{
    Failure,
    ask::{ANSWER_MAX, Gateway, HTTP_DEFAULT},
    people, when,
};
use crate::{
    clock,
    http::{BootItem, DeviceItem, DeviceList, DeviceSheet, FaultItem, Presence, Run},
    printable,
};

/// List the devices: whether they are there, their firmware, and what they lost
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate devices list
  tidegate devices list --json | jq -r '.items[] | select(.missing_events > 0).device'

lost     the device said that it had to drop them
missing  their numbers never came, and nobody spoke of them
late     they came behind a later one")]
pub(super) struct ListArguments {
    #[command(flatten)]
    gateway: Asked,
}

/// Show all that is known of a device: firmware, presence, boots, resets, gaps, signal, battery
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate devices show stall-3\n  tidegate devices show stall-3 --json")]
pub(super) struct ShowArguments {
    /// The device's name
    name: String,
    #[command(flatten)]
    gateway: Asked,
}

#[derive(Debug, clap::Args)]
struct Asked {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    http: String,
    /// For scripts
    #[arg(long)]
    json: bool,
}

pub(super) fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let Asked { http, json } = &arguments.gateway;
    let gateway = Gateway::at(http, ANSWER_MAX);
    let text = gateway.get("/api/devices")?;
    if *json {
        say!("{text}");
        return Ok(());
    }
    let list: DeviceList = gateway.parse(&text)?;
    say!("{}", table(&list, clock::wall_ms()).trim_end());
    Ok(())
}

pub(super) fn show(arguments: &ShowArguments) -> Result<(), Failure> {
    let Asked { http, json } = &arguments.gateway;
    let gateway = Gateway::at(http, ANSWER_MAX);
    let name: String = form_urlencoded::byte_serialize(arguments.name.as_bytes()).collect();
    let text = gateway.get(&format!("/api/devices/{name}"))?;
    if *json {
        say!("{text}");
        return Ok(());
    }
    let sheet: DeviceSheet = gateway.parse(&text)?;
    say!("{}", page(&sheet, clock::wall_ms()).trim_end());
    Ok(())
}

fn table(list: &DeviceList, now_ms: u64) -> String {
    if list.items.is_empty() {
        return "no device of ours was met yet: they publish on tg/<device>/…\n".into();
    }
    let mut text = format!(
        "{:<32}  {:<8}  {:>8}  {:<24}  {:>7}  {:>13}  {:>9}  {:>9}  {:>7}\n",
        "device", "is", "seen", "firmware", "boots", "events", "lost", "missing", "late"
    );
    for item in &list.items {
        text += &format!(
            "{:<32}  {:<8}  {:>8}  {:<24}  {:>7}  {:>13}  {:>9}  {:>9}  {:>7}\n",
            printable::line(&item.device),
            presence(item.presence),
            ago(item.last_seen_ms, now_ms),
            firmware(item),
            people::count(item.boots),
            people::count(item.events),
            people::count(item.lost_events),
            people::count(item.missing_events),
            people::count(item.late_events)
        );
        if item.reused_identities > 0 {
            let events = people::count(item.reused_identities);
            text += &format!(
                "    DUPLICATE IDS: {events} events have the id of another; see \"tidegate devices show\"\n"
            );
        }
    }
    if list.untracked_records > 0 {
        let records = people::count(list.untracked_records);
        text += &format!("and {records} records of devices beyond the limit of what is tracked\n");
    }
    text
}

fn page(sheet: &DeviceSheet, now_ms: u64) -> String {
    let item = &sheet.item;
    let mut lines = vec![
        ("device", printable::line(&item.device).into_owned()),
        ("is", format!("{}, seen {} ago", presence(item.presence), ago(item.last_seen_ms, now_ms))),
    ];
    if let Some(next_ms) = item.next_contact_ms {
        lines.push(("next contact", when::show(next_ms)));
    }
    let unborn = || "unknown: it has sent no birth".to_owned();
    lines.push(("firmware", Some(firmware(item)).filter(|text| !text.is_empty()).unwrap_or_else(unborn)));
    if let (Some(kinds), Some(schema_set)) = (sheet.kinds, sheet.schema_set) {
        lines.push(("kinds", format!("{kinds}, schema set {schema_set:08x}")));
    }
    let resets: Vec<String> =
        sheet.resets.iter().map(|(reason, count)| format!("{} {count}", printable::line(reason))).collect();
    lines.push(("boots", people::count(item.boots)));
    if !resets.is_empty() {
        lines.push(("resets", resets.join(", ")));
    }
    lines.push(("events", people::count(item.events)));
    lines.push(("lost", people::count(item.lost_events)));
    lines.push(("missing", people::count(item.missing_events)));
    lines.push(("late", people::count(item.late_events)));
    lines.push(("times are", item.time_quality.as_str().to_owned()));
    if let Some(percent) = item.battery_percent {
        lines.push(("battery", format!("{percent} %")));
    }
    if let Some(dbm) = item.signal_dbm {
        lines.push(("signal", format!("{dbm} dBm")));
    }
    if item.reused_identities > 0 {
        lines.push(("same numbers", people::count(item.reused_identities)));
        let last = ago(sheet.last_reused_ms, now_ms);
        lines.push((
            "",
            format!("events with the id of another, the last {last} ago: its boot number does not grow"),
        ));
    }
    if let Some(fault) = &sheet.last_fault {
        let FaultItem { sent, why, at_ms } = fault;
        let (at, why) = (ago(*at_ms, now_ms), printable::line(why));
        lines.push(("unreadable", people::count(item.faults)));
        lines.push(("", format!("the last one, {at} ago, was a {}: {why}", sent.as_str())));
    }
    let mut text: String = lines.iter().map(|(what, value)| format!("{what:<14}{value}\n")).collect();
    text += &boots(&sheet.latest_boots);
    text
}

fn boots(boots: &[BootItem]) -> String {
    if boots.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:>10}  {:<10}  {:<20}  {:>12}  {:>9}  {:>9}  {:>7}\n",
        "boot", "reset", "first seen", "events", "lost", "missing", "late"
    );
    for boot in boots {
        text += &format!(
            "{:>10}  {:<10}  {:<20}  {:>12}  {:>9}  {:>9}  {:>7}\n",
            boot.boot,
            printable::line(boot.reset.as_deref().unwrap_or("-")),
            boot.first_ms.map_or_else(|| "-".into(), when::show),
            people::count(boot.events),
            people::count(boot.lost_events),
            people::count(boot.missing_events),
            people::count(boot.late_events)
        );
        for (what, found) in [("lost", &boot.lost), ("missing", &boot.missing)] {
            if !found.is_empty() {
                text += &format!("            {what}: {}\n", runs(found));
            }
        }
        if !boot.is_exact {
            text += "            more gaps than are kept: the oldest are counted and not listed\n";
        }
    }
    text
}

/// `120-179, 200`
fn runs(runs: &[Run]) -> String {
    let text = runs.iter().map(|run| match run.count {
        1 => run.first_seq.to_string(),
        count => format!("{}-{}", run.first_seq, u64::from(run.first_seq) + u64::from(count) - 1),
    });
    text.collect::<Vec<_>>().join(", ")
}

fn firmware(item: &DeviceItem) -> String {
    let parts = [&item.firmware, &item.version, &item.build];
    let parts: Vec<&str> =
        parts.into_iter().flatten().map(String::as_str).filter(|part| !part.is_empty()).collect();
    printable::line(&parts.join(" ")).into_owned()
}

fn ago(ms: Option<u64>, now_ms: u64) -> String {
    ms.map_or_else(|| "-".into(), |ms| people::age(now_ms.saturating_sub(ms) as f64 / 1000.0))
}

/// What needs somebody's eye is in capitals.
fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Unknown => "unknown",
        Presence::Online => "online",
        Presence::Sleeping => "asleep",
        Presence::Offline => "OFFLINE",
        Presence::Silent => "SILENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Quality, Sent};

    fn sheet() -> DeviceSheet {
        let run = |first_seq, count| Run { first_seq, count };
        DeviceSheet {
            item: DeviceItem {
                device: "stall-3".into(),
                presence: Presence::Sleeping,
                last_seen_ms: Some(1_700_000_000_000),
                next_contact_ms: Some(1_700_000_900_000),
                firmware: Some("stall".into()),
                version: Some("1.2.0".into()),
                build: Some("a1b2".into()),
                boot: Some(17),
                connection: Some(2),
                boots: 3,
                events: 12_345,
                lost_events: 60,
                missing_events: 1,
                late_events: 4,
                battery_percent: Some(87),
                signal_dbm: None,
                faults: 2,
                reused_identities: 30,
                time_quality: Quality::Mapped,
            },
            kinds: Some(4),
            schema_set: Some(0x23a0_711c),
            resets: vec![("power-on".into(), 2), ("watchdog".into(), 1)],
            last_fault: Some(FaultItem {
                sent: Sent::Birth,
                why: "byte 87: the message is cut short".into(),
                at_ms: Some(1_700_000_000_000),
            }),
            last_reused_ms: Some(1_700_000_000_000),
            latest_boots: vec![BootItem {
                boot: 17,
                reset: Some("watchdog".into()),
                connections: 2,
                first_ms: Some(1_700_000_000_000),
                last_ms: None,
                frames: 9,
                events: 345,
                highest_seq: Some(405),
                lost_events: 60,
                lost: vec![run(120, 60)],
                missing_events: 1,
                missing: vec![run(200, 1)],
                late_events: 4,
                is_exact: true,
                time_quality: Quality::Mapped,
            }],
        }
    }

    #[test]
    fn a_device_is_shown_with_its_boots_and_its_gaps() {
        let text = page(&sheet(), 1_700_000_012_000);
        for part in [
            "is            asleep, seen 12 s ago\n",
            "next contact  2023-11-14T22:28:20Z\n",
            "firmware      stall 1.2.0 a1b2\n",
            "kinds         4, schema set 23a0711c\n",
            "resets        power-on 2, watchdog 1\n",
            "missing       1\n",
            "battery       87 %\n",
            "unreadable    2\n",
            "same numbers  30\n",
            "events with the id of another, the last 12 s ago: its boot number does not grow\n",
            "the last one, 12 s ago, was a birth: byte 87: the message is cut short\n",
            "            lost: 120-179\n",
            "            missing: 200\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains("signal"), "{text}");
    }

    proptest::proptest! {
        #![proptest_config(crate::printable::hostile::cases())]

        #[test]
        fn no_name_that_a_device_gives_itself_adds_a_line(text in printable::hostile::text()) {
            let mut sheet = sheet();
            let lines = page(&sheet, 0).lines().count();
            sheet.item.device = text.clone();
            sheet.item.firmware = Some(text.clone());
            sheet.item.version = Some(text.clone());
            sheet.item.build = Some(text.clone());
            sheet.resets[0].0 = text.clone();
            sheet.last_fault.as_mut().unwrap().why = text.clone();
            sheet.latest_boots[0].reset = Some(text);
            sheet.item.firmware = Some("x".to_owned() + &sheet.item.firmware.unwrap_or_default());
            printable::hostile::assert_lines(&page(&sheet, 0), lines);
            let list = DeviceList { items: vec![sheet.item], untracked_records: 0 };
            printable::hostile::assert_lines(&table(&list, 0), 3);
        }
    }

    #[test]
    fn the_list_has_a_line_for_each_device() {
        let list = DeviceList { items: vec![sheet().item], untracked_records: 7 };
        let text = table(&list, 1_700_000_012_000);
        let line = text.lines().nth(1).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words,
            ["stall-3", "asleep", "12", "s", "stall", "1.2.0", "a1b2", "3", "12,345", "60", "1", "4"]
        );
        assert!(text.contains("DUPLICATE IDS: 30 events"), "{text}");
        assert!(text.contains("7 records of devices beyond the limit"));
    }
}

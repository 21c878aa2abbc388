//! What the gateway says of itself, and its last will, in every format.

use serde_json::{Value, json};

use super::super::{
    EventContext, FormatName, Template, format::Format, message::Will, settings::Settings,
    template::TopicLimits,
};
use crate::store::StoreIds;

const NOW_MS: u64 = 1_764_000_000_123;

fn will(change: impl FnOnce(&mut Settings)) -> Option<Will> {
    let mut settings = super::settings(1883);
    settings.topic = Template::parse("up/{topic}").unwrap();
    change(&mut settings);
    let mut format = Format::new(&settings, &StoreIds::one(7), &EventContext::default());
    format.will(&settings.gateway_id, NOW_MS)
}

fn in_format(format: FormatName) -> Value {
    let will = will(|settings| settings.format = format).unwrap();
    assert_eq!(will.topic, "up/tidegate/status");
    serde_json::from_slice(&will.payload).unwrap()
}

#[test]
fn the_last_will_is_written_in_the_format_of_the_uplink_and_has_an_id_of_its_own() {
    assert_eq!(in_format(FormatName::Raw), json!({"state": "offline"}));
    let said = in_format(FormatName::Json);
    assert_eq!((&said["type"], &said["device"]), (&json!("status"), &json!("barn-7")));
    assert_eq!(said["data"], json!({"state": "offline"}));
    let number = (1_u64 << 63) | NOW_MS;
    assert!(said["id"].as_str().unwrap().ends_with(&format!("-{number}")), "{said}");
    let said = in_format(FormatName::CloudEvents);
    assert_eq!((&said["data"], &said["specversion"]), (&json!({"state": "offline"}), &json!("1.0")));
    let said = in_format(FormatName::ThingsBoard);
    let expected = json!({"barn-7": [{"ts": NOW_MS, "values": {"status": {"state": "offline"}}}]});
    assert_eq!(said, expected);
}

#[test]
fn the_end_of_a_replay_says_nothing_of_the_gateway() {
    let mut settings = super::settings(1883);
    settings.has_will = true;
    let replay = settings.clone().of_replay("r1");
    assert!(settings.has_will && !replay.has_will);
    assert_eq!(
        (&*replay.name, replay.client_ids()),
        ("cloud (replay r1)", vec!["barn-7-cloud-replay-r1".to_owned()])
    );
}

#[test]
fn there_is_no_will_where_the_upstream_takes_no_such_topic() {
    let short = |settings: &mut Settings| {
        let limits = TopicLimits { bytes_max: 5, ..TopicLimits::MQTT };
        settings.topic = Template::default().within(limits);
    };
    assert_eq!(will(short), None);
    let typed = |settings: &mut Settings| {
        settings.format = FormatName::Json;
        settings.topic = Template::parse("{device}/{type}").unwrap();
    };
    assert_eq!(will(typed).unwrap().topic, "barn-7/status");
}

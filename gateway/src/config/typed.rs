//! The configuration as typed: every key known and of the right type, nothing judged. Positions are kept,
//! so that what is judged later can name its line.

use serde::Deserialize;
use toml::Spanned;

/// A value as text, with its place in the file.
pub(super) type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub gateway: Gateway,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub listener: Vec<Spanned<Listener>>,
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    #[serde(default)]
    pub uplink: Vec<Spanned<Uplink>>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub id: Text,
    pub data_dir: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Store {
    pub segment_bytes: Option<Text>,
    pub retain: Option<Text>,
    pub wear_budget: Option<Text>,
    pub linger_max: Option<Text>,
    pub max_bytes: Option<Text>,
    pub when_full: Option<Text>,
    pub endurance: Option<Text>,
    pub dead_letters_max_bytes: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub address: Option<Text>,
    pub anonymous: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub filter: Text,
    pub payload: Option<Text>,
    pub class: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    pub name: Text,
    pub url: Text,
    pub protocol: Option<Text>,
    pub topic: Option<Text>,
    pub commands: Option<Text>,
    pub format: Option<Text>,
    pub window: Option<Spanned<i64>>,
    pub max_packet_bytes: Option<Text>,
    pub user: Option<Text>,
    pub password_file: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub address: Option<Text>,
}

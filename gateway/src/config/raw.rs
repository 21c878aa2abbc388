//! The configuration as written: every key known and of the right type, nothing judged. Positions
//! are kept, so that what is judged later can name its line.

use serde::Deserialize;
use toml::Spanned;

use crate::{keys::Text, uplink};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub gateway: Gateway,
    #[serde(default)]
    pub store: Store,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub access: Access,
    #[serde(default)]
    pub listener: Vec<Spanned<Listener>>,
    #[serde(default)]
    pub route: Vec<Spanned<Route>>,
    #[serde(default)]
    pub uplink: Vec<Spanned<uplink::Keys>>,
    #[serde(default)]
    pub http: Http,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    pub id: Text,
    pub data_dir: Option<Text>,
    pub health_interval: Option<Text>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub connections: Option<Spanned<i64>>,
    pub connections_per_second: Option<Spanned<i64>>,
    pub connections_per_address: Option<Spanned<i64>>,
    pub connect_timeout: Option<Text>,
    pub tls_timeout: Option<Text>,
    pub write_timeout: Option<Text>,
    pub keep_alive_max: Option<Text>,
    pub packet_bytes: Option<Text>,
    pub inflight: Option<Spanned<i64>>,
    pub publishes_per_second: Option<Spanned<i64>>,
    pub bytes_per_second: Option<Text>,
    pub topic_bytes: Option<Text>,
    pub topic_levels: Option<Spanned<i64>>,
    pub subscriptions: Option<Spanned<i64>>,
    pub sessions: Option<Spanned<i64>>,
    pub queued_messages: Option<Spanned<i64>>,
    pub queued_bytes: Option<Text>,
    pub retained_messages: Option<Spanned<i64>>,
    pub retained_bytes: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Access {
    pub users: Option<Text>,
    pub acl: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Listener {
    pub address: Option<Text>,
    pub protocol: Option<Text>,
    pub anonymous: Option<Spanned<bool>>,
    pub tls: Option<Spanned<Tls>>,
    pub max_record_bytes: Option<Spanned<i64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub cert: Text,
    pub key: Text,
    pub client_ca: Option<Text>,
    pub client_cert: Option<Text>,
    pub crl: Option<Text>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub filter: Text,
    pub payload: Option<Text>,
    pub device: Option<Text>,
    pub class: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    pub address: Option<Text>,
}

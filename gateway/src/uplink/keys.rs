//! The keys of an uplink as they are typed, those of all engines.

use std::ops::Range;

use super::engine::{
    dial::keys::{LayerKeys, TlsKeys},
    nats,
};
use crate::keys::{Spanned, Text};
use serde::Deserialize;

/// `[[uplink]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub(crate) name: Text,
    pub(crate) url: Text,
    pub(super) platform: Option<Text>,
    pub(super) protocol: Option<Text>,
    pub(super) topic: Option<Text>,
    pub(super) commands: Option<Text>,
    pub(super) format: Option<Text>,
    pub(super) values: Option<Text>,
    pub(super) wait_for_birth: Option<Text>,
    pub(super) window: Option<Spanned<i64>>,
    pub(super) events_per_second: Option<Spanned<i64>>,
    pub(super) bytes_per_second: Option<Text>,
    pub(super) inflight_bytes: Option<Text>,
    pub(super) ack_timeout: Option<Text>,
    pub(super) send: Option<Text>,
    pub(super) max_packet_bytes: Option<Text>,
    pub(super) client_id: Option<Text>,
    pub(super) qos: Option<Spanned<i64>>,
    pub(super) retain: Option<Text>,
    pub(super) keep_alive: Option<Text>,
    pub(super) session_expiry: Option<Text>,
    pub(super) user: Option<Text>,
    pub(super) password_file: Option<Text>,
    pub(super) azure_key_file: Option<Text>,
    pub(super) renew: Option<Text>,
    pub(super) tls: Option<Spanned<TlsKeys>>,
    pub(super) proxy: Option<Text>,
    pub(super) proxy_user: Option<Text>,
    pub(super) proxy_password_file: Option<Text>,
    pub(super) nats: Option<Spanned<nats::Keys>>,
}

impl Keys {
    /// The keys of what lies below an engine's protocol.
    pub(super) fn layers(&self) -> LayerKeys<'_> {
        LayerKeys {
            tls: self.tls.as_ref(),
            proxy: self.proxy.as_ref(),
            proxy_user: self.proxy_user.as_ref(),
            proxy_password_file: self.proxy_password_file.as_ref(),
        }
    }

    /// The keys that one engine alone knows: the first of its schemes, and where they stand.
    pub(super) fn of_one_engine(&self) -> impl Iterator<Item = (&'static str, Range<usize>)> {
        let text = |text: &Option<Text>| text.as_ref().map(Spanned::span);
        [
            ("mqtt", text(&self.platform)),
            ("mqtt", text(&self.protocol)),
            ("mqtt", text(&self.commands)),
            ("mqtt", text(&self.max_packet_bytes)),
            ("mqtt", text(&self.azure_key_file)),
            ("mqtt", self.qos.as_ref().map(Spanned::span)),
            ("mqtt", text(&self.retain)),
            ("mqtt", text(&self.keep_alive)),
            ("mqtt", text(&self.session_expiry)),
            ("nats", self.nats.as_ref().map(Spanned::span)),
        ]
        .into_iter()
        .filter_map(|(engine, span)| Some((engine, span?)))
    }
}

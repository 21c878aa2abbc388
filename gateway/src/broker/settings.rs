//! The limits of local subscribers, with every default and the reason for it.
//!
//! `config` fills these in; nothing here reads a file.

use crate::{mqtt::topics, routing::Route};

/// Sessions remembered while their client is away, by default: more, and the oldest is forgotten.
pub const SESSIONS_MAX: usize = 10_000;
/// Subscriptions per client, by default: Home Assistant has a thousand, one by one. What all of
/// them take is bounded beside that, by bytes.
pub const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Messages queued for one session, by default.
pub const QUEUED_MESSAGES_MAX: usize = 1000;
/// Bytes queued for one session, by default.
pub const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// Retained messages, by default.
pub const RETAINED_MESSAGES_MAX: usize = 10_000;
/// Bytes of the retained messages, by default.
pub const RETAINED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of all subscriptions together: ten thousand devices with one of their own each.
pub const SUBSCRIPTIONS_BYTES_MAX: usize = 12 * 1024 * 1024;

/// How much may be kept for local subscribers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What topics and filters may be.
    pub topics: topics::TopicLimits,
    /// Subscriptions per client.
    pub subscriptions_max: usize,
    /// Sessions kept while their client is away.
    pub sessions_max: usize,
    /// Messages queued for one session.
    pub queued_messages_max: usize,
    /// Bytes queued for one session.
    pub queued_bytes_max: usize,
    /// Retained messages.
    pub retained_messages_max: usize,
    /// Bytes of the retained messages.
    pub retained_bytes_max: usize,
    /// What becomes of a will's topic outside `tg/`, the first match deciding.
    pub routes: Vec<Route>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            topics: topics::TopicLimits::default(),
            subscriptions_max: SUBSCRIPTIONS_MAX,
            sessions_max: SESSIONS_MAX,
            queued_messages_max: QUEUED_MESSAGES_MAX,
            queued_bytes_max: QUEUED_BYTES_MAX,
            retained_messages_max: RETAINED_MESSAGES_MAX,
            retained_bytes_max: RETAINED_BYTES_MAX,
            routes: Vec::new(),
        }
    }
}

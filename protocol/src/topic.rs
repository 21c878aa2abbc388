//! The topics of a device: `tg/<device>/<leaf>`. One level names the device and one the kind of
//! message, so that an access rule is a single pattern such as `tg/<device>/#`.
//!
//! Limits: at most [`TOPIC_BYTES_MAX`](crate::limits::TOPIC_BYTES_MAX) bytes. What it does not do:
//! foreign devices keep topics of their own, which are [`TopicError::Foreign`] here.

use crate::identity::{DeviceName, NameError};

const PREFIX: &str = "tg/";

/// What a topic carries: its last level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// `e`: frames of events, from the device.
    Events,
    /// `b`: the birth, retained: firmware and kinds, from the device.
    Birth,
    /// `s`: status and last will, from the device.
    Status,
    /// `c`: commands, to the device.
    Command,
    /// `r`: replies to commands, from the device.
    Reply,
}

impl Leaf {
    /// The topic level.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Leaf::Events => "e",
            Leaf::Birth => "b",
            Leaf::Status => "s",
            Leaf::Command => "c",
            Leaf::Reply => "r",
        }
    }

    fn from_level(level: &str) -> Option<Self> {
        [Leaf::Events, Leaf::Birth, Leaf::Status, Leaf::Command, Leaf::Reply]
            .into_iter()
            .find(|leaf| leaf.level() == level)
    }
}

/// A device's topic: `tg/<device>/<leaf>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Topic<'a> {
    /// Whose.
    pub device: DeviceName<'a>,
    /// What it carries.
    pub leaf: Leaf,
}

impl<'a> Topic<'a> {
    /// Reads a topic name (not a filter: wildcards are not part of a device name).
    ///
    /// # Errors
    /// [`TopicError::Foreign`] for a topic outside `tg/`; the others for one inside it that is none
    /// of ours.
    pub fn parse(topic: &'a str) -> Result<Self, TopicError> {
        let rest = topic.strip_prefix(PREFIX).ok_or(TopicError::Foreign)?;
        let (device, leaf) = rest.split_once('/').ok_or(TopicError::Leaf)?;
        let device = DeviceName::new(device)?;
        let leaf = Leaf::from_level(leaf).ok_or(TopicError::Leaf)?;
        Ok(Self { device, leaf })
    }

    /// Writes the topic to the start of `out` and gives it back as text.
    /// [`TOPIC_BYTES_MAX`](crate::limits::TOPIC_BYTES_MAX) bytes are always enough.
    ///
    /// # Errors
    /// [`TopicError::BufferTooSmall`]; `out` is then as it was.
    pub fn write<'b>(&self, out: &'b mut [u8]) -> Result<&'b str, TopicError> {
        let parts = [PREFIX, self.device.as_str(), "/", self.leaf.level()];
        let needed: usize = parts.iter().map(|part| part.len()).sum();
        let out = out.get_mut(..needed).ok_or(TopicError::BufferTooSmall { needed })?;
        let mut at = 0;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part.as_bytes());
            at += part.len();
        }
        Ok(core::str::from_utf8(out).expect("invariant: four pieces of ASCII text in a row"))
    }
}

/// A text is not a device's topic, or there is no room to write one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It does not start with `tg/`: look for a route that takes it.
    #[error("the topic does not start with tg/")]
    Foreign,
    /// The second level is not a device name.
    #[error("the topic's second level is not a device name: {0}")]
    Device(#[from] NameError),
    /// There is not exactly one level after the device, or it is none of `e b s c r`.
    #[error("the topic must end in /e, /b, /s, /c or /r after the device")]
    Leaf,
    /// The buffer is too small; it was left as it was.
    #[error("the topic needs {needed} bytes")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
    },
}

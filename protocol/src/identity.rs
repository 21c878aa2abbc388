//! Who sent what: a device's name and an event's number. Together, `(device, boot, seq)` names an
//! event for ever: the gateway's duplicate check and every uplink's message id are made of it.
//!
//! Limits: a name has 1 to [`DEVICE_BYTES_MAX`] bytes of `[a-z0-9-]`, so that it can stand in a
//! topic, a file name, a URL and a metric label without quoting.

use core::fmt;

use crate::limits::DEVICE_BYTES_MAX;

/// A device's name: 1 to 32 of `a` to `z`, `0` to `9`, `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceName<'a>(&'a str);

impl<'a> DeviceName<'a> {
    /// Checks `name`.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong and where.
    pub const fn new(name: &'a str) -> Result<Self, NameError> {
        let bytes = name.as_bytes();
        if bytes.is_empty() {
            return Err(NameError::Empty);
        }
        if bytes.len() > DEVICE_BYTES_MAX {
            return Err(NameError::TooLong { bytes: bytes.len() });
        }
        let mut at = 0;
        while at < bytes.len() {
            if !matches!(bytes[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
                return Err(NameError::Byte { at, byte: bytes[at] });
            }
            at += 1;
        }
        Ok(Self(name))
    }

    /// The name as text.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Display for DeviceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A text is not a device name. Nothing was kept; choose another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no text.
    #[error("a device name must not be empty")]
    Empty,
    /// More than [`DEVICE_BYTES_MAX`] bytes.
    #[error("a device name has at most {DEVICE_BYTES_MAX} bytes, this one has {bytes}")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// A byte outside `[a-z0-9-]`.
    #[error("a device name is made of a-z, 0-9 and -, but byte {at} is {byte:#04x}")]
    Byte {
        /// Its place, from 0.
        at: usize,
        /// The byte.
        byte: u8,
    },
}

/// An event's number within its device. Shown as `boot-seq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Grows by one at every start of the device.
    pub boot: u32,
    /// Counts the events of that boot from 0.
    pub seq: u32,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.seq)
    }
}

//! What a device says of itself: its birth, its status, its will.
//!
//! Purpose: one place that turns settings and the moment into bytes. They are made when they are
//! sent and never kept: what a device was like is no event.
//!
//! ```text
//!  CONNECT ─ will: offline ┐
//!  CONNACK ◀───────────────┘ birth (retained) ─▶ frames, a status now and then ─▶ stopping or sleeping ─ DISCONNECT
//! ```
//!
//! Limits: a birth fits into the storage's `OUT` bytes, which [`run`](super::run) checks at compile
//! time.
//!
//! What it does not do: it sends nothing and reads no clock.

use tidegate_protocol::limits::{
    BUILD_BYTES_MAX, FIRMWARE_BYTES_MAX, FIRMWARE_VERSION_BYTES_MAX, STATUS_BYTES_MAX,
};
use tidegate_protocol::{Birth, Kind, Kinds, State, Status};

use super::Settings;

/// What runs on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware<'f> {
    name: &'f str,
    version: &'f str,
    build: &'f str,
}

impl<'f> Firmware<'f> {
    /// A firmware's name, version, and which build of it (a commit, a hash, a date), in plain
    /// ASCII.
    ///
    /// # Panics
    /// When one is longer than 64, 32 and 64 bytes, or has other characters; in a constant, that is
    /// a compile error.
    #[must_use]
    pub const fn new(name: &'f str, version: &'f str, build: &'f str) -> Self {
        assert!(
            is_plain(name, FIRMWARE_BYTES_MAX),
            "the firmware's name has at most 64 printable ASCII characters"
        );
        assert!(
            is_plain(version, FIRMWARE_VERSION_BYTES_MAX),
            "the version has at most 32 printable ASCII characters"
        );
        assert!(is_plain(build, BUILD_BYTES_MAX), "the build has at most 64 printable ASCII characters");
        Firmware { name, version, build }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'f str {
        self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> &'f str {
        self.version
    }

    /// Which build of it.
    #[must_use]
    pub const fn build(&self) -> &'f str {
        self.build
    }
}

const fn is_plain(text: &str, bytes_max: usize) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !matches!(text.as_bytes()[at], b' '..=b'~') {
            return false;
        }
        at += 1;
    }
    text.len() <= bytes_max
}

/// What the core knows of its device.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'s> {
    pub(super) settings: &'s Settings<'s>,
    pub(super) kinds: &'static [Kind],
    /// Which CONNECT of this boot, from 1.
    pub(super) connection: u32,
}

impl About<'_> {
    /// Writes the birth of this moment to `out`, which is long enough for it.
    pub(super) fn birth<'o>(&self, uptime_ms: u64, wall_ms: Option<u64>, out: &'o mut [u8]) -> &'o [u8] {
        let Firmware { name, version, build } = self.settings.firmware;
        let birth = Birth {
            boot: self.settings.boot,
            connection: self.connection,
            uptime_ms,
            wall_ms,
            reset: self.settings.reset,
            firmware: name,
            version,
            build,
            kinds: Kinds::new(self.kinds),
        };
        birth.write(out).expect("invariant: run and Firmware::new have checked every length")
    }

    /// Writes the status of this moment to `out`.
    pub(super) fn status<'o>(
        &self,
        state: State,
        uptime_ms: u64,
        wall_ms: Option<u64>,
        next_contact_s: Option<u32>,
        out: &'o mut [u8; STATUS_BYTES_MAX],
    ) -> &'o [u8] {
        let status = Status {
            boot: self.settings.boot,
            connection: self.connection,
            state,
            uptime_ms,
            wall_ms,
            next_contact_s,
            battery_percent: None,
            signal_dbm: None,
        };
        status.write(out).expect("invariant: any status fits in STATUS_BYTES_MAX")
    }
}

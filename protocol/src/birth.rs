//! The birth of a device: who it is and what its events mean, said first after every connection.
//!
//! ```text
//!  byte 0        version << 4 | kind of message (2: birth)
//!  byte 1        flags: 0
//!  varint        boot        (u32)
//!  varint        connection  (u32) which of this boot, from 1
//!  varint        uptime_ms   (u64) of this moment
//!  0 | 1 varint  wall_ms     (u64) the device's own clock, UTC
//!  byte          reset reason
//!  str           firmware, version, build
//!  byte          count, 1 to 32
//!  count times   varint length, definition ([`crate::definition`]), in the order of the kind indexes
//! ```
//!
//! Limits: [`BIRTH_BYTES_MAX`]; texts of [`FIRMWARE_BYTES_MAX`], [`FIRMWARE_VERSION_BYTES_MAX`] and
//! [`BUILD_BYTES_MAX`]. A reader allocates nothing and reads each byte once.
//!
//! What it does not do: it looks at the head of each definition only. Whether the rest can be
//! understood is the business of whoever decodes by it.

use core::fmt;

use crate::definition::{DefinitionHead, Kind};
use crate::events::LOSS_KIND;
use crate::frame::VERSION;
use crate::limits::{
    BIRTH_BYTES_MAX, BIRTH_HEAD_BYTES_MAX, BUILD_BYTES_MAX, DEFINITION_BYTES_MAX, FIRMWARE_BYTES_MAX,
    FIRMWARE_VERSION_BYTES_MAX, KINDS_MAX,
};
use crate::message::{Cursor, MessageCause, MessageError, at};
use crate::pen::Pen;
use crate::schema_set::SchemaSet;
use crate::units::same;

/// The kind of message in a birth's first byte.
const BIRTH: u8 = 2;
/// What stands first in every list of kinds.
const FIRST: (&str, u8) = ("loss", 1);

const _: () = assert!(LOSS_KIND == 0);

/// Why the device started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetReason {
    /// It does not know.
    #[default]
    Unknown,
    /// The power came on.
    PowerOn,
    /// The reset pin.
    Pin,
    /// The firmware asked for it.
    Software,
    /// A watchdog was not fed.
    Watchdog,
    /// The supply voltage fell too low.
    BrownOut,
    /// The firmware panicked.
    Panic,
    /// It slept, and woke.
    Wake,
    /// New firmware was installed.
    Update,
}

impl ResetReason {
    const ALL: [ResetReason; 9] = [
        ResetReason::Unknown,
        ResetReason::PowerOn,
        ResetReason::Pin,
        ResetReason::Software,
        ResetReason::Watchdog,
        ResetReason::BrownOut,
        ResetReason::Panic,
        ResetReason::Wake,
        ResetReason::Update,
    ];

    /// The reason that `number` stands for on the wire.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// In words, as it is shown to people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            ResetReason::Unknown => "unknown",
            ResetReason::PowerOn => "power-on",
            ResetReason::Pin => "pin",
            ResetReason::Software => "software",
            ResetReason::Watchdog => "watchdog",
            ResetReason::BrownOut => "brown-out",
            ResetReason::Panic => "panic",
            ResetReason::Wake => "wake",
            ResetReason::Update => "update",
        }
    }
}

impl fmt::Display for ResetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A birth message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth<'a> {
    /// The device's boot number.
    pub boot: u32,
    /// Which connection of this boot, from 1.
    pub connection: u32,
    /// The uptime of this moment, in milliseconds.
    pub uptime_ms: u64,
    /// The device's own clock, UTC, in milliseconds, if it is set.
    pub wall_ms: Option<u64>,
    /// Why this boot began.
    pub reset: ResetReason,
    /// The firmware's name.
    pub firmware: &'a str,
    /// The firmware's version.
    pub version: &'a str,
    /// Which build of it: a commit, a hash, a date.
    pub build: &'a str,
    /// The kinds of its events, in the order of their indexes. The first is `loss` 1.
    pub kinds: Kinds<'a>,
}

impl<'a> Birth<'a> {
    /// Reads a birth.
    ///
    /// # Errors
    /// [`MessageError`]: the bytes are no birth of this version.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut cursor = Cursor::open(bytes, BIRTH, BIRTH_BYTES_MAX)?;
        Ok(Birth {
            boot: cursor.u32()?,
            connection: cursor.u32()?,
            uptime_ms: cursor.varint()?,
            wall_ms: cursor.option(Cursor::varint)?,
            reset: cursor.meaning(ResetReason::from_number)?,
            firmware: cursor.text(FIRMWARE_BYTES_MAX)?,
            version: cursor.text(FIRMWARE_VERSION_BYTES_MAX)?,
            build: cursor.text(BUILD_BYTES_MAX)?,
            kinds: Kinds::parse(cursor)?,
        })
    }

    /// Writes the birth to the start of `out`. [`birth_bytes_max`] bytes are always enough for its
    /// kinds.
    ///
    /// # Errors
    /// [`MessageCause::BufferTooSmall`]; [`MessageCause::Length`] for a text or a definition over
    /// its limit, [`MessageCause::Kinds`] and [`MessageCause::FirstKind`] for a list that no device
    /// may have.
    pub fn write<'o>(&self, out: &'o mut [u8]) -> Result<&'o [u8], MessageError> {
        let count = self.kinds.len();
        if count == 0 || count > KINDS_MAX {
            return Err(at(0, MessageCause::Kinds { found: count }));
        }
        let mut pen = Pen::new(out);
        pen.byte(VERSION << 4 | BIRTH);
        pen.byte(0);
        pen.varint(self.boot as u64);
        pen.varint(self.connection as u64);
        pen.varint(self.uptime_ms);
        pen.option(self.wall_ms);
        pen.byte(self.reset.number());
        let texts = [
            (self.firmware, FIRMWARE_BYTES_MAX),
            (self.version, FIRMWARE_VERSION_BYTES_MAX),
            (self.build, BUILD_BYTES_MAX),
        ];
        for (text, bytes_max) in texts {
            within(text.len(), bytes_max, pen.at())?;
            pen.counted(text.as_bytes());
        }
        pen.byte(count as u8);
        for (index, definition) in self.kinds.iter().enumerate() {
            if index == 0 {
                first_kind(definition, pen.at())?;
            }
            within(definition.len(), DEFINITION_BYTES_MAX, pen.at())?;
            pen.counted(definition);
        }
        let needed = pen.at();
        pen.finish().ok_or(at(0, MessageCause::BufferTooSmall { needed }))
    }
}

/// The longest birth of a device with these kinds, in bytes.
#[must_use]
pub const fn birth_bytes_max(kinds: &[Kind]) -> usize {
    let mut bytes = BIRTH_HEAD_BYTES_MAX;
    let mut kind = 0;
    while kind < kinds.len() {
        // A definition has at most 2 KB, whose length is a varint of two bytes.
        bytes += 2 + kinds[kind].definition.len();
        kind += 1;
    }
    bytes
}

/// Whether these may be the kinds of a device: 1 to 32, the first `loss` 1.
#[must_use]
pub const fn are_kinds(kinds: &[Kind]) -> bool {
    if kinds.is_empty() || kinds.len() > KINDS_MAX {
        return false;
    }
    same(kinds[0].name, FIRST.0) && kinds[0].version == FIRST.1
}

/// The index of a kind in a device's list, if it is there.
#[must_use]
pub const fn kind_index(kinds: &[Kind], kind: &Kind) -> Option<u8> {
    let mut index = 0;
    while index < kinds.len() && index < KINDS_MAX {
        if same(kinds[index].name, kind.name) && kinds[index].version == kind.version {
            return Some(index as u8);
        }
        index += 1;
    }
    None
}

/// The definitions of a device's kinds, in the order of their indexes.
#[derive(Clone, Copy)]
pub struct Kinds<'a>(List<'a>);

#[derive(Clone, Copy)]
enum List<'a> {
    /// Read: so many, each with its length in front; all of them checked.
    Read { bytes: &'a [u8], count: usize },
    /// Of this device.
    Own(&'a [Kind]),
}

impl<'a> Kinds<'a> {
    /// The kinds of this device.
    #[must_use]
    pub const fn new(kinds: &'a [Kind]) -> Self {
        Kinds(List::Own(kinds))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.0 {
            List::Read { count, .. } => count,
            List::Own(kinds) => kinds.len(),
        }
    }

    /// Whether there are none. A birth that was read has some.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The definitions' bytes.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let list = self.0;
        let mut cursor = Cursor::new(match list {
            List::Read { bytes, .. } => bytes,
            List::Own(_) => &[],
        });
        (0..self.len()).map_while(move |index| match list {
            List::Read { .. } => cursor.counted(DEFINITION_BYTES_MAX).ok(),
            List::Own(kinds) => Some(kinds[index].definition),
        })
    }

    /// The fingerprint that the device's frames carry: [`schema_set`](crate::schema_set) over these
    /// kinds.
    #[must_use]
    pub fn schema_set(&self) -> u32 {
        let heads = self.iter().filter_map(|definition| DefinitionHead::parse(definition).ok());
        heads.fold(SchemaSet::new(), |set, head| set.with(head.name, head.version)).value()
    }

    fn parse(mut cursor: Cursor<'a>) -> Result<Self, MessageError> {
        let start = cursor.at();
        let count = usize::from(cursor.byte()?);
        if count == 0 || count > KINDS_MAX {
            return Err(at(start, MessageCause::Kinds { found: count }));
        }
        let first_at = cursor.at();
        let list = cursor.clone().rest();
        for index in 0..count {
            let definition_at = cursor.at();
            let definition = cursor.counted(DEFINITION_BYTES_MAX)?;
            let inner_at = cursor.at() - definition.len();
            DefinitionHead::parse(definition).map_err(|error| at(inner_at + error.at, error.cause))?;
            if index == 0 {
                first_kind(definition, definition_at)?;
            }
        }
        cursor.end()?;
        let bytes = &list[..cursor.at() - first_at];
        Ok(Kinds(List::Read { bytes, count }))
    }
}

impl PartialEq for Kinds<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Kinds<'_> {}

impl fmt::Debug for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(DefinitionHead::parse)).finish()
    }
}

/// Whether what is written from `place` on is not longer than it may be.
fn within(bytes: usize, bytes_max: usize, place: usize) -> Result<(), MessageError> {
    if bytes <= bytes_max { Ok(()) } else { Err(at(place, MessageCause::Length { bytes, bytes_max })) }
}

/// Whether `definition` may stand at index 0; it begins at `place`.
fn first_kind(definition: &[u8], place: usize) -> Result<(), MessageError> {
    match DefinitionHead::parse(definition) {
        Ok(head) if (head.name, head.version) == FIRST => Ok(()),
        _ => Err(at(place, MessageCause::FirstKind)),
    }
}

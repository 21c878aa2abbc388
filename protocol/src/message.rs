//! Why the bytes of a birth, a status or a definition are none, and the reader that they share.
//!
//! Limits: nothing is allocated or copied, and no text is longer than the limit that its caller
//! names. Every error has the place of the byte where it begins.

use crate::frame::VERSION;
use crate::varint::{self, Bad};

/// Bytes are not the message they should be. Nothing was taken from them: keep the bytes and look
/// at the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {cause}")]
pub struct MessageError {
    /// The place of the byte, from 0. In a definition inside of a birth, from the birth's start.
    pub at: usize,
    /// What is wrong there.
    pub cause: MessageCause,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageCause {
    /// Longer than any message of this kind.
    #[error("the message has {bytes} bytes, more than {bytes_max}")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The longest, in bytes.
        bytes_max: usize,
    },
    /// The bytes end here, and there should be more.
    #[error("the message is cut short")]
    Truncated,
    /// A version that this program does not know: it is older than the device.
    #[error("the message has version {found}, this program reads version {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Another kind of message.
    #[error("the message is of kind {found}, not of kind {expected}")]
    MessageKind {
        /// The kind found.
        found: u8,
        /// The kind that was to be read: 2 birth, 3 status.
        expected: u8,
    },
    /// Flags that have no meaning in this version.
    #[error("the message has the flags {found:#04x}, of which none has a meaning")]
    Flags {
        /// The flags found.
        found: u8,
    },
    /// A number that is spelled longer than needed or does not fit its field.
    #[error("a number is malformed or too large for its field")]
    Number,
    /// Neither 0 (not there) nor 1 (there).
    #[error("an optional value begins with {found}, not with 0 or 1")]
    Presence {
        /// The byte found.
        found: u8,
    },
    /// A text, or a definition, is longer than its limit.
    #[error("a length of {bytes} is over the limit of {bytes_max}")]
    Length {
        /// The length found, in bytes.
        bytes: usize,
        /// The longest, in bytes.
        bytes_max: usize,
    },
    /// A text is not UTF-8, or has a control character.
    #[error("a text is not plain UTF-8")]
    Text,
    /// A number that stands for nothing, such as an unknown reset reason or state.
    #[error("{found} stands for nothing here")]
    Meaning {
        /// The number found.
        found: u8,
    },
    /// No kinds, or more than 32.
    #[error("{found} kinds, but a device has 1 to 32")]
    Kinds {
        /// How many.
        found: usize,
    },
    /// The first kind is not `loss` 1.
    #[error("the first kind is not loss version 1")]
    FirstKind,
    /// A definition in a format that this program does not know.
    #[error("the definition has format {found}, this program reads format 1")]
    Format {
        /// The format found.
        found: u8,
    },
    /// The name of a kind is not 1 to 32 of `[a-z0-9_-]`.
    #[error("the name of a kind is 1 to 32 of a-z, 0-9, _ and -")]
    KindName,
    /// Bytes after the end.
    #[error("{bytes} bytes are left after the end")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The buffer to write to is too small; what is in it is of no use.
    #[error("the message needs {needed} bytes")]
    BufferTooSmall {
        /// Bytes needed.
        needed: usize,
    },
}

/// Reads a message from its start to its end.
#[derive(Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Cursor { bytes, at: 0 }
    }

    /// A message of version 1 and of this kind, without flags, of at most `bytes_max` bytes; stands
    /// behind that.
    pub(crate) fn open(bytes: &'a [u8], kind: u8, bytes_max: usize) -> Result<Self, MessageError> {
        let mut cursor = Cursor::new(bytes);
        if bytes.len() > bytes_max {
            return Err(cursor.fail(MessageCause::TooLong { bytes: bytes.len(), bytes_max }));
        }
        let first = cursor.byte()?;
        if first >> 4 != VERSION {
            return Err(at(0, MessageCause::Version { found: first >> 4 }));
        }
        if first & 0x0f != kind {
            return Err(at(0, MessageCause::MessageKind { found: first & 0x0f, expected: kind }));
        }
        match cursor.byte()? {
            0 => Ok(cursor),
            found => Err(at(1, MessageCause::Flags { found })),
        }
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// An error at the byte that comes next.
    pub(crate) const fn fail(&self, cause: MessageCause) -> MessageError {
        at(self.at, cause)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, MessageError> {
        let byte = *self.bytes.get(self.at).ok_or(self.fail(MessageCause::Truncated))?;
        self.at += 1;
        Ok(byte)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, MessageError> {
        let (value, end) = varint::read(self.bytes, self.at).map_err(|bad| match bad {
            Bad::Truncated => at(self.bytes.len(), MessageCause::Truncated),
            Bad::Malformed => self.fail(MessageCause::Number),
        })?;
        self.at = end;
        Ok(value)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, MessageError> {
        let start = self.at;
        u32::try_from(self.varint()?).map_err(|_| at(start, MessageCause::Number))
    }

    /// A byte whose meaning `read` knows.
    pub(crate) fn meaning<T>(&mut self, read: impl Fn(u8) -> Option<T>) -> Result<T, MessageError> {
        let start = self.at;
        let found = self.byte()?;
        read(found).ok_or(at(start, MessageCause::Meaning { found }))
    }

    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, MessageError>,
    ) -> Result<Option<T>, MessageError> {
        let start = self.at;
        match self.byte()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            found => Err(at(start, MessageCause::Presence { found })),
        }
    }

    /// A length and as many bytes.
    pub(crate) fn counted(&mut self, bytes_max: usize) -> Result<&'a [u8], MessageError> {
        let start = self.at;
        let bytes = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        if bytes > bytes_max {
            return Err(at(start, MessageCause::Length { bytes, bytes_max }));
        }
        let rest = &self.bytes[self.at..];
        let counted = rest.get(..bytes).ok_or(at(self.bytes.len(), MessageCause::Truncated))?;
        self.at += bytes;
        Ok(counted)
    }

    pub(crate) fn text(&mut self, bytes_max: usize) -> Result<&'a str, MessageError> {
        let start = self.at;
        let text = core::str::from_utf8(self.counted(bytes_max)?).ok();
        text.filter(|text| !text.contains(char::is_control)).ok_or(at(start, MessageCause::Text))
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The message ends here.
    pub(crate) fn end(&self) -> Result<(), MessageError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            bytes => Err(self.fail(MessageCause::Trailing { bytes })),
        }
    }
}

pub(crate) const fn at(at: usize, cause: MessageCause) -> MessageError {
    MessageError { at, cause }
}

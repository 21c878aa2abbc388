//! Kinds that are known, and lists of them: shared by all devices that announce the same.
//!
//! Limits: those of a definition; a list has 32 kinds at most.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tidegate_protocol::limits::DEFINITION_BYTES_MAX;

use super::{
    decoder::Decoder,
    definition::{BadDefinition, Definition},
};

/// SHA-256: of a definition's bytes, or of the hashes of a list of kinds.
pub type Hash = [u8; 32];

/// Hexadecimal digits of a definition's hash that are shown: enough to tell all definitions of a
/// fleet apart.
pub const HASH_DIGITS: usize = 12;

/// A kind of event, ready to be decoded.
#[derive(Debug)]
pub struct KnownKind {
    /// Its name.
    pub name: Box<str>,
    /// Its version.
    pub version: u8,
    /// SHA-256 of the definition: the kind's name for ever.
    pub hash: Hash,
    /// The definition as it was announced.
    pub definition: Box<[u8]>,
    /// Reads its bodies.
    pub decoder: Decoder,
}

impl KnownKind {
    /// Reads a definition.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn new(definition: &[u8]) -> Result<Self, BadDefinition> {
        let read = Definition::parse(definition)?;
        Ok(Self {
            decoder: Decoder::new(&read),
            name: read.name.into(),
            version: read.version,
            hash: hash(definition),
            definition: definition.into(),
        })
    }

    /// `name@version`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The memory that it takes, in bytes, with its place in the catalog.
    pub(super) fn held_bytes(&self) -> usize {
        // A reference count, its places in two tables that are at most half full, and what each
        // allocation wastes.
        const PLACES: usize = size_of::<(Hash, Arc<KnownKind>)>() + size_of::<((Box<str>, u8), Hash)>();
        const BESIDES: usize = 16 + 2 * PLACES + 6 * 16;
        size_of::<Self>() + 2 * self.name.len() + self.definition.len() + self.decoder.held_bytes() + BESIDES
    }
}

/// The kinds of a device in the order of their indexes.
#[derive(Debug)]
pub struct KindSet {
    pub(super) hash: Hash,
    pub(super) kinds: Box<[Arc<KnownKind>]>,
}

impl KindSet {
    pub(super) fn new(kinds: Box<[Arc<KnownKind>]>) -> Self {
        let mut all = Sha256::new();
        kinds.iter().for_each(|kind| all.update(kind.hash));
        Self { hash: all.finalize().into(), kinds }
    }

    /// The kind with this index.
    #[must_use]
    pub fn kind(&self, index: u8) -> Option<&Arc<KnownKind>> {
        self.kinds.get(usize::from(index))
    }

    /// Whether these are the definitions, by index.
    pub(super) fn is_of(&self, definitions: &[&[u8]]) -> bool {
        self.kinds.iter().map(|kind| &*kind.definition).eq(definitions.iter().copied())
    }

    /// All of them, by index.
    #[must_use]
    pub fn all(&self) -> &[Arc<KnownKind>] {
        &self.kinds
    }
}

/// SHA-256 of a definition.
#[must_use]
pub fn hash(definition: &[u8]) -> Hash {
    Sha256::digest(definition).into()
}

/// The beginning of a definition's hash as it is shown: [`HASH_DIGITS`] of it.
pub fn short(hash: &Hash) -> impl Iterator<Item = u8> {
    hex_digits(&hash[..HASH_DIGITS / 2])
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    hex_digits(bytes).map(char::from).collect()
}

fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| b"0123456789abcdef"[usize::from(digit)])
}

/// Bytes of a definition from hexadecimal; nothing if it is none, or longer than a definition.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || text.len() > 2 * DEFINITION_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

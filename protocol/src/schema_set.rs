//! The fingerprint of a device's list of kinds: which birth explains a frame.
//!
//! What it does not do: it is no protection against forgery, and two lists share a fingerprint with
//! a chance of one in four thousand million.

use crate::definition::Kind;

/// FNV-1a (32 bits; RFC 9923) over the list in the order of the kind indexes, beginning with index
/// 0 (`loss`): for each kind the bytes of its name, `0xff` (which no UTF-8 text contains), its
/// version.
#[must_use]
pub const fn schema_set(kinds: &[Kind]) -> u32 {
    let mut set = SchemaSet::new();
    let mut kind = 0;
    while kind < kinds.len() {
        set = set.with(kinds[kind].name, kinds[kind].version);
        kind += 1;
    }
    set.value()
}

/// The fingerprint of a list that is met kind by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaSet(u32);

impl Default for SchemaSet {
    fn default() -> Self {
        Self::new()
    }
}

impl SchemaSet {
    /// Of an empty list.
    #[must_use]
    pub const fn new() -> Self {
        SchemaSet(0x811c_9dc5)
    }

    /// With one kind more at the end.
    #[must_use]
    pub const fn with(self, name: &str, version: u8) -> Self {
        let mut hash = self.0;
        let mut at = 0;
        while at < name.len() {
            hash = fnv1a(hash, name.as_bytes()[at]);
            at += 1;
        }
        SchemaSet(fnv1a(fnv1a(hash, 0xff), version))
    }

    /// The number that frames carry.
    #[must_use]
    pub const fn value(self) -> u32 {
        self.0
    }
}

const fn fnv1a(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

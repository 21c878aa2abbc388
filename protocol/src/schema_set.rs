//! The fingerprint of a device's list of kinds: which birth explains a frame.
//!
//! What it does not do: it is no protection against forgery, and two lists share a fingerprint with a
//! chance of one in four thousand million.

/// FNV-1a (32 bits; RFC 9923) over the list in the order of the kind indexes, beginning with index 0
/// (`loss`): for each kind the bytes of its name, `0xff` (which no UTF-8 text contains), its version.
#[must_use]
pub const fn schema_set(kinds: &[(&str, u8)]) -> u32 {
    let mut hash = 0x811c_9dc5;
    let mut kind = 0;
    while kind < kinds.len() {
        let (name, version) = kinds[kind];
        let mut at = 0;
        while at < name.len() {
            hash = fnv1a(hash, name.as_bytes()[at]);
            at += 1;
        }
        hash = fnv1a(fnv1a(hash, 0xff), version);
        kind += 1;
    }
    hash
}

const fn fnv1a(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

//! Variable byte integers: the lengths of packets and of properties, and subscription identifiers.
//! Pure. (MQTT 5.0 section 1.5.5)

/// How many bytes `number` takes.
#[must_use]
#[inline]
pub fn bytes(number: usize) -> usize {
    match number {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// Appends `number`, which is to be below 2^28.
#[inline]
pub fn put(mut number: usize, out: &mut Vec<u8>) {
    while number > 127 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

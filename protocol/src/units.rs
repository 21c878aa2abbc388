//! The units of SenML: what the number of a field may be measured in.
//!
//! Purpose: a unit that everyone spells alike. The derive refuses any other, and the gateway's
//! check of foreign definitions warns of it.
//!
//! What it does not do: it converts nothing. A power of ten is the field's scale, not its unit:
//! millivolts are `V` with a scale of -3.

/// The primary units of RFC 8428 (section 12.1) and RFC 8798 (section 2), and the secondary ones of
/// RFC 8798 (section 3).
pub const UNITS: &[&str] = &[
    // RFC 8428
    "m", "kg", "g", "s", "A", "K", "cd", "mol", "Hz", "rad", "sr", "N", "Pa", "J", "W", "C", "V", "F", "Ohm",
    "S", "Wb", "T", "H", "Cel", "lm", "lx", "Bq", "Gy", "Sv", "kat", "m2", "m3", "l", "m/s", "m/s2", "m3/s",
    "l/s", "W/m2", "cd/m2", "bit", "bit/s", "lat", "lon", "pH", "dB", "dBW", "Bspl", "count", "/", "%",
    "%RH", "%EL", "EL", "1/s", "1/min", "beat/min", "beats", "S/m", // RFC 8798, primary
    "B", "VA", "VAs", "var", "vars", "J/m", "kg/m3", "deg", // RFC 8798, secondary
    "ms", "min", "h", "MHz", "kW", "kVA", "kvar", "Ah", "Wh", "kWh", "varh", "kvarh", "kVAh", "Wh/km", "KiB",
    "GB", "Mbit/s", "B/s", "MB/s", "mV", "mA", "dBm", "ug/m3", "mm/h", "m/h", "ppm", "/100", "/1000", "hPa",
    "mm", "cm", "km", "km/h",
];

/// Whether `unit` is one of [`UNITS`], or empty for a plain number.
#[must_use]
pub const fn is_unit(unit: &str) -> bool {
    let mut at = 0;
    while at < UNITS.len() {
        if same(UNITS[at], unit) {
            return true;
        }
        at += 1;
    }
    unit.is_empty()
}

/// Whether two texts are equal, at compile time.
pub(crate) const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

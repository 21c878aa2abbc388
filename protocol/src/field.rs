//! A field of an event type, as its definition is made from it: name, unit, scale and description.

/// A field of an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its unit as in SenML ([`crate::units`]); empty for a plain number.
    pub unit: &'static str,
    /// The power of ten that the integer is multiplied with: -2 means hundredths.
    pub scale_exp10: i8,
    /// What it is, in a sentence; may be empty. It is not part of the definition.
    pub description: &'static str,
}

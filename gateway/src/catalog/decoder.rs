//! The body of an event to JSON, by a program that was made from its definition once.
//!
//! ```text
//! Definition ──compile──▶ steps in a row, each with the text before it      `,"humidity":` then u16 hundredths
//!                              │
//! body ────────────────────────┴──to_json──▶ JSON appended to a Vec<u8>
//! ```
//!
//! | in the body | in JSON |
//! |---|---|
//! | an integer with a scale | the quantity, exact: 2345 with -2 is `23.45`, 4520 is `45.2`, 200 is `2` ([`Values::Raw`]: 2345) |
//! | an integer without | all its digits, also beyond 2^53 |
//! | f32, f64 | the shortest number that reads back as the same; NaN and the infinities are `null` |
//! | bytes | base64 (with `+`, `/` and `=`) in a string |
//! | unit, and an option that is none | `null` |
//! | seq, tuple | an array |
//! | struct | an object, fields in their order |
//! | enum | a variant without a value `"name"`, another `{"name":value}` |
//!
//! Whoever can publish can send any bytes for a body. Every step reads a byte or writes one, what
//! is written ends at [`JSON_BYTES_MAX`], and steps call each other no deeper than a definition may
//! be: so time, memory and stack are bounded, whatever the bytes are. A failed body leaves the
//! output as it was.
//!
//! Limits: [`JSON_BYTES_MAX`], [`ELEMENTS_WITHOUT_BYTES_MAX`]; the output grows by no more than the
//! first and one number, as a `Vec` grows. Nothing else is allocated. What it does not do: know
//! which kind a body is of; repair one.

use tidegate_protocol::limits::BODY_BYTES_MAX;

use super::{
    compile::{Act, Program},
    definition::{BadDefinition, Definition, Scalar},
    json,
    read::{Reader, Short},
};

/// Longest JSON of one event, in bytes.
pub const JSON_BYTES_MAX: usize = 65_536;
/// Most elements of a sequence whose elements take no bytes, such as `()`: as many as if they took
/// one each.
pub const ELEMENTS_WITHOUT_BYTES_MAX: usize = BODY_BYTES_MAX;

/// How integers that have a scale are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Values {
    /// As the quantity in its unit.
    #[default]
    Scaled,
    /// As they were sent.
    Raw,
}

/// A body that is not of this kind, and where it ceases to be, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends in the middle of a value.
    #[error("the body ends in the middle, at byte {at}")]
    Truncated {
        /// Where the value begins.
        at: usize,
    },
    /// A number that is spelled longer than needed, or larger than its type.
    #[error("the number at byte {at} is malformed or too large")]
    Number {
        /// Where it begins.
        at: usize,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("the bool at byte {at} is neither 0 nor 1")]
    Bool {
        /// Where it is.
        at: usize,
    },
    /// An option that is neither none (0) nor some (1).
    #[error("the option at byte {at} is neither 0 nor 1")]
    Option {
        /// Where it is.
        at: usize,
    },
    /// A variant that the enum does not have: of a newer version, as a rule.
    #[error("the variant {variant} at byte {at} is not known")]
    Variant {
        /// Where it is.
        at: usize,
        /// Its place in the enum, from 0.
        variant: u32,
    },
    /// A text that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Utf8 {
        /// Where its length is.
        at: usize,
    },
    /// More elements or bytes than the body has room for.
    #[error("the length at byte {at} is more than the body can hold")]
    Length {
        /// Where it is.
        at: usize,
    },
    /// Something follows the last value: of a newer version, as a rule.
    #[error("the body's values end at byte {at}, and something follows")]
    Trailing {
        /// Where they end.
        at: usize,
    },
    /// The JSON would be longer than [`JSON_BYTES_MAX`].
    #[error("the body is more than {JSON_BYTES_MAX} bytes as JSON, from byte {at} on")]
    TooLong {
        /// Where there was too much.
        at: usize,
    },
}

/// A definition, ready to read bodies.
#[derive(Debug)]
pub struct Decoder {
    program: Program,
}

impl Decoder {
    /// Makes the program of a definition's bytes.
    ///
    /// # Errors
    /// They are no definition.
    pub fn compile(definition: &[u8]) -> Result<Self, BadDefinition> {
        Ok(Self::new(&Definition::parse(definition)?))
    }

    /// Makes the program of a definition.
    #[must_use]
    pub fn new(definition: &Definition) -> Self {
        Self { program: Program::new(definition) }
    }

    /// The memory that it holds beside itself, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.program.held_bytes()
    }

    /// Appends the body as one JSON value.
    ///
    /// # Errors
    /// Where and why it is no body of this kind; `out` is as it was.
    pub fn to_json(&self, body: &[u8], values: Values, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let start = out.len();
        let end = start + JSON_BYTES_MAX;
        let mut run = Run { program: &self.program, body: Reader::new(body), values, end, out };
        let mut done = run.steps(0, self.program.steps.len());
        if done.is_ok() && run.body.left() > 0 {
            done = Err(DecodeError::Trailing { at: run.body.at() });
        }
        if done.is_err() {
            out.truncate(start);
        }
        done
    }
}

/// A body on its way.
struct Run<'a> {
    program: &'a Program,
    body: Reader<'a>,
    values: Values,
    /// What `out` may not grow beyond.
    end: usize,
    out: &'a mut Vec<u8>,
}

impl<'a> Run<'a> {
    /// Carries out the steps `from` to `to`, which is not included. Calls itself for what is within
    /// an option, a sequence or a variant: no deeper than the definition.
    fn steps(&mut self, from: usize, to: usize) -> Result<(), DecodeError> {
        let program = self.program;
        let mut next = from;
        while next < to {
            let step = &program.steps[next];
            next += 1;
            self.write(program.text(step))?;
            match step.act {
                Act::Nothing => {}
                Act::Scalar(scalar) => self.scalar(scalar, step.scale_exp10)?,
                Act::Option { end } => {
                    let at = self.body.at();
                    match self.array::<1>(at)?[0] {
                        0 => self.write(b"null")?,
                        1 => self.steps(next, end.into())?,
                        _ => return Err(DecodeError::Option { at }),
                    }
                    next = end.into();
                }
                Act::Seq { end, element_bytes_min } => {
                    self.seq(next, end.into(), element_bytes_min.into())?;
                    next = end.into();
                }
                Act::Enum { first, count, end } => {
                    let at = self.body.at();
                    let variant = self.number(at, u32::MAX.into())? as u32;
                    if variant >= u32::from(count) {
                        return Err(DecodeError::Variant { at, variant });
                    }
                    let place = usize::from(first) + variant as usize;
                    self.steps(program.variants[place].into(), program.variants[place + 1].into())?;
                    next = end.into();
                }
            }
        }
        Ok(())
    }

    fn seq(&mut self, from: usize, to: usize, element_bytes_min: usize) -> Result<(), DecodeError> {
        let at = self.body.at();
        let count = self.number(at, u64::MAX)?;
        let most = self.body.left().checked_div(element_bytes_min).unwrap_or(ELEMENTS_WITHOUT_BYTES_MAX);
        if count > most as u64 {
            return Err(DecodeError::Length { at });
        }
        self.write(b"[")?;
        for element in 0..count {
            if element > 0 {
                self.write(b",")?;
            }
            self.steps(from, to)?;
        }
        self.write(b"]")
    }

    #[inline]
    fn scalar(&mut self, scalar: Scalar, scale_exp10: i8) -> Result<(), DecodeError> {
        let at = self.body.at();
        match scalar {
            Scalar::U8 => {
                let value = self.array::<1>(at)?[0];
                self.unsigned(value.into(), scale_exp10);
            }
            Scalar::I8 => {
                let value = self.array::<1>(at)?[0] as i8;
                self.signed(value.into(), scale_exp10);
            }
            Scalar::U16 => self.varint(at, u16::MAX.into(), scale_exp10)?,
            Scalar::U32 => self.varint(at, u32::MAX.into(), scale_exp10)?,
            Scalar::U64 => self.varint(at, u64::MAX, scale_exp10)?,
            Scalar::I16 => self.zigzag(at, u16::MAX.into(), scale_exp10)?,
            Scalar::I32 => self.zigzag(at, u32::MAX.into(), scale_exp10)?,
            Scalar::I64 => self.zigzag(at, u64::MAX, scale_exp10)?,
            Scalar::F32 => json::float(f32::from_le_bytes(self.array(at)?), self.out),
            Scalar::F64 => json::float(f64::from_le_bytes(self.array(at)?), self.out),
            Scalar::Bool => match self.array::<1>(at)?[0] {
                0 => self.write(b"false")?,
                1 => self.write(b"true")?,
                _ => return Err(DecodeError::Bool { at }),
            },
            Scalar::Unit => self.write(b"null")?,
            Scalar::String => self.string(at)?,
            Scalar::Bytes => self.bytes(at)?,
        }
        if self.out.len() > self.end { Err(DecodeError::TooLong { at }) } else { Ok(()) }
    }

    fn string(&mut self, at: usize) -> Result<(), DecodeError> {
        let text = std::str::from_utf8(self.piece(at)?).map_err(|_| DecodeError::Utf8 { at })?;
        self.demand_room(2 + json::text_bytes(text), at)?;
        json::text(text, self.out);
        Ok(())
    }

    fn bytes(&mut self, at: usize) -> Result<(), DecodeError> {
        let bytes = self.piece(at)?;
        self.demand_room(2 + json::base64_bytes(bytes.len()), at)?;
        json::base64(bytes, self.out);
        Ok(())
    }

    /// A length, and so many bytes.
    fn piece(&mut self, at: usize) -> Result<&'a [u8], DecodeError> {
        let length = self.number(at, u64::MAX)?;
        let length = usize::try_from(length).map_err(|_| DecodeError::Length { at })?;
        self.body.piece(length).map_err(|_| DecodeError::Length { at })
    }

    #[inline]
    fn varint(&mut self, at: usize, max: u64, scale_exp10: i8) -> Result<(), DecodeError> {
        let value = self.number(at, max)?;
        self.unsigned(value, scale_exp10);
        Ok(())
    }

    #[inline]
    fn zigzag(&mut self, at: usize, max: u64, scale_exp10: i8) -> Result<(), DecodeError> {
        let zigzag = self.number(at, max)?;
        self.signed((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64), scale_exp10);
        Ok(())
    }

    #[inline]
    fn unsigned(&mut self, value: u64, scale_exp10: i8) {
        json::integer(false, value, self.scale(scale_exp10), self.out);
    }

    #[inline]
    fn signed(&mut self, value: i64, scale_exp10: i8) {
        json::integer(value < 0, value.unsigned_abs(), self.scale(scale_exp10), self.out);
    }

    #[inline]
    fn scale(&self, scale_exp10: i8) -> i8 {
        match self.values {
            Values::Scaled => scale_exp10,
            Values::Raw => 0,
        }
    }

    #[inline]
    fn number(&mut self, at: usize, max: u64) -> Result<u64, DecodeError> {
        self.body.varint(max).map_err(|short| match short {
            Short::Truncated => DecodeError::Truncated { at },
            Short::Varint => DecodeError::Number { at },
        })
    }

    #[inline]
    fn array<const N: usize>(&mut self, at: usize) -> Result<[u8; N], DecodeError> {
        self.body.array().map_err(|_| DecodeError::Truncated { at })
    }

    #[inline]
    fn write(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        self.demand_room(text.len(), self.body.at())?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    #[inline]
    fn demand_room(&self, bytes: usize, at: usize) -> Result<(), DecodeError> {
        if self.out.len() + bytes > self.end { Err(DecodeError::TooLong { at }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `climate` 1, a battery that may be absent, and a state.
    const DEFINITION: &[u8] = b"\x01\x07climate\x01\x11\x04\x0btemperature\x03Cel\xfe\x04\
        \x07battery\x01%\xff\x0e\x03\x05state\x00\x00\x12\x02\x03off\x0d\x02on\x05\
        \x05marks\x00\x00\x0f\x0d";

    fn json(body: &[u8], values: Values) -> Result<String, DecodeError> {
        let decoder = Decoder::compile(DEFINITION).unwrap();
        let mut out = b"before".to_vec();
        let done = decoder.to_json(body, values, &mut out);
        let text = String::from_utf8(out).unwrap();
        let json = text.strip_prefix("before").expect("what was there stays");
        assert!(done.is_ok() || json.is_empty());
        done.map(|()| json.to_owned())
    }

    #[test]
    fn a_body_becomes_json_with_its_quantities_or_its_integers() {
        let body = [0xd2, 0x24, 1, 0xc6, 0x06, 1, 7, 2];
        assert_eq!(
            json(&body, Values::Scaled).unwrap(),
            r#"{"temperature":23.45,"battery":83.8,"state":{"on":7},"marks":[null,null]}"#
        );
        assert_eq!(
            json(&body, Values::Raw).unwrap(),
            r#"{"temperature":2345,"battery":838,"state":{"on":7},"marks":[null,null]}"#
        );
        assert_eq!(
            json(&[0x01, 0, 0, 0], Values::Scaled).unwrap(),
            r#"{"temperature":-0.01,"battery":null,"state":"off","marks":[]}"#
        );
    }

    #[test]
    fn a_body_that_is_wrong_is_an_error_that_says_where() {
        for (body, expected) in [
            (&[][..], DecodeError::Truncated { at: 0 }),
            (&[0x80], DecodeError::Truncated { at: 0 }),
            (&[0x80, 0x00], DecodeError::Number { at: 0 }),
            (&[0xff, 0xff, 0x04], DecodeError::Number { at: 0 }),
            (&[0], DecodeError::Truncated { at: 1 }),
            (&[0, 2], DecodeError::Option { at: 1 }),
            (&[0, 0, 2], DecodeError::Variant { at: 2, variant: 2 }),
            (&[0, 0, 1], DecodeError::Truncated { at: 3 }),
            (&[0, 0, 0, 0, 0], DecodeError::Trailing { at: 4 }),
            (&[0, 0, 0, 0xc1, 0x07], DecodeError::Length { at: 3 }),
            (&[0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f], DecodeError::Length { at: 3 }),
        ] {
            assert_eq!(json(body, Values::Scaled), Err(expected), "{body:02x?}");
        }
        assert!(json(&[0, 0, 0, 0xc0, 0x07], Values::Scaled).is_ok(), "960 of nothing");
    }
}

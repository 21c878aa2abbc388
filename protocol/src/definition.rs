//! The definition of a kind of event: its name, its version and the structure of its body, in
//! bytes.
//!
//! ```text
//!  byte          format of the definition: 1
//!  str           name, 1 to 32 of [a-z0-9_-]
//!  byte          version
//!  node          the body
//!
//!  node          tag, then what the tag says:
//!    0 bool  1 u8  2 i8  3 u16  4 i16  5 u32  6 i32  7 u64  8 i64  9 f32  10 f64  11 string  12 bytes  13 unit
//!   14 option    node
//!   15 seq       node
//!   16 tuple     varint count, nodes
//!   17 struct    varint count, fields:   str name, str unit, byte scale_exp10 (i8), node
//!   18 enum      varint count, variants: str name, node
//! ```
//!
//! Purpose: whoever has the definition decodes every event of the kind for ever, without the type's
//! source. It is written at compile time from the type's [`Schema`](postcard_schema::Schema) and is
//! a constant in flash.
//!
//! Limits: [`DEFINITION_BYTES_MAX`], [`DEFINITION_DEPTH_MAX`], [`DEFINITION_NODES_MAX`], names and
//! units of [`FIELD_NAME_BYTES_MAX`] and [`UNIT_BYTES_MAX`]. A type that is over a limit does not
//! compile.
//!
//! What it does not do: it decodes no body. Reading a definition back in full is the gateway's.

use postcard_schema::schema::{DataModelType, DataModelVariant, NamedType, NamedValue, NamedVariant};

use crate::field::Field;
use crate::limits::{
    DEFINITION_BYTES_MAX, DEFINITION_DEPTH_MAX, DEFINITION_NODES_MAX, FIELD_NAME_BYTES_MAX,
    KIND_NAME_BYTES_MAX, UNIT_BYTES_MAX,
};
use crate::message::{Cursor, MessageCause, MessageError, at};
use crate::pen::Pen;
use crate::units::same;

/// The format that this crate writes and reads.
pub const FORMAT: u8 = 1;

/// The tags of a node.
pub mod tag {
    /// A boolean.
    pub const BOOL: u8 = 0;
    /// A byte.
    pub const U8: u8 = 1;
    /// A byte, two's complement.
    pub const I8: u8 = 2;
    /// An unsigned number of 16 bits.
    pub const U16: u8 = 3;
    /// A signed number of 16 bits.
    pub const I16: u8 = 4;
    /// An unsigned number of 32 bits.
    pub const U32: u8 = 5;
    /// A signed number of 32 bits.
    pub const I32: u8 = 6;
    /// An unsigned number of 64 bits.
    pub const U64: u8 = 7;
    /// A signed number of 64 bits.
    pub const I64: u8 = 8;
    /// A floating point number of 32 bits.
    pub const F32: u8 = 9;
    /// A floating point number of 64 bits.
    pub const F64: u8 = 10;
    /// UTF-8 with its length.
    pub const STRING: u8 = 11;
    /// Bytes with their length.
    pub const BYTES: u8 = 12;
    /// Nothing.
    pub const UNIT: u8 = 13;
    /// A node that may be missing.
    pub const OPTION: u8 = 14;
    /// A node, so many times.
    pub const SEQ: u8 = 15;
    /// Nodes in a row.
    pub const TUPLE: u8 = 16;
    /// Fields in a row.
    pub const STRUCT: u8 = 17;
    /// One of several variants.
    pub const ENUM: u8 = 18;
}

/// A kind of event, as a birth announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Its name, 1 to 32 of `[a-z0-9_-]`.
    pub name: &'static str,
    /// The version of its fields.
    pub version: u8,
    /// Its definition, which says name and version too.
    pub definition: &'static [u8],
}

/// The head of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefinitionHead<'a> {
    /// The kind's name.
    pub name: &'a str,
    /// Its version.
    pub version: u8,
    /// The body's node and all in it, not looked at but for being there.
    pub node: &'a [u8],
}

impl<'a> DefinitionHead<'a> {
    /// Reads the head of a whole definition.
    ///
    /// # Errors
    /// [`MessageError`]: the bytes are no definition.
    pub fn parse(definition: &'a [u8]) -> Result<Self, MessageError> {
        let (bytes, bytes_max) = (definition.len(), DEFINITION_BYTES_MAX);
        if bytes > bytes_max {
            return Err(at(0, MessageCause::TooLong { bytes, bytes_max }));
        }
        let mut cursor = Cursor::new(definition);
        match cursor.byte()? {
            FORMAT => {}
            found => return Err(at(0, MessageCause::Format { found })),
        }
        let name_at = cursor.at();
        let name = cursor.text(KIND_NAME_BYTES_MAX)?;
        if !is_kind_name(name) {
            return Err(at(name_at, MessageCause::KindName));
        }
        let version = cursor.byte()?;
        cursor.clone().byte()?;
        Ok(DefinitionHead { name, version, node: cursor.rest() })
    }
}

/// Whether `name` may be the name of a kind.
#[must_use]
pub const fn is_kind_name(name: &str) -> bool {
    let name = name.as_bytes();
    let mut at = 0;
    while at < name.len() {
        if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-') {
            return false;
        }
        at += 1;
    }
    !name.is_empty() && name.len() <= KIND_NAME_BYTES_MAX
}

/// How many bytes the definition of a type has.
///
/// # Errors
/// [`DefinitionError`]: the type cannot be the body of an event.
pub const fn measure(
    name: &str,
    version: u8,
    body: &NamedType,
    fields: &[Field],
) -> Result<usize, DefinitionError> {
    Draft::new(&mut []).whole(name, version, body, fields)
}

/// The definition of a type, in the `BYTES` bytes that [`measure`] gave.
///
/// # Panics
/// When the type cannot be the body of an event or has another length: both are found when a
/// constant is evaluated.
#[must_use]
pub const fn encode<const BYTES: usize>(
    name: &str,
    version: u8,
    body: &NamedType,
    fields: &[Field],
) -> [u8; BYTES] {
    let mut out = [0; BYTES];
    match Draft::new(&mut out).whole(name, version, body, fields) {
        Ok(bytes) => assert!(bytes == BYTES, "the definition has another length than was measured"),
        Err(error) => panic!("{}", error.why()),
    }
    out
}

/// A type cannot be the body of an event: change the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.why())]
pub enum DefinitionError {
    /// The kind's name.
    KindName,
    /// `usize`, `char`, 128-bit integers, maps: their bytes depend on the machine or have several
    /// spellings.
    Type,
    /// The body is not a struct with fields.
    NotAStruct,
    /// The fields' units and scales do not belong to this body.
    Fields,
    /// The name of a field or of a variant.
    FieldName,
    /// A unit.
    Unit,
    /// Nested too deep.
    Depth,
    /// Too many nodes.
    Nodes,
    /// Too many bytes.
    Bytes,
}

impl DefinitionError {
    /// What is wrong, and what to do.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            DefinitionError::KindName => "the name of an event type is 1 to 32 of a-z, 0-9, _ and -",
            DefinitionError::Type => {
                "usize, isize, char, 128-bit integers and maps have no place in an event: use an integer of 8 to 64 bits, a string, an array or a struct"
            }
            DefinitionError::NotAStruct => "an event type is a struct with named fields",
            DefinitionError::Fields => {
                "the fields' units do not match the struct's fields in number, order or name"
            }
            DefinitionError::FieldName => "the name of a field or a variant has 1 to 64 bytes",
            DefinitionError::Unit => "a unit has at most 16 bytes",
            DefinitionError::Depth => "the event type is nested more than 8 deep: flatten it",
            DefinitionError::Nodes => {
                "the event type has more than 256 fields and elements: an array counts every element, use a slice or two types"
            }
            DefinitionError::Bytes => {
                "the definition of the event type has more than 2048 bytes: shorten the names or make two types of it"
            }
        }
    }
}

/// A definition that is being written.
struct Draft<'o> {
    pen: Pen<'o>,
    nodes: usize,
}

type Drawn = Result<(), DefinitionError>;

/// `?` for constant functions.
macro_rules! go {
    ($drawn:expr) => {
        if let Err(error) = $drawn {
            return Err(error);
        }
    };
}

impl<'o> Draft<'o> {
    const fn new(out: &'o mut [u8]) -> Self {
        Draft { pen: Pen::new(out), nodes: 0 }
    }

    const fn whole(
        mut self,
        name: &str,
        version: u8,
        body: &NamedType,
        fields: &[Field],
    ) -> Result<usize, DefinitionError> {
        if !is_kind_name(name) {
            return Err(DefinitionError::KindName);
        }
        self.pen.byte(FORMAT);
        self.pen.counted(name.as_bytes());
        self.pen.byte(version);
        let DataModelType::Struct(values) = body.ty else { return Err(DefinitionError::NotAStruct) };
        if values.len() != fields.len() {
            return Err(DefinitionError::Fields);
        }
        go!(self.tag(tag::STRUCT, 1));
        go!(self.fields(values, Some(fields), 1));
        if self.pen.at() > DEFINITION_BYTES_MAX { Err(DefinitionError::Bytes) } else { Ok(self.pen.at()) }
    }

    /// Begins a node at `depth`.
    const fn tag(&mut self, tag: u8, depth: usize) -> Drawn {
        self.nodes += 1;
        if depth > DEFINITION_DEPTH_MAX {
            return Err(DefinitionError::Depth);
        }
        if self.nodes > DEFINITION_NODES_MAX {
            return Err(DefinitionError::Nodes);
        }
        self.pen.byte(tag);
        Ok(())
    }

    const fn node(&mut self, ty: &NamedType, depth: usize) -> Drawn {
        let simple = match ty.ty {
            DataModelType::Bool => tag::BOOL,
            DataModelType::U8 => tag::U8,
            DataModelType::I8 => tag::I8,
            DataModelType::U16 => tag::U16,
            DataModelType::I16 => tag::I16,
            DataModelType::U32 => tag::U32,
            DataModelType::I32 => tag::I32,
            DataModelType::U64 => tag::U64,
            DataModelType::I64 => tag::I64,
            DataModelType::F32 => tag::F32,
            DataModelType::F64 => tag::F64,
            DataModelType::String => tag::STRING,
            DataModelType::ByteArray => tag::BYTES,
            DataModelType::Unit | DataModelType::UnitStruct => tag::UNIT,
            DataModelType::NewtypeStruct(inner) => return self.node(inner, depth),
            DataModelType::Option(inner) => return self.around(tag::OPTION, inner, depth),
            DataModelType::Seq(inner) => return self.around(tag::SEQ, inner, depth),
            DataModelType::Tuple(items) | DataModelType::TupleStruct(items) => {
                return self.tuple(items, depth);
            }
            DataModelType::Struct(values) => {
                go!(self.tag(tag::STRUCT, depth));
                return self.fields(values, None, depth);
            }
            DataModelType::Enum(variants) => return self.variants(variants, depth),
            DataModelType::I128
            | DataModelType::U128
            | DataModelType::Usize
            | DataModelType::Isize
            | DataModelType::Char
            | DataModelType::Map { .. }
            | DataModelType::Schema => return Err(DefinitionError::Type),
        };
        self.tag(simple, depth)
    }

    const fn around(&mut self, tag: u8, inner: &NamedType, depth: usize) -> Drawn {
        go!(self.tag(tag, depth));
        self.node(inner, depth + 1)
    }

    const fn tuple(&mut self, items: &[&NamedType], depth: usize) -> Drawn {
        go!(self.tag(tag::TUPLE, depth));
        self.pen.varint(items.len() as u64);
        let mut item = 0;
        while item < items.len() {
            go!(self.node(items[item], depth + 1));
            item += 1;
        }
        Ok(())
    }

    /// The fields of a struct at `depth`. `known` are the event's own, with units; those of a
    /// struct inside have none.
    const fn fields(&mut self, values: &[&NamedValue], known: Option<&[Field]>, depth: usize) -> Drawn {
        self.pen.varint(values.len() as u64);
        let mut value = 0;
        while value < values.len() {
            let NamedValue { name, ty } = values[value];
            let (unit, scale_exp10) = match known {
                Some(fields) => {
                    if !same(fields[value].name, name) {
                        return Err(DefinitionError::Fields);
                    }
                    (fields[value].unit, fields[value].scale_exp10)
                }
                None => ("", 0),
            };
            if unit.len() > UNIT_BYTES_MAX {
                return Err(DefinitionError::Unit);
            }
            go!(self.name(name));
            self.pen.counted(unit.as_bytes());
            self.pen.byte(scale_exp10 as u8);
            go!(self.node(ty, depth + 1));
            value += 1;
        }
        Ok(())
    }

    const fn variants(&mut self, variants: &[&NamedVariant], depth: usize) -> Drawn {
        go!(self.tag(tag::ENUM, depth));
        self.pen.varint(variants.len() as u64);
        let mut variant = 0;
        while variant < variants.len() {
            let NamedVariant { name, ty } = variants[variant];
            go!(self.name(name));
            let drawn = match ty {
                DataModelVariant::UnitVariant => self.tag(tag::UNIT, depth + 1),
                DataModelVariant::NewtypeVariant(inner) => self.node(inner, depth + 1),
                DataModelVariant::TupleVariant(items) => self.tuple(items, depth + 1),
                DataModelVariant::StructVariant(values) => match self.tag(tag::STRUCT, depth + 1) {
                    Ok(()) => self.fields(values, None, depth + 1),
                    Err(error) => Err(error),
                },
            };
            go!(drawn);
            variant += 1;
        }
        Ok(())
    }

    const fn name(&mut self, name: &str) -> Drawn {
        if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX {
            return Err(DefinitionError::FieldName);
        }
        self.pen.counted(name.as_bytes());
        Ok(())
    }
}

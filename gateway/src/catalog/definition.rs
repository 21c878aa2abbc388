//! What a kind of event says of itself: the definition that a birth carries, read into a tree.
//!
//! ```text
//! 01 | name | version | node          node: tag, and by the tag more nodes (docs/wire-format.md, "Definition of a kind")
//! ```
//!
//! Whoever can publish a birth can send any bytes here. So everything is bounded before it is made:
//! bytes, depth, nodes, names; a count is believed only as far as nodes may follow. A definition
//! has one spelling, so that its hash names it.
//!
//! Limits: those of `tidegate_protocol::limits`; a tree of 256 nodes takes about 40 KB at most.
//! What it does not do: judge units, scales or taste; `lint` does.

use tidegate_protocol::{
    definition::{FORMAT, is_kind_name, tag},
    limits::{
        DEFINITION_BYTES_MAX, DEFINITION_DEPTH_MAX, DEFINITION_NODES_MAX, FIELD_NAME_BYTES_MAX,
        KIND_NAME_BYTES_MAX, UNIT_BYTES_MAX,
    },
};

use super::read::{Reader, Short};

/// A kind of event: its name, its version and what its body is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Definition {
    /// 1 to 32 of `[a-z0-9_-]`.
    pub name: String,
    /// The version of the name's body.
    pub version: u8,
    /// The body.
    pub body: Node,
}

/// A piece of a body, as postcard writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// One value.
    Scalar(Scalar),
    /// One or none.
    Option(Box<Node>),
    /// Any number of the same.
    Seq(Box<Node>),
    /// Always the same ones, without names.
    Tuple(Vec<Node>),
    /// Always the same ones, with names.
    Struct(Vec<Field>),
    /// One of several.
    Enum(Vec<Variant>),
}

/// A value without parts. The order is that of the tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are called what they are")]
pub enum Scalar {
    Bool,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F32,
    F64,
    String,
    Bytes,
    Unit,
}

/// A part of a struct.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name, 1 to 64 bytes.
    pub name: String,
    /// The unit of the integers in it (SenML); empty for plain numbers.
    pub unit: String,
    /// An integer times ten to this power is the quantity.
    pub scale_exp10: i8,
    /// What it is.
    pub node: Node,
}

/// A possibility of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Its name, 1 to 64 bytes.
    pub name: String,
    /// What it carries: unit for nothing.
    pub node: Node,
}

/// Bytes that are no definition, and where they cease to be one, in bytes from their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDefinition {
    /// Longer than [`DEFINITION_BYTES_MAX`].
    #[error("a definition of {bytes} bytes; {DEFINITION_BYTES_MAX} are allowed")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
    },
    /// It ends in the middle.
    #[error("the definition ends in the middle, at byte {at}")]
    Truncated {
        /// Where more was expected.
        at: usize,
    },
    /// A format that is not known.
    #[error("format {format} of definitions is not known")]
    Format {
        /// What it says.
        format: u8,
    },
    /// A number that is spelled longer than needed, or too large.
    #[error("the number at byte {at} is malformed or too large")]
    Number {
        /// Where it begins.
        at: usize,
    },
    /// A name or unit that is not UTF-8.
    #[error("the text at byte {at} is not UTF-8")]
    Utf8 {
        /// Where it begins.
        at: usize,
    },
    /// The kind's own name has other characters than `[a-z0-9_-]`, none or too many.
    #[error("the kind's name at byte {at} is not 1 to {KIND_NAME_BYTES_MAX} of a-z, 0-9, _ and -")]
    KindName {
        /// Where it begins.
        at: usize,
    },
    /// A field's or variant's name is empty or too long.
    #[error("the name at byte {at} does not have 1 to {FIELD_NAME_BYTES_MAX} bytes")]
    Name {
        /// Where it begins.
        at: usize,
    },
    /// Two fields of a struct, or two variants of an enum, have the same name.
    #[error("the name at byte {at} is there twice")]
    SameName {
        /// Where the second one begins.
        at: usize,
    },
    /// A unit is too long.
    #[error("the unit at byte {at} has more than {UNIT_BYTES_MAX} bytes")]
    Unit {
        /// Where it begins.
        at: usize,
    },
    /// A tag that stands for nothing.
    #[error("tag {tag} at byte {at} is not known")]
    Tag {
        /// The tag.
        tag: u8,
        /// Where it is.
        at: usize,
    },
    /// Nodes within nodes, deeper than allowed.
    #[error("the node at byte {at} is deeper than {DEFINITION_DEPTH_MAX}")]
    Depth {
        /// Where it is.
        at: usize,
    },
    /// More nodes than allowed.
    #[error("more than {DEFINITION_NODES_MAX} nodes, at byte {at}")]
    Nodes {
        /// Where there are too many.
        at: usize,
    },
    /// Something follows.
    #[error("the definition ends at byte {at}, and something follows")]
    Trailing {
        /// Where it ends.
        at: usize,
    },
}

impl Definition {
    /// Reads a definition.
    ///
    /// # Errors
    /// Where and why these bytes are none.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadDefinition> {
        if bytes.len() > DEFINITION_BYTES_MAX {
            return Err(BadDefinition::TooLong { bytes: bytes.len() });
        }
        let mut parser = Parser { reader: Reader::new(bytes), nodes: 0 };
        let format = parser.byte()?;
        if format != FORMAT {
            return Err(BadDefinition::Format { format });
        }
        let at = parser.reader.at();
        let name = parser.text()?;
        if !is_kind_name(name) {
            return Err(BadDefinition::KindName { at });
        }
        let version = parser.byte()?;
        let body = parser.node(1)?;
        match parser.reader.left() {
            0 => Ok(Self { name: name.into(), version, body }),
            _ => Err(BadDefinition::Trailing { at: parser.reader.at() }),
        }
    }
}

impl Scalar {
    /// All of them in the order of their tags.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::U64,
        Self::I64,
        Self::F32,
        Self::F64,
        Self::String,
        Self::Bytes,
        Self::Unit,
    ];

    /// Its name, as Rust has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Unit => "unit",
        }
    }

    /// The least and the greatest value of an integer.
    #[must_use]
    pub fn integer_range(self) -> Option<(i64, u64)> {
        Some(match self {
            Self::U8 => (0, u8::MAX.into()),
            Self::U16 => (0, u16::MAX.into()),
            Self::U32 => (0, u32::MAX.into()),
            Self::U64 => (0, u64::MAX),
            Self::I8 => (i8::MIN.into(), i8::MAX as u64),
            Self::I16 => (i16::MIN.into(), i16::MAX as u64),
            Self::I32 => (i32::MIN.into(), i32::MAX as u64),
            Self::I64 => (i64::MIN, i64::MAX as u64),
            _ => return None,
        })
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn byte(&mut self) -> Result<u8, BadDefinition> {
        let at = self.reader.at();
        self.reader.byte().map_err(|_| BadDefinition::Truncated { at })
    }

    fn text(&mut self) -> Result<&'a str, BadDefinition> {
        let at = self.reader.at();
        let bytes = self.reader.varint(DEFINITION_BYTES_MAX as u64).map_err(|short| number(short, at))?;
        let end = self.reader.at();
        let piece = self.reader.piece(bytes as usize).map_err(|_| BadDefinition::Truncated { at: end })?;
        std::str::from_utf8(piece).map_err(|_| BadDefinition::Utf8 { at })
    }

    /// The name of a field or variant, unlike the names `before` it.
    fn name<'b>(&mut self, before: impl Iterator<Item = &'b str>) -> Result<String, BadDefinition> {
        let at = self.reader.at();
        let name = self.text()?;
        if !(1..=FIELD_NAME_BYTES_MAX).contains(&name.len()) {
            return Err(BadDefinition::Name { at });
        }
        let mut before = before;
        if before.any(|other| other == name) {
            return Err(BadDefinition::SameName { at });
        }
        Ok(name.into())
    }

    /// How many nodes follow: no more than there may be.
    fn count(&mut self) -> Result<usize, BadDefinition> {
        let at = self.reader.at();
        let count = self.reader.varint(u64::MAX).map_err(|short| number(short, at))?;
        let most = DEFINITION_NODES_MAX - self.nodes;
        usize::try_from(count).ok().filter(|count| *count <= most).ok_or(BadDefinition::Nodes { at })
    }

    /// A node; it calls itself at most [`DEFINITION_DEPTH_MAX`] times deep.
    fn node(&mut self, depth: usize) -> Result<Node, BadDefinition> {
        let at = self.reader.at();
        if depth > DEFINITION_DEPTH_MAX {
            return Err(BadDefinition::Depth { at });
        }
        if self.nodes == DEFINITION_NODES_MAX {
            return Err(BadDefinition::Nodes { at });
        }
        let read = self.byte()?;
        self.nodes += 1;
        if let Some(scalar) = Scalar::ALL.get(usize::from(read)) {
            return Ok(Node::Scalar(*scalar));
        }
        Ok(match read {
            tag::OPTION => Node::Option(Box::new(self.node(depth + 1)?)),
            tag::SEQ => Node::Seq(Box::new(self.node(depth + 1)?)),
            tag::TUPLE => {
                Node::Tuple((0..self.count()?).map(|_| self.node(depth + 1)).collect::<Result<_, _>>()?)
            }
            tag::STRUCT => Node::Struct(self.fields(depth + 1)?),
            tag::ENUM => Node::Enum(self.variants(depth + 1)?),
            tag => return Err(BadDefinition::Tag { tag, at }),
        })
    }

    fn fields(&mut self, depth: usize) -> Result<Vec<Field>, BadDefinition> {
        let mut fields: Vec<Field> = vec![];
        for _ in 0..self.count()? {
            let name = self.name(fields.iter().map(|field| &*field.name))?;
            let at = self.reader.at();
            let unit = self.text()?;
            if unit.len() > UNIT_BYTES_MAX {
                return Err(BadDefinition::Unit { at });
            }
            let scale_exp10 = self.byte()? as i8;
            fields.push(Field { name, unit: unit.into(), scale_exp10, node: self.node(depth)? });
        }
        Ok(fields)
    }

    fn variants(&mut self, depth: usize) -> Result<Vec<Variant>, BadDefinition> {
        let mut variants: Vec<Variant> = vec![];
        for _ in 0..self.count()? {
            let name = self.name(variants.iter().map(|variant| &*variant.name))?;
            variants.push(Variant { name, node: self.node(depth)? });
        }
        Ok(variants)
    }
}

fn number(short: Short, at: usize) -> BadDefinition {
    match short {
        Short::Truncated => BadDefinition::Truncated { at },
        Short::Varint => BadDefinition::Number { at },
    }
}

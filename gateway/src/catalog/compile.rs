//! A definition as a program: steps in a row, each with the text that stands before its value.
//!
//! ```text
//! struct { temperature: i16 hundredths, alarm: option bool }
//!
//!   0  {"temperature":   i16, -2
//!   1  ,"alarm":         option, to 3      none: null, and on with 3
//!   2                    bool
//!   3  }                 nothing
//! ```
//!
//! Keys are escaped here, once. What belongs to an option, a sequence or a variant are the steps up
//! to its end.
//!
//! Limits: a definition's nodes and bytes bound steps and text to a few thousand, so that 16 bits
//! name each of them.

use tidegate_protocol::limits::{DEFINITION_BYTES_MAX, DEFINITION_NODES_MAX};

use super::{
    definition::{Definition, Node, Scalar, Variant},
    json,
};

// A byte of a name is six of text at most, and no node adds more than eight bytes to it.
const _: () = assert!(DEFINITION_BYTES_MAX * 6 + DEFINITION_NODES_MAX * 8 <= u16::MAX as usize);
// A node is a step, and leaves at most one behind it.
const _: () = assert!(DEFINITION_NODES_MAX * 2 <= u16::MAX as usize);

/// Steps, and what they name.
#[derive(Debug)]
pub(super) struct Program {
    text: Box<[u8]>,
    pub(super) steps: Box<[Step]>,
    /// Where the variants of each enum begin, and where its last one ends.
    pub(super) variants: Box<[u16]>,
}

/// Some text, then one value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    text_from: u16,
    text_to: u16,
    /// For integers.
    pub(super) scale_exp10: i8,
    pub(super) act: Act,
}

/// What a step reads. `end` is the first step that does not belong to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    Nothing,
    Scalar(Scalar),
    Option {
        end: u16,
    },
    Seq {
        end: u16,
        element_bytes_min: u16,
    },
    /// Its variants begin at `variants[first]`.
    Enum {
        first: u16,
        count: u16,
        end: u16,
    },
}

impl Program {
    pub(super) fn new(definition: &Definition) -> Self {
        let mut compiler = Compiler::default();
        compiler.node(&definition.body, 0);
        compiler.flush();
        Self { text: compiler.text.into(), steps: compiler.steps.into(), variants: compiler.variants.into() }
    }

    #[inline]
    pub(super) fn text(&self, step: &Step) -> &[u8] {
        &self.text[usize::from(step.text_from)..usize::from(step.text_to)]
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.steps) + size_of_val(&*self.variants)
    }
}

#[derive(Default)]
struct Compiler {
    text: Vec<u8>,
    /// The text from here on has no step yet.
    said: usize,
    steps: Vec<Step>,
    variants: Vec<u16>,
}

impl Compiler {
    fn say(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Adds a step with the text that has none. Returns its place.
    fn step(&mut self, act: Act, scale_exp10: i8) -> usize {
        let (text_from, text_to) = (short(self.said), short(self.text.len()));
        self.said = self.text.len();
        self.steps.push(Step { text_from, text_to, scale_exp10, act });
        self.steps.len() - 1
    }

    /// The text that has no step gets one, because what follows belongs elsewhere.
    fn flush(&mut self) {
        if self.said < self.text.len() {
            self.step(Act::Nothing, 0);
        }
    }

    fn end(&self) -> u16 {
        short(self.steps.len())
    }

    /// Adds a node. Returns the least bytes that it takes in a body.
    fn node(&mut self, node: &Node, scale_exp10: i8) -> usize {
        match node {
            Node::Scalar(scalar) => {
                self.step(Act::Scalar(*scalar), scale_exp10);
                scalar_bytes_min(*scalar)
            }
            Node::Option(inner) => {
                let place = self.step(Act::Option { end: 0 }, 0);
                self.node(inner, scale_exp10);
                self.flush();
                self.steps[place].act = Act::Option { end: self.end() };
                1
            }
            Node::Seq(inner) => {
                let place = self.step(Act::Seq { end: 0, element_bytes_min: 0 }, 0);
                let element_bytes_min = short(self.node(inner, scale_exp10));
                self.flush();
                self.steps[place].act = Act::Seq { end: self.end(), element_bytes_min };
                1
            }
            Node::Tuple(nodes) => {
                self.say(b"[");
                let mut bytes_min = 0;
                for (place, node) in nodes.iter().enumerate() {
                    self.say(if place > 0 { b"," } else { b"" });
                    bytes_min += self.node(node, scale_exp10);
                }
                self.say(b"]");
                bytes_min
            }
            Node::Struct(fields) => {
                self.say(b"{");
                let mut bytes_min = 0;
                for (place, field) in fields.iter().enumerate() {
                    self.say(if place > 0 { b"," } else { b"" });
                    json::text(&field.name, &mut self.text);
                    self.say(b":");
                    bytes_min += self.node(&field.node, field.scale_exp10);
                }
                self.say(b"}");
                bytes_min
            }
            Node::Enum(variants) => {
                self.variants(variants);
                1
            }
        }
    }

    fn variants(&mut self, variants: &[Variant]) {
        let (first, count) = (self.variants.len(), variants.len());
        // Their places in a row, before those of enums within them.
        self.variants.resize(first + count + 1, 0);
        let place = self.step(Act::Nothing, 0);
        for (number, variant) in variants.iter().enumerate() {
            self.variants[first + number] = self.end();
            if variant.node == Node::Scalar(Scalar::Unit) {
                json::text(&variant.name, &mut self.text);
            } else {
                self.say(b"{");
                json::text(&variant.name, &mut self.text);
                self.say(b":");
                self.node(&variant.node, 0);
                self.say(b"}");
            }
            self.flush();
        }
        self.variants[first + count] = self.end();
        self.steps[place].act = Act::Enum { first: short(first), count: short(count), end: self.end() };
    }
}

fn scalar_bytes_min(scalar: Scalar) -> usize {
    match scalar {
        Scalar::Unit => 0,
        Scalar::F32 => 4,
        Scalar::F64 => 8,
        _ => 1,
    }
}

fn short(number: usize) -> u16 {
    u16::try_from(number)
        .expect("invariant: a definition's limits keep all of this below 65,536, as asserted above")
}

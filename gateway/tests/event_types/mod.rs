//! What the tests and the benchmark of the decoder share: a writer of definitions, and bodies.

use tidegate::catalog::{Definition, Field, Node, Scalar, Variant};
use tidegate_protocol::{
    Birth, Kinds, ResetReason,
    events::{EventType, Loss},
};

/// The bytes of a definition. Limits are not looked at: a test may need them broken.
pub fn encode(definition: &Definition) -> Vec<u8> {
    let mut out = vec![1];
    text(&definition.name, &mut out);
    out.push(definition.version);
    node(&definition.body, &mut out);
    out
}

fn node(node_: &Node, out: &mut Vec<u8>) {
    match node_ {
        Node::Scalar(scalar) => {
            let tag = Scalar::ALL.iter().position(|other| other == scalar).expect("it is one of all");
            out.push(tag as u8);
        }
        Node::Option(inner) => {
            out.push(14);
            node(inner, out);
        }
        Node::Seq(inner) => {
            out.push(15);
            node(inner, out);
        }
        Node::Tuple(nodes) => {
            out.push(16);
            varint(nodes.len() as u64, out);
            nodes.iter().for_each(|inner| node(inner, out));
        }
        Node::Struct(fields) => {
            out.push(17);
            varint(fields.len() as u64, out);
            for Field { name, unit, scale_exp10, node: inner } in fields {
                text(name, out);
                text(unit, out);
                out.push(*scale_exp10 as u8);
                node(inner, out);
            }
        }
        Node::Enum(variants) => {
            out.push(18);
            varint(variants.len() as u64, out);
            for Variant { name, node: inner } in variants {
                text(name, out);
                node(inner, out);
            }
        }
    }
}

/// A number as postcard writes it.
pub fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn text(text: &str, out: &mut Vec<u8>) {
    varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// The bytes of a birth that announces `loss` and these.
pub fn birth(definitions: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let birth = Birth {
        boot: 1,
        connection: 1,
        uptime_ms: 1000,
        wall_ms: None,
        reset: ResetReason::PowerOn,
        firmware: "barn",
        version: "1.2.3",
        build: "0123456789abcdef",
        kinds: Kinds::new(&[Loss::KIND]),
    };
    let mut out = birth.write(&mut [0; 1024]).expect("a birth that may be written").to_vec();
    let count = out.len() - Loss::KIND.definition.len() - 2;
    assert_eq!(out[count], 1, "one kind, whose length is a byte");
    out[count] += definitions.len() as u8;
    for definition in definitions {
        varint(definition.len() as u64, &mut out);
        out.extend(definition);
    }
    out
}

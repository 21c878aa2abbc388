//! The decoder against a reference, and against definitions and bodies that nobody should send.
//!
//! The reference for good bodies is serde: postcard to a static type, and that type to JSON. For
//! bodies made by chance it is a tree of values that was written to bytes and to JSON side by side.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "event_types/mod.rs"]
mod event_types;

use event_types::{encode, varint};
use proptest::{collection::vec, prelude::*};
use serde::{Deserialize, Serialize};
use tidegate::catalog::{
    BadDefinition, DecodeError, Decoder, Definition, ELEMENTS_WITHOUT_BYTES_MAX, Field, JSON_BYTES_MAX, Node,
    Scalar, Values, Variant,
};
use tidegate_protocol::{
    Schema,
    events::EventType,
    limits::{BODY_BYTES_MAX, DEFINITION_BYTES_MAX, DEFINITION_DEPTH_MAX, DEFINITION_NODES_MAX},
};

/// Everything that a derived type can hold; floats come with the trees below.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema, EventType)]
#[event(name = "everything", version = 3, owner = "tests", description = "all there is")]
struct Everything {
    truth: bool,
    small: (u8, i8),
    middle: (u16, i16, u32, i32),
    large: (u64, i64),
    words: String,
    maybe: Option<Option<u16>>,
    list: Vec<Inner>,
    nothing: (),
    choice: Choice,
    choices: [Choice; 2],
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
struct Inner {
    key: i32,
    wrapped: Wrapped,
    flags: Vec<()>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
struct Wrapped(u64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Schema)]
enum Choice {
    None,
    One(u8),
    Two(bool, String),
    Named { x: i16, y: Vec<i8> },
}

fn choice() -> impl Strategy<Value = Choice> {
    prop_oneof![
        Just(Choice::None),
        any::<u8>().prop_map(Choice::One),
        (any::<bool>(), ".{0,5}").prop_map(|(a, b)| Choice::Two(a, b)),
        (any::<i16>(), vec(any::<i8>(), 0..3)).prop_map(|(x, y)| Choice::Named { x, y }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let inner = (any::<i32>(), any::<u64>().prop_map(Wrapped), vec(Just(()), 0..4));
    let list = vec(inner.prop_map(|(key, wrapped, flags)| Inner { key, wrapped, flags }), 0..4);
    let numbers = (any::<bool>(), any::<(u8, i8)>(), any::<(u16, i16, u32, i32)>(), any::<(u64, i64)>());
    let parts = (".{0,20}", any::<Option<Option<u16>>>(), list, choice(), [choice(), choice()]);
    (numbers, parts).prop_map(|((truth, small, middle, large), parts)| {
        let (words, maybe, list, choice, choices) = parts;
        Everything { truth, small, middle, large, words, maybe, list, nothing: (), choice, choices }
    })
}

/// A body by its definition, in both ways: bytes and JSON.
#[derive(Debug, Clone)]
struct Made {
    node: Node,
    body: Vec<u8>,
    json: String,
}

fn scalar() -> impl Strategy<Value = Made> {
    fn made(scalar: Scalar, value: impl Serialize) -> Made {
        let body = postcard::to_allocvec(&value).unwrap();
        Made { node: Node::Scalar(scalar), body, json: serde_json::to_string(&value).unwrap() }
    }
    prop_oneof![
        any::<bool>().prop_map(|value| made(Scalar::Bool, value)),
        any::<u8>().prop_map(|value| made(Scalar::U8, value)),
        any::<i8>().prop_map(|value| made(Scalar::I8, value)),
        any::<u16>().prop_map(|value| made(Scalar::U16, value)),
        any::<i16>().prop_map(|value| made(Scalar::I16, value)),
        any::<u32>().prop_map(|value| made(Scalar::U32, value)),
        any::<i32>().prop_map(|value| made(Scalar::I32, value)),
        any::<u64>().prop_map(|value| made(Scalar::U64, value)),
        any::<i64>().prop_map(|value| made(Scalar::I64, value)),
        any::<f32>().prop_map(|value| made(Scalar::F32, value)),
        any::<f64>().prop_map(|value| made(Scalar::F64, value)),
        ".{0,9}".prop_map(|value| made(Scalar::String, value)),
        Just(()).prop_map(|value| made(Scalar::Unit, value)),
    ]
}

/// Trees of everything, with keys that JSON has to escape.
fn made() -> impl Strategy<Value = Made> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        let join = |parts: &[Made], before: &str, after: &str| {
            let json: Vec<_> = parts.iter().map(|part| part.json.as_str()).collect();
            let body = parts.iter().flat_map(|part| part.body.iter().copied()).collect::<Vec<u8>>();
            (body, format!("{before}{}{after}", json.join(",")))
        };
        prop_oneof![
            (inner.clone(), any::<bool>()).prop_map(|(made, some)| Made {
                node: Node::Option(made.node.into()),
                body: if some { [vec![1], made.body].concat() } else { vec![0] },
                json: if some { made.json } else { "null".into() },
            }),
            (inner.clone(), 0..4usize).prop_map(move |(made, count)| {
                let (body, json) = join(&vec![made.clone(); count], "[", "]");
                Made { node: Node::Seq(made.node.into()), body: [vec![count as u8], body].concat(), json }
            }),
            vec(inner.clone(), 0..4).prop_map(move |parts| {
                let (body, json) = join(&parts, "[", "]");
                Made { node: Node::Tuple(parts.into_iter().map(|part| part.node).collect()), body, json }
            }),
            vec((inner.clone(), "[\"\\\\a-c\n\u{1}ü]{1,6}"), 0..4).prop_map(|parts| {
                let named = |(place, (made, name)): (usize, &(Made, String))| {
                    (format!("{place}{name}"), made.clone())
                };
                let parts: Vec<_> = parts.iter().enumerate().map(named).collect();
                let json: Vec<_> = parts
                    .iter()
                    .map(|(name, made)| format!("{}:{}", serde_json::to_string(name).unwrap(), made.json))
                    .collect();
                Made {
                    body: parts.iter().flat_map(|(_, made)| made.body.clone()).collect(),
                    json: format!("{{{}}}", json.join(",")),
                    node: Node::Struct(
                        parts
                            .into_iter()
                            .map(|(name, made)| Field {
                                name,
                                unit: "m".into(),
                                scale_exp10: 0,
                                node: made.node,
                            })
                            .collect(),
                    ),
                }
            }),
            (vec(inner, 1..4), any::<prop::sample::Index>()).prop_map(|(parts, which)| {
                let which = which.index(parts.len());
                let json = match parts[which].node {
                    Node::Scalar(Scalar::Unit) => format!("\"v\\\"{which}\""),
                    _ => format!("{{\"v\\\"{which}\":{}}}", parts[which].json),
                };
                let body = [vec![which as u8], parts[which].body.clone()].concat();
                let variant =
                    |(place, made): (usize, Made)| Variant { name: format!("v\"{place}"), node: made.node };
                Made { node: Node::Enum(parts.into_iter().enumerate().map(variant).collect()), body, json }
            }),
        ]
    })
}

fn definition(body: Node) -> Definition {
    Definition { name: "made".into(), version: 1, body }
}

fn decode(definition: &Definition, body: &[u8]) -> Result<String, DecodeError> {
    let mut out = vec![];
    Decoder::new(definition).to_json(body, Values::Scaled, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_derived_type_is_decoded_as_serde_writes_it(event in everything()) {
        let body = postcard::to_allocvec(&event).unwrap();
        let decoder = Decoder::compile(Everything::KIND.definition).unwrap();
        let mut out = vec![];
        decoder.to_json(&body, Values::Scaled, &mut out).unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&event).unwrap());
    }

    #[test]
    fn any_definition_is_read_back_and_decodes_its_bodies(made in made()) {
        let definition = definition(made.node.clone());
        let bytes = encode(&definition);
        match Definition::parse(&bytes) {
            Ok(read) => prop_assert_eq!(&read, &definition),
            Err(error) => prop_assert!(
                matches!(error, BadDefinition::TooLong { .. } | BadDefinition::Nodes { .. }), "{}", error
            ),
        }
        prop_assert_eq!(decode(&definition, &made.body), Ok(made.json));
        // One byte less or more is an error, and a body of no bytes can only have one more.
        prop_assert!(decode(&definition, &[&made.body[..], &[0]].concat()).is_err());
        if let Some((_, less)) = made.body.split_last() {
            prop_assert!(decode(&definition, less).is_err());
        }
    }

    #[test]
    fn any_bytes_for_a_body_give_json_or_an_error_and_no_more_than_the_limit(
        made in made(), body in vec(any::<u8>(), 0..200)
    ) {
        let decoder = Decoder::new(&definition(made.node));
        for values in [Values::Scaled, Values::Raw] {
            let mut out = b"kept".to_vec();
            match decoder.to_json(&body, values, &mut out) {
                Ok(()) => {
                    serde_json::from_slice::<serde::de::IgnoredAny>(&out[4..]).unwrap();
                    prop_assert!(out.len() <= 4 + JSON_BYTES_MAX);
                }
                Err(_) => prop_assert_eq!(&out, b"kept"),
            }
        }
    }

    #[test]
    fn any_bytes_for_a_definition_are_one_or_an_error(mut bytes in vec(any::<u8>(), 0..300)) {
        let _ = Definition::parse(&bytes);
        bytes.splice(0..0, *b"\x01\x01a\x01");
        if let Ok(definition) = Definition::parse(&bytes) {
            prop_assert_eq!(encode(&definition), bytes);
        }
    }
}

#[test]
fn floats_that_are_no_numbers_are_null() {
    let floats = definition(Node::Tuple(vec![Node::Scalar(Scalar::F32), Node::Scalar(Scalar::F64)]));
    for (single, double) in [(f32::NAN, f64::INFINITY), (f32::NEG_INFINITY, -f64::NAN)] {
        let body = postcard::to_allocvec(&(single, double)).unwrap();
        assert_eq!(decode(&floats, &body).unwrap(), "[null,null]");
    }
}

#[test]
fn a_definition_nested_20_000_deep_is_refused_at_its_ninth_level() {
    for tag in [14, 15] {
        let bytes = [b"\x01\x01a\x01".to_vec(), vec![tag; 2000]].concat();
        let at = 4 + DEFINITION_DEPTH_MAX;
        assert_eq!(Definition::parse(&bytes), Err(BadDefinition::Depth { at }));
        let bytes = [b"\x01\x01a\x01".to_vec(), vec![tag; 20_000]].concat();
        assert_eq!(Definition::parse(&bytes), Err(BadDefinition::TooLong { bytes: 20_004 }));
        let deepest = [b"\x01\x01a\x01".to_vec(), vec![tag; DEFINITION_DEPTH_MAX - 1], vec![1]].concat();
        assert!(Definition::parse(&deepest).is_ok());
    }
}

#[test]
fn a_definition_with_more_nodes_than_allowed_is_refused() {
    let tuple = |count: usize| definition(Node::Tuple(vec![Node::Scalar(Scalar::U8); count]));
    assert!(Definition::parse(&encode(&tuple(DEFINITION_NODES_MAX - 1))).is_ok());
    let refused = Definition::parse(&encode(&tuple(DEFINITION_NODES_MAX)));
    assert_eq!(refused, Err(BadDefinition::Nodes { at: 8 }), "name, version and tag are before it");
    // A count is not believed: nothing is made for it.
    let claimed = [&encode(&tuple(0))[..8], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    assert_eq!(Definition::parse(&claimed), Err(BadDefinition::Nodes { at: 8 }));
}

#[test]
fn the_longest_definition_is_read_and_one_byte_more_is_not() {
    let field =
        |name: String| Field { name, unit: String::new(), scale_exp10: -2, node: Node::Scalar(Scalar::I16) };
    let of = |first: usize| {
        let fields = (1..30).map(|n| field(format!("{n:>64}"))).chain([field("n".repeat(first))]);
        encode(&definition(Node::Struct(fields.collect())))
    };
    assert_eq!(of(63).len(), DEFINITION_BYTES_MAX);
    assert!(Definition::parse(&of(63)).is_ok());
    assert_eq!(Definition::parse(&of(64)), Err(BadDefinition::TooLong { bytes: DEFINITION_BYTES_MAX + 1 }));
}

#[test]
fn four_bytes_that_ask_for_gigabytes_are_refused_at_once() {
    let lengths = [0xff, 0xff, 0xff, 0x7f];
    let string = definition(Node::Scalar(Scalar::String));
    let bytes = definition(Node::Scalar(Scalar::Bytes));
    let sequence = definition(Node::Seq(Node::Scalar(Scalar::U64).into()));
    let nothings = definition(Node::Seq(Node::Scalar(Scalar::Unit).into()));
    let empty = definition(Node::Seq(Node::Struct(vec![]).into()));
    for definition in [&string, &bytes, &sequence, &nothings, &empty] {
        assert_eq!(decode(definition, &lengths), Err(DecodeError::Length { at: 0 }));
    }
    let mut most = vec![];
    varint(ELEMENTS_WITHOUT_BYTES_MAX as u64, &mut most);
    assert_eq!(decode(&nothings, &most).unwrap().len(), 5 * ELEMENTS_WITHOUT_BYTES_MAX + 1);
    let mut more = vec![];
    varint(ELEMENTS_WITHOUT_BYTES_MAX as u64 + 1, &mut more);
    assert_eq!(decode(&nothings, &more), Err(DecodeError::Length { at: 0 }));
}

#[test]
fn sequences_in_sequences_of_nothing_end_at_the_limit() {
    let nothing = Node::Tuple(vec![Node::Scalar(Scalar::Unit); 200]);
    let bomb = definition(Node::Seq(Node::Seq(nothing.into()).into()));
    let mut body = vec![];
    varint(BODY_BYTES_MAX as u64 / 2 - 1, &mut body);
    for _ in 0..BODY_BYTES_MAX / 2 - 1 {
        varint(ELEMENTS_WITHOUT_BYTES_MAX as u64, &mut body);
    }
    assert!(body.len() <= BODY_BYTES_MAX);
    assert!(matches!(decode(&bomb, &body), Err(DecodeError::TooLong { .. })));
}

#[test]
fn a_string_that_grows_sixfold_ends_at_the_limit() {
    let strings = definition(Node::Scalar(Scalar::String));
    let body = |bytes: usize| postcard::to_allocvec(&"\u{1}".repeat(bytes)).unwrap();
    assert_eq!(decode(&strings, &body(10_922)).unwrap().len(), 2 + 6 * 10_922);
    assert_eq!(decode(&strings, &body(10_923)), Err(DecodeError::TooLong { at: 0 }));
}

#[test]
fn text_that_is_not_utf8_is_an_error_and_bytes_are_base64() {
    let body = postcard::to_allocvec(&[0xffu8, 0xfe, 0xfd, 0][..]).unwrap();
    assert_eq!(decode(&definition(Node::Scalar(Scalar::String)), &body), Err(DecodeError::Utf8 { at: 0 }));
    assert_eq!(decode(&definition(Node::Scalar(Scalar::Bytes)), &body).unwrap(), "\"//79AA==\"");
}

#[test]
fn a_scale_goes_through_options_sequences_and_tuples_and_not_into_a_struct_or_an_enum() {
    let number = || Node::Scalar(Scalar::I32);
    let plain = |name: &str, node| Field { name: name.into(), unit: String::new(), scale_exp10: 0, node };
    let scaled = |name: &str, node| Field { scale_exp10: -1, ..plain(name, node) };
    let body = Node::Struct(vec![
        scaled("a", Node::Option(Node::Seq(Node::Tuple(vec![number(), number()]).into()).into())),
        scaled("b", Node::Struct(vec![plain("c", number())])),
        scaled("d", Node::Enum(vec![Variant { name: "e".into(), node: number() }])),
        scaled("f", Node::Scalar(Scalar::F32)),
    ]);
    let bytes = postcard::to_allocvec(&(Some(vec![(15, -20)]), 7, 0u32, 9, 1.5f32)).unwrap();
    assert_eq!(
        decode(&definition(body), &bytes).unwrap(),
        r#"{"a":[[1.5,-2]],"b":{"c":7},"d":{"e":9},"f":1.5}"#
    );
}

#[test]
fn an_enum_without_variants_has_no_value() {
    let none = definition(Node::Enum(vec![]));
    assert_eq!(decode(&none, &[0]), Err(DecodeError::Variant { at: 0, variant: 0 }));
}

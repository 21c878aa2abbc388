//! What the catalog and its decoders take of memory, counted by the allocator itself, and how fast
//! births are learned.
//!
//! The tests run one at a time: what others allocate would be counted too.
#[path = "event_types/mod.rs"]
mod event_types;

use std::{
    alloc::System,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cap::Cap;
use event_types::{encode, varint};
use tidegate::{
    catalog::{
        BadBirth, Catalog, Decoder, Definition, ELEMENTS_WITHOUT_BYTES_MAX, Field, JSON_BYTES_MAX,
        KINDS_BYTES_MAX, Node, Scalar, Values,
    },
    clock,
};
use tidegate_protocol::Birth;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const DEVICES: u32 = 10_000;
const KINDS: u32 = 32;
/// What the catalog of [`DEVICES`] devices may take.
const CATALOG_MAX: usize = 64 << 20;
/// Rounds of which one at least is to be free of what the harness allocates.
const ROUNDS: usize = 20;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A kind of three fields, unlike that of any other number.
fn definition(number: u32) -> Vec<u8> {
    let field = |name: &str, unit: &str, scalar| Field {
        name: name.into(),
        unit: unit.into(),
        scale_exp10: -2,
        node: Node::Scalar(scalar),
    };
    encode(&Definition {
        name: format!("climate-{number}"),
        version: 1,
        body: Node::Struct(vec![
            field("temperature", "Cel", Scalar::I16),
            field("humidity", "%RH", Scalar::U16),
            field("pressure", "Pa", Scalar::U32),
        ]),
    })
}

/// The birth of a device whose kinds beside `loss` begin with `first`.
fn birth(first: u32) -> Vec<u8> {
    event_types::birth((first..first + KINDS - 1).map(definition))
}

#[test]
fn ten_thousand_devices_with_the_same_32_kinds_are_learned_in_seconds_within_64_mb() {
    let _alone = alone();
    let birth = birth(0);
    let names: Vec<String> = (0..DEVICES).map(|n| format!("a-device-with-a-longer-name-{n:04}")).collect();
    let before = MEMORY.allocated();
    let catalog = Catalog::default();
    let start = clock::monotonic();
    let mut rows = 0;
    for name in &names {
        catalog.learn(name, &Birth::parse(&birth).unwrap()).unwrap();
        rows += catalog.take_unsaved().len();
    }
    let (elapsed, bytes) = (start.elapsed(), MEMORY.allocated() - before);
    eprintln!("{DEVICES} devices with {KINDS} shared kinds: {} KiB, learned in {elapsed:?}", bytes >> 10);
    assert_eq!(rows, (KINDS + 1 + DEVICES) as usize);
    assert!(bytes < CATALOG_MAX && elapsed.as_secs() < 10, "{bytes} bytes, {elapsed:?}");
    // And as they come again, after the gateway started.
    let start = clock::monotonic();
    for name in &names {
        catalog.learn(name, &Birth::parse(&birth).unwrap()).unwrap();
    }
    eprintln!("the same again in {:?}", start.elapsed());
    assert!(catalog.take_unsaved().is_empty());
    assert!(catalog.kinds(&names[9], Birth::parse(&birth).unwrap().kinds.schema_set()).is_some());
}

#[test]
fn ten_thousand_devices_with_kinds_of_their_own_end_at_the_limit_within_64_mb() {
    let _alone = alone();
    let before = MEMORY.allocated();
    let catalog = Catalog::default();
    let mut learned = 0;
    for n in 0..DEVICES {
        let bytes = birth(n * KINDS);
        match catalog.learn(&format!("barn-{n}"), &Birth::parse(&bytes).unwrap()) {
            Ok(_) => learned += 1,
            Err(BadBirth::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        drop(catalog.take_unsaved());
    }
    let bytes = MEMORY.allocated() - before;
    eprintln!(
        "{learned} devices with {KINDS} kinds of their own: {} KiB, counted {} KiB",
        bytes >> 10,
        catalog.kinds_bytes() >> 10
    );
    assert!(learned > 250 && bytes < CATALOG_MAX / 2, "{learned} devices, {bytes} bytes");
    assert!(catalog.kinds_bytes() <= KINDS_BYTES_MAX);
}

#[test]
fn decoding_allocates_nothing_beyond_its_output() {
    let _alone = alone();
    let nothing = Node::Tuple(vec![Node::Scalar(Scalar::Unit); 200]);
    let bomb =
        Definition { name: "bomb".into(), version: 1, body: Node::Seq(Node::Seq(nothing.into()).into()) };
    let (bomb, good) = (Decoder::new(&bomb), Decoder::compile(&definition(1)).unwrap());
    let mut body = vec![100];
    (0..100).for_each(|_| varint(ELEMENTS_WITHOUT_BYTES_MAX as u64, &mut body));
    let mut out = Vec::with_capacity(JSON_BYTES_MAX + 256);
    let mut round = || {
        let before = MEMORY.total_allocated();
        for _ in 0..100 {
            out.clear();
            good.to_json(&[0xd2, 0x24, 0xa8, 0x23, 0xcd, 0x97, 0x06], Values::Scaled, &mut out).unwrap();
            bomb.to_json(&body, Values::Scaled, &mut out).unwrap_err();
        }
        MEMORY.total_allocated() - before
    };
    // The harness starts and ends other tests meanwhile: what decoding takes itself, it takes in
    // every round.
    let allocated = (0..ROUNDS).map(|_| round()).min();
    assert_eq!(allocated, Some(0), "bytes in the round that allocated least");
}

#[test]
fn no_definition_of_two_kilobytes_makes_a_tree_of_more_than_a_hundred() {
    let _alone = alone();
    // As many fields as there may be nodes, each with a name and a unit of its own.
    let mut bytes = b"\x01\x01a\x01\x11\xff\x01".to_vec();
    (0..255u8).for_each(|n| bytes.extend([2, b'a' + n / 16, b'a' + n % 16, 1, b'm', 0, 1]));
    let before = MEMORY.allocated();
    let tree = Definition::parse(&bytes).unwrap();
    let held = MEMORY.allocated() - before;
    eprintln!("a tree of 256 nodes: {held} bytes");
    assert!(held < 100 << 10, "{held} bytes for {} bytes", bytes.len());
    drop(tree);
}

//! The frame's bytes, and what is believed of a journal after whatever happened to it.

use proptest::prelude::*;

use super::{
    SLOT_BYTES,
    frame::{Entry, Frame, State, decode, encode},
    recover::judge,
};
use crate::store::record::{
    Record,
    row::{Block, HEAD_BYTES, RowHead},
};
use std::sync::Arc;

const STORE: u32 = 0x7d9e_0001;

/// A row of one record.
fn block(first: u64, payload: &[u8]) -> Arc<Block> {
    let mut row = vec![0; HEAD_BYTES];
    let record = Record {
        events: 1,
        qos: 1,
        received_ms: 1_000,
        client: "c",
        topic: "t",
        payload,
        ..Record::default()
    };
    record.write(&mut row);
    let head = RowHead { records: 1, events: 1, base_ms: 1_000, events_before: first, bytes_before: first };
    head.seal(&mut row);
    Arc::new(Block::new(first, row).unwrap())
}

fn frame(epoch: u64, sequence: u64, blocks: &[Arc<Block>], state: State) -> Vec<u8> {
    let mut bytes = Vec::new();
    assert!(encode(&mut bytes, STORE, epoch, sequence, &Entry { blocks, state }));
    bytes
}

/// A journal of so many slots, with a frame of a row in each of `slots` of this epoch.
fn journal(count: usize, epochs: &[(u64, std::ops::Range<u64>)]) -> Vec<u8> {
    let mut bytes = vec![0; count * SLOT_BYTES];
    for (epoch, slots) in epochs {
        for slot in slots.clone() {
            let frame = frame(*epoch, slot, &[block(epoch * 100 + slot, b"x")], State::default());
            let at = slot as usize * SLOT_BYTES;
            bytes[at..at + frame.len()].copy_from_slice(&frame);
        }
    }
    bytes
}

fn rows(frames: &[Frame]) -> Vec<u64> {
    frames.iter().flat_map(|frame| frame.blocks.iter().map(|block| block.first())).collect()
}

#[test]
fn a_frame_has_the_bytes_that_every_version_reads() {
    let state = State {
        cursors: Some(vec![("cloud".to_owned(), 41)]),
        pending: vec![("pump".to_owned(), vec![7, 300])],
    };
    let bytes = frame(3, 2, &[block(42, b"on"), block(43, b"off")], state);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "\
    54474a011701842fc400000001009e7d030000000000000002000000000000002a00000000000000\
    1300000002000000010105636c6f756429010470756d700207ac023c00000001000000def7756801\
    00000001000000e8030000000000002a000000000000002a00000000000000100000000208010001\
    000100e803000063746f6e3d00000001000000696624a30100000001000000e8030000000000002b\
    000000000000002b00000000000000110000000208010001000100e803000063746f6666";

#[test]
fn what_does_not_fit_a_slot_is_no_frame() {
    let fits = |bytes: usize| {
        let entry = Entry { blocks: &[block(0, &vec![7; bytes])], state: State::default() };
        let mut frame = Vec::new();
        encode(&mut frame, STORE, 1, 0, &entry).then_some(frame.len())
    };
    let overhead = fits(0).unwrap();
    assert_eq!(fits(SLOT_BYTES - overhead), Some(SLOT_BYTES));
    assert_eq!(fits(SLOT_BYTES - overhead + 1), None);
    assert_eq!(fits(10 * SLOT_BYTES), None);
    let pending = (0..2_000).map(|client| (format!("client-{client}"), vec![1])).collect();
    let entry = Entry { blocks: &[], state: State { cursors: None, pending } };
    assert!(!encode(&mut Vec::new(), STORE, 1, 0, &entry));
}

#[test]
fn any_flipped_bit_of_a_frame_is_found_and_no_other_store_believes_it() {
    let whole = frame(1, 0, &[block(5, b"hello")], State::default());
    assert!(decode(&whole, STORE).is_some() && decode(&whole, STORE + 1).is_none());
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped, STORE).is_none(), "bit {bit}");
    }
    for len in 0..whole.len() {
        assert!(decode(&whole[..len], STORE).is_none(), "{len} bytes");
    }
}

#[test]
fn the_newest_epoch_that_no_segment_took_over_counts() {
    let bytes = journal(8, &[(1, 0..8), (2, 0..5), (3, 0..2)]);
    let judged = |absorbed| {
        let found = judge(&bytes, STORE, absorbed);
        (found.epoch, rows(&found.frames), found.is_damaged)
    };
    assert_eq!(judged(2), (3, vec![300, 301], false));
    assert_eq!(judged(3), (3, vec![], false));
    assert_eq!(judged(9), (9, vec![], false));
    let empty = judge(&[], STORE, 4);
    assert_eq!((empty.epoch, empty.frames.len(), empty.is_damaged), (4, 0, false));
}

#[test]
fn a_torn_frame_is_the_end_and_a_bad_one_before_a_good_one_is_damage() {
    for (bad, wanted, is_damaged) in [
        (4, vec![200, 201, 202, 203], false),
        (3, vec![200, 201, 202, 204], true),
        (0, vec![201, 202, 203, 204], true),
    ] {
        let mut bytes = journal(8, &[(1, 0..8), (2, 0..5)]);
        bytes[bad * SLOT_BYTES + 60] ^= 1;
        let found = judge(&bytes, STORE, 1);
        assert_eq!((rows(&found.frames), found.is_damaged), (wanted, is_damaged), "{bad}");
    }
}

#[test]
fn the_first_frame_of_an_epoch_that_is_torn_brings_no_older_one_back() {
    let mut bytes = journal(8, &[(1, 0..8), (2, 0..1)]);
    bytes[60] ^= 1;
    let found = judge(&bytes, STORE, 1);
    assert_eq!((found.epoch, found.frames.len(), found.is_damaged), (1, 0, false));
}

#[test]
fn a_frame_counts_in_the_slot_of_its_own_number_alone() {
    let mut bytes = journal(8, &[(2, 0..3)]);
    let copy = bytes[2 * SLOT_BYTES..3 * SLOT_BYTES].to_vec();
    bytes[5 * SLOT_BYTES..6 * SLOT_BYTES].copy_from_slice(&copy);
    let found = judge(&bytes, STORE, 1);
    assert_eq!((rows(&found.frames), found.is_damaged), (vec![200, 201, 202], false));
}

fn state() -> impl Strategy<Value = State> {
    let cursors = prop::option::of(prop::collection::vec(("[a-z]{1,8}", any::<u64>()), 0..5));
    let pending = prop::collection::vec(("[a-z]{1,8}", prop::collection::vec(any::<u16>(), 0..9)), 0..5);
    (cursors, pending).prop_map(|(cursors, pending)| State { cursors, pending })
}

proptest! {
    #[test]
    fn a_frame_reads_back_whatever_it_holds(
        epoch: u64, sequence: u64, first in 0..u64::MAX / 2, state in state(),
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..6),
    ) {
        let blocks: Vec<_> =
            (first..).zip(&payloads).map(|(first, payload)| block(first, payload)).collect();
        let bytes = frame(epoch, sequence, &blocks, state.clone());
        let read = decode(&bytes, STORE).unwrap();
        prop_assert_eq!((read.epoch, read.sequence, &read.state), (epoch, sequence, &state));
        let same = |(read, written): (&Arc<Block>, &Arc<Block>)| {
            read.first() == written.first() && read.row() == written.row()
        };
        prop_assert!(read.blocks.len() == blocks.len() && read.blocks.iter().zip(&blocks).all(same));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..SLOT_BYTES * 3), absorbed: u64) {
        prop_assert!(judge(&bytes, STORE, absorbed).frames.is_empty());
    }

    #[test]
    fn whatever_is_smeared_over_a_journal_what_is_left_is_as_it_was(
        at in 0..8 * SLOT_BYTES, smear in prop::collection::vec(any::<u8>(), 1..2 * SLOT_BYTES),
    ) {
        let mut bytes = journal(8, &[(1, 0..8), (2, 0..6)]);
        let end = (at + smear.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&smear[..end - at]);
        let found = judge(&bytes, STORE, 1);
        let left = rows(&found.frames);
        prop_assert!(left.iter().all(|row| (200..206).contains(row)) && left.is_sorted());
        prop_assert_eq!(found.is_damaged, left.last().is_some_and(|last| last - 199 != left.len() as u64));
        let (from, to) = ((at / SLOT_BYTES) as u64, end.div_ceil(SLOT_BYTES) as u64);
        for slot in (0..6).filter(|slot| !(from..to).contains(slot)) {
            prop_assert!(left.contains(&(200 + slot)), "slot {} was not touched", slot);
        }
    }
}

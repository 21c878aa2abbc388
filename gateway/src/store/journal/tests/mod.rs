//! The frame's bytes, and what is believed of a journal after whatever happened to it.

use proptest::prelude::*;

use super::{
    BLANK, HEADER_SLOTS, SLOT_BYTES,
    frame::{Entry, Frame, State, decode, encode},
    header::Header,
    recover::{Recovered, judge},
};
use crate::store::record::{
    Record,
    epochs::Epochs,
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

/// A journal of so many slots for frames, with a frame of a row in each of `slots` of this epoch,
/// and the headers of them.
fn journal(count: usize, epochs: &[(u64, std::ops::Range<u64>)]) -> Vec<u8> {
    let slots = (HEADER_SLOTS + count) as u32;
    let mut bytes = vec![BLANK; slots as usize * SLOT_BYTES];
    let mut put = |slot: usize, what: &[u8]| {
        bytes[slot * SLOT_BYTES..][..what.len()].copy_from_slice(what);
    };
    for (epoch, frames) in epochs {
        put(*epoch as usize % HEADER_SLOTS, &Header { slots, epoch: *epoch }.encode(STORE));
        for number in frames.clone() {
            let frame = frame(*epoch, number, &[block(epoch * 100 + number, b"x")], State::default());
            put(HEADER_SLOTS + number as usize, &frame);
        }
    }
    bytes
}

/// The slot of the frame with this number, in bytes.
fn slot(number: usize) -> std::ops::Range<usize> {
    let at = (HEADER_SLOTS + number) * SLOT_BYTES;
    at..at + SLOT_BYTES
}

/// Judged as a start does behind a segment that says that the epoch behind `over` is open.
fn judged(bytes: &[u8], over: u64) -> Recovered {
    judge(bytes, STORE, Epochs { over, open: over + 1 })
}

fn rows(frames: &[Frame]) -> Vec<u64> {
    frames.iter().flat_map(|frame| frame.blocks.iter().map(|block| block.first())).collect()
}

#[test]
fn a_frame_has_the_bytes_that_every_version_reads() {
    let state = State {
        cursors: Some(vec![("cloud".to_owned(), 41)]),
        pending: vec![("pump".to_owned(), vec![7, 300])],
        end: None,
    };
    let bytes = frame(3, 2, &[block(42, b"on"), block(43, b"off")], state);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "\
    54474a010440657ec500000001009e7d030000000000000002000000000000002a00000000000000\
    1400000002000000010105636c6f756429010470756d700207ac02003c00000001000000def77568\
    0100000001000000e8030000000000002a000000000000002a00000000000000100000000208010001\
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
    let entry = Entry { blocks: &[], state: State { pending, ..State::default() } };
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
    let found = |over, open| {
        let found = judge(&bytes, STORE, Epochs { over, open });
        (found.epoch, rows(&found.frames), found.is_damaged || found.is_end_lost)
    };
    assert_eq!(found(2, 3), (3, vec![300, 301], false));
    assert_eq!(found(3, 0), (3, vec![], false));
    assert_eq!(found(9, 0), (9, vec![], false));
    let empty = judge(&[], STORE, Epochs { over: 4, open: 0 });
    assert_eq!((empty.epoch, empty.frames.len(), empty.is_damaged || empty.is_end_lost), (4, 0, false));
}

#[test]
fn a_torn_frame_is_the_end_and_a_bad_one_before_a_good_one_is_damage() {
    for (bad, wanted, is_damaged) in [
        (4, vec![200, 201, 202, 203], false),
        (3, vec![200, 201, 202, 204], true),
        (0, vec![201, 202, 203, 204], true),
    ] {
        let mut bytes = journal(8, &[(1, 0..8), (2, 0..5)]);
        bytes[slot(bad).start + 60] ^= 1;
        let found = judged(&bytes, 1);
        let is = (rows(&found.frames), found.is_damaged, found.is_end_lost);
        assert_eq!(is, (wanted, is_damaged, false), "{bad}");
    }
}

#[test]
fn two_bad_frames_at_the_end_are_damage_for_one_alone_can_have_been_written() {
    let mut bytes = journal(8, &[(1, 0..8), (2, 0..5)]);
    bytes[slot(3).start + 60] ^= 1;
    bytes[slot(4).start] ^= 1;
    let found = judged(&bytes, 1);
    assert_eq!((rows(&found.frames), found.is_end_lost), (vec![200, 201, 202], true));
    // A frame of before shows that nothing was written from its slot on.
    let mut bytes = journal(8, &[(1, 0..8), (2, 0..5)]);
    bytes[slot(6).start + 60] ^= 1;
    bytes[slot(7).start] ^= 1;
    assert!(!judged(&bytes, 1).is_end_lost);
}

#[test]
fn the_first_frame_of_an_epoch_that_is_torn_brings_no_older_one_back() {
    let mut bytes = journal(8, &[(1, 0..8), (2, 0..1)]);
    bytes[slot(0).start + 60] ^= 1;
    let found = judged(&bytes, 1);
    assert_eq!((found.epoch, found.frames.len(), found.is_damaged, found.is_end_lost), (2, 0, false, false));
}

#[test]
fn a_frame_counts_in_the_slot_of_its_own_number_alone() {
    let mut bytes = journal(8, &[(2, 0..3)]);
    bytes.copy_within(slot(2), slot(5).start);
    let found = judged(&bytes, 1);
    assert_eq!((rows(&found.frames), found.is_damaged), (vec![200, 201, 202], false));
}

#[test]
fn a_file_that_does_not_know_the_open_epoch_is_another_one() {
    let whole = journal(8, &[(1, 0..8), (2, 0..5)]);
    let is_lost = |bytes: &[u8], open| judge(bytes, STORE, Epochs { over: 1, open }).is_end_lost;
    assert!(!is_lost(&whole, 2));
    // As it was one epoch before, of another store, never written, emptied, gone.
    let older = journal(8, &[(1, 0..8)]);
    let zeros = vec![0; whole.len()];
    for bytes in [&older, &zeros, &vec![0xa5; whole.len()], &Vec::new()] {
        assert!(is_lost(bytes, 2) && !is_lost(bytes, 0));
    }
    assert!(judge(&whole, STORE + 1, Epochs { over: 1, open: 2 }).is_end_lost);
    // A header is needed only where no frame says the same.
    let mut without_header = whole;
    without_header[..2 * SLOT_BYTES].fill(0xa5);
    assert!(!is_lost(&without_header, 2));
    let mut opened = journal(8, &[(1, 0..8), (2, 0..0)]);
    assert!(!is_lost(&opened, 2), "no frame was written yet");
    opened[..SLOT_BYTES].fill(0xa5);
    assert!(is_lost(&opened, 2), "nothing says so");
    let mut first = journal(8, &[(2, 0..1)]);
    first[slot(0).start..].fill(0);
    assert!(is_lost(&first, 2), "zeros are not what it is filled with");
}

#[test]
fn a_header_that_is_torn_leaves_the_one_before() {
    let mut bytes = journal(8, &[(1, 0..8), (2, 0..8), (3, 0..0)]);
    bytes[SLOT_BYTES..2 * SLOT_BYTES].fill(0x5a);
    let found = judged(&bytes, 1);
    assert_eq!((found.frames.len(), found.is_damaged, found.is_end_lost), (8, false, false));
}

#[test]
fn a_file_that_is_cut_off_lost_its_end_unless_nothing_was_written_there() {
    let bytes = journal(8, &[(1, 0..8), (2, 0..5)]);
    for len in (0..=bytes.len()).step_by(SLOT_BYTES / 4) {
        let found = judged(&bytes[..len], 1);
        // The frame of before at 5 shows that nothing was written from there on.
        assert_eq!(found.is_end_lost, len <= slot(5).start, "{len}");
        assert!(rows(&found.frames).is_sorted());
    }
}

fn state() -> impl Strategy<Value = State> {
    let cursors = prop::option::of(prop::collection::vec(("[a-z]{1,8}", any::<u64>()), 0..5));
    let pending = prop::collection::vec(("[a-z]{1,8}", prop::collection::vec(any::<u16>(), 0..9)), 0..5);
    let end = any::<Option<(u64, u64, u64)>>();
    (cursors, pending, end).prop_map(|(cursors, pending, end)| State { cursors, pending, end })
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
        let found = judge(&bytes, STORE, Epochs { over: absorbed, open: 0 });
        prop_assert!(found.frames.is_empty());
    }

    #[test]
    fn whatever_is_smeared_over_a_journal_what_is_left_is_as_it_was(
        at in 0..10 * SLOT_BYTES, smear in prop::collection::vec(any::<u8>(), 1..2 * SLOT_BYTES),
    ) {
        let mut bytes = journal(8, &[(1, 0..8), (2, 0..6)]);
        let end = (at + smear.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&smear[..end - at]);
        let found = judged(&bytes, 1);
        let left = rows(&found.frames);
        prop_assert!(left.iter().all(|row| (200..206).contains(row)) && left.is_sorted());
        prop_assert_eq!(found.is_damaged, left.last().is_some_and(|last| last - 199 != left.len() as u64));
        for number in 0..6 {
            if slot(number).end <= at || slot(number).start >= end {
                prop_assert!(left.contains(&(200 + number as u64)), "frame {} was not touched", number);
            }
        }
        // At most one frame is lost in silence: the last.
        let last = left.last().map_or(0, |last| last - 199);
        prop_assert!(found.is_end_lost || last + 1 >= 6);
    }
}

//! A body as the difference to the one before it, without a schema. Every postcard body is a byte
//! string; most are rows of LEB128 numbers. Two rows of the same length differ number by number:
//!
//! ```text
//!  before   d2 24      a8 23      cd 97 06         4690, 4520, 101325
//!  now      d6 24      a5 23      cf 97 06         4694, 4517, 101327
//!  written  08         05         04               zigzag of +4, -3, +2
//! ```
//!
//! The difference is taken modulo 2^64, so every pair of rows has one, and it gives back exactly
//! the same bytes. A body that is no such row (a float's bytes, a number spelled longer than
//! needed) has none.
//!
//! Limits: what is written is never longer than the buffer given for it, and what is read back
//! never longer than [`DELTA_BODY_BYTES_MAX`].

use super::{FrameError, unzigzag_u64, zigzag_u64};
use crate::limits::DELTA_BODY_BYTES_MAX;
use crate::varint;

/// Writes `now` as its difference to `before` to the start of `out`. Returns how many bytes that
/// took, or nothing if there is no difference or no room.
pub(super) fn write(before: &[u8], now: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut before_at, mut now_at, mut out_at) = (0, 0, 0);
    while now_at < now.len() {
        let (old, old_end) = varint::read(before, before_at).ok()?;
        let (new, new_end) = varint::read(now, now_at).ok()?;
        out_at = varint::write(zigzag_u64(new.wrapping_sub(old)), out, out_at)?;
        (before_at, now_at) = (old_end, new_end);
    }
    (before_at == before.len()).then_some(out_at)
}

/// Reads a difference to `before` from `at` on in `frame` and writes the body that it stands for to
/// `out`. Returns the body's length and the place after the difference.
pub(super) fn read(
    before: &[u8],
    frame: &[u8],
    mut at: usize,
    out: &mut [u8; DELTA_BODY_BYTES_MAX],
) -> Result<(usize, usize), FrameError> {
    let (mut before_at, mut out_at) = (0, 0);
    while before_at < before.len() {
        let (old, old_end) = varint::read(before, before_at).map_err(|_| FrameError::NoReference)?;
        let (difference, end) = varint::read(frame, at)?;
        let new = old.wrapping_add(unzigzag_u64(difference));
        out_at = varint::write(new, out, out_at).ok_or(FrameError::BodyTooLong)?;
        (before_at, at) = (old_end, end);
    }
    Ok((out_at, at))
}

//! Dead letters as a replay's feed: those of one uplink, in the order of the log, as they were when
//! the replay began.
//!
//! What is acknowledged is taken away, some at a time and after the fact; what is refused again
//! stays with its tries.
//!
//! Limits: 24 bytes of memory for each letter, of which `dead_letters_max_bytes` allows some
//! hundred thousand by default. Crash story: a letter is taken away only after its acknowledgement:
//! one whose removal did not come to pass is still there, and another replay sends it once more.

use std::collections::BTreeSet;

use super::{
    super::delivery::carried::Control,
    feed::{Feed, Look, read_error, settled},
    picked::Picker,
    request::Letters,
};
use crate::store::{DEAD_LETTER_PAGE_MAX, NewLetter, ReadError, View};

/// Bytes of letters that one look reads, at about the most.
const LOOK_BYTES_MAX: u64 = 512 * 1024;

/// Dead letters.
#[derive(Debug)]
pub struct LettersFeed {
    view: View,
    /// Who sends them.
    by: String,
    /// The uplink that they belong to.
    of: String,
    /// By offset.
    places: Vec<QueuedLetter>,
}

#[derive(Debug, Clone, Copy)]
struct QueuedLetter {
    offset: u64,
    id: u64,
    /// Bytes of the letters before it and of itself.
    bytes_to: u64,
}

impl LettersFeed {
    /// What `letters` takes now, to be sent by the uplink `by`. Blocking.
    ///
    /// # Errors
    /// [`ReadError`]: the dead letters cannot be read.
    pub fn open(view: View, by: String, letters: &Letters) -> Result<Self, ReadError> {
        let mut places = Vec::new();
        let (filter, mut next) = (letters.filter(&by), Some(0));
        let ids: BTreeSet<u64> = letters.ids.iter().copied().collect();
        while let Some(after) = next {
            let page = view.dead_letters(&filter, after, DEAD_LETTER_PAGE_MAX).map_err(read_error)?;
            let wanted = page.letters.iter().filter(|letter| ids.is_empty() || ids.contains(&letter.id));
            places.extend(wanted.map(|letter| QueuedLetter {
                offset: letter.offset,
                id: letter.id,
                bytes_to: letter.record().size() as u64,
            }));
            next = page.next;
        }
        places.sort_unstable_by_key(|place| place.offset);
        let mut bytes = 0;
        for place in &mut places {
            bytes += place.bytes_to;
            place.bytes_to = bytes;
        }
        Ok(Self { view, of: letters.of.clone().unwrap_or_else(|| by.clone()), by, places })
    }

    fn index(&self, offset: u64) -> usize {
        self.places.partition_point(|place| place.offset < offset)
    }
}

impl Feed for LettersFeed {
    const WANTS_ACKS: bool = true;

    fn begin(&self) -> u64 {
        self.places.first().map_or(0, |place| place.offset)
    }

    fn total_bytes(&self) -> u64 {
        self.places.last().map_or(0, |place| place.bytes_to)
    }

    fn look(&self, at: u64, block_events_max: u64) -> Result<Look, ReadError> {
        let (mut picker, mut look) = (Picker::new(block_events_max), Look { next: at, ..Look::default() });
        let (mut index, mut bytes) = (self.index(at), 0);
        while let Some(place) = self.places.get(index).filter(|_| bytes < LOOK_BYTES_MAX) {
            match self.view.dead_letter(place.id).map_err(read_error)? {
                Some(letter) if letter.offset == place.offset => {
                    let record = letter.record();
                    picker.push(place.offset, &record);
                    bytes += record.size() as u64;
                }
                _ => look.gone_records += 1,
            }
            look.next = place.offset + 1;
            look.scanned_bytes = Some(place.bytes_to);
            index += 1;
        }
        look.ended = index >= self.places.len();
        look.picked = picker.finish();
        Ok(look)
    }

    fn put_dead_letters(&self, letters: &[NewLetter], now_ms: u64) -> Result<(), ReadError> {
        let mut letters = letters.to_vec();
        if self.by != self.of {
            for letter in &mut letters {
                letter.reason = format!("sent by {}: {}", self.by, letter.reason);
            }
        }
        let letters: Vec<_> = letters.iter().map(|letter| letter.letter(&self.of, now_ms)).collect();
        self.view.add_dead_letters(&letters).map_err(read_error)
    }

    fn controls(&self, offset: u64) -> Vec<Control> {
        settled(&self.view, &self.by, offset)
    }

    fn acknowledged(&self, offsets: &[u64]) -> Result<(), ReadError> {
        let id = |offset: &u64| {
            self.places.get(self.index(*offset)).filter(|place| place.offset == *offset).map(|place| place.id)
        };
        let ids: Vec<u64> = offsets.iter().filter_map(id).collect();
        self.view.remove_dead_letters_numbered(&ids).map(drop).map_err(read_error)
    }
}

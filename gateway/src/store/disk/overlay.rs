//! A file that is read and never written: what is written to it stays in memory.
//!
//! redb repairs a file when it opens it, and to repair is to write. A sealed segment is never
//! written again: not on a full disk, not on a failing one, not when a sync of it failed and what
//! memory shows of it may never be on the disk. So it is opened through this, its repair is done in
//! memory, and is done again at the next opening.
//!
//! Limits: [`OVERLAY_BYTES_MAX`] of written pages; a repair writes some pages of a segment of any
//! allowed size.

use std::{collections::BTreeMap, io};

use parking_lot::Mutex;
use redb::StorageBackend;

/// Bytes that can be written over a file at the most.
pub const OVERLAY_BYTES_MAX: usize = 32 * 1024 * 1024;
const PAGE_BYTES: usize = 4096;

/// A file with what was written to it in memory.
#[derive(Debug)]
pub struct Overlay<B> {
    base: B,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// The file counts up to here; what is behind it was cut off, or was never there.
    base_len: u64,
    /// By page number.
    pages: BTreeMap<u64, Box<[u8; PAGE_BYTES]>>,
}

impl<B: StorageBackend> Overlay<B> {
    /// Lays an empty memory over `base`.
    ///
    /// # Errors
    /// The file's length cannot be read.
    pub fn new(base: B) -> io::Result<Self> {
        let len = base.len()?;
        Ok(Self { base, state: Mutex::new(State { len, base_len: len, pages: BTreeMap::new() }) })
    }

    /// The page as the file has it, zeros where it has none.
    fn base_page(&self, base_len: u64, number: u64) -> io::Result<Box<[u8; PAGE_BYTES]>> {
        let mut page = Box::new([0; PAGE_BYTES]);
        let start = number * PAGE_BYTES as u64;
        let bytes = base_len.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
        if bytes > 0 {
            self.base.read(start, &mut page[..bytes])?;
        }
        Ok(page)
    }
}

impl<B: StorageBackend> StorageBackend for Overlay<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let end = offset + out.len() as u64;
        if end > state.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let pages = offset / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64);
        if state.pages.range(pages.clone()).next().is_none() && end <= state.base_len {
            drop(state);
            return self.base.read(offset, out);
        }
        for (number, from, to, at) in parts(offset, out.len()) {
            match state.pages.get(&number) {
                Some(page) => out[at..at + (to - from)].copy_from_slice(&page[from..to]),
                None => out[at..at + (to - from)]
                    .copy_from_slice(&self.base_page(state.base_len, number)?[from..to]),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            state.base_len = state.base_len.min(len);
            state.pages.split_off(&len.div_ceil(PAGE_BYTES as u64));
            let cut = (len % PAGE_BYTES as u64) as usize;
            if let Some(page) = state.pages.get_mut(&(len / PAGE_BYTES as u64)) {
                page[cut..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        for (number, from, to, at) in parts(offset, data.len()) {
            if !state.pages.contains_key(&number) {
                if (state.pages.len() + 1) * PAGE_BYTES > OVERLAY_BYTES_MAX {
                    return Err(io::Error::other("the repair of a sealed file outgrew its memory"));
                }
                let page = self.base_page(state.base_len, number)?;
                state.pages.insert(number, page);
            }
            if let Some(page) = state.pages.get_mut(&number) {
                page[from..to].copy_from_slice(&data[at..at + (to - from)]);
            }
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.base.close()
    }
}

/// The parts of `len` bytes at `offset` by page: its number, from and to within it, and where the
/// part lies in the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= len {
            return None;
        }
        let here = offset + at as u64;
        let from = (here % PAGE_BYTES as u64) as usize;
        let to = PAGE_BYTES.min(from + len - at);
        let part = (here / PAGE_BYTES as u64, from, to, at);
        at += to - from;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use redb::backends::InMemoryBackend;

    use super::*;

    fn read(backend: &impl StorageBackend) -> Vec<u8> {
        let mut bytes = vec![0; backend.len().unwrap() as usize];
        backend.read(0, &mut bytes).unwrap();
        bytes
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetLen(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..20_000, prop::collection::vec(any::<u8>(), 1..9_000))
                .prop_map(|(at, data)| Step::Write(at, data)),
            (0u64..30_000).prop_map(Step::SetLen),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_that_was_written_and_leaves_the_file_as_it_was(
            first: Vec<u8>, steps in prop::collection::vec(step(), 0..12),
        ) {
            let base = InMemoryBackend::new();
            base.set_len(first.len() as u64).unwrap();
            base.write(0, &first).unwrap();
            let overlay = Overlay::new(base).unwrap();
            let mut model = first.clone();
            for step in steps {
                match step {
                    Step::Write(at, data) => {
                        let end = at as usize + data.len();
                        model.resize(model.len().max(end), 0);
                        overlay.set_len(model.len() as u64).unwrap();
                        model[at as usize..end].copy_from_slice(&data);
                        overlay.write(at, &data).unwrap();
                    }
                    Step::SetLen(len) => {
                        model.resize(len as usize, 0);
                        overlay.set_len(len).unwrap();
                    }
                }
                prop_assert_eq!(&read(&overlay), &model);
            }
            prop_assert_eq!(read(&overlay.base), first);
        }
    }

    #[test]
    fn it_has_a_limit() {
        let overlay = Overlay::new(InMemoryBackend::new()).unwrap();
        overlay.set_len(1 << 40).unwrap();
        let page = vec![1; PAGE_BYTES];
        let written = (0..).take_while(|n| overlay.write(n * PAGE_BYTES as u64, &page).is_ok()).count();
        assert_eq!(written * PAGE_BYTES, OVERLAY_BYTES_MAX);
    }
}

//! The files of a store in one: each with its name, its length, and what lies between long runs of
//! one byte.
//!
//! ```text
//!  | name_len | name | file_len | bytes_len | bytes | run | run_len | bytes_len | bytes | …   | name_len | …
//!  | u16      |      | u64      | u32       |       | u8  | u32     | …until file_len is reached
//! ```
//! Little-endian. Database files are mostly runs of 0x00 and 0xFF, so this makes one of a hundred
//! kilobytes some kilobytes, and needs no library to be read in ten years. It holds no folders and
//! no rights.

use std::path::Path;

/// Shorter runs are kept as they are: to name one takes nearly as many bytes.
const RUN_MIN: usize = 16;
/// A file in a store is smaller; a longer one is no packed store.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Packs all files of `folder` but those named in `without`.
pub fn pack(folder: &Path, without: &[&str]) -> Vec<u8> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !without.contains(&name.as_str()))
        .collect();
    names.sort();
    let mut out = Vec::new();
    for name in names {
        let file = std::fs::read(folder.join(&name)).unwrap();
        out.extend((name.len() as u16).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((file.len() as u64).to_le_bytes());
        pack_file(&file, &mut out);
    }
    out
}

fn pack_file(file: &[u8], out: &mut Vec<u8>) {
    let mut begin = 0;
    while begin < file.len() {
        let (mut end, mut run) = (begin, 0);
        while end < file.len() {
            run = file[end..].iter().take_while(|byte| **byte == file[end]).count();
            if run >= RUN_MIN {
                break;
            }
            end += run;
            run = 0;
        }
        out.extend(((end - begin) as u32).to_le_bytes());
        out.extend(&file[begin..end]);
        out.push(file.get(end).copied().unwrap_or_default());
        out.extend((run as u32).to_le_bytes());
        begin = end + run;
    }
}

/// Makes the files that `packed` holds in `folder`.
pub fn unpack(mut packed: &[u8], folder: &Path) {
    while !packed.is_empty() {
        let name_len = u16::from_le_bytes(take(&mut packed));
        let name = String::from_utf8(take_slice(&mut packed, name_len.into()).to_vec()).unwrap();
        assert!(!name.contains('/'), "{name} is no file's name");
        let file_len = u64::from_le_bytes(take(&mut packed));
        assert!(file_len <= FILE_BYTES_MAX, "{name} has {file_len} bytes");
        let mut file = Vec::with_capacity(file_len as usize);
        while (file.len() as u64) < file_len {
            let bytes = u32::from_le_bytes(take(&mut packed)) as usize;
            file.extend(take_slice(&mut packed, bytes));
            let [byte] = take(&mut packed);
            let run = u32::from_le_bytes(take(&mut packed)) as usize;
            file.resize(file.len() + run, byte);
        }
        assert_eq!(file.len() as u64, file_len, "{name}");
        std::fs::write(folder.join(name), file).unwrap();
    }
}

fn take<const N: usize>(packed: &mut &[u8]) -> [u8; N] {
    take_slice(packed, N).try_into().unwrap()
}

fn take_slice<'a>(packed: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (taken, rest) = packed.split_at(len);
    *packed = rest;
    taken
}

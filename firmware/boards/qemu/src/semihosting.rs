//! What the host gives by semihosting (Arm "Semihosting for AArch32 and AArch64"): the command
//! line, files, the exit code.
//!
//! Purpose: on a real board the boot number is in flash; here a file of the host stands in for it
//! and outlives a killed emulator.
//!
//! Limits: a command line of [`LINE_BYTES_MAX`] bytes, without blanks inside a word.

use cortex_m_semihosting::{debug, nr, syscall};

/// Longest command line, in bytes.
pub const LINE_BYTES_MAX: usize = 256;

const OPEN_READ_BINARY: usize = 1;
const OPEN_WRITE_BINARY: usize = 5;

/// The command line: what stood behind `arg=`, with blanks between. Empty when there is none, or it
/// is too long.
pub fn command_line(memory: &mut [u8; LINE_BYTES_MAX]) -> &str {
    #[repr(C)]
    struct Block {
        text: *mut u8,
        bytes: usize,
    }
    let mut block = Block { text: memory.as_mut_ptr(), bytes: memory.len() };
    // SAFETY: the block is laid out as SYS_GET_CMDLINE asks, and points to memory of the length
    // that it says.
    let failed = unsafe { syscall(nr::GET_CMDLINE, &mut block) };
    let bytes = block.bytes.min(memory.len());
    if failed != 0 {
        return "";
    }
    core::str::from_utf8(&memory[..bytes]).unwrap_or("").trim_end_matches('\0')
}

/// The value of `key=value` in a command line.
pub fn value<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    line.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Reads the boot number in the file at `path`, adds one, writes it back, and returns it. A file
/// that is not there counts as 0. `None`: it cannot be written.
pub fn next_boot(path: &str) -> Option<u32> {
    let mut number = [0; 4];
    if let Some(file) = open(path, OPEN_READ_BINARY) {
        // SAFETY: SYS_READ's three words: a handle, and memory of the length that follows.
        let missing = unsafe { syscall(nr::READ, &[file, number.as_mut_ptr() as usize, number.len()]) };
        close(file);
        if missing != 0 {
            number = [0; 4];
        }
    }
    let boot = u32::from_le_bytes(number).wrapping_add(1);
    let number = boot.to_le_bytes();
    let file = open(path, OPEN_WRITE_BINARY)?;
    // SAFETY: SYS_WRITE's three words: a handle, and memory of the length that follows.
    let missing = unsafe { syscall(nr::WRITE, &[file, number.as_ptr() as usize, number.len()]) };
    close(file);
    (missing == 0).then_some(boot)
}

/// Ends the emulator: exit code 0 or 1.
pub fn exit(ok: bool) -> ! {
    loop {
        debug::exit(if ok { debug::EXIT_SUCCESS } else { debug::EXIT_FAILURE });
    }
}

fn open(path: &str, mode: usize) -> Option<usize> {
    let mut name = [0; LINE_BYTES_MAX];
    // One byte stays 0 behind the name.
    name[..LINE_BYTES_MAX - 1].get_mut(..path.len())?.copy_from_slice(path.as_bytes());
    // SAFETY: SYS_OPEN's three words: a name that ends in 0, the mode, the name's length.
    let handle = unsafe { syscall(nr::OPEN, &[name.as_ptr() as usize, mode, path.len()]) };
    (handle as isize >= 0).then_some(handle)
}

fn close(file: usize) {
    // SAFETY: SYS_CLOSE's one word: a handle that `open` gave.
    unsafe { syscall(nr::CLOSE, &[file]) };
}

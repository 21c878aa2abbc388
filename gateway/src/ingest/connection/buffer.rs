//! A connection's read buffer: small while idle, large under load.
//!
//! ```text
//!   | taken | to be taken |      spare      |
//!   0     start          end            length: 2 KB .. 64 KB, more for a longer packet
//! ```
//! It grows when a read fills it, so its size follows what was really sent and never what a header
//! promises. It shrinks by half after many small reads, and to its idle size when its owner says
//! that nothing happens.

/// Size while idle, in bytes.
pub const IDLE_BYTES: usize = 2 * 1024;
/// Size to which load lets it grow, in bytes. Only a packet that is longer takes it further.
pub const BUSY_BYTES: usize = 64 * 1024;
/// Reads below a quarter of the size, one after the other, that halve it.
const SMALL_READS_MAX: u8 = 64;
/// Size that is kept between packets, in bytes.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// The buffer.
#[derive(Debug)]
pub struct InputBuffer {
    memory: Vec<u8>,
    start: usize,
    end: usize,
    /// What one read gets at most, and the size to which load lets it grow.
    read_max: usize,
    /// The last read filled it.
    was_filled: bool,
    small_reads: u8,
    /// The length of the packet that is coming, as far as is known.
    packet_bytes: usize,
}

impl Default for InputBuffer {
    fn default() -> Self {
        Self::new(BUSY_BYTES)
    }
}

impl InputBuffer {
    /// One into which a read puts `read_max` bytes at most, and no less than [`IDLE_BYTES`].
    #[must_use]
    pub fn new(read_max: usize) -> Self {
        let read_max = read_max.max(IDLE_BYTES);
        InputBuffer {
            memory: vec![0; IDLE_BYTES],
            start: 0,
            end: 0,
            read_max,
            was_filled: false,
            small_reads: 0,
            packet_bytes: 0,
        }
    }

    /// The packet that is coming has so many bytes in all, as far as is known: it grows no further
    /// for it.
    #[inline]
    pub fn expect(&mut self, packet_bytes: usize) {
        self.packet_bytes = packet_bytes;
    }

    /// What was read and is not taken.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// The first `bytes` were taken.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.memory.len() > KEPT_BYTES_MAX {
                self.resize(BUSY_BYTES);
            }
        }
    }

    /// Makes room to read into; never empty afterwards. To be called before [`InputBuffer::spare`].
    pub fn make_room(&mut self) {
        if self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let length = self.memory.len();
        if self.end == length || (self.was_filled && length < self.read_max) {
            let longest = self.packet_bytes.max(self.read_max);
            let grown = if longest > length { (length * 2).min(longest) } else { length * 2 };
            self.memory.resize(grown, 0);
        } else if self.small_reads >= SMALL_READS_MAX && self.end <= length / 4 && length > IDLE_BYTES {
            self.resize(length / 2);
        }
        self.was_filled = false;
    }

    /// Room to read into.
    pub fn spare(&mut self) -> &mut [u8] {
        let end = self.memory.len().min(self.end + self.read_max);
        &mut self.memory[self.end..end]
    }

    /// `bytes` were read into the room.
    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
        self.was_filled = self.end == self.memory.len();
        self.small_reads = if bytes < self.memory.len() / 4 { self.small_reads.saturating_add(1) } else { 0 };
    }

    /// Gives back what an idle connection does not need.
    pub fn shrink(&mut self) {
        if self.end <= IDLE_BYTES && self.memory.len() > IDLE_BYTES {
            self.resize(IDLE_BYTES);
        }
    }

    fn resize(&mut self, bytes: usize) {
        self.memory.truncate(bytes);
        self.memory.shrink_to_fit();
        self.small_reads = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buffer: &mut InputBuffer, bytes: &[u8]) -> usize {
        buffer.make_room();
        let n = buffer.spare().len().min(bytes.len());
        buffer.spare()[..n].copy_from_slice(&bytes[..n]);
        buffer.filled(n);
        n
    }

    #[test]
    fn it_grows_to_its_limit_under_load_and_shrinks_again() {
        let mut buffer = InputBuffer::default();
        for _ in 0..20 {
            let n = read(&mut buffer, &[7; BUSY_BYTES]);
            buffer.consume(n);
        }
        assert_eq!(buffer.memory.len(), BUSY_BYTES);
        for _ in 0..10 * usize::from(SMALL_READS_MAX) {
            read(&mut buffer, &[7; 10]);
            buffer.consume(10);
        }
        assert_eq!(buffer.memory.len(), IDLE_BYTES);
    }

    #[test]
    fn a_read_gets_no_more_than_it_may() {
        let mut buffer = InputBuffer::new(IDLE_BYTES);
        for _ in 0..20 {
            assert!(read(&mut buffer, &[7; BUSY_BYTES]) <= IDLE_BYTES);
        }
        assert!(buffer.bytes().len() > 9 * IDLE_BYTES, "a packet that is longer fits all the same");
    }

    #[test]
    fn a_packet_beyond_the_limit_fits_and_its_bytes_keep_their_order() {
        let packet: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        let mut buffer = InputBuffer::default();
        read(&mut buffer, &[9, 9]);
        buffer.consume(1);
        let mut at = 0;
        while at < packet.len() {
            at += read(&mut buffer, &packet[at..]);
        }
        assert_eq!(buffer.bytes()[0], 9);
        assert_eq!(&buffer.bytes()[1..], packet);
        buffer.consume(packet.len() + 1);
        buffer.shrink();
        assert_eq!(buffer.memory.capacity(), IDLE_BYTES);
    }
}

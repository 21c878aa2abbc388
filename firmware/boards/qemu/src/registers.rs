//! Device registers: the only place that touches memory by its address.
//!
//! Limits: 32-bit registers of the peripherals named here, at the addresses of the MPS2 memory map
//! (Arm DAI 0386).
//!
//! What it does not do: it does not know what a register means.

/// A peripheral: a block of 32-bit registers.
#[derive(Clone, Copy)]
pub struct Registers {
    base: usize,
}

/// CMSDK APB timer 0.
pub const TIMER0: Registers = Registers { base: 0x4000_0000 };
/// CMSDK APB timer 1.
pub const TIMER1: Registers = Registers { base: 0x4000_1000 };
/// CMSDK APB UART 0.
pub const UART0: Registers = Registers { base: 0x4000_4000 };
/// SMSC LAN9118 Ethernet.
pub const ETHERNET: Registers = Registers { base: 0x4020_0000 };

/// Bytes of every block that are mapped.
const BLOCK_BYTES: usize = 0x100;

impl Registers {
    /// Reads the register at this offset, a multiple of 4.
    pub fn read(self, offset: usize) -> u32 {
        debug_assert!(offset < BLOCK_BYTES && offset.is_multiple_of(4));
        // SAFETY: `base` is one of the blocks above, which are mapped and hold nothing of the
        // program's memory; the offset is within the block and aligned.
        unsafe { ((self.base + offset) as *const u32).read_volatile() }
    }

    /// Writes the register at this offset, a multiple of 4.
    pub fn write(self, offset: usize, value: u32) {
        debug_assert!(offset < BLOCK_BYTES && offset.is_multiple_of(4));
        // SAFETY: as for `read`; none of these peripherals writes to the program's memory by itself
        // (no DMA).
        unsafe { ((self.base + offset) as *mut u32).write_volatile(value) }
    }
}

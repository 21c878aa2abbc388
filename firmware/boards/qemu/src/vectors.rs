//! The board's interrupts: the three that are used, and the vector table.

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;

/// An interrupt line of the MPS2 board.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Interrupt {
    /// CMSDK timer 0: the alarm.
    Timer0 = 8,
    /// CMSDK timer 1: the clock wraps.
    Timer1 = 9,
    /// LAN9118.
    Ethernet = 13,
}

const LINES: usize = 32;

// SAFETY: the numbers are those of the board's interrupt map, each below the number of lines.
unsafe impl InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}

/// Lets an interrupt through.
pub fn enable(interrupt: Interrupt) {
    // SAFETY: called once its driver is set up; no code relies on an interrupt being masked, only
    // on critical sections.
    unsafe { NVIC::unmask(interrupt) }
}

/// An entry of the table.
#[derive(Clone, Copy)]
#[repr(C)]
pub union Vector {
    handler: unsafe extern "C" fn(),
    reserved: usize,
}

// SAFETY: each name is a handler of this program or, by device.x, the default handler.
unsafe extern "C" {
    fn TIMER0();
    fn TIMER1();
    fn ETHERNET();
}

/// The table, which cortex-m-rt places behind the core's exceptions.
// SAFETY: section and name are the ones that cortex-m-rt's linker script asks for with its feature
// `device`.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
pub static __INTERRUPTS: [Vector; LINES] = {
    let mut table = [Vector { reserved: 0 }; LINES];
    table[Interrupt::Timer0 as usize] = Vector { handler: TIMER0 };
    table[Interrupt::Timer1 as usize] = Vector { handler: TIMER1 };
    table[Interrupt::Ethernet as usize] = Vector { handler: ETHERNET };
    table
};

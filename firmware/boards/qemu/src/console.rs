//! The console: UART 0, transmit only, polled.
//!
//! What it does not do: no input, no interrupts, no buffer. A line costs the time of its bytes.

use core::fmt::{self, Write};

use crate::registers::UART0;

const DATA: usize = 0x00;
const STATE: usize = 0x04;
const CTRL: usize = 0x08;
const BAUDDIV: usize = 0x10;
const TX_FULL: u32 = 1;
const TX_ENABLE: u32 = 1;
/// The least that the UART takes; the emulated one has no baud rate.
const BAUD_DIVISOR: u32 = 16;

/// Switches the transmitter on.
pub fn init() {
    UART0.write(BAUDDIV, BAUD_DIVISOR);
    UART0.write(CTRL, TX_ENABLE);
}

/// Where [`say!`] writes to.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while UART0.read(STATE) & TX_FULL != 0 {}
            UART0.write(DATA, u32::from(byte));
        }
        Ok(())
    }
}

/// Writes a line.
macro_rules! say {
    ($($words:tt)*) => {{
        use core::fmt::Write as _;
        // The console's `write_str` cannot fail.
        let _ = writeln!($crate::console::Console, $($words)*);
    }};
}
pub(crate) use say;

//! SMSC LAN9118 Ethernet as an embassy-net driver, by programmed I/O.
//!
//! Purpose: the board's network. Registers and FIFOs as in SMSC's datasheet "LAN9118", chapters 3
//! and 5.
//!
//! ```text
//!  receive:   RX_FIFO_INF ─▶ RX_STATUS (length, errors) ─▶ RX_DATA, a word at a time ─▶ buffer ─▶ embassy-net
//!  transmit:  TX_FIFO_INF ─▶ TX_DATA: command A, command B, then the frame's words
//!  interrupt: masks itself and wakes the network's task, which asks for the next one
//! ```
//!
//! Limits: frames of up to [`MTU`] bytes, one at a time each way. A frame with an error is dropped;
//! TCP sends it again.
//!
//! What it does not do: no DMA, no link state (the emulated cable is always in).

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

use crate::registers::ETHERNET as CHIP;
use crate::vectors::{Interrupt, enable};

const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const ID_REV: usize = 0x50;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const BYTE_TEST: usize = 0x64;
const FIFO_INT: usize = 0x68;
const RX_CFG: usize = 0x6c;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_DP_CTRL: usize = 0x78;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;

const BYTE_TEST_VALUE: u32 = 0x8765_4321;
const CHIP_ID: u32 = 0x0118;
const SOFT_RESET: u32 = 1;
/// HW_CFG: a bit that must be one, and 5 KB of the FIFO for transmitting.
const FIFO_SPLIT: u32 = 1 << 20 | 5 << 16;
/// FIFO_INT: no interrupt for transmit room by level, one for every receive status.
const FIFO_LEVELS: u32 = 0xff << 24;
/// IRQ_CFG: on, active high, push-pull.
const IRQ_ON: u32 = 1 << 8 | 1 << 4 | 1;
const TX_ON: u32 = 1 << 1;
/// INT_STS and INT_EN: a receive status waits.
const INT_RECEIVED: u32 = 1 << 3;
/// INT_STS and INT_EN: there is room to transmit again.
const INT_TX_ROOM: u32 = 1 << 9;
const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
/// MAC_CR: receiver and transmitter on.
const MAC_RX_TX_ON: u32 = 1 << 2 | 1 << 3;
const RX_ERROR: u32 = 1 << 15;
const RX_DISCARD: u32 = 1 << 31;
/// Shorter frames cannot be discarded by RX_DP_CTRL.
const DISCARD_BYTES_MIN: usize = 16;
const CRC_BYTES: usize = 4;
/// Transmit command A: first and last piece of a frame.
const TX_WHOLE: u32 = 1 << 13 | 1 << 12;

/// Longest frame, in bytes.
const MTU: usize = 1514;
const FRAME_BYTES_MAX: usize = MTU.next_multiple_of(4);
/// FIFO bytes for a frame and its two command words.
const TX_ROOM_BYTES: u32 = FRAME_BYTES_MAX as u32 + 8;

static WAKER: AtomicWaker = AtomicWaker::new();

/// The chip, and room for the frame that comes in.
pub struct Lan9118 {
    address: [u8; 6],
    frame: [u8; FRAME_BYTES_MAX],
}

/// There is no such chip at its address.
#[derive(Debug)]
pub struct NotFound {
    /// What its identity register says.
    pub id_rev: u32,
}

impl Lan9118 {
    /// Resets the chip and switches it on.
    ///
    /// # Errors
    /// [`NotFound`]: nothing was changed.
    pub fn start() -> Result<Self, NotFound> {
        let id_rev = CHIP.read(ID_REV);
        if CHIP.read(BYTE_TEST) != BYTE_TEST_VALUE || id_rev >> 16 != CHIP_ID {
            return Err(NotFound { id_rev });
        }
        CHIP.write(HW_CFG, SOFT_RESET);
        while CHIP.read(HW_CFG) & SOFT_RESET != 0 {}
        CHIP.write(HW_CFG, FIFO_SPLIT);
        CHIP.write(FIFO_INT, FIFO_LEVELS);
        CHIP.write(RX_CFG, 0);
        CHIP.write(INT_EN, 0);
        CHIP.write(INT_STS, u32::MAX);
        CHIP.write(IRQ_CFG, IRQ_ON);
        let low = mac_read(MAC_ADDRL).to_le_bytes();
        let high = mac_read(MAC_ADDRH).to_le_bytes();
        mac_write(MAC_CR, MAC_RX_TX_ON);
        CHIP.write(TX_CFG, TX_ON);
        enable(Interrupt::Ethernet);
        let address = [low[0], low[1], low[2], low[3], high[0], high[1]];
        Ok(Lan9118 { address, frame: [0; FRAME_BYTES_MAX] })
    }

    /// Takes the next frame without an error off the FIFO: its length without the check sum.
    fn take_frame(&mut self) -> Option<usize> {
        while receive_waits() {
            let status = CHIP.read(RX_STATUS);
            let bytes = (status >> 16 & 0x3fff) as usize;
            let data = bytes.saturating_sub(CRC_BYTES);
            if status & RX_ERROR != 0 || data == 0 || bytes > FRAME_BYTES_MAX {
                discard(bytes);
                continue;
            }
            for word in self.frame[..bytes.next_multiple_of(4)].chunks_exact_mut(4) {
                word.copy_from_slice(&CHIP.read(RX_DATA).to_le_bytes());
            }
            return Some(data);
        }
        None
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Transmit;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received<'_>, Transmit)> {
        // Whoever receives may want to answer at once.
        if !transmit_has_room() {
            wake_on(cx, INT_TX_ROOM);
            return None;
        }
        let bytes = match self.take_frame() {
            Some(bytes) => bytes,
            None => {
                wake_on(cx, INT_RECEIVED);
                // One may have come before the interrupt was asked for.
                self.take_frame()?
            }
        };
        Some((Received(&mut self.frame[..bytes]), Transmit))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Transmit> {
        if !transmit_has_room() {
            wake_on(cx, INT_TX_ROOM);
            return None;
        }
        Some(Transmit)
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = MTU;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A frame that came in.
pub struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// Room for a frame.
pub struct Transmit;

impl TxToken for Transmit {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = [0; FRAME_BYTES_MAX];
        let filled = fill(&mut frame[..len]);
        // The statuses of earlier frames would fill their FIFO.
        while CHIP.read(TX_FIFO_INF) >> 16 & 0xff != 0 {
            CHIP.read(TX_STATUS);
        }
        CHIP.write(TX_DATA, TX_WHOLE | len as u32);
        CHIP.write(TX_DATA, len as u32);
        let (words, _) = frame[..len.next_multiple_of(4)].as_chunks::<4>();
        for word in words {
            CHIP.write(TX_DATA, u32::from_le_bytes(*word));
        }
        filled
    }
}

// SAFETY: the name is the vector table's; a handler takes and returns nothing.
#[unsafe(no_mangle)]
extern "C" fn ETHERNET() {
    // The network's task asks again when it waits again.
    CHIP.write(INT_EN, 0);
    WAKER.wake();
}

fn wake_on(cx: &mut Context<'_>, interrupt: u32) {
    WAKER.register(cx.waker());
    CHIP.write(INT_STS, interrupt);
    critical_section::with(|_| CHIP.write(INT_EN, CHIP.read(INT_EN) | interrupt));
}

fn receive_waits() -> bool {
    CHIP.read(RX_FIFO_INF) >> 16 & 0xff != 0
}

fn transmit_has_room() -> bool {
    CHIP.read(TX_FIFO_INF) & 0xffff >= TX_ROOM_BYTES
}

/// Drops the frame at the head of the receive FIFO.
fn discard(bytes: usize) {
    if bytes >= DISCARD_BYTES_MIN {
        CHIP.write(RX_DP_CTRL, RX_DISCARD);
        while CHIP.read(RX_DP_CTRL) & RX_DISCARD != 0 {}
    } else {
        for _ in 0..bytes.div_ceil(4) {
            CHIP.read(RX_DATA);
        }
    }
}

fn mac_wait() {
    while CHIP.read(MAC_CSR_CMD) & MAC_BUSY != 0 {}
}

fn mac_read(register: u32) -> u32 {
    mac_wait();
    CHIP.write(MAC_CSR_CMD, MAC_BUSY | MAC_READ | register);
    mac_wait();
    CHIP.read(MAC_CSR_DATA)
}

fn mac_write(register: u32, value: u32) {
    mac_wait();
    CHIP.write(MAC_CSR_DATA, value);
    CHIP.write(MAC_CSR_CMD, MAC_BUSY | register);
    mac_wait();
}

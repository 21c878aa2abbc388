//! embassy's time on the two CMSDK timers: timer 1 counts, timer 0 is the alarm.
//!
//! Limits: both count down at 25 MHz in 32 bits. The clock wraps every 171 s, which is counted; an
//! alarm further off than that fires early and is set again.

use core::cell::{Cell, RefCell};
use core::task::Waker;

use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;

use crate::registers::{TIMER0 as ALARM, TIMER1 as CLOCK};
use crate::vectors::{Interrupt, enable};

const CTRL: usize = 0x0;
const VALUE: usize = 0x4;
const RELOAD: usize = 0x8;
const INT: usize = 0xc;
/// CTRL: counting, with its interrupt.
const RUN: u32 = 0b1001;
const TICKS_PER_US: u64 = 25;

struct CmsdkTimers {
    wraps: Mutex<Cell<u32>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static TIMERS: CmsdkTimers = CmsdkTimers {
    wraps: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// Starts the clock.
pub fn init() {
    CLOCK.write(RELOAD, u32::MAX);
    CLOCK.write(VALUE, u32::MAX);
    CLOCK.write(INT, 1);
    CLOCK.write(CTRL, RUN);
    enable(Interrupt::Timer0);
    enable(Interrupt::Timer1);
}

impl Driver for CmsdkTimers {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.now_us(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker) {
                self.wake_due(cs);
            }
        });
    }
}

impl CmsdkTimers {
    fn now_us(&self, cs: CriticalSection<'_>) -> u64 {
        let mut wraps = u64::from(self.wraps.borrow(cs).get());
        let mut left = CLOCK.read(VALUE);
        if CLOCK.read(INT) & 1 != 0 {
            // It has wrapped, and its interrupt has not run yet. The first value may be from
            // before.
            wraps += 1;
            left = CLOCK.read(VALUE);
        }
        ((wraps << 32) + u64::from(u32::MAX - left)) / TICKS_PER_US
    }

    fn wake_due(&self, cs: CriticalSection<'_>) {
        let mut queue = self.queue.borrow(cs).borrow_mut();
        let mut next_us = queue.next_expiration(self.now_us(cs));
        while !self.set_alarm(cs, next_us) {
            next_us = queue.next_expiration(self.now_us(cs));
        }
    }

    /// False: that moment has passed already.
    fn set_alarm(&self, cs: CriticalSection<'_>, at_us: u64) -> bool {
        ALARM.write(CTRL, 0);
        ALARM.write(INT, 1);
        if at_us == u64::MAX {
            return true;
        }
        let now_us = self.now_us(cs);
        if at_us <= now_us {
            return false;
        }
        let ticks = (at_us - now_us).saturating_mul(TICKS_PER_US).min(u64::from(u32::MAX)) as u32;
        ALARM.write(RELOAD, ticks);
        ALARM.write(VALUE, ticks);
        ALARM.write(CTRL, RUN);
        true
    }
}

// SAFETY: the name is the vector table's; a handler takes and returns nothing.
#[unsafe(no_mangle)]
extern "C" fn TIMER0() {
    critical_section::with(|cs| {
        ALARM.write(INT, 1);
        TIMERS.wake_due(cs);
    });
}

// SAFETY: as for TIMER0.
#[unsafe(no_mangle)]
extern "C" fn TIMER1() {
    critical_section::with(|cs| {
        CLOCK.write(INT, 1);
        let wraps = TIMERS.wraps.borrow(cs);
        wraps.set(wraps.get() + 1);
    });
}

//! A thread-mode executor that sleeps with WFI.
//!
//! Purpose: embassy's own for Cortex-M sleeps with WFE, which QEMU runs as a busy loop: a whole
//! core of the host for each machine.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::{Spawner, raw};

static WORK: AtomicBool = AtomicBool::new(false);

// SAFETY: the name and the signature are those that embassy-executor calls; nothing else defines
// it.
#[unsafe(export_name = "__pender")]
fn pender(_: *mut ()) {
    WORK.store(true, Ordering::Release);
}

/// Spawns with `init`, then runs for ever.
pub fn run(executor: &'static raw::Executor, init: impl FnOnce(Spawner)) -> ! {
    init(executor.spawner());
    loop {
        // SAFETY: this is the only caller, and it never calls from within a task.
        unsafe { executor.poll() };
        // With interrupts masked WFI still ends on a pending one, so none is missed between the
        // look and the sleep.
        cortex_m::interrupt::disable();
        if !WORK.swap(false, Ordering::AcqRel) {
            cortex_m::asm::wfi();
        }
        // SAFETY: they were enabled before, and no critical section is open here.
        unsafe { cortex_m::interrupt::enable() };
    }
}

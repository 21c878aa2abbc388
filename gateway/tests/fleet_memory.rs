//! What ten thousand devices take of memory, counted by the allocator itself.
//!
//! One test, alone in its program: what others allocate would be counted too.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::System;

use cap::Cap;
use tidegate::{
    clock::{self, Reading},
    fleet::{BOOTS_MAX, RUNS_MAX, State},
    store::{Kind, Record},
};
use tidegate_protocol::{
    Birth, FrameWriter, Kinds, ResetReason,
    events::{EventType, Loss},
};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const DEVICES: u32 = 10_000;
/// What the fleet may take where every device has begun often and lost little.
const USUAL_MAX: usize = 48 << 20;
/// What it may take where every boot of every device has as many holes as are kept, and more.
const WORST_MAX: usize = 96 << 20;

fn record<'a>(kind: Kind, topic: &'a str, payload: &'a [u8]) -> Record<'a> {
    Record {
        kind,
        events: 1,
        qos: 1,
        received_ms: 1_795_000_000_000,
        client: "c",
        topic,
        payload,
        ..Record::default()
    }
}

/// Devices with births, and with a frame of one event before and after each of `holes` holes in
/// every boot.
fn fill(holes: u32) -> (State, usize) {
    let before = MEMORY.allocated();
    let mut state = State::new(Default::default(), Default::default(), true);
    state.look(&Reading { boot_id: [1; 16], boot_ms: 0, wall_ms: 1_794_999_000_000 }, 0);
    let (mut offset, kinds) = (0, [Loss::KIND]);
    for device in 0..DEVICES {
        let (births, events) = (format!("tg/device-{device:05}/b"), format!("tg/device-{device:05}/e"));
        for boot in 1..=BOOTS_MAX as u32 + 1 {
            let birth = Birth {
                boot,
                connection: 1,
                uptime_ms: 5,
                wall_ms: None,
                reset: ResetReason::PowerOn,
                firmware: "barn-climate",
                version: "1.24.3",
                build: "3f2c9a7d51",
                kinds: Kinds::new(&kinds),
            };
            let mut out = [0; 4096];
            state.apply(offset, &record(Kind::Opaque, &births, birth.write(&mut out).unwrap()));
            for number in 0..=holes {
                let mut writer = FrameWriter::new(&mut out, boot, number * 2, 7, false);
                writer.push(10, 1, &[1]).unwrap();
                state.apply(offset + 1, &record(Kind::Frame, &events, writer.finish()));
            }
            offset += 2;
        }
    }
    // What has changed since the last save is no part of what is known.
    drop(state.take_changed());
    (state, MEMORY.allocated() - before)
}

#[test]
fn ten_thousand_devices_fit_into_their_memory() {
    for (holes, bytes_max) in [(1, USUAL_MAX), (RUNS_MAX as u32 + 8, WORST_MAX)] {
        let (state, bytes) = fill(holes);
        let totals = state.totals(&clock::reading());
        assert_eq!(totals.devices, u64::from(DEVICES));
        assert_eq!(totals.missing, u64::from(DEVICES * holes) * (BOOTS_MAX as u64 + 1));
        println!("{DEVICES} devices, {holes} holes in each boot: {:.1} MB", bytes as f64 / 1e6);
        assert!(bytes <= bytes_max, "{bytes} bytes");
    }
}

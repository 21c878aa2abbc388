//! Whatever devices say of their boots, numbers and clocks, and whatever the gateway's clocks do:
//! the fleet takes it in, counts, and stays within its bounds. One device's nonsense must not stop
//! the gateway.

use proptest::prelude::*;
use tidegate::{
    clock::Reading,
    fleet::State,
    store::{Kind, Record},
};
use tidegate_protocol::{
    Birth, FrameWriter, Kinds, ResetReason, State as Said, Status,
    events::{EventType, LOSS_KIND, Loss, LossReason},
};

const KINDS: [tidegate_protocol::Kind; 1] = [Loss::KIND];

#[derive(Debug, Clone)]
enum Action {
    Birth {
        boot: u32,
        connection: u32,
        uptime_ms: u64,
        wall_ms: Option<u64>,
    },
    Status {
        boot: u32,
        connection: u32,
        uptime_ms: u64,
        wall_ms: Option<u64>,
        next_contact_s: Option<u32>,
        state: u8,
    },
    Frame {
        boot: u32,
        first_seq: u32,
        base_ms: u64,
        losses: Vec<(u32, u32)>,
    },
    Look {
        boot_id: u8,
        boot_ms: i64,
        wall_ms: i64,
    },
    Stamp {
        boot: u32,
        uptime_ms: u64,
    },
}

fn extreme_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), Just(u32::MAX - 1), 0_u32..300, any::<u32>()]
}

fn extreme_u64() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(1 << 50),
        Just((1 << 50) + 1),
        Just(1 << 63),
        0_u64..10_000_000,
        any::<u64>()
    ]
}

/// What clocks say: the kernel's are within some thousands of years.
fn clock_ms() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1_735_689_600_000), 0_i64..4_000_000_000_000, Just(1 << 53)]
}

fn action() -> impl Strategy<Value = Action> {
    let losses = prop::collection::vec((extreme_u32(), extreme_u32()), 1..8);
    let wall = || prop::option::of(extreme_u64());
    prop_oneof![
        (extreme_u32(), extreme_u32(), extreme_u64(), wall()).prop_map(
            |(boot, connection, uptime_ms, wall_ms)| {
                Action::Birth { boot, connection, uptime_ms, wall_ms }
            }
        ),
        (extreme_u32(), extreme_u32(), extreme_u64(), wall(), prop::option::of(extreme_u32()), 0_u8..4)
            .prop_map(|(boot, connection, uptime_ms, wall_ms, next_contact_s, state)| {
                Action::Status { boot, connection, uptime_ms, wall_ms, next_contact_s, state }
            }),
        (extreme_u32(), extreme_u32(), extreme_u64(), losses).prop_map(
            |(boot, first_seq, base_ms, losses)| { Action::Frame { boot, first_seq, base_ms, losses } }
        ),
        (0_u8..3, clock_ms(), clock_ms())
            .prop_map(|(boot_id, boot_ms, wall_ms)| { Action::Look { boot_id, boot_ms, wall_ms } }),
        (extreme_u32(), extreme_u64()).prop_map(|(boot, uptime_ms)| Action::Stamp { boot, uptime_ms }),
    ]
}

/// The topic's last level and the payload of what an action sends.
fn message(action: &Action) -> Option<(&'static str, Vec<u8>)> {
    let mut out = [0; 1024];
    match *action {
        Action::Birth { boot, connection, uptime_ms, wall_ms } => {
            let (reset, kinds) = (ResetReason::Watchdog, Kinds::new(&KINDS));
            let birth = Birth {
                boot,
                connection,
                uptime_ms,
                wall_ms,
                reset,
                firmware: "f",
                version: "1",
                build: "",
                kinds,
            };
            Some(("b", birth.write(&mut out).ok()?.to_vec()))
        }
        Action::Status { boot, connection, uptime_ms, wall_ms, next_contact_s, state } => {
            let state = Said::from_number(state)?;
            let (battery_percent, signal_dbm) = (Some(100), Some(i8::MIN));
            let status = Status {
                boot,
                connection,
                state,
                uptime_ms,
                wall_ms,
                next_contact_s,
                battery_percent,
                signal_dbm,
            };
            Some(("s", status.write(&mut out).ok()?.to_vec()))
        }
        Action::Frame { boot, first_seq, base_ms, ref losses } => {
            let mut writer = FrameWriter::new(&mut out, boot, first_seq, 7, false);
            for (first_seq, count) in losses {
                let loss = Loss { first_seq: *first_seq, count: *count, reason: LossReason::Storage };
                let body = postcard::to_allocvec(&loss).ok()?;
                writer.push(base_ms, LOSS_KIND, &body).ok()?;
            }
            Some(("e", writer.finish().to_vec()))
        }
        Action::Look { .. } | Action::Stamp { .. } => None,
    }
}

proptest! {
    #[test]
    fn nothing_that_is_said_or_shown_by_any_clock_stops_the_fleet(
        actions in prop::collection::vec((action(), clock_ms()), 1..60), has_past: bool,
    ) {
        let mut state = State::new(Default::default(), Default::default(), has_past);
        let mut reading = Reading { boot_id: [0; 16], boot_ms: 0, wall_ms: 0 };
        for (offset, (action, received_ms)) in (0..).zip(&actions) {
            if let Action::Look { boot_id, boot_ms, wall_ms } = *action {
                reading = Reading { boot_id: [boot_id; 16], boot_ms, wall_ms };
                state.look(&reading, offset);
            }
            if let Action::Stamp { boot, uptime_ms } = *action {
                state.stamp("d", boot, uptime_ms, offset, *received_ms as u64);
            }
            let Some((leaf, payload)) = message(action) else { continue };
            let topic = format!("tg/d/{leaf}");
            let kind = if leaf == "e" { Kind::Frame } else { Kind::Opaque };
            let record = Record {
                kind,
                events: 1,
                qos: 1,
                received_ms: *received_ms as u64,
                client: "d",
                topic: &topic,
                payload: &payload,
                ..Record::default()
            };
            state.apply(offset, &record);
            let totals = state.totals(&reading);
            prop_assert!(totals.devices <= 1);
        }
    }
}

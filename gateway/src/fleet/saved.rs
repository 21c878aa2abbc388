//! What is kept of the fleet, and how it comes back: rows of the store's `fleet.redb`.
//!
//! A row of a device or of a machine boot is postcard of the types here. A field is never changed
//! or moved: what is added goes behind the others, in a format of its own number. The faults of a
//! device stand behind its row, and behind them what came under numbers that were used before,
//! where there are any: a version that knows nothing of them reads the row without.
//!
//! Crash story: rows, the catalog's rows and the position they belong to are one transaction. What
//! is not in it is made again from the log behind the position. A file that is damaged is set
//! aside, and what the log still holds is followed anew: then a device's numbers count from the
//! first that is seen.

use std::collections::{HashMap, HashSet};

use serde::{Serialize, de::DeserializeOwned};

use super::{device::Device, faults::Faults, state::State};
use crate::{
    catalog::{Catalog, Row},
    clock::{Journal, Reading, journal::BOOTS_MAX},
    store::{FleetChange, KeptFleet, StoreError, View},
};

/// What is to be kept, and what it was made of, should it fail.
#[derive(Debug)]
pub struct Save {
    /// The rows.
    pub changes: Vec<FleetChange>,
    devices: HashSet<Box<str>>,
    is_journal_changed: bool,
}

/// What was kept, or a beginning.
#[derive(Debug)]
pub struct Loaded {
    /// What is known of the devices.
    pub state: State,
    /// Where to follow the log from.
    pub position: u64,
    /// From where on a reply may be to a command that is kept.
    pub replies_from: u64,
}

/// All that was kept, and the position to follow the log from. The catalog's rows go to the
/// catalog, and the journal to the store's timeline, with this first look at the clocks.
///
/// # Errors
/// [`StoreError`]: a newer version wrote it, or the store is closed.
pub fn load(view: &View, catalog: &Catalog, reading: &Reading) -> Result<Loaded, StoreError> {
    let kept = match view.load_fleet() {
        Err(error @ (StoreError::Format { .. } | StoreError::Closed)) => return Err(error),
        // No figure is worth a gateway that takes nothing in.
        Err(error) => {
            tracing::error!("what is known of the devices is begun anew: {error}");
            None
        }
        Ok(kept) => kept,
    };
    let Some(kept) = kept else {
        let begin = view.begin()?.offset;
        let mut state = State::new(HashMap::new(), view.timeline().clone(), begin == 0);
        let end = view.end().offset;
        state.begin(Journal::default(), reading, end);
        return Ok(Loaded { state, position: begin, replies_from: end });
    };
    let KeptFleet { position, has_past, replies_from, devices, machine_boots, definitions, sets, announced } =
        kept;
    let mut wrong = 0;
    let known = devices.into_iter().filter_map(|(name, row)| {
        let device = device_of(&row);
        wrong += usize::from(device.is_none());
        Some((name.into_boxed_str(), device?))
    });
    let known = known.collect();
    let (journal, unreadable) = Journal::of_rows(machine_boots.into_iter().map(|(_, row)| row));
    wrong += unreadable;
    let definitions =
        definitions.into_iter().map(|(hash, bytes)| Row::Definition { hash, bytes: bytes.into() });
    let sets = sets.into_iter().map(|(hash, kinds)| Row::Set { hash, kinds: kinds.into() });
    let announced = announced.into_iter().map(|(device, schema_set, set)| Row::Device {
        device: device.into(),
        schema_set,
        set: Some(set),
    });
    wrong += catalog.load(definitions.chain(sets).chain(announced));
    if wrong > 0 {
        tracing::error!(
            rows = wrong,
            "some of what was kept of the devices makes no sense, and is begun anew"
        );
    }
    let mut state = State::new(known, view.timeline().clone(), has_past);
    state.begin(journal, reading, view.end().offset);
    Ok(Loaded { state, position, replies_from })
}

/// What there is to be kept, with what is left of the catalog's rows.
pub fn gather(state: &mut State, rows: &[Row], replies_from: u64) -> Save {
    let (devices, is_journal_changed) = state.take_changed();
    let mut changes = vec![FleetChange::HasPast(state.has_past()), FleetChange::RepliesFrom(replies_from)];
    changes.extend(rows.iter().map(change));
    for name in &devices {
        if let Some(device) = state.devices().get(name) {
            changes.push(FleetChange::Device(name.to_string(), row_of(device)));
        }
    }
    // Every look is kept: the next process has to know how old the last one is.
    if let Some(current) = state.journal().current() {
        changes.push(FleetChange::MachineBoot(current.0 % BOOTS_MAX, encode(current)));
    }
    Save { changes, devices, is_journal_changed }
}

impl Save {
    /// It was not kept: all of it is to be kept still.
    pub fn give_back(self, state: &mut State) {
        state.put_back(self.devices, self.is_journal_changed);
    }
}

fn change(row: &Row) -> FleetChange {
    match row {
        Row::Definition { hash, bytes } => FleetChange::Definition(*hash, bytes.to_vec()),
        Row::Set { hash, kinds } => FleetChange::Set(*hash, kinds.to_vec()),
        Row::Device { device, schema_set, set } => {
            FleetChange::Announced(device.to_string(), *schema_set, *set)
        }
    }
}

fn row_of(device: &Device) -> Vec<u8> {
    let mut row = encode(device);
    if device.faults.is_some() || device.reuse.is_some() {
        row.extend(encode(&device.faults.as_deref().cloned().unwrap_or_default()));
    }
    if let Some(reuse) = &device.reuse {
        row.extend(encode(reuse));
    }
    row
}

fn device_of(row: &[u8]) -> Option<Device> {
    let (device, rest) = postcard::take_from_bytes::<Device>(row).ok()?;
    let Ok((faults, rest)) = postcard::take_from_bytes::<Box<Faults>>(rest) else { return Some(device) };
    let faults = Some(faults).filter(|faults| faults.count > 0);
    Some(Device { faults, reuse: decode(rest), ..device })
}

fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_allocvec(row).expect("invariant: numbers, texts and lists of known length go into a vector")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

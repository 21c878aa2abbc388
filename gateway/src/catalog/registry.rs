//! Every kind that any device ever announced, and which device's frames are of which.
//!
//! ```text
//! (device, schema_set) ──▶ set ──▶ kinds by index ──▶ definition, decoder        each kept once, by its SHA-256
//!      a birth            shared        shared
//! ```
//!
//! A birth is known the moment it is learned; the rows that say so are handed out by
//! [`Catalog::take_unsaved`] to whoever keeps them, and come back through [`Catalog::load`]. A
//! birth that is cut off before its rows were kept is learned again from the log.
//!
//! Limits: [`KINDS_BYTES_MAX`] of definitions and decoders, [`SETS_MAX`] lists, [`DEVICES_MAX`]
//! devices, of each of them the [`SETS_PER_DEVICE_MAX`] lists that it announced last and
//! [`NEW_PER_DEVICE_MAX`] definitions that were new. Beyond these a birth is refused, and what is
//! known stays. A definition is never forgotten.
//!
//! What it does not do: no file, no clock; it does not ask devices for anything.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use parking_lot::{Mutex, RwLock};
use tidegate_protocol::{
    Birth,
    events::{EventType, LOSS_KIND, Loss},
};
use tokio::sync::watch;

use super::{
    definition::BadDefinition,
    kinds::{Hash, KindSet, KnownKind, hash, hex},
    learned::{BadBirth, Clash, Doubt, full},
    lint,
};

/// Most memory of all kinds together, in bytes.
pub const KINDS_BYTES_MAX: usize = 12 << 20;
/// Most lists of kinds.
pub const SETS_MAX: usize = 20_000;
/// Most devices.
pub const DEVICES_MAX: usize = 100_000;
/// Lists that are remembered of a device: what it was flashed with, as far back as its events may
/// still be stored.
pub const SETS_PER_DEVICE_MAX: usize = 8;
/// Definitions that nobody had announced before this device, since the gateway started.
pub const NEW_PER_DEVICE_MAX: u16 = 1024;

static LOSS: LazyLock<Arc<KnownKind>> = LazyLock::new(|| {
    let loss = KnownKind::new(Loss::KIND.definition);
    Arc::new(loss.expect("invariant: the protocol's own definitions are definitions, as a test here says"))
});

/// What is known of kinds. Clones are the same catalog.
#[derive(Clone, Default)]
pub struct Catalog {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    known: RwLock<Known>,
    unsaved: Mutex<Vec<Row>>,
    /// How many births said something new.
    learned: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    kinds: HashMap<Hash, Arc<KnownKind>>,
    kinds_bytes: usize,
    /// By name and version, the kind that was known first.
    titles: HashMap<(Box<str>, u8), Hash>,
    sets: HashMap<Hash, Arc<KindSet>>,
    /// The list that was learned last with each fingerprint. Devices that are alike announce the
    /// same bytes: these are compared, and nothing is hashed.
    fingerprints: HashMap<u32, Arc<KindSet>>,
    devices: HashMap<Box<str>, Device>,
}

#[derive(Default)]
struct Device {
    /// By fingerprint, the one announced last at the end.
    sets: Vec<(u32, Arc<KindSet>)>,
    new: u16,
}

/// A row to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// A definition, by its hash.
    Definition {
        /// SHA-256 of the bytes.
        hash: Hash,
        /// The definition.
        bytes: Box<[u8]>,
    },
    /// A list of kinds, by the hash of their hashes.
    Set {
        /// SHA-256 of the hashes.
        hash: Hash,
        /// The kinds' hashes, by index.
        kinds: Box<[Hash]>,
    },
    /// The frames of a device with this fingerprint are of this list; of none any more.
    Device {
        /// The device's name.
        device: Box<str>,
        /// The fingerprint in its frames.
        schema_set: u32,
        /// The list's hash; nothing if the row is to go.
        set: Option<Hash>,
    },
}

impl Catalog {
    /// Takes in what a device says of its events. Saying it again changes nothing. Gives what is
    /// doubtful of what is new.
    ///
    /// # Errors
    /// Nothing was learned from this birth, and what was known stays.
    pub fn learn(&self, device: &str, birth: &Birth<'_>) -> Result<Vec<Doubt>, BadBirth> {
        let definitions: Vec<&[u8]> = birth.kinds.iter().collect();
        if definitions.first() != Some(&Loss::KIND.definition) {
            return Err(BadBirth::First);
        }
        let schema_set = birth.kinds.schema_set();
        if let Some(known) = self.kinds(device, schema_set)
            && known.is_of(&definitions)
            && self.is_last(device, schema_set)
        {
            return Ok(vec![]);
        }
        let mut known = self.shared.known.write();
        let mut rows = vec![];
        known.learn(device, schema_set, &definitions, &mut rows)?;
        let doubts = known.doubts(&rows);
        // Under the same lock: rows are in the order in which they became true.
        self.shared.unsaved.lock().append(&mut rows);
        drop(known);
        self.shared.learned.send_modify(|births| *births += 1);
        Ok(doubts)
    }

    /// Changes with every birth that said something new.
    #[must_use]
    pub fn learned(&self) -> watch::Receiver<u64> {
        self.shared.learned.subscribe()
    }

    /// The kinds of a device's frames with this fingerprint.
    #[must_use]
    pub fn kinds(&self, device: &str, schema_set: u32) -> Option<Arc<KindSet>> {
        let known = self.shared.known.read();
        let sets = &known.devices.get(device)?.sets;
        sets.iter().find(|(of, _)| *of == schema_set).map(|(_, set)| set.clone())
    }

    /// One kind of a device's frames. `loss` is known without a birth.
    #[must_use]
    pub fn kind(&self, device: &str, schema_set: u32, index: u8) -> Option<Arc<KnownKind>> {
        if index == LOSS_KIND {
            return Some(LOSS.clone());
        }
        self.kinds(device, schema_set)?.kind(index).cloned()
    }

    /// All kinds, by name, version and hash; `loss` is always there.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<KnownKind>> {
        let mut all: Vec<_> = self.shared.known.read().kinds.values().cloned().collect();
        if !all.iter().any(|kind| kind.hash == LOSS.hash) {
            all.push(LOSS.clone());
        }
        all.sort_by(|a, b| (&a.name, a.version, a.hash).cmp(&(&b.name, b.version, b.hash)));
        all
    }

    /// The kinds that `which` may mean: a name, `name@version`, or the beginning of a hash.
    #[must_use]
    pub fn get(&self, which: &str) -> Vec<Arc<KnownKind>> {
        let mut all = self.list();
        all.retain(|kind| {
            *kind.name == *which || kind.title() == which || hex(&kind.hash).starts_with(which)
        });
        all
    }

    /// The rows that came since the last time this was asked, in the order in which they have to be
    /// written.
    #[must_use]
    pub fn take_unsaved(&self) -> Vec<Row> {
        std::mem::take(&mut *self.shared.unsaved.lock())
    }

    /// Takes in rows that were kept, in any order. Returns how many of them made no sense and were
    /// left out: what they said is not known, as if there had been no birth.
    pub fn load(&self, rows: impl IntoIterator<Item = Row>) -> usize {
        let mut known = self.shared.known.write();
        let (mut sets, mut devices, mut wrong) = (vec![], vec![], 0);
        for row in rows {
            match row {
                Row::Definition { hash: said, bytes } => {
                    let good = hash(&bytes) == said && known.kind(&bytes).is_ok();
                    wrong += usize::from(!good);
                }
                Row::Set { hash, kinds } => sets.push((hash, kinds)),
                Row::Device { device, schema_set, set } => devices.push((device, schema_set, set)),
            }
        }
        for (said, hashes) in sets {
            let kinds: Option<Box<[_]>> = hashes.iter().map(|hash| known.kinds.get(hash).cloned()).collect();
            let set = kinds.map(KindSet::new).filter(|set| set.hash == said);
            wrong += usize::from(set.is_none_or(|set| known.set(set).is_err()));
        }
        for (device, schema_set, set) in devices {
            let set = set.and_then(|hash| known.sets.get(&hash).cloned());
            let done = set.map(|set| known.place(&device, schema_set, set));
            wrong += usize::from(!matches!(done, Some(Ok(_))));
        }
        wrong
    }

    /// How many bytes all kinds take, as they are counted against [`KINDS_BYTES_MAX`].
    #[must_use]
    pub fn kinds_bytes(&self) -> usize {
        self.shared.known.read().kinds_bytes
    }

    fn is_last(&self, device: &str, schema_set: u32) -> bool {
        let known = self.shared.known.read();
        let last = known.devices.get(device).and_then(|device| device.sets.last());
        last.is_some_and(|(of, _)| *of == schema_set)
    }
}

impl Known {
    fn learn(
        &mut self,
        device: &str,
        schema_set: u32,
        definitions: &[&[u8]],
        rows: &mut Vec<Row>,
    ) -> Result<(), BadBirth> {
        self.demand_room(device)?;
        let known = self.fingerprints.get(&schema_set).filter(|set| set.is_of(definitions)).cloned();
        let set = match known {
            Some(set) => set,
            None => self.learn_set(device, definitions, rows)?,
        };
        self.fingerprints.insert(schema_set, set.clone());
        let hash = set.hash;
        let gone = self.place(device, schema_set, set)?;
        let row = |schema_set, set| Row::Device { device: device.into(), schema_set, set };
        rows.extend(gone.map(|gone| row(gone, None)));
        rows.push(row(schema_set, Some(hash)));
        Ok(())
    }

    /// What is doubtful of the definitions that are new by these rows.
    fn doubts(&self, rows: &[Row]) -> Vec<Doubt> {
        let new = rows.iter().filter_map(|row| match row {
            Row::Definition { hash, .. } => self.kinds.get(hash),
            Row::Set { .. } | Row::Device { .. } => None,
        });
        let mut doubts = vec![];
        for new in new {
            let first =
                self.titles.get(&(new.name.clone(), new.version)).and_then(|hash| self.kinds.get(hash));
            if let Some(known) = first.filter(|first| first.hash != new.hash) {
                doubts.push(Doubt::Clash(Clash { new: new.clone(), known: known.clone() }));
            }
            doubts.extend(lint::units_of(&new.definition).into_iter().map(Doubt::Unit));
        }
        doubts
    }

    fn add(&mut self, kind: Arc<KnownKind>) {
        self.kinds_bytes += kind.held_bytes();
        self.titles.entry((kind.name.clone(), kind.version)).or_insert(kind.hash);
        self.kinds.insert(kind.hash, kind);
    }

    /// The list of these definitions, with what is new in it.
    fn learn_set(
        &mut self,
        device: &str,
        definitions: &[&[u8]],
        rows: &mut Vec<Row>,
    ) -> Result<Arc<KindSet>, BadBirth> {
        // All of it is read before any of it is kept.
        let (mut kinds, mut new) = (vec![], vec![]);
        for (index, definition) in definitions.iter().enumerate() {
            let kind = match self.kinds.get(&hash(definition)).or_else(|| same(&new, definition)) {
                Some(kind) => kind.clone(),
                None => {
                    let made = KnownKind::new(definition).map(Arc::new);
                    let made = made.map_err(|cause| BadBirth::Definition { index, cause })?;
                    new.push(made.clone());
                    made
                }
            };
            kinds.push(kind);
        }
        let set = KindSet::new(kinds.into());
        let introduced = self.devices.get(device).map_or(0, |device| device.new) + new.len() as u16;
        if introduced > NEW_PER_DEVICE_MAX {
            return Err(full("new definitions of a device", NEW_PER_DEVICE_MAX.into()));
        }
        let bytes: usize = new.iter().map(|kind| kind.held_bytes()).sum();
        if self.kinds_bytes + bytes > KINDS_BYTES_MAX {
            return Err(full("bytes of definitions", KINDS_BYTES_MAX));
        }
        if self.sets.len() >= SETS_MAX && !self.sets.contains_key(&set.hash) {
            return Err(full("lists of kinds", SETS_MAX));
        }
        for kind in new {
            rows.push(Row::Definition { hash: kind.hash, bytes: kind.definition.clone() });
            self.add(kind);
        }
        if !self.sets.contains_key(&set.hash) {
            let kinds = set.kinds.iter().map(|kind| kind.hash).collect();
            rows.push(Row::Set { hash: set.hash, kinds });
        }
        let set = self.set(set)?;
        self.device(device)?.new = introduced;
        Ok(set)
    }

    /// The kind of a definition: made if it is new.
    fn kind(&mut self, definition: &[u8]) -> Result<Arc<KnownKind>, BadDefinition> {
        if let Some(kind) = self.kinds.get(&hash(definition)) {
            return Ok(kind.clone());
        }
        let kind = Arc::new(KnownKind::new(definition)?);
        self.add(kind.clone());
        Ok(kind)
    }

    /// The list that is the same as this one: this one if it is new.
    fn set(&mut self, set: KindSet) -> Result<Arc<KindSet>, BadBirth> {
        if self.sets.len() >= SETS_MAX && !self.sets.contains_key(&set.hash) {
            return Err(full("lists of kinds", SETS_MAX));
        }
        Ok(self.sets.entry(set.hash).or_insert_with(|| Arc::new(set)).clone())
    }

    /// Notes what a device's frames are of. Returns the fingerprint of the list that had to go for
    /// it.
    fn place(&mut self, device: &str, schema_set: u32, set: Arc<KindSet>) -> Result<Option<u32>, BadBirth> {
        let sets = &mut self.device(device)?.sets;
        sets.retain(|(of, _)| *of != schema_set);
        let gone = (sets.len() >= SETS_PER_DEVICE_MAX).then(|| sets.remove(0).0);
        sets.push((schema_set, set));
        Ok(gone)
    }

    fn demand_room(&self, device: &str) -> Result<(), BadBirth> {
        let room = self.devices.len() < DEVICES_MAX || self.devices.contains_key(device);
        if room { Ok(()) } else { Err(full("devices", DEVICES_MAX)) }
    }

    fn device(&mut self, device: &str) -> Result<&mut Device, BadBirth> {
        self.demand_room(device)?;
        if !self.devices.contains_key(device) {
            self.devices.insert(device.into(), Device { sets: Vec::with_capacity(1), new: 0 });
        }
        Ok(self.devices.get_mut(device).expect("invariant: it was put there above"))
    }
}

fn same<'a>(kinds: &'a [Arc<KnownKind>], definition: &[u8]) -> Option<&'a Arc<KnownKind>> {
    kinds.iter().find(|kind| *kind.definition == *definition)
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.shared.known.read();
        f.debug_struct("Catalog")
            .field("kinds", &known.kinds.len())
            .field("sets", &known.sets.len())
            .field("devices", &known.devices.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{
        Kind, Kinds, ResetReason,
        events::{AirQuality, Climate, Power},
    };

    use super::*;

    fn birth<'a>(kinds: Kinds<'a>) -> Birth<'a> {
        Birth {
            boot: 1,
            connection: 1,
            uptime_ms: 0,
            wall_ms: None,
            reset: ResetReason::PowerOn,
            firmware: "f",
            version: "1",
            build: "b",
            kinds,
        }
    }

    fn learn(catalog: &Catalog, device: &str, kinds: &[Kind]) -> Result<u32, BadBirth> {
        let birth = birth(Kinds::new(kinds));
        catalog.learn(device, &birth).map(|_| birth.kinds.schema_set())
    }

    const LOSS_CLIMATE: [Kind; 2] = [Loss::KIND, Climate::KIND];

    #[test]
    fn kinds_are_shared_by_devices_and_known_by_index() {
        let catalog = Catalog::default();
        let set = learn(&catalog, "a", &LOSS_CLIMATE).unwrap();
        learn(&catalog, "b", &LOSS_CLIMATE).unwrap();
        let (a, b) = (catalog.kinds("a", set).unwrap(), catalog.kinds("b", set).unwrap());
        assert!(Arc::ptr_eq(&a, &b));
        assert_eq!(a.kind(1).map(|kind| kind.title()).as_deref(), Some("climate@1"));
        assert_eq!(a.kind(1).unwrap().hash, hash(Climate::KIND.definition));
        assert!(
            a.kind(2).is_none() && catalog.kinds("a", !set).is_none() && catalog.kinds("c", set).is_none()
        );
        assert_eq!(catalog.list().len(), 2);
        assert_eq!(catalog.get("climate").len(), 1);
        assert_eq!(catalog.get("climate@1").len(), 1);
        assert_eq!(catalog.get("climate@2").len(), 0);
        assert_eq!(catalog.get(&hex(&hash(Loss::KIND.definition))[..9])[0].title(), "loss@1");
    }

    #[test]
    fn a_loss_is_known_without_a_birth_and_nothing_else_is() {
        let catalog = Catalog::default();
        let mut json = vec![];
        let loss = catalog.kind("a", 7, 0).unwrap();
        loss.decoder.to_json(&[120, 60, 0], super::super::Values::Scaled, &mut json).unwrap();
        assert_eq!(String::from_utf8(json).unwrap(), r#"{"first_seq":120,"count":60,"reason":"QueueFull"}"#);
        assert!(catalog.kind("a", 7, 1).is_none());
    }

    #[test]
    fn what_was_kept_is_known_again_and_the_same_birth_has_no_more_rows() {
        let catalog = Catalog::default();
        let set = learn(&catalog, "a", &LOSS_CLIMATE).unwrap();
        let other = learn(&catalog, "a", &[Loss::KIND, Power::KIND]).unwrap();
        let mut rows = catalog.take_unsaved();
        assert_eq!(rows.len(), 3 + 2 + 2, "three definitions, two lists, two of the device");
        learn(&catalog, "a", &[Loss::KIND, Power::KIND]).unwrap();
        assert_eq!(catalog.take_unsaved(), []);
        rows.reverse();
        let again = Catalog::default();
        assert_eq!(again.load(rows), 0);
        for set in [set, other] {
            let (a, b) = (catalog.kinds("a", set).unwrap(), again.kinds("a", set).unwrap());
            assert_eq!(a.hash, b.hash);
        }
        assert_eq!((again.take_unsaved(), again.kinds_bytes()), (vec![], catalog.kinds_bytes()));
    }

    #[test]
    fn rows_that_make_no_sense_are_left_out() {
        let catalog = Catalog::default();
        let rows = vec![
            Row::Definition { hash: [1; 32], bytes: Loss::KIND.definition.into() },
            Row::Definition { hash: hash(b"x"), bytes: (*b"x").into() },
            Row::Set { hash: [2; 32], kinds: [[3; 32]].into() },
            Row::Device { device: "a".into(), schema_set: 1, set: Some([2; 32]) },
        ];
        assert_eq!(catalog.load(rows), 4);
        assert_eq!(format!("{catalog:?}"), "Catalog { kinds: 0, sets: 0, devices: 0, .. }");
    }

    #[test]
    fn of_a_device_the_last_lists_are_remembered_and_the_first_goes_with_its_row() {
        let catalog = Catalog::default();
        let lists: Vec<Vec<Kind>> = (1..=SETS_PER_DEVICE_MAX as u8 + 1)
            .map(|count| [Loss::KIND].into_iter().chain((0..count).map(|_| Climate::KIND)).collect())
            .collect();
        let sets: Vec<u32> = lists.iter().map(|list| learn(&catalog, "a", list).unwrap()).collect();
        assert!(catalog.kinds("a", sets[0]).is_none());
        assert!(sets[1..].iter().all(|set| catalog.kinds("a", *set).is_some()));
        let gone = Row::Device { device: "a".into(), schema_set: sets[0], set: None };
        assert!(catalog.take_unsaved().contains(&gone));
        // The oldest is announced again: it is the last one now.
        learn(&catalog, "a", &lists[1]).unwrap();
        learn(&catalog, "a", &lists[0]).unwrap();
        assert!(catalog.kinds("a", sets[1]).is_some() && catalog.kinds("a", sets[2]).is_none());
    }

    #[test]
    fn a_birth_with_one_bad_definition_teaches_nothing() {
        let catalog = Catalog::default();
        let bad = Kind { name: "x", version: 1, definition: &[1, 1, b'x', 1, 99] };
        let refused = learn(&catalog, "a", &[Loss::KIND, AirQuality::KIND, bad]);
        let cause = BadDefinition::Tag { tag: 99, at: 4 };
        assert_eq!(refused, Err(BadBirth::Definition { index: 2, cause }));
        assert_eq!(learn(&catalog, "a", &[Climate::KIND]), Err(BadBirth::First));
        assert_eq!((catalog.list().len(), catalog.take_unsaved()), (1, vec![]));
        assert_eq!(format!("{catalog:?}"), "Catalog { kinds: 0, sets: 0, devices: 0, .. }");
    }

    #[test]
    fn a_second_definition_of_one_name_and_version_is_told_once() {
        let catalog = Catalog::default();
        let kinds = |definition: &'static [u8]| [Loss::KIND, Kind { name: "k", version: 1, definition }];
        let say = |device: &str, definition: &'static [u8]| {
            let kinds = kinds(definition);
            let doubts = catalog.learn(device, &birth(Kinds::new(&kinds))).unwrap();
            let hashes = |doubt: &Doubt| match doubt {
                Doubt::Clash(clash) => (clash.new.hash, clash.known.hash),
                Doubt::Unit(finding) => panic!("{finding:?}"),
            };
            doubts.iter().map(hashes).collect::<Vec<_>>()
        };
        const NARROW: &[u8] = &[1, 1, b'k', 1, 2];
        const WIDE: &[u8] = &[1, 1, b'k', 1, 3];
        assert_eq!(say("a", NARROW), []);
        assert_eq!(say("b", NARROW), []);
        assert_eq!(say("c", WIDE), [(hash(WIDE), hash(NARROW))]);
        assert_eq!(say("d", WIDE), [], "it is known by now");
        assert_eq!(say("a", &[1, 1, b'k', 2, 3]), [], "another version");
    }

    #[test]
    fn one_device_cannot_fill_the_catalog() {
        let catalog = Catalog::default();
        let definition = |n: u16| {
            [
                1,
                5,
                b'k',
                b'0' + (n / 1000) as u8,
                b'0' + (n / 100 % 10) as u8,
                b'0' + (n / 10 % 10) as u8,
                b'0' + (n % 10) as u8,
                1,
                1,
            ]
        };
        let announce = |device: &str, n: u16| {
            let kind = Kind { name: "k", version: 1, definition: definition(n).to_vec().leak() };
            learn(&catalog, device, &[Loss::KIND, kind])
        };
        assert!((1..NEW_PER_DEVICE_MAX).all(|n| announce("a", n).is_ok()));
        assert!(matches!(announce("a", NEW_PER_DEVICE_MAX), Err(BadBirth::Full { .. })));
        assert!(announce("b", NEW_PER_DEVICE_MAX).is_ok());
        assert!(announce("a", NEW_PER_DEVICE_MAX).is_ok(), "it is new no more");
    }
}

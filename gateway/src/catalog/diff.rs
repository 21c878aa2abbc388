//! What changed between two definitions, and what that does to those who read with the other one.
//!
//! ```text
//! old tree ─┐
//!           ├─▶ changes, each with its place and its Effect
//! new tree ─┘
//! ```
//!
//! postcard writes no names, numbers or types: so what a change does to a reader follows from where
//! it is, not from what was meant.
//!
//! | Change | Effect |
//! |---|---|
//! | a field appended at the end of the body | bodies have another end: an old reader stops at the new bytes, a new reader at the missing ones |
//! | a field appended to a struct that something follows | misreading |
//! | fields in another order, one removed or inserted | misreading |
//! | an integer widened or narrowed (16 to 64 bits, of one sign) | widened: compatible; narrowed: large values fail |
//! | a variant appended to an enum | an old reader fails at it |
//! | a field, variant or kind renamed | compatible on the wire, consumers of the JSON see another name |
//! | another unit or scale | compatible on the wire, consumers read another quantity |
//! | any other type | misreading |
//!
//! Pure: trees in, changes out. What it does not do: say which change was meant; two fields that
//! changed places and names at once are shown as what the bytes make of them.

use super::definition::{Definition, Field, Node, Scalar, Variant};

/// A change from one definition to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where: the names of fields and variants, with dots; empty for the body itself.
    pub place: String,
    /// What.
    pub kind: ChangeKind,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A field at the very end of the body.
    Appended,
    /// A field with something behind it.
    Inserted,
    /// A field is gone.
    Removed,
    /// The fields are the same, in another order.
    Reordered,
    /// An integer has more bits.
    Widened {
        /// What it was.
        from: Scalar,
        /// What it is.
        to: Scalar,
    },
    /// An integer has fewer bits.
    Narrowed {
        /// What it was.
        from: Scalar,
        /// What it is.
        to: Scalar,
    },
    /// Another type altogether.
    Retyped,
    /// A variant at the end of its enum.
    VariantAppended,
    /// A variant is gone, or one stands before others, or they are in another order.
    VariantsMoved,
    /// Another name; the place has the old one.
    Renamed {
        /// The new name.
        to: String,
    },
    /// Another unit or scale.
    Requantified {
        /// Unit and scale as they were.
        from: (String, i8),
        /// Unit and scale as they are.
        to: (String, i8),
    },
    /// Another version; nothing by itself.
    Version {
        /// What it was.
        from: u8,
        /// What it is.
        to: u8,
    },
}

/// What a change does to readers that have the other definition. The order is from harmless to
/// worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Every reader reads the same values.
    None,
    /// The bytes are read as before, and called otherwise in JSON.
    Name,
    /// The bytes are read as before, and mean another quantity.
    Quantity,
    /// Some bodies of one are an error for a reader of the other.
    Fails,
    /// A reader of the other may take the bytes for other values, and not notice.
    Misread,
}

impl ChangeKind {
    /// What it does to readers.
    #[must_use]
    pub fn effect(&self) -> Effect {
        match self {
            Self::Version { .. } | Self::Widened { .. } => Effect::None,
            Self::Renamed { .. } => Effect::Name,
            Self::Requantified { .. } => Effect::Quantity,
            Self::Appended | Self::VariantAppended | Self::Narrowed { .. } => Effect::Fails,
            Self::Inserted | Self::Removed | Self::Reordered | Self::Retyped | Self::VariantsMoved => {
                Effect::Misread
            }
        }
    }

    /// In words, with what it does.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Appended => "appended at the end: readers of the old one fail at it, readers of the new one fail on old bodies".into(),
            Self::Inserted => "inserted before others: readers of the other one misread, and do not notice".into(),
            Self::Removed => "removed: readers of the other one misread, and do not notice".into(),
            Self::Reordered => "in another order: readers of the other one misread, and do not notice".into(),
            Self::Widened { from, to } => {
                format!("widened from {} to {}: compatible, as long as its values fit the old one", from.name(), to.name())
            }
            Self::Narrowed { from, to } => {
                format!("narrowed from {} to {}: large values of the old one fail", from.name(), to.name())
            }
            Self::Retyped => "another type: readers of the other one misread, and do not notice".into(),
            Self::VariantAppended => "a variant was appended: readers of the old one fail at it".into(),
            Self::VariantsMoved => {
                "variants removed, inserted or in another order: readers of the other one misread, and do not notice".into()
            }
            Self::Renamed { to } => format!("renamed to {to}: compatible on the wire, another name in JSON"),
            Self::Requantified { from, to } => {
                let shown = |(unit, scale): &(String, i8)| match unit.as_str() {
                    "" => format!("no unit x 10^{scale}"),
                    unit => format!("{unit} x 10^{scale}"),
                };
                format!("unit or scale changed from {} to {}: the same bytes are another quantity", shown(from), shown(to))
            }
            Self::Version { from, to } => format!("version {from} became {to}"),
        }
    }
}

/// What changed from `old` to `new`, in the order of the bodies; nothing if they are the same.
#[must_use]
pub fn diff(old: &Definition, new: &Definition) -> Vec<Change> {
    let mut found = vec![];
    let mut add = |kind| found.push(Change { place: String::new(), kind });
    if old.name != new.name {
        add(ChangeKind::Renamed { to: new.name.clone() });
    }
    if old.version != new.version {
        add(ChangeKind::Version { from: old.version, to: new.version });
    }
    node(&old.body, &new.body, "", true, &mut found);
    found
}

/// The worst that the changes do.
#[must_use]
pub fn worst(changes: &[Change]) -> Effect {
    changes.iter().map(|change| change.kind.effect()).max().unwrap_or(Effect::None)
}

/// `last`: nothing of the body comes behind this node.
fn node(old: &Node, new: &Node, place: &str, last: bool, found: &mut Vec<Change>) {
    let mut add = |kind| found.push(Change { place: place.into(), kind });
    match (old, new) {
        (Node::Scalar(from), Node::Scalar(to)) => {
            if from != to {
                add(scalar(*from, *to));
            }
        }
        // What is within a sequence has more of itself behind it.
        (Node::Option(old), Node::Option(new)) => node(old, new, place, last, found),
        (Node::Seq(old), Node::Seq(new)) => node(old, new, place, false, found),
        (Node::Tuple(old), Node::Tuple(new)) if old.len() == new.len() => {
            let count = old.len();
            for (at, (old, new)) in old.iter().zip(new).enumerate() {
                node(old, new, &join(place, &at.to_string()), last && at + 1 == count, found);
            }
        }
        (Node::Struct(old), Node::Struct(new)) => fields(old, new, place, last, found),
        (Node::Enum(old), Node::Enum(new)) => variants(old, new, place, last, found),
        _ => add(ChangeKind::Retyped),
    }
}

/// Integers of 16 to 64 bits are spelled alike if they have the same sign; those of 8 bits, floats
/// and all others are not.
fn scalar(from: Scalar, to: Scalar) -> ChangeKind {
    const UNSIGNED: [Scalar; 3] = [Scalar::U16, Scalar::U32, Scalar::U64];
    const SIGNED: [Scalar; 3] = [Scalar::I16, Scalar::I32, Scalar::I64];
    for row in [UNSIGNED, SIGNED] {
        let place = |scalar| row.iter().position(|other| *other == scalar);
        if let (Some(before), Some(after)) = (place(from), place(to)) {
            return if before < after {
                ChangeKind::Widened { from, to }
            } else {
                ChangeKind::Narrowed { from, to }
            };
        }
    }
    ChangeKind::Retyped
}

fn fields(old: &[Field], new: &[Field], place: &str, last: bool, found: &mut Vec<Change>) {
    let has = |all: &[Field], name: &str| all.iter().any(|field| field.name == name);
    let alike = |(before, after): (&Field, &Field)| {
        before.name == after.name || !has(new, &before.name) && !has(old, &after.name)
    };
    if old.len() <= new.len() && old.iter().zip(new).all(alike) {
        for (at, (before, after)) in old.iter().zip(new).enumerate() {
            let place = join(place, &before.name);
            if before.name != after.name {
                found.push(Change {
                    place: place.clone(),
                    kind: ChangeKind::Renamed { to: after.name.clone() },
                });
            }
            field(before, after, &place, last && at + 1 == old.len().max(new.len()), found);
        }
        let kind = if last { ChangeKind::Appended } else { ChangeKind::Inserted };
        let behind = new[old.len()..].iter().map(|field| join(place, &field.name));
        return found.extend(behind.map(|place| Change { place, kind: kind.clone() }));
    }
    let gone = old.iter().filter(|field| !has(new, &field.name)).map(|field| (field, ChangeKind::Removed));
    let come = new.iter().filter(|field| !has(old, &field.name)).map(|field| (field, ChangeKind::Inserted));
    found.extend(gone.chain(come).map(|(field, kind)| Change { place: join(place, &field.name), kind }));
    let kept = |all: &[Field], other: &[Field]| -> Vec<String> {
        all.iter().filter(|field| has(other, &field.name)).map(|field| field.name.clone()).collect()
    };
    if kept(old, new) != kept(new, old) {
        found.push(Change { place: place.into(), kind: ChangeKind::Reordered });
    }
    for before in old {
        if let Some(after) = new.iter().find(|after| after.name == before.name) {
            field(before, after, &join(place, &before.name), false, found);
        }
    }
}

fn field(old: &Field, new: &Field, place: &str, last: bool, found: &mut Vec<Change>) {
    let quantity = |field: &Field| (field.unit.clone(), field.scale_exp10);
    let (from, to) = (quantity(old), quantity(new));
    if from != to {
        found.push(Change { place: place.into(), kind: ChangeKind::Requantified { from, to } });
    }
    node(&old.node, &new.node, place, last, found);
}

fn variants(old: &[Variant], new: &[Variant], place: &str, last: bool, found: &mut Vec<Change>) {
    let has = |all: &[Variant], name: &str| all.iter().any(|variant| variant.name == name);
    let alike = |(before, after): (&Variant, &Variant)| {
        before.name == after.name || !has(new, &before.name) && !has(old, &after.name)
    };
    if old.len() > new.len() || !old.iter().zip(new).all(alike) {
        return found.push(Change { place: place.into(), kind: ChangeKind::VariantsMoved });
    }
    for (before, after) in old.iter().zip(new) {
        let place = join(place, &before.name);
        if before.name != after.name {
            found.push(Change { place: place.clone(), kind: ChangeKind::Renamed { to: after.name.clone() } });
        }
        node(&before.node, &after.node, &place, last, found);
    }
    let behind = new[old.len()..].iter().map(|variant| join(place, &variant.name));
    found.extend(behind.map(|place| Change { place, kind: ChangeKind::VariantAppended }));
}

fn join(place: &str, name: &str) -> String {
    if place.is_empty() { name.into() } else { format!("{place}.{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: Node) -> Definition {
        Definition { name: "a".into(), version: 1, body }
    }

    fn number(scalar: Scalar) -> Node {
        Node::Scalar(scalar)
    }

    fn row(fields: &[(&str, Node)]) -> Node {
        let field = |(name, node): &(&str, Node)| Field {
            name: (*name).into(),
            unit: "m".into(),
            scale_exp10: -2,
            node: node.clone(),
        };
        Node::Struct(fields.iter().map(field).collect())
    }

    fn choice(names: &[&str]) -> Node {
        let variant = |name: &&str| Variant { name: (*name).into(), node: number(Scalar::Unit) };
        Node::Enum(names.iter().map(variant).collect())
    }

    fn changes(old: Node, new: Node) -> Vec<(String, ChangeKind)> {
        diff(&of(old), &of(new)).into_iter().map(|change| (change.place, change.kind)).collect()
    }

    #[test]
    fn each_change_of_the_table_is_called_what_it_is() {
        use ChangeKind as K;
        let u16_ = || number(Scalar::U16);
        let ab = || row(&[("a", u16_()), ("b", u16_())]);
        let (widened, narrowed) = (
            K::Widened { from: Scalar::U16, to: Scalar::U32 },
            K::Narrowed { from: Scalar::I64, to: Scalar::I16 },
        );
        for (old, new, place, kind, effect) in [
            (ab(), row(&[("a", u16_()), ("b", u16_()), ("c", u16_())]), "c", K::Appended, Effect::Fails),
            (ab(), row(&[("a", u16_()), ("c", u16_()), ("b", u16_())]), "c", K::Inserted, Effect::Misread),
            (ab(), row(&[("a", u16_())]), "b", K::Removed, Effect::Misread),
            (ab(), row(&[("b", u16_())]), "a", K::Removed, Effect::Misread),
            (ab(), row(&[("b", u16_()), ("a", u16_())]), "", K::Reordered, Effect::Misread),
            (ab(), row(&[("a", number(Scalar::U32)), ("b", u16_())]), "a", widened, Effect::None),
            (number(Scalar::I64), number(Scalar::I16), "", narrowed, Effect::Fails),
            (number(Scalar::U8), number(Scalar::U16), "", K::Retyped, Effect::Misread),
            (number(Scalar::F32), number(Scalar::F64), "", K::Retyped, Effect::Misread),
            (u16_(), number(Scalar::I16), "", K::Retyped, Effect::Misread),
            (u16_(), Node::Option(u16_().into()), "", K::Retyped, Effect::Misread),
            (choice(&["x"]), choice(&["x", "y"]), "y", K::VariantAppended, Effect::Fails),
            (choice(&["x", "y"]), choice(&["y", "x"]), "", K::VariantsMoved, Effect::Misread),
            (choice(&["x", "y"]), choice(&["x"]), "", K::VariantsMoved, Effect::Misread),
            (choice(&["x", "y"]), choice(&["x", "z"]), "y", K::Renamed { to: "z".into() }, Effect::Name),
            (ab(), row(&[("a", u16_()), ("z", u16_())]), "b", K::Renamed { to: "z".into() }, Effect::Name),
        ] {
            assert_eq!(changes(old.clone(), new.clone()), [(place.to_owned(), kind)], "{old:?} {new:?}");
            assert_eq!(worst(&diff(&of(old), &of(new))), effect);
        }
    }

    #[test]
    fn another_unit_or_scale_is_another_quantity() {
        let mut new = row(&[("a", number(Scalar::I16))]);
        let Node::Struct(fields) = &mut new else { unreachable!("it was made above") };
        fields[0].scale_exp10 = -3;
        let found = diff(&of(row(&[("a", number(Scalar::I16))])), &of(new));
        assert_eq!(worst(&found), Effect::Quantity);
        assert!(found[0].kind.sentence().contains("from m x 10^-2 to m x 10^-3"), "{found:?}");
    }

    #[test]
    fn a_field_appended_where_something_follows_is_inserted() {
        let inner =
            |names: &[&str]| row(&names.iter().map(|name| (*name, number(Scalar::U8))).collect::<Vec<_>>());
        let around = |names: &[&str]| row(&[("in", inner(names)), ("behind", number(Scalar::U8))]);
        assert_eq!(changes(around(&["a"]), around(&["a", "b"])), [("in.b".into(), ChangeKind::Inserted)]);
        let list = |names: &[&str]| Node::Seq(inner(names).into());
        assert_eq!(changes(list(&["a"]), list(&["a", "b"])), [("b".into(), ChangeKind::Inserted)]);
        let at_the_end = |names: &[&str]| row(&[("in", inner(names))]);
        assert_eq!(
            changes(at_the_end(&["a"]), at_the_end(&["a", "b"])),
            [("in.b".into(), ChangeKind::Appended)]
        );
    }

    #[test]
    fn the_same_has_no_changes_and_name_and_version_are_told() {
        let one = of(number(Scalar::U8));
        assert_eq!(diff(&one, &one), []);
        let other = Definition { name: "b".into(), version: 2, ..one.clone() };
        let found = diff(&one, &other);
        assert_eq!((found.len(), worst(&found)), (2, Effect::Name));
        assert!(found.iter().all(|change| !change.kind.sentence().is_empty()));
    }
}

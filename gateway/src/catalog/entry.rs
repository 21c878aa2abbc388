//! A kind as people and other programs read it: JSON with names, units and the definition's bytes
//! in hexadecimal.
//!
//! ```text
//! definition ──▶ Entry { name, version, hash, definition, body: Shape }       lock file, HTTP, `tidegate schemas`
//! ```
//!
//! The bytes are what counts; the shape is made from them and only there to be read. Owner and
//! descriptions are those of the protocol's own types, or what the list at hand says.

use serde::{Deserialize, Serialize};
use tidegate_protocol::events;

use super::{
    definition::{BadDefinition, Definition, Field, Node, Scalar},
    kinds::{HASH_DIGITS, from_hex, hash, hex},
};

/// A kind of event to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u8,
    /// SHA-256 of the definition, in hexadecimal.
    pub hash: String,
    /// The definition's bytes, in hexadecimal.
    pub definition: String,
    /// Who answers for it; empty if nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// What it is; empty if nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What its body is made of.
    pub body: Shape,
}

/// A piece of a body to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// The name, of a field or variant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its type: `u16`, `option`, `seq`, `tuple`, `struct`, `enum` and so on.
    pub r#type: String,
    /// The unit of a field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// A field's integers times ten to this power are the quantity.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub scale_exp10: i8,
    /// What a field is; empty if nobody says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Fields, variants or elements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Shape>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(scale_exp10: &i8) -> bool {
    *scale_exp10 == 0
}

impl Entry {
    /// The entry of a definition.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn new(definition: &[u8]) -> Result<Self, BadDefinition> {
        let read = Definition::parse(definition)?;
        let mut entry = Self {
            hash: hex(&hash(definition)),
            definition: hex(definition),
            body: Shape::of(&read.body),
            name: read.name,
            version: read.version,
            ..Self::default()
        };
        if let Some(known) = events::ALL.iter().find(|known| known.kind.definition == definition) {
            entry.owner = known.owner.into();
            entry.description = known.description.into();
            for (part, field) in entry.body.parts.iter_mut().zip(known.fields) {
                part.description = field.description.into();
            }
        }
        Ok(entry)
    }

    /// Those of the protocol's own types, as they are in this program.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let all = events::ALL.iter().map(|known| Self::new(known.kind.definition));
        all.map(|entry| entry.expect("invariant: the protocol's own definitions are definitions")).collect()
    }

    /// `name@version`.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The beginning of its hash, as it is shown.
    #[must_use]
    pub fn short_hash(&self) -> &str {
        self.hash.get(..HASH_DIGITS).unwrap_or(&self.hash)
    }

    /// The definition's bytes; nothing if they are no hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        from_hex(&self.definition)
    }

    /// Whether `which` may mean it: its name, `name@version`, or the beginning of its hash.
    #[must_use]
    pub fn is_meant_by(&self, which: &str) -> bool {
        // A hash's beginning of less than this is more likely a name.
        const HASH_DIGITS_MIN: usize = 6;
        self.name == which
            || self.title() == which
            || which.len() >= HASH_DIGITS_MIN && self.hash.starts_with(which)
    }
}

impl Shape {
    /// The shape of a node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let (r#type, parts) = match node {
            Node::Scalar(scalar) => (scalar.name(), vec![]),
            Node::Option(inner) => ("option", vec![Self::of(inner)]),
            Node::Seq(inner) => ("seq", vec![Self::of(inner)]),
            Node::Tuple(nodes) => ("tuple", nodes.iter().map(Self::of).collect()),
            Node::Struct(fields) => ("struct", fields.iter().map(Self::of_field).collect()),
            Node::Enum(variants) => {
                let named = |name: &String, node| Self { name: name.clone(), ..Self::of(node) };
                ("enum", variants.iter().map(|variant| named(&variant.name, &variant.node)).collect())
            }
        };
        Self { r#type: r#type.into(), parts, ..Self::default() }
    }

    fn of_field(field: &Field) -> Self {
        Self {
            name: field.name.clone(),
            unit: field.unit.clone(),
            scale_exp10: field.scale_exp10,
            ..Self::of(&field.node)
        }
    }

    /// The same without what is only said.
    #[must_use]
    pub fn without_descriptions(&self) -> Self {
        let parts = self.parts.iter().map(Self::without_descriptions).collect();
        Self { description: String::new(), parts, ..self.clone() }
    }

    /// The part with this path of names, with dots between.
    #[must_use]
    pub fn part(&self, path: &str) -> Option<&Self> {
        let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
        // What is within an option or a sequence goes by the name of its field.
        let part = match self.r#type.as_str() {
            "option" | "seq" => return self.parts.first()?.part(path),
            _ => self.parts.iter().find(|part| part.name == name)?,
        };
        rest.map_or(Some(part), |rest| part.part(rest))
    }

    /// Its type in a few words: `option u16`, `enum off | on`.
    #[must_use]
    pub fn words(&self) -> String {
        let parts = |between: &str| self.parts.iter().map(Self::words).collect::<Vec<_>>().join(between);
        let names =
            |between: &str| self.parts.iter().map(|part| &*part.name).collect::<Vec<_>>().join(between);
        match self.r#type.as_str() {
            "option" | "seq" => format!("{} {}", self.r#type, parts(" ")),
            "tuple" => format!("({})", parts(", ")),
            "struct" => format!("{{{}}}", names(", ")),
            "enum" => format!("enum {}", names(" | ")),
            name => name.into(),
        }
    }

    /// Which scalar it is, if it is one.
    #[must_use]
    pub fn scalar(&self) -> Option<Scalar> {
        Scalar::ALL.into_iter().find(|scalar| scalar.name() == self.r#type)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::events::{Climate, EventType};

    use super::*;

    #[test]
    fn an_entry_reads_as_its_definition_and_comes_back_from_json() {
        let entry = Entry::new(Climate::KIND.definition).unwrap();
        assert_eq!(
            (entry.title().as_str(), entry.bytes().as_deref()),
            ("climate@1", Some(Climate::KIND.definition))
        );
        let part = entry.body.part("temperature").unwrap();
        assert_eq!((part.words().as_str(), part.unit.as_str(), part.scale_exp10), ("i16", "Cel", -2));
        assert!(!part.description.is_empty() && !entry.owner.is_empty());
        assert!(entry.body.part("temperature.x").is_none() && entry.body.part("x").is_none());
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), entry);
        for which in ["climate", "climate@1", &entry.hash[..6], &entry.hash] {
            assert!(entry.is_meant_by(which), "{which}");
        }
        assert!(!entry.is_meant_by(&entry.hash[..5]) && !entry.is_meant_by("climate@2"));
    }

    #[test]
    fn all_ready_types_have_an_owner_and_a_description() {
        for entry in Entry::built_in() {
            assert!(!entry.owner.is_empty() && !entry.description.is_empty(), "{}", entry.title());
        }
    }
}

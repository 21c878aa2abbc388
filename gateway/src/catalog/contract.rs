//! What a consumer uses of a kind: checked before a version is released that would take it away.
//!
//! ```json
//! {"consumer": "barn dashboard", "type": "climate", "fields": {"temperature": {"unit": "Cel"}}}
//! ```
//!
//! A consumer gets every version of a kind that any device still sends; so each released version
//! must have these fields in these units. A field of a struct within is named with dots. What it
//! does not do: look at values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lock::Lock;

/// The fields that somebody uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Who.
    pub consumer: String,
    /// The kind's name.
    pub r#type: String,
    /// The fields by name.
    pub fields: BTreeMap<String, Used>,
}

/// How a field is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// In this unit; in whatever if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

impl Contract {
    /// Where what was released does not have what the consumer uses.
    #[must_use]
    pub fn complaints(&self, lock: &Lock) -> Vec<String> {
        let Self { consumer, r#type, fields } = self;
        let versions: Vec<_> = lock.types.iter().filter(|entry| entry.name == *r#type).collect();
        if versions.is_empty() {
            return vec![format!("{consumer} uses {}, which was never released", r#type)];
        }
        let mut found = vec![];
        for entry in versions {
            let title = entry.title();
            for (name, used) in fields {
                let Some(part) = entry.body.part(name) else {
                    found.push(format!("{consumer} uses {name} of {title}, which has no such field"));
                    continue;
                };
                if let Some(unit) = used.unit.as_ref().filter(|unit| **unit != part.unit) {
                    found.push(format!(
                        "{consumer} uses {name} of {title} in {unit:?}, and it is in {:?}",
                        part.unit
                    ));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::{super::entry::Entry, *};

    #[test]
    fn a_field_that_is_used_and_missing_or_in_another_unit_is_told() {
        let lock = Lock::new(Entry::built_in());
        let told = |text: &str| serde_json::from_str::<Contract>(text).unwrap().complaints(&lock);
        let of = |kind: &str, fields: &str| {
            told(&format!(r#"{{"consumer":"c","type":"{kind}","fields":{{{fields}}}}}"#))
        };
        assert_eq!(of("climate", r#""temperature":{"unit":"Cel"},"humidity":{}"#), Vec::<String>::new());
        assert_eq!(of("climate", r#""temperature":{"unit":"K"}"#).len(), 1);
        assert_eq!(of("climate", r#""warmth":{}"#), ["c uses warmth of climate@1, which has no such field"]);
        assert_eq!(of("weather", ""), ["c uses weather, which was never released"]);
    }
}

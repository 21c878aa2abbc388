//! What is wrong, or unwise, in the kinds that somebody is about to flash: for a firmware author's
//! CI.
//!
//! ```text
//! birth message, or a list of kinds ──▶ findings: errors (a gateway will not take it, or readers will misread) and warnings
//! ```
//!
//! Pure. What it does not do: judge what a field means.

use tidegate_protocol::{
    Birth, MessageCause, MessageError,
    events::{EventType, Loss},
    units,
};

use super::{
    entry::{Entry, Shape},
    kinds::hex,
    lock::{Lock, entry_diff, sentences},
};

/// What is written for degrees Celsius, and is no unit of SenML.
const CELSIUS: [&str; 5] = ["\u{b0}C", "\u{2103}", "degC", "celsius", "Celsius"];

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, and will be regretted.
    Warning,
    /// A gateway refuses it, or readers misread it.
    Error,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which kind, and which field of it.
    pub place: String,
    /// What it is.
    pub text: String,
}

/// The findings in a birth message, and its kinds as far as they could be read.
///
/// # Errors
/// The bytes are no birth message at all.
pub fn birth(bytes: &[u8], released: &Lock) -> Result<(Vec<Finding>, Vec<Entry>), MessageError> {
    let birth = match Birth::parse(bytes) {
        Ok(birth) => birth,
        // What follows the first kind is not looked at: everything in it would have another index.
        Err(MessageError { cause: MessageCause::FirstKind, .. }) => {
            return Ok((
                vec![error("kind 0", "it is not loss@1, which every device has as its first kind")],
                vec![],
            ));
        }
        Err(other) => return Err(other),
    };
    let (mut found, mut entries) = (vec![], vec![]);
    for (index, definition) in birth.kinds.iter().enumerate() {
        match Entry::new(definition) {
            Ok(entry) => entries.push(entry),
            Err(cause) => found.push(error(format!("kind {index}"), cause.to_string())),
        }
    }
    if birth.kinds.iter().next() != Some(Loss::KIND.definition) {
        let expected = hex(Loss::KIND.definition);
        found.push(error(
            "kind 0",
            format!("loss@1 has another definition than everybody's, which is {expected}"),
        ));
    }
    found.extend(self::entries(&entries, released));
    Ok((found, entries))
}

/// The findings in a list of kinds.
#[must_use]
pub fn entries(entries: &[Entry], released: &Lock) -> Vec<Finding> {
    let mut found = vec![];
    for (at, entry) in entries.iter().enumerate() {
        let title = entry.title();
        if let Some(before) = entries[..at].iter().find(|other| other.name == entry.name) {
            found.push(match before.version == entry.version {
                true => error(&title, "it is there twice"),
                false => warning(
                    &title,
                    format!("{} is there as well: one device sends one version", before.title()),
                ),
            });
        }
        if let Some(known) = released.released(&entry.name, entry.version)
            && known.definition != entry.definition
        {
            let changes = sentences(&entry_diff(known, entry));
            found.push(error(
                &title,
                format!("another definition was released under this name and version:\n{changes}"),
            ));
        }
        if !matches!(entry.body.r#type.as_str(), "struct") {
            found.push(warning(
                &title,
                "its body is no struct: nothing can be added to it, and its values have no names",
            ));
        }
        part(&entry.body, &title, &mut found);
    }
    found
}

fn part(shape: &Shape, place: &str, found: &mut Vec<Finding>) {
    if matches!(shape.r#type.as_str(), "f32" | "f64") {
        found.push(warning(
            place,
            "a float: an integer with a scale is exact, shorter, and travels as a difference",
        ));
    }
    found.extend(unit(shape, place));
    if shape.scale_exp10 != 0 && shape.unit.is_empty() {
        found.push(warning(place, "it has a scale and no unit: of what is it?"));
    }
    if !shape.unit.is_empty() && !has_numbers(shape) {
        found.push(warning(place, format!("it has the unit {:?} and no number", shape.unit)));
    }
    for inner in &shape.parts {
        let place = if inner.name.is_empty() { place.into() } else { format!("{place}.{}", inner.name) };
        if shape.r#type == "struct" && !is_snake_case(&inner.name) {
            found.push(warning(&place, "the names of fields are a-z, 0-9 and _"));
        }
        part(inner, &place, found);
    }
}

/// The findings about the units of a definition alone, which a gateway takes all the same.
#[must_use]
pub fn units_of(definition: &[u8]) -> Vec<Finding> {
    fn walk(shape: &Shape, place: &str, found: &mut Vec<Finding>) {
        found.extend(unit(shape, place));
        for inner in &shape.parts {
            let place = if inner.name.is_empty() { place.into() } else { format!("{place}.{}", inner.name) };
            walk(inner, &place, found);
        }
    }
    let mut found = vec![];
    if let Ok(entry) = Entry::new(definition) {
        walk(&entry.body, &entry.title(), &mut found);
    }
    found
}

fn unit(shape: &Shape, place: &str) -> Option<Finding> {
    let unit = &*shape.unit;
    match unit {
        "C" => Some(warning(place, "the unit \"C\" is the coulomb; degrees Celsius are \"Cel\"")),
        _ if units::is_unit(unit) => None,
        _ => {
            let meant = if CELSIUS.contains(&unit) { "; degrees Celsius are \"Cel\"" } else { "" };
            Some(error(place, format!("the unit {unit:?} is not one of SenML (RFC 8428, RFC 8798){meant}")))
        }
    }
}

/// Whether a unit has something to apply to.
fn has_numbers(shape: &Shape) -> bool {
    match shape.r#type.as_str() {
        "option" | "seq" | "tuple" => shape.parts.iter().any(has_numbers),
        "struct" | "enum" | "bool" | "string" | "bytes" | "unit" => false,
        _ => true,
    }
}

fn is_snake_case(name: &str) -> bool {
    name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

fn error(place: impl Into<String>, text: impl Into<String>) -> Finding {
    Finding { severity: Severity::Error, place: place.into(), text: text.into() }
}

fn warning(place: impl Into<String>, text: impl Into<String>) -> Finding {
    Finding { severity: Severity::Warning, place: place.into(), text: text.into() }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::{
        Kind, Kinds, ResetReason,
        events::{Climate, Loss},
    };

    use super::*;

    /// Findings in the birth of a device with these definitions behind `loss`.
    fn lint(definitions: &[&'static [u8]]) -> Vec<(Severity, String)> {
        let kinds: Vec<_> = [Loss::KIND.definition]
            .iter()
            .chain(definitions)
            .map(|definition| Kind { name: "", version: 0, definition })
            .collect();
        let mut out = [0; 4096];
        let birth = Birth {
            boot: 1,
            connection: 1,
            uptime_ms: 0,
            wall_ms: None,
            reset: ResetReason::Unknown,
            firmware: "f",
            version: "1",
            build: "b",
            kinds: Kinds::new(&kinds),
        };
        let bytes = birth.write(&mut out).unwrap();
        let (found, _) = super::birth(bytes, &Lock::new(Entry::built_in())).unwrap();
        found
            .into_iter()
            .map(|finding| (finding.severity, format!("{}: {}", finding.place, finding.text)))
            .collect()
    }

    #[test]
    fn the_ready_types_have_no_findings() {
        assert_eq!(lint(&[Climate::KIND.definition]), []);
        assert_eq!(entries(&Entry::built_in(), &Lock::default()), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_found() {
        use Severity::{Error, Warning};
        for (definition, severity, expected) in [
            (&b"\x01\x01a\x01\x11\x01\x01b\x00\x00\x63"[..], Error, "kind 1: tag 99"),
            (b"\x01\x01a\x01\x11\x01\x01b\x07celsius\x00\x03", Error, "a@1.b: the unit \"celsius\""),
            (
                "\x01\x01a\x01\x11\x01\x01b\x03\u{b0}C\x00\x03".as_bytes(),
                Error,
                "a@1.b: the unit \"\u{b0}C\" is not one of SenML (RFC 8428, RFC 8798); degrees Celsius are \"Cel\"",
            ),
            (b"\x01\x01a\x01\x11\x01\x01b\x01C\x00\x03", Warning, "a@1.b: the unit \"C\" is the coulomb"),
            (b"\x01\x01a\x01\x11\x01\x01b\x00\xfe\x03", Warning, "a@1.b: it has a scale and no unit"),
            (b"\x01\x01a\x01\x11\x01\x01b\x03Cel\x00\x09", Warning, "a@1.b: a float"),
            (b"\x01\x01a\x01\x11\x01\x01B\x00\x00\x03", Warning, "a@1.B: the names of fields"),
            (
                b"\x01\x01a\x01\x11\x01\x01b\x03Cel\x00\x00",
                Warning,
                "a@1.b: it has the unit \"Cel\" and no number",
            ),
            (b"\x01\x01a\x01\x03", Warning, "a@1: its body is no struct"),
            (
                b"\x01\x07climate\x01\x11\x01\x0btemperature\x03Cel\xfe\x04",
                Error,
                "climate@1: another definition",
            ),
            (b"\x01\x04loss\x01\x11\x00", Error, "loss@1: it is there twice"),
            (b"\x01\x04loss\x02\x11\x00", Warning, "loss@2: loss@1 is there as well"),
        ] {
            let found = lint(&[definition]);
            assert!(
                found.iter().any(|(is, text)| *is == severity && text.starts_with(expected)),
                "{expected}: {found:?}"
            );
        }
    }

    #[test]
    fn a_first_kind_that_is_not_loss_is_an_error_and_other_bytes_are_no_birth() {
        let (none, lock) = (Lock::default(), Lock::default());
        let mut bytes = b"\x12\x00\x01\x01\x00\x00\x00\x01f\x011\x01b\x01\x05\x01\x01a\x01\x03".to_vec();
        let (found, _) = super::birth(&bytes, &lock).unwrap();
        assert!(found[0].text.contains("not loss@1"), "{found:?}");
        bytes.pop();
        assert!(super::birth(&bytes, &none).is_err());
    }
}

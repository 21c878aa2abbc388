//! What was released stays: the types of this program beside `config/catalog.lock.json`, the golden
//! vectors of every version, and what consumers say they use.
//!
//! A new version is released by `CATALOG_LOCK_ADD=1 cargo test -p tidegate --test catalog_lock`: it
//! adds to the file what is not there by name and version, and never changes what is.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use tidegate::catalog::{
    Contract, Decoder, Definition, Effect, Entry, Lock, Values, diff, from_hex, sentences, worst,
};

/// A body beside its JSON, as it was when its version was released.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    r#type: String,
    version: u8,
    definition: String,
    body: String,
    json: Value,
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn json_files(folder: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(workspace().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

fn vectors() -> Vec<Vector> {
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json_files("protocol/tests/golden/events").into_iter().map(read).collect()
}

fn lock() -> Lock {
    let file = workspace().join("config/catalog.lock.json");
    let mut lock = match std::fs::read_to_string(&file) {
        Ok(text) => Lock::parse_released(&text).unwrap(),
        Err(_) => Lock::default(),
    };
    if std::env::var_os("CATALOG_LOCK_ADD").is_some() && lock.add(&Entry::built_in()) > 0 {
        std::fs::write(&file, lock.to_text()).unwrap();
    }
    lock
}

/// What a reader with `reader` makes of a body, as JSON.
fn read(reader: &[u8], body: &str) -> Result<Value, String> {
    let decoder = Decoder::compile(reader).map_err(|error| error.to_string())?;
    let mut json = vec![];
    let body = from_hex(body).unwrap();
    decoder.to_json(&body, Values::Scaled, &mut json).map_err(|error| error.to_string())?;
    Ok(serde_json::from_slice(&json).unwrap())
}

/// Whether a reader with the definition `reader` gets from a vector what the table of changes
/// promises.
fn complaint(reader: &[u8], vector: &Vector) -> Option<String> {
    let written = from_hex(&vector.definition).unwrap();
    let changes = diff(&Definition::parse(&written).unwrap(), &Definition::parse(reader).unwrap());
    let result = read(reader, &vector.body);
    let kept = match (worst(&changes), &result) {
        (Effect::None, Ok(json)) => *json == vector.json,
        // The values are there, under another name or in another quantity.
        (Effect::Name | Effect::Quantity, Ok(json)) => leaves(json) == leaves(&vector.json),
        (Effect::Fails, Ok(json)) => *json == vector.json,
        (Effect::Fails, Err(_)) | (Effect::Misread, _) => true,
        _ => false,
    };
    let title = format!("{}@{}", vector.r#type, vector.version);
    (!kept).then(|| format!("{title} gives {result:?} to a reader that differs in:\n{}", sentences(&changes)))
}

fn leaves(json: &Value) -> usize {
    match json {
        Value::Array(values) => values.iter().map(leaves).sum(),
        Value::Object(values) => values.values().map(leaves).sum(),
        _ => 1,
    }
}

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn no_type_changed_since_it_was_released() {
    let lock = lock();
    let how = "CATALOG_LOCK_ADD=1 cargo test -p tidegate --test catalog_lock adds what is new";
    assert!(
        lock.complaints(&Entry::built_in()).is_empty(),
        "\n{}\n\n{how}\n",
        lock.complaints(&Entry::built_in()).join("\n")
    );
}

#[test]
fn every_released_version_has_a_vector_that_its_definition_reads_exactly() {
    let (lock, vectors) = (lock(), vectors());
    for entry in &lock.types {
        let of = |vector: &&Vector| vector.r#type == entry.name && vector.version == entry.version;
        let vector =
            vectors.iter().find(of).unwrap_or_else(|| panic!("{} has no golden vector", entry.title()));
        assert_eq!(vector.definition, entry.definition, "{}", entry.title());
        assert_eq!(read(&entry.bytes().unwrap(), &vector.body), Ok(vector.json.clone()), "{}", entry.title());
    }
    assert!(vectors.len() >= lock.types.len());
}

#[test]
fn every_version_reads_every_other_versions_vectors_as_the_table_says() {
    let lock = lock();
    let mut complaints = vec![];
    for vector in vectors() {
        let readers = lock.types.iter().filter(|entry| entry.name == vector.r#type);
        complaints.extend(readers.filter_map(|reader| complaint(&reader.bytes().unwrap(), &vector)));
    }
    assert_none(complaints);
}

#[test]
fn the_table_holds_for_versions_that_were_made_up() {
    // {"a": u16}, and what became of it.
    let old = b"\x01\x01x\x01\x11\x01\x01a\x00\x00\x03";
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let vector = Vector {
        r#type: "x".into(),
        version: 1,
        definition: hex(old),
        body: "ac02".into(),
        json: serde_json::json!({ "a": 300 }),
    };
    for (new, result) in [
        (&b"\x01\x01x\x02\x11\x01\x01a\x00\x00\x05"[..], Ok(serde_json::json!({ "a": 300 }))),
        (b"\x01\x01x\x02\x11\x01\x01b\x00\x00\x03", Ok(serde_json::json!({ "b": 300 }))),
        (b"\x01\x01x\x02\x11\x01\x01a\x01m\xfe\x03", Ok(serde_json::json!({ "a": 3 }))),
        (
            b"\x01\x01x\x02\x11\x02\x01a\x00\x00\x03\x01b\x00\x00\x03",
            Err("the body ends in the middle, at byte 2".into()),
        ),
        // Read as an i16, and nobody notices.
        (b"\x01\x01x\x02\x11\x01\x01a\x00\x00\x04", Ok(serde_json::json!({ "a": 150 }))),
    ] {
        assert_eq!(read(new, &vector.body), result);
        assert_eq!(complaint(new, &vector), None);
    }
    let wrong = Vector { json: serde_json::json!({ "a": 301 }), ..vector };
    assert!(complaint(old, &wrong).is_some());
}

#[test]
fn what_consumers_use_is_in_every_released_version() {
    let lock = lock();
    let read =
        |path: PathBuf| -> Contract { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
    let contracts = json_files("config/contracts").into_iter().map(read);
    assert_none(contracts.flat_map(|contract| contract.complaints(&lock)).collect());
}

//! `docs/mqtt-conformance.md` against the sources: no statement is missing or there twice, every
//! test that is named exists, and the comment above a test names the statements that the table says
//! it covers, and no others.
//!
//! It reads text. Each rule is shown a text that breaks it, so that none passes because it sees
//! nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Statements of MQTT 5 by section, as its appendix B numbers them from 1 on.
const V5: &[(&str, u8)] = &[
    ("1.5.4", 3),
    ("1.5.5", 1),
    ("1.5.7", 1),
    ("2.1.3", 1),
    ("2.2.1", 6),
    ("2.2.2", 1),
    ("3.1.0", 2),
    ("3.1.2", 30),
    ("3.1.3", 12),
    ("3.1.4", 6),
    ("3.2.0", 2),
    ("3.2.2", 22),
    ("3.3.1", 13),
    ("3.3.2", 20),
    ("3.3.4", 10),
    ("3.4.2", 3),
    ("3.5.2", 3),
    ("3.6.1", 1),
    ("3.6.2", 3),
    ("3.7.2", 3),
    ("3.8.1", 1),
    ("3.8.3", 5),
    ("3.8.4", 8),
    ("3.9.2", 2),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.11.2", 2),
    ("3.11.3", 2),
    ("3.12.4", 1),
    ("3.14.0", 1),
    ("3.14.1", 1),
    ("3.14.2", 4),
    ("3.14.4", 3),
    ("3.15.1", 1),
    ("3.15.2", 3),
    ("4.1.0", 2),
    ("4.2.0", 1),
    ("4.3.1", 1),
    ("4.3.2", 5),
    ("4.3.3", 13),
    ("4.4.0", 2),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.0", 1),
    ("4.7.1", 2),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.2", 6),
    ("4.9.0", 3),
    ("4.12.0", 7),
    ("4.12.1", 2),
    ("4.13.1", 1),
    ("4.13.2", 1),
    ("6.0.0", 4),
];
/// There is none of this number.
const V5_NOT: &str = "2.2.1-1";
/// Statements of MQTT 3.1.1 by section, as its appendix B numbers them from 1 on.
const V311: &[(&str, u8)] = &[
    ("1.5.3", 3),
    ("2.2.2", 2),
    ("2.3.1", 7),
    ("3.1.0", 2),
    ("3.1.2", 24),
    ("3.1.3", 11),
    ("3.1.4", 5),
    ("3.2.0", 1),
    ("3.2.2", 6),
    ("3.3.1", 12),
    ("3.3.2", 3),
    ("3.3.4", 1),
    ("3.3.5", 2),
    ("3.6.1", 1),
    ("3.8.1", 1),
    ("3.8.3", 4),
    ("3.8.4", 6),
    ("3.9.3", 2),
    ("3.10.1", 1),
    ("3.10.3", 2),
    ("3.10.4", 6),
    ("3.12.4", 1),
    ("3.14.1", 1),
    ("3.14.4", 3),
    ("4.1.0", 2),
    ("4.2.0", 1),
    ("4.3.1", 1),
    ("4.3.2", 2),
    ("4.3.3", 2),
    ("4.4.0", 1),
    ("4.5.0", 2),
    ("4.6.0", 6),
    ("4.7.1", 3),
    ("4.7.2", 1),
    ("4.7.3", 4),
    ("4.8.0", 2),
    ("6.0.0", 4),
    ("7.0.0", 2),
    ("7.1.1", 1),
    ("7.1.2", 1),
];

/// A row of the table.
#[derive(Debug, Default)]
struct Row {
    v311: Vec<String>,
    v5: Vec<String>,
    covered_by: String,
}

/// Identifiers by test.
type Covered = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_statement_is_there_once() {
    let rows = rows(&table());
    assert_none(wrong_ids("5", V5, Some(V5_NOT), rows.iter().flat_map(|row| &row.v5)));
    assert_none(wrong_ids("3.1.1", V311, None, rows.iter().flat_map(|row| &row.v311)));
    let [once, twice] = [["1-1", "1-2"], ["1-1", "1-1"]].map(|ids| ids.map(str::to_owned));
    assert!(wrong_ids("", &[("1", 2)], None, once.iter()).is_empty());
    assert_eq!(wrong_ids("", &[("1", 2)], None, twice.iter()).len(), 2);
    assert_eq!(wrong_ids("", &[("1", 1)], None, once.iter()).len(), 1);
}

#[test]
fn every_statement_is_covered_or_says_why_not() {
    let bare = |row: &Row| {
        let why_not = ["not applicable: ", "binds the client"];
        tests_in(&row.covered_by).is_empty() && !why_not.iter().any(|why| row.covered_by.starts_with(why))
    };
    assert_none(rows(&table()).iter().filter(|row| bare(row)).map(|row| format!("{row:?}")));
    assert!(bare(&rows("| 1.1-1 | | x | |").remove(0)));
}

#[test]
fn every_test_that_is_named_exists() {
    let table = table();
    let named = tests_in(&table);
    assert!(named.len() > 100, "{}", named.len());
    assert_none(named.iter().filter(|test| !exists(test)));
    assert!(!exists("connect::there_is_no_such_test") && !exists("gateway/src/no/such.rs::file"));
}

#[test]
fn every_test_names_the_statements_that_it_covers() {
    let mut wanted = Covered::new();
    for row in rows(&table()) {
        for test in tests_in(&row.covered_by) {
            let ids = wanted.entry(test).or_default();
            ids.extend(row.v5.iter().map(|id| format!("5 {id}")));
            ids.extend(row.v311.iter().map(|id| format!("3.1.1 {id}")));
        }
    }
    wanted.retain(|test, _| !test.contains('/'));
    let mut found = Covered::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_stem().unwrap().to_string_lossy().into_owned();
        if file != "table" {
            found.extend(commented(&file, &fs::read_to_string(&path).unwrap()));
        }
    }
    assert_none(
        found
            .iter()
            .filter(|(test, ids)| wanted.get(*test) != Some(ids))
            .map(|(test, ids)| format!("{test}\n  says {ids:?}\n  and the table {:?}", wanted.get(test))),
    );
    assert_eq!(found.len(), wanted.len());
    let sample =
        "/// 5: [MQTT-1.1-1]\n/// [MQTT-1.1-2]\n/// 3.1.1: [MQTT-2.2-2]\n#[tokio::test]\nasync fn f() {";
    let ids = ["5 1.1-1", "5 1.1-2", "3.1.1 2.2-2"].map(str::to_owned);
    assert_eq!(commented("a", sample), [("a::f".to_owned(), ids.into())].into());
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance"))
}

fn table() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/mqtt-conformance.md")).unwrap()
}

/// The rows that have identifiers.
fn rows(table: &str) -> Vec<Row> {
    let mut rows = vec![];
    for line in table.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let [v311, v5, _, covered_by] = cells[..] {
            let ids = |cell: &str| cell.split(", ").filter(|id| is_id(id)).map(str::to_owned).collect();
            let row = Row { v311: ids(v311), v5: ids(v5), covered_by: covered_by.to_owned() };
            if !(row.v311.is_empty() && row.v5.is_empty()) {
                rows.push(row);
            }
        }
    }
    rows
}

fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.contains('-')
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'-'))
}

fn wrong_ids<'a>(
    version: &str,
    sections: &[(&str, u8)],
    not: Option<&str>,
    found: impl Iterator<Item = &'a String>,
) -> Vec<String> {
    let numbered =
        sections.iter().flat_map(|(section, last)| (1..=*last).map(move |n| format!("{section}-{n}")));
    let mut left: BTreeSet<_> = numbered.filter(|id| Some(id.as_str()) != not).collect();
    let mut wrong = vec![];
    for id in found {
        if !left.remove(id) {
            wrong.push(format!("MQTT {version}: {id} is there twice, or is no statement"));
        }
    }
    wrong.extend(left.iter().map(|id| format!("MQTT {version}: {id} is missing")));
    wrong
}

/// The tests that `text` names: `file::name` or `path/file.rs::name` in backquotes.
fn tests_in(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_test = |name: &&str| name.contains("::") && !name.contains(' ');
    quoted.filter(is_test).map(str::to_owned).collect()
}

fn exists(test: &str) -> bool {
    let Some((file, name)) = test.split_once("::") else { return false };
    let path = if file.contains('/') {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
    } else {
        folder().join(file).with_extension("rs")
    };
    let text = fs::read_to_string(path).unwrap_or_default();
    text.contains(&format!("fn {name}("))
}

/// The tests of a file with the identifiers in the comments above them.
fn commented(file: &str, text: &str) -> Covered {
    let (mut covered, mut ids, mut version) = (Covered::new(), BTreeSet::new(), String::new());
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("/// ") {
            for word in comment.split(' ') {
                match word.strip_prefix("[MQTT-").and_then(|word| word.strip_suffix(']')) {
                    Some(id) => drop(ids.insert(format!("{version} {id}"))),
                    None => version = word.trim_end_matches(':').to_owned(),
                }
            }
        } else if let Some(name) = line.strip_prefix("async fn ") {
            let ids = std::mem::take(&mut ids);
            let name = name.split('(').next().unwrap();
            if text.contains(&format!("#[tokio::test]\nasync fn {name}(")) {
                covered.insert(format!("{file}::{name}"), ids);
            }
        } else if line != "#[tokio::test]" {
            ids.clear();
        }
    }
    covered
}

fn assert_none(complaints: impl IntoIterator<Item = impl std::fmt::Display>) {
    let complaints: Vec<_> = complaints.into_iter().map(|complaint| complaint.to_string()).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

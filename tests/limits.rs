//! `docs/limits.md` is complete and true: every limit that it names has that value in the
//! configuration or in the source, every test that it names exists, and no limit of a room that
//! faces outside is missing from it.
//!
//! A limit is a key of `[limits]`, or a constant whose name has `_MAX` in it and that counts
//! something: times are none. Each rule is shown a text that breaks it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// Rooms whose state somebody outside can make grow.
const ROOMS: [&str; 11] = [
    "mqtt",
    "websocket",
    "access",
    "ingest",
    "broker",
    "http",
    "store",
    "uplink",
    "fleet",
    "catalog",
    "reload",
];
/// Types of what counts.
const COUNTS: [&str; 5] = ["usize", "u64", "u32", "u16", "u8"];
/// Keys outside of `[limits]` that bound what outsiders make grow.
const KEYS: [&str; 4] = ["max_bytes", "dead_letters_max_bytes", "wait_for_birth", "window"];

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file below a folder: its path from there, and its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the folder is readable") {
            let path = entry.expect("the folder is readable").path();
            if path.is_dir() && !path.ends_with("target") {
                collect(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let (above, mut paths) = (top().join(folder), vec![]);
    collect(&above, &mut paths);
    let text = |path: &PathBuf| std::fs::read_to_string(path).expect("a source file is readable");
    let name = |path: &PathBuf| {
        path.strip_prefix(&above).expect("it was found below").to_string_lossy().into_owned()
    };
    paths.iter().map(|path| (name(path), text(path))).collect()
}

/// A constant: its file, its name, its type and its value.
type Constant = (String, String, String, String);

/// The constants of a file, without those of its tests.
fn constants(path: &str, text: &str) -> Vec<Constant> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let joined = code.replace("=\n   ", "=");
    let lines = joined.lines().filter_map(|line| {
        let line = line.trim_start().split("const ").nth(1)?;
        let (name, rest) = line.split_once(": ")?;
        let (kind, value) = rest.split_once(" = ")?;
        let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let value = value.trim().trim_end_matches(';');
        is_name.then(|| (path.to_owned(), name.to_owned(), kind.to_owned(), value.to_owned()))
    });
    lines.collect()
}

/// The limits of the rooms that face outside.
fn limits() -> Vec<Constant> {
    let all = sources("gateway/src").into_iter().filter(|(path, _)| {
        ROOMS.iter().any(|room| path.starts_with(&format!("{room}/")) || *path == format!("{room}.rs"))
            && !path.contains("/tests")
    });
    let counts = |constant: &Constant| {
        let (_, name, kind, _) = constant;
        (name.ends_with("_MAX") || name.contains("_MAX_") || name.ends_with("_LIMIT"))
            && COUNTS.contains(&kind.as_str())
    };
    all.flat_map(|(path, text)| constants(&path, &text)).filter(counts).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The rows of the tables: cells without the heads.
fn rows(page: &str) -> Vec<Vec<&str>> {
    let lines = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| !["State", "State that lasts", "Constant"].contains(&cells[0])).collect()
}

/// Most that the bounds of what lasts may add up to, in MiB: a process of 128 MiB has to hold its
/// connections and buffers beside it.
const LASTING_MIB_MAX: usize = 96;

/// The value of a constant, in MiB.
fn mib(value: &str) -> Option<usize> {
    let shorter = value.strip_suffix(" * 1024 * 1024").or_else(|| value.strip_suffix(" << 20"));
    shorter?.parse().ok()
}

#[test]
fn the_bounds_of_what_lasts_leave_room_for_connections_and_buffers_in_128_mib() {
    let page = read("docs/limits.md");
    let lasting: Vec<_> = rows(&page).into_iter().filter(|cells| cells.len() == 3).collect();
    assert!(lasting.len() > 5, "the table is found");
    let value = |cells: &Vec<&str>| mib(quoted(cells[2])[0].split_once(" = ").expect("a bound").1);
    for cells in &lasting {
        assert_eq!(value(cells), cells[1].parse().ok(), "{cells:?}");
    }
    let sum: usize = lasting.iter().filter_map(value).sum();
    assert!(sum <= LASTING_MIB_MAX, "{sum} MiB");
    assert!(page.contains(&format!("add up to {sum} MiB")), "{sum} MiB");
}

/// What a bound is: a line of the configuration, or a constant; complaints if it is not so.
fn wrong_bound(bound: &str, config: &str, constants: &[Constant]) -> Option<String> {
    if let Some((section, line)) = bound.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        let heads = [format!("[{section}]\n"), format!("[[{section}]]\n")];
        let Some(inside) = heads.iter().find_map(|head| config.split(head.as_str()).nth(1)) else {
            return Some(format!("config/gateway.toml has no section {section:?}"));
        };
        let inside = inside.split("\n[").next().unwrap_or_default();
        // The whole value: up to the line's end, or to the comment behind it.
        let is_it = |rest: &str| rest.trim_start().is_empty() || rest.trim_start().starts_with('#');
        let mut lines = inside.lines().map(|known| known.trim_start_matches("# "));
        let is_there = lines.any(|known| known.strip_prefix(line).is_some_and(is_it));
        return (!is_there).then(|| format!("config/gateway.toml has no line {line:?} in {section:?}"));
    }
    let Some((place, value)) = bound.split_once(" = ") else {
        return Some(format!(
            "`{bound}` is no bound: write `[section] key = value` or `file.rs NAME = value`"
        ));
    };
    let is_it = |(path, name, _, known): &&Constant| format!("{path} {name}") == place && known == value;
    constants.iter().find(is_it).is_none().then(|| format!("the source has no {place} = {value}"))
}

/// The names of all test functions.
fn tests() -> BTreeSet<String> {
    let folders = ["gateway/src", "gateway/tests", "tests", "protocol"];
    let texts = folders.iter().flat_map(|folder| sources(folder));
    texts
        .flat_map(|(_, text)| {
            let names = text.lines().filter_map(|line| {
                let rest = line.trim_start().trim_start_matches("async ").strip_prefix("fn ")?;
                Some(rest.split('(').next()?.to_owned())
            });
            names.collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_bound_and_every_test_that_the_page_names_is_there() {
    let (page, config, tests) = (read("docs/limits.md"), read("config/gateway.toml"), tests());
    let constants: Vec<_> =
        sources("gateway/src").iter().flat_map(|(path, text)| constants(path, text)).collect();
    let mut complaints = vec![];
    for cells in rows(&page) {
        if cells.len() == 3 {
            complaints.extend(wrong_bound(quoted(cells[2])[0], &config, &constants));
            continue;
        }
        let [state, _memory, _disk, bounds, named] = cells[..] else {
            // A constant that bounds nothing of outsiders, and why.
            assert_eq!(cells.len(), 2, "{cells:?}");
            continue;
        };
        let (bounds, named) = (quoted(bounds), quoted(named));
        if bounds.is_empty() || named.is_empty() {
            complaints.push(format!("{state}: a row names a bound and a test"));
        }
        complaints.extend(bounds.iter().filter_map(|bound| wrong_bound(bound, &config, &constants)));
        let missing = named.iter().filter(|name| !tests.contains(**name));
        complaints.extend(missing.map(|name| format!("{state}: there is no test {name}")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert!(wrong_bound("[limits] connections = 10000", &config, &constants).is_none());
    assert!(wrong_bound("[limits] connections = 9", &config, &constants).is_some());
    assert!(wrong_bound("[limits] connections = 1000", &config, &constants).is_some());
    assert!(wrong_bound("[limit] connections = 10000", &config, &constants).is_some());
    assert!(wrong_bound("ingest/limits.rs WAITING_MAX = 1", &config, &constants).is_some());
    assert!(wrong_bound("many", &config, &constants).is_some());
}

#[test]
fn no_limit_of_a_room_that_faces_outside_is_missing_from_the_page() {
    let (page, config) = (read("docs/limits.md"), read("config/gateway.toml"));
    let named: BTreeSet<_> =
        quoted(&page).into_iter().map(|text| text.split(" = ").next().unwrap_or(text)).collect();
    let limits = limits();
    assert!(limits.len() > 80, "the constants are found: {}", limits.len());
    let constants = limits.iter().map(|(path, name, _, _)| format!("{path} {name}"));
    let limits_section = config.split("[limits]\n").nth(1).and_then(|rest| rest.split("\n[").next());
    let keys = limits_section.expect("there is [limits]").lines().filter_map(|line| {
        let key = line.trim_start_matches("# ").split(" = ").next()?;
        key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then_some(key)
    });
    let keys: Vec<_> = keys.filter(|key| !key.is_empty()).collect();
    assert!(keys.len() > 15, "{keys:?}");
    let is_named = |key: &str| named.iter().any(|name| name.ends_with(&format!("] {key}")));
    let missing_keys = keys.into_iter().chain(KEYS).filter(|key| !is_named(key)).map(str::to_owned);
    let missing: Vec<_> =
        constants.filter(|name| !named.contains(name.as_str())).chain(missing_keys).collect();
    assert!(missing.is_empty(), "docs/limits.md does not name\n{}", missing.join("\n"));
    // Those that it names and that are there no more would be noticed here.
    let known: BTreeSet<_> = limits.iter().map(|(path, name, _, _)| format!("{path} {name}")).collect();
    let gone: Vec<_> = rows(&page)
        .into_iter()
        .filter(|cells| cells.len() == 2)
        .flat_map(|cells| quoted(cells[0]).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| !known.contains(name))
        .collect();
    assert!(gone.is_empty(), "docs/limits.md names what is gone\n{}", gone.join("\n"));
}

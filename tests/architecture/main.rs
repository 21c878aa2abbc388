//! The house rules as tests: who may use whom, which crate stays in which room, and what every file
//! looks like.
//!
//! It reads source text, not a compiler's view: comments and strings are blanked, tests at the end
//! of a file are left out, and what remains is searched. Each rule is a function from text to
//! complaints, and is shown a text that breaks it, so that no rule passes because it sees nothing.

mod circles;
mod pages;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The rooms of the gateway, and which others each may use. `main.rs` and `lib.rs` stand above the
/// rooms.
const ARROWS: &[(&str, &[&str])] = &[
    ("clock", &[]),
    // What may be shown of a text from outside.
    ("printable", &[]),
    // What has to be a file and may be something else.
    ("regular_file", &[]),
    // How a value of the configuration is read.
    ("keys", &[]),
    ("telemetry", &["clock", "printable"]),
    // MQTT as bytes, for both ends.
    ("mqtt", &[]),
    // Files that change under a running gateway.
    ("reload", &["clock", "telemetry", "regular_file"]),
    // Certificates and keys in files, for both ends of TLS.
    ("pki", &["reload", "printable"]),
    // WebSocket as bytes, for both ends.
    ("websocket", &[]),
    // Who may come in, and what they may do.
    ("access", &["mqtt", "reload", "clock", "telemetry", "printable", "regular_file"]),
    ("store", &["clock", "telemetry", "regular_file"]),
    // What the gateway says of itself, as events.
    ("presence", &["store", "clock"]),
    // Pure: the rows that it wants kept are others' to write.
    ("catalog", &[]),
    // Follows the log.
    ("fleet", &["broker", "store", "catalog", "clock", "telemetry"]),
    // Which record a publish becomes.
    ("routing", &["mqtt", "store"]),
    // Local subscribers; follows the log.
    ("broker", &["access", "mqtt", "store", "routing", "clock", "telemetry"]),
    (
        "ingest",
        &[
            "access",
            "mqtt",
            "broker",
            "routing",
            "store",
            "catalog",
            "reload",
            "pki",
            "websocket",
            "clock",
            "telemetry",
            "printable",
        ],
    ),
    (
        "uplink",
        &[
            "keys",
            "mqtt",
            "store",
            "catalog",
            "fleet",
            "presence",
            "reload",
            "pki",
            "websocket",
            "clock",
            "telemetry",
            "regular_file",
        ],
    ),
    // The read side of the rooms.
    ("http", &["store", "uplink", "catalog", "fleet", "clock", "telemetry", "printable"]),
    // Composes the rooms' settings types; no room imports it.
    ("config", &["keys", "ingest", "access", "mqtt", "store", "uplink", "http", "clock", "regular_file"]),
    (
        "supervisor",
        &[
            "ingest",
            "broker",
            "store",
            "uplink",
            "http",
            "config",
            "catalog",
            "fleet",
            "presence",
            "reload",
            "clock",
            "telemetry",
        ],
    ),
    // `status` reads what `http` writes, by the same type; `users` writes the file that `access`
    // reads.
    (
        "cli",
        &[
            "config",
            "ingest",
            "access",
            "mqtt",
            "store",
            "uplink",
            "supervisor",
            "http",
            "catalog",
            "clock",
            "telemetry",
            "printable",
        ],
    ),
    ("main", &["cli"]),
];

/// Foreign crates, and the only paths (from `gateway/src/`) that may name them.
const HOMES: &[(&str, &[&str])] = &[
    ("redb", &["store/"]),
    ("mqtt_protocol_core", &["mqtt/"]),
    // The demo's witness is a client of its stand-in cloud.
    ("rumqttc", &["uplink/engine/mqtt/", "cli/demo/"]),
    ("rumqttd", &["cli/"]),
    ("tidegate_board_host", &["cli/"]),
    ("axum", &["http/"]),
    ("hyper", &["http/"]),
    ("hyper_util", &["http/"]),
    ("rustls", &["ingest/listener/tls/", "uplink/engine/dial/tls/", "pki/"]),
    ("rustls_native_certs", &["uplink/engine/dial/tls/"]),
    ("webpki", &["ingest/listener/tls/"]),
    ("tokio_rustls", &["ingest/listener/tls/", "uplink/engine/dial/"]),
    ("x509_cert", &["ingest/listener/tls/", "pki/"]),
    ("tungstenite", &["ingest/listener/websocket/", "websocket/"]),
    ("toml", &["config/", "keys/", "access/"]),
    ("argon2", &["access/"]),
    ("blake2", &["access/"]),
    ("sha2", &["catalog/"]),
    ("zeroize", &["mqtt/"]),
    ("clap", &["cli/", "main.rs"]),
];

/// Foreign crates whose types stay in one file of a room.
const ONE_FILE: &[&str] = &["rumqttc", "rumqttd", "argon2", "blake2"];

/// The crates whose files make no circle.
const CRATES: &[&str] = &["gateway/src/", "firmware/src/", "protocol/src/", "tests/src/"];

/// Rows of a file without its tests, at most.
const FILE_LINES_MAX: usize = 400;
/// Rows of a function, at most.
const FUNCTION_LINES_MAX: usize = 70;

/// A source file: its path from the workspace's top, its text, and the text without tests, comments
/// and strings.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = if is_test_file(path) { String::new() } else { blank(without_tests(text)) };
        Self { path: path.into(), text: text.into(), code }
    }

    /// The room that a file of the gateway belongs to.
    fn room(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("gateway/src/")?;
        Some(rest.split('/').next()?.trim_end_matches(".rs"))
    }
}

#[test]
fn rooms_use_each_other_only_along_the_arrows() {
    let sources = read_all();
    assert_none(sources.iter().flat_map(wrong_arrows));
    let sample = |path, text: &str| wrong_arrows(&Source::new(path, text));
    assert_eq!(sample("gateway/src/ingest/mod.rs", "use crate::{clock, uplink::Uplink};").len(), 1);
    assert_eq!(sample("gateway/src/store/mod.rs", "fn f() { crate::ingest::g() }").len(), 1);
    assert_eq!(sample("gateway/src/store/a.rs", "use super::super::http::x;").len(), 1);
    assert_eq!(sample("gateway/src/attic/mod.rs", "").len(), 1, "a room without arrows");
    assert_eq!(sample("gateway/src/ingest/mod.rs", "// crate::uplink\nuse crate::store;").len(), 0);
}

#[test]
fn the_arrows_make_no_circle() {
    assert_eq!(circle(ARROWS), None);
    assert!(circle(&[("a", &["b"]), ("b", &["c"]), ("c", &["a"])]).is_some());
}

#[test]
fn no_files_make_a_circle() {
    let sources = read_all();
    for root in CRATES {
        let files = sources.iter().filter(|source| !is_test_file(&source.path)).filter_map(|source| {
            let inside = source.path.strip_prefix(root)?;
            Some((inside.to_owned(), source.text.clone()))
        });
        let circles = circles::Crate::parse(&files.collect()).circles();
        assert_none(circles.into_iter().map(|(files, arrows)| {
            format!("{root}: a circle of {} files:\n    {}", files.len(), arrows.join("\n    "))
        }));
    }
}

#[test]
fn foreign_types_stay_at_home() {
    let sources = read_all();
    assert_none(sources.iter().flat_map(strays));
    assert_none(ONE_FILE.iter().filter_map(|name| scattered(name, &sources)));
    let sample = |path, text: &str| Source::new(path, text);
    assert_eq!(strays(&sample("gateway/src/ingest/mod.rs", "use redb::Database;")).len(), 1);
    assert_eq!(strays(&sample("gateway/src/store/mod.rs", "use redb::Database;")).len(), 0);
    let two = [
        sample("gateway/src/uplink/engine/mqtt/a.rs", "rumqttc::x()"),
        sample("gateway/src/uplink/engine/mqtt/b.rs", "rumqttc::x()"),
    ];
    assert!(scattered("rumqttc", &two).is_some());
}

#[test]
fn files_and_functions_are_short() {
    assert_none(read_all().iter().flat_map(too_long));
    let long_file = "//! Head.\n".repeat(FILE_LINES_MAX + 1);
    assert_eq!(too_long(&Source::new("a.rs", &long_file)).len(), 1);
    let body = "    x();\n".repeat(FUNCTION_LINES_MAX);
    assert_eq!(too_long(&Source::new("a.rs", &format!("pub async fn f() {{\n{body}}}\n"))).len(), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    fn t() {}\n".repeat(FILE_LINES_MAX));
    assert_eq!(too_long(&Source::new("a.rs", &tests)).len(), 0);
    let elsewhere = format!("#[cfg(test)]\nmod tests;\n{long_file}");
    assert_eq!(too_long(&Source::new("a.rs", &elsewhere)).len(), 1, "its tests are in a file of their own");
}

#[test]
fn every_file_begins_with_its_purpose() {
    assert_none(read_all().iter().filter_map(headless));
    assert!(headless(&Source::new("a.rs", "use std::fs;\n")).is_some());
    assert!(headless(&Source::new("a.rs", "//! Purpose.\n")).is_none());
}

#[test]
fn nothing_unwraps_outside_tests() {
    assert_none(read_all().iter().flat_map(unwraps));
    assert_eq!(unwraps(&Source::new("gateway/src/a.rs", "fn f() { g().unwrap(); }")).len(), 1);
    assert_eq!(
        unwraps(&Source::new("gateway/src/a.rs", "#[cfg(test)]\nmod tests { g().unwrap() }")).len(),
        0
    );
}

#[test]
fn pages_name_what_exists_in_lines_that_are_short() {
    let (top, pages) = (top(), pages::read_all(&top()));
    assert!(pages.len() > 40, "{} pages", pages.len());
    assert_none(pages.iter().flat_map(|(path, text)| pages::faults(&top, path, text)));
    assert_none(pages::missing_from_index(&pages));
    let sample = |text: &str| pages::faults(&top, "docs/sample.md", text).len();
    assert_eq!(sample("`gateway/src/attic/mod.rs`"), 1);
    assert_eq!(sample("[there](attic.md)"), 1);
    assert_eq!(sample(&"long ".repeat(21)), 1);
    assert_eq!(sample(concat!("it can ", "not")), 1);
    assert_eq!(sample("`gateway/src/main.rs` [here](limits.md#bounds) [far](https://example.org)"), 0);
    assert_eq!(pages::missing_from_index(&[("docs/decisions/a.md".into(), String::new())]).len(), 1);
}

#[test]
fn comments_have_lines_that_are_short() {
    assert_none(read_all().iter().flat_map(|source| pages::long_comments(&source.path, &source.text)));
    let sample = |text: &str| pages::long_comments("a.rs", text).len();
    assert_eq!(sample(&format!("    /// {}\n", "long ".repeat(20))), 1);
    assert_eq!(sample(&format!("//! ```text\n//! {}\n//! ```\n", "wide ".repeat(20))), 0);
    assert_eq!(sample(&format!("let a = \"{}\";\n", "wide ".repeat(20))), 0);
}

#[test]
fn nothing_is_left_for_later() {
    assert_none(read_all().iter().flat_map(unfinished));
    let sample = format!("fn f() {{ {}!() }} // {}: g\n", concat!("to", "do"), concat!("FIX", "ME"));
    assert_eq!(unfinished(&Source::new("a.rs", &sample)).len(), 2);
}

fn wrong_arrows(source: &Source) -> Vec<String> {
    let Some(room) = source.room().filter(|room| *room != "lib") else { return vec![] };
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![format!("{}: the room {room} has no arrows in tests/architecture/main.rs", source.path)];
    };
    let used = used_rooms(source);
    let wrong = used.iter().filter(|other| *other != room && !allowed.contains(&other.as_str()));
    wrong.map(|other| format!("{}: {room} must not use {other}", source.path)).collect()
}

/// The first path segments that follow the crate's root, by whichever way it is named.
fn used_rooms(source: &Source) -> BTreeSet<String> {
    let inside = source.path.trim_start_matches("gateway/src/");
    let depth = inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs"));
    let mut roots = vec!["crate::".to_owned(), "tidegate::".to_owned()];
    if depth > 0 {
        roots.push("super::".repeat(depth));
    }
    let mut used = BTreeSet::new();
    for root in roots {
        for (at, _) in source.code.match_indices(&root) {
            let before = source.code[..at].chars().next_back();
            if !before.is_some_and(|c| is_word(c) || c == ':') {
                used.extend(heads(&source.code[at + root.len()..]));
            }
        }
    }
    // A file's own modules are named by `super::` as well, and so are items.
    used.retain(|name| ARROWS.iter().any(|(room, _)| room == name) || name == "lib");
    used
}

/// The first names of `a::b` or `{a::b, c}`.
fn heads(path: &str) -> Vec<String> {
    let word = |text: &str| -> String { text.trim_start().chars().take_while(|c| is_word(*c)).collect() };
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![word(path)] };
    let (mut depth, mut found) = (0, vec![word(group)]);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => found.push(word(&group[at + 1..])),
            _ => {}
        }
    }
    found
}

fn circle(arrows: &[(&str, &[&str])]) -> Option<String> {
    let mut left: BTreeMap<_, _> = arrows.iter().copied().collect();
    loop {
        let free = left.iter().find(|(_, uses)| uses.iter().all(|other| !left.contains_key(other)));
        match free.map(|(room, _)| *room) {
            Some(room) => drop(left.remove(room)),
            None if left.is_empty() => return None,
            None => return Some(format!("{:?}", left.keys())),
        }
    }
}

fn strays(source: &Source) -> Vec<String> {
    let Some(inside) = source.path.strip_prefix("gateway/src/") else { return vec![] };
    let homes = HOMES.iter().filter(|(name, homes)| {
        names_crate(&source.code, name) && !homes.iter().any(|home| inside.starts_with(home))
    });
    homes.map(|(name, homes)| format!("{}: {name} belongs into {homes:?}", source.path)).collect()
}

fn scattered(name: &str, sources: &[Source]) -> Option<String> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in sources.iter().filter(|source| names_crate(&source.code, name)) {
        if let Some(room) = source.room() {
            files.entry(room).or_default().push(&source.path);
        }
    }
    files.retain(|_, files| files.len() > 1);
    (!files.is_empty()).then(|| format!("{name} is used in more than one file of a room: {files:?}"))
}

fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        !before.is_some_and(|c| is_word(c) || c == ':' || c == '.') && after.starts_with("::")
    })
}

fn too_long(source: &Source) -> Vec<String> {
    if is_test_file(&source.path) {
        return vec![];
    }
    let mut complaints = vec![];
    let lines: Vec<_> = without_tests(&source.text).lines().collect();
    if lines.len() > FILE_LINES_MAX {
        complaints.push(format!("{}: {} lines", source.path, lines.len()));
    }
    let code: Vec<_> = source.code.lines().collect();
    for (start, line) in code.iter().enumerate().filter(|(_, line)| begins_function(line)) {
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let one_line = line.contains('}') || line.trim_end().ends_with(';');
        let length = code[start..].iter().position(|line| *line == close).unwrap_or(0);
        if !one_line && length > FUNCTION_LINES_MAX {
            complaints.push(format!("{}:{}: a function of {length} lines", source.path, start + 1));
        }
    }
    complaints
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || ["const", "async", "unsafe", "in"].contains(word) || word.ends_with(')')
    });
    words.next() == Some("fn")
}

fn headless(source: &Source) -> Option<String> {
    let first = source.text.lines().next().unwrap_or_default();
    (!first.starts_with("//! ")).then(|| format!("{}: no head doc", source.path))
}

fn unwraps(source: &Source) -> Vec<String> {
    if source.path.starts_with("tests/") {
        return vec![];
    }
    let found = source.code.lines().enumerate().filter(|(_, line)| line.contains(".unwrap()"));
    found.map(|(at, _)| format!("{}:{}: unwrap", source.path, at + 1)).collect()
}

fn unfinished(source: &Source) -> Vec<String> {
    // Put together here, or this file would name itself.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("to", "do!"),
        concat!("unimple", "mented!"),
        concat!("not yet ", "implemented"),
        concat!("place", "holder"),
    ];
    let found = words.iter().filter(|word| source.text.contains(**word));
    found.map(|word| format!("{}: {word}", source.path)).collect()
}

fn assert_none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A file that holds nothing but tests.
fn is_test_file(path: &str) -> bool {
    ["tests/scenarios/", "tests/architecture/", "tests/limits.rs"].iter().any(|test| path.starts_with(test))
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
        || path.contains("/benches/")
}

/// The text up to the tests that end it.
fn without_tests(text: &str) -> &str {
    let cut = text.match_indices("#[cfg(test)]\n").find(|(at, mark)| {
        // Tests in a file of their own end nothing here.
        let item = text[at + mark.len()..].lines().find(|line| !line.starts_with("#["));
        item.is_some_and(|item| item.starts_with("mod ") && !item.ends_with(';'))
    });
    cut.map_or(text, |(at, _)| &text[..at])
}

/// Comments and the insides of strings and characters as blanks, so that lines and columns stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            at + rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            at + rest.find("*/").map_or(rest.len(), |n| n + 2)
        } else if let Some(hashes) = raw_string(text, at) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = at + 2 + hashes;
            open + text[open..].find(&close).map_or(text.len() - open, |n| n + close.len())
        } else if rest.starts_with('"') {
            quoted_end(bytes, at, b'"')
        } else if rest.starts_with("'\\") || is_character(rest) {
            quoted_end(bytes, at, b'\'')
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("whole characters were replaced by blanks")
}

/// The number of `#` of a raw string that starts at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let rest = text[at..].strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let before = text[..at].chars().next_back();
    (rest[hashes..].starts_with('"') && !before.is_some_and(|c| is_word(c) && c != 'b')).then_some(hashes)
}

/// A character literal, not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars();
    (chars.next(), chars.nth(1)) == (Some('\''), Some('\''))
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The workspace.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace").into()
}

/// Every Rust file of the project. At least those of the rooms are there, or the tests would see
/// nothing.
fn read_all() -> Vec<Source> {
    let top = top();
    let mut paths = vec![];
    for folder in ["gateway", "protocol", "firmware", "tests"] {
        collect(&top.join(folder), &mut paths);
    }
    let sources: Vec<_> = paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).expect("a source file is readable");
            let inside = path.strip_prefix(&top).expect("it was found below");
            Source::new(&inside.to_string_lossy(), &text)
        })
        .collect();
    for room in ["store", "telemetry", "clock"] {
        assert!(sources.iter().any(|source| source.room() == Some(room)), "the room {room} was not found");
    }
    sources
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the folder is readable") {
        let path = entry.expect("the folder is readable").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            collect(&path, found);
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
}

#[test]
fn blanking_leaves_code_and_takes_comments_strings_and_characters() {
    let text = "a /* b */ \"c\\\"d\" 'e' '\\'' r#\"f\"# &'g h // i\nj";
    let code = blank(text);
    assert_eq!(code.len(), text.len());
    assert_eq!(code.split_whitespace().collect::<Vec<_>>(), ["a", "&'g", "h", "j"]);
}

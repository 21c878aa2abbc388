//! The pages and the comments: what pages point at exists, prose has short lines, and the index of
//! decisions is whole.

use std::{fs, path::Path};

/// Columns of a line of prose at most.
const COLUMNS_MAX: usize = 100;
/// The folders at the top: a path in backticks that begins with one of them has to exist.
const TOPS: [&str; 9] =
    ["gateway/", "protocol/", "firmware/", "config/", "tests/", "cross/", "docs/", "examples/", ".ci/"];

/// Complaints about a page at `path` from the top.
pub fn faults(top: &Path, path: &str, text: &str) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let (mut faults, mut in_fence) = (vec![], false);
    for (number, line) in text.lines().enumerate() {
        let mut fault = |what: String| faults.push(format!("{path}:{}: {what}", number + 1));
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
        }
        if line.chars().count() > COLUMNS_MAX && !line.trim_start().starts_with('|') {
            fault(format!("{} columns", line.chars().count()));
        }
        if line.contains(concat!("can ", "not")) {
            fault("write \"cannot\"".into());
        }
        // A record of a decision names what was there when it was made.
        if in_fence || path.starts_with("docs/decisions/2") {
            continue;
        }
        for named in line.split('`').skip(1).step_by(2).filter(|named| is_path(named)) {
            if !top.join(named).exists() && !top.join(folder).join(named).exists() {
                fault(format!("there is no `{named}`"));
            }
        }
        for target in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if !target.is_empty() && !target.contains("://") && !top.join(folder).join(target).exists() {
                fault(format!("there is no {target}"));
            }
        }
    }
    faults
}

/// Comments of a source file that are longer than a line of prose may be.
pub fn long_comments(path: &str, text: &str) -> Vec<String> {
    let (mut faults, mut in_fence) = (vec![], false);
    for (number, line) in text.lines().enumerate() {
        let comment = line.trim_start();
        let Some(words) = comment.strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!'])) else {
            in_fence = false;
            continue;
        };
        in_fence ^= words.trim_start().starts_with("```");
        let is_prose = !in_fence && !words.starts_with("  ") && !words.contains(['|', '│']);
        if is_prose && line.chars().count() > COLUMNS_MAX {
            faults.push(format!("{path}:{}: a comment of {} columns", number + 1, line.chars().count()));
        }
        if words.contains(concat!("can ", "not")) {
            faults.push(format!("{path}:{}: write \"cannot\"", number + 1));
        }
    }
    faults
}

fn is_path(text: &str) -> bool {
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
    is_plain && TOPS.iter().any(|top| text.starts_with(top))
}

/// Every page of the project, by its path from the top.
pub fn read_all(top: &Path) -> Vec<(String, String)> {
    let mut pages = vec![];
    for folder in
        ["", "docs", "docs/decisions", "docs/uplinks", "firmware", "gateway/tests/released", ".github"]
    {
        let entries = fs::read_dir(top.join(folder)).expect("a folder of pages");
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(top).expect("it is below").to_string_lossy().into_owned();
                pages.push((name, fs::read_to_string(&path).expect("a page that can be read")));
            }
        }
    }
    pages
}

/// Decisions that their index does not name.
pub fn missing_from_index(pages: &[(String, String)]) -> Vec<String> {
    let folder = "docs/decisions/";
    let index =
        pages.iter().find(|(path, _)| path == "docs/decisions/README.md").map_or("", |(_, text)| text);
    let records =
        pages.iter().filter_map(|(path, _)| path.strip_prefix(folder)).filter(|n| *n != "README.md");
    records
        .filter(|name| !index.contains(&format!("({name})")))
        .map(|name| format!("{folder}README.md does not name {name}"))
        .collect()
}

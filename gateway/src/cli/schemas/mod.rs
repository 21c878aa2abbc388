//! `tidegate schemas`: what events mean: the kinds that this program brings, those of a file, or
//! those a running gateway has met.
//!
//! ```text
//! built in, --lock FILE, --birth FILE, --http ADDRESS ──▶ entries ──▶ list, show, diff, export       source.rs, export.rs
//! a firmware author's birth or list ──────────────────────────────▶ lint                              lint.rs
//! ```

mod asyncapi;
mod export;
mod html;
mod json_schema;
mod lint;
mod source;

use serde::Serialize;
use source::TypeSource;

use super::Failure;
use crate::{
    catalog::{Change, Entry, HASH_DIGITS, Lock, Shape, entry_diff, worst},
    printable::line,
};

/// Look at the types of events: list, compare, export, and check one's own
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate schemas list                                        the types that every device may use
  tidegate schemas list --http 127.0.0.1:8080                  those that a running gateway has met
  tidegate schemas show climate@1
  tidegate schemas diff soil@1 soil@2 --lock soil.lock.json
  tidegate schemas export --format asyncapi --output schemas/
  tidegate schemas lint birth.bin                              in a firmware's CI")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them
    List(ListArguments),
    /// Show one: fields, units, hash, definition
    Show(ShowArguments),
    /// Say what changed from one to another, and what it does to readers
    Diff(DiffArguments),
    /// Write them for other programs or for people
    Export(export::ExportArguments),
    /// Check births or lists of one's own types; 1 if there are errors
    Lint(lint::LintArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    source: TypeSource,
    /// For scripts: JSON, in the form of config/catalog.lock.json
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ShowArguments {
    /// A name, NAME@VERSION, or the beginning of a hash
    which: String,
    #[command(flatten)]
    source: TypeSource,
    /// For scripts: JSON, in the form of config/catalog.lock.json
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DiffArguments {
    /// The old one: NAME@VERSION or the beginning of a hash
    old: String,
    /// The new one
    new: String,
    #[command(flatten)]
    source: TypeSource,
    /// For scripts: JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::List(list) => {
            print(list.source.entries()?, list.json, table);
            Ok(())
        }
        Action::Show(show) => {
            let mut found = show.source.entries()?;
            found.retain(|entry| entry.is_meant_by(&show.which));
            if found.is_empty() {
                return Err(unknown(&show.which));
            }
            print(found, show.json, |entries| entries.iter().map(sheet).collect::<Vec<_>>().join("\n"));
            Ok(())
        }
        Action::Diff(diff) => compare(diff),
        Action::Export(export) => export::run(export),
        Action::Lint(lint) => lint::run(lint),
    }
}

fn print(entries: Vec<Entry>, json: bool, text: impl FnOnce(&[Entry]) -> String) {
    if json {
        say!("{}", Lock::new(entries).to_text().trim_end());
    } else {
        say!("{}", text(&entries).trim_end());
    }
}

fn unknown(which: &str) -> Failure {
    Failure::Usage(format!("there is no {which:?} here; \"tidegate schemas list\" says what there is"))
}

/// The one that is meant: the newest version where only a name was said.
fn one<'a>(entries: &'a [Entry], which: &str) -> Result<&'a Entry, Failure> {
    let found = || entries.iter().filter(|entry| entry.is_meant_by(which));
    let newest = found().max_by_key(|entry| entry.version).ok_or_else(|| unknown(which))?;
    match found().filter(|entry| (&entry.name, entry.version) == (&newest.name, newest.version)).count() {
        1 => Ok(newest),
        count => Err(Failure::Usage(format!(
            "{which:?} is {count} definitions here: name one by its hash; \"tidegate schemas show {which}\" shows them"
        ))),
    }
}

/// A change for scripts.
#[derive(Serialize)]
struct Line<'a> {
    place: &'a str,
    text: String,
    effect: String,
}

fn compare(arguments: &DiffArguments) -> Result<(), Failure> {
    let entries = arguments.source.entries()?;
    let (old, new) = (one(&entries, &arguments.old)?, one(&entries, &arguments.new)?);
    let changes = entry_diff(old, new);
    let effect = |change: &[Change]| format!("{:?}", worst(change)).to_lowercase();
    let one_line = |change: &Change| Line {
        place: "",
        text: change.kind.sentence(),
        effect: effect(std::slice::from_ref(change)),
    };
    let lines: Vec<_> =
        changes.iter().map(|change| Line { place: &change.place, ..one_line(change) }).collect();
    if arguments.json {
        let all = serde_json::json!({
            "old": old.title(), "new": new.title(), "effect": effect(&changes), "changes": lines,
        });
        say!("{all}");
        return Ok(());
    }
    if lines.is_empty() {
        say!("{} and {} are the same", line(&old.title()), line(&new.title()));
    }
    for change in lines {
        let place = line(if change.place.is_empty() { "(all)" } else { change.place });
        say!("{place:<24}  {:<9} {}", change.effect, line(&change.text));
    }
    Ok(())
}

fn table(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "no types".into();
    }
    let mut text = format!("{:<36}  {:<HASH_DIGITS$}  fields\n", "type", "hash");
    for entry in entries {
        let hash = entry.short_hash();
        text += &format!("{:<36}  {hash}  {}\n", line(&entry.title()), line(&entry.body.words()));
    }
    text
}

fn sheet(entry: &Entry) -> String {
    let mut text = line(&entry.title()).into_owned();
    if !entry.description.is_empty() {
        text += &format!(": {}", line(&entry.description));
    }
    text += &format!("\nhash        {}\n", line(&entry.hash));
    if !entry.owner.is_empty() {
        text += &format!("owner       {}\n", line(&entry.owner));
    }
    text += &format!("definition  {}\n\n", line(&entry.definition));
    rows(&entry.body, 0, &mut text);
    text
}

/// A row for each field, those within others behind blanks.
fn rows(shape: &Shape, depth: usize, text: &mut String) {
    for part in &shape.parts {
        if !part.name.is_empty() {
            let scale = match part.scale_exp10 {
                0 => String::new(),
                scale => format!("10^{scale}"),
            };
            let name = format!("{}{}", "  ".repeat(depth), line(&part.name));
            let row = format!(
                "{name:<24}  {:<28}  {:<8}  {scale:<6}  {}",
                line(&part.words()),
                line(&part.unit),
                line(&part.description)
            );
            *text += &format!("{}\n", row.trim_end());
        }
        // The variants of an enum without values are in its own row.
        let inner = part.r#type != "enum" || part.parts.iter().any(|variant| variant.r#type != "unit");
        if inner {
            rows(part, depth + usize::from(!part.name.is_empty()), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn code(words: &[&str]) -> u8 {
        let all = ["tidegate", "schemas"].iter().chain(words).map(OsString::from);
        crate::cli::main(all)
    }

    #[test]
    fn the_ready_types_are_listed_shown_and_compared() {
        for words in [
            &["list"][..],
            &["list", "--json"],
            &["show", "climate"],
            &["show", "climate@1", "--json"],
            &["diff", "climate@1", "power"],
            &["diff", "climate@1", "power@1", "--json"],
        ] {
            assert_eq!(code(words), 0, "{words:?}");
        }
        assert_eq!(code(&["show", "weather"]), 64);
        assert_eq!(code(&["diff", "climate@1", "climate@9"]), 64);
        assert_eq!(code(&["list", "--lock", "/not/there"]), 66);
        assert_eq!(code(&["list", "--lock", "/not/there", "--http", "x"]), 64, "one source");
    }

    proptest::proptest! {
        #![proptest_config(crate::printable::hostile::cases())]

        #[test]
        fn no_text_in_a_birth_adds_a_line_or_is_obeyed(text in crate::printable::hostile::text()) {
            let mut entries = Entry::built_in();
            entries.truncate(1);
            let (rows, lines) = (table(&entries).lines().count(), sheet(&entries[0]).lines().count());
            let mut page = super::html::page(&entries).lines().count();
            let entry = &mut entries[0];
            page += usize::from(entry.owner.is_empty());
            let has_owner = !entry.owner.is_empty();
            (entry.name, entry.owner) = (text.clone(), format!("x{text}"));
            entry.description = format!("x{text}");
            for part in &mut entry.body.parts {
                (part.name, part.unit, part.description) = (format!("x{text}"), text.clone(), text.clone());
            }
            crate::printable::hostile::assert_lines(&table(&entries), rows);
            crate::printable::hostile::assert_lines(&sheet(&entries[0]), lines + usize::from(!has_owner));
            crate::printable::hostile::assert_lines(&super::html::page(&entries), page);
            let json = super::export::pretty(&super::json_schema::schema(&entries[0]));
            proptest::prop_assert!(!json.chars().any(|c| c != '\n' && crate::printable::is_unprintable(c)));
        }
    }

    #[test]
    fn a_sheet_says_name_type_unit_and_scale_of_each_field() {
        let entries = Entry::built_in();
        let sheet = sheet(one(&entries, "climate").unwrap());
        let row = sheet.lines().find(|line| line.starts_with("temperature")).unwrap();
        let words: Vec<_> = row.split_whitespace().take(4).collect();
        assert_eq!(words, ["temperature", "i16", "Cel", "10^-2"]);
        assert!(table(&entries).contains("climate@1"));
    }
}

//! `tidegate schemas export`: the types for other programs (AsyncAPI, JSON Schema) and for people
//! (HTML).

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{super::Failure, TypeSource, asyncapi, html, json_schema};
use crate::{catalog::Entry, printable};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate schemas export --format asyncapi > asyncapi.json
  tidegate schemas export --format json-schema --output schemas/       a file for each type
  tidegate schemas export --format html --http 127.0.0.1:8080 --output .")]
pub(super) struct ExportArguments {
    /// What to write
    #[arg(long)]
    format: Format,
    /// A folder, made if it is not there; standard output without it
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    #[command(flatten)]
    source: TypeSource,
    /// For scripts: name the files that were written as JSON
    #[arg(long, requires = "output")]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// AsyncAPI 3.0, one document: asyncapi.json
    Asyncapi,
    /// JSON Schema (draft 7): NAME.VERSION.schema.json
    JsonSchema,
    /// A page for people: catalog.html
    Html,
}

pub(super) fn run(arguments: &ExportArguments) -> Result<(), Failure> {
    let entries = arguments.source.entries()?;
    let Some(folder) = &arguments.output else {
        say!("{}", whole(arguments.format, &entries).trim_end());
        return Ok(());
    };
    let files = match arguments.format {
        Format::Asyncapi => vec![("asyncapi.json".to_owned(), whole(Format::Asyncapi, &entries))],
        Format::Html => vec![("catalog.html".to_owned(), whole(Format::Html, &entries))],
        Format::JsonSchema => entries.iter().map(schema_file).collect(),
    };
    std::fs::create_dir_all(folder)
        .map_err(|cause| Failure::CantCreate(format!("{}: {cause}", folder.display())))?;
    for (name, text) in &files {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(|cause| Failure::Io(format!("{}: {cause}", file.display())))?;
    }
    print_report(folder, &files, arguments.json);
    Ok(())
}

/// All of it in one text.
fn whole(format: Format, entries: &[Entry]) -> String {
    match format {
        Format::Asyncapi => pretty(&asyncapi::document(entries)),
        Format::Html => html::page(entries),
        Format::JsonSchema => {
            let all = entries.iter().map(|entry| (entry.title(), json_schema::schema(entry)));
            pretty(
                &serde_json::json!({ "$schema": DRAFT, "definitions": all.collect::<serde_json::Map<_, _>>() }),
            )
        }
    }
}

const DRAFT: &str = "http://json-schema.org/draft-07/schema#";

/// A schema by itself. Where a gateway knows several definitions of one name and version, the file
/// has the hash in its name.
fn schema_file(entry: &Entry) -> (String, String) {
    let mut schema = json_schema::schema(entry);
    schema["$schema"] = DRAFT.into();
    let known = Entry::built_in().iter().any(|other| other.hash == entry.hash);
    let hash = if known { String::new() } else { format!(".{}", entry.short_hash()) };
    (format!("{}.{}{hash}.schema.json", entry.name, entry.version), pretty(&schema))
}

pub(super) fn pretty(value: &Value) -> String {
    // A value is JSON already.
    printable::page(&serde_json::to_string_pretty(value).unwrap_or_default()).into_owned() + "\n"
}

fn print_report(folder: &Path, files: &[(String, String)], json: bool) {
    let names: Vec<_> = files.iter().map(|(name, _)| folder.join(name)).collect();
    if json {
        // A path that is not UTF-8 has no JSON, and was written all the same.
        say!(
            "{}",
            serde_json::json!({ "files": names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>() })
        );
    } else {
        names.iter().for_each(|name| say!("{}", name.display()));
    }
}

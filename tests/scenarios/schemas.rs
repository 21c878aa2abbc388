//! The types of events for others: AsyncAPI's own parser reads the document, and `lint` says with
//! its exit code what a birth is worth.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tidegate_tests::{program, tools};

/// Reads a document from a file, and says what is wrong with it and what is in it.
const VALIDATE: &str = "
const { Parser } = require('@asyncapi/parser');
const text = require('fs').readFileSync(process.argv[1], 'utf8');
new Parser().parse(text).then(({ document, diagnostics }) => {
    const wrong = diagnostics.filter(found => found.severity <= 1).map(found => `${found.path.join('.')}: ${found.message}`);
    const names = document ? document.allMessages().all().map(message => message.name()) : [];
    console.log(JSON.stringify({ wrong, names, version: document && document.version() }));
});";

/// The start of a birth: boot 1, connection 1, no clock, reset unknown, firmware `f`, version `1`,
/// build `b`.
const BIRTH: &[u8] = b"\x12\x00\x01\x01\x00\x00\x00\x01f\x011\x01b";

fn schemas(arguments: &[&str]) -> Output {
    program::run(["schemas"].iter().chain(arguments))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// What the parser says of a document.
fn parsed(document: &Path) -> Value {
    let output = Command::new(tools::find("node"))
        .args(["-e", VALIDATE])
        .arg(document)
        .env("NODE_PATH", tools::node_modules())
        .output()
        .expect("node can be started");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a line of JSON")
}

fn export(format: &str, folder: &Path) -> Vec<String> {
    let folder = folder.to_str().expect("UTF-8");
    let said: Value =
        serde_json::from_str(&text(&schemas(&["export", "--format", format, "--output", folder, "--json"])))
            .expect("JSON");
    said["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|name| name.as_str().expect("a text").to_owned())
        .collect()
}

#[test]
fn asyncapis_own_parser_finds_nothing_wrong_and_every_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = export("asyncapi", folder.path());
    let said = parsed(Path::new(&files[0]));
    assert_eq!((&said["wrong"], &said["version"]), (&json!([]), &json!("3.0.0")), "{said}");
    let list: Value = serde_json::from_str(&text(&schemas(&["list", "--json"]))).expect("JSON");
    let types = list["types"].as_array().expect("a list");
    assert!(types.len() > 5);
    for kind in types {
        let title = format!("{}@{}", kind["name"].as_str().expect("a name"), kind["version"]);
        assert!(
            said["names"].as_array().expect("a list").contains(&json!(title)),
            "{title} is not in {said}"
        );
    }
    // And something wrong is found.
    let mut document: Value =
        serde_json::from_slice(&std::fs::read(&files[0]).expect("the file is there")).expect("JSON");
    document["channels"]["frame"]["messages"]["frame"]["$ref"] = json!("#/components/messages/none");
    let broken = folder.path().join("broken.json");
    std::fs::write(&broken, document.to_string()).expect("the folder is writable");
    assert_ne!(parsed(&broken)["wrong"], json!([]));
}

#[test]
fn schemas_and_the_page_are_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = export("json-schema", folder.path());
    assert!(files.iter().any(|file| file.ends_with("/climate.1.schema.json")), "{files:?}");
    for file in &files {
        let schema: Value = serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON");
        assert_eq!(schema["type"], "object", "{file}");
    }
    let page = std::fs::read_to_string(&export("html", folder.path())[0]).expect("it is there");
    assert!(page.contains("climate@1") && !page.contains("http"));
}

#[test]
fn lint_tells_good_births_from_bad_ones_by_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let list: Value = serde_json::from_str(&text(&schemas(&["list", "--json"]))).expect("JSON");
    let loss =
        list["types"].as_array().expect("a list").iter().find(|kind| kind["name"] == "loss").expect("loss");
    let hex = loss["definition"].as_str().expect("a text");
    let loss: Vec<u8> = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("a byte"))
        .collect();
    let birth = |kinds: &[&[u8]]| {
        let counted =
            kinds.iter().flat_map(|kind| [&[u8::try_from(kind.len()).expect("short")], *kind].concat());
        let count = u8::try_from(kinds.len()).expect("few");
        [BIRTH, &[count]].concat().into_iter().chain(counted).collect::<Vec<u8>>()
    };
    let soil = |unit: &str| {
        let unit = [&[u8::try_from(unit.len()).expect("short")], unit.as_bytes()].concat();
        [&b"\x01\x04soil\x01\x11\x01\x08moisture"[..], &unit, b"\xff\x03"].concat()
    };
    for (name, bytes, code, said) in [
        ("good", birth(&[&loss, &soil("%")]), 0, "good"),
        ("no unit", birth(&[&loss, &soil("")]), 0, "warning: soil@1.moisture"),
        ("a unit of one's own", birth(&[&loss, &soil("wet")]), 1, "error: soil@1.moisture"),
        ("no loss", birth(&[&soil("%")]), 1, "error: kind 0"),
        ("twice", birth(&[&loss, &soil("%"), &soil("%")]), 1, "error: soil@1: it is there twice"),
        ("no definition", birth(&[&loss, b"\x01\x01a\x01\x63"]), 1, "error: kind 1"),
        ("no birth", b"\x11\x00\x01".to_vec(), 65, ""),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, bytes).expect("the folder is writable");
        let output = schemas(&["lint", file.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(said), "{name}: {output:?}");
    }
}

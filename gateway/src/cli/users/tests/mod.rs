//! The commands on real files.

use std::ffi::OsString;

use super::*;

fn run(words: &[&str]) -> u8 {
    crate::cli::main(["tidegate"].iter().chain(words).map(OsString::from))
}

#[test]
fn users_are_added_listed_changed_and_removed_and_each_failure_has_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (users, config, password, blank) = (path("users.toml"), path("g.toml"), path("p"), path("blank"));
    std::fs::write(&config, "[gateway]\nid = \"a\"\n").unwrap();
    std::fs::write(&password, "correct horse\n").unwrap();
    std::fs::write(&blank, "\n").unwrap();
    let at = ["--config", &config];
    let by = ["--password-file", &password];
    let with = |words: &[&str], more: &[&str]| run(&[words, more].concat());

    assert_eq!(with(&["users", "list"], &at), 78, "no users file is named");
    std::fs::write(&config, "[gateway]\nid = \"a\"\n[access]\nusers = \"users.toml\"\n").unwrap();
    assert_eq!(run(&["check", &config]), 78, "the users file is missing");
    assert_eq!(with(&["users", "add", "barn-3", by[0], by[1]], &at), 0);
    assert_eq!(run(&["check", &config]), 0);
    assert_eq!(with(&["users", "add", "barn-3", by[0], by[1]], &at), 64, "it exists");
    assert_eq!(with(&["users", "add", "barn/4", by[0], by[1]], &at), 64, "no name");
    assert_eq!(with(&["users", "add", "b", "--password-file", &blank], &at), 64, "a blank password");
    assert_eq!(with(&["users", "add", "b", "--password-file", &path("nowhere")], &at), 66);
    assert_eq!(with(&["users", "add", "b", "--client-id", "all", by[0], by[1]], &at), 64);
    assert_eq!(run(&["users", "add", "b", by[0], by[1]]), 64, "neither --config nor --file");
    let tool =
        ["users", "add", "tool", "--client-id", "any", "--role", "viewer", "--random", "--file", &users];
    assert_eq!(run(&tool), 0);
    assert_eq!(with(&["users", "add", "cert", "--certificate-only"], &at), 0);

    let read = || Users::load(std::path::Path::new(&users)).unwrap();
    let barn = read().get("barn-3").cloned().unwrap();
    assert!(barn.password.clone().unwrap().verifies(&Password::new(b"correct horse")));
    let expected = serde_json::json!([
        {"name": "barn-3", "has_password": true, "client_id": "own", "roles": []},
        {"name": "cert", "has_password": false, "client_id": "own", "roles": []},
        {"name": "tool", "has_password": true, "client_id": "any", "roles": ["viewer"]},
    ]);
    assert_eq!(json(&read()), expected);
    assert_eq!(with(&["users", "list", "--json"], &at), 0);

    assert_eq!(with(&["users", "passwd", "barn-3", "--random"], &at), 0);
    assert_ne!(read().get("barn-3").unwrap().password, barn.password);
    assert_eq!(with(&["users", "passwd", "nobody", "--random"], &at), 66);
    assert_eq!(with(&["users", "remove", "nobody"], &at), 66);
    assert_eq!(with(&["users", "remove", "barn-3"], &at), 0);
    assert!(read().get("barn-3").is_none());
    std::fs::write(&users, "[[user]]\n").unwrap();
    assert_eq!(with(&["users", "remove", "tool"], &at), 78, "a users file that is wrong is left as it is");
}

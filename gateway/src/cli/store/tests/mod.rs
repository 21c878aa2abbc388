//! The commands against a running gateway, and against its files when it is stopped.

use std::{ffi::OsString, path::Path};

use super::super::main;
use crate::{config, supervisor::Gateway};

fn code(words: &[&str]) -> u8 {
    main(["tidegate", "store"].iter().chain(words).map(OsString::from))
}

async fn code_of(words: &[&str]) -> u8 {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let run = move || code(&words.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn gateway(folder: &Path) -> Gateway {
    let text = "[gateway]\nid = \"barn-7\"\ndata_dir = \"data\"\n[store]\nendurance = \"30 TB\"\n\
                [[listener]]\naddress = \"127.0.0.1:0\"\n[[uplink]]\nname = \"cloud\"\nurl = \"mqtt://127.0.0.1:9\"\n\
                [http]\naddress = \"127.0.0.1:0\"\n";
    let settings = config::parse(text, &folder.join("g.toml"), &|_| None).unwrap();
    Gateway::start(settings).await.unwrap()
}

#[tokio::test]
async fn a_running_gateway_is_looked_at_through_http_and_its_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let gateway = gateway(folder.path()).await;
    let http = gateway.http_address().to_string();
    for command in ["verify", "stat"] {
        assert_eq!(code_of(&[command, "--http", &http]).await, 0, "{command}");
        assert_eq!(code_of(&[command, "--http", &http, "--json"]).await, 0, "{command}");
        assert_eq!(code_of(&[command, "--files", data]).await, 69, "{command}: a gateway has it open");
    }
    assert_eq!(code_of(&["cat", "--http", &http, "--limit", "0", "--kind", "json"]).await, 0);
    gateway.stop().await;
    for command in ["verify", "stat", "cat"] {
        assert_eq!(code_of(&[command, "--files", data]).await, 0, "{command}");
        assert_eq!(code_of(&[command, "--http", &http]).await, 69, "{command}: nobody answers");
    }
}

#[tokio::test]
async fn damage_is_65_and_no_store_is_66_and_usage_is_64() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    gateway(folder.path()).await.stop().await;
    let segment = data.join("seg-00000000000000000000.redb");
    std::fs::write(&segment, "no database").unwrap();
    let data = data.to_str().unwrap();
    assert_eq!(code_of(&["verify", "--files", data]).await, 65);
    assert_eq!(code_of(&["cat", "--files", data]).await, 65);
    assert_eq!(code_of(&["stat", "--files", data]).await, 0, "it says so in the table");

    let nowhere = folder.path().join("nowhere");
    assert_eq!(code_of(&["verify", "--files", nowhere.to_str().unwrap()]).await, 66);
    assert_eq!(code_of(&["stat", "--files", folder.path().to_str().unwrap()]).await, 66);
    for words in [
        &["verify", "--files", data, "--http", "127.0.0.1:1"][..],
        &["cat", "--files", data, "--from", "soon"],
        &["cat", "--files", data, "--kind", "xml"],
        &["mend"],
    ] {
        assert_eq!(code_of(words).await, 64, "{words:?}");
    }
}

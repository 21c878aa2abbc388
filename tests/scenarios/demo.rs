//! `tidegate demo` keeps its word: a minute, a verdict, nothing lost.

use std::{process::Command, time::Duration};

use tidegate_tests::{
    clock::wait_blocking,
    program::{self, Build},
};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn the_demo_ends_with_nothing_lost() {
    let folder = tempfile::tempdir_in(program::scratch()).unwrap();
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let mut demo = Command::new(program::gateway(Build::Shipped))
        .arg("demo")
        .current_dir(folder.path())
        .stdout(std::fs::File::create(&out).unwrap())
        .stderr(std::fs::File::create(&err).unwrap())
        .spawn()
        .unwrap();
    let mut ended = None;
    wait_blocking("the demo to end", LIMIT, || {
        ended = demo.try_wait().unwrap();
        ended.is_some()
    });
    let story = std::fs::read_to_string(out).unwrap() + &std::fs::read_to_string(err).unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{story}");
    assert!(!story.contains("panicked at"), "{story}");
    assert!(!story.contains("ERROR") && !story.contains("WARN"), "{story}");
    let words: String = story.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    assert!(words.contains("lost 0") || words.contains("lost: 0"), "{story}");
}

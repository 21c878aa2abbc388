//! Topic names and topic filters: section 4.7.

use super::listener::{BOTH, Listener};

/// 5: [MQTT-3.3.2-3] [MQTT-4.7.2-1] [MQTT-4.7.3-4]
/// 3.1.1: [MQTT-3.3.2-3] [MQTT-3.8.3-2] [MQTT-4.7.2-1] [MQTT-4.7.3-4]
#[tokio::test]
async fn a_filter_takes_the_topics_it_says_and_no_others() {
    let listener = Listener::open().await;
    let topics = [
        "t",
        "t/",
        "t/a",
        "T/a",
        "/t",
        "t/a/b",
        "t//b",
        "$t",
        "$t/a",
        "\u{feff}t",
        "\u{e4}",
        "a\u{308}",
        "t/a ",
    ];
    let table: [(&str, &[&str]); 12] = [
        ("#", &["t", "t/", "t/a", "T/a", "/t", "t/a/b", "t//b", "\u{feff}t", "\u{e4}", "a\u{308}", "t/a "]),
        ("+", &["t", "\u{feff}t", "\u{e4}", "a\u{308}"]),
        ("+/+", &["t/", "t/a", "T/a", "/t", "t/a "]),
        ("+/a", &["t/a", "T/a"]),
        ("t/#", &["t", "t/", "t/a", "t/a/b", "t//b", "t/a "]),
        ("t/+", &["t/", "t/a", "t/a "]),
        ("t/+/b", &["t/a/b", "t//b"]),
        ("/+", &["/t"]),
        ("$t/#", &["$t", "$t/a"]),
        ("$t/+", &["$t/a"]),
        ("\u{e4}", &["\u{e4}"]),
        ("t/a", &["t/a"]),
    ];
    // Somebody takes those with `$`, so that they are distributed at all.
    let mut other = listener.client(5, "other").await;
    other.subscribe("$t/#", 0).await;
    for (filter, wanted) in table {
        let mut client = listener.client(5, "c").await;
        client.subscribe(filter, 1).await;
        client.subscribe("fence", 0x21).await;
        for topic in topics {
            client.publish(topic, 1, "").await;
        }
        client.publish("fence", 1, "fence").await;
        let mut found = vec![];
        loop {
            let got = client.take().await;
            match got.payload.as_str() {
                // Taken twice by `#` and `fence`: one copy.
                "fence" => break,
                _ => found.push(got.topic),
            }
        }
        assert_eq!(found, wanted, "{filter}");
    }
}

/// 5: [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.7.3-3]
/// 3.1.1: [MQTT-3.8.4-5] [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-1] [MQTT-4.7.3-3]
#[tokio::test]
async fn a_filter_that_is_none_is_refused_and_the_others_are_not() {
    let listener = Listener::open().await;
    let long = "x".repeat(1025);
    for version in BOTH {
        let failed = if version == 5 { 0x8f } else { 0x80 };
        let mut client = listener.client(version, "c").await;
        for filter in ["", "a#", "a/#/b", "#/a", "a+", "+a", "a/b+/c", &long] {
            assert_eq!(client.subscribe(filter, 0).await, failed, "{filter}");
        }
        for filter in ["#", "+", "/", "a/#", "+/+/#", "a//b", "$SYS/#"] {
            assert_eq!(client.subscribe(filter, 1).await, 1, "{filter}");
        }
    }
}

//! What an attacker would choose for a name, for the tests of whatever shows one.

use proptest::prelude::*;

/// Longest text: what MQTT has room for.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// So many texts a test: some of them are long.
pub fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(64)
}

/// Text with control characters, escape sequences, forged lines, characters that turn the direction
/// of writing; some of it long.
pub fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n2026-11-29T00:00:00Z  INFO forged".to_owned()),
        Just("\r\u{1b}[2J\u{1b}]0;title\u{7}".to_owned()),
        Just("</td><script>\"'&".to_owned()),
        proptest::char::range('\0', '\u{1f}').prop_map(String::from),
        proptest::char::range('\u{7f}', '\u{9f}').prop_map(String::from),
        proptest::char::range('\u{200b}', '\u{206f}').prop_map(String::from),
        any::<String>(),
    ];
    let short = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    (short, 0_usize..20).prop_map(|(text, chance)| match (chance, text.len()) {
        (0, 1..) => text.repeat(TEXT_BYTES_MAX / text.len()),
        _ => text,
    })
}

/// The same as bytes, some of which are no UTF-8: lone surrogates, sequences that are cut off.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let broken = prop::sample::select(vec![&b""[..], b"\xed\xa0\x80", b"\xc2", b"\x9b\xff"]);
    (text(), broken).prop_map(|(text, broken)| [text.as_bytes(), broken].concat())
}

/// Panics unless `shown` has so many lines, and nothing in them but what can be seen.
pub fn assert_lines(shown: &str, lines: usize) {
    assert_eq!(shown.trim_end_matches('\n').split('\n').count(), lines, "{shown:?}");
    assert!(!shown.chars().any(|c| c != '\n' && super::is_unprintable(c)), "{shown:?}");
}

//! A word that is not known, and the one that was likely meant. Pure.

/// Least likeness (0 to 1, by Jaro and Winkler) at which a known word is suggested for an unknown
/// one.
const LIKENESS_MIN: f64 = 0.75;

/// The known word that `word` likely stands for.
fn suggestion<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let likeness = |known: &str| strsim::jaro_winkler(&word.to_lowercase(), known);
    let best = known.iter().map(|k| (likeness(k), *k)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

/// `unknown thing "word"; did you mean "known"?`, or all that is known.
pub(crate) fn unknown(thing: &str, word: &str, known: &[&str]) -> String {
    match suggestion(word, known) {
        Some(known) => format!("unknown {thing} \"{word}\"; did you mean \"{known}\"?"),
        None => format!("unknown {thing} \"{word}\"; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_likely_word_is_suggested() {
        let known = ["segment_bytes", "retain", "linger_max"];
        for (word, expected) in [
            ("segment_byte", Some("segment_bytes")),
            ("retian", Some("retain")),
            ("lingermax", Some("linger_max")),
            ("zebra", None),
        ] {
            assert_eq!(suggestion(word, &known), expected, "{word}");
        }
    }
}

//! Topic names and topic filters: MQTT 3.1.1 and 5, section 4.7. Pure.
//!
//! Limits: [`NAME_BYTES_MAX`] bytes and [`TOPIC_LEVELS_MAX`] levels, or less: see [`TopicLimits`].
//! A topic is matched byte by byte, once, without allocation and without recursion, so that no
//! filter is expensive.

use super::limits::NAME_BYTES_MAX;

/// Most levels of a topic or filter.
pub const TOPIC_LEVELS_MAX: usize = 64;

/// What the topics begin with on which the gateway publishes records of its own, such as gap
/// records.
pub const OWN: &str = "tidegate/";
/// What the topics begin with on which it says how it does.
pub const SYSTEM: &str = "$SYS/";
/// Where bridges of mosquitto say whether they are connected, by default with a will: the one topic
/// of its own that mosquitto lets clients publish on.
const BRIDGE_STATE: &str = "$SYS/broker/connection/+/state";

/// What a shared subscription begins with: section 4.8.2.
pub const SHARE: &str = "$share/";

/// Whether a topic is, or a filter takes, what the gateway says of itself.
#[must_use]
pub fn is_system(text: &str) -> bool {
    text.starts_with(SYSTEM)
}

/// Whether nobody but the gateway publishes on `topic`: what is read there is its own word.
#[must_use]
#[inline]
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with(OWN) || (topic.starts_with(SYSTEM) && !matches(BRIDGE_STATE, topic))
}

/// What a topic or filter that passed [`name`] or [`check_filter`] is held to besides: less than
/// what they allow, or the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    /// Bytes at most.
    pub bytes: usize,
    /// Levels at most.
    pub levels: usize,
}

impl Default for TopicLimits {
    fn default() -> Self {
        TopicLimits { bytes: NAME_BYTES_MAX, levels: TOPIC_LEVELS_MAX }
    }
}

impl TopicLimits {
    /// Whether `text`, a topic or a filter, is within them.
    #[must_use]
    #[inline]
    pub fn allow(self, text: &str) -> bool {
        text.len() <= self.bytes && (self.levels >= TOPIC_LEVELS_MAX || self.allow_levels(text))
    }

    /// Not in line with what every publish runs through, as most gateways leave this limit as it
    /// is.
    #[cold]
    #[inline(never)]
    fn allow_levels(self, text: &str) -> bool {
        text.bytes().filter(|&byte| byte == b'/').count() < self.levels
    }
}

/// Why a filter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// It has no character.
    #[error("the filter is empty")]
    Empty,
    /// It is longer than [`NAME_BYTES_MAX`] or has more than [`TOPIC_LEVELS_MAX`] levels.
    #[error("the filter has more than {NAME_BYTES_MAX} bytes or {TOPIC_LEVELS_MAX} levels")]
    TooLong,
    /// It holds NUL.
    #[error("the filter holds the character NUL")]
    Nul,
    /// `#` is not the last level, or shares its level.
    #[error("'#' has to be the last level, and alone in it")]
    Hash,
    /// `+` shares its level.
    #[error("'+' has to be alone in its level")]
    Plus,
}

/// The topic in `bytes`, if it can be published on: UTF-8 without NUL, `+` and `#`, not empty,
/// within the limits. `[MQTT-3.3.2-2]`, `[MQTT-4.7.3-1]`, `[MQTT-1.5.4-2]`
#[must_use]
pub fn name(bytes: &[u8]) -> Option<&str> {
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut slashes = 0;
    let mut forbidden = false;
    for &byte in bytes {
        slashes += usize::from(byte == b'/');
        forbidden |= byte == b'+' || byte == b'#' || byte == 0;
    }
    if forbidden || slashes >= TOPIC_LEVELS_MAX {
        return None;
    }
    std::str::from_utf8(bytes).ok()
}

/// Checks a filter.
///
/// # Errors
/// [`BadFilter`] `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`, `[MQTT-4.7.3-1]`, `[MQTT-4.7.3-2]`
pub fn check_filter(filter: &str) -> Result<(), BadFilter> {
    if filter.is_empty() {
        return Err(BadFilter::Empty);
    }
    if filter.len() > NAME_BYTES_MAX || filter.split('/').count() > TOPIC_LEVELS_MAX {
        return Err(BadFilter::TooLong);
    }
    if filter.contains('\0') {
        return Err(BadFilter::Nul);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(BadFilter::Hash);
        }
        if level.contains('+') && level != "+" {
            return Err(BadFilter::Plus);
        }
    }
    Ok(())
}

/// Whether `filter`, which was checked, takes `topic`. A wildcard in the first level takes no topic
/// that begins with `$` `[MQTT-4.7.2-1]`; `a/#` takes `a` as well (section 4.7.1.2).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let (filter, topic) = (filter.as_bytes(), topic.as_bytes());
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let (mut f, mut t) = (0, 0);
    loop {
        // Both are at the start of a level.
        match filter.get(f) {
            Some(b'#') => return true,
            Some(b'+') => {
                f += 1;
                t += level_bytes(&topic[t..]);
            }
            _ => {
                while f < filter.len() && filter[f] != b'/' {
                    if topic.get(t) != Some(&filter[f]) {
                        return false;
                    }
                    f += 1;
                    t += 1;
                }
            }
        }
        match (filter.get(f), topic.get(t)) {
            (None, None) => return true,
            (Some(_), None) => return filter[f..] == *b"/#",
            (Some(b'/'), Some(b'/')) => {
                f += 1;
                t += 1;
            }
            _ => return false,
        }
    }
}

/// The share name and the filter of `$share/<name>/<filter>`; `None` for any other filter.
#[must_use]
pub fn share(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix(SHARE)?.split_once('/')
}

fn level_bytes(topic: &[u8]) -> usize {
    topic.iter().position(|&byte| byte == b'/').unwrap_or(topic.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_topics_are_those_below_its_prefixes_and_no_others() {
        for (topic, wanted) in [
            ("tidegate/gap", true),
            ("tidegate/", true),
            ("tidegate", false),
            ("tidegates/gap", false),
            ("/tidegate/gap", false),
            ("tg/a/e", false),
            ("$SYS/broker/uptime", true),
            ("$SYS/broker/connection/barn.cloud/state", false),
            ("$SYS/broker/connection/a/b/state", true),
            ("$SYSTEM/x", false),
            ("a/$SYS/x", false),
        ] {
            assert_eq!(is_reserved(topic), wanted, "{topic}");
        }
    }
    use proptest::prelude::*;

    #[test]
    fn filters_match_as_section_4_7_says() {
        let table = [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/b", "a/b/c", false),
            ("a/b/c", "a/b", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/", true),
            ("a/+/c", "a/b/c", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "a/b/c", true),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("a/#", "b", false),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("a/#", "a/$x", true),
            ("A", "a", false),
        ];
        for (filter, topic, wanted) in table {
            assert_eq!(matches(filter, topic), wanted, "{filter} {topic}");
        }
    }

    #[test]
    fn bad_filters_are_refused_by_cause() {
        let long = "a".repeat(NAME_BYTES_MAX + 1);
        let deep = "/".repeat(TOPIC_LEVELS_MAX);
        let table = [
            ("", Err(BadFilter::Empty)),
            ("a/#/b", Err(BadFilter::Hash)),
            ("a#", Err(BadFilter::Hash)),
            ("a/b#", Err(BadFilter::Hash)),
            ("a+/b", Err(BadFilter::Plus)),
            ("a\0", Err(BadFilter::Nul)),
            (long.as_str(), Err(BadFilter::TooLong)),
            (deep.as_str(), Err(BadFilter::TooLong)),
            ("+/+/#", Ok(())),
            ("/", Ok(())),
            ("#", Ok(())),
        ];
        for (filter, wanted) in table {
            assert_eq!(check_filter(filter), wanted, "{filter:?}");
        }
    }

    #[test]
    fn topics_with_wildcards_nul_or_broken_text_cannot_be_published_on() {
        let (long, deep) = ("a".repeat(NAME_BYTES_MAX + 1), "/".repeat(TOPIC_LEVELS_MAX));
        let (fits, levels) = ("a".repeat(NAME_BYTES_MAX), "/".repeat(TOPIC_LEVELS_MAX - 1));
        for bad in
            [&b""[..], b"a/+", b"#", b"a\0b", b"\xff", b"\xed\xa0\x80", long.as_bytes(), deep.as_bytes()]
        {
            assert_eq!(name(bad), None, "{bad:02x?}");
        }
        for good in ["a", "/", "$SYS/x", "büro/temp", &fits, &levels] {
            assert_eq!(name(good.as_bytes()), Some(good));
        }
    }

    #[test]
    fn narrower_limits_hold_in_bytes_and_levels() {
        let narrow = TopicLimits { bytes: 6, levels: 2 };
        for (text, allowed) in
            [("a", true), ("a/b", true), ("a/b/c", false), ("//", false), ("abcdefg", false)]
        {
            assert_eq!(narrow.allow(text), allowed, "{text}");
        }
        assert!(TopicLimits::default().allow(&"/".repeat(TOPIC_LEVELS_MAX - 1)));
    }

    proptest! {
        #[test]
        fn a_topic_matches_itself_and_the_filters_made_from_it(topic in "[a-c/]{1,12}", level in 0usize..6) {
            prop_assert!(matches(&topic, &topic));
            let mut levels: Vec<&str> = topic.split('/').collect();
            let at = level % levels.len();
            levels[at] = "+";
            prop_assert!(matches(&levels.join("/"), &topic));
            levels.truncate(at);
            levels.push("#");
            prop_assert!(matches(&levels.join("/"), &topic));
        }

        #[test]
        fn matching_agrees_with_the_rule_told_by_levels(filter in "[ab+#/]{1,7}", topic in "[ab/]{1,7}") {
            prop_assume!(check_filter(&filter).is_ok());
            let (f, t): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
            let open = f.last() == Some(&"#");
            let fixed = &f[..f.len() - usize::from(open)];
            let agree = fixed.iter().zip(&t).all(|(f, t)| *f == "+" || f == t);
            let told = agree && if open { t.len() >= fixed.len() } else { t.len() == fixed.len() };
            prop_assert_eq!(matches(&filter, &topic), told);
        }

        #[test]
        fn no_bytes_panic(filter in "\\PC{0,12}", topic in "\\PC{0,12}", bytes: Vec<u8>) {
            let _ = (check_filter(&filter), matches(&filter, &topic), name(&bytes));
        }
    }
}

//! What one client may publish on, subscribe to and receive: the access rules, compiled for it when
//! it connects. Pure.
//!
//! A publish is checked with every event, so that costs a comparison of the topic with a few
//! patterns and no allocation. No rule opens the topics that are the gateway's own to publish on. A
//! subscription is allowed if one pattern covers the whole filter: every topic that the filter
//! takes. A pattern that begins with a wildcard covers no topic that begins with `$`, as in MQTT.

use std::sync::Arc;

use crate::mqtt::topics::{self, SHARE};

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions(Option<Arc<Allowed>>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Allowed {
    publish: Vec<Box<str>>,
    subscribe: Vec<Box<str>>,
}

impl Permissions {
    /// Everything is allowed.
    #[must_use]
    pub fn all() -> Self {
        Permissions(None)
    }

    /// Nothing is allowed.
    #[must_use]
    pub fn none() -> Self {
        Permissions(Some(Arc::default()))
    }

    /// What these patterns allow: MQTT filters, checked.
    #[must_use]
    pub fn of(publish: Vec<Box<str>>, subscribe: Vec<Box<str>>) -> Self {
        Permissions(Some(Arc::new(Allowed { publish, subscribe })))
    }

    /// Whether a message may be published on `topic`.
    #[must_use]
    #[inline]
    pub fn may_publish(&self, topic: &str) -> bool {
        let is_allowed = match &self.0 {
            None => true,
            Some(allowed) => takes(&allowed.publish, topic),
        };
        is_allowed && !topics::is_reserved(topic)
    }

    /// Whether `filter`, which was checked, may be subscribed to: one pattern covers all of it. Of
    /// a shared subscription, the filter inside counts.
    #[must_use]
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let Some(inner) = inner(filter) else { return false };
        match &self.0 {
            None => true,
            Some(allowed) => allowed.subscribe.iter().any(|pattern| covers(pattern, inner)),
        }
    }

    /// Whether a message on `topic` may be delivered: asked with each one, for rules change while
    /// subscriptions stay.
    #[must_use]
    #[inline]
    pub fn may_receive(&self, topic: &str) -> bool {
        match &self.0 {
            None => true,
            Some(allowed) => takes(&allowed.subscribe, topic),
        }
    }
}

#[inline]
fn takes(patterns: &[Box<str>], topic: &str) -> bool {
    patterns.iter().any(|pattern| topics::matches(pattern, topic))
}

/// The filter in `$share/group/filter`, or the filter itself; `None` for a share without a proper
/// group or filter.
fn inner(filter: &str) -> Option<&str> {
    let Some(shared) = filter.strip_prefix(SHARE) else { return Some(filter).filter(|f| *f != "$share") };
    let (group, inner) = shared.split_once('/')?;
    let is_proper = !group.is_empty() && !group.contains(['+', '#']) && !inner.is_empty();
    is_proper.then_some(inner)
}

/// Whether `pattern` takes every topic that `filter` takes. Both were checked.
#[must_use]
pub fn covers(pattern: &str, filter: &str) -> bool {
    if filter.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    // `a/#` takes `a` as well; where there is no such parent, one more level is all the same.
    let filter = match filter {
        "#" => "+/#",
        "/#" => "/+/#",
        filter => filter,
    };
    let (mut pattern, mut filter) = (pattern.split('/'), filter.split('/'));
    loop {
        match (pattern.next(), filter.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(literal), Some(level)) if literal == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Topics with so many levels at the most are looked at: one more than the filters below have,
    /// so that a topic that tells two filters apart is among them.
    const LEVELS_MAX: usize = 5;

    /// All topics over a small alphabet, one letter of which stands in no filter.
    fn topics() -> Vec<String> {
        let mut all = vec![];
        let mut last: Vec<String> = vec![];
        for depth in 0..LEVELS_MAX {
            let next: Vec<String> = if depth == 0 {
                ["a", "z", "", "$s"].map(String::from).to_vec()
            } else {
                last.iter().flat_map(|t| ["a", "z", ""].map(|level| format!("{t}/{level}"))).collect()
            };
            all.extend(next.iter().filter(|topic| !topic.is_empty()).cloned());
            last = next;
        }
        all
    }

    /// Section 4.7 told slowly, level by level.
    fn matches_slowly(filter: &[&str], topic: &[&str], first: bool) -> bool {
        match (filter.first(), topic.first()) {
            (None, None) => true,
            (Some(&"#"), Some(level)) => !(first && level.starts_with('$')),
            (Some(&"#"), None) => true,
            (Some(&"+"), Some(level)) if first && level.starts_with('$') => false,
            (Some(f), Some(t)) => (*f == "+" || f == t) && matches_slowly(&filter[1..], &topic[1..], false),
            _ => false,
        }
    }

    fn takes_slowly(filter: &str, topic: &str) -> bool {
        let (f, t): (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
        matches_slowly(&f, &t, true)
    }

    #[test]
    fn a_pattern_covers_a_filter_as_a_whole_or_not() {
        let table = [
            ("a/#", "a", true),
            ("a/#", "a/#", true),
            ("a/#", "a/+/b", true),
            ("a/+", "a/#", false),
            ("a/+/#", "a/#", false),
            ("+/#", "#", true),
            ("#", "#", true),
            ("/+/#", "/#", true),
            ("+/+/#", "/#", true),
            ("/+", "/#", false),
            ("#", "+/x", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/#", "#", false),
            ("tg/a/c", "tg/+/c", false),
            ("tg/+/c", "tg/a/c", true),
            ("a", "a/b", false),
            ("a/b", "a", false),
            ("a/b/#", "a", false),
            ("a", "b", false),
        ];
        for (pattern, filter, wanted) in table {
            assert_eq!(covers(pattern, filter), wanted, "{pattern} covers {filter}");
        }
    }

    #[test]
    fn of_a_shared_subscription_the_filter_inside_counts() {
        let permissions = Permissions::of(vec![], vec!["a/#".into()]);
        for (filter, wanted) in [
            ("$share/g/a/b", true),
            ("$share/g/a/#", true),
            ("$share/g/b", false),
            ("$share/g/#", false),
            ("$share/a/#", false),
            ("$share//a/b", false),
            ("$share/+/a/b", false),
            ("$share/g", false),
            ("$share", false),
            ("$share/g/", false),
        ] {
            assert_eq!(permissions.may_subscribe(filter), wanted, "{filter}");
        }
    }

    #[test]
    fn all_is_all_and_none_is_none() {
        for (topic, is_own) in [("a", false), ("$SYS/x", true), ("tg/a/e", false), ("tidegate/gap", true)] {
            assert_eq!(Permissions::all().may_publish(topic), !is_own, "{topic}");
            assert_eq!(Permissions::of(vec![topic.into()], vec![]).may_publish(topic), !is_own, "{topic}");
            assert!(Permissions::all().may_receive(topic));
            assert!(Permissions::all().may_subscribe(topic) && Permissions::all().may_subscribe("#"));
            assert!(!Permissions::none().may_publish(topic) && !Permissions::none().may_receive(topic));
            assert!(!Permissions::none().may_subscribe(topic));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn covering_is_taking_every_topic_that_the_filter_takes(
            pattern in "(a|\\+|\\$s|)(/(a|\\+|)){0,2}(/#)?|#",
            filter in "(a|\\+|\\$s|)(/(a|\\+|)){0,2}(/#)?|#",
        ) {
            prop_assume!(topics::check_filter(&pattern).is_ok() && topics::check_filter(&filter).is_ok());
            let told = topics().iter().all(|t| !takes_slowly(&filter, t) || takes_slowly(&pattern, t));
            prop_assert_eq!(covers(&pattern, &filter), told);
        }

        #[test]
        fn what_may_be_subscribed_to_may_be_received_and_nothing_else_comes_of_it(
            patterns in proptest::collection::vec("(a|\\+|\\$s|)(/(a|\\+|)){0,2}(/#)?|#", 0..3),
            filter in "(\\$share/g/)?(a|\\+|\\$s|)(/(a|\\+|)){0,2}(/#)?",
        ) {
            prop_assume!(patterns.iter().all(|p| topics::check_filter(p).is_ok()));
            let permissions = Permissions::of(vec![], patterns.iter().map(|p| p.as_str().into()).collect());
            let inside = filter.strip_prefix("$share/g/").unwrap_or(&filter);
            prop_assume!(topics::check_filter(inside).is_ok());
            for topic in topics() {
                let is_allowed = patterns.iter().any(|pattern| takes_slowly(pattern, &topic));
                prop_assert_eq!(permissions.may_receive(&topic), is_allowed);
                if permissions.may_subscribe(&filter) && takes_slowly(inside, &topic) {
                    prop_assert!(is_allowed, "{} lets {} through", &filter, &topic);
                }
            }
        }
    }
}

//! Who takes which topics: a tree of filters, one level a step. Pure.
//!
//! ```text
//!   subscribed: a/+/c  a/#          root ─ a ─┬─ + ─ c: [1]
//!   published:  a/b/c                         └─ #: [2]
//! ```
//! A topic visits each node of the tree once at most, however many wildcards there are. Limits: a
//! filter's levels are bounded by
//! [`topics::TOPIC_LEVELS_MAX`](crate::mqtt::topics::TOPIC_LEVELS_MAX), and so is the depth of
//! every walk here; how many filters there are is for whoever inserts, who is told what they cost:
//! see [`Filters::bytes`]. A filter has to be checked before.

use std::collections::HashMap;

/// What a node takes beside its level's text, in bytes: itself, and a table of its own in the node
/// above, which is never smaller than for some levels.
const NODE_BYTES: usize = 512;

/// A tree of filters with what hangs on each.
#[derive(Debug)]
pub struct Filters<T> {
    root: Node<T>,
    bytes: usize,
}

#[derive(Debug)]
struct Node<T> {
    levels: HashMap<Box<str>, Node<T>>,
    /// Under `+`.
    any: Option<Box<Node<T>>>,
    /// Of the filter that ends here.
    here: Vec<T>,
    /// Of the filter that ends here in `#`.
    below: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { levels: HashMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<T> Default for Filters<T> {
    fn default() -> Self {
        Self { root: Node::default(), bytes: 0 }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.levels.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

impl<T> Filters<T> {
    /// Nothing hangs on any filter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// What the nodes take, without what hangs on them, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the nodes take that `filter` needs and that are not there, in bytes.
    #[must_use]
    pub fn bytes_more(&self, filter: &str) -> usize {
        let (mut node, mut more) = (Some(&self.root), 0);
        for level in filter.split('/') {
            node = match level {
                "#" => return more,
                "+" => node.and_then(|node| node.any.as_deref()),
                level => node.and_then(|node| node.levels.get(level)),
            };
            if node.is_none() {
                more += NODE_BYTES + level.len();
            }
        }
        more
    }

    /// What hangs on `filter`, to be added to.
    pub fn entry(&mut self, filter: &str) -> &mut Vec<T> {
        self.bytes += self.bytes_more(filter);
        let mut node = &mut self.root;
        for level in filter.split('/') {
            match level {
                "#" => return &mut node.below,
                "+" => node = node.any.get_or_insert_default(),
                level => node = node.levels.entry(level.into()).or_default(),
            }
        }
        &mut node.here
    }

    /// What hangs on `filter` itself.
    #[must_use]
    pub fn of(&self, filter: &str) -> &[T] {
        let mut node = &self.root;
        for level in filter.split('/') {
            let below = match level {
                "#" => return &node.below,
                "+" => node.any.as_deref(),
                level => node.levels.get(level),
            };
            let Some(below) = below else { return &[] };
            node = below;
        }
        &node.here
    }

    /// Changes what hangs on `filter`, if anything does; nodes that are empty then are gone.
    pub fn change<R>(&mut self, filter: &str, act: impl FnOnce(&mut Vec<T>) -> R) -> Option<R> {
        change(&mut self.root, filter.split('/'), act, &mut self.bytes)
    }

    /// Gives everything that hangs on a filter which takes `topic`.
    pub fn for_each<'f>(&'f self, topic: &str, mut each: impl FnMut(&'f T)) {
        // A wildcard in the first level takes no topic that begins with `$` [MQTT-4.7.2-1].
        let is_hidden = topic.starts_with('$');
        walk(&self.root, Some(topic), is_hidden, &mut |found| {
            found.iter().for_each(&mut each);
            true
        });
    }

    /// Whether `is_meant` of anything that hangs on a filter which takes `topic`.
    pub fn any(&self, topic: &str, mut is_meant: impl FnMut(&T) -> bool) -> bool {
        !walk(&self.root, Some(topic), topic.starts_with('$'), &mut |found| !found.iter().any(&mut is_meant))
    }
}

fn change<'a, T, R>(
    node: &mut Node<T>,
    mut levels: impl Iterator<Item = &'a str>,
    act: impl FnOnce(&mut Vec<T>) -> R,
    bytes: &mut usize,
) -> Option<R> {
    match levels.next() {
        None => Some(act(&mut node.here)),
        Some("#") => Some(act(&mut node.below)),
        Some("+") => {
            let below = node.any.as_mut()?;
            let changed = change(below, levels, act, bytes);
            if below.is_empty() {
                node.any = None;
                *bytes -= NODE_BYTES + "+".len();
            }
            changed
        }
        Some(level) => {
            let below = node.levels.get_mut(level)?;
            let changed = change(below, levels, act, bytes);
            if below.is_empty() {
                node.levels.remove(level);
                *bytes -= NODE_BYTES + level.len();
            }
            changed
        }
    }
}

/// Visits what takes `rest`, the levels that are left (`None` at the topic's end). False once
/// `visit` said so.
fn walk<'f, T>(
    node: &'f Node<T>,
    rest: Option<&str>,
    is_hidden: bool,
    visit: &mut impl FnMut(&'f [T]) -> bool,
) -> bool {
    // `a/#` takes `a` as well (section 4.7.1.2).
    if !is_hidden && !node.below.is_empty() && !visit(&node.below) {
        return false;
    }
    let Some(rest) = rest else { return node.here.is_empty() || visit(&node.here) };
    let (level, rest) = match rest.split_once('/') {
        Some((level, rest)) => (level, Some(rest)),
        None => (rest, None),
    };
    if let Some(below) = node.levels.get(level)
        && !walk(below, rest, false, visit)
    {
        return false;
    }
    match &node.any {
        Some(any) if !is_hidden => walk(any, rest, false, visit),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::topics;

    fn found(filters: &Filters<usize>, topic: &str) -> Vec<usize> {
        let mut found = vec![];
        filters.for_each(topic, |n| found.push(*n));
        found.sort_unstable();
        found
    }

    #[test]
    fn what_was_taken_away_leaves_no_node_behind() {
        let mut filters = Filters::default();
        for filter in ["a/+/c", "a/#", "#", "+", "a/b"] {
            filters.entry(filter).push(1);
        }
        for filter in ["a/+/c", "a/#", "#", "+", "a/b"] {
            assert_eq!(filters.change(filter, |here| here.pop()), Some(Some(1)), "{filter}");
            assert_eq!(filters.change("no/such", |here| here.pop()), None);
        }
        assert!(filters.is_empty());
        assert_eq!(filters.bytes(), 0);
    }

    #[test]
    fn a_filter_costs_the_nodes_that_nobody_else_has() {
        let mut filters = Filters::default();
        for (filter, nodes) in [("a/b/c", 3), ("a/b/c", 0), ("a/b/#", 0), ("a/+/c", 2), ("x/#", 1), ("#", 0)]
        {
            let (before, more) = (filters.bytes(), filters.bytes_more(filter));
            filters.entry(filter).push(1);
            assert_eq!(
                (filters.bytes() - before, more),
                (nodes * (NODE_BYTES + 1), nodes * (NODE_BYTES + 1)),
                "{filter}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_each_filter_by_itself(
            filters in prop::collection::vec("[ab+$]{0,2}(/[ab+]{0,1}){0,3}(/#)?|#", 0..12),
            topics in prop::collection::vec("[$ab]{0,2}(/[ab]{0,1}){0,4}", 1..8),
        ) {
            let filters: Vec<_> = filters.into_iter().filter(|f| topics::check_filter(f).is_ok()).collect();
            let mut tree = Filters::default();
            for (n, filter) in filters.iter().enumerate() {
                tree.entry(filter).push(n);
            }
            for topic in topics.iter().filter(|topic| topics::name(topic.as_bytes()).is_some()) {
                let wanted: Vec<_> =
                    (0..filters.len()).filter(|n| topics::matches(&filters[*n], topic)).collect();
                prop_assert_eq!(found(&tree, topic), wanted.clone(), "{}", topic);
                prop_assert_eq!(tree.any(topic, |_| true), !wanted.is_empty());
            }
        }
    }
}

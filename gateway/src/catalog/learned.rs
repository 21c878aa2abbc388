//! What learning a birth came to.

use std::sync::Arc;

use super::{definition::BadDefinition, kinds::KnownKind, lint::Finding};

/// A birth from which nothing was learned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBirth {
    /// One of its definitions is none.
    #[error("kind {index}: {cause}")]
    Definition {
        /// The kind's index.
        index: usize,
        /// What is wrong with it.
        cause: BadDefinition,
    },
    /// Index 0 is not `loss` 1 as everybody knows it.
    #[error("kind 0 is not the protocol's loss@1")]
    First,
    /// There is no room for more: the limit by name.
    #[error("the catalog is full: {what} of {most}")]
    Full {
        /// Of what there is too much.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
}

/// A definition that was new and has the name and the version of another one: readers who go by
/// these read one of the two wrong.
#[derive(Debug, Clone)]
pub struct Clash {
    /// The new one.
    pub new: Arc<KnownKind>,
    /// The one that was there first.
    pub known: Arc<KnownKind>,
}

/// What somebody should know of a birth that was taken.
#[derive(Debug, Clone)]
pub enum Doubt {
    /// A name and a version that mean two things now.
    Clash(Clash),
    /// A unit that readers do not know, or misread.
    Unit(Finding),
}

pub(super) fn full(what: &'static str, most: usize) -> BadBirth {
    BadBirth::Full { what, most }
}

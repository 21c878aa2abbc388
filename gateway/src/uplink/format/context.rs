//! What is known beside an event: what its body means, and when it was.

use crate::{catalog::Catalog, fleet::Fleet};

/// What is known of devices and of their events.
#[derive(Debug, Clone, Default)]
pub struct EventContext {
    /// What the bodies of events mean.
    pub catalog: Catalog,
    /// When events were.
    pub fleet: Fleet,
}

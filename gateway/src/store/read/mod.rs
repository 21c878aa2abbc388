//! The read side of the log: each uplink behind its own cursor, and whoever looks in or follows
//! from elsewhere.
//!
//! ```text
//!  log ─┬─▶ reader: one for each uplink, with a durable cursor
//!       └─▶ view: short looks, which change no event ─┬─▶ scan: rows, oldest first, for a replay
//!                                                    └─▶ follow: rows as they are committed ─▶ checkpointed: with a position that is saved
//! ```

pub mod checkpointed;
pub mod follow;
mod letters;
pub mod reader;
pub mod scan;
pub mod view;

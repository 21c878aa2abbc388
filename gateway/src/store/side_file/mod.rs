//! The files beside the log, one redb database each: what is kept in them, and how such a file is opened, checked, copied and
//! put out of the way when it is damaged.
//!
//! ```text
//!  file ◀─┬─ dead_letters   state.redb      events that an upstream could not take
//!         ├─ outbox         commands.redb   commands to devices
//!         ├─ sessions       sessions.redb   what local subscribers are owed
//!         └─ fleet          fleet.redb      what is known of the devices
//! ```

pub mod dead_letters;
pub mod file;
pub mod fleet;
pub mod outbox;
pub mod sessions;

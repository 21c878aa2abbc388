//! The files beside the log, one redb database each, and what is kept in them.
//!
//! ```text
//!  file ◀─ lazy_db ◀─┬─ dead_letters   dead_letters.redb   events that an upstream could not take
//!                    ├─ outbox         commands.redb       commands to devices
//!                    ├─ sessions       sessions.redb       what local subscribers are owed
//!                    └─ fleet          fleet.redb          what is known of the devices
//! ```
//! How such a file is made, checked and copied is in `file.rs`; when it is opened, and what follows
//! from damage and from failures, in `lazy_db.rs`, once for all of them. What is left in each is
//! its tables and what they mean.

pub mod dead_letters;
pub mod file;
pub mod fleet;
pub mod lazy_db;
pub mod outbox;
pub mod sessions;
#[cfg(test)]
mod tests;

use self::file::SideFile;

/// All of them.
pub const ALL: [&SideFile; 4] =
    [&dead_letters::SIDE_FILE, &outbox::SIDE_FILE, &sessions::SIDE_FILE, &fleet::SIDE_FILE];

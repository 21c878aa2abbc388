//! Certificates and keys as they lie in files, for both ends of TLS: a listener's and an uplink's.
//!
//! ```text
//!   file ─▶ pem.rs  its sections ─▶ key.rs      a private key that is nobody else's
//!                                └▶ summary.rs  what a certificate says, for people
//!   expiry.rs  when the end of a certificate is warned of        fault.rs  what is wrong with a file
//! ```
//! It judges no chain and no signature: that is the TLS library's, for whoever uses it. Nothing of
//! a key is in an error. Limits: files as in [`reload::read`](crate::reload::read).

mod expiry;
mod fault;
mod key;
mod pem;
mod summary;

pub use self::{
    expiry::{early, expiry},
    fault::FileFault,
    key::{PrivateKey, private_key},
    pem::{certificates, sections},
    summary::{Summary, date},
};

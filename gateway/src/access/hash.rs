//! Password hashes: argon2id in PHC strings. The only file that knows the crate.
//!
//! ```text
//!   $argon2id$v=19$m=19456,t=2,p=1$<salt>$<hash>
//! ```
//! Limits: a hash made elsewhere may cost [`MEMORY_KIB_MAX`] and [`ITERATIONS_MAX`] at the most, so
//! that a file cannot stop the gateway. Hashing takes tens of milliseconds: never on the runtime's
//! threads. The memory of as many hashings as run at a time is kept once it was needed.

use std::{fmt, sync::Arc};

use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version, password_hash::phc::PasswordHash};
use parking_lot::Mutex;

use crate::mqtt::password::Password;

/// Passwords hashed at a time: 38 MiB.
pub const RUNNING_MAX: usize = 2;
/// Memory of one hashing, in KiB: OWASP's least for argon2id with two passes. 20 ms on a desktop,
/// 100 ms on a small board.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
pub const ITERATIONS: u32 = 2;
/// Lanes: more would only help with as many threads.
pub const LANES: u32 = 1;
/// Most memory that a stored hash may ask for, in KiB: two at a time fit into the service's 256 MB.
pub const MEMORY_KIB_MAX: u32 = 64 * 1024;
/// Most passes that a stored hash may ask for.
pub const ITERATIONS_MAX: u32 = 16;
/// Most lanes that a stored hash may ask for.
pub const LANES_MAX: u32 = 16;
/// Longest password that is hashed for the users file, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
const SALT_BYTES: usize = 16;
/// What the name of nobody is hashed with.
const NOBODYS_SALT: [u8; SALT_BYTES] = *b"nobody's salt 16";

/// A password's hash as it is stored. Its Debug shows nothing, for a hash can be attacked.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored(Arc<str>);

/// A text is no usable hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// There is no text.
    #[error(
        "a blank password lets nobody in; make one with `tidegate users passwd`, or set certificate_only = true"
    )]
    Blank,
    /// It is not a PHC string of argon2id with salt and hash.
    #[error("this is no argon2id hash; passwords are not written here but set with `tidegate users passwd`")]
    NotArgon2id,
    /// It would cost too much to check.
    #[error(
        "this hash costs more to check than {MEMORY_KIB_MAX} KiB, {ITERATIONS_MAX} passes and {LANES_MAX} lanes"
    )]
    TooCostly,
}

/// A password could not be hashed. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The password is blank or too long.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Length,
    /// The system gave no random bytes, or no memory.
    #[error("the password cannot be hashed: {0}")]
    System(String),
}

impl Stored {
    /// Reads a PHC string.
    ///
    /// # Errors
    /// [`BadHash`]
    pub fn parse(text: &str) -> Result<Self, BadHash> {
        if text.trim().is_empty() {
            return Err(BadHash::Blank);
        }
        let hash = PasswordHash::new(text).map_err(|_| BadHash::NotArgon2id)?;
        let whole = hash.salt.is_some() && hash.hash.is_some();
        if hash.algorithm.as_str() != "argon2id" || !whole {
            return Err(BadHash::NotArgon2id);
        }
        let params = Params::try_from(&hash).map_err(|_| BadHash::NotArgon2id)?;
        let fits = params.m_cost() <= MEMORY_KIB_MAX
            && params.t_cost() <= ITERATIONS_MAX
            && params.p_cost() <= LANES_MAX;
        if fits { Ok(Stored(text.into())) } else { Err(BadHash::TooCostly) }
    }

    /// Hashes `password` with a new salt.
    ///
    /// # Errors
    /// [`HashError`]
    pub fn make(password: &Password) -> Result<Self, HashError> {
        if !(1..=PASSWORD_BYTES_MAX).contains(&password.expose().len()) {
            return Err(HashError::Length);
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|cause| HashError::System(cause.to_string()))?;
        hasher()
            .hash_password_with_salt(password.expose(), &salt)
            .map(|hash| Stored(hash.to_string().into()))
            .map_err(|cause| HashError::System(cause.to_string()))
    }

    /// Whether `password` is the one that was hashed. The comparison takes the same time wherever
    /// they differ.
    #[must_use]
    pub fn verifies(&self, password: &Password) -> bool {
        let Ok(hash) = PasswordHash::new(&self.0) else { return false };
        let (Ok(params), Some(salt), Some(wanted)) = (Params::try_from(&hash), hash.salt, hash.hash) else {
            return false;
        };
        let mut found = vec![0; wanted.as_bytes().len()];
        let Ok(version) = hash.version.map_or(Ok(Version::V0x13), Version::try_from) else { return false };
        let hasher = Argon2::new(Algorithm::Argon2id, version, params);
        if !hash_into(&hasher, password, &salt, &mut found) {
            return false;
        }
        let differ = wanted.as_bytes().iter().zip(&found).fold(0, |differ, (a, b)| differ | (a ^ b));
        std::hint::black_box(differ) == 0
    }

    /// The PHC string, to be written into the file.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stored(hidden)")
    }
}

/// Memory of hashings that are over, for those that come: given back, each of the threads that may
/// block would keep its own.
static MEMORY: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());
/// So much of it is kept as hashings run at a time.
const MEMORY_KEPT_MAX: usize = RUNNING_MAX;

/// Whether it could be done.
fn hash_into(hasher: &Argon2<'_>, password: &Password, salt: &[u8], out: &mut [u8]) -> bool {
    let params = hasher.params();
    let blocks = params.m_cost().max(8 * params.p_cost()) as usize;
    let mut memory = MEMORY.lock().pop().unwrap_or_default();
    if memory.len() < blocks {
        memory.resize(blocks, Block::default());
    }
    let done = hasher.hash_password_into_with_memory(password.expose(), salt, out, &mut memory[..blocks]);
    let mut kept = MEMORY.lock();
    if kept.len() < MEMORY_KEPT_MAX {
        kept.push(memory);
    }
    done.is_ok()
}

/// Takes as long as [`Stored::verifies`], so that an unknown user cannot be told from a wrong
/// password by the time.
pub(super) fn spend(password: &Password) {
    let mut out = [0; 32];
    // What comes out is of no use, and a failure would be the same one that checking has.
    hash_into(&hasher(), password, &NOBODYS_SALT, &mut out);
    std::hint::black_box(out);
}

fn hasher() -> Argon2<'static> {
    const PARAMS: Params = match Params::new(MEMORY_KIB, ITERATIONS, LANES, None) {
        Ok(params) => params,
        Err(_) => panic!("the named parameters are within argon2's limits"),
    };
    Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_verifies_against_its_own_hash_alone() {
        let password = Password::new(b"correct horse");
        let stored = Stored::make(&password).unwrap();
        assert!(stored.expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", stored.expose());
        assert!(stored.verifies(&password));
        assert!(!stored.verifies(&Password::new(b"correct horsf")));
        assert!(!stored.verifies(&Password::new(b"")));
        assert_ne!(Stored::make(&password).unwrap(), stored, "every hash has a salt of its own");
        assert_eq!(Stored::parse(stored.expose()), Ok(stored.clone()));
        assert_eq!(format!("{stored:?}"), "Stored(hidden)");
    }

    #[test]
    fn a_hash_of_another_program_verifies() {
        // By the reference implementation: "password" with the salt "somesalt".
        let phc = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        assert!(Stored::parse(phc).unwrap().verifies(&Password::new(b"password")));
    }

    #[test]
    fn what_is_no_argon2id_hash_or_costs_too_much_is_refused_by_cause() {
        let salt_and_hash = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let table = [
            (String::new(), BadHash::Blank),
            (" ".into(), BadHash::Blank),
            ("secret".into(), BadHash::NotArgon2id),
            ("$argon2id$v=19$m=19456,t=2,p=1".into(), BadHash::NotArgon2id),
            (format!("$argon2i$v=19$m=19456,t=2,p=1${salt_and_hash}"), BadHash::NotArgon2id),
            ("$2b$12$abcdefghijklmnopqrstuv".into(), BadHash::NotArgon2id),
            (format!("$argon2id$v=19$m=65537,t=2,p=1${salt_and_hash}"), BadHash::TooCostly),
            (format!("$argon2id$v=19$m=19456,t=17,p=1${salt_and_hash}"), BadHash::TooCostly),
        ];
        for (text, wanted) in table {
            assert_eq!(Stored::parse(&text), Err(wanted), "{text}");
        }
        assert_eq!(Stored::make(&Password::new(b"")), Err(HashError::Length));
    }
}

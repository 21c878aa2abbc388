//! Who may come in, and what they may do there.
//!
//! ```text
//!   users.toml, acl.toml ─▶ Policy ─▶ Access ──authenticate──▶ Admitted (identity, Permissions) ─▶ session
//!                             ▲          └ watch: a changed policy ─▶ review ─▶ new Permissions, or the end
//!                          reload: whole and right, or the old one stays
//! ```
//! Reading order: [`name`] and [`credential`] (who), [`users`] and [`hash`] (known how), `prove`
//! and `failures` (checked how), [`acl`] and [`permissions`] (allowed what), [`policy`] (all of
//! it), [`audit`] (written down), [`mod@edit`] (the users file changed).
//!
//! Without users and rules, a listener that admits anonymous clients lets them do everything: such
//! a listener is on loopback alone. With rules, anonymous clients have what `who = "anonymous"`
//! says. Crash: nothing is kept here but in the two files.
//!
//! What it does not do: certificates, which the TLS handshake checks and [`Origin`] brings;
//! deciding when to reload.

pub mod acl;
pub mod audit;
pub mod credential;
pub mod edit;
mod error;
mod failures;
pub mod hash;
mod missing;
pub mod name;
pub mod origin;
pub mod permissions;
pub mod policy;
pub mod proof;
pub(crate) mod prove;
pub mod refusal;
pub mod users;

use std::{
    fmt,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics::counter;
use tokio::{sync::watch, time::timeout};

pub use acl::Acl;
pub use credential::Credentials;
pub use edit::{EditError, edit};
pub use error::LoadError;
pub use hash::Stored;
pub use permissions::Permissions;
pub use policy::{Files, Policy};
pub use proof::Proof;
pub use users::{ClientIds, User, Users};

use self::{
    audit::{Action, Audit, TARGET},
    credential::{Claim, claim, client_ids, may_use},
    missing::Missing,
    origin::Origin,
    prove::{Proven, Prover},
    refusal::{Reason, Refusal},
};
use crate::{clock, mqtt::Fault, reload::Reloadable, telemetry};

/// Longest wait for a client's password to be checked, its turn included.
pub const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that was let in.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// Who it is.
    pub identity: Arc<str>,
    /// How it showed that.
    pub proof: Proof,
    /// The hash that its password matched.
    stored: Option<Stored>,
    /// The users file had it.
    is_listed: bool,
}

impl Admitted {
    /// Whether `client` is its own by name: whoever else has it gives way.
    pub(crate) fn owns(&self, client: &str) -> bool {
        self.proof != Proof::Nothing && *self.identity == *client
    }
}

/// Users and rules, shared by all connections and replaced as one.
pub struct Access {
    files: Files,
    policy: watch::Sender<Arc<Policy>>,
    prover: Prover,
    pub(crate) audit: Audit,
}

impl Access {
    /// No users and no rules: only for listeners that admit anonymous clients.
    #[must_use]
    pub fn open() -> Self {
        Self::new(Policy::default())
    }

    /// With a policy of its own, read from nowhere.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Access {
            files: Files::default(),
            policy: watch::Sender::new(Arc::new(policy)),
            prover: Prover::new(),
            audit: Audit::default(),
        }
    }

    /// With the policy that the files hold.
    ///
    /// # Errors
    /// [`LoadError`]
    pub fn load(files: Files) -> Result<Self, LoadError> {
        let policy = Policy::load(&files)?;
        Ok(Self::of(files, policy))
    }

    /// With the policy that was read from `files`.
    #[must_use]
    pub fn of(files: Files, policy: Policy) -> Self {
        Access { files, ..Self::new(policy) }
    }

    /// The files to watch.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// Whether there is a users file.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.policy.borrow().users.is_some()
    }

    /// Reads the files again. What is new holds at once, for those that are connected as well.
    ///
    /// # Errors
    /// [`LoadError`]: what was read before goes on holding.
    pub fn reload(&self) -> Result<(), LoadError> {
        self.replace(Policy::load(&self.files)?);
        Ok(())
    }

    /// Puts `policy` in the old one's place.
    pub fn replace(&self, policy: Policy) {
        let before = self.policy.borrow().clone();
        if *before == policy {
            return;
        }
        report_changes(&before, &policy);
        self.policy.send_replace(Arc::new(policy));
    }

    /// Changes whenever the policy is replaced.
    pub(crate) fn changes(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.subscribe()
    }

    /// Who the client is. Takes up to [`AUTHENTICATION_TIMEOUT`]: the password may have to wait its
    /// turn.
    pub(crate) async fn authenticate(
        &self,
        origin: &Origin,
        shown: Credentials<'_>,
    ) -> Result<Admitted, Refusal> {
        let policy = self.policy.borrow().clone();
        let (user, stored, password) = match claim(origin, shown, &policy)? {
            Claim::Shown { name, proof } => {
                let is_listed = proof == Proof::Certificate && policy.has_user(&name);
                return Ok(Admitted { identity: name, proof, stored: None, is_listed });
            }
            Claim::ToProve { user, password, stored } => (user, stored, password),
        };
        let proving = self.prover.prove(origin.peer.ip(), user, stored.clone(), password);
        let is_known = policy.has_user(user);
        match timeout(AUTHENTICATION_TIMEOUT, proving).await {
            Ok(Proven::Right) => {
                Ok(Admitted { identity: user.into(), proof: Proof::Password, stored, is_listed: true })
            }
            Ok(Proven::Wrong) => {
                let reason = match (is_known, stored.is_some()) {
                    (false, _) => Reason::UnknownUser,
                    (true, false) => Reason::CertificateOnly,
                    (true, true) => Reason::WrongPassword,
                };
                Err(Refusal::new(Fault::BadCredentials, reason))
            }
            Ok(Proven::Busy) | Err(_) => Err(Refusal::new(Fault::Busy, Reason::Busy)),
        }
    }

    /// The client id of a client that came without one, if its identity decides that.
    pub(crate) fn own_client_id(&self, admitted: &Admitted) -> Option<Arc<str>> {
        let policy = self.policy.borrow();
        let own = client_ids(&admitted.identity, admitted.proof, &policy) == ClientIds::Own;
        own.then(|| admitted.identity.clone())
    }

    /// What a client that was let in may do, under the policy of now.
    pub(crate) fn permissions(&self, admitted: &Admitted, client: &str) -> Result<Permissions, Refusal> {
        let policy = self.policy.borrow();
        if admitted.proof == Proof::Password {
            // It may have been replaced while the password was checked, or since.
            let user = policy.users.as_ref().and_then(|users| users.get(&admitted.identity));
            if user.is_none_or(|user| user.password != admitted.stored) {
                return Err(Refusal::new(Fault::NotAuthorized, Reason::UnknownUser));
            }
        }
        // Whoever was removed is told so, whatever else lets it in: its certificate, on a
        // connection of its own.
        if admitted.is_listed && !policy.has_user(&admitted.identity) {
            return Err(Refusal::new(Fault::NotAuthorized, Reason::UnknownUser));
        }
        if !may_use(&admitted.identity, admitted.proof, client, &policy) {
            return Err(Refusal::new(Fault::ForeignClientId, Reason::ClientId));
        }
        Ok(policy.permissions(&admitted.identity, admitted.proof, client))
    }

    /// Writes down what a client was denied, and the rule that is missing.
    pub(crate) fn report_denied(&self, admitted: &Admitted, client: &str, action: Action, topic: &str) {
        let (has_rules, file) = (self.policy.borrow().acl.is_some(), self.files.acl.as_deref());
        let missing = Missing { identity: &admitted.identity, action, topic, has_rules, file };
        self.audit.denied(clock::wall_ms(), admitted, client, action, topic, &missing);
    }

    /// Writes down and counts that a client is not let in.
    pub(crate) fn report_refused(&self, origin: &Origin, connect: &Claimed<'_>, refusal: Refusal) {
        match refusal.reason {
            Reason::Will => {
                counter!(telemetry::DENIED, "action" => Action::Will.label()).increment(1);
            }
            reason => {
                counter!(telemetry::AUTHENTICATION_FAILURES, "reason" => reason.label()).increment(1);
            }
        }
        let claimed = origin.certified.as_deref().or(connect.user);
        self.audit.refused(clock::wall_ms(), origin, claimed, connect.client, refusal);
    }
}

/// What a client that is refused said of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claimed<'a> {
    pub user: Option<&'a str>,
    pub client: &'a str,
}

impl Reloadable for Access {
    fn kind(&self) -> &'static str {
        "access"
    }

    fn name(&self) -> String {
        "the users and access files".to_owned()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.users.iter().chain(&self.files.acl).cloned().collect()
    }

    fn load(&self, _wall_ms: u64) -> Result<(), String> {
        self.reload().map_err(|error| error.to_string())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Says what a new policy changes. Most names that are told: [`CHANGES_LOGGED_MAX`].
fn report_changes(before: &Policy, after: &Policy) {
    let empty = Users::default();
    let (old, new) = (before.users.as_ref().unwrap_or(&empty), after.users.as_ref().unwrap_or(&empty));
    let added = new.iter().filter(|user| old.get(&user.name).is_none()).map(|user| (&user.name, "added"));
    let removed = old.iter().filter(|user| new.get(&user.name).is_none()).map(|user| (&user.name, "removed"));
    let changed = new.iter().filter(|user| old.get(&user.name).is_some_and(|other| other != *user));
    let changes: Vec<_> = added.chain(removed).chain(changed.map(|user| (&user.name, "changed"))).collect();
    for (user, change) in changes.iter().take(CHANGES_LOGGED_MAX) {
        tracing::info!(target: TARGET, %user, "user {change}");
    }
    let rules_changed = before.acl != after.acl;
    tracing::info!(target: TARGET, users = new.len(), users_changed = changes.len(), rules_changed, "users and rules were read again");
}

/// Users whose change is told by name at one reload.
const CHANGES_LOGGED_MAX: usize = 100;

/// The text of a file that is open, of at most `bytes_max`; `file` stands in the errors.
fn read(mut opened: &File, file: &Path, bytes_max: u64) -> Result<String, LoadError> {
    let unreadable = |cause: std::io::Error| LoadError::unreadable(file, &cause);
    let bytes = opened.metadata().map_err(unreadable)?.len();
    if bytes > bytes_max {
        let reason = format!("{bytes} bytes are too many ({bytes_max} at most)");
        return Err(LoadError::Unreadable { file: file.to_owned(), reason });
    }
    let mut text = String::new();
    opened.read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

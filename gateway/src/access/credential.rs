//! Who a client is, and which client ids it may use. Pure.
//!
//! ```text
//!   certificate ─▶ its name is the identity; a user name, if given, has to be the same
//!   user name   ─▶ to be proven with the password
//!   neither     ─▶ "anonymous", if the listener admits such clients
//! ```
//! What it claims is proven elsewhere: a certificate by the TLS handshake, a password by `prove`.

use std::sync::Arc;

use super::{
    hash::Stored,
    name::{ANONYMOUS, check_name},
    origin::Origin,
    policy::Policy,
    proof::Proof,
    refusal::{Reason, Refusal},
    users::ClientIds,
};
use crate::mqtt::{fault::Fault, password::Password};

/// What a client shows of itself in its CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// Its user name, as given.
    pub user: Option<&'a str>,
    /// Its password.
    pub password: Option<&'a Password>,
}

/// What a CONNECT claims.
#[derive(Debug)]
pub(super) enum Claim<'a> {
    /// Nothing is left to be shown.
    Shown { name: Arc<str>, proof: Proof },
    /// The user has to be known and the password right.
    ToProve { user: &'a str, password: &'a Password, stored: Option<Stored> },
}

/// Who the client says it is.
pub(super) fn claim<'a>(
    origin: &Origin,
    Credentials { user, password }: Credentials<'a>,
    policy: &Policy,
) -> Result<Claim<'a>, Refusal> {
    if let Some(name) = &origin.certified {
        check_name(name).map_err(|_| Refusal::new(Fault::NotAuthorized, Reason::CertificateName))?;
        if user.is_some_and(|user| user != &**name) {
            return Err(Refusal::new(Fault::BadCredentials, Reason::NotTheCertificates));
        }
        return Ok(Claim::Shown { name: name.clone(), proof: Proof::Certificate });
    }
    let has_credentials = user.is_some() || password.is_some();
    match &policy.users {
        // Without users there is nothing to compare with: what an open listener admits, it admits.
        Some(users) if has_credentials => {
            let (Some(user), Some(password)) = (user, password) else {
                return Err(Refusal::new(Fault::BadCredentials, Reason::NoCredentials));
            };
            let stored = users.get(user).and_then(|user| user.password.clone());
            Ok(Claim::ToProve { user, password, stored })
        }
        _ if origin.anonymous => Ok(Claim::Shown { name: ANONYMOUS.into(), proof: Proof::Nothing }),
        _ if has_credentials => Err(Refusal::new(Fault::BadCredentials, Reason::UnknownUser)),
        _ => Err(Refusal::new(Fault::NotAuthorized, Reason::NoCredentials)),
    }
}

/// Whether the identity `name` may use the client id `client`, which is not empty.
pub(super) fn may_use(name: &str, proof: Proof, client: &str, policy: &Policy) -> bool {
    match client_ids(name, proof, policy) {
        ClientIds::Own => client == name,
        ClientIds::Any => {
            client == name || policy.users.as_ref().is_none_or(|users| users.get(client).is_none())
        }
    }
}

/// Which client ids `name` may use. Who has a certificate and no entry in the users file is a
/// device: its own.
pub(super) fn client_ids(name: &str, proof: Proof, policy: &Policy) -> ClientIds {
    let entry = policy.users.as_ref().and_then(|users| users.get(name));
    match (proof, entry) {
        (Proof::Nothing, _) => ClientIds::Any,
        (_, Some(user)) => user.client_ids,
        (_, None) => ClientIds::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::users::{User, Users};

    fn policy() -> Policy {
        let mut users = Users::default();
        for (name, client_ids) in [("a", ClientIds::Own), ("tool", ClientIds::Any)] {
            assert!(users.add(User { name: name.into(), password: None, client_ids, roles: vec![] }));
        }
        Policy { users: Some(users), acl: None }
    }

    #[test]
    fn a_certificate_is_the_identity_and_a_user_name_beside_it_has_to_be_the_same() {
        let password = Password::new(b"x");
        let claimed = |certified: &str, user, password| {
            let certified = Some(certified.into());
            let (peer, listener) = (([10, 0, 0, 1], 1).into(), ([10, 0, 0, 2], 1883).into());
            let origin = Origin { peer, listener, certified, anonymous: true };
            match claim(&origin, Credentials { user, password }, &policy()) {
                Ok(Claim::Shown { name, proof: Proof::Certificate }) => Ok(name.to_string()),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => Err((refusal.fault, refusal.reason)),
            }
        };
        for name in ["a", "not-in-the-file"] {
            assert_eq!(claimed(name, None, None), Ok(name.to_owned()));
            assert_eq!(claimed(name, None, Some(&password)), Ok(name.to_owned()));
            assert_eq!(claimed(name, Some(name), Some(&password)), Ok(name.to_owned()));
            let other = Err((Fault::BadCredentials, Reason::NotTheCertificates));
            assert_eq!(claimed(name, Some("tool"), Some(&password)), other);
            assert_eq!(claimed(name, Some(""), None), other);
        }
        for name in ["#", "a/b", "", "anonymous", "two words"] {
            let bad = Err((Fault::NotAuthorized, Reason::CertificateName));
            assert_eq!(claimed(name, Some(name), None), bad, "{name}");
        }
    }

    #[test]
    fn client_ids_are_a_users_own_or_any_that_is_nobody_elses() {
        use Proof::{Certificate, Nothing, Password};
        for (name, proof, client, wanted) in [
            ("a", Password, "a", true),
            ("a", Password, "b", false),
            ("tool", Password, "b", true),
            ("tool", Certificate, "tool", true),
            ("tool", Password, "a", false),
            ("not-in-the-file", Certificate, "not-in-the-file", true),
            ("not-in-the-file", Certificate, "b", false),
            (ANONYMOUS, Nothing, "b", true),
            (ANONYMOUS, Nothing, "a", false),
        ] {
            assert_eq!(may_use(name, proof, client, &policy()), wanted, "{name} {proof:?} {client}");
        }
        assert!(may_use(ANONYMOUS, Nothing, "a", &Policy::default()));
    }
}

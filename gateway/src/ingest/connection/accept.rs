//! Letting a client in: who it is, which client id, what it may do, and then its seat.
//!
//! ```text
//!   CONNECT ─▶ authenticate ─▶ client id ─▶ permit ─▶ will ─▶ seat (its owner's alone) ─▶ CONNACK
//! ```
//! Nothing of another client's session is touched before the client has shown who it is. Later on the same questions are
//! asked again whenever users or rules change: a client that would not be let in any more is closed, and its will is
//! published only if it still may be. Limits: see [`AUTHENTICATION_TIMEOUT`](crate::ingest::access::AUTHENTICATION_TIMEOUT); a stop
//! does not wait for it.

use std::sync::Arc;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    time::timeout,
};

use super::{Connection, TAKEOVER_TIMEOUT};
use crate::{
    clock::{self, now},
    ingest::{
        access::{
            Admitted, Claimed, Permit, Policy,
            audit::Action,
            refusal::{Reason, Refusal},
        },
        codec::{Connect, Refused},
        error::Fault,
        packet::Version,
        registry::Remembered,
        session::{End, Opening},
    },
};

/// Why [`Connection::try_accept`] does not.
enum NotAccepted {
    /// For a reason that has nothing to do with who the client is.
    Fault(Fault),
    Refusal(Refusal),
}

impl From<Fault> for NotAccepted {
    fn from(fault: Fault) -> Self {
        NotAccepted::Fault(fault)
    }
}

impl From<Refusal> for NotAccepted {
    fn from(refusal: Refusal) -> Self {
        NotAccepted::Refusal(refusal)
    }
}

/// Waits until the policy is replaced, and gives the receiver back for the next time.
pub(super) async fn next_policy(mut changes: watch::Receiver<Arc<Policy>>) -> watch::Receiver<Arc<Policy>> {
    if changes.changed().await.is_err() {
        // The door's own handle is the sender, and the connection holds it.
        std::future::pending::<()>().await;
    }
    changes
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Connection<Io> {
    /// Accepts or refuses the client.
    pub(super) async fn decide(&mut self, connect: Connect) {
        let (version, packet_bytes_max) = (connect.version, connect.packet_bytes_max);
        let claimed = (connect.user.clone(), connect.client_id.clone());
        // Boxed: it is large, rare, and would lie in the task of every idle connection.
        let fault = match Box::pin(self.try_accept(connect)).await {
            Ok(()) => return,
            Err(NotAccepted::Fault(fault)) => fault,
            Err(NotAccepted::Refusal(refusal)) => {
                let claimed = Claimed { user: claimed.0.as_deref(), client: &claimed.1 };
                self.shared.settings.access.tell_refused(&self.origin, &claimed, refusal);
                refusal.fault
            }
        };
        self.session.refuse(now(), Refused { version, fault, packet_bytes_max });
    }

    async fn try_accept(&mut self, mut connect: Connect) -> Result<(), NotAccepted> {
        if connect.client_id.is_empty() && connect.version == Version::V311 && !connect.clean {
            return Err(Fault::ClientId.into());
        }
        let admitted = self.authenticate(&connect).await?;
        connect.password = None;
        let access = &self.shared.settings.access;
        let client: Arc<str> = match connect.client_id.as_str() {
            "" => access
                .own_client_id(&admitted)
                .unwrap_or_else(|| self.shared.registry.assign_id(clock::wall_ms())),
            id => id.into(),
        };
        let permit = access.permit(&admitted, &client)?;
        if connect.will.as_ref().is_some_and(|will| !permit.may_publish(&will.topic)) {
            return Err(Refusal { fault: Fault::NotAuthorized, reason: Reason::Will }.into());
        }
        if self.shared.bus.is_foreign(&client, &admitted.identity, clock::steady_ms()) {
            let refusal = Refusal { fault: Fault::ForeignClientId, reason: Reason::SessionOfAnother };
            return Err(refusal.into());
        }
        let entered = self.shared.registry.enter(
            client.clone(),
            &admitted.identity,
            self.kick.clone(),
            clock::monotonic(),
        );
        let mut seat = entered.map_err(|fault| match fault {
            Fault::ForeignClientId => Refusal { fault, reason: Reason::SessionOfAnother }.into(),
            other => NotAccepted::Fault(other),
        })?;
        if let Some(predecessor) = seat.predecessor()
            && timeout(TAKEOVER_TIMEOUT, predecessor.cancelled()).await.is_err()
        {
            tracing::warn!(%client, "the client's last connection does not end: going on beside it");
        }
        if let Some(fault) = self.kick.cause() {
            return Err(fault.into());
        }
        self.seat = Some(seat);
        self.open(connect, client, permit, &admitted);
        self.admitted = Some(admitted);
        // What changed while it waited for its predecessor.
        self.review();
        Ok(())
    }

    async fn authenticate(&self, connect: &Connect) -> Result<Admitted, NotAccepted> {
        let leave = self.kick.token().clone();
        tokio::select! {
            biased;
            () = leave.cancelled() => Err(self.kick.cause().unwrap_or(Fault::Stopping).into()),
            admitted = self.shared.settings.access.authenticate(&self.origin, connect) => Ok(admitted?),
        }
    }

    fn open(&mut self, connect: Connect, client: Arc<str>, permit: Permit, admitted: &Admitted) {
        let now = now();
        let remembered = self.shared.registry.resume(&client, now.at);
        let pending = self.inlet.has_pending(&client);
        let continued = match remembered {
            Remembered::Kept => true,
            Remembered::Expired => false,
            Remembered::Unknown => pending,
        };
        let was_local = self.shared.bus.knows(&client);
        let mailbox = self.shared.bus.resume(&client, connect.clean, now.steady_ms);
        let present = (continued || mailbox.is_some()) && !connect.clean;
        let version = connect.version;
        tracing::debug!(%client, peer = %self.origin.peer, ?version, present, "connected");
        self.shared.settings.access.audit.connected(now.wall_ms, &self.origin, admitted, &client, version);
        // What is in the intake and not committed is not pending yet, but then the session was kept.
        let forget = !present && (pending || was_local || remembered != Remembered::Unknown);
        self.session.set_permit(permit);
        let opening = Opening { client, identity: admitted.identity.clone(), present, forget, mailbox };
        self.session.accept(now, connect, opening, &mut self.inlet.batch);
        self.append(now);
        self.place.seated();
        self.shared.meters.connected();
    }

    /// Users or rules changed: the client may do something else from now on, or nothing.
    pub(super) fn review(&mut self) {
        let Some(admitted) = &self.admitted else { return };
        match self.shared.settings.access.permit(admitted, self.session.client()) {
            Ok(permit) => self.session.set_permit(permit),
            Err(_) => {
                self.session.set_permit(Permit::none());
                self.session.fail(now(), Fault::NotAuthorized);
            }
        }
    }

    /// The first of its kind that is denied on this connection.
    pub(super) fn tell_denied(&self, action: Action, topic: &str) {
        if let Some(admitted) = &self.admitted {
            let audit = &self.shared.settings.access.audit;
            audit.denied(clock::wall_ms(), admitted, self.session.client(), action, topic);
        }
    }

    /// The audit log's word on the connection's end.
    pub(super) fn tell_disconnected(&self, end: End) {
        let Some(admitted) = &self.admitted else { return };
        let cause = match end {
            End::Disconnect { .. } => "the client disconnected".to_owned(),
            End::Lost => "the connection broke".to_owned(),
            End::Fault(fault) => fault.to_string(),
        };
        let audit = &self.shared.settings.access.audit;
        audit.disconnected(clock::wall_ms(), &self.origin, admitted, self.session.client(), &cause);
    }
}

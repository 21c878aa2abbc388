//! Letting a client in: who it is, which client id, what it may do, and then its slot.
//!
//! ```text
//!   CONNECT ─▶ authenticate ─▶ client id ─▶ permissions ─▶ will ─▶ slot (its owner's alone) ─▶ session ─▶ ids forgotten, saved ─▶ CONNACK
//! ```
//! What CONNACK says holds after a crash: a session that begins, or goes on in another way, is
//! saved before, and the packet ids of one that is over are forgotten. A file that cannot be saved
//! keeps nobody out, and is waited for [`SAVE_TIMEOUT`] at most; a store that cannot forget does,
//! for those few whose next message it might take for a copy, as it could not store that either.
//! Nothing of another client's session is touched before the client has shown who it is. Later on
//! the same questions are asked again whenever users or rules change: a client that would not be
//! let in any more is closed, and its will is published only if it still may be. Limits: see
//! [`AUTHENTICATION_TIMEOUT`](crate::access::AUTHENTICATION_TIMEOUT); a stop does not wait for it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{timeout, timeout_at},
};

use super::{Connection, SAVE_TIMEOUT, TAKEOVER_TIMEOUT};
use crate::{
    access::{
        Admitted, Claimed, Credentials, Permissions, Policy,
        audit::Action,
        refusal::{Reason, Refusal},
    },
    broker::{Broker, Publication, Resumed, WillPermit},
    clock::{self, now},
    ingest::{
        connection::{report, socket::Wire},
        registry::{Entering, SessionSlot},
        session::{End, Opening},
    },
    mqtt::{
        connect::{Connect, Refused},
        fault::Fault,
        version::Version,
    },
    store::{AppendError, Watermark},
};

/// Longest wait until the packet ids of a session that is over are forgotten.
const FORGET_TIMEOUT: Duration = Duration::from_secs(4);

/// Longest wait until a will whose time has come is durable in the log.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(4);

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
        // The sender is in `Access`, which the connection holds.
        std::future::pending::<()>().await;
    }
    changes
}

impl<Io: Wire> Connection<Io> {
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
                self.shared.settings.access.report_refused(&self.origin, &claimed, refusal);
                refusal.fault
            }
        };
        self.session.refuse(now(), Refused { version, fault, packet_bytes_max });
    }

    async fn try_accept(&mut self, mut connect: Connect) -> Result<(), NotAccepted> {
        let Connect { version, dialect, clean, .. } = connect;
        if connect.client_id.is_empty() && version == Version::V311 && (!clean || dialect.is_v31) {
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
        let permissions = access.permissions(&admitted, &client)?;
        if let Some(will) = connect.will.as_ref().filter(|will| !permissions.may_publish(&will.topic)) {
            access.report_denied(&admitted, &client, Action::Will, &will.topic);
            return Err(Refusal { fault: Fault::NotAuthorized, reason: Reason::Will }.into());
        }
        self.check_owner(&client, &admitted)?;
        let entering = Entering {
            owner: admitted.identity.clone(),
            is_own: admitted.owns(&client),
            peer: self.origin.peer,
            now: now().at,
        };
        let entered = self.shared.registry.enter(client.clone(), entering, self.disconnect.clone());
        let mut slot = entered.map_err(|fault| match fault {
            Fault::ForeignClientId => Refusal { fault, reason: Reason::SessionOfAnother }.into(),
            other => NotAccepted::Fault(other),
        })?;
        if let Some(turns) = slot.turns() {
            report::turns(&client, self.origin.peer, turns);
        }
        if let Some(predecessor) = slot.predecessor()
            && timeout(TAKEOVER_TIMEOUT, predecessor.cancelled()).await.is_err()
        {
            tracing::warn!(%client, "the client's last connection does not end: going on beside it");
        }
        if let Some(fault) = self.disconnect.cause() {
            return Err(fault.into());
        }
        // Another may have come and gone since then.
        self.check_owner(&client, &admitted)?;
        let will_permit = match &connect.will {
            Some(will) => Some(self.shared.broker.admit_will(&client, will).ok_or(Fault::Busy)?),
            None => None,
        };
        self.open(connect, client, permissions, &admitted, (slot, will_permit)).await?;
        self.admitted = Some(admitted);
        // What changed while it waited for its predecessor.
        self.review();
        Ok(())
    }

    fn check_owner(&self, client: &str, admitted: &Admitted) -> Result<(), Refusal> {
        let is_foreign = || self.shared.broker.is_foreign(client, &admitted.identity, clock::steady_ms());
        match !admitted.owns(client) && is_foreign() {
            true => Err(Refusal { fault: Fault::ForeignClientId, reason: Reason::SessionOfAnother }),
            false => Ok(()),
        }
    }

    async fn authenticate(&self, connect: &Connect) -> Result<Admitted, NotAccepted> {
        let shown = Credentials { user: connect.user.as_deref(), password: connect.password.as_ref() };
        let authenticated = self.shared.settings.access.authenticate(&self.origin, shown);
        Ok(self.unless_disconnected(authenticated).await??)
    }

    async fn open(
        &mut self,
        connect: Connect,
        client: Arc<str>,
        permissions: Permissions,
        admitted: &Admitted,
        slot: (SessionSlot, Option<WillPermit>),
    ) -> Result<(), Fault> {
        self.backpressure.attach(client.clone());
        let (identity, expiry_s) = (admitted.identity.clone(), connect.session_expiry_s);
        let resumed =
            self.shared.broker.resume(&client, &identity, connect.clean, expiry_s, clock::steady_ms());
        let Resumed { mailbox, present, save } = resumed;
        if !present && let Err(fault) = self.forget_packet_ids(&client).await {
            if let Some(mailbox) = mailbox {
                self.shared.broker.end(&mailbox);
            }
            return Err(fault);
        }
        self.wait_published(&client).await;
        let (now, version) = (now(), connect.version);
        tracing::debug!(%client, peer = %self.origin.peer, ?version, present, "connected");
        self.shared.settings.access.audit.connected(now.wall_ms, &self.origin, admitted, &client, version);
        self.slot = Some(slot);
        self.session.set_permissions(permissions);
        let saved = self.session.accept(now, connect, Opening { client, identity, present, mailbox });
        self.permit.accepted();
        self.shared.metrics.connected();
        if let Some(number) = save.max(saved) {
            self.session.set_blocked(clock::now(), true);
            self.wait_saved(number).await;
            self.session.set_blocked(clock::now(), false);
        }
        Ok(())
    }

    /// The session that the client had is over: its packet ids are free, durably, when this
    /// returns.
    async fn forget_packet_ids(&mut self, client: &Arc<str>) -> Result<(), Fault> {
        if self.backpressure.has_pending(client) {
            self.shared.broker.end_packet_ids(client);
        }
        let until = clock::monotonic() + FORGET_TIMEOUT;
        let committed_at = loop {
            match self.shared.broker.forget_packet_ids(self.backpressure.intake()) {
                Ok(ticket) => break ticket,
                Err(AppendError::Closed) => return Err(Fault::StoreClosed),
                Err(AppendError::Full | AppendError::StoreFull) => {
                    let room = timeout_at(until.into(), self.backpressure.intake_room());
                    self.unless_disconnected(room).await?.map_err(|_| Fault::Busy)?;
                }
            }
        };
        let durable = self.durable(committed_at);
        match self.unless_disconnected(timeout_at(until.into(), durable)).await? {
            Ok(Some(watermark)) if watermark.committed >= committed_at => Ok(()),
            Ok(_) => Err(Fault::StoreClosed),
            Err(_) => Err(Fault::Busy),
        }
    }

    /// Waits until the log is durable up to this watermark, or closed; the client waits for it and
    /// for no company. `None` if there is no log.
    async fn durable(&self, committed_at: u64) -> Option<Watermark> {
        let mut watermark = self.watermark.clone();
        if watermark.borrow().committed < committed_at {
            self.backpressure.intake().hurry();
        }
        let durable = watermark.wait_for(|now| now.closed || now.committed >= committed_at);
        durable.await.ok().map(|watermark| *watermark)
    }

    /// Waits until a will that the client left is durable in the log, if its time has come: with
    /// CONNACK the file forgets it. A log that takes nothing keeps nobody out.
    async fn wait_published(&self, client: &str) {
        let broker = &self.shared.broker;
        let publication = || broker.will_publication(client, clock::steady_ms());
        let durable = async {
            Broker::saved_until(self.saved.clone(), |_| publication() != Some(Publication::Due)).await;
            if let Some(Publication::Made { committed_at }) = publication() {
                self.durable(committed_at).await;
            }
        };
        let _ = self.unless_disconnected(timeout(PUBLISH_TIMEOUT, durable)).await;
    }

    /// Waits for the save that has the client's session, unless there is a reason not to.
    pub(super) async fn wait_saved(&self, number: u64) {
        let broker = &self.shared.broker;
        let is_over =
            Broker::saved_until(self.saved.clone(), |saved| saved >= number || broker.cannot_save());
        let in_time = self.unless_disconnected(timeout(SAVE_TIMEOUT, is_over)).await;
        if matches!(in_time, Ok(Err(_))) && self.shared.log_once.is_new(("unsaved", "sessions")) {
            tracing::warn!(
                client = %self.session.client(),
                "the sessions are not saved in time: a client is let in whose session a crash would end (said once)"
            );
        }
    }

    /// What `wait` gives, unless the connection has to end.
    async fn unless_disconnected<T>(&self, wait: impl Future<Output = T>) -> Result<T, Fault> {
        let leave = self.disconnect.token().clone();
        tokio::select! {
            biased;
            () = leave.cancelled() => Err(self.disconnect.cause().unwrap_or(Fault::Stopping)),
            waited = wait => Ok(waited),
        }
    }

    /// Users or rules changed: the client may do something else from now on, or nothing.
    pub(super) fn review(&mut self) {
        let Some(admitted) = &self.admitted else { return };
        match self.shared.settings.access.permissions(admitted, self.session.client()) {
            Ok(permissions) => self.session.set_permissions(permissions),
            Err(_) => {
                self.session.set_permissions(Permissions::none());
                self.session.fail(now(), Fault::NotAuthorized);
            }
        }
    }

    /// The first of its kind that is denied on this connection.
    pub(super) fn report_denied(&self, action: Action, topic: &str) {
        if let Some(admitted) = &self.admitted {
            self.shared.settings.access.report_denied(admitted, self.session.client(), action, topic);
        }
    }

    /// The audit log's word on the connection's end.
    pub(super) fn report_disconnected(&self, end: End) {
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

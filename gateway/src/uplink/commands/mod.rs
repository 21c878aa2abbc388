//! Commands from the upstream: subscribes to a topic, and puts each message into the outbox before
//! it is acknowledged.
//!
//! ```text
//!  upstream ──PUBLISH──▶ inbox ──▶ judge ──put──▶ outbox
//!      ◀────PUBACK───────────────────┘ durable, or never to be taken
//! ```
//! It has a connection of its own beside the one that forwards events, with `-commands` behind the
//! uplink's client id, and a session that the upstream keeps: what is sent while there is no
//! connection comes later. Events go on as they did, whatever becomes of this: see
//! `docs/decisions/2026-11-24-commands-have-a-connection-of-their-own.md`.
//!
//! Crash story: a message that was put and not acknowledged comes again. With an id it is known by
//! that; without one, by what it looks like, if it says that it was sent before.
//!
//! Limits: one message at a time; [`RECEIVE_MAX`] that the upstream may send ahead; packets as in
//! `packets.rs`. Where the outbox has no room the connection ends and is made again after the
//! back-off: the upstream keeps what was not acknowledged.

mod judge;
mod packets;
pub mod topic;

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use self::topic::{CommandTopic, CommandTopicError};
use self::{
    judge::{Judged, NeverTaken, refusal},
    packets::{Came, Inbox, PACKET_BYTES_MAX, puback, subscribe},
};
use super::{
    delivery::{
        deadlines::{Deadlines, Due, InFlight},
        patience::Patience,
        retry::{self, Backoff},
    },
    engine::{
        Engine as _, Lost, Notice, Silence,
        dial::{Dialer, OpenError, Step, Stream},
        mqtt::{
            self,
            answer::WireError,
            connect::{Incoming, PersistentSession, ServerLimits, connack, connect_with},
            send::{DISCONNECT, PINGREQ},
        },
        upstream::Upstream,
    },
    health::{Failures, Health},
    pause::Pause,
    settings::{OF_COMMANDS, Settings},
};
use crate::{
    clock,
    mqtt::{
        Password,
        reason::{QUOTA_EXCEEDED, Reason},
    },
    store::{Outbox, Put, PutError, RESENT_AMONG_MAX, StoreError, count_refused_command},
};

/// Messages that the upstream may send before they are acknowledged. Not more than the outbox looks
/// back for copies.
const RECEIVE_MAX: u16 = 20;
const _: () = assert!(RECEIVE_MAX as usize <= RESENT_AMONG_MAX);
/// How long the last packet may take to leave.
const GOODBYE: Duration = Duration::from_millis(500);
/// On this connection nothing is in flight that time limits ask about.
const IDLE: InFlight = InFlight { head_sent_at: None, pending: false };
/// The longest sleep.
const FAR: Duration = Duration::from_secs(3600);

/// Why there is no connection for commands, or no longer. What was not acknowledged comes again.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("no connection within {0:?}: no answer {1}")]
    ConnectTimeout(Duration, Step),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the upstream closed the connection in the handshake, without a word{0}")]
    Refused(String),
    #[error("the upstream disconnected: {0}")]
    Disconnected(Box<Notice>),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(
        "the upstream refuses the subscription to {filter:?}: {reason}; allow it there, or take \"commands\" out of this uplink"
    )]
    Subscription { filter: String, reason: Reason },
    #[error("a command cannot be taken now: {0}")]
    NotNow(PutError),
}

impl From<OpenError> for Broken {
    fn from(error: OpenError) -> Self {
        Lost::Open(error).into()
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Lost::from(error).into()
    }
}

/// Takes commands from the upstream until `shutdown`, but while it is paused. Does nothing for an
/// uplink without a topic for them.
pub async fn receive(
    settings: Settings,
    outbox: Outbox,
    health: Arc<Health>,
    mut pause: Pause,
    shutdown: CancellationToken,
) {
    let Some(topic) = settings.commands.clone() else { return shutdown.cancelled().await };
    let Upstream::Mqtt(mut broker) = settings.upstream.clone() else { return shutdown.cancelled().await };
    broker.client_id += OF_COMMANDS;
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max, retry::seed());
    let mut receiver = Receiver {
        dialer: Dialer::new(settings.connect_timeout),
        settings,
        broker,
        topic,
        outbox,
        health,
        failures: Failures::new(),
        refused: 0,
        progress: false,
    };
    while !shutdown.is_cancelled() {
        if pause.since_ms().is_some() {
            receiver.health.commands_come();
        }
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            ended = async {
                pause.clone().ended().await;
                tokio::select! {
                    () = pause.begun() => None,
                    ended = receiver.connect() => Some(ended),
                }
            } => ended,
        };
        let Some(ended) = ended else { continue };
        let ended = match ended {
            Ok((socket, inbox, limits)) => {
                let stop = shutdown.child_token();
                let _watches = [receiver.dialer.cancel_when_stale(&stop), pause.cancel_when_begun(&stop)];
                receiver.serve(socket, inbox, limits, &stop).await
            }
            Err(broken) => Err(broken),
        };
        // Without an error it was told to end: for good, or to be made anew with other TLS files or
        // another password.
        let Err(why) = ended else { continue };
        if std::mem::take(&mut receiver.progress) {
            backoff.reset();
            receiver.failures.clear();
        }
        let wait = backoff.after_failure();
        let now_ms = clock::wall_ms();
        let next_ms = now_ms + wait.as_millis() as u64;
        let words = receiver.health.commands_failed(now_ms, why.to_string(), next_ms);
        if receiver.failures.add() {
            let uplink = &receiver.settings.name;
            tracing::warn!(%uplink, "no commands from the upstream, events go on: {words}");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = pause.begun() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What survives a connection.
struct Receiver {
    settings: Settings,
    dialer: Dialer,
    broker: mqtt::Settings,
    topic: CommandTopic,
    outbox: Outbox,
    health: Arc<Health>,
    failures: Failures,
    /// Messages acknowledged and not taken.
    refused: u64,
    /// The upstream took a subscription and said something since.
    progress: bool,
}

impl Receiver {
    /// Connects, shakes hands and asks for the commands, within the settings' time limit.
    async fn connect(&mut self) -> Result<(Stream, Inbox, ServerLimits), Broken> {
        let limit = self.settings.connect_timeout;
        let Self { dialer, broker, topic, .. } = self;
        let connecting = async {
            let password = dialer.password(broker.password.as_ref(), broker.renew).await?;
            let stream = dialer.open(&broker.target()).await?;
            dialer.handshake(shake_hands(stream, broker, password.as_ref(), topic)).await
        };
        let connected = timeout(limit, connecting).await;
        connected.unwrap_or_else(|_| Err(Broken::ConnectTimeout(limit, self.dialer.step().clone())))
    }

    /// Takes what comes until the shutdown (`Ok`) or the end of the connection.
    async fn serve(
        &mut self,
        mut socket: Stream,
        mut inbox: Inbox,
        limits: ServerLimits,
        shutdown: &CancellationToken,
    ) -> Result<(), Broken> {
        let limit = self.settings.ack_timeout;
        let keep_alive =
            limits.keep_alive_s.map_or(self.broker.keep_alive, |s| Duration::from_secs(s.into()));
        let mut deadlines = Deadlines::new(Patience::new(limit), keep_alive, clock::monotonic());
        loop {
            while let Some(came) = inbox.next()? {
                if came == Came::Pong {
                    deadlines.answered(IDLE, clock::monotonic());
                }
                if let Some(answer) = self.take(came).await? {
                    write(&mut socket, &answer, limit).await?;
                    deadlines.wrote(false, clock::monotonic());
                }
                if shutdown.is_cancelled() {
                    break;
                }
            }
            let due = deadlines.next(IDLE).unwrap_or(clock::monotonic() + FAR);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    // If the goodbye does not get through, the upstream sees a closed connection,
                    // which is as good.
                    let _ = timeout(GOODBYE, write_all(&mut socket, &DISCONNECT)).await;
                    return Ok(());
                }
                read = socket.read_buf(inbox.space()) => {
                    if read? == 0 {
                        return Err(Lost::Closed.into());
                    }
                }
                () = tokio::time::sleep_until(due.into()) => match deadlines.judge(IDLE, clock::monotonic()) {
                    Due::Ping => {
                        write(&mut socket, &PINGREQ, limit).await?;
                        // The next one is due after a keep-alive without anything written.
                        deadlines.wrote(false, clock::monotonic());
                        deadlines.pinged(clock::monotonic());
                    }
                    Due::Nothing => {}
                    _ => return Err(Broken::Timeout(limit)),
                },
            }
        }
    }

    /// Does what a packet asks for, and gives what to answer.
    async fn take(&mut self, came: Came) -> Result<Option<Vec<u8>>, Broken> {
        match came {
            Came::Message(message) => {
                let (id, topic) = (message.id, message.topic.clone());
                let reason = match self.put(message).await? {
                    Ok(()) => 0,
                    Err(never) => self.refuse(&topic, &never),
                };
                self.progress = true;
                Ok((id != 0).then(|| puback(id, reason, self.broker.version)))
            }
            Came::Long { id, bytes } => {
                let why = format!("a packet of {bytes} bytes is longer than any command");
                let reason = self.refuse("", &NeverTaken { reason: QUOTA_EXCEEDED, why });
                Ok((id != 0).then(|| puback(id, reason, self.broker.version)))
            }
            Came::Subscribed(Ok(())) => {
                self.health.commands_come();
                if self.failures.connected() {
                    tracing::info!(uplink = %self.settings.name, "commands come on {:?}", self.topic.filter());
                }
                Ok(None)
            }
            Came::Subscribed(Err(reason)) => {
                Err(Broken::Subscription { filter: self.topic.filter(), reason })
            }
            Came::Pong => {
                self.progress = true;
                Ok(None)
            }
            Came::Disconnect(notice) => Err(Broken::Disconnected(notice)),
            Came::Other => Ok(None),
        }
    }

    /// Puts a message into the outbox: durable when this returns.
    async fn put(&self, message: Incoming) -> Result<Result<(), NeverTaken>, Broken> {
        let now_ms = clock::wall_ms();
        let judged = match Judged::new(message, &self.topic, now_ms) {
            Ok(judged) => judged,
            Err(never) => return Ok(Err(never)),
        };
        let (outbox, origin) = (self.outbox.clone(), self.settings.name.clone());
        let putting = tokio::task::spawn_blocking(move || outbox.put(&judged.command(&origin), now_ms));
        match putting.await.unwrap_or(Err(PutError::Store(StoreError::Closed))) {
            Ok(Put::Taken(_) | Put::Known(_)) => Ok(Ok(())),
            Err(error) => refusal(error).map(Err).map_err(Broken::NotNow),
        }
    }

    /// Counts a message that is never taken, says so at the 1st, 2nd, 4th, 8th …, and gives the
    /// reason for its PUBACK.
    fn refuse(&mut self, topic: &str, never: &NeverTaken) -> u8 {
        count_refused_command();
        self.refused += 1;
        if self.refused.is_power_of_two() {
            let (uplink, refused, why) = (&self.settings.name, self.refused, &never.why);
            tracing::warn!(%uplink, refused, topic, "a command from the upstream is not taken, and acknowledged: {why}");
        }
        never.reason
    }
}

/// Shakes hands over a fresh connection, and asks for the commands.
async fn shake_hands(
    mut socket: Stream,
    broker: &mqtt::Settings,
    password: Option<&Password>,
    topic: &CommandTopic,
) -> Result<(Stream, Inbox, ServerLimits), Broken> {
    let session = PersistentSession {
        // All ones is for ever. (MQTT 5.0 section 3.1.2.11.2)
        expiry_s: u32::try_from(broker.session_expiry.as_secs()).unwrap_or(u32::MAX),
        receive_max: RECEIVE_MAX,
        packet_bytes_max: PACKET_BYTES_MAX as u32,
    };
    let connect = connect_with(broker, password, Some(session))?;
    write_all(&mut socket, &connect).await?;
    let mut bytes = BytesMut::new();
    loop {
        if let Some((limits, size)) = connack(&bytes, broker.version)? {
            let inbox = Inbox::new(broker.version, bytes.split_off(size));
            let asked = subscribe(&topic.filter(), broker.version);
            write_all(&mut socket, &asked).await?;
            return Ok((socket, inbox, limits));
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            let hint = broker.hint(Silence::ClosedInHandshake).map(|hint| format!("; {hint}"));
            return Err(Broken::Refused(hint.unwrap_or_default()));
        }
    }
}

async fn write(socket: &mut Stream, bytes: &[u8], limit: Duration) -> Result<(), Broken> {
    let written = timeout(limit, write_all(socket, bytes)).await;
    Ok(written.unwrap_or(Err(io::ErrorKind::TimedOut.into()))?)
}

/// Writes, and has what TLS or a WebSocket keeps go on its way.
async fn write_all(socket: &mut Stream, bytes: &[u8]) -> io::Result<()> {
    socket.write_all(bytes).await?;
    socket.flush().await
}

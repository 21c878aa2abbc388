//! Commands to devices: out of the store's outbox to the device that is there, and back what it made of them.
//!
//! ```text
//!   outbox ──what waits──▶ session that subscribes to tg/<device>/c ──PUBACK──▶ Delivered, Refused ─┐
//!   log ────tg/<device>/r──────────────────────────────────────────────────────▶ Replied ───────────┴▶ outbox
//! ```
//! A command is handed out only while its device is connected: one that sleeps has its commands in the outbox, where they can
//! still be cancelled and run out. What was sent and not acknowledged is the session's to send again; a session that is over
//! leaves it to the next one.
//!
//! Limits: those of the outbox and of a session's queue; what finds no room is tried again every second. A crash between PUBACK and
//! its note sends a command again, with the same id.

use std::sync::{Arc, atomic::Ordering};

use tidegate_protocol::{DeviceName, Leaf, Topic, limits::TOPIC_BYTES_MAX};

use super::{Bus, Mailbox, Message, task::AtWork};
use crate::{
    clock::{self, Now},
    store::{Change, Command, CommandFilter, CommandState, Record, StoreError, record::CORRELATION_DATA},
};

const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
/// Commands of a device that are looked at for a reply that was noted already.
const LOOKED_AT_MAX: usize = 100;
/// A reason code from here on says that the client did not take the message.
const REFUSED: u8 = 0x80;

/// What a device made of a command, on its way to the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    device: String,
    id: String,
    /// The reason code of its PUBACK.
    reason: u8,
}

impl Answer {
    fn change(&self) -> Change<'_> {
        let Answer { device, id, reason } = self;
        match *reason {
            reason @ REFUSED.. => Change::Refused { device, id, reason },
            _ => Change::Delivered { device, id },
        }
    }
}

impl Bus {
    /// A device acknowledged a message that is a command.
    pub(super) fn answered(&self, message: &Message, reason: u8) {
        let Some(id) = &message.command else { return };
        let Ok(Topic { device, .. }) = Topic::parse(&message.topic) else { return };
        let answer = Answer { device: device.as_str().to_owned(), id: id.to_string(), reason };
        self.0.answers.lock().push(answer);
        self.0.bell.notify_one();
    }

    /// A session is there that may be a device's.
    pub(super) fn arrived(&self) {
        self.0.has_arrivals.store(true, Ordering::Release);
        self.0.bell.notify_one();
    }

    /// The connected session that gets the commands of `device`: one that subscribes to that very topic with QoS 1 or 2, the
    /// device's own before others.
    fn session_of(&self, device: &str, topic: &str) -> Option<Arc<Mailbox>> {
        let takers = self.0.takers.read();
        let mut found: Option<&Arc<Mailbox>> = None;
        for mailbox in takers.exact(topic) {
            let state = mailbox.state();
            let wants = state.subscriptions.get(topic).is_some_and(|own| own.options.qos() > 0);
            if wants && state.outbound.is_attached() && (found.is_none() || **mailbox.client() == *device) {
                found = Some(mailbox);
            }
        }
        found.cloned()
    }
}

impl AtWork {
    /// Gives the devices that are there what waits for them.
    pub(super) fn hand_out(&mut self) {
        self.bus.0.has_arrivals.store(false, Ordering::Release);
        if self.outbox.pending_count() == 0 {
            return;
        }
        let now = clock::now();
        for device in self.outbox.waiting_devices() {
            let Some(topic) = topic_of(&device, Leaf::Command) else { continue };
            let Some(mailbox) = self.bus.session_of(&device, &topic) else { continue };
            for command in self.outbox.pending(&device, now.wall_ms) {
                let is_answered = |answer: &Answer| answer.device == device && answer.id == command.id;
                if self.bus.0.answers.lock().iter().any(is_answered) {
                    continue;
                }
                let mut state = mailbox.state();
                if state.outbound.owes_command(&topic, &command.id) {
                    continue;
                }
                let message =
                    Arc::new(message_of(&command, &topic, self.outbox.left_ms(&command, now.wall_ms), now));
                if !state.outbound.push(&message, 1, false, &[], self.bus.limits()) {
                    break;
                }
                // A reply may come before the PUBACK does.
                self.awaits_replies = true;
            }
            mailbox.ring();
        }
    }

    /// Tells the outbox what devices made of their commands.
    pub(super) async fn settle(&mut self) {
        let answers = std::mem::take(&mut *self.bus.0.answers.lock());
        if answers.is_empty() {
            return;
        }
        let (outbox, kept) = (self.outbox.clone(), answers.clone());
        let note = move || -> Result<(), StoreError> {
            let changes: Vec<_> = answers.iter().map(Answer::change).collect();
            outbox.apply(&changes, clock::wall_ms()).map(drop)
        };
        match tokio::task::spawn_blocking(note).await {
            Ok(Ok(())) => self.awaits_replies = true,
            Ok(Err(StoreError::Closed)) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::error!("what devices made of commands cannot be noted: {error}; trying on");
                self.bus.0.answers.lock().splice(0..0, kept);
            }
        }
    }

    /// Whether a record may be the reply to a command.
    pub(super) fn is_reply(&self, record: &Record<'_>) -> bool {
        self.awaits_replies && matches!(Topic::parse(record.topic), Ok(Topic { leaf: Leaf::Reply, .. }))
    }

    /// Notes a device's reply with its command.
    pub(super) async fn note_reply(&self, record: &Record<'_>) {
        let Ok(Topic { device, .. }) = Topic::parse(record.topic) else { return };
        let device = device.as_str().to_owned();
        let correlation = record.correlation().map(<[u8]>::to_vec);
        let (payload, received_ms) = (record.payload.to_vec(), record.received_ms);
        let outbox = self.outbox.clone();
        let note = move || -> Result<(), StoreError> {
            // After a crash the log is followed again: what was noted is not another command's reply.
            let filter = CommandFilter { device: Some(device.clone()), state: Some(CommandState::Replied) };
            let is_noted = |command: &Arc<Command>| {
                let reply = command.reply.as_ref();
                reply.is_some_and(|r| r.at_ms == received_ms && payload.starts_with(&r.payload))
            };
            if outbox.list(&filter, LOOKED_AT_MAX).iter().any(is_noted) {
                return Ok(());
            }
            let correlation = correlation.as_deref();
            let change = Change::Replied { device: &device, correlation, payload: &payload };
            outbox.apply(&[change], received_ms).map(drop)
        };
        if let Ok(Err(error)) = tokio::task::spawn_blocking(note).await
            && !matches!(error, StoreError::Closed)
        {
            tracing::error!(
                "a reply to a command cannot be noted: {error}; it is stored as an event all the same"
            );
        }
    }

    /// Whether devices have commands that they did not answer.
    pub(super) fn has_unanswered(&self) -> bool {
        let filter = CommandFilter { state: Some(CommandState::Delivered), ..CommandFilter::default() };
        !self.outbox.list(&filter, 1).is_empty()
    }
}

fn topic_of(device: &str, leaf: Leaf) -> Option<String> {
    let mut buffer = [0; TOPIC_BYTES_MAX];
    let topic = Topic { device: DeviceName::new(device).ok()?, leaf };
    topic.write(&mut buffer).ok().map(str::to_owned)
}

/// The command as its device gets it.
fn message_of(command: &Command, topic: &str, left_ms: u64, now: Now) -> Message {
    let mut properties = Vec::new();
    let mut put = |id: u8, value: &[u8]| {
        properties.push(id);
        properties.extend_from_slice(&(value.len() as u16).to_be_bytes());
        properties.extend_from_slice(value);
    };
    if let Some(content_type) = &command.content_type {
        put(CONTENT_TYPE, content_type.as_bytes());
    }
    if let Some(reply_to) = topic_of(&command.device, Leaf::Reply) {
        put(RESPONSE_TOPIC, reply_to.as_bytes());
    }
    put(CORRELATION_DATA, command.id.as_bytes());
    Message {
        topic: topic.into(),
        payload: command.payload.as_slice().into(),
        properties: properties.into(),
        publisher: Box::default(),
        qos: 1,
        retain: false,
        received_ms: now.steady_ms,
        expiry_s: Some(u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX)),
        command: Some(command.id.as_str().into()),
    }
}

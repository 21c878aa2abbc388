//! Commands to devices: out of the store's outbox to the device that is there, and back what it
//! made of them.
//!
//! ```text
//!   outbox ──what waits──▶ session that subscribes to tg/<device>/c ──PUBACK──▶ Delivered, Refused ─┐
//!   log ────tg/<device>/r─────────── `reply` ───────────────────────────────────▶ Replied ──────────┴▶ outbox
//! ```
//! A command is handed out only while its device is connected: one that sleeps has its commands in
//! the outbox, where they can still be cancelled and run out. What was sent and not acknowledged is
//! the session's to send again; a session that is over leaves it to the next one, and a restart of
//! the gateway to the outbox. The task here
//! waits for the broker and the outbox; replies are events like others, and are noted by whoever
//! follows the log: see [`reply`].
//!
//! Limits: those of the outbox and of a session's queue; what finds no room is tried again every
//! second. A crash between PUBACK and its note sends a command again, with the same id.

pub(super) mod reply;

use std::time::Duration;

use tidegate_protocol::{DeviceName, Leaf, Topic, limits::TOPIC_BYTES_MAX};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, HandedOver, Message},
    clock::{self, Now},
    store::{Change, Command, Outbox, StoreError, record::CORRELATION_DATA},
};

/// How often what found no room is tried again.
const TICK: Duration = Duration::from_secs(1);
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
/// A reason code from here on says that the client did not take the message.
const REFUSED: u8 = 0x80;

/// What a device made of a command, on its way to the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
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

/// Gives the devices that are there their commands until `stop`, and notes then what they made of
/// them.
pub async fn run(broker: Broker, outbox: Outbox, stop: CancellationToken) {
    let mut changed = outbox.changed();
    let mut commands = Commands { broker, outbox, answers: Vec::new() };
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            _ = ticks.tick() => {
                commands.settle().await;
                commands.hand_out();
            }
            () = commands.broker.direct_changed() => {
                commands.settle().await;
                if commands.broker.take_arrivals() {
                    commands.hand_out();
                }
            }
            // The sender is in the outbox, which is here.
            _ = changed.changed() => commands.hand_out(),
        }
    }
    commands.settle().await;
}

struct Commands {
    broker: Broker,
    outbox: Outbox,
    /// What is not noted yet.
    answers: Vec<Answer>,
}

impl Commands {
    /// Gives the devices that are there what waits for them.
    fn hand_out(&mut self) {
        let _ = self.broker.take_arrivals();
        if self.outbox.pending_count() == 0 {
            return;
        }
        let now = clock::now();
        for device in self.outbox.waiting_devices() {
            let Some(topic) = topic_of(&device, Leaf::Command) else { continue };
            let Some(session) = self.broker.connected_session(&topic, &device) else { continue };
            for command in self.outbox.pending(&device, now.wall_ms) {
                self.take_answers();
                let is_answered = |answer: &Answer| answer.device == device && answer.id == command.id;
                if self.answers.iter().any(is_answered) {
                    continue;
                }
                let left_ms = self.outbox.left_ms(&command, now.wall_ms);
                let message = || message_of(&command, &topic, left_ms, now);
                if self.broker.hand_over(&session, &topic, &command.id, message) == HandedOver::NoRoom {
                    break;
                }
            }
            session.notify();
        }
    }

    fn take_answers(&mut self) {
        for acknowledged in self.broker.take_acknowledged() {
            if let Ok(Topic { device, .. }) = Topic::parse(&acknowledged.topic) {
                let (device, id) = (device.as_str().to_owned(), acknowledged.command.into());
                self.answers.push(Answer { device, id, reason: acknowledged.reason });
            }
        }
    }

    /// Tells the outbox what devices made of their commands.
    async fn settle(&mut self) {
        self.take_answers();
        if self.answers.is_empty() {
            return;
        }
        let (outbox, answers) = (self.outbox.clone(), self.answers.clone());
        let note = move || -> Result<(), StoreError> {
            let changes: Vec<_> = answers.iter().map(Answer::change).collect();
            outbox.apply(&changes, clock::wall_ms()).map(drop)
        };
        match tokio::task::spawn_blocking(note).await {
            Ok(Ok(()) | Err(StoreError::Closed)) | Err(_) => self.answers.clear(),
            Ok(Err(error)) => {
                tracing::error!("what devices made of commands cannot be noted: {error}; trying on");
            }
        }
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

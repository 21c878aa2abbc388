//! The witness: a subscriber of the cloud that shares no code with the gateway's way out, and
//! counts what arrived by the identity that the device gave it, `(device, boot, seq)`.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rumqttc::v5::{AsyncClient, Event, EventLoop, Incoming, MqttOptions, mqttbytes::QoS};
use tidegate_protocol::{EventId, FrameReader, Leaf, Topic};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cli::Failure;

/// Largest packet that the witness reads, in bytes.
const PACKET_BYTES_MAX: u32 = 1 << 20;
/// How long the cloud may take to accept the subscription.
const SUBSCRIBED_MAX: Duration = Duration::from_secs(10);
/// Pause before it connects again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What arrived.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    by_device: HashMap<String, HashSet<EventId>>,
    /// Distinct events.
    pub events: u64,
    /// Events that had arrived before.
    pub duplicates: u64,
    /// Payloads on a frame topic that are no frame.
    pub unreadable: u64,
}

impl Arrived {
    /// Distinct events of a device.
    pub(super) fn of(&self, device: &str) -> u64 {
        self.by_device.get(device).map_or(0, |events| events.len() as u64)
    }

    /// Takes in a publish.
    pub(super) fn take(&mut self, topic: &str, payload: &[u8]) {
        let Ok(topic) = Topic::parse(topic) else { return };
        if topic.leaf != Leaf::Events {
            return;
        }
        let Ok(mut frame) = FrameReader::new(payload) else {
            self.unreadable += 1;
            return;
        };
        let seen = self.by_device.entry(topic.device.as_str().to_owned()).or_default();
        while let Some(event) = frame.next_event() {
            match event {
                Ok(event) if seen.insert(event.id) => self.events += 1,
                Ok(_) => self.duplicates += 1,
                Err(_) => {
                    self.unreadable += 1;
                    return;
                }
            }
        }
    }
}

/// A running witness. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Witness {
    arrived: Arc<Mutex<Arrived>>,
    _client: AsyncClient,
    _stop: DropGuard,
}

impl Witness {
    /// Subscribes to everything; returns when the cloud has accepted the subscription.
    pub(super) async fn start(cloud: SocketAddr) -> Result<Self, Failure> {
        let failed = |cause: String| {
            Failure::Unavailable(format!("the witness cannot subscribe to the cloud: {cause}"))
        };
        let mut options = MqttOptions::new("witness", cloud.ip().to_string(), cloud.port());
        options.set_max_packet_size(Some(PACKET_BYTES_MAX));
        let (client, events) = AsyncClient::new(options, 10);
        let arrived = Arc::new(Mutex::new(Arrived::default()));
        let (subscribed, accepted) = oneshot::channel();
        let stop = CancellationToken::new();
        client.subscribe("#", QoS::AtLeastOnce).await.map_err(|error| failed(error.to_string()))?;
        tokio::spawn(stop.clone().run_until_cancelled_owned(listen(events, arrived.clone(), subscribed)));
        match tokio::time::timeout(SUBSCRIBED_MAX, accepted).await {
            Ok(Ok(())) => Ok(Self { arrived, _client: client, _stop: stop.drop_guard() }),
            _ => Err(failed("it does not answer".into())),
        }
    }

    /// What arrived until now.
    pub(super) fn look<T>(&self, at: impl FnOnce(&Arrived) -> T) -> T {
        at(&self.arrived.lock())
    }
}

async fn listen(mut events: EventLoop, arrived: Arc<Mutex<Arrived>>, subscribed: oneshot::Sender<()>) {
    let mut subscribed = Some(subscribed);
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::SubAck(_))) => {
                if let Some(subscribed) = subscribed.take() {
                    let _ = subscribed.send(());
                }
            }
            Ok(Event::Incoming(Incoming::Publish(publish))) => {
                if let Ok(topic) = std::str::from_utf8(&publish.topic) {
                    arrived.lock().take(topic, &publish.payload);
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!("the witness connects again: {error}");
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }
}

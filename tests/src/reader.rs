//! A reader at a broker: subscribes to what an uplink sends there, and records it for the oracle.

use std::{net::SocketAddr, sync::Arc};

use parking_lot::Mutex;

use crate::{
    client::Client,
    codec::{self, Ack, Connect, Packet, Version},
    oracle::Recorder,
};

/// Records what a broker gets below `prefix`, which ends in `/`, from here on and until the broker
/// is gone.
///
/// # Panics
/// The broker is not there.
pub async fn record(broker: SocketAddr, prefix: &str) -> Arc<Mutex<Recorder>> {
    let recorder = Arc::new(Mutex::new(Recorder::new(prefix)));
    let connect = Connect { version: Version::V5, client_id: "reader", clean: true, keep_alive_s: 0 };
    let mut client = Client::connect(broker, &connect).await.expect("the broker is there");
    client.subscribe(&format!("{prefix}#")).await;
    let seen = recorder.clone();
    tokio::spawn(async move {
        while let Ok(packet) = client.read_packet().await {
            let Packet::Publish(publish) = packet else { continue };
            seen.lock().record(&publish);
            if publish.qos == 1 {
                codec::put_ack(&mut client.output, Ack::PubAck, publish.packet_id, 0);
            }
            if client.flush().await.is_err() {
                return;
            }
        }
    });
    recorder
}

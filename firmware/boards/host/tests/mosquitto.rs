//! Simulated devices against mosquitto, a broker that is not ours: MQTT 5 as others understand it.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod support;

use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use tidegate_board_host::{DeviceCounters, run_device};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use support::{Record, TIME_MAX, device, get, until};

/// A mosquitto on a free port of this machine, which keeps its sessions when it is stopped.
struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    async fn start(dir: &Path, port: Option<u16>) -> Self {
        let port =
            port.unwrap_or_else(|| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let config = dir.join("mosquitto.conf");
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             persistence true\npersistence_location {}/\nlog_type error\n",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .kill_on_drop(true)
            .spawn()
            .expect("mosquitto is installed: apt-get install mosquitto");
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(TIME_MAX, up).await.expect("mosquitto listens");
        Broker { process, port }
    }

    /// SIGTERM: it writes its sessions down and ends.
    async fn stop(mut self) {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").arg(id).status().await.unwrap().success());
        tokio::time::timeout(TIME_MAX, self.process.wait()).await.expect("mosquitto ends").unwrap();
    }
}

/// Subscribes with a session that lasts, and records what arrives.
async fn record(port: u16) -> Arc<Mutex<Record>> {
    let record = Arc::new(Mutex::new(Record::default()));
    let entered = record.clone();
    let mut options = MqttOptions::new("recorder", "127.0.0.1", port);
    options.set_clean_session(false);
    let (client, mut events) = AsyncClient::new(options, 10);
    client.subscribe("tg/+/e", QoS::AtLeastOnce).await.unwrap();
    let (subscribed, wait) = tokio::sync::oneshot::channel();
    let mut subscribed = Some(subscribed);
    tokio::spawn(async move {
        let _keep = client;
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    entered.lock().unwrap().enter(&publish.topic, &publish.payload);
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    if let Some(subscribed) = subscribed.take() {
                        let _ = subscribed.send(());
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    tokio::time::timeout(TIME_MAX, wait).await.expect("subscribed").unwrap();
    record
}

#[tokio::test]
async fn every_event_arrives_in_order_although_the_broker_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(dir.path(), None).await;
    let port = broker.port;
    let record = record(port).await;

    let names = ["sim-a", "sim-b", "sim-c"];
    let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let mut counters = Vec::new();
    let mut devices = Vec::new();
    for name in names {
        let counter = Arc::new(DeviceCounters::default());
        counters.push(counter.clone());
        devices.push(tokio::spawn(run_device(
            device(name, port),
            counter,
            quiesce.clone(),
            shutdown.clone(),
        )));
    }
    until("the first 100 of each", || counters.iter().all(|c| get(&c.acked_events) >= 100)).await;
    broker.stop().await;
    until("events held back", || counters.iter().all(|c| get(&c.queued_events) >= 60)).await;
    let broker = Broker::start(dir.path(), Some(port)).await;
    until("the next 100 of each", || counters.iter().all(|c| get(&c.acked_events) >= 300)).await;
    quiesce.cancel();
    for device in devices {
        tokio::time::timeout(TIME_MAX, device).await.expect("the device ends").unwrap();
    }

    for (name, counters) in names.iter().zip(&counters) {
        let sampled = get(&counters.sampled_events);
        assert_eq!(get(&counters.acked_events), sampled);
        assert_eq!((get(&counters.lost_events), get(&counters.queued_events)), (0, 0));
        assert!(get(&counters.connects) >= 2, "{name} came back");
        until("all arrived", || record.lock().unwrap().of(name).first.len() as u64 >= sampled).await;
        let record = record.lock().unwrap();
        let expected: Vec<u32> = (0..sampled as u32).collect();
        assert_eq!(record.of(name).first, expected, "{name}: each number once, in order");
    }
    broker.stop().await;
}

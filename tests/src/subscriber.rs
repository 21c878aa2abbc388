//! A subscriber that plays by the standard and connects again by itself: its session is kept, the
//! packet ids of QoS 2 that it has received and not seen released outlive its connections, and
//! every message goes into its book.
//!
//! It can be told to be away: then it drops its connection without a word, and comes back when it
//! is told to.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    client::Client,
    codec::{self, Ack, Connect, Packet, Received, Version},
};

/// Pause between attempts to connect while the gateway is down.
const RECONNECT: Duration = Duration::from_millis(10);
/// Longest wait for CONNACK before the attempt is given up.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What a subscriber has got so far.
#[derive(Debug, Default)]
pub struct Book {
    /// Messages, in the order of their arrival; one of QoS 2 once, however often it was sent under
    /// its packet id.
    pub messages: Vec<Received>,
    /// Connections that it had.
    pub connections: u32,
    /// Connections for which the gateway did not know the session any more, the first one left out.
    pub sessions_lost: u32,
    /// Subscriptions that are granted.
    pub granted: usize,
    /// What broke the protocol.
    pub strange: Vec<String>,
}

/// A running subscriber. Ends with the value.
#[derive(Debug)]
pub struct Subscriber {
    book: Arc<Mutex<Book>>,
    online: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Starts one that subscribes to `filters`, each with a QoS of its own.
    #[must_use]
    pub fn start(gateway: SocketAddr, version: Version, name: &str, filters: &[(&str, u8)]) -> Self {
        let book = Arc::new(Mutex::new(Book::default()));
        let (online, is_online) = watch::channel(true);
        let worker = Worker {
            version,
            name: name.into(),
            filters: filters.iter().map(|(filter, qos)| ((*filter).to_owned(), *qos)).collect(),
            received: HashSet::new(),
            book: book.clone(),
            online: is_online,
        };
        Self { book, online, task: tokio::spawn(worker.run(gateway)) }
    }

    /// What it has got so far.
    pub fn book(&self) -> parking_lot::MutexGuard<'_, Book> {
        self.book.lock()
    }

    /// Goes away, or comes back.
    pub fn set_online(&self, online: bool) {
        self.online.send_replace(online);
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker {
    version: Version,
    name: String,
    filters: Vec<(String, u8)>,
    /// QoS 2: PUBREC is sent and PUBREL not seen.
    received: HashSet<u16>,
    book: Arc<Mutex<Book>>,
    online: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, gateway: SocketAddr) {
        loop {
            if self.online.wait_for(|online| *online).await.is_err() {
                return;
            }
            let (version, client_id) = (self.version, &*self.name.clone());
            let connect = Connect { version, client_id, clean: false, keep_alive_s: 60 };
            let connecting = tokio::time::timeout(CONNECT_LIMIT, Client::connect(gateway, &connect));
            if let Ok(Ok(client)) = connecting.await
                && let Err(error) = self.converse(client).await
                && error.kind() == io::ErrorKind::InvalidData
            {
                self.book.lock().strange.push(error.to_string());
                return;
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// One connection's life.
    async fn converse(&mut self, mut client: Client) -> io::Result<()> {
        {
            let mut book = self.book.lock();
            book.connections += 1;
            if !client.session_present {
                book.sessions_lost += u32::from(book.granted > 0);
                book.granted = 0;
                self.received.clear();
            }
            for at in book.granted..self.filters.len() {
                let (filter, qos) = &self.filters[at];
                codec::put_subscribe(&mut client.output, self.version, at as u16 + 1, filter, *qos);
            }
        }
        loop {
            // Before anything is waited for: some may have come with the CONNACK.
            while let Some(packet) = client.take_packet()? {
                self.hear(packet, &mut client)?;
            }
            client.flush().await?;
            tokio::select! {
                read = client.fill() => read?,
                away = self.online.wait_for(|online| !online) => {
                    drop(away);
                    return Ok(());
                }
            }
        }
    }

    fn hear(&mut self, packet: Packet, client: &mut Client) -> io::Result<()> {
        let mut book = self.book.lock();
        match packet {
            Packet::SubAck { packet_id, codes } if codes == [self.filters[usize::from(packet_id) - 1].1] => {
                book.granted += 1;
            }
            Packet::Publish(publish) => match publish.qos {
                0 => book.messages.push(publish),
                1 => {
                    codec::put_ack(&mut client.output, Ack::PubAck, publish.packet_id, 0);
                    book.messages.push(publish);
                }
                _ => {
                    codec::put_ack(&mut client.output, Ack::PubRec, publish.packet_id, 0);
                    if self.received.insert(publish.packet_id) {
                        book.messages.push(publish);
                    } else if !publish.dup {
                        book.strange.push(format!(
                            "{}: packet id {} used again before its release",
                            self.name, publish.packet_id
                        ));
                    }
                }
            },
            Packet::Ack { ack: Ack::PubRel, packet_id, .. } => {
                self.received.remove(&packet_id);
                codec::put_ack(&mut client.output, Ack::PubComp, packet_id, 0);
            }
            Packet::Disconnect(_) => return Err(io::ErrorKind::ConnectionReset.into()),
            other => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not asked for: {other:?}")));
            }
        }
        Ok(())
    }
}

/// The payload as text.
#[must_use]
pub fn text(payload: &Bytes) -> String {
    String::from_utf8_lossy(payload).into_owned()
}

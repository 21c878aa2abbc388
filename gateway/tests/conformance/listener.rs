//! The listener on a free port with the real store behind it, and clients that are let in.

use std::{path::Path, time::Duration};

use tidegate::{
    ingest::{self, ListenerSettings, Payload, Route, Settings},
    store::{self, Store},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Connect, LIMIT};

/// Nothing but what `s/#` takes goes upstream.
pub const UPLINK: &str = "cloud";
/// The protocol levels of both versions.
pub const BOTH: [u8; 2] = [4, 5];

/// A listener, and the folder of its store.
pub struct Listener {
    pub port: u16,
    pub store: Store,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    /// Dropped last.
    folder: Option<tempfile::TempDir>,
}

impl Listener {
    pub async fn open() -> Self {
        Self::with(Settings::default()).await
    }

    /// With `s/#` stored for upstream, and whatever else `settings` say.
    pub async fn with(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut listener = Self::at(folder.path(), settings).await;
        listener.folder = Some(folder);
        listener
    }

    async fn at(folder: &Path, settings: Settings) -> Self {
        let route =
            Route { filter: "s/#".into(), payload: Payload::Opaque, urgent: false, device_level: None };
        let settings = Settings { routes: vec![route], ..settings };
        let store = Store::open(store_settings(folder), &[UPLINK.into()]).unwrap();
        let bound = ingest::bind(&ListenerSettings::new("127.0.0.1:0".parse().unwrap())).await.unwrap();
        let port = bound.local_addr().port();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(ingest::run(vec![bound], (&store).into(), settings, shutdown.clone()));
        Listener { port, store, shutdown, task, folder: None }
    }

    /// Stops and starts again with what the disk has.
    pub async fn restart(mut self) -> Self {
        self.shutdown.cancel();
        timeout(LIMIT, &mut self.task).await.unwrap().unwrap();
        self.store.crash();
        let mut listener = Self::at(self.folder.as_ref().unwrap().path(), Settings::default()).await;
        listener.folder = self.folder.take();
        listener
    }

    /// A client without a session before or after, keep-alive 60 s.
    pub async fn client(&self, version: u8, id: &str) -> Client {
        self.connect(&Connect::new(version, id)).await
    }

    /// A client whose session is continued and kept for an hour.
    pub async fn resume(&self, version: u8, id: &str) -> Client {
        self.connect(&Connect::new(version, id).kept()).await
    }

    pub async fn connect(&self, connect: &Connect) -> Client {
        let mut client = Client::dial(self.port, connect.version).await;
        client.send(&connect.bytes()).await;
        let connack = client.packet().await;
        assert_eq!((connack.first, connack.body[1]), (0x20, 0), "{connack:02x?}");
        client.session_present = connack.body[0] == 1;
        client.connack = connack.body;
        client
    }

    /// Dials and sends, to be answered with anything.
    pub async fn send(&self, version: u8, bytes: &[u8]) -> Client {
        let mut client = Client::dial(self.port, version).await;
        client.send(bytes).await;
        client
    }

    /// Sends a CONNECT that is refused; gives the code, `None` for a close without one.
    pub async fn refusal(&self, version: u8, bytes: &[u8]) -> Option<u8> {
        let mut client = self.send(version, bytes).await;
        let connack = client.next().await?;
        assert_eq!((connack.first, connack.body[0]), (0x20, 0), "session present is 0: {connack:02x?}");
        assert!(client.next().await.is_none(), "closed after it");
        Some(connack.body[1])
    }

    /// What was acknowledged by now has reached local subscribers, and is retained if it is to be.
    pub async fn settled(&self) {
        let mut client = self.client(5, "settled").await;
        client.subscribe("settled", 0).await;
        // To be retained, so that it goes through the log; and empty, so that nothing is.
        client.retain("settled", 1, "").await;
        client.take().await;
    }

    /// Payloads of the first `wanted` records for upstream.
    pub async fn upstream(&self, wanted: usize) -> Vec<String> {
        let mut reader = self.store.reader(UPLINK).unwrap();
        let mut payloads = vec![];
        while payloads.len() < wanted {
            let position = reader.position();
            let block = timeout(LIMIT, reader.next()).await.unwrap().unwrap();
            let records = block.records_from(position).filter(|(_, record)| !record.local);
            payloads.extend(records.map(|(_, record)| String::from_utf8_lossy(record.payload).into_owned()));
        }
        payloads
    }
}

fn store_settings(folder: &Path) -> store::Settings {
    store::Settings { linger_max: Duration::from_secs(1), ..store::Settings::new(folder) }
}

//! Replies to commands, as the fleet finds them in the log: each is its own command's, however
//! often the log is followed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "the other tests use the rest")]
mod fleet_world;

use std::path::Path;

use fleet_world::{LIMIT, until};
use tidegate::{
    catalog::Catalog,
    clock,
    fleet::{self, Fleet},
    store::{Batch, CommandState, NewCommand, NewId, Record, Settings, Store},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const DEVICE: &str = "barn";

struct Life {
    store: Store,
    fleet: Fleet,
    stop: CancellationToken,
    following: JoinHandle<()>,
}

impl Life {
    /// With this command in the outbox before anything is followed.
    fn open(folder: &Path, command: &str) -> Self {
        let store = Store::open(Settings::new(folder), &[]).unwrap();
        let new = NewCommand {
            device: DEVICE,
            id: NewId::Given(command),
            payload: b"do",
            content_type: None,
            expires_ms: None,
            origin: "test",
        };
        store.outbox().put(&new, clock::wall_ms()).unwrap();
        let (view, catalog) = (store.view(), Catalog::default());
        let fleet = Fleet::open(&view, &catalog, &clock::reading()).unwrap();
        let stop = CancellationToken::new();
        let following = fleet::run(fleet.clone(), catalog, store.outbox(), view, stop.clone());
        Self { store, fleet, stop, following: tokio::spawn(following) }
    }

    /// Stores a reply that does not say to which command it is, as MQTT 3.1.1 has no way to.
    async fn reply(&self, payload: &str) {
        let (intake, mut batch) = (self.store.intake(), Batch::default());
        batch.push(&Record {
            events: 1,
            qos: 1,
            received_ms: clock::wall_ms(),
            client: DEVICE,
            topic: "tg/barn/r",
            payload: payload.as_bytes(),
            ..Record::default()
        });
        let ticket = intake.append(&mut batch).unwrap();
        let mut watermark = intake.watermark();
        let durable = watermark.wait_for(|watermark| watermark.committed > ticket);
        timeout(LIMIT, durable).await.unwrap().unwrap();
    }

    async fn caught_up(&self) {
        let (end, mut position) = (self.store.view().end().offset, self.fleet.position());
        timeout(LIMIT, position.wait_for(|position| *position >= end)).await.unwrap().unwrap();
    }

    fn reply_of(&self, command: &str) -> Option<Vec<u8>> {
        self.store.outbox().get(DEVICE, command).unwrap().reply.as_ref().map(|reply| reply.payload.clone())
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(LIMIT, self.following).await.unwrap().unwrap();
        tokio::task::spawn_blocking(|| self.store.close()).await.unwrap();
    }

    async fn crash(self) {
        tokio::task::spawn_blocking(|| self.store.crash()).await.unwrap();
        self.stop.cancel();
        timeout(LIMIT, self.following).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_is_its_own_commands_though_the_log_is_followed_anew() {
    let folder = tempfile::tempdir().unwrap();
    let life = Life::open(folder.path(), "first");
    life.reply("to the first").await;
    until("the reply to the first", || life.reply_of("first").is_some()).await;
    life.stop().await;

    // Nobody knows any more how far the log was followed, nor to which command the reply was.
    for file in ["fleet.redb", "commands.redb"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    for command in ["second", "third"] {
        let life = Life::open(folder.path(), command);
        life.caught_up().await;
        life.reply(&format!("to the {command}")).await;
        until("its reply", || life.reply_of(command).is_some()).await;
        assert_eq!(life.reply_of(command).unwrap(), format!("to the {command}").as_bytes());
        // Killed before what was followed is saved: the next one follows it again.
        life.crash().await;
    }
    let life = Life::open(folder.path(), "fourth");
    life.caught_up().await;
    life.reply("to the fourth").await;
    until("its reply", || life.reply_of("fourth").is_some()).await;
    let outbox = life.store.outbox();
    assert_eq!(outbox.get(DEVICE, "second").unwrap().state, CommandState::Replied);
    assert_eq!(life.reply_of("second").unwrap(), b"to the second");
    assert_eq!(life.reply_of("third").unwrap(), b"to the third");
    assert_eq!(life.reply_of("fourth").unwrap(), b"to the fourth");
    life.stop().await;
}

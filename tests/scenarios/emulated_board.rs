//! The firmware on an emulated Cortex-M4F board: its events arrive upstream, whatever is killed or
//! cut in between.
//!
//! The oracle reads a frame's head by itself, after `docs/wire-format.md`: not the decoder that the
//! gateway uses.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tidegate_tests::{
    chaos::{Link, Proxy},
    clock::{wait_blocking, wait_for},
    codec::{Received, Version},
    gateway::{Gateway, Setup, Uplink},
    program,
    upstream::{Inbox, Upstream},
};

const LIMIT: Duration = Duration::from_secs(90);
const EVENTS: u32 = 1000;
/// The board's queue holds 16 frames, that is 16 seconds of these: longer than any fault here.
const INTERVAL_MS: u32 = 20;
const BATCH: u32 = 50;

/// A running board. Killed with the value.
struct Board {
    child: Child,
    console: PathBuf,
}

impl Board {
    fn start(firmware: &Path, gateway: SocketAddr, folder: &Path, run: u32) -> Self {
        let console = folder.join(format!("console-{run}"));
        let child = Command::new(program::workspace().join("cross/run-qemu"))
            .arg(firmware)
            .args([format!("port={}", gateway.port()), "device=press-7".into(), format!("count={EVENTS}")])
            .args([format!("interval_ms={INTERVAL_MS}"), format!("batch={BATCH}"), "window=4".into()])
            .arg(format!("bootfile={}", folder.join("boot").display()))
            .env("TIME_MAX_S", LIMIT.as_secs().to_string())
            .stdout(std::fs::File::create(&console).expect("the folder is writable"))
            .spawn()
            .expect("the script can be started");
        Self { child, console }
    }

    fn console(&self) -> String {
        std::fs::read_to_string(&self.console).unwrap_or_default()
    }

    /// Waits for its end and gives what it counted: sampled, acknowledged, lost.
    fn counted(&mut self) -> [u32; 3] {
        let mut ended = None;
        wait_blocking("the board to be done", LIMIT, || {
            ended = self.child.try_wait().expect("it is our child");
            ended.is_some()
        });
        let console = self.console();
        assert!(ended.is_some_and(|status| status.success()), "{console}");
        let line = console.lines().find_map(|line| line.strip_prefix("done ")).expect("it says its counts");
        ["sampled=", "acked=", "lost="].map(|name| {
            let count = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            count.expect("each count is there").parse().expect("it is a number")
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // `timeout` passes SIGTERM on to QEMU; SIGKILL would leave QEMU behind.
        let _ =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _ = self.child.wait();
    }
}

/// Boot, first event and count of a frame.
fn head(frame: &[u8]) -> (u32, u32, u32) {
    assert_eq!(frame[0], 0x11, "version 1, a batch");
    let mut rest = frame[3..].iter();
    let mut varint = || {
        let (mut value, mut shift) = (0_u32, 0);
        loop {
            let byte = *rest.next().expect("the head is whole");
            value |= u32::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    (varint(), varint(), frame[2].into())
}

/// By boot: how many events arrived, counting on from 0 without a gap. Copies must be copies, and
/// no first delivery may overtake another.
fn arrived(messages: &[Received]) -> BTreeMap<u32, u32> {
    let mut frames: BTreeMap<(u32, u32), &Received> = BTreeMap::new();
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.topic == "up/tg/press-7/e") {
        let (boot, first, count) = head(&message.payload);
        if let Some(before) = frames.insert((boot, first), message) {
            assert_eq!(before.payload, message.payload, "one identity, two contents");
            assert_eq!(before.user_property("tidegate-id"), message.user_property("tidegate-id"));
            continue;
        }
        let id = message.user_property("tidegate-id");
        assert_eq!(id, Some(format!("press-7/{boot}/{first}")));
        let expected = next.entry(boot).or_default();
        assert_eq!(first, *expected, "boot {boot}: a gap or out of order");
        *expected += count;
    }
    next
}

fn build() -> PathBuf {
    let folder = program::workspace().join("firmware/boards/qemu");
    let target = "thumbv7em-none-eabihf";
    let status = Command::new(program::workspace().join("cross/build"))
        .current_dir(&folder)
        .args([target, "--release", "--locked"])
        // The board is a workspace of its own, with a target folder of its own.
        .env_remove("CARGO_TARGET_DIR")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the firmware does not build");
    folder.join("target").join(target).join("release/tidegate-board-qemu")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_board_s_events_arrive_though_the_gateway_is_killed_and_both_links_are_cut() {
    let firmware = build();
    let folder = tempfile::tempdir_in(program::scratch()).unwrap();
    let inbox = Arc::new(Mutex::new(Inbox::default()));
    let upstream = Upstream::start(inbox.clone()).await;
    let outer = Proxy::start(upstream.address).await;
    let mut gateway =
        Gateway::start(Setup::new(Uplink::new(&format!("mqtt://{}", outer.address), Version::V5)));
    let inner = Proxy::start(gateway.mqtt).await;
    let count = || inbox.lock().messages.len();

    let mut board = Board::start(&firmware, inner.address, folder.path(), 1);
    wait_for("the first frames", LIMIT, || count() >= 2).await;
    inner.set(Link::Cut);
    wait_for("the board's link to be cut", LIMIT, || inner.cut_connections() == 1).await;
    inner.set(Link::Open);
    let before = count();
    wait_for("frames after the board's link was cut", LIMIT, || count() > before).await;
    outer.set(Link::Cut);
    let stored = gateway.metric("tidegate_stored_events_total");
    wait_for("frames stored while the upstream is away", LIMIT, || {
        gateway.metric("tidegate_stored_events_total") > stored
    })
    .await;
    gateway.kill();
    gateway.restart();
    outer.set(Link::Open);
    let [sampled, acked, lost] = board.counted();
    assert!(sampled >= EVENTS && lost == 0 && acked == sampled, "{}", board.console());
    wait_for("every event of the first boot", LIMIT, || {
        arrived(&inbox.lock().messages).get(&1) >= Some(&sampled)
    })
    .await;

    // Started again it is a new boot, and its counting starts again.
    let mut board = Board::start(&firmware, inner.address, folder.path(), 2);
    let [again, ..] = board.counted();
    wait_for("every event of the second boot", LIMIT, || {
        arrived(&inbox.lock().messages) == BTreeMap::from([(1, sampled), (2, again)])
    })
    .await;
    let devices = inbox
        .lock()
        .messages
        .iter()
        .filter_map(|m| m.user_property("tidegate-device"))
        .all(|d| d == "press-7");
    assert!(devices);
}

//! What devices lost, held against an oracle: to the event, over crashes of the gateway, copies,
//! late frames and frames that vanish.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tidegate::{
    catalog::Catalog,
    clock, config,
    fleet::{self, Fleet},
    http::DeviceSheet,
    store::{AppendError, Batch, Kind, Record, Settings, Store},
    supervisor::Gateway,
};
use tidegate_board_host::{DeviceCounters, DeviceSettings, run_device};
use tidegate_protocol::{
    FrameReader, FrameWriter,
    events::{LOSS_KIND, Loss, LossReason},
    limits::FRAME_BYTES_MAX,
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(120);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A boot of a generated device, and what is true of it.
#[derive(Default)]
struct Truth {
    next_seq: u32,
    came: BTreeSet<u32>,
    told: BTreeSet<u32>,
    late: u64,
    untold: Vec<Loss>,
}

impl Truth {
    /// The next frame: its first number, its events, and what it tells of losses.
    fn next_frame(&mut self, random: &mut Random, boot: u32) -> Vec<u8> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let mut writer = FrameWriter::new(&mut buffer, boot, self.next_seq, 7, false);
        for _ in 0..=random.below(20) {
            let uptime_ms = u64::from(self.next_seq) * 10;
            let loss = if random.one_in(4) { self.untold.pop() } else { None };
            match &loss {
                Some(loss) => writer.push_event(uptime_ms, LOSS_KIND, loss).unwrap(),
                None => writer.push(uptime_ms, 1, &[self.next_seq as u8]).unwrap(),
            };
            self.next_seq += 1;
        }
        writer.finish().to_vec()
    }

    /// The frame came, for the first time or again.
    fn note(&mut self, frame: &[u8]) {
        let mut reader = FrameReader::new(frame).unwrap();
        let highest = self.came.last().copied();
        while let Some(event) = reader.next_event() {
            let event = event.unwrap();
            if self.came.insert(event.id.seq) {
                self.late += u64::from(highest.is_some_and(|highest| event.id.seq < highest));
            }
            if event.kind == LOSS_KIND {
                let loss: Loss = event.decode().unwrap();
                self.told.extend(loss.first_seq..loss.first_seq + loss.count);
            }
        }
    }

    fn figures(&self) -> (u64, u64, u64, u64) {
        let end = self.came.last().map_or(0, |highest| highest + 1);
        let lost = self.told.difference(&self.came).count() as u64;
        (self.came.len() as u64, lost, u64::from(end) - self.came.len() as u64 - lost, self.late)
    }
}

/// A store and whoever follows it, until it is stopped or killed.
struct Life {
    store: Store,
    fleet: Fleet,
    stop: CancellationToken,
    follows: tokio::task::JoinHandle<()>,
}

impl Life {
    fn begin(folder: &Path) -> Self {
        let store = Store::open(Settings::new(folder), &[]).unwrap();
        let (view, catalog) = (store.view(), Catalog::default());
        let fleet = Fleet::open(&view, &catalog, &clock::reading()).unwrap();
        let stop = CancellationToken::new();
        let follows = tokio::spawn(fleet::run(fleet.clone(), catalog, store.outbox(), view, stop.clone()));
        Self { store, fleet, stop, follows }
    }

    async fn append(&self, messages: &[(String, Vec<u8>)]) {
        let (intake, mut batch) = (self.store.intake(), Batch::default());
        for (topic, payload) in messages {
            batch.push(&Record {
                kind: Kind::Frame,
                events: payload[2],
                qos: 1,
                received_ms: clock::wall_ms(),
                client: "c",
                topic,
                payload,
                ..Record::default()
            });
        }
        let tickets = batch.tickets();
        let first = loop {
            match intake.append(&mut batch) {
                Ok(first) => break first,
                Err(AppendError::Full) => intake.room(&batch).await,
                Err(error) => panic!("{error}"),
            }
        };
        let mut watermark = intake.watermark();
        watermark.wait_for(|watermark| watermark.committed >= first + tickets).await.unwrap();
    }

    /// All that is in the log is known.
    async fn settle(&self) {
        let end = self.store.view().end().offset;
        let mut position = self.fleet.position();
        timeout(LIMIT, position.wait_for(|position| *position >= end)).await.unwrap().unwrap();
    }

    async fn end(self, kill: bool) {
        if kill {
            // Nothing that it would do at a stop is done, and nothing more reaches the files.
            self.store.cut_power();
            self.follows.abort();
            tokio::task::spawn_blocking(move || self.store.crash()).await.unwrap();
        } else {
            self.stop.cancel();
            timeout(LIMIT, self.follows).await.unwrap().unwrap();
            tokio::task::spawn_blocking(move || self.store.close()).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_counted_twice_or_left_out_however_often_the_gateway_is_killed() {
    for seed in std::env::var("TEST_SEED").map_or(1..7, |text| text.parse().map(|n: u64| n..n + 1).unwrap()) {
        let folder = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let mut truths = BTreeMap::<(u64, u32), Truth>::new();
        let mut boots = [1_u32; 5];
        let mut held: Vec<(String, Vec<u8>, (u64, u32))> = Vec::new();
        for _ in 0..8 {
            let life = Life::begin(folder.path());
            for _ in 0..random.below(6) {
                let mut messages = Vec::new();
                for _ in 0..random.below(40) {
                    let device = random.below(boots.len() as u64);
                    let topic = format!("tg/d{device}/e");
                    if random.one_in(60) {
                        boots[device as usize] = (boots[device as usize] + 1).min(fleet::BOOTS_MAX as u32);
                    }
                    let boot = boots[device as usize];
                    let key = (device, boot);
                    let truth = truths.entry(key).or_default();
                    let first_seq = truth.next_seq;
                    let frame = truth.next_frame(&mut random, boot);
                    match random.below(12) {
                        // Lost on the device, and told some time later, perhaps.
                        0 => {
                            let count = truth.next_seq - first_seq;
                            // What the frame would have told is told by another.
                            let mut reader = FrameReader::new(&frame).unwrap();
                            while let Some(Ok(event)) = reader.next_event() {
                                if event.kind == LOSS_KIND {
                                    truth.untold.push(event.decode().unwrap());
                                }
                            }
                            if !random.one_in(4) {
                                truth.untold.push(Loss { first_seq, count, reason: LossReason::QueueFull });
                            }
                        }
                        1 => held.push((topic, frame, key)),
                        2 => {
                            truth.note(&frame);
                            messages.extend([(topic.clone(), frame.clone()), (topic, frame)]);
                        }
                        _ => {
                            truth.note(&frame);
                            messages.push((topic, frame));
                        }
                    }
                    if random.one_in(10)
                        && let Some((topic, frame, key)) = held.pop()
                    {
                        truths.get_mut(&key).unwrap().note(&frame);
                        messages.push((topic, frame));
                    }
                }
                if !messages.is_empty() {
                    life.append(&messages).await;
                }
            }
            if random.one_in(2) {
                life.settle().await;
            }
            life.end(!random.one_in(3)).await;
        }
        let life = Life::begin(folder.path());
        life.settle().await;
        for ((device, boot), truth) in truths.iter().filter(|(_, truth)| !truth.came.is_empty()) {
            let sheet = life.fleet.show(&format!("d{device}"), &clock::reading()).unwrap();
            let item = sheet.latest_boots.iter().find(|item| item.boot == *boot).unwrap();
            let said = (item.events, item.lost_events, item.missing_events, item.late_events);
            assert!(item.is_exact);
            assert_eq!(
                said,
                truth.figures(),
                "seed {seed}, device {device}, boot {boot}: events, lost, missing, late"
            );
        }
        let sum = truths
            .values()
            .map(Truth::figures)
            .fold((0, 0, 0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1, sum.2 + of.2, sum.3 + of.3));
        println!("seed {seed}: events, lost, missing, late: {sum:?}");
        assert!(sum.1 > 0 && sum.2 > 0 && sum.3 > 0);
        life.end(false).await;
    }
}

fn configured(folder: &Path, port: u16) -> config::Settings {
    let text = format!(
        "[gateway]\nid = \"a\"\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:{port}\"\n\
         [http]\naddress = \"127.0.0.1:0\"\n"
    );
    config::parse(&text, &folder.join("g.toml"), &|_| None).unwrap()
}

/// The numbers in the store, by device.
async fn stored(folder: &Path) -> BTreeMap<String, BTreeSet<u32>> {
    let store = Store::open(Settings::new(folder.join("data")), &[]).unwrap();
    let view = store.view();
    let mut found = BTreeMap::<String, BTreeSet<u32>>::new();
    let mut follower = view.follow("test", 0);
    while follower.position() < view.end().offset {
        let block = follower.next().await.unwrap();
        for (_, record) in block.records_from(0).filter(|(_, record)| record.kind == Kind::Frame) {
            let head = FrameReader::new(record.payload).unwrap().head();
            let numbers = head.first_seq..head.first_seq + u32::from(head.count);
            found.entry(record.device().to_owned()).or_default().extend(numbers);
        }
    }
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_real_devices_lost_during_an_outage_is_what_is_shown_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(configured(folder.path(), 0)).await.unwrap();
    let port = gateway.snapshot().listeners[0].port();
    let (quiesce, shutdown) = (CancellationToken::new(), CancellationToken::new());
    let mut devices = Vec::new();
    for number in 0..3 {
        let settings = DeviceSettings {
            sample_every_ms: 1,
            batch_events: 20,
            window: 4,
            ..DeviceSettings::new(&format!("sim-{number}"), &format!("127.0.0.1:{port}"), 1)
        };
        let counters = Arc::new(DeviceCounters::default());
        let runs = tokio::spawn(run_device(settings, counters.clone(), quiesce.clone(), shutdown.clone()));
        devices.push((format!("sim-{number}"), counters, runs));
    }
    sleep(Duration::from_secs(1)).await;
    gateway.crash().await;
    // Longer than their queues last.
    let counters = devices.iter().map(|(_, counters, _)| counters.clone()).collect::<Vec<_>>();
    let all_lose = async {
        while counters.iter().any(|counters| counters.lost_events.load(Ordering::Relaxed) < 200) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LIMIT, all_lose).await.unwrap();
    let gateway = Gateway::start(configured(folder.path(), port)).await.unwrap();
    sleep(Duration::from_secs(2)).await;
    quiesce.cancel();
    let mut lost = BTreeMap::new();
    for (name, counters, runs) in devices {
        timeout(LIMIT, runs).await.unwrap().unwrap();
        let [sampled, lost_events] =
            [&counters.sampled_events, &counters.lost_events].map(|count| count.load(Ordering::Relaxed));
        lost.insert(name, (sampled, lost_events));
    }
    let address = gateway.http_address();
    let mut sheets = BTreeMap::new();
    for (name, (sampled, _)) in &lost {
        let url = format!("http://{address}/api/devices/{name}");
        let sheet = async {
            loop {
                let url = url.clone();
                let text = tokio::task::spawn_blocking(move || {
                    ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap()
                });
                let sheet: DeviceSheet = serde_json::from_str(&text.await.unwrap()).unwrap();
                // The last PUBACK may be ahead of who follows the log.
                if sheet.item.events + sheet.item.lost_events >= *sampled {
                    return sheet;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        sheets.insert(name.clone(), timeout(Duration::from_secs(20), sheet).await.unwrap());
    }
    gateway.stop().await;
    let stored = stored(folder.path()).await;
    for (name, (sampled, lost_events)) in lost {
        let (sheet, came) = (&sheets[&name], stored[&name].len() as u64);
        let item = &sheet.item;
        println!(
            "{name}: sampled {sampled}, came {came}, the device says lost {lost_events}, shown {}",
            item.lost_events
        );
        assert_eq!((item.events, item.lost_events, item.missing_events), (came, sampled - came, 0));
        // A frame that was stored when the gateway died, and never acknowledged, is no loss
        // although the device thinks so.
        assert!(item.lost_events > 0 && item.lost_events <= lost_events);
        assert_eq!((item.boots, sheet.latest_boots[0].reset.as_deref()), (1, Some("power-on")));
        assert_eq!(sheet.latest_boots[0].connections, 2);
    }
}

//! Ten thousand devices announce what they are at once, over MQTT, to the real door, store, catalog
//! and fleet: how fast, and in how much memory. Groups of devices run the same firmware; a hundred
//! have kinds of their own.
//!
//! What time it takes depends on the machine and is printed; only what is promised is asserted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod event_types;
#[expect(dead_code, reason = "the other tests use the rest")]
mod fleet_world;

use std::{alloc::System, net::SocketAddr};

use cap::Cap;
use event_types::{encode, varint};
use fleet_world::{House, LIMIT};
use tidegate::{
    catalog::{Definition, Field, KINDS_BYTES_MAX, Node, Scalar},
    clock, ingest,
};
use tidegate_protocol::Birth;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const DEVICES: u32 = 10_000;
/// Devices of one firmware.
const GROUP: u32 = 500;
/// Devices whose kinds nobody else has.
const LONERS: u32 = 100;
const KINDS: u32 = 32;
const CONNECTIONS: u32 = 32;
/// Publishes of a connection that wait for their acknowledgements.
const WINDOW: u32 = 20;
/// What the catalog and the fleet of these devices may take together.
const KNOWN_MAX: usize = 64 << 20;

/// A kind of about a hundred bytes, unlike that of any other number.
fn definition(number: u32) -> Vec<u8> {
    let field = |name: &str, unit: &str, scalar| Field {
        name: name.into(),
        unit: unit.into(),
        scale_exp10: -2,
        node: Node::Scalar(scalar),
    };
    encode(&Definition {
        name: format!("climate-{number}"),
        version: 1,
        body: Node::Struct(vec![
            field("temperature-of-the-air", "Cel", Scalar::I16),
            field("humidity-of-the-air", "%RH", Scalar::U16),
            field("pressure-of-the-air", "Pa", Scalar::U32),
        ]),
    })
}

/// The first of the kinds that a device has beside `loss`.
fn first_kind(device: u32) -> u32 {
    if device < LONERS { 1_000_000 + device * KINDS } else { device / GROUP * KINDS }
}

fn birth(device: u32) -> Vec<u8> {
    let first = first_kind(device);
    event_types::birth((first..first + KINDS - 1).map(definition))
}

fn name(device: u32) -> String {
    format!("a-device-with-a-name-{device:05}")
}

/// A retained publish at QoS 1, in MQTT 3.1.1.
fn publish(device: u32, id: u16, out: &mut Vec<u8>) {
    let (topic, payload) = (format!("tg/{}/b", name(device)), birth(device));
    out.push(0x33);
    varint((2 + topic.len() + 2 + payload.len()) as u64, out);
    out.extend((topic.len() as u16).to_be_bytes());
    out.extend(topic.as_bytes());
    out.extend(id.to_be_bytes());
    out.extend(payload);
}

/// Sends the births of every so many devices, and waits for all acknowledgements.
async fn send(address: SocketAddr, connection: u32) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let id = format!("c{connection:03}");
    let mut connect = vec![0x10, 16, 0, 4];
    connect.extend(b"MQTT\x04\x02\x00\x3c\x00\x04");
    connect.extend(id.as_bytes());
    stream.write_all(&connect).await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0]);
    let devices: Vec<u32> = (connection..DEVICES).step_by(CONNECTIONS as usize).collect();
    for window in devices.chunks(WINDOW as usize) {
        let mut packets = Vec::new();
        for (id, device) in (1..).zip(window) {
            publish(*device, id, &mut packets);
        }
        stream.write_all(&packets).await.unwrap();
        for _ in window {
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[..2], [0x40, 2]);
        }
    }
}

/// Memory of this process that is in use, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_births_at_once_are_all_known_and_what_is_known_fits_into_64_mb() {
    let folder = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let house = House::open(folder.path(), any, ingest::Settings::default()).await;
    let (resident, began) = (resident_kib(), clock::monotonic());
    let sending: Vec<_> = (0..CONNECTIONS).map(|number| tokio::spawn(send(house.address, number))).collect();
    for sent in sending {
        timeout(LIMIT, sent).await.expect("all is acknowledged").unwrap();
    }
    let acknowledged = began.elapsed();
    house.caught_up().await;
    let known = began.elapsed();
    println!(
        "{DEVICES} births of {} bytes: acknowledged in {acknowledged:.2?} ({:.0} a second), all known in {known:.2?}; \
         the process grew by {} KiB to {} KiB",
        birth(DEVICES - 1).len(),
        f64::from(DEVICES) / acknowledged.as_secs_f64(),
        resident_kib().saturating_sub(resident),
        resident_kib()
    );
    let items = house.fleet.list(&clock::reading()).items;
    assert_eq!(items.len(), DEVICES as usize);
    let kinds = (DEVICES / GROUP + LONERS) * (KINDS - 1) + 1;
    assert_eq!(house.catalog.list().len(), kinds as usize);
    for device in 0..DEVICES {
        let bytes = birth(device);
        let schema_set = Birth::parse(&bytes).unwrap().kinds.schema_set();
        let set = house.catalog.kinds(&name(device), schema_set);
        assert_eq!(set.map(|set| set.all().len()), Some(KINDS as usize), "{}", name(device));
    }
    // What they hold is what is given back when the last that knows them lets go.
    let (fleet, catalog, kinds_bytes) =
        (house.fleet.clone(), house.catalog.clone(), house.catalog.kinds_bytes());
    house.stop().await;
    let held = MEMORY.allocated();
    drop(catalog);
    let of_catalog = held - MEMORY.allocated();
    drop(fleet);
    let of_both = held - MEMORY.allocated();
    println!(
        "catalog {} KiB, of them {} KiB counted of kinds; fleet {} KiB",
        of_catalog >> 10,
        kinds_bytes >> 10,
        (of_both - of_catalog) >> 10
    );
    assert!(of_catalog > kinds_bytes / 2 && of_both < KNOWN_MAX, "{of_both} bytes");
    assert!(kinds_bytes <= KINDS_BYTES_MAX);
    // And for good.
    let house = House::open(folder.path(), any, ingest::Settings::default()).await;
    assert_eq!(house.fleet.list(&clock::reading()).items, items);
    assert_eq!(house.catalog.list().len(), kinds as usize);
    house.stop().await;
}

//! What it costs to say what events mean: the same backlog of our devices' frames leaves as it
//! came, as JSON and as CloudEvents.
//!
//! The upstream is away while [`DEVICES`] devices, each back after a long outage of its own,
//! deliver what they kept: a birth, and then frames of [`FRAME_EVENTS`] readings. Then the upstream
//! comes. `raw` sends a message for each frame and looks at nothing, the others one for each event,
//! decoded and with its time; so the first row is what the others pay for.

use std::{
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use bytes::BytesMut;
use tidegate_protocol::{
    Birth, FrameWriter, Kinds, ResetReason,
    events::{Climate, EventType, Loss},
    limits::{BIRTH_BYTES_MAX, FRAME_BYTES_MAX},
};
use tidegate_tests::{
    clock::{now, wait_blocking},
    codec::{self, Connect, Publish, Version},
    gateway::{Gateway, Setup, Uplink},
    load::Sink,
    meter, ports,
};

use super::{DRAIN_LIMIT, contestants::UPLINK_WINDOW, drained, micros};

const DEVICES: u64 = 20;
const FRAME_EVENTS: u64 = 20;
/// Frames of a device in flight.
const WINDOW: u64 = 100;
/// Uptime between two readings of a device, in milliseconds.
const READING_MS: u64 = 1_000;
/// Bytes of an answer: CONNACK, and PUBACK.
const ANSWER_BYTES: usize = 4;
const KINDS: Kinds<'static> = Kinds::new(&[Loss::KIND, Climate::KIND]);
const CLIMATE: u8 = 1;

/// Prints the table, for a backlog of about `events`. `false` says that something was lost.
pub fn described(events: u64) -> Result<bool, Box<dyn Error>> {
    let frames = (events / (DEVICES * FRAME_EVENTS)).next_multiple_of(WINDOW);
    let events = DEVICES * frames * FRAME_EVENTS;
    println!("### Described events: a backlog of {events} readings in frames of {FRAME_EVENTS}\n");
    println!(
        "| format | messages | in meanwhile, k events/s | drain, k events/s | CPU per event, µs | memory, MiB | lost |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut lost = 0;
    for format in ["raw", "json", "cloudevents"] {
        let messages = DEVICES + if format == "raw" { DEVICES * frames } else { events };
        let upstream = ports::free_address();
        let uplink = Uplink {
            window: UPLINK_WINDOW,
            format: format.to_owned(),
            ..Uplink::new(&format!("mqtt://{upstream}"), Version::V311)
        };
        let gateway = Gateway::start(Setup::new(uplink));
        let begun = now();
        deliver(gateway.mqtt, frames)?;
        let rate_in = events as f64 / begun.elapsed().as_secs_f64() / 1000.0;
        let before = meter::usage(gateway.pid());
        let sink = Sink::start(upstream);
        wait_blocking("the first message", DRAIN_LIMIT, || sink.delivered() > 0);
        let missing = drained(&sink, messages);
        let after = meter::usage(gateway.pid());
        println!(
            "| `{format}` | {messages} | {rate_in:.0} | {:.0} | {:.2} | {} | {missing} |",
            events as f64 / sink.span().as_secs_f64() / 1000.0,
            micros(before, after, events),
            after.resident_peak_bytes >> 20,
        );
        lost += missing;
    }
    println!();
    Ok(lost == 0)
}

/// All devices at once, until everything is acknowledged.
fn deliver(gateway: SocketAddr, frames: u64) -> io::Result<()> {
    std::thread::scope(|scope| {
        let devices: Vec<_> =
            (0..DEVICES).map(|number| scope.spawn(move || device(gateway, number, frames))).collect();
        devices.into_iter().try_for_each(|device| device.join().expect("the load does not panic"))
    })
}

fn device(gateway: SocketAddr, number: u64, frames: u64) -> io::Result<()> {
    let name = format!("m{number:04}");
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_nodelay(true)?;
    let mut out = BytesMut::new();
    let connect = Connect { version: Version::V311, client_id: &name, clean: true, keep_alive_s: 600 };
    codec::put_connect(&mut out, &connect);
    put(&mut out, &format!("tg/{name}/b"), 1, &birth(frames)?);
    answered(&mut stream, &mut out, 2)?;
    let topic = format!("tg/{name}/e");
    for window in 0..frames / WINDOW {
        for at in 0..WINDOW {
            put(&mut out, &topic, at as u16 + 1, &frame(window * WINDOW + at)?);
        }
        answered(&mut stream, &mut out, WINDOW as usize)?;
    }
    Ok(())
}

/// Of a device that has taken all its readings by now.
fn birth(frames: u64) -> io::Result<Vec<u8>> {
    let birth = Birth {
        boot: 1,
        connection: 1,
        uptime_ms: frames * FRAME_EVENTS * READING_MS,
        wall_ms: None,
        reset: ResetReason::PowerOn,
        firmware: "bench",
        version: "1.0.0",
        build: "1",
        kinds: KINDS,
    };
    let mut buffer = [0; BIRTH_BYTES_MAX];
    birth.write(&mut buffer).map(<[u8]>::to_vec).map_err(io::Error::other)
}

fn frame(number: u64) -> io::Result<Vec<u8>> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    let first = number * FRAME_EVENTS;
    let mut writer = FrameWriter::new(&mut buffer, 1, first as u32, KINDS.schema_set(), false);
    for reading in first..first + FRAME_EVENTS {
        let climate = Climate {
            temperature: 2_345 - (reading * 37 % 4_000) as i16,
            humidity: 4_520 + (reading * 13 % 3_000) as u16,
            pressure: 101_325 - (reading * 7 % 900) as u32,
        };
        writer.push_event(reading * READING_MS, CLIMATE, &climate).map_err(io::Error::other)?;
    }
    Ok(writer.finish().to_vec())
}

fn put(out: &mut BytesMut, topic: &str, packet_id: u16, payload: &[u8]) {
    let publish = Publish { topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] };
    codec::put_publish(out, Version::V311, &publish);
}

/// Sends what was gathered, and waits for so many answers.
fn answered(stream: &mut TcpStream, out: &mut BytesMut, answers: usize) -> io::Result<()> {
    stream.write_all(out)?;
    out.clear();
    stream.read_exact(&mut vec![0; ANSWER_BYTES * answers])
}

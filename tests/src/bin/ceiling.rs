//! The ceiling: how fast a durable gateway on redb could be if it did nothing else.
//!
//! ```text
//! door ──▶ buffer ──commit thread: one row, one sync──▶ watermark ──▶ PUBACK
//!                                      └──▶ uplink, with a window
//! ```
//! A door, group commit, PUBACK from the watermark, and an uplink, for MQTT 3.1.1 with QoS 1 and
//! nothing else: no validation, no reconnect, no restart. It stands in the table of the benchmarks
//! so that the gateway's figures can be compared with what the machine and the design allow. It is
//! no product, and any unexpected input ends it.
//!
//! `ceiling LISTEN UPSTREAM FILE`

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::{Condvar, Mutex};
use redb::{Database, TableDefinition};
use tidegate_tests::codec::{self, Connect, Publish, Version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{Notify, mpsc, watch},
};

const ROWS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("rows");
/// Publishes to the upstream without an acknowledgement, at most.
const WINDOW: u64 = 10_000;
const WRITE_BYTES: usize = 60 << 10;
const READ_BYTES: usize = 16 << 10;

/// What the connections have read and no commit has taken yet. An event in it is the body of its
/// PUBLISH behind its length: bytes are written once, and read by the uplink as they are.
#[derive(Default)]
struct Intake {
    buffer: Mutex<(Vec<u8>, u64)>,
    filled: Condvar,
}

type Row = Arc<Vec<u8>>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [listen, upstream, file] = &arguments[..] else { return Err("ceiling LISTEN UPSTREAM FILE".into()) };
    let (listen, upstream): (SocketAddr, SocketAddr) = (listen.parse()?, upstream.parse()?);
    let database = Database::create(file)?;
    let intake = Arc::new(Intake::default());
    let (committed_in, committed) = watch::channel(0);
    let (rows_in, rows) = mpsc::unbounded_channel();
    let for_commits = intake.clone();
    std::thread::spawn(move || commit(&database, &for_commits, &committed_in, &rows_in));
    tokio::spawn(async move { forward(upstream, rows).await.expect("the upstream of a benchmark stays") });
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        let pending = Arc::new(Mutex::new(VecDeque::new()));
        let (answers_in, answers) = mpsc::unbounded_channel();
        tokio::spawn(acknowledge(writer, answers, committed.clone(), pending.clone()));
        tokio::spawn(take_in(reader, answers_in, intake.clone(), pending));
    }
}

/// The commit thread: whatever came while the last sync ran becomes one row.
fn commit(
    database: &Database,
    intake: &Intake,
    committed: &watch::Sender<u64>,
    rows: &mpsc::UnboundedSender<Row>,
) {
    let mut first = 0_u64;
    loop {
        let (row, end) = {
            let mut buffer = intake.buffer.lock();
            while buffer.0.is_empty() {
                intake.filled.wait(&mut buffer);
            }
            (std::mem::take(&mut buffer.0), buffer.1)
        };
        write_row(database, first, &row).expect("the disk of a benchmark holds");
        first = end;
        committed.send_replace(end);
        let _ = rows.send(Arc::new(row));
    }
}

fn write_row(database: &Database, first: u64, row: &[u8]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ROWS)?.insert(first, row)?;
    Ok(transaction.commit()?)
}

/// Event number behind it, and its packet id: acknowledged once the watermark has reached the
/// number.
type Pending = Arc<Mutex<VecDeque<(u64, u16)>>>;

/// The reading half of a connection: one lock for all that one read held.
async fn take_in(
    mut reader: OwnedReadHalf,
    answers: mpsc::UnboundedSender<&'static [u8]>,
    intake: Arc<Intake>,
    pending: Pending,
) {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    while matches!(reader.read_buf(&mut input).await, Ok(1..)) {
        let mut events = vec![];
        while let Some((first, body, end)) = codec::frame(&input) {
            let packet = input.split_to(end);
            match first >> 4 {
                1 => drop(answers.send(&[0x20, 2, 0, 0])),
                3 => events.push(packet.freeze().slice(body..)),
                12 => drop(answers.send(&[0xD0, 0])),
                _ => {}
            }
        }
        if events.is_empty() {
            continue;
        }
        let mut buffer = intake.buffer.lock();
        let mut pending = pending.lock();
        for event in events {
            let id = 2 + usize::from(u16::from_be_bytes([event[0], event[1]]));
            buffer.0.put_u32(event.len() as u32);
            buffer.0.put_slice(&event);
            buffer.1 += 1;
            pending.push_back((buffer.1, u16::from_be_bytes([event[id], event[id + 1]])));
        }
        drop(buffer);
        intake.filled.notify_one();
    }
}

/// The writing half: answers at once, and each PUBACK when its event is committed.
async fn acknowledge(
    mut writer: OwnedWriteHalf,
    mut answers: mpsc::UnboundedReceiver<&'static [u8]>,
    mut committed: watch::Receiver<u64>,
    pending: Pending,
) {
    let mut output = BytesMut::new();
    loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(answer) => output.put_slice(answer),
                None => return,
            },
            changed = committed.changed() => {
                if changed.is_err() {
                    return;
                }
                let end = *committed.borrow_and_update();
                let mut pending = pending.lock();
                let due = pending.partition_point(|(number, _)| *number <= end);
                for (_, packet_id) in pending.drain(..due) {
                    codec::put_ack(&mut output, codec::Ack::PubAck, packet_id, 0);
                }
            }
        }
        if writer.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

/// The uplink: committed rows, event by event, within the window.
async fn forward(upstream: SocketAddr, mut rows: mpsc::UnboundedReceiver<Row>) -> io::Result<()> {
    let mut stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let mut output = BytesMut::with_capacity(2 * WRITE_BYTES);
    let connect = Connect { version: Version::V311, client_id: "ceiling", clean: true, keep_alive_s: 0 };
    codec::put_connect(&mut output, &connect);
    stream.write_all_buf(&mut output).await?;
    stream.read_exact(&mut [0; 4]).await?;
    let (reader, mut writer) = stream.into_split();
    let acked = Arc::new((AtomicU64::new(0), Notify::new()));
    tokio::spawn(count_acks(reader, acked.clone()));
    let (mut sent, mut packet_id) = (0, 0_u16);
    while let Some(row) = rows.recv().await {
        let mut rest = &row[..];
        while rest.has_remaining() {
            let size = rest.get_u32() as usize;
            let (event, behind) = rest.split_at(size);
            rest = behind;
            while sent - acked.0.load(Ordering::Relaxed) >= WINDOW {
                writer.write_all_buf(&mut output).await?;
                acked.1.notified().await;
            }
            let id = 2 + usize::from(u16::from_be_bytes([event[0], event[1]]));
            packet_id = packet_id.checked_add(1).unwrap_or(1);
            let topic = std::str::from_utf8(&event[2..id]).map_err(io::Error::other)?;
            let payload = &event[id + 2..];
            let publish = Publish { topic, payload, qos: 1, packet_id, dup: false, user_properties: &[] };
            codec::put_publish(&mut output, Version::V311, &publish);
            sent += 1;
            if output.len() > WRITE_BYTES {
                writer.write_all_buf(&mut output).await?;
            }
        }
        writer.write_all_buf(&mut output).await?;
    }
    Ok(())
}

async fn count_acks(mut reader: OwnedReadHalf, acked: Arc<(AtomicU64, Notify)>) {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    while matches!(reader.read_buf(&mut input).await, Ok(1..)) {
        let mut count = 0;
        while let Some((_, _, end)) = codec::frame(&input) {
            input.advance(end);
            count += 1;
        }
        acked.0.fetch_add(count, Ordering::Relaxed);
        acked.1.notify_one();
    }
}

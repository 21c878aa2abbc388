//! A scripted broker on loopback: it answers each PUBLISH as the test says. Its decoder is its own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    task::JoinHandle,
};

/// CONNACK that accepts, without properties.
pub const ACCEPTED_V311: &[u8] = &[0x20, 2, 0, 0];
pub const ACCEPTED_V5: &[u8] = &[0x20, 3, 0, 0, 0];

/// What came from the uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    Connect { version: u8 },
    Publish(Arrival),
    Ping,
    Disconnect,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    pub id: u16,
    pub head: u8,
    pub topic: String,
    pub properties: Vec<u8>,
    pub payload: Vec<u8>,
}

/// What to do about a packet.
#[derive(Debug, Clone)]
pub enum Reply {
    /// PUBACK or PINGRESP.
    Ack,
    /// PUBACK after some time, in which nothing else is read.
    AckAfter(Duration),
    /// PUBACK after some time, in which everything else is answered.
    AckMeanwhile(Duration),
    /// PUBACK of MQTT 5 with a reason.
    Refuse(u8),
    /// Nothing.
    Silence,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Close the connection.
    Close,
}

/// Everything that came, with the number of its connection.
pub type Journal = Arc<Mutex<Vec<(usize, Came)>>>;

pub struct Broker {
    pub port: u16,
    pub journal: Journal,
    task: JoinHandle<()>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Broker {
    /// Answers CONNECT with `connack` and everything else as `script` says for the connection's
    /// number, from 0, and the packet.
    pub async fn start(connack: &[u8], script: impl FnMut(usize, &Came) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let journal = Journal::default();
        let (kept, connack) = (journal.clone(), connack.to_vec());
        let task = tokio::spawn(async move {
            let mut script = script;
            for connection in 0.. {
                let (socket, _) = listener.accept().await.unwrap();
                // One at a time: an uplink has one connection.
                let note = |came: Came| kept.lock().unwrap().push((connection, came));
                let _ = serve(socket, &connack, connection, &mut script, note).await;
                kept.lock().unwrap().push((connection, Came::Closed));
            }
        });
        Self { port, journal, task }
    }

    pub fn came(&self) -> Vec<(usize, Came)> {
        self.journal.lock().unwrap().clone()
    }

    /// All publishes with the number of their connection.
    pub fn arrivals(&self) -> Vec<(usize, Arrival)> {
        let publish = |(connection, came)| match came {
            Came::Publish(arrival) => Some((connection, arrival)),
            _ => None,
        };
        self.came().into_iter().filter_map(publish).collect()
    }

    /// Payloads in the order of their first arrival.
    pub fn first_arrivals(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        let payloads = self.arrivals().into_iter().map(|(_, arrival)| arrival.payload);
        payloads.filter(|p| seen.insert(p.clone())).map(|p| String::from_utf8(p).unwrap()).collect()
    }

    pub fn connections(&self) -> usize {
        self.came().iter().filter(|(_, came)| matches!(came, Came::Connect { .. })).count()
    }
}

async fn serve(
    socket: TcpStream,
    connack: &[u8],
    connection: usize,
    script: &mut (impl FnMut(usize, &Came) -> Reply + Send),
    note: impl Fn(Came),
) -> std::io::Result<()> {
    // Or a close right after would take acknowledgements with it that were said to be sent.
    socket.set_nodelay(true)?;
    let (mut socket, answers) = socket.into_split();
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    let mut version = 4;
    loop {
        let head = socket.read_u8().await?;
        let mut body = vec![0; read_length(&mut socket).await?];
        socket.read_exact(&mut body).await?;
        let came = match head >> 4 {
            1 => Came::Connect { version: body[6] },
            3 => Came::Publish(read_publish(head, &body, version)),
            12 => Came::Ping,
            14 => Came::Disconnect,
            other => panic!("an uplink does not send packets of type {other}"),
        };
        let reply = match came {
            Came::Connect { version: asked } => {
                version = asked;
                Reply::Bytes(connack.to_vec())
            }
            Came::Disconnect => Reply::Close,
            _ => script(connection, &came),
        };
        let id = if let Came::Publish(arrival) = &came { arrival.id.to_be_bytes() } else { [0; 2] };
        let ping = came == Came::Ping;
        note(came);
        if let Reply::AckAfter(delay) = reply {
            tokio::time::sleep(delay).await;
        }
        match reply {
            Reply::Ack if ping => answers.lock().await.write_all(&[0xD0, 0]).await?,
            Reply::Ack | Reply::AckAfter(_) => {
                answers.lock().await.write_all(&[0x40, 2, id[0], id[1]]).await?
            }
            Reply::AckMeanwhile(delay) => {
                let answers = answers.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = answers.lock().await.write_all(&[0x40, 2, id[0], id[1]]).await;
                });
            }
            Reply::Refuse(reason) => answers.lock().await.write_all(&[0x40, 3, id[0], id[1], reason]).await?,
            Reply::Silence => {}
            Reply::Bytes(bytes) => answers.lock().await.write_all(&bytes).await?,
            Reply::Close => return Ok(()),
        }
    }
}

async fn read_length(socket: &mut OwnedReadHalf) -> std::io::Result<usize> {
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = socket.read_u8().await?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 {
            return Ok(length);
        }
    }
}

fn read_publish(head: u8, body: &[u8], version: u8) -> Arrival {
    let (length, rest) = body.split_at(2);
    let (topic, rest) = rest.split_at(u16::from_be_bytes([length[0], length[1]]).into());
    let (id, mut rest) = rest.split_at(2);
    let mut properties = &rest[..0];
    if version == 5 {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = rest[0];
            rest = &rest[1..];
            length |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        (properties, rest) = rest.split_at(length);
    }
    Arrival {
        id: u16::from_be_bytes([id[0], id[1]]),
        head,
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        properties: properties.to_vec(),
        payload: rest.to_vec(),
    }
}

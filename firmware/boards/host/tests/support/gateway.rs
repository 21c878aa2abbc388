//! A gateway that does what a test says: the few packets of MQTT 5 that a device and it exchange, written out by hand so
//! that nothing here shares code with what is tested.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::TIME_MAX;

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PINGREQ: u8 = 0xc0;
const DISCONNECT: u8 = 0xe0;

/// CONNACK: at most two publishes unacknowledged ([MQTT-3.2.2.3.3]).
pub const RECEIVE_MAX_2: [u8; 3] = [0x21, 0, 2];
/// CONNACK: no packet longer than 64 bytes ([MQTT-3.2.2.3.6]).
pub const PACKET_BYTES_MAX_64: [u8; 5] = [0x27, 0, 0, 0, 64];

/// Listens on this machine.
pub struct Gateway {
    listener: TcpListener,
    pub port: u16,
}

/// One device's connection.
pub struct Peer {
    stream: TcpStream,
    /// The flag of its CONNECT.
    pub clean_start: bool,
}

/// A PUBLISH at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub id: u16,
    pub dup: bool,
    pub topic: String,
    pub payload: Vec<u8>,
}

impl Gateway {
    /// On this port, or on a free one for 0.
    pub async fn listen(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Gateway { listener, port }
    }

    /// Takes the next connection; CONNACK with these properties, as they are on the wire.
    pub async fn accept(&self, session_present: bool, properties: &[u8]) -> Peer {
        let (stream, _) = timeout(TIME_MAX, self.listener.accept()).await.expect("a device dials").unwrap();
        let mut peer = Peer { stream, clean_start: false };
        let (head, body) = peer.packet().await.expect("a CONNECT");
        assert_eq!(head, CONNECT);
        assert_eq!(body[..7], *b"\0\x04MQTT\x05");
        peer.clean_start = body[7] & 2 != 0;
        let mut connack =
            vec![0x20, 3 + properties.len() as u8, u8::from(session_present), 0, properties.len() as u8];
        connack.extend(properties);
        peer.stream.write_all(&connack).await.unwrap();
        peer
    }
}

impl Peer {
    /// The next PUBLISH; `None` when the device has ended the connection. Pings are answered.
    pub async fn publish(&mut self) -> Option<Publish> {
        loop {
            let (head, body) = self.packet().await?;
            match head & 0xf0 {
                PUBLISH => return Some(parse(head, &body)),
                PINGREQ => self.stream.write_all(&[0xd0, 0]).await.unwrap(),
                DISCONNECT => return None,
                other => panic!("packet {other:#04x}"),
            }
        }
    }

    /// PUBACK.
    pub async fn ack(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        // A device that has gone meanwhile is a case of its own.
        let _ = self.stream.write_all(&[0x40, 2, high, low]).await;
    }

    /// PUBACK with a reason code.
    pub async fn refuse(&mut self, id: u16, reason: u8) {
        let [high, low] = id.to_be_bytes();
        self.stream.write_all(&[0x40, 3, high, low, reason]).await.unwrap();
    }

    /// Whether nothing waits to be read.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0];
        matches!(self.stream.try_read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let packet = async {
            let head = self.stream.read_u8().await.ok()?;
            let mut length = 0;
            for shift in [0, 7, 14, 21] {
                let byte = self.stream.read_u8().await.ok()?;
                length |= usize::from(byte & 0x7f) << shift;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((head, body))
        };
        timeout(TIME_MAX, packet).await.expect("a packet")
    }
}

fn parse(head: u8, body: &[u8]) -> Publish {
    assert_eq!(head & 0b110, 0b010, "QoS 1");
    let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, rest) = body[2..].split_at(topic_bytes);
    assert_eq!(rest[2], 0, "no properties");
    Publish {
        id: u16::from_be_bytes([rest[0], rest[1]]),
        dup: head & 0x08 != 0,
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        payload: rest[3..].to_vec(),
    }
}

//! A gateway that does what a test says: the few packets of MQTT 5 that a device and it exchange,
//! written out by hand so that nothing here shares code with what is tested.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::TIME_MAX;

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const SUBSCRIBE: u8 = 0x82;
const PUBACK: u8 = 0x40;
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
    /// The payload of its last will.
    pub will: Vec<u8>,
    /// What it subscribed to, and the highest QoS that it takes.
    pub subscriptions: Vec<(String, u8)>,
    /// Identifiers of commands that it acknowledged.
    pub acked: Vec<u16>,
}

/// A PUBLISH at QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    pub id: u16,
    pub dup: bool,
    pub retain: bool,
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
        let (will, subscriptions, acked) = (Vec::new(), Vec::new(), Vec::new());
        let mut peer = Peer { stream, clean_start: false, will, subscriptions, acked };
        let (head, body) = peer.packet().await.expect("a CONNECT");
        assert_eq!(head, CONNECT);
        assert_eq!(body[..7], *b"\0\x04MQTT\x05");
        peer.clean_start = body[7] & 2 != 0;
        assert_eq!(body[7] & 0b0011_1100, 0b0000_1100, "a will at QoS 1, not retained");
        peer.will = will_of(&body);
        let mut connack =
            vec![0x20, 3 + properties.len() as u8, u8::from(session_present), 0, properties.len() as u8];
        connack.extend(properties);
        peer.stream.write_all(&connack).await.unwrap();
        peer
    }
}

impl Peer {
    /// The next frame; `None` when the device has ended the connection. What the device says of
    /// itself is acknowledged.
    pub async fn publish(&mut self) -> Option<Publish> {
        loop {
            let publish = self.any_publish().await?;
            if publish.topic.ends_with("/e") {
                return Some(publish);
            }
            self.ack(publish.id).await;
        }
    }

    /// The next PUBLISH of any topic. Pings and subscriptions are answered.
    pub async fn any_publish(&mut self) -> Option<Publish> {
        loop {
            let (head, body) = self.packet().await?;
            match head & 0xf0 {
                PUBLISH => return Some(parse(head, &body)),
                PINGREQ => self.stream.write_all(&[0xd0, 0]).await.unwrap(),
                PUBACK => self.acked.push(u16::from_be_bytes([body[0], body[1]])),
                _ if head == SUBSCRIBE => self.suback(&body).await,
                DISCONNECT => return None,
                other => panic!("packet {other:#04x}"),
            }
        }
    }

    /// Sends a command at QoS 1, with a correlation as the gateway does.
    pub async fn command(&mut self, id: u16, topic: &str, payload: &[u8]) {
        let properties = [&[9, 0, 4][..], b"id-1"].concat();
        let mut body = (topic.len() as u16).to_be_bytes().to_vec();
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        body.push(properties.len() as u8);
        body.extend(&properties);
        body.extend(payload);
        assert!(body.len() < 128, "a length of one byte");
        self.stream.write_all(&[&[0x32, body.len() as u8], body.as_slice()].concat()).await.unwrap();
    }

    async fn suback(&mut self, body: &[u8]) {
        assert_eq!(body[2], 0, "no properties");
        let topic_bytes = usize::from(u16::from_be_bytes([body[3], body[4]]));
        let topic = String::from_utf8(body[5..5 + topic_bytes].to_vec()).unwrap();
        self.subscriptions.push((topic, body[5 + topic_bytes] & 3));
        self.stream.write_all(&[0x90, 4, body[0], body[1], 0, 1]).await.unwrap();
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

/// The payload of the will in a CONNECT's body.
fn will_of(body: &[u8]) -> Vec<u8> {
    // Behind the protocol's name, version, flags and keep-alive: properties and client identifier
    // with their lengths.
    let mut at = 10 + 1 + usize::from(body[10]);
    let counted = |at: &mut usize| {
        let bytes = usize::from(u16::from_be_bytes([body[*at], body[*at + 1]]));
        *at += 2 + bytes;
        body[*at - bytes..*at].to_vec()
    };
    counted(&mut at);
    assert_eq!(body[at], 0, "no properties of the will");
    at += 1;
    let topic = counted(&mut at);
    assert!(topic.ends_with(b"/s"));
    counted(&mut at)
}

fn parse(head: u8, body: &[u8]) -> Publish {
    assert_eq!(head & 0b110, 0b010, "QoS 1");
    let topic_bytes = usize::from(u16::from_be_bytes([body[0], body[1]]));
    let (topic, rest) = body[2..].split_at(topic_bytes);
    assert_eq!(rest[2], 0, "no properties");
    Publish {
        id: u16::from_be_bytes([rest[0], rest[1]]),
        dup: head & 0x08 != 0,
        retain: head & 0x01 != 0,
        topic: String::from_utf8(topic.to_vec()).unwrap(),
        payload: rest[3..].to_vec(),
    }
}

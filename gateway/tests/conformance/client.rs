//! A client of a few bytes by hand, for both versions: nothing of the gateway's own code judges it.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Time in which everything that is waited for has to come.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A packet as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

/// A PUBLISH as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub topic: String,
    pub id: u16,
    pub properties: Vec<u8>,
    pub payload: String,
}

pub struct Client {
    stream: TcpStream,
    pub version: u8,
    pub session_present: bool,
    /// The body of the CONNACK.
    pub connack: Vec<u8>,
    /// Came while something else was waited for.
    held: VecDeque<Packet>,
    last_id: u16,
    /// The fixed header read last.
    pub last_header: Vec<u8>,
}

impl Client {
    pub async fn dial(port: u16, version: u8) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            version,
            session_present: false,
            connack: vec![],
            held: VecDeque::new(),
            last_id: 0,
            last_header: vec![],
        }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(LIMIT, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// The next packet; `None` when the listener closed.
    pub async fn next(&mut self) -> Option<Packet> {
        match self.held.pop_front() {
            Some(packet) => Some(packet),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Option<Packet> {
        let first = timeout(LIMIT, self.stream.read_u8()).await.expect("nothing comes").ok()?;
        let (mut length, mut shift) = (0, 0);
        self.last_header = vec![first];
        loop {
            let byte = timeout(LIMIT, self.stream.read_u8()).await.unwrap().ok()?;
            self.last_header.push(byte);
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        timeout(LIMIT, self.stream.read_exact(&mut body)).await.unwrap().ok()?;
        Some(Packet { first, body })
    }

    pub async fn packet(&mut self) -> Packet {
        self.next().await.expect("the listener closed")
    }

    /// The next packet of a type, which is the packet's first four bits; others are held.
    pub async fn wait(&mut self, kind: u8) -> Packet {
        if let Some(at) = self.held.iter().position(|packet| packet.first >> 4 == kind) {
            return self.held.remove(at).unwrap();
        }
        loop {
            let packet = self.read().await.expect("the listener closed");
            if packet.first >> 4 == kind {
                return packet;
            }
            self.held.push_back(packet);
        }
    }

    /// The next packet, which is a PUBLISH. It is not acknowledged.
    pub async fn got(&mut self) -> Got {
        let packet = self.packet().await;
        Got::read(self.version, &packet)
    }

    /// The next PUBLISH, acknowledged.
    pub async fn take(&mut self) -> Got {
        let got = self.got().await;
        match got.qos {
            0 => {}
            1 => self.send(&ack(PUBACK, got.id)).await,
            _ => {
                self.send(&ack(PUBREC, got.id)).await;
                assert_eq!(self.wait(6).await.body, got.id.to_be_bytes());
                self.send(&ack(PUBCOMP, got.id)).await;
            }
        }
        got
    }

    /// Payloads of the next PUBLISH packets, acknowledged.
    pub async fn payloads(&mut self, wanted: usize) -> Vec<String> {
        let mut payloads = vec![];
        for _ in 0..wanted {
            payloads.push(self.take().await.payload);
        }
        payloads
    }

    fn id(&mut self) -> u16 {
        self.last_id += 1;
        self.last_id
    }

    /// Subscribes to one filter and gives its code.
    pub async fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[], filter, options).await
    }

    pub async fn subscribe_with(&mut self, properties: &[u8], filter: &str, options: u8) -> u8 {
        let id = self.id();
        self.send(&subscribe(self.version, id, properties, &[(filter, options)])).await;
        let suback = self.wait(9).await;
        assert_eq!(suback.body[..2], id.to_be_bytes());
        *suback.body.last().unwrap()
    }

    pub async fn unsubscribe(&mut self, filter: &str) {
        let id = self.id();
        self.send(&unsubscribe(self.version, id, &[filter])).await;
        assert_eq!(self.wait(11).await.body[..2], id.to_be_bytes());
    }

    /// Publishes, and waits until it is acknowledged to the end.
    pub async fn publish(&mut self, topic: &str, qos: u8, payload: &str) {
        self.publish_with(topic, qos, false, &[], payload).await;
    }

    pub async fn retain(&mut self, topic: &str, qos: u8, payload: &str) {
        self.publish_with(topic, qos, true, &[], payload).await;
    }

    pub async fn publish_with(
        &mut self,
        topic: &str,
        qos: u8,
        retain: bool,
        properties: &[u8],
        payload: &str,
    ) {
        let id = if qos > 0 { self.id() } else { 0 };
        self.send(&publish(self.version, qos << 1 | u8::from(retain), topic, id, properties, payload)).await;
        match qos {
            0 => {}
            1 => assert_eq!(self.wait(4).await.body[..2], id.to_be_bytes()),
            _ => {
                assert_eq!(self.wait(5).await.body[..2], id.to_be_bytes());
                self.send(&ack(PUBREL, id)).await;
                assert_eq!(self.wait(7).await.body[..2], id.to_be_bytes());
            }
        }
    }

    /// Sends PINGREQ and waits for PINGRESP: all that was sent before was taken.
    pub async fn ping(&mut self) {
        self.send(&[0xc0, 0]).await;
        assert!(self.wait(13).await.body.is_empty());
    }

    /// The listener closes; MQTT 5 says why before, MQTT 3.1.1 says nothing.
    pub async fn ends_with(&mut self, code: u8) {
        if self.version == 5 {
            let disconnect = self.packet().await;
            assert_eq!((disconnect.first, disconnect.body[0]), (0xe0, code), "{disconnect:02x?}");
        }
        assert_eq!(self.next().await, None, "nothing after it");
    }

    /// The listener closes, whatever it says before.
    pub async fn closes(&mut self) {
        if self.version == 5 {
            let disconnect = self.packet().await;
            assert_eq!(disconnect.first, 0xe0, "{disconnect:02x?}");
            assert!(disconnect.body[0] >= 0x80);
        }
        assert_eq!(self.next().await, None, "nothing after it");
    }

    /// The connection ends without DISCONNECT, and the listener has noticed.
    #[allow(dead_code, reason = "each file of tests uses its part of it")]
    pub async fn lose(mut self) {
        self.stream.shutdown().await.unwrap();
        while self.next().await.is_some() {}
    }

    /// DISCONNECT, and the listener's close.
    pub async fn leave(mut self) {
        self.send(&[0xe0, 0]).await;
        assert_eq!(self.read().await, None);
    }
}

impl Got {
    pub fn read(version: u8, packet: &Packet) -> Self {
        let Packet { first, body } = packet;
        assert_eq!(first >> 4, 3, "no PUBLISH: {packet:02x?}");
        let qos = first >> 1 & 3;
        let mut at = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..at].to_vec()).unwrap();
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([body[at], body[at + 1]]);
            at += 2;
        }
        let mut properties = vec![];
        if version == 5 {
            let length = usize::from(body[at]);
            assert!(length < 128, "longer than these tests expect");
            properties = body[at + 1..at + 1 + length].to_vec();
            at += 1 + length;
        }
        let payload = String::from_utf8(body[at..].to_vec()).unwrap();
        Got { dup: first & 8 != 0, qos, retain: first & 1 != 0, topic, id, properties, payload }
    }
}

/// A CONNECT to be built.
#[derive(Clone)]
pub struct Connect {
    pub version: u8,
    pub id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub properties: Vec<u8>,
    pub will: Option<Will>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<u8>,
}

impl Will {
    pub fn new(topic: &str, payload: &str) -> Self {
        Will { topic: topic.into(), payload: payload.into(), qos: 1, retain: false, properties: vec![] }
    }
}

impl Connect {
    pub fn new(version: u8, id: &str) -> Self {
        let (properties, will) = (vec![], None);
        Connect { version, id: id.into(), clean: true, keep_alive_s: 60, properties, will }
    }

    /// Continues a session and keeps it for an hour.
    pub fn kept(mut self) -> Self {
        self.clean = false;
        self.expiry(3600)
    }

    /// Session expiry; MQTT 3.1.1 has none.
    pub fn expiry(mut self, seconds: u32) -> Self {
        if self.version == 5 {
            self.properties.push(0x11);
            self.properties.extend(seconds.to_be_bytes());
        }
        self
    }

    pub fn property(mut self, property: &[u8]) -> Self {
        self.properties.extend_from_slice(property);
        self
    }

    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        let mut tail = vec![];
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
            tail =
                [properties(self.version, &will.properties), text(&will.topic), text(&will.payload)].concat();
        }
        connect(self.version, flags, self.keep_alive_s, &self.properties, &[&text(&self.id), &tail])
    }
}

/// A CONNECT with any flags and any payload.
pub fn connect(version: u8, flags: u8, keep_alive_s: u16, props: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let head = [&text("MQTT")[..], &[version, flags], &keep_alive_s.to_be_bytes()].concat();
    packet(0x10, &[&head, &properties(version, props), &payload.concat()])
}

pub fn publish(version: u8, flags: u8, topic: &str, id: u16, props: &[u8], payload: &str) -> Vec<u8> {
    let id = if flags & 6 == 0 { vec![] } else { id.to_be_bytes().to_vec() };
    packet(0x30 | flags, &[&text(topic), &id, &properties(version, props), payload.as_bytes()])
}

pub fn subscribe(version: u8, id: u16, props: &[u8], filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> =
        filters.iter().flat_map(|(filter, options)| [&text(filter)[..], &[*options]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes(), &properties(version, props), &filters])
}

pub fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    packet(0xa2, &[&id.to_be_bytes(), &properties(version, &[]), &filters])
}

pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;
pub const DUP: u8 = 8;
pub const QOS1: u8 = 2;
pub const QOS2: u8 = 4;
pub const RETAIN: u8 = 1;

/// An acknowledgement without a reason.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &[&id.to_be_bytes()])
}

/// An acknowledgement as it comes.
pub fn acked(first: u8, id: u16) -> Packet {
    Packet { first, body: id.to_be_bytes().to_vec() }
}

fn properties(version: u8, properties: &[u8]) -> Vec<u8> {
    if version != 5 {
        return vec![];
    }
    [&number(properties.len())[..], properties].concat()
}

pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[first], &number(body.len())[..], &body].concat()
}

fn number(mut number: usize) -> Vec<u8> {
    let mut out = vec![];
    while number > 127 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

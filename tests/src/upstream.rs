//! The stand-in for the cloud: a MQTT server that hands each PUBLISH to the test before it
//! acknowledges it.
//!
//! It forgets sessions and delivers nothing to anyone. What it has acknowledged, the test has seen:
//! that makes it a better witness than a broker, which may lose something by itself.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::codec::{self, Ack, Packet, Received, Version};

/// What the cloud answers to a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// PUBACK.
    Ack,
    /// PUBACK with a reason code (MQTT 5).
    Refuse(u8),
    /// Nothing.
    Silence,
    /// Nothing, and the connection is closed.
    Close,
    /// Nothing, and the connection is reset.
    Reset,
    /// DISCONNECT with a reason code (MQTT 5), and the connection is closed.
    Disconnect(u8),
    /// Nothing, now or later: the connection stays open and is read from.
    Mute,
}

/// Who sees the publishes. Called in their order, from one connection at a time.
pub trait Cloud: Send {
    /// A PUBLISH has arrived.
    fn take(&mut self, publish: &Received) -> Reply;

    /// A PUBLISH has arrived on a connection that says nothing any more.
    fn pass_over(&mut self, _publish: &Received) {}
}

/// Keeps whole messages and acknowledges all.
#[derive(Debug, Default)]
pub struct Inbox {
    /// In the order of arrival.
    pub messages: Vec<Received>,
}

impl Cloud for Inbox {
    fn take(&mut self, publish: &Received) -> Reply {
        self.messages.push(publish.clone());
        Reply::Ack
    }
}

/// A running upstream. Ends with the value.
#[derive(Debug)]
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts one on a free port that says nothing of limits.
    pub async fn start<C: Cloud + 'static>(cloud: Arc<Mutex<C>>) -> Self {
        Self::start_with(cloud, &[]).await
    }

    /// Starts one whose MQTT 5 CONNACK carries `properties`, as on the wire without their length.
    ///
    /// # Panics
    /// No port is free.
    pub async fn start_with<C: Cloud + 'static>(cloud: Arc<Mutex<C>>, properties: &'static [u8]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("a bound listener has an address");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, cloud.clone(), properties));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }

    /// The address as the gateway's configuration names it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<C: Cloud>(mut stream: TcpStream, cloud: Arc<Mutex<C>>, properties: &'static [u8]) {
    let _ = stream.set_nodelay(true);
    let (mut input, mut output) = (BytesMut::with_capacity(1 << 16), BytesMut::new());
    let mut version = Version::V311;
    let mut state = State::Open;
    while matches!(state, State::Open | State::Mute) {
        input.reserve(1 << 16);
        let Ok(1..) = stream.read_buf(&mut input).await else { return };
        {
            let mut cloud = cloud.lock();
            while let (true, Ok(Some(packet))) =
                (state != State::Closed, codec::take_packet(&mut input, version))
            {
                state = match (state, packet) {
                    (State::Mute, Packet::Publish(publish)) => {
                        cloud.pass_over(&publish);
                        State::Mute
                    }
                    (State::Mute, _) => State::Mute,
                    (_, packet) => answer(packet, &mut *cloud, &mut version, properties, &mut output),
                };
                if state == State::Reset {
                    let _ = stream.set_zero_linger();
                    return;
                }
            }
        }
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}

/// What a connection comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Mute,
    Closed,
    Reset,
}

/// Answers one packet.
fn answer(
    packet: Packet,
    cloud: &mut dyn Cloud,
    version: &mut Version,
    properties: &[u8],
    output: &mut BytesMut,
) -> State {
    match packet {
        Packet::Connect { version: asked, .. } => {
            *version = asked;
            codec::put_connack(output, asked, false, properties);
        }
        Packet::Publish(publish) => match (cloud.take(&publish), publish.qos) {
            (Reply::Close, _) => return State::Closed,
            (Reply::Reset, _) => return State::Reset,
            (Reply::Mute, _) => return State::Mute,
            (Reply::Disconnect(reason), _) => {
                output.extend_from_slice(&[0xE0, 1, reason]);
                return State::Closed;
            }
            (Reply::Silence, _) | (_, 0) => {}
            (Reply::Ack, 1) => codec::put_ack(output, Ack::PubAck, publish.packet_id, 0),
            (Reply::Refuse(reason), 1) => codec::put_ack(output, Ack::PubAck, publish.packet_id, reason),
            (Reply::Ack | Reply::Refuse(_), _) => codec::put_ack(output, Ack::PubRec, publish.packet_id, 0),
        },
        Packet::Ack { ack: Ack::PubRel, packet_id, .. } => {
            codec::put_ack(output, Ack::PubComp, packet_id, 0);
        }
        Packet::Subscribe { packet_id, filters } => codec::put_suback(output, *version, packet_id, filters),
        Packet::PingReq => codec::put_pingresp(output),
        Packet::Disconnect(_) => return State::Closed,
        _ => {}
    }
    State::Open
}

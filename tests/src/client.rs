//! A MQTT client under the test's full control: it sends what it is told, and hides nothing that it
//! receives.
//!
//! No keep-alive of its own, no reconnect, no resend: those are decisions of a scenario or of
//! [`crate::fleet`].

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    clock::within,
    codec::{self, Connect, Packet, Publish, Received, Version},
};

/// Longest wait for an answer in [`Client::next`].
pub const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    input: BytesMut,
    /// What [`Client::flush`] will send.
    pub output: BytesMut,
    /// The server had the session.
    pub session_present: bool,
    /// Publishes that the server takes without having acknowledged them.
    pub receive_maximum: u16,
}

impl Client {
    /// Connects and waits for CONNACK.
    ///
    /// # Errors
    /// The connection failed, or the server refused it: then the kind is `PermissionDenied` and the
    /// text its code.
    pub async fn connect(address: SocketAddr, connect: &Connect<'_>) -> io::Result<Self> {
        let mut client = Self::open(address, connect.version).await?;
        codec::put_connect(&mut client.output, connect);
        client.flush().await?;
        match client.read_packet().await? {
            Packet::ConnAck { reason: 0, session_present, receive_maximum } => {
                client.session_present = session_present;
                client.receive_maximum = receive_maximum;
                Ok(client)
            }
            Packet::ConnAck { reason, .. } => {
                Err(io::Error::new(io::ErrorKind::PermissionDenied, reason.to_string()))
            }
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{other:?}"))),
        }
    }

    /// Opens the TCP connection and says nothing.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn open(address: SocketAddr, version: Version) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            version,
            input: BytesMut::new(),
            output: BytesMut::new(),
            session_present: false,
            receive_maximum: u16::MAX,
        })
    }

    /// Leaves Nagle's algorithm on, as a client does that never thought of it: a small packet waits
    /// until what was sent before is acknowledged.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn leave_nagle_on(&self) -> io::Result<()> {
        self.stream.set_nodelay(false)
    }

    /// Appends PUBLISH to the output.
    pub fn put_publish(&mut self, publish: &Publish<'_>) {
        codec::put_publish(&mut self.output, self.version, publish);
    }

    /// Sends the output.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        Ok(())
    }

    /// A packet that has been received already.
    ///
    /// # Errors
    /// The server sent what is no packet.
    pub fn take_packet(&mut self) -> io::Result<Option<Packet>> {
        codec::take_packet(&mut self.input, self.version)
            .map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, format!("{broken:?}")))
    }

    /// Reads what the socket holds, at least one byte. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost or was closed.
    pub async fn fill(&mut self) -> io::Result<()> {
        self.input.reserve(1 << 14);
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Sends some of the output, or reads what the socket holds, whichever can be done first; gives
    /// whether all of the output is sent. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost or was closed.
    pub async fn fill_or_send(&mut self) -> io::Result<bool> {
        self.input.reserve(1 << 14);
        let (mut reader, mut writer) = self.stream.split();
        tokio::select! {
            read = reader.read_buf(&mut self.input) => match read? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => return Ok(false),
            },
            wrote = writer.write(&self.output), if !self.output.is_empty() => {
                self.output.advance(wrote?);
            }
        }
        Ok(self.output.is_empty())
    }

    /// The next packet, without a time limit. Cancel-safe.
    ///
    /// # Errors
    /// The connection is lost, or the server sent what is no packet.
    pub async fn read_packet(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.take_packet()? {
                return Ok(packet);
            }
            self.fill().await?;
        }
    }

    /// The next packet.
    ///
    /// # Panics
    /// None within [`ANSWER_LIMIT`], or the connection is lost.
    pub async fn next(&mut self) -> Packet {
        within("a packet from the server", ANSWER_LIMIT, self.read_packet())
            .await
            .expect("the connection is open")
    }

    /// Waits until the server closes, and gives what it said before.
    ///
    /// # Panics
    /// It did not within [`ANSWER_LIMIT`].
    pub async fn until_closed(&mut self) -> Vec<Packet> {
        let mut said = vec![];
        let reading = async {
            while let Ok(packet) = self.read_packet().await {
                said.push(packet);
            }
        };
        within("the server to close the connection", ANSWER_LIMIT, reading).await;
        said
    }

    /// Subscribes with QoS 1 and waits for the grant.
    ///
    /// # Panics
    /// It was refused.
    pub async fn subscribe(&mut self, filter: &str) {
        codec::put_subscribe(&mut self.output, self.version, 1, filter, 1);
        self.flush().await.expect("the connection is open");
        match self.next().await {
            Packet::SubAck { codes, .. } if codes == [1] => {}
            other => panic!("no grant for {filter}: {other:?}"),
        }
    }

    /// The next PUBLISH, acknowledged if it asks for it.
    ///
    /// # Panics
    /// Something else came, or nothing within [`ANSWER_LIMIT`].
    pub async fn next_publish(&mut self) -> Received {
        match self.next().await {
            Packet::Publish(publish) => {
                if publish.qos == 1 {
                    codec::put_ack(&mut self.output, codec::Ack::PubAck, publish.packet_id, 0);
                    self.flush().await.expect("the connection is open");
                }
                publish
            }
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }
}

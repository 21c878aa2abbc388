//! The handshake with a NATS server, and the question whether there is a stream.
//!
//! ```text
//!  server  INFO                                    PONG   MSG: the stream, or none
//!  we            CONNECT  SUB inbox  PUB question  PING
//! ```
//! What the server refuses is an error that says what to do about it; nothing was sent then.

use std::{io, num::NonZeroU16};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    super::{
        Capabilities, Credentials, Engine, Lost, Refusal,
        dial::{Dialer, Layers, Stream, Target},
        transport::Transport,
        url::Scheme,
    },
    connection::{Connection, Terms},
    settings::{PORT_DEFAULT, Settings, SettingsError},
    stream::{self, Found},
    wire::{self, Connect, Inbound, Info, WireError},
};
use crate::mqtt::Password;

/// What the answer to the question about a stream is named.
const QUESTION: &str = "stream";
/// Random bytes in the name of an inbox: whoever guesses it could acknowledge for JetStream.
const INBOX_BYTES: usize = 16;

/// A server cannot be used as it is. Nothing was sent to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ConnectError {
    /// It cannot be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It knows no headers.
    #[error(
        "the server takes no headers, and so tells no copies: use nats-server 2.2 or newer, and allow headers"
    )]
    NoHeaders,
    /// It refuses the connection, in its own words.
    #[error("the server refuses the connection: {0}")]
    Refused(String),
    /// It wants TLS.
    #[error(
        "the server wants TLS, which this version does not speak to NATS: allow plain connections from here"
    )]
    Tls,
    /// There is no stream of the configured name.
    #[error("there is no stream {0}: create it, and the uplink goes on by itself")]
    NoStream(String),
    /// No stream takes the subjects.
    #[error("no stream takes {0}: create one with this subject, and the uplink goes on by itself")]
    NoStreamFor(String),
    /// JetStream does not answer as it should.
    #[error("JetStream does not say whether there is a stream: {0}")]
    Unknown(Refusal),
}

impl Engine for Settings {
    type Connection = Connection<Stream>;
    type Invalid = SettingsError;

    const SCHEMES: &'static [Scheme] = &[Scheme::plain("nats", PORT_DEFAULT)];
    const ONE_CLIENT_OF_A_NAME: bool = false;

    fn check(&self) -> Result<(), SettingsError> {
        Self::check(self)
    }

    fn scheme(&self) -> &'static str {
        "nats"
    }

    fn credentials(&self) -> Credentials<'_> {
        let (user, password) = (self.user.as_deref(), self.password.as_ref());
        Credentials { client_id: &self.client_id, user, password }
    }

    fn layers(&self) -> &Layers {
        &self.layers
    }

    fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    fn rename(&mut self, suffix: &str) {
        self.client_id.push_str(suffix);
    }

    async fn connect(&self, dialer: &mut Dialer) -> Result<(Self::Connection, Capabilities), Lost> {
        let target = Target { host: &self.host, port: self.port, layers: &self.layers };
        let password = dialer.password(self.password.as_ref(), self.renew).await?;
        let transport = Transport::new(dialer.open(&target).await?, wire::IN_BYTES_MAX);
        let connection = dialer.handshake(shake_hands(transport, self, password.as_ref())).await?;
        let capabilities = Capabilities {
            in_flight_max: NonZeroU16::MAX,
            keep_alive: self.keep_alive,
            retains: false,
            has_headers: true,
            attribute_prefix: "ce-",
        };
        Ok((connection, capabilities))
    }
}

/// Shakes hands over a fresh connection.
pub async fn shake_hands<Io: AsyncRead + AsyncWrite + Unpin + Send>(
    mut transport: Transport<Io>,
    settings: &Settings,
    password: Option<&Password>,
) -> Result<Connection<Io>, Lost> {
    let info = greeting(&mut transport).await?;
    if !info.headers {
        return Err(lost(ConnectError::NoHeaders));
    }
    if info.tls_required {
        return Err(lost(ConnectError::Tls));
    }
    let inbox = inbox()?;
    let password = password.map(|password| String::from_utf8_lossy(password.expose()));
    let out = transport.outbox();
    Connect::new(&settings.client_id, settings.user.as_deref(), password.as_deref()).write(out);
    wire::put_subscribe(inbox.as_bytes(), out);
    let (subject, question) = stream::question(settings.stream.as_deref(), &settings.subjects);
    wire::put_request(&subject, inbox.as_bytes(), QUESTION, question.as_bytes(), out);
    out.extend_from_slice(wire::PING);
    let answered = format!("{inbox}.{QUESTION}");
    let mut handshake = Handshake { answered, found: None, is_ready: false };
    while !handshake.is_over() {
        transport.moved().await?;
        handshake.read(&mut transport)?;
    }
    match handshake.found {
        Some(Found::Nothing) => Err(lost(match &settings.stream {
            Some(name) => ConnectError::NoStream(name.clone()),
            None => ConnectError::NoStreamFor(settings.subjects.clone()),
        })),
        Some(Found::Unknown(why)) => Err(lost(ConnectError::Unknown(why))),
        Some(Found::Stream) | None => {
            let (stream, uplink) = (settings.stream.clone(), settings.uplink.clone());
            let terms = Terms { inbox, uplink, stream, payload_bytes_max: info.max_payload };
            Ok(Connection::new(transport, terms))
        }
    }
}

/// Waits for what every server begins with.
async fn greeting<Io: AsyncRead + AsyncWrite + Unpin>(transport: &mut Transport<Io>) -> Result<Info, Lost> {
    loop {
        transport.moved().await?;
        match wire::inbound(transport.inbox()).map_err(lost)? {
            Some((Inbound::Info(info), bytes)) => {
                transport.take(bytes);
                return Ok(info);
            }
            Some((Inbound::Error(words), _)) => return Err(refused(words)),
            Some(_) => return Err(lost(WireError::Malformed)),
            None => {}
        }
    }
}

/// What the server said after CONNECT.
struct Handshake {
    /// The subject of the answer about the stream.
    answered: String,
    found: Option<Found>,
    /// It took CONNECT.
    is_ready: bool,
}

impl Handshake {
    fn is_over(&self) -> bool {
        self.is_ready && self.found.is_some()
    }

    fn read<Io: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        transport: &mut Transport<Io>,
    ) -> Result<(), Lost> {
        while let Some((inbound, bytes)) = wire::inbound(transport.inbox()).map_err(lost)? {
            let mut is_ping = false;
            match inbound {
                Inbound::Pong => self.is_ready = true,
                Inbound::Ping => is_ping = true,
                Inbound::Message(message) if message.subject == self.answered.as_bytes() => {
                    self.found = Some(stream::judge(message.status, message.payload));
                }
                // Who may not ask goes on without.
                Inbound::Error(words) if stream::is_no_right(words) => self.found = Some(Found::Stream),
                Inbound::Error(words) => return Err(refused(words)),
                Inbound::Info(_) | Inbound::Message(_) | Inbound::Ok => {}
            }
            transport.take(bytes);
            if is_ping {
                transport.outbox().extend_from_slice(wire::PONG);
            }
        }
        Ok(())
    }
}

/// A name for the subjects of answers that nobody guesses.
fn inbox() -> Result<String, Lost> {
    let mut random = [0; INBOX_BYTES];
    getrandom::fill(&mut random).map_err(|error| Lost::Failed(io::Error::other(error.to_string())))?;
    Ok(random.iter().fold("_INBOX.".to_owned(), |name, byte| name + &format!("{byte:02x}")))
}

fn refused(words: &[u8]) -> Lost {
    lost(ConnectError::Refused(String::from_utf8_lossy(words).trim_matches('\'').to_owned()))
}

fn lost(error: impl Into<ConnectError>) -> Lost {
    Lost::Protocol(Box::new(error.into()))
}

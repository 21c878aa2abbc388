//! How a publisher of the benchmarks comes in: over TCP or TLS 1.3, as nobody, by a password or by
//! a certificate.
//!
//! What is dialled is a type and not a value, so that the load's way through an open connection is
//! compiled for each and costs a plain connection nothing. TLS sessions are not resumed: each
//! connection is a full handshake.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::codec::{self, Connect, Version};

/// A certificate chain of one, and its key.
pub type Certified = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// A way to come in.
pub trait Dial: Clone + Send + Sync + 'static {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Opens a connection for this client; nothing of MQTT is sent yet.
    fn open(&self, client: usize) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// What the clients show.
    fn login(&self) -> Login;
}

/// What clients show of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Nothing.
    Nobody,
    /// [`name`] and [`password`].
    Password,
    /// The certificate of the TLS connection, whose name is [`name`].
    Certificate,
}

/// The name of a client, which is also the second level of its topic.
#[must_use]
pub fn name(client: usize) -> String {
    format!("m{client:04}")
}

/// The password of a client.
#[must_use]
pub fn password(client: usize) -> String {
    format!("secret of {client:04}")
}

/// Opens a connection, sends CONNECT and waits until it is accepted.
///
/// # Errors
/// The connection failed, or the server refused it: then the kind is `PermissionDenied` and the
/// text its code.
pub async fn connect<D: Dial>(dial: &D, client: usize) -> io::Result<D::Stream> {
    let mut stream = dial.open(client).await?;
    stream.write_all(&connect_packet(dial.login(), client)).await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    match answer[3] {
        0 => Ok(stream),
        code => Err(io::Error::new(io::ErrorKind::PermissionDenied, code.to_string())),
    }
}

fn connect_packet(login: Login, client: usize) -> BytesMut {
    let (name, password) = (name(client), password(client));
    let client_id = if login == Login::Nobody { format!("load-{client}") } else { name.clone() };
    let connect = Connect { version: Version::V311, client_id: &client_id, clean: true, keep_alive_s: 600 };
    let user = (login == Login::Password).then_some((name.as_str(), password.as_str()));
    let mut out = BytesMut::new();
    codec::put_connect_as(&mut out, &connect, user);
    out
}

/// TCP.
#[derive(Debug, Clone, Copy)]
pub struct Plain {
    target: SocketAddr,
    login: Login,
}

impl Plain {
    /// To this address.
    #[must_use]
    pub fn new(target: SocketAddr, login: Login) -> Self {
        Self { target, login }
    }
}

impl Dial for Plain {
    type Stream = TcpStream;

    async fn open(&self, _client: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn login(&self) -> Login {
        self.login
    }
}

/// TLS 1.3 over TCP, to a server that is called `localhost`.
#[derive(Debug, Clone)]
pub struct Tls {
    plain: Plain,
    /// One for each client, or one for all.
    configs: Arc<[Arc<ClientConfig>]>,
}

impl Tls {
    /// For clients that believe `ca`: with a certificate each, or with none at all.
    ///
    /// # Errors
    /// The certificates are of no use.
    pub fn new(
        plain: Plain,
        ca: &CertificateDer<'static>,
        own: Vec<Certified>,
    ) -> Result<Self, rustls::Error> {
        let configs = match own.is_empty() {
            true => vec![config(ca, None)?],
            false => own.into_iter().map(|own| config(ca, Some(own))).collect::<Result<_, _>>()?,
        };
        Ok(Self { plain, configs: configs.into() })
    }
}

fn config(ca: &CertificateDer<'static>, own: Option<Certified>) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match own {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key)?,
        None => config.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

impl Dial for Tls {
    type Stream = TlsStream<TcpStream>;

    async fn open(&self, client: usize) -> io::Result<Self::Stream> {
        let stream = self.plain.open(client).await?;
        let config = self.configs[client % self.configs.len()].clone();
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    fn login(&self) -> Login {
        self.plain.login
    }
}

//! A tunnel through an HTTP proxy: CONNECT, RFC 9110 section 9.3.6.
//!
//! The proxy looks the upstream's name up, and sees the name and what is not encrypted. The
//! environment (`http_proxy`, `no_proxy`) is not looked at: the configuration says where events go.

use std::io;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::settings::Proxy;
use crate::{
    mqtt::Password,
    websocket::{HeadError, read_head, status},
};

/// The proxy makes no tunnel. Nothing was sent to the upstream.
#[derive(Debug, thiserror::Error)]
pub enum NoTunnel {
    /// The request could not be sent.
    #[error("the request could not be sent: {0}")]
    Write(io::Error),
    /// There is no answer in HTTP.
    #[error("{0}; is an HTTP proxy there?")]
    Head(#[from] HeadError),
    /// 407 without a login.
    #[error("it wants a login: set proxy_user and proxy_password_file")]
    LoginWanted,
    /// 407 with one.
    #[error("it does not accept the user {0:?} with this password")]
    LoginRefused(String),
    /// 403, 405.
    #[error("it forbids connections to {0} (HTTP {1}): allow them there, host and port")]
    Forbidden(String, u16),
    /// 502, 503, 504 and what else a gateway says.
    #[error("it cannot reach {0} (HTTP {1}): check the name, and what the proxy may reach")]
    Unreachable(String, u16),
    /// Any other answer.
    #[error("it answers HTTP {0} to CONNECT")]
    Status(u16),
}

/// Asks for a tunnel to `target`, a host with its port, with this password if there is a user.
///
/// # Errors
/// [`NoTunnel`]
pub async fn tunnel<Io>(
    io: &mut Io,
    proxy: &Proxy,
    password: Option<&Password>,
    target: &str,
) -> Result<(), NoTunnel>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(user) = &proxy.user {
        let password = password.map(Password::expose).unwrap_or_default();
        let login = BASE64_STANDARD.encode([user.as_bytes(), b":", password].concat());
        request += &format!("Proxy-Authorization: Basic {login}\r\n");
    }
    request += "\r\n";
    io.write_all(request.as_bytes()).await.map_err(NoTunnel::Write)?;
    let head = read_head(io).await?;
    let target = target.to_owned();
    match (status(&head), &proxy.user) {
        (Some(200..300), _) => Ok(()),
        // What tinyproxy means by 401 is 407.
        (Some(401 | 407), None) => Err(NoTunnel::LoginWanted),
        (Some(401 | 407), Some(user)) => Err(NoTunnel::LoginRefused(user.clone())),
        (Some(status @ (403 | 405)), _) => Err(NoTunnel::Forbidden(target, status)),
        (Some(status @ (404 | 500..600)), _) => Err(NoTunnel::Unreachable(target, status)),
        (Some(status), _) => Err(NoTunnel::Status(status)),
        (None, _) => Err(HeadError::NotHttp.into()),
    }
}

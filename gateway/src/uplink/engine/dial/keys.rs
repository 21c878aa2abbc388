//! The keys of the layers below an engine's protocol: `tls`, `proxy` and what goes with them.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    super::{
        password::{PasswordSource, SecretFile},
        url::host_and_port,
    },
    settings::{Layers, PATH_BYTES_MOST, PROXY_PORT_DEFAULT, PROXY_USER_BYTES_MOST, Proxy},
    tls::{ALPN_BYTES_MOST, ALPN_MOST, KeyPair, Tls, TlsFile, TlsSettings, is_server_name},
};
use crate::{
    clock,
    keys::{Spanned, Text, Validator},
};

/// `tls = { … }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsKeys {
    ca: Option<Text>,
    cert: Option<Text>,
    key: Option<Text>,
    server_name: Option<Text>,
    alpn: Option<Vec<Text>>,
}

impl TlsKeys {
    /// The name that the server goes by, where that is not the host.
    pub(in crate::uplink) fn server_name(&self) -> Option<&str> {
        self.server_name.as_ref().map(|name| name.get_ref().as_str())
    }
}

/// What an uplink's keys say of its layers.
#[derive(Debug, Clone, Copy, Default)]
pub struct LayerKeys<'a> {
    /// `tls`
    pub tls: Option<&'a Spanned<TlsKeys>>,
    /// `proxy`
    pub proxy: Option<&'a Text>,
    /// `proxy_user`
    pub proxy_user: Option<&'a Text>,
    /// `proxy_password_file`
    pub proxy_password_file: Option<&'a Text>,
}

impl Layers {
    /// What the keys say, for an uplink of this name whose URL, which stands there, asks for a
    /// WebSocket at this path, or for none, and for TLS unless these words say why not.
    pub(in crate::uplink) fn read(
        validator: &mut Validator<'_>,
        keys: LayerKeys<'_>,
        uplink: &str,
        url: &Text,
        websocket: Option<String>,
        no_tls: Option<String>,
    ) -> Self {
        let has_tls = no_tls.is_none();
        if let (Some(tls), Some(why)) = (keys.tls, no_tls) {
            validator.wrong(&tls.span(), why);
        }
        if websocket.as_ref().is_some_and(|path| path.len() > PATH_BYTES_MOST) {
            validator.wrong(&url.span(), format!("the path is longer than {PATH_BYTES_MOST} bytes"));
        }
        let tls = has_tls.then(|| Arc::new(tls(validator, keys.tls, uplink, url)));
        Self { proxy: proxy(validator, keys), tls, websocket }
    }
}

fn tls(validator: &mut Validator<'_>, keys: Option<&Spanned<TlsKeys>>, uplink: &str, url: &Text) -> Tls {
    let none = TlsKeys::default();
    let raw = keys.map_or(&none, Spanned::get_ref);
    let folder = validator.around.folder.clone();
    let path = |text: &Text| folder.join(text.get_ref());
    let mut is_whole = true;
    let client = match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => Some(KeyPair { cert: path(cert), key: path(key) }),
        (None, None) => None,
        (Some(lone), None) | (None, Some(lone)) => {
            validator.wrong(&lone.span(), "a client certificate is cert and key; name both, or none");
            is_whole = false;
            None
        }
    };
    let server_name = validator.value(raw.server_name.as_ref(), None, |name| {
        let fits = is_server_name(name);
        fits.then(|| Some(name.to_owned())).ok_or_else(|| format!("\"{name}\" is no name of a server"))
    });
    let offered = raw.alpn.as_deref().unwrap_or_default();
    validator.count(offered, ALPN_MOST, "protocols");
    for name in offered.iter().filter(|name| !(1..=ALPN_BYTES_MOST).contains(&name.get_ref().len())) {
        validator.wrong(&name.span(), format!("a protocol's name has 1 to {ALPN_BYTES_MOST} bytes"));
    }
    let alpn = offered.iter().map(|name| name.get_ref().clone()).collect();
    let settings = TlsSettings { ca: raw.ca.as_ref().map(path), client, server_name, alpn };
    let tls = Tls::new(uplink, settings);
    if is_whole && let Err(error) = tls.check(clock::wall_ms()) {
        let key = match error.file {
            TlsFile::Ca => raw.ca.as_ref(),
            TlsFile::Cert => raw.cert.as_ref(),
            TlsFile::Key => raw.key.as_ref(),
        };
        validator.wrong(&key.unwrap_or(url).span(), error.to_string());
    }
    tls
}

fn proxy(validator: &mut Validator<'_>, keys: LayerKeys<'_>) -> Option<Proxy> {
    let Some(proxy) = keys.proxy else {
        for lone in [keys.proxy_user, keys.proxy_password_file].into_iter().flatten() {
            validator.wrong(&lone.span(), "a login for no proxy; add \"proxy\", or remove this");
        }
        return None;
    };
    let (host, port) = validator.value(Some(proxy), Default::default(), address);
    match (keys.proxy_user, keys.proxy_password_file) {
        (Some(user), None) => {
            validator.wrong(&user.span(), "a user without a password; add \"proxy_password_file\"");
        }
        (None, Some(file)) => validator.wrong(&file.span(), "a password without a user; add \"proxy_user\""),
        _ => {}
    }
    let user = keys.proxy_user.map(|user| {
        let fits = !user.get_ref().contains([':', '\r', '\n']);
        if !fits || user.get_ref().len() > PROXY_USER_BYTES_MOST {
            validator.wrong(
                &user.span(),
                format!("a user of a proxy has no colon, and {PROXY_USER_BYTES_MOST} bytes at most"),
            );
        }
        user.get_ref().clone()
    });
    let password = keys.proxy_password_file.map(|file| {
        let secret = SecretFile::new(validator.around.folder.join(file.get_ref()));
        PasswordSource::File(secret).checked(validator, file)
    });
    Some(Proxy { host, port, user, password })
}

/// Host and port of `http://host:port`.
fn address(text: &str) -> Result<(String, u16), String> {
    let how = "write it like \"http://proxy.example:3128\"";
    let rest = text
        .strip_prefix("http://")
        .ok_or_else(|| format!("\"{text}\" is no address of an HTTP proxy; {how}"))?;
    if rest.contains('@') {
        return Err("no user or password in the address: name them by \"proxy_user\" and \
                    \"proxy_password_file\""
            .into());
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) =
        host_and_port(rest, PROXY_PORT_DEFAULT).map_err(|fault| format!("\"{text}\" {fault}; {how}"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_address_without_a_login() {
        for (text, host, port) in [
            ("http://proxy.example", "proxy.example", 3128),
            ("http://proxy.example:8080/", "proxy.example", 8080),
            ("http://[::1]:1", "::1", 1),
        ] {
            assert_eq!(address(text), Ok((host.to_owned(), port)), "{text}");
        }
        for text in [
            "proxy:3128",
            "https://a",
            "socks5://a",
            "http://",
            "http://a:0",
            "http://::1:1",
            "http://u:p@a",
            "http://a/b",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}

//! Certificates of every kind, and servers that show them.

use std::{io, path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A CA.
pub struct Ca {
    pub certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Pair {
    pub certificate: Certificate,
    pub key: KeyPair,
}

impl Ca {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Ca { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for a server of this name, changed.
    pub fn server(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        self.sign(name, vec![name.to_owned()], ExtendedKeyUsagePurpose::ServerAuth, change)
    }

    /// A client's.
    pub fn client(&self, name: &str) -> Pair {
        self.client_with(name, |_| ())
    }

    /// The same, changed.
    pub fn client_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        self.sign(name, vec![], ExtendedKeyUsagePurpose::ClientAuth, change)
    }

    fn sign(
        &self,
        name: &str,
        hosts: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        change(&mut params);
        Pair { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    pub fn write(&self, file: &Path) {
        std::fs::write(file, self.certificate.pem()).unwrap();
    }
}

impl Pair {
    pub fn write(&self, cert: &Path, key: &Path) {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::write(cert, self.certificate.pem()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(key).unwrap();
        io::Write::write_all(&mut file, self.key.serialize_pem().as_bytes()).unwrap();
    }
}

/// What a server speaks and wants.
pub struct Kind<'a> {
    pub pair: &'a Pair,
    /// The CA of its clients' certificates, if it wants any.
    pub clients: Option<&'a Ca>,
    pub version: &'static SupportedProtocolVersion,
    pub alpn: &'a [&'a str],
}

impl<'a> Kind<'a> {
    pub fn new(pair: &'a Pair) -> Self {
        Kind { pair, clients: None, version: &TLS13, alpn: &[] }
    }

    pub fn both(self) -> [Self; 2] {
        let Kind { pair, clients, alpn, .. } = self;
        [&TLS12, &TLS13].map(|version| Kind { pair, clients, version, alpn })
    }

    /// A server on a port of its own that gives back what comes.
    pub async fn serve(&self) -> SocketAddr {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[self.version])
            .unwrap();
        let builder = match self.clients {
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.certificate.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
            None => builder.with_no_client_auth(),
        };
        let chain = vec![self.pair.certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pair.key.serialize_der()));
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        serve("127.0.0.1:0", move |stream| {
            let acceptor = acceptor.clone();
            async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => give_back(stream).await,
                    Err((_, mut stream)) => {
                        // The alert is read before the connection is reset.
                        let _ = stream.shutdown().await;
                        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                    }
                }
            }
        })
        .await
    }
}

//! The client's side of TLS, by which the gateway itself speaks: to a credential's upstream, a proxy, a resolver.

use rcc_host::trusted;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use std::cell::OnceCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Where distributions keep their bundle of CA certificates.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files that may be read for it.
pub fn bundles(own: Option<&str>) -> Vec<PathBuf> {
    BUNDLES.into_iter().chain(own).map(PathBuf::from).collect()
}

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// HTTP/1.1, said by ALPN.
    Http,
    /// What the port says.
    Any,
}

/// Whose certificates are trusted: the system's CAs and the policy's own bundle, read when first needed. Without any,
/// nobody is.
pub struct Trust {
    bundle: Option<String>,
    config: OnceCell<ClientConfig>,
}

impl Trust {
    /// With this bundle beside the system's.
    pub fn new(bundle: Option<String>) -> Self {
        Self { bundle, config: OnceCell::new() }
    }

    /// The handshake with a server whose certificate must be for `name`.
    pub async fn connect<S>(&self, name: ServerName<'static>, stream: S, within: Within) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.config.get_or_init(|| self.read()).clone();
        if within == Within::Http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
        tokio::time::timeout(HANDSHAKE, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    fn read(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let system = BUNDLES.iter().find_map(|path| trusted::read(Path::new(path)).ok());
        let own = self.bundle.as_deref().and_then(|path| trusted::read(Path::new(path)).ok());
        for pem in [system, own].into_iter().flatten() {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
            Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
            Err(_) => unreachable!("ring has the default versions' cipher suites"),
        }
    }
}

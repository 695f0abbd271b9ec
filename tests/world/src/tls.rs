//! The world's certificate authority: one root a world, leaves minted for whatever name is asked for.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::Acceptor;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use time::{Duration, OffsetDateTime};

use crate::map::{self, Certificate};

/// A certificate authority that lives as long as the world.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    leaves: Mutex<HashMap<String, Arc<ServerConfig>>>,
}

/// What the client's hello said.
#[derive(Debug, Default)]
pub struct Hello {
    /// The name, if it gave one.
    pub sni: Option<String>,
    /// The application protocols.
    pub alpn: Vec<String>,
}

impl Authority {
    /// A new root.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "rcc test world, not a real authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = days(-1, 30);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem, leaves: Mutex::default() })
    }

    /// The root certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn leaf(&self, name: &str) -> Result<Arc<ServerConfig>> {
        let mut leaves = self.leaves.lock().map_err(|_| anyhow!("a thread that minted certificates has panicked"))?;
        if let Some(known) = leaves.get(name) {
            return Ok(known.clone());
        }
        let kind = map::find(name).map_or(Certificate::Good, |e| e.certificate);
        let shown = if kind == Certificate::OtherName { "someone-else.example" } else { name };
        let mut params = CertificateParams::new(vec![shown.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, "rcc test world leaf");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = if kind == Certificate::Expired { days(-20, -1) } else { days(-1, 20) };
        let key = KeyPair::generate()?;
        let certificate = match kind {
            Certificate::SelfSigned => params.self_signed(&key)?,
            _ => params.signed_by(&key, &self.issuer)?,
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec(), b"dot".to_vec()];
        let config = Arc::new(config);
        leaves.insert(name.to_owned(), config.clone());
        Ok(config)
    }

    /// Reads the hello from `stream`, and completes the handshake with a certificate for the name in it, or else for
    /// the address that was dialled. `seen` is called between the two.
    pub fn accept(
        &self,
        mut stream: TcpStream,
        dialled: IpAddr,
        seen: impl FnOnce(&Hello),
    ) -> Result<(Hello, StreamOwned<ServerConnection, TcpStream>)> {
        let mut acceptor = Acceptor::default();
        let accepted = loop {
            if acceptor.read_tls(&mut stream).context("no hello")? == 0 {
                return Err(anyhow!("closed before the hello was complete"));
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => break accepted,
                Ok(None) => {}
                Err((e, mut alert)) => {
                    let _gone = alert.write_all(&mut stream);
                    return Err(e.into());
                }
            }
        };
        let hello = {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
            Hello { sni: hello.server_name().map(str::to_ascii_lowercase), alpn }
        };
        seen(&hello);
        let config = self.leaf(&hello.sni.clone().unwrap_or_else(|| dialled.to_string()))?;
        let mut connection = accepted.into_connection(config).map_err(|(e, mut alert)| {
            let _gone = alert.write_all(&mut stream);
            e
        })?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok((hello, StreamOwned::new(connection, stream)))
    }
}

fn days(from: i64, to: i64) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now + Duration::days(from), now + Duration::days(to))
}

/// A connection, with or without TLS.
pub enum Stream {
    /// As it came.
    Plain(TcpStream),
    /// After the handshake.
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The socket beneath.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(s) => s,
            Self::Tls(s) => &s.sock,
        }
    }

    /// Says that nothing more will be written.
    pub fn finish(&mut self) {
        if let Self::Tls(s) = self {
            s.conn.send_close_notify();
            let _gone = s.flush();
        }
        let _gone = self.socket().shutdown(std::net::Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(s) => s.read(buffer),
            Self::Tls(s) => s.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(s) => s.write(data),
            Self::Tls(s) => s.write(data),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(s) => s.flush(),
            Self::Tls(s) => s.flush(),
        }
    }
}

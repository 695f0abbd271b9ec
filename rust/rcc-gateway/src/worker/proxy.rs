//! The proxy that is the only way out: asked by CONNECT for a name and port, which it resolves itself.
//!
//! Invariant: its credentials are in this process's memory and in requests to it, in no log line and no error.

use super::dial::Failed;
use super::tls::{Trust, Within};
use super::way::Way;
use data_encoding::BASE64;
use rcc_host::trusted;
use rcc_policy::{ProxyHost, UpstreamProxy};
use rcc_proto::Secret;
use rcc_report::{Code, Problem};
use rustls::pki_types::ServerName;
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

/// How long it may take over an answer: it connects meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest head of an answer, in bytes.
const HEAD: usize = 16 * 1024;

/// A proxy, with what it wants to be shown.
pub struct Proxy {
    /// What the policy says of it.
    pub facts: UpstreamProxy,
    /// The value of `Proxy-Authorization`.
    authorization: Option<Secret>,
}

impl Proxy {
    /// Reads the credentials, if the policy names a file of them.
    pub fn new(facts: UpstreamProxy) -> Result<Self, Problem> {
        let authorization = facts.credentials_file.as_deref().map(credentials).transpose()?;
        Ok(Self { facts, authorization })
    }

    /// Has it connect to `target`, over a connection to it.
    pub async fn tunnel(&self, stream: TcpStream, trust: &Trust, target: &str) -> Result<Way, Failed> {
        let through = async {
            let mut way = if self.facts.tls {
                let name = match &self.facts.host {
                    ProxyHost::Name(name) => ServerName::try_from(name.to_string()).map_err(io::Error::other)?,
                    ProxyHost::Address(ip) => (*ip).into(),
                };
                Way::Tls(Box::new(trust.connect(name, stream, Within::Http).await?))
            } else {
                Way::Plain(stream)
            };
            let credentials = self.authorization.as_ref().map_or("", Secret::expose);
            let line = if credentials.is_empty() { "" } else { "\r\nProxy-Authorization: " };
            let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}{line}{credentials}\r\n\r\n");
            way.write_all(Zeroizing::new(request).as_bytes()).await?;
            way.flush().await?;
            match status(&mut way).await? {
                200..=299 => Ok(way),
                status => Err(Failed::Proxy(status)),
            }
        };
        tokio::time::timeout(PATIENCE, through).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// The status of its answer. Not a byte more is read than the head: what follows is the server's.
async fn status(way: &mut Way) -> io::Result<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        head.push(way.read_u8().await?);
    }
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut answer = httparse::Response::new(&mut headers);
    let whole = matches!(answer.parse(&head), Ok(httparse::Status::Complete(n)) if n == head.len());
    answer.code.filter(|_| whole).ok_or_else(|| io::Error::other("the proxy's answer is no HTTP/1"))
}

/// `Basic …`, of a file with `user:password`.
fn credentials(path: &str) -> Result<Secret, Problem> {
    let unusable = |what: &str| {
        let remedy = format!("write user:password to it; sudo chown root:rcc {path} && sudo chmod 640 {path}");
        Problem::new(Code::PROXY_CREDENTIALS, path, what, remedy)
    };
    let bytes = trusted::read(Path::new(path)).map(Zeroizing::new).map_err(|e| unusable(&e.to_string()))?;
    let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |last| last + 1);
    let line = bytes.get(..end).unwrap_or_default();
    if line.iter().any(u8::is_ascii_control) || !line.contains(&b':') {
        return Err(unusable("it is not one line `user:password`"));
    }
    Ok(Secret::new(format!("Basic {}", *Zeroizing::new(BASE64.encode(line)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(answer: &[u8]) -> io::Result<u16> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (mut server, _) = server.unwrap();
        server.write_all(answer).await.unwrap();
        drop(server);
        let mut way = Way::Plain(client.unwrap());
        let status = status(&mut way).await?;
        let mut rest = Vec::new();
        way.read_to_end(&mut rest).await?;
        assert_eq!(rest, b"rest", "what follows the head is the server's");
        Ok(status)
    }

    #[test]
    fn the_head_of_an_answer_is_read_and_no_more() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(said(b"HTTP/1.1 200 Connection established\r\n\r\nrest").await.unwrap(), 200);
            assert_eq!(said(b"HTTP/1.0 407 Say who\r\nA: b\r\nContent-Length: 9\r\n\r\nrest").await.unwrap(), 407);
            for bad in [&b"SSH-2.0-x\r\n\r\nrest"[..], b"HTTP/1.1 200", b"HTTP/1.1 2000 x\r\n\r\nrest", b""] {
                assert!(said(bad).await.is_err(), "{bad:?}");
            }
            assert!(said(&[b'a'; HEAD + 10]).await.is_err());
        });
    }
}

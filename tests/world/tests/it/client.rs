//! Small clients, so that no test depends on what a program makes of a server.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};

const PATIENCE: Duration = Duration::from_secs(5);

pub fn connect(address: impl ToSocketAddrs) -> Result<TcpStream> {
    let address = address.to_socket_addrs()?.next().context("no address")?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends `text` and reads to the end.
pub fn exchange(mut stream: impl Read + Write, text: &[u8]) -> Result<String> {
    stream.write_all(text)?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if answer.is_empty() => Err(e)?,
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

pub fn get(address: impl ToSocketAddrs, host: &str, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    exchange(connect(address)?, request.as_bytes())
}

pub fn post(address: impl ToSocketAddrs, host: &str, path: &str, headers: &str, body: &str) -> Result<String> {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    exchange(connect(address)?, request.as_bytes())
}

/// TLS to `address` that trusts the world's authority alone, and verifies `name`.
pub fn tls(address: impl ToSocketAddrs, name: &str, ca: &std::path::Path) -> Result<impl Read + Write> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned())?)?;
    let mut socket = connect(address)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket)?;
    }
    Ok(rustls::StreamOwned::new(connection, socket))
}

pub fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new();
    message.set_id(7).set_recursion_desired(true);
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

/// Asks by UDP.
pub fn ask(resolver: IpAddr, name: &str, kind: RecordType) -> Result<Message> {
    let any = if resolver.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    // connected, so that an answer from another address than the one asked is not an answer
    socket.connect(SocketAddr::new(resolver, 53))?;
    socket.send(&question(name, kind))?;
    let mut answer = [0; 4096];
    let n = socket.recv(&mut answer)?;
    Ok(Message::from_vec(&answer[..n])?)
}

/// Asks over a stream.
pub fn ask_stream(mut stream: impl Read + Write, name: &str, kind: RecordType) -> Result<Message> {
    let question = question(name, kind);
    stream.write_all(&[&u16::try_from(question.len())?.to_be_bytes()[..], &question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(Message::from_vec(&answer)?)
}

pub fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    message.answers().iter().filter_map(|r| address(r.data())).collect()
}

/// Runs a shell command and gives its stdout; its failure is an error.
pub fn sh(command: &str) -> Result<String> {
    let done = Command::new("/bin/sh").args(["-euc", command]).output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(done.status.success(), "{command}: {}\n{text}{}", done.status, String::from_utf8_lossy(&done.stderr));
    Ok(text)
}

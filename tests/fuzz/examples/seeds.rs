//! Writes the seeds that are no text into the folder it is given (`cargo run -p rcc-fuzz --example seeds tests/fuzz/seeds`).

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(name), bytes).expect("a file");
    };
    for (file, name) in [("right", "allowed.example"), ("other", "other.example"), ("address", "192.0.2.1")] {
        write("client-hello", file, &[&[7], &hello(name)[..]].concat());
    }
    let (first, second) = (hello("allowed.example"), hello("other.example"));
    write("client-hello", "two", &[&[7], &first[..], &[20, 3, 3, 0, 1, 1], &second].concat());
    for (file, name, kind) in [
        ("a", "x.allowed.example.", RecordType::A),
        ("aaaa", "allowed.example.", RecordType::AAAA),
        ("other", "secret.other.example.", RecordType::TXT),
        ("local", "a.localhost.", RecordType::AAAA),
    ] {
        let mut query = Message::new();
        query.set_id(7).add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        write("dns", file, &[&[0], &query.to_vec().expect("it fits")[..]].concat());
    }
    write("listing", "in-force", rcc_fuzz::listing::seed().as_bytes());
    for version in ["2", "4"] {
        write("git-index", &format!("v{version}"), &index(version));
    }
}

/// A client's first flight.
fn hello(name: &'static str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("its own").with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut flight = Vec::new();
    client.write_tls(&mut flight).expect("to memory");
    flight
}

/// An index with gitlinks, as git writes it.
fn index(version: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    let git = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(folder).args(arguments).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        assert!(command.status().expect("git runs").success(), "{arguments:?}");
    };
    git(dir.path(), &["init", "-q", "--object-format=sha1"]);
    std::fs::write(dir.path().join("file"), "").expect("a file");
    git(dir.path(), &["add", "."]);
    for path in ["lib", "deep/er/module", "deep/z"] {
        git(dir.path(), &["update-index", "--add", "--cacheinfo", &format!("160000,{},{path}", "1".repeat(40))]);
    }
    let threads = ["-c", "index.threads=2", "-c", "index.recordOffsetTable=true", "-c"];
    let again =
        ["index.recordEndOfIndexEntries=true", "update-index", "--force-write-index", "--index-version", version];
    git(dir.path(), &[&threads[..], &again].concat());
    std::fs::read(dir.path().join(".git/index")).expect("an index")
}

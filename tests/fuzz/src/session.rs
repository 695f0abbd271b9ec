//! A launcher's side of the gateway's socket: any packets, with descriptors of any kind. What is not understood is
//! refused, no descriptor stays, and only three sockets of one foreign namespace are ever taken: none here are.

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, sendmsg, socket, socketpair,
};
use rcc_gateway::worker::handover::{Received, check, own_namespace, receive_now};
use rcc_policy::Policy;
use rcc_proto::{ToGateway, VERSION};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let text = "allow = [\"a.example.org:443\"]\nmay_allow = [\"*:22,80,443\"]\ndeny = [\"*.bad.example.org\"]\n\
        private = [\"git.corp.example:443 via 10.20.0.0/16\"]\n[credentials.anthropic]\n";
    rcc_policy::parse(text, "policy.toml").expect("a policy")
});
static NAMESPACE: LazyLock<u64> = LazyLock::new(|| own_namespace().expect("a kernel of 5.14"));
/// Descriptors of many kinds, made once.
static KINDS: LazyLock<Vec<OwnedFd>> = LazyLock::new(|| {
    let new =
        |family, kind, protocol| socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).expect("sockets can be made");
    let (a, b) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).expect("a pair");
    vec![
        std::fs::File::open("/dev/null").expect("a device").into(),
        std::fs::File::open("/proc").expect("a folder").into(),
        new(AddressFamily::Inet, SockType::Stream, None),
        new(AddressFamily::Inet, SockType::Datagram, None),
        new(AddressFamily::Inet6, SockType::Stream, None),
        new(AddressFamily::Unix, SockType::SeqPacket, None),
        new(AddressFamily::Netlink, SockType::Raw, Some(SockProtocol::NetlinkRoute)),
        a,
        b,
    ]
});

pub fn feed(bytes: &[u8]) {
    let (count, bytes) = crate::choice(bytes);
    let (kinds, packet) = crate::choice(bytes);
    // The first time of each makes what stays.
    let (_, _, _) = (&*KINDS, &*NAMESPACE, &*POLICY);
    let before = next_descriptor();
    one(usize::from(count), usize::from(kinds), packet);
    assert_eq!(next_descriptor(), before, "a descriptor stayed");
}

fn one(count: usize, first: usize, packet: &[u8]) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (launcher, gateway) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).expect("a pair");
    let fds: Vec<RawFd> = (0..count).map(|n| KINDS[(first + n) % KINDS.len()].as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let beside = if fds.is_empty() { &[][..] } else { &rights[..] };
    let sent = sendmsg::<()>(launcher.as_raw_fd(), &[IoSlice::new(packet)], beside, MsgFlags::MSG_DONTWAIT, None);
    if sent.is_err() {
        return;
    }
    drop(launcher);
    match receive_now(&gateway) {
        Ok(Received::Message(message, came)) => {
            assert_eq!(came.len(), count, "descriptors were lost silently");
            assert!(packet.len() <= rcc_proto::MAX_PACKET);
            heard(message, came);
        }
        Ok(Received::End) => assert!(packet.is_empty()),
        Ok(Received::Nothing) => panic!("a packet was there"),
        Err(problem) => assert!(!problem.what.is_empty() && !problem.remedy.is_empty()),
    }
}

fn heard(message: ToGateway, came: Vec<OwnedFd>) {
    match message {
        ToGateway::Open(open) => {
            let _ = VERSION.agree(open.version);
            granted(&open.grants);
        }
        ToGateway::Grants { grants } => granted(&grants),
        // All are of this namespace, or are no sockets.
        ToGateway::Listen => {
            let again = came.iter().map(|fd| fd.try_clone().expect("there is room")).collect();
            assert!(check(again, AddressFamily::Inet6, *NAMESPACE).is_err());
            assert!(check(came, AddressFamily::Inet, *NAMESPACE).is_err());
        }
        ToGateway::Forward | ToGateway::End => {}
    }
}

/// Whatever is granted, root's denials and the caps hold.
fn granted(grants: &[String]) {
    let Ok(resolved) = POLICY.resolve(grants) else { return };
    assert_eq!(resolved.deny, POLICY.resolve(&[]).expect("it is one").deny);
    for endpoint in &resolved.allow {
        assert!(endpoint.port.is_some_and(|p| [22, 80, 443].contains(&p)), "{endpoint}");
    }
}

/// The number that the next descriptor would have.
fn next_descriptor() -> RawFd {
    nix::unistd::dup(&KINDS[0]).expect("there is room").as_raw_fd()
}

//! Just enough rtnetlink to wire namespaces, so that no program has to be installed. Acts in the calling thread's
//! network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut b = vec![0; 16];
        b[4..6].copy_from_slice(&kind.to_ne_bytes());
        b[6..8].copy_from_slice(&(flags | 5).to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
        b.extend(header);
        Self(b)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        self
    }

    fn nested(self, kind: u16, inner: impl FnOnce(Self) -> Self) -> Self {
        let inner = inner(Message(Vec::new())).0;
        self.attribute(kind, &inner)
    }

    fn send(mut self) {
        let n = u32::try_from(self.0.len()).unwrap();
        self.0[..4].copy_from_slice(&n.to_ne_bytes());
        // SAFETY: plain system calls on a descriptor that is owned here, with buffers of the stated lengths.
        unsafe {
            let fd = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE);
            assert!(fd >= 0);
            let fd = OwnedFd::from_raw_fd(fd);
            assert!(libc::send(fd.as_raw_fd(), self.0.as_ptr().cast(), self.0.len(), 0) >= 0);
            let mut answer = [0u8; 4096];
            let n = libc::recv(fd.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0);
            assert!(n >= 20, "netlink: {}", io::Error::last_os_error());
            let code = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
            assert_eq!(code, 0, "netlink: {}", io::Error::from_raw_os_error(-code));
        }
    }
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 2 } else { 10 }
}

fn index(device: &str) -> u32 {
    let name = std::ffi::CString::new(device).unwrap();
    // SAFETY: a valid C string.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// A pair of linked devices, `here` in this namespace and `there` in that of the descriptor.
pub fn veth(here: &str, there: &str, namespace: &OwnedFd) {
    let name = |n: &str| [n.as_bytes(), b"\0"].concat();
    let header = [0u8; 16];
    Message::new(16, 0x600, &header)
        .attribute(3, &name(here))
        .nested(18, |m| {
            m.attribute(1, b"veth\0").nested(2, |m| {
                m.nested(1, |mut m| {
                    m.0.extend(header);
                    m.attribute(3, &name(there)).attribute(28, &namespace.as_raw_fd().to_ne_bytes())
                })
            })
        })
        .send();
}

/// Sets a device up.
pub fn up(device: &str) {
    let mut header = [0u8; 16];
    header[4..8].copy_from_slice(&index(device).to_ne_bytes());
    header[8..12].copy_from_slice(&1u32.to_ne_bytes());
    header[12..16].copy_from_slice(&1u32.to_ne_bytes());
    Message::new(16, 0, &header).send();
}

/// Adds an address.
pub fn address(device: &str, ip: &str, length: u8) {
    let ip: IpAddr = ip.parse().unwrap();
    let mut header = vec![family(ip), length, 2, 0]; // 2: no duplicate address detection
    header.extend(index(device).to_ne_bytes());
    Message::new(20, 0x600, &header).attribute(2, &octets(ip)).attribute(1, &octets(ip)).send();
}

/// Adds a route: by a gateway, or (`None`) one that makes the range local on `lo`.
pub fn route(to: &str, length: u8, gateway: Option<&str>) {
    let to: IpAddr = to.parse().unwrap();
    let (table, scope, kind) = if gateway.is_some() { (254, 0, 1) } else { (255, 254, 2) };
    let header = [family(to), length, 0, 0, table, 3, scope, kind, 0, 0, 0, 0];
    let mut m = Message::new(24, 0x600, &header);
    if length > 0 {
        m = m.attribute(1, &octets(to));
    }
    match gateway {
        Some(g) => m.attribute(5, &octets(g.parse().unwrap())).send(),
        None => m.attribute(4, &index("lo").to_ne_bytes()).send(),
    }
}

/// The namespace's own loopback, and nothing else.
pub fn loopback() {
    up("lo");
    let _ = Ipv4Addr::LOCALHOST;
}

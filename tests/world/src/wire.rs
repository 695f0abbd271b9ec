//! The wire witness: every packet on an interface, as a pcap file (`LINUX_SLL`, so each packet says whether it came or
//! went), and the reading of such files.
//!
//! Invariant: it fails closed. When packets were lost, or the file has reached its limit, a file `….lost` stands beside
//! it and reading is an error: "nothing was seen" is never said of a wire that wasn't watched.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{token, witness};

const SLL: usize = 16;
/// Bytes of one file.
const LIMIT: u64 = 512 << 20;

fn beside(path: &Path) -> PathBuf {
    path.with_extension("lost")
}

/// A watch that is set, in the network namespace of the thread that made it.
pub struct Watch {
    socket: OwnedFd,
    file: File,
    path: PathBuf,
}

impl Watch {
    /// Opens the packet socket and the file.
    ///
    /// # Panics
    /// Never: the constants are in range.
    pub fn set(interface: &str, path: &Path) -> Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).expect("a 16-bit protocol").to_be();
        let index = nix::net::if_::if_nametoindex(interface).with_context(|| format!("no interface {interface}"))?;
        // SAFETY: a new descriptor, owned from here on.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            nix::errno::Errno::result(fd).context("no packet socket")?;
            OwnedFd::from_raw_fd(fd)
        };
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(64 << 20))?;
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET).expect("a 16-bit family");
        address.sll_protocol = all;
        address.sll_ifindex = i32::try_from(index)?;
        // SAFETY: the address is of the length given.
        let bound =
            unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()) };
        nix::errno::Errno::result(bound).context("the packet socket can't be bound")?;
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(path)?;
        let mut head = Vec::with_capacity(24);
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 0x4_0000, 113] {
            head.extend(word.to_ne_bytes());
        }
        file.write_all(&head)?;
        Ok(Self { socket, file, path: path.to_owned() })
    }

    /// Writes every packet, until the world ends.
    pub fn run(mut self) {
        if let Err(e) = self.copy() {
            let _second_error = std::fs::write(beside(&self.path), format!("{e:#}"));
        }
    }

    fn copy(&mut self) -> Result<()> {
        let mut buffer = vec![0u8; 16 + SLL + (1 << 18)];
        let mut written = 0u64;
        loop {
            // SAFETY: all-zero is a valid sockaddr_ll; the buffer has the length given.
            let (n, from) = unsafe {
                let mut from: libc::sockaddr_ll = std::mem::zeroed();
                let mut length = length_of::<libc::sockaddr_ll>();
                let n = libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer[16 + SLL..].as_mut_ptr().cast(),
                    buffer.len() - 16 - SLL,
                    0,
                    (&raw mut from).cast(),
                    &raw mut length,
                );
                (n, from)
            };
            if n < 0 {
                match nix::errno::Errno::last() {
                    nix::errno::Errno::EINTR | nix::errno::Errno::ENETDOWN => continue,
                    e => bail!("reading packets: {e}"),
                }
            }
            let n = n.unsigned_abs();
            if let Some(lost) = self.lost().filter(|&l| l > 0) {
                std::fs::write(beside(&self.path), format!("the kernel dropped {lost} packets"))?;
            }
            if written > LIMIT {
                bail!("over {LIMIT} bytes of packets");
            }
            let length = u32::try_from(n + SLL)?;
            let t = witness::now();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "pcap's own 32-bit seconds")]
            let (seconds, micros) = (t as u32, (t.fract() * 1e6) as u32);
            let words = [seconds, micros, length, length];
            for (place, word) in buffer.chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_ne_bytes());
            }
            let sll = &mut buffer[16..16 + SLL];
            sll[..2].copy_from_slice(&u16::from(from.sll_pkttype).to_be_bytes());
            sll[2..4].copy_from_slice(&from.sll_hatype.to_be_bytes());
            sll[4..6].copy_from_slice(&u16::from(from.sll_halen).to_be_bytes());
            sll[6..14].copy_from_slice(&from.sll_addr);
            sll[14..].copy_from_slice(&from.sll_protocol.to_ne_bytes());
            self.file.write_all(&buffer[..16 + SLL + n])?;
            written += (16 + SLL + n) as u64;
        }
    }

    /// Packets dropped since it was last asked; reading resets the kernel's count.
    fn lost(&self) -> Option<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = length_of::<libc::tpacket_stats>();
        // SAFETY: the structure is of the length given.
        let done = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut length,
            )
        };
        (done == 0).then_some(stats.tp_drops)
    }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

/// One packet of the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Seconds since the epoch.
    pub t: f64,
    /// Whether it went out of the interface that was watched.
    pub outgoing: bool,
    /// `arp`, `tcp`, `udp`, `icmp`, `icmp6`, `igmp`, or a number.
    pub proto: String,
    /// Source, if it is IP.
    pub source: Option<IpAddr>,
    /// Destination, if it is IP.
    pub destination: Option<IpAddr>,
    /// Source and destination port, of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// Everything from the network header on.
    pub bytes: Vec<u8>,
}

impl Packet {
    fn parse(t: f64, outgoing: bool, ether: u16, bytes: &[u8]) -> Self {
        let (source, destination, next, at) = match ether {
            0x0800 if bytes.len() >= 20 => {
                let word = |i: usize| <[u8; 4]>::try_from(&bytes[i..i + 4]).expect("four bytes");
                let head = usize::from(bytes[0] & 15) * 4;
                (Some(Ipv4Addr::from(word(12)).into()), Some(Ipv4Addr::from(word(16)).into()), bytes[9], head)
            }
            0x86dd if bytes.len() >= 40 => {
                let half = |i: usize| <[u8; 16]>::try_from(&bytes[i..i + 16]).expect("sixteen bytes");
                let (mut next, mut at) = (bytes[6], 40);
                // hop-by-hop, routing, destination options
                while matches!(next, 0 | 43 | 60) && bytes.len() > at + 1 {
                    (next, at) = (bytes[at], at + 8 + usize::from(bytes[at + 1]) * 8);
                }
                (Some(Ipv6Addr::from(half(8)).into()), Some(Ipv6Addr::from(half(24)).into()), next, at)
            }
            _ => (None, None, 0, bytes.len()),
        };
        let proto = match (ether, next) {
            (0x0806, _) => "arp".into(),
            (0x0800 | 0x86dd, 6) => "tcp".into(),
            (0x0800 | 0x86dd, 17) => "udp".into(),
            (0x0800, 1) => "icmp".into(),
            (0x86dd, 58) => "icmp6".into(),
            (0x0800, 2) => "igmp".into(),
            (0x0800 | 0x86dd, other) => other.to_string(),
            (other, _) => format!("ether {other:#06x}"),
        };
        let ports = bytes
            .get(at..at + 4)
            .filter(|_| matches!(next, 6 | 17))
            .map(|p| (u16::from_be_bytes([p[0], p[1]]), u16::from_be_bytes([p[2], p[3]])));
        Self { t, outgoing, proto, source, destination, ports, bytes: bytes.to_vec() }
    }

    /// Whether it is housekeeping that a link does by itself: ARP, neighbour discovery, multicast membership.
    #[must_use]
    pub fn is_housekeeping(&self) -> bool {
        let kind = |i: usize| self.bytes.get(i).copied();
        match self.proto.as_str() {
            "arp" | "igmp" => true,
            // router and neighbour discovery; with a hop-by-hop header, MLD reports
            "icmp6" => (kind(6) == Some(58) && matches!(kind(40), Some(133..=136))) || kind(6) == Some(0),
            _ => false,
        }
    }
}

/// Every packet in a file that [`Watch`] writes.
///
/// # Panics
/// Never: the slices have the lengths that are asked of them.
pub fn read(path: &Path) -> Result<Vec<Packet>> {
    if let Ok(why) = std::fs::read_to_string(beside(path)) {
        bail!("{} is not complete: {why}", path.display());
    }
    let data = std::fs::read(path).with_context(|| format!("the wire witness {}", path.display()))?;
    let mut packets = Vec::new();
    let mut rest = data.get(24..).context("a pcap file without a head")?;
    // a half-written last record is a packet of which nothing can be said yet
    while let Some((head, tail)) = rest.split_at_checked(16) {
        let word = |i: usize| u32::from_ne_bytes(head[i..i + 4].try_into().expect("four bytes"));
        let Some((frame, more)) = tail.split_at_checked(word(8) as usize) else { break };
        let t = f64::from(word(0)) + f64::from(word(4)) / 1e6;
        let short = |i: usize| u16::from_be_bytes([frame[i], frame[i + 1]]);
        packets.push(Packet::parse(t, short(0) == 4, short(14), &frame[SLL..]));
        rest = more;
    }
    Ok(packets)
}

/// Those of `packets` in which `token` is, however spelled.
#[must_use]
pub fn containing(packets: Vec<Packet>, token: &str) -> Vec<Packet> {
    packets.into_iter().filter(|p| token::is_in(token, &p.bytes)).collect()
}

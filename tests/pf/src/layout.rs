//! Where the kernel's structures have their fields, on a machine of 64 bits (xnu 11417, `bsd/net/pfvar.h`).

use std::net::{Ipv4Addr, Ipv6Addr};

/// `sizeof(struct pfioc_rule)`, which is also in the call's number.
pub const IOC_RULE: usize = 3104;
/// Where `struct pf_rule` begins in it: behind four numbers, and two paths of 1024 bytes.
pub const RULE_AT: usize = 2064;
/// `sizeof(struct pf_rule)`
pub const RULE: usize = 1040;
/// `sizeof(struct pfioc_trans_e)`: a number, a path, a ticket.
pub const TRANS_E: usize = 1032;

/// A rule's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a>(pub &'a [u8]);

/// An end of a connection, `struct pf_rule_addr`.
#[derive(Clone, Copy, Debug)]
pub struct Addr<'a>(&'a [u8]);

impl<'a> Rule<'a> {
    fn byte(self, at: usize) -> u8 {
        self.0[at]
    }

    fn text(self, at: usize, length: usize) -> &'a str {
        text(&self.0[at..at + length])
    }

    /// Where from.
    #[must_use]
    pub fn src(self) -> Addr<'a> {
        Addr(&self.0[..64])
    }

    /// Where to.
    #[must_use]
    pub fn dst(self) -> Addr<'a> {
        Addr(&self.0[64..128])
    }

    /// Its label.
    #[must_use]
    pub fn label(self) -> &'a str {
        self.text(192, 64)
    }

    /// Its interface.
    #[must_use]
    pub fn ifname(self) -> &'a str {
        self.text(256, 16)
    }

    /// Operator and number of the user.
    #[must_use]
    pub fn uid(self) -> (u8, u32) {
        (self.byte(984), number(&self.0[976..]))
    }

    /// Operator and number of the group.
    #[must_use]
    pub fn gid(self) -> (u8, u32) {
        (self.byte(996), number(&self.0[988..]))
    }

    /// `PFRULE_…`
    #[must_use]
    pub fn rule_flag(self) -> u32 {
        number(&self.0[1000..])
    }

    /// `PF_PASS`, `PF_DROP`, …
    #[must_use]
    pub fn action(self) -> u8 {
        self.byte(1004)
    }

    /// `PF_IN`, `PF_OUT`, or both.
    #[must_use]
    pub fn direction(self) -> u8 {
        self.byte(1005)
    }

    /// Whether it decides at once.
    #[must_use]
    pub fn quick(self) -> bool {
        self.byte(1008) != 0
    }

    /// `PF_STATE_…`
    #[must_use]
    pub fn keep_state(self) -> u8 {
        self.byte(1012)
    }

    /// macOS's `AF_…`
    #[must_use]
    pub fn af(self) -> u8 {
        self.byte(1013)
    }

    /// Its protocol's number.
    #[must_use]
    pub fn proto(self) -> u8 {
        self.byte(1014)
    }

    /// TCP flags that must be set, of those that are looked at.
    #[must_use]
    pub fn flags(self) -> (u8, u8) {
        (self.byte(1017), self.byte(1018))
    }

    /// Bytes that none of the above reads, and that are not zero: of what rcc does not know that it says it.
    #[must_use]
    pub fn unread(self) -> Vec<usize> {
        let known = [
            0..33,
            40..41,
            48..53,
            64..97,
            104..105,
            112..117,
            192..272,
            976..985,
            988..997,
            1000..1006,
            1008..1009,
            1012..1015,
            1017..1019,
        ];
        (0..RULE).filter(|at| self.0[*at] != 0 && !known.iter().any(|range| range.contains(at))).collect()
    }
}

impl Addr<'_> {
    /// As pfctl prints an address, by the family of its rule.
    #[must_use]
    pub fn address(self, af: u8) -> String {
        let (address, mask) = (&self.0[..16], &self.0[16..32]);
        assert_eq!(self.0[40], 0, "PF_ADDR_ADDRMASK");
        if address.iter().chain(mask).all(|b| *b == 0) {
            return "any".to_owned();
        }
        let length: u32 = mask[..if af == 2 { 4 } else { 16 }].iter().map(|b| b.leading_ones()).sum();
        match af {
            2 => {
                let ip = Ipv4Addr::new(address[0], address[1], address[2], address[3]);
                if length == 32 { ip.to_string() } else { format!("{ip}/{length}") }
            }
            30 => {
                let mut octets = [0; 16];
                octets.copy_from_slice(address);
                let ip = Ipv6Addr::from(octets);
                if length == 128 { ip.to_string() } else { format!("{ip}/{length}") }
            }
            other => panic!("an address of family {other}"),
        }
    }

    /// Operator and ports.
    #[must_use]
    pub fn ports(self) -> (u8, u16, u16) {
        let port = |at: usize| u16::from_be_bytes([self.0[at], self.0[at + 1]]);
        (self.0[52], port(48), port(50))
    }
}

/// A number in the machine's byte order.
#[must_use]
pub fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Text up to its zero.
#[must_use]
pub fn text(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|b| *b == 0).expect("text ends");
    std::str::from_utf8(&bytes[..end]).expect("text is UTF-8")
}

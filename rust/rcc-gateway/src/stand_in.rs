//! Pure: the addresses that stand for names in one session. One per name, never reused within the session: an address
//! that an agent kept can't come to mean another name.

use rcc_policy::HostName;
use rcc_proto::STAND_IN_RANGE;
use std::collections::HashMap;
use std::net::Ipv4Addr;

/// The first address handed out: 198.18.1.0. Those below are the session's resolver and what may come.
const FIRST: u32 = 256;

/// The stand-ins of one session.
#[derive(Debug)]
pub struct StandIns {
    most: usize,
    names: Vec<HostName>,
    index: HashMap<HostName, u32>,
}

impl StandIns {
    /// None yet, and at most `most` of them.
    #[must_use]
    pub fn new(most: u32) -> Self {
        let room = (1u32 << (32 - STAND_IN_RANGE.1)) - FIRST;
        Self { most: most.min(room) as usize, names: Vec::new(), index: HashMap::new() }
    }

    /// The address that stands for the name; a new one if it has none yet. `None` when there are too many names.
    pub fn address(&mut self, name: &HostName) -> Option<Ipv4Addr> {
        let n = match self.index.get(name) {
            Some(n) => *n,
            None if self.names.len() >= self.most => return None,
            None => {
                let n = u32::try_from(self.names.len()).ok()?;
                self.names.push(name.clone());
                self.index.insert(name.clone(), n);
                n
            }
        };
        Some(Ipv4Addr::from(u32::from(STAND_IN_RANGE.0) + FIRST + n))
    }

    /// The name that an address stands for.
    #[must_use]
    pub fn name(&self, address: Ipv4Addr) -> Option<&HostName> {
        let n = u32::from(address).checked_sub(u32::from(STAND_IN_RANGE.0) + FIRST)?;
        self.names.get(usize::try_from(n).ok()?)
    }
}

/// Whether the address is in the stand-in range.
#[must_use]
pub fn in_range(address: Ipv4Addr) -> bool {
    let bits = u32::from(STAND_IN_RANGE.1);
    (u32::from(address) ^ u32::from(STAND_IN_RANGE.0)) >> (32 - bits) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_one_name() {
        let mut s = StandIns::new(300);
        let name = |n: u32| HostName::parse(&format!("n{n}.example")).unwrap();
        for n in 0..300 {
            let a = s.address(&name(n)).unwrap();
            assert!(in_range(a));
            assert_eq!(s.address(&name(n)), Some(a));
            assert_eq!(s.name(a), Some(&name(n)));
        }
        assert_eq!(s.address(&name(300)), None);
        assert_eq!(s.name(Ipv4Addr::new(198, 18, 0, 1)), None);
        assert_eq!(s.name(Ipv4Addr::new(198, 19, 255, 255)), None);
        assert_eq!(s.name(Ipv4Addr::new(1, 2, 3, 4)), None);
        assert!(!in_range(Ipv4Addr::new(198, 20, 0, 0)) && !in_range(Ipv4Addr::new(198, 17, 255, 255)));
    }
}

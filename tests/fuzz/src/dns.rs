//! The agent's queries. hickory reads the answers again.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::RData;
use rcc_gateway::dns::{Known, MAX_UDP, Outcome, answer};
use rcc_gateway::stand_in::{StandIns, in_range};
use rcc_policy::HostName;
use std::net::{Ipv4Addr, Ipv6Addr};

pub fn feed(bytes: &[u8]) {
    let (room, packet) = crate::choice(bytes);
    let room = if room % 2 == 0 { MAX_UDP } else { usize::from(u16::MAX) };
    let mut stand_ins = StandIns::new(2);
    let (reply, outcome) = answer(packet, &known, &mut stand_ins, room);
    let Some(reply) = reply else { return };
    assert!(reply.len() <= room);
    assert_eq!(reply[..2], packet[..2], "the query's number");
    let reply = Message::from_vec(&reply).expect("an answer can be read");
    assert_eq!(reply.message_type(), MessageType::Response);
    assert!(reply.name_servers().is_empty() && reply.additionals().is_empty() && reply.answers().len() <= 1);
    for record in reply.answers() {
        let name = record.name().to_ascii();
        let name = name.trim_end_matches('.');
        match record.data() {
            RData::A(a) if a.0 == Ipv4Addr::LOCALHOST => assert!(local(name), "{name}"),
            RData::AAAA(a) => assert!(a.0 == Ipv6Addr::LOCALHOST && local(name), "{name}"),
            RData::A(a) => {
                let name = HostName::parse(name).expect("only names have stand-ins");
                assert!(known(&name) == Known::Yes && in_range(a.0));
                assert_eq!(stand_ins.name(a.0), Some(&name));
                assert!(matches!(&outcome, Outcome::Allowed { name: said } if *said == name));
            }
            other => panic!("an answer of {other:?}"),
        }
    }
    if let Outcome::Denied { name } = &outcome {
        assert!(reply.answers().is_empty());
        assert!(reply.truncated() || reply.response_code() == ResponseCode::NXDomain);
        assert!(name.bytes().all(|b| (b' '..=b'~').contains(&b)), "{name:?}");
        assert!(HostName::parse(name).map_or(true, |n| known(&n) == Known::No), "{name}");
    }
}

fn known(name: &HostName) -> Known {
    let name = name.as_str();
    if name == "allowed.example" || name.ends_with(".allowed.example") { Known::Yes } else { Known::No }
}

fn local(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}
